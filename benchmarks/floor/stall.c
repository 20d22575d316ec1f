/* The floor of a stall in the move phase: `stall MIB` of 32-byte objects with two references whose pages are missing. A
 * worker fixes and moves units of 64 KiB in order, at most 8 a call; a mutator touches objects at random. A unit that it
 * misses is made for it at once:
 *
 *   signal   by itself, in its SIGBUS handler
 *   thread   by the worker, which looks for messages after every unit, or by a handler thread that waits in poll()
 *
 * Figures: median and 99th percentile of the time that one touch of a missing page took. */
#include "floor.h"
#include "floor_uffd.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>

enum { UNIT = 65536, BATCH = 8, TOUCHES = 1 << 20 };
enum state { ARMED, BUSY, DONE };

static char *from, *to;
static uint64_t bytes, units;
static int64_t *delta; /* of each unit */
static uint8_t *states; /* [atomic] */
static int fd, hurry; /* [atomic] hurry: somebody waits for a unit of the batch */
static bool by_signal;
static volatile int moving;
static __thread volatile sig_atomic_t missed;

static bool claim(uint64_t unit) {
  uint8_t armed = ARMED;
  return __atomic_compare_exchange_n(&states[unit], &armed, BUSY, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static void fix(uint64_t unit) {
  for (char *object = from + unit * UNIT; object < from + (unit + 1) * UNIT; object += 32)
    for (int r = 1; r <= 2; r++) {
      uint64_t *slot = (uint64_t *)(void *)object + r;
      *slot += (uint64_t)delta[(*slot - (uintptr_t)from) / UNIT];
    }
}

static void publish(uint64_t first, uint64_t count) {
  uffd_move(fd, to + first * UNIT, from + first * UNIT, count * UNIT);
  for (uint64_t i = first; i < first + count; i++) __atomic_store_n(&states[i], DONE, __ATOMIC_RELEASE);
}

static void make_one(uint64_t unit) {
  if (!claim(unit)) return;
  fix(unit);
  publish(unit, 1);
}

static void on_missing(int signal, siginfo_t *info, void *context) {
  uint64_t unit = (uint64_t)((char *)info->si_addr - to) / UNIT;
  (void)signal, (void)context;
  missed = 1;
  make_one(unit);
  if (__atomic_load_n(&states[unit], __ATOMIC_ACQUIRE) == BUSY) __atomic_store_n(&hurry, 1, __ATOMIC_RELEASE);
  while (__atomic_load_n(&states[unit], __ATOMIC_ACQUIRE) != DONE) continue;
}

/* True: there was a message. */
static bool serve(void) {
  struct uffd_msg message;
  if (read(fd, &message, sizeof message) != sizeof message) return false;
  uint64_t unit = (message.arg.pagefault.address - (uintptr_t)to) / UNIT;
  make_one(unit);
  if (__atomic_load_n(&states[unit], __ATOMIC_ACQUIRE) == BUSY) __atomic_store_n(&hurry, 1, __ATOMIC_RELEASE);
  struct uffdio_range page = {message.arg.pagefault.address & ~(uint64_t)4095, 4096};
  if (__atomic_load_n(&states[unit], __ATOMIC_ACQUIRE) == DONE) ioctl(fd, UFFDIO_WAKE, &page);
  return true;
}

static void *handle(void *arg) {
  struct pollfd poll_fd = {fd, POLLIN, 0};
  (void)arg;
  while (moving)
    if (poll(&poll_fd, 1, 10) > 0) serve();
  return NULL;
}

static void *work(void *arg) {
  uint64_t first = 0, count = 0;
  (void)arg;
  for (uint64_t unit = 0; unit < units; unit++) {
    bool mine = claim(unit);
    if (mine) fix(unit);
    if (mine && count == 0) first = unit;
    count += mine;
    bool wanted = __atomic_exchange_n(&hurry, 0, __ATOMIC_ACQ_REL) != 0;
    if (count > 0 && (!mine || count == BATCH || wanted || unit + 1 == units)) publish(first, count), count = 0;
    while (!by_signal && serve())
      if (count > 0) publish(first, count), count = 0;
  }
  for (uint64_t unit = 0; unit < units; unit++)
    while (__atomic_load_n(&states[unit], __ATOMIC_ACQUIRE) != DONE) serve();
  moving = 0;
  return NULL;
}

static uint32_t touch(double *stalls) {
  uint64_t state = 88172645463325252u;
  uint32_t count = 0;
  for (uint32_t i = 0; moving && count < TOUCHES; i++) {
    char *at = to + next_random(&state) % bytes / 32 * 32;
    uint64_t unit = (uint64_t)(at - to) / UNIT;
    bool missing = __atomic_load_n(&states[unit], __ATOMIC_ACQUIRE) != DONE;
    double began = missing ? now_s() : 0;
    missed = !by_signal;
    (void)*(volatile char *)at;
    if (missing && missed) stalls[count++] = now_s() - began;
  }
  return count;
}

static void prepare(void) {
  uint64_t state = 1234567;
  memset(from, 1, bytes);
  for (char *object = from; object < from + bytes; object += 32)
    for (int r = 1; r <= 2; r++)
      ((uint64_t *)(void *)object)[r] = (uintptr_t)from + next_random(&state) % bytes / 32 * 32;
  for (uint64_t u = 0; u < units; u++) delta[u] = to - from;
  memset(states, ARMED, units);
}

static bool measure(double *p50, double *p99) {
  static double stalls[TOUCHES];
  struct sigaction action = {.sa_sigaction = on_missing, .sa_flags = SA_SIGINFO};
  pthread_t worker, handler;
  fd = by_signal ? uffd_with(UFFD_FEATURE_SIGBUS) : uffd_new();
  if (fd < 0) return false;
  sigaction(SIGBUS, &action, NULL);
  prepare();
  madvise(to, bytes, MADV_DONTNEED);
  if (!uffd_enlist(fd, to, bytes)) return false;
  moving = 1;
  pthread_create(&worker, NULL, work, NULL);
  if (!by_signal) pthread_create(&handler, NULL, handle, NULL);
  uint32_t count = touch(stalls);
  pthread_join(worker, NULL);
  if (!by_signal) pthread_join(handler, NULL);
  close(fd);
  if (count == 0) return false;
  qsort(stalls, count, sizeof *stalls, by_value);
  *p50 = stalls[count / 2];
  *p99 = stalls[count - 1 - count / 100];
  return true;
}

int main(int argc, char **argv) {
  bytes = (argc > 1 ? strtoull(argv[1], NULL, 10) : 64) << 20;
  units = bytes / UNIT;
  from = map_arenas(bytes, false), to = map_arenas(bytes, false);
  delta = malloc(units * sizeof *delta), states = malloc(units);
  for (int mode = 0; mode < 2; mode++) {
    double p50[FLOOR_ROUNDS], p99[FLOOR_ROUNDS];
    bool worked = true;
    by_signal = mode == 0;
    for (int round = 0; round < FLOOR_ROUNDS && worked; round++) worked = measure(&p50[round], &p99[round]);
    if (!worked) continue;
    report(by_signal ? "stall-signal-p50" : "stall-thread-p50", p50, FLOOR_ROUNDS);
    report(by_signal ? "stall-signal-p99" : "stall-thread-p99", p99, FLOOR_ROUNDS);
  }
  return 0;
}
