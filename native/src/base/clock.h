/* The clocks: CLOCK_MONOTONIC for everything that is reported, thread CPU time for who did the work. */
#ifndef GCH_BASE_CLOCK_H
#define GCH_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_read_ns(clockid_t clock) {
  struct timespec t;
  (void)clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t clock_ns(void) { return clock_read_ns(CLOCK_MONOTONIC); }

/* Advances by scheduler ticks (1 to 10 ms), costs a quarter of clock_ns: for time-outs only. */
static inline uint64_t clock_coarse_ns(void) { return clock_read_ns(CLOCK_MONOTONIC_COARSE); }

/* CPU time of the calling thread. A system call. */
static inline uint64_t clock_thread_cpu_ns(void) { return clock_read_ns(CLOCK_THREAD_CPUTIME_ID); }

#endif
