/* The floor of a random walk through a heap whose pages are missing: `walk MIB` of nodes of 64 bytes with a ring and two random
 * references, as native/workloads/loop_walk.c has them, and the same walk: four steps, a look at the clock. A worker on another
 * CPU makes units of 64 KiB in order, at most 8 a call, or whole huge pages; what the walk misses is made at once. Who makes that:
 * `signal` or `thread`, see floor_units.h. `bare`: pages are moved only, no reference is fixed (nor need be: the delta is added when
 * one is followed); else references are fixed by a table of blocks first.
 *
 * Figures, of the time from the first unit to the last: the least share of any 10 ms in which no gap above 5 us was (mmu10), and
 * operations a second over those of the same walk afterwards, when nothing is missing (rate). */
#include "floor_units.h"

#include <sched.h>
#include <signal.h>

enum { NODE = 64, BLOCK = 65536, BATCH = 8, STEPS = 4, MOST_GAPS = 1 << 22, ROUNDS = 3 };
#define GAP_S 5e-6
#define WIDTH_S 10e-3
#define QUIET_S 0.3

struct gap {
  double start, length, before; /* sum of the lengths of those before it */
};

static struct units units;
static int64_t *delta; /* of each block */
static struct gap *gaps;
static uint64_t gap_count, operations;
static double walk_began;
static bool bare;
static int64_t distance; /* bare: from a reference to where its object is now */

static void keep_to(long cpu) {
  cpu_set_t set;
  if (sysconf(_SC_NPROCESSORS_ONLN) < 2) return;
  CPU_ZERO(&set);
  CPU_SET((size_t)cpu, &set);
  (void)sched_setaffinity(0, sizeof set, &set);
}

/* --- the collector --------------------------------------------------------------------------------------------------- */

static void fix(const struct units *u, uint64_t unit) {
  if (bare) return;
  for (char *node = u->from + unit * u->unit_bytes; node < u->from + (unit + 1) * u->unit_bytes; node += NODE)
    for (int r = 1; r <= 3; r++) {
      uint64_t *slot = (uint64_t *)(void *)node + r;
      *slot += (uint64_t)delta[(*slot - (uintptr_t)u->from) / BLOCK];
    }
}

static void transfer(const struct units *u, uint64_t first, uint64_t count) {
  uint64_t at = first * u->unit_bytes;
  if (uffd_move(u->fd, u->to + at, u->from + at, count * u->unit_bytes)) return;
  perror("UFFDIO_MOVE");
  exit(1);
}

static void on_missing(int signal, siginfo_t *info, void *context) {
  uint64_t unit = (uint64_t)((char *)info->si_addr - units.to) / units.unit_bytes;
  (void)signal, (void)context;
  unit_want(&units, unit);
  while (unit_state(&units, unit) != UNIT_DONE) continue;
}

/* --- the walk -------------------------------------------------------------------------------------------------------- */

static uint64_t *walk(uint64_t *at, uint64_t *random, uint64_t *sum) {
  uint64_t turns = next_random(random);
  for (int i = 0; i < STEPS; i++, turns >>= 4) {
    at = (uint64_t *)(uintptr_t)(at[(turns & 15) == 0 ? 1 : 2 + (turns & 1)] + (uint64_t)distance);
    *sum += at[4];
  }
  return at;
}

static void *mutate(void *arg) {
  uint64_t random = 1234567, sum = 0, *at = (uint64_t *)(void *)units.to;
  (void)arg;
  keep_to(0);
  gap_count = operations = 0;
  units.walking = 1;
  double last = walk_began = now_s();
  while (units.walking) {
    at = walk(at, &random, &sum);
    double now = now_s();
    if (now - last > GAP_S && gap_count < MOST_GAPS)
      gaps[gap_count++] = (struct gap){.start = last, .length = now - last};
    last = now;
    operations++;
  }
  return (void *)(uintptr_t)sum;
}

static double quiet_rate(void) {
  uint64_t random = 7654321, sum = 0, *at = (uint64_t *)(void *)units.to, done = 0;
  volatile uint64_t sink;
  double began = now_s(), now;
  do at = walk(at, &random, &sum), done++;
  while ((now = now_s()) - began < QUIET_S);
  sink = sum;
  (void)sink;
  return (double)done / (now - began);
}

/* --- utilisation ----------------------------------------------------------------------------------------------------- */

/* What is lost before a point of time. */
static double lost_until(double at) {
  uint64_t low = 0, high = gap_count;
  while (low < high) {
    uint64_t middle = (low + high) / 2;
    if (gaps[middle].start < at)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == 0) return 0;
  const struct gap *g = &gaps[low - 1];
  return g->before + (at - g->start < g->length ? at - g->start : g->length);
}

/* At the worst place a gap begins with the window, or ends with it (compare/measure.py). */
static double least_utilisation(double begin, double end) {
  double width = WIDTH_S < end - begin ? WIDTH_S : end - begin, worst = lost_until(begin + width) - lost_until(begin);
  for (uint64_t i = 0; i < gap_count; i++) {
    double places[2] = {gaps[i].start, gaps[i].start + gaps[i].length - width};
    for (int p = 0; p < 2; p++) {
      double at = places[p] < begin ? begin : places[p] > end - width ? end - width : places[p];
      double lost = lost_until(at + width) - lost_until(at);
      if (lost > worst) worst = lost;
    }
  }
  return worst < width ? 1 - worst / width : 0;
}

static void sum_gaps(void) {
  double before = 0;
  for (uint64_t i = 0; i < gap_count; before += gaps[i++].length) gaps[i].before = before;
}

/* --- runs ------------------------------------------------------------------------------------------------------------ */

static void prepare(void) {
  uint64_t state = 1234567, count = units.bytes / NODE;
  madvise(units.to, units.bytes, MADV_DONTNEED);
  for (uint64_t i = 0; i < count; i++) {
    uint64_t *node = (uint64_t *)(void *)(units.from + i * NODE);
    node[1] = (uintptr_t)units.from + (i + 1) % count * NODE;
    for (int r = 2; r <= 3; r++) node[r] = (uintptr_t)units.from + next_random(&state) % count * NODE;
    node[4] = i;
  }
  for (uint64_t b = 0; b < units.bytes / BLOCK; b++) delta[b] = units.to - units.from;
  distance = bare ? units.to - units.from : 0;
  memset(units.states, UNIT_ARMED, units.count);
}

static bool measure(double *utilisation, double *rate) {
  struct sigaction action = {.sa_sigaction = on_missing, .sa_flags = SA_SIGINFO};
  units.fd = uffd_with(UFFD_FEATURE_MOVE | (units.by_signal ? UFFD_FEATURE_SIGBUS : 0));
  if (units.fd < 0) return false;
  sigaction(SIGBUS, &action, NULL);
  prepare();
  if (!uffd_enlist(units.fd, units.to, units.bytes)) return false;
  double took = units_relocate(&units, mutate, NULL);
  close(units.fd);
  sum_gaps();
  *utilisation = least_utilisation(walk_began, walk_began + took);
  *rate = (double)operations / took / quiet_rate();
  return true;
}

static void measure_case(bool huge) {
  double utilisation[ROUNDS], rate[ROUNDS];
  char name[64];
  for (int round = 0; round < ROUNDS; round++)
    if (!measure(&utilisation[round], &rate[round])) return;
  for (int part = 0; part < 2; part++) {
    (void)snprintf(name, sizeof name, "walk-%s-%s-%s%s", huge ? "huge" : "4k", units.by_signal ? "signal" : "thread",
                   bare ? "bare-" : "", part == 0 ? "mmu10" : "rate");
    report(name, part == 0 ? utilisation : rate, ROUNDS);
  }
}

static void measure_pages(uint64_t bytes, bool huge) {
  units.unit_bytes = huge ? ARENA_BYTES : BLOCK, units.batch = huge ? 1 : BATCH;
  units.count = bytes / units.unit_bytes;
  units.from = map_arenas(bytes, huge), units.to = map_arenas(bytes, huge);
  for (int which = 0; which < 4; which++) {
    units.by_signal = which / 2 == 0, bare = which % 2 != 0;
    measure_case(huge);
  }
  munmap(units.from, bytes), munmap(units.to, bytes);
}

int main(int argc, char **argv) {
  uint64_t bytes = (argc > 1 ? strtoull(argv[1], NULL, 10) : 64) << 20;
  units = (struct units){.bytes = bytes, .fix = fix, .transfer = transfer};
  delta = malloc(bytes / BLOCK * sizeof *delta), units.states = malloc(bytes / BLOCK);
  gaps = malloc(MOST_GAPS * sizeof *gaps);
  if (delta == NULL || units.states == NULL || gaps == NULL) return 1;
  keep_to(1);
  measure_pages(bytes, false);
  measure_pages(bytes, true);
  return 0;
}
