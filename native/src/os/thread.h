/* Collector threads: named, with all signals blocked from their first instruction. */
#ifndef GCH_OS_THREAD_H
#define GCH_OS_THREAD_H

#include <pthread.h>
#include <stdint.h>

struct thread {
  pthread_t id;
};

typedef void thread_main(void *arg);

/* Starts `main(arg)` in a thread with every signal blocked. `name` is cut to 15 bytes. 0 or a negative errno. */
int thread_start(struct thread *thread, const char *name, thread_main *main, void *arg);
/* Waits for the end of the thread. */
void thread_join(struct thread *thread);
/* Names the calling thread. */
void thread_set_name(const char *name);
/* How many CPUs this process may run on (sched_getaffinity), at least 1. */
uint32_t thread_cpu_count(void);
/* The kernel's id of the calling thread; cached, async-signal-safe. */
uint32_t thread_id(void);
/* In the child of fork(): the cached id is the parent's. */
void thread_id_forget(void);
void thread_yield(void);
void thread_sleep_ns(uint64_t ns);

#endif
