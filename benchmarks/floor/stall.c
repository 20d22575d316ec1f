/* The floor of a stall in the move phase: `stall MIB` of 32-byte objects with two references whose pages are missing. A
 * worker fixes and moves units of 64 KiB in order, at most 8 a call; a mutator touches objects at random. Who makes what it
 * misses: `signal` or `thread`, see floor_units.h.
 *
 * Figures: median and 99th percentile of the time that one touch of a missing page took. */
#include "floor_units.h"

#include <signal.h>

enum { OBJECT = 32, UNIT = 65536, BATCH = 8, TOUCHES = 1 << 20 };

static struct units units;
static int64_t *delta; /* of each unit */
static __thread volatile sig_atomic_t missed;

static void fix(const struct units *u, uint64_t unit) {
  for (char *object = u->from + unit * UNIT; object < u->from + (unit + 1) * UNIT; object += OBJECT)
    for (int r = 1; r <= 2; r++) {
      uint64_t *slot = (uint64_t *)(void *)object + r;
      *slot += (uint64_t)delta[(*slot - (uintptr_t)u->from) / UNIT];
    }
}

static void transfer(const struct units *u, uint64_t first, uint64_t count) {
  if (uffd_move(u->fd, u->to + first * UNIT, u->from + first * UNIT, count * UNIT)) return;
  perror("UFFDIO_MOVE");
  exit(1);
}

static void on_missing(int signal, siginfo_t *info, void *context) {
  uint64_t unit = (uint64_t)((char *)info->si_addr - units.to) / UNIT;
  (void)signal, (void)context;
  missed = 1;
  unit_want(&units, unit);
  while (unit_state(&units, unit) != UNIT_DONE) continue;
}

static uint32_t count;
static double stalls[TOUCHES];

static void *touch(void *arg) {
  uint64_t state = 88172645463325252u;
  (void)arg;
  count = 0;
  units.walking = 1;
  for (uint32_t i = 0; units.walking && count < TOUCHES; i++) {
    char *at = units.to + next_random(&state) % units.bytes / OBJECT * OBJECT;
    bool missing = unit_state(&units, (uint64_t)(at - units.to) / UNIT) != UNIT_DONE;
    double began = missing ? now_s() : 0;
    missed = !units.by_signal;
    (void)*(volatile char *)at;
    if (missing && missed) stalls[count++] = now_s() - began;
  }
  return NULL;
}

static void prepare(void) {
  uint64_t state = 1234567;
  memset(units.from, 1, units.bytes);
  for (char *object = units.from; object < units.from + units.bytes; object += OBJECT)
    for (int r = 1; r <= 2; r++)
      ((uint64_t *)(void *)object)[r] = (uintptr_t)units.from + next_random(&state) % units.bytes / OBJECT * OBJECT;
  for (uint64_t u = 0; u < units.count; u++) delta[u] = units.to - units.from;
  memset(units.states, UNIT_ARMED, units.count);
}

static bool measure(double *p50, double *p99) {
  struct sigaction action = {.sa_sigaction = on_missing, .sa_flags = SA_SIGINFO};
  units.fd = uffd_with(UFFD_FEATURE_MOVE | (units.by_signal ? UFFD_FEATURE_SIGBUS : 0));
  if (units.fd < 0) return false;
  sigaction(SIGBUS, &action, NULL);
  prepare();
  madvise(units.to, units.bytes, MADV_DONTNEED);
  if (!uffd_enlist(units.fd, units.to, units.bytes)) return false;
  units_relocate(&units, touch, NULL);
  close(units.fd);
  qsort(stalls, count, sizeof *stalls, by_value);
  *p50 = stalls[count / 2];
  *p99 = stalls[count - 1 - count / 100];
  return true;
}

int main(int argc, char **argv) {
  uint64_t bytes = (argc > 1 ? strtoull(argv[1], NULL, 10) : 64) << 20;
  units = (struct units){.bytes = bytes,
                         .unit_bytes = UNIT,
                         .count = bytes / UNIT,
                         .batch = BATCH,
                         .from = map_arenas(bytes, false),
                         .to = map_arenas(bytes, false),
                         .fix = fix,
                         .transfer = transfer};
  delta = malloc(units.count * sizeof *delta), units.states = malloc(units.count);
  for (int mode = 0; mode < 2; mode++) {
    double p50[FLOOR_ROUNDS], p99[FLOOR_ROUNDS];
    bool worked = true;
    units.by_signal = mode == 0;
    for (int round = 0; round < FLOOR_ROUNDS && worked; round++) worked = measure(&p50[round], &p99[round]);
    if (!worked) continue;
    report(units.by_signal ? "stall-signal-p50" : "stall-thread-p50", p50, FLOOR_ROUNDS);
    report(units.by_signal ? "stall-signal-p99" : "stall-thread-p99", p99, FLOOR_ROUNDS);
  }
  return 0;
}
