/* One budget for several heaps (heap/budget.h): the policy, where heaps tell each other of themselves, and heaps that do it. */
#include "base/units.h"
#include "heap/board.h"
#include "kit.h"

enum { HEAPS = 5 };

/* --- policy ----------------------------------------------------------------------------------------------------- */

struct program {
  uint64_t live, growth, cost; /* bytes, bytes a second, ns a MiB */
};

static const struct program programs[HEAPS] = {{100 * MIB, 10 * MIB, 500000},
                                               {400 * MIB, 10 * MIB, 500000},
                                               {100 * MIB, 160 * MIB, 500000},
                                               {100 * MIB, 10 * MIB, 2000000},
                                               {50 * MIB, 0, 500000}};

static struct budget_claim claim(const struct program *p) {
  return (struct budget_claim){p->live, budget_weight(p->live, p->growth, p->cost), p->live / 16, 16 * GIB};
}

static void claims_of(const struct program *p, struct budget_claim *out) {
  for (int i = 0; i < HEAPS; i++) out[i] = claim(&p[i]);
}

/* Part of a CPU that a heap's majors take, and what a byte more would save of it. */
static double cpu(const struct program *p, double extra) {
  return (double)p->live / MIB * (double)p->cost / 1e9 * (double)p->growth / extra;
}
static double gain(const struct program *p, double extra) { return cpu(p, extra) / extra; }

static bool close_to(double a, double b) { return a <= b * 1.001 + 8 && b <= a * 1.001 + 8; }

static void shares(void) {
  struct budget_claim c[HEAPS];
  claims_of(programs, c);
  for (uint64_t budget = 800 * MIB; budget <= 16 * GIB; budget *= 2) {
    double sum = 0, first = 0;
    for (int i = 0; i < HEAPS; i++) {
      double extra = (double)budget_extra(budget, c, HEAPS, (size_t)i);
      sum += (double)c[i].live + extra;
      CHECK(extra >= (double)c[i].least);
      if (extra < (double)c[i].least * 1.01) continue;
      if (first == 0) first = gain(&programs[i], extra);
      CHECK(gain(&programs[i], extra) <= first * 1.01 && gain(&programs[i], extra) >= first * 0.99);
    }
    CHECK(close_to(sum, (double)budget));
    CHECK_EQ(budget_extra(budget, c, HEAPS, 4), c[4].least); /* that one does not grow */
  }
  /* Twice as much where one of live, growth and cost is four times as much. */
  double one = (double)budget_extra(4 * GIB, c, HEAPS, 0);
  CHECK(close_to((double)budget_extra(4 * GIB, c, HEAPS, 1), 2 * one));
  CHECK(close_to((double)budget_extra(4 * GIB, c, HEAPS, 2), 4 * one));
  CHECK(close_to((double)budget_extra(4 * GIB, c, HEAPS, 3), 2 * one));
}

/* Who grows faster gets more, of all the others. */
static void one_changes(void) {
  struct program p[HEAPS];
  struct budget_claim before[HEAPS], after[HEAPS];
  memcpy(p, programs, sizeof p);
  claims_of(p, before);
  p[1].growth *= 20;
  claims_of(p, after);
  CHECK(budget_extra(2 * GIB, after, HEAPS, 1) > 2 * budget_extra(2 * GIB, before, HEAPS, 1));
  for (size_t i = 0; i < HEAPS; i++)
    if (i != 1 && i != 4) CHECK(budget_extra(2 * GIB, after, HEAPS, i) < budget_extra(2 * GIB, before, HEAPS, i));
  /* One that goes leaves its memory to the others. */
  for (size_t i = 0; i < 3; i++) CHECK(budget_extra(2 * GIB, before, 3, i) > budget_extra(2 * GIB, before, HEAPS, i));
}

static void bounds(void) {
  struct budget_claim c[HEAPS];
  claims_of(programs, c);
  for (size_t i = 0; i < HEAPS; i++)
    CHECK_EQ(budget_extra(700 * MIB, c, HEAPS, i), c[i].least); /* more lives than that */
  c[2].most = 10 * MIB; /* its own limit: the others share the rest */
  double sum = 0;
  for (size_t i = 0; i < HEAPS; i++) sum += (double)(c[i].live + budget_extra(2 * GIB, c, HEAPS, i));
  CHECK_EQ(budget_extra(2 * GIB, c, HEAPS, 2), 10 * MIB);
  CHECK(close_to(sum, 2.0 * GIB));
  for (size_t i = 0; i < HEAPS; i++) c[i].most = 20 * MIB;
  for (size_t i = 0; i < HEAPS; i++)
    CHECK(budget_extra(8 * GIB, c, HEAPS, i) <= (c[i].weight == 0        ? c[i].least
                                                 : c[i].least > 20 * MIB ? c[i].least
                                                                         : 20 * MIB));
  struct budget_claim odd[] = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}, {0, 0, 0, 0}, {0, 1, 0, UINT64_MAX}};
  for (size_t i = 0; i < 3; i++) CHECK(budget_extra(UINT64_MAX, odd, 3, i) >= odd[i].least);
  CHECK(budget_extra(GIB, odd + 1, 2, 1) >= GIB / 100 * 99);
  CHECK(budget_weight(UINT64_MAX, UINT64_MAX, UINT64_MAX) > 0);
  CHECK_EQ(budget_weight(0, 5, 5), 0);
  CHECK(close_to((double)budget_weight(100 * MIB, 100 * MIB, 1000000), 3238.1723 * MIB));
  CHECK_EQ(budget_aged(1000000, 0), 1000000);
  CHECK(budget_aged(1000000, 12 * NS_PER_S) == 500000 && budget_aged(1000000, UINT64_MAX) < 1000);
}

/* The heaps of a process for an hour, under the rule and under one percentage that takes as much memory: less work is done. */
static void less_work_than_by_percent(void) {
  struct budget_claim c[HEAPS];
  claims_of(programs, c);
  double live = 0, by_rule = 0, by_percent = 0;
  for (int i = 0; i < HEAPS; i++) live += (double)programs[i].live;
  for (int i = 0; i < HEAPS; i++) {
    by_rule += cpu(&programs[i], (double)budget_extra(2 * GIB, c, HEAPS, (size_t)i));
    by_percent += cpu(&programs[i], (double)programs[i].live * (2.0 * GIB / live - 1));
  }
  CHECK(by_rule < by_percent * 0.75);
}

/* --- the board -------------------------------------------------------------------------------------------------- */

static void places(void) {
  struct board b;
  uint32_t taken[BOARD_HEAPS];
  for (uint32_t i = 0; i < BOARD_HEAPS; i++) CHECK((taken[i] = board_join(GIB + i)) != 0);
  CHECK_EQ(board_join(1), 0);
  for (uint32_t i = 0; i < BOARD_HEAPS; i++) board_publish(taken[i], &(struct budget_claim){i, i << 20, 1, 2});
  board_read(taken[7], &b);
  CHECK(b.count == BOARD_HEAPS && b.own == 7 && b.budget == GIB);
  CHECK(b.claims[7].live == 7 && b.claims[7].weight <= 7 << 20 && b.claims[7].weight >= 6 << 20);
  for (uint32_t i = 0; i < BOARD_HEAPS; i += 2) board_leave(taken[i]);
  board_read(taken[7], &b);
  CHECK(b.count == BOARD_HEAPS / 2 && b.own == 3 && b.budget == GIB + 1);
  CHECK_EQ(b.claims[b.own].live, 7);
  CHECK((taken[0] = board_join(5)) != 0);
  board_read(taken[0], &b);
  CHECK(b.budget == 5 && b.claims[b.own].live == 0 && b.claims[b.own].most == 0);
  board_leave(taken[0]);
  for (uint32_t i = 1; i < BOARD_HEAPS; i += 2) board_leave(taken[i]);
}

/* Heaps come and go, and tell and read, all at once. */
static void *come_and_go(void *arg) {
  uint64_t budget = (uint64_t)(uintptr_t)arg * GIB;
  struct board b;
  for (int i = 0; i < 2000; i++) {
    uint32_t place = board_join(budget);
    board_publish(place, &(struct budget_claim){budget, 1, 1, 1});
    board_read(place, &b);
    CHECK(b.own < b.count && b.claims[b.own].live == budget && b.budget <= budget && b.budget % GIB == 0);
    board_leave(place);
  }
  return NULL;
}

static void at_once(void) {
  pthread_t threads[4];
  for (uintptr_t i = 0; i < 4; i++) pthread_create(&threads[i], NULL, come_and_go, (void *)(i + 1));
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
}

/* --- heaps ------------------------------------------------------------------------------------------------------ */

enum { BUDGET_MIB = 128, LIVE_MIB = 16 };

static bool open_sharing(struct kit *k, gch_ref *live) {
  gch_config c = kit_config(GCH_MOVER_AUTO, 256, 1024);
  c.budget_bytes = BUDGET_MIB * MIB;
  if (!kit_open(k, &c)) return false;
  uint64_t n = LIVE_MIB * MIB / 8 / 2;
  *live = kit_refs(k, n);
  gch_root_add(k->heap, live);
  for (uint64_t i = 0; i < n / 5; i++) kit_put_node(k, live, i, i);
  return CHECK_EQ(kit_major(k, GCH_POLICY_NEEDED, false, true).minor, 0);
}

static uint64_t goal(const struct kit *k) {
  gch_stats s;
  gch_stats_get(k->heap, &s, sizeof s);
  CHECK_EQ(s.budget_bytes, BUDGET_MIB * MIB);
  return s.goal_bytes;
}

static uint64_t live(const struct kit *k) { return k->heap->left.live; }

/* Replaces so many MiB of what lives, with minors in between, and then the heap looks at itself once more. */
static void grow(struct kit *k, gch_ref *table, uint64_t mib) {
  uint64_t n = LIVE_MIB * MIB / 8 / 2 / 5;
  for (uint64_t i = 0, bytes = 0; bytes < mib * MIB; i++, bytes += 40) kit_put_node(k, table, i % n, i);
  kit_minor(k, false);
}

/* (How long majors have taken here is not what is looked at.) */
static void settle(struct kit *k) {
  gch_collect_wait(k->m, NULL);
  k->heap->pacing.work = 1000000;
  usleep(11000); /* growth is looked at no sooner after the last time */
  kit_minor(k, false);
}

static void heaps(void) {
  static gch_ref tables[2];
  struct kit a, b;
  if (!open_sharing(&a, &tables[0])) return;
  if (!open_sharing(&b, &tables[1])) return;
  for (int round = 0; round < 2; round++) { /* first the one grows, then the other */
    struct kit *busy = round == 0 ? &a : &b, *idle = round == 0 ? &b : &a;
    for (int i = 0; i < 4 + 16 * round; i++) grow(busy, &tables[round], kit_scaled(24, 8));
    settle(busy);
    settle(idle);
    settle(busy);
    CHECK(busy->heap->budget_extra > idle->heap->budget_extra);
    uint64_t sum = live(&a) + live(&b) + a.heap->budget_extra + b.heap->budget_extra;
    CHECK(sum >= (BUDGET_MIB - 12) * MIB && sum <= (BUDGET_MIB + 12) * MIB); /* they do not look at the same moment */
    CHECK(goal(busy) >= live(busy) + 4 * MIB && goal(idle) >= live(idle) + 4 * MIB);
    CHECK(at_load(&busy->heap->measures.major_count) > 1);
  }
  uint64_t with = b.heap->budget_extra;
  gch_root_remove(a.heap, &tables[0]);
  kit_close(&a);
  settle(&b);
  CHECK(b.heap->budget_extra > with); /* all of it is its own now */
  CHECK(live(&b) + b.heap->budget_extra >= (BUDGET_MIB - 1) * MIB);
  kit_verify(&b);
  gch_root_remove(b.heap, &tables[1]);
  kit_close(&b);
}

static void refused(void) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 16, 256);
  gch_error error = {0};
  gch_heap *heap;
  c.budget_bytes = 64 * MIB;
  c.growth_percent = 50;
  CHECK_EQ(gch_heap_create(&c, &heap, &error), GCH_BAD_VALUE);
  CHECK(strstr(error.message, "budget_bytes is 67108864 with a growth_percent of 50, expected one of them") != NULL);
  c.growth_percent = 0;
  c.budget_bytes = 5;
  CHECK_EQ(gch_heap_create(&c, &heap, &error), GCH_BAD_VALUE);
  CHECK(strstr(error.message, "budget_bytes is 5, expected at least 1048576") != NULL);
  uint32_t taken[BOARD_HEAPS];
  for (uint32_t i = 0; i < BOARD_HEAPS; i++) taken[i] = board_join(GIB);
  c.budget_bytes = 64 * MIB;
  CHECK_EQ(gch_heap_create(&c, &heap, &error), GCH_BAD_STATE);
  CHECK(strstr(error.message, "256 heaps share the budget") != NULL);
  for (uint32_t i = 0; i < BOARD_HEAPS; i++) board_leave(taken[i]);
}

int main(void) {
  kit_watchdog(60);
  RUN(shares);
  RUN(one_changes);
  RUN(bounds);
  RUN(less_work_than_by_percent);
  RUN(places);
  RUN(at_once);
  RUN(heaps);
  RUN(refused);
  return CHECK_SUMMARY();
}
