/* Stalls by mutator and cause: who waited, for what, and that nothing is counted twice or for somebody else. */
#include "heap/stall.h"

#include "heap/unit.h"
#include "kit.h"
#include "os/thread.h"

enum { NODES = 60000, OTHERS = 3 };

static struct kit kit;
static gch_mutator *others[OTHERS]; /* [atomic] */
static gch_stalls seen[OTHERS];     /* of the others, when they are done */
static uint32_t stop;               /* [atomic] */

static gch_stalls stalls_of(const gch_mutator *m) {
  gch_stalls s;
  gch_stalls_get(m, &s, sizeof s);
  return s;
}

/* --- pauses ----------------------------------------------------------------------------------------------------- */

static void *poll(void *arg) {
  size_t i = (size_t)(uintptr_t)arg;
  struct kit k = {.heap = kit.heap};
  if (!CHECK_EQ(gch_attach(k.heap, &k.m, NULL), GCH_OK)) return NULL;
  CHECK_EQ(stalls_of(k.m).count[GCH_STALL_PAUSE], 0);
  at_store(&others[i], k.m);
  while (!at_load(&stop)) gch_safepoint(k.m);
  gch_stalls_get(k.m, &seen[i], sizeof seen[i]);
  gch_detach(k.m);
  return NULL;
}

static void pauses_of_each(void) {
  pthread_t threads[OTHERS];
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
  gch_stats all;
  if (!kit_open(&kit, &c)) return;
  for (uintptr_t i = 0; i < OTHERS; i++) pthread_create(&threads[i], NULL, poll, (void *)i);
  for (int i = 0; i < OTHERS; i++)
    while (at_load(&others[i]) == NULL) gch_safepoint(kit.m);
  for (int i = 0; i < OTHERS; i++)
    while (stalls_of(at_load(&others[i])).count[GCH_STALL_PAUSE] < 2) kit_minor(&kit, false);
  at_store(&stop, 1);
  for (int i = 0; i < OTHERS; i++) kit_join(&kit, threads[i]);
  gch_stats_get(kit.heap, &all, sizeof all);
  gch_stalls own = stalls_of(kit.m);
  uint64_t count = own.count[GCH_STALL_PAUSE], ns = own.ns[GCH_STALL_PAUSE];
  for (int i = 0; i < OTHERS; i++) {
    CHECK(seen[i].count[GCH_STALL_PAUSE] > 0 && seen[i].ns[GCH_STALL_PAUSE] > 0);
    CHECK_EQ(seen[i].count[GCH_STALL_FAULT] + seen[i].count[GCH_STALL_ALLOC], 0);
    count += seen[i].count[GCH_STALL_PAUSE];
    ns += seen[i].ns[GCH_STALL_PAUSE];
  }
  CHECK_EQ(count, all.stall_count[GCH_STALL_PAUSE]);
  CHECK_EQ(ns, all.stall_ns[GCH_STALL_PAUSE]);
  kit_close(&kit);
}

/* --- missing pages ---------------------------------------------------------------------------------------------- */

static uint32_t walker; /* [atomic] its thread */

/* Whoever else makes a unit takes its time, so that the walker finds some that are being made. */
static void dawdle(const char *name) {
  if (strcmp(name, "unit_claimed") == 0 && thread_id() != at_load(&walker)) usleep(500);
}

static void fill(struct kit *k, gch_ref *table) {
  *table = kit_refs(k, NODES);
  for (uint64_t i = 0; i < NODES; i++) kit_put_node(k, table, i, i);
  kit_minor(k, true);
}

static void walk(gch_ref table) {
  for (uint64_t i = 0, at = 0; i < NODES; i++, at = (at + 7919) % NODES)
    if (!CHECK_EQ(*kit_number(kit_at(table, at)), at)) return;
}

static void touches_are_counted(gch_mover mover, gch_fault_mode faults) {
  gch_config c = kit_config(mover, 128, 8192);
  gch_stats before, after;
  c.fault_mode = faults;
  if (!kit_available(mover) || !kit_open(&kit, &c)) return;
  GCH_FRAME(kit.m, root, 1);
  fill(&kit, &root[0]);
  gch_stats_get(kit.heap, &before, sizeof before);
  gch_stalls mine = stalls_of(kit.m);
  at_store(&walker, thread_id());
  at_store(&gch_hook_fn, dawdle);
  for (int round = 0; round < 20 && stalls_of(kit.m).count[GCH_STALL_UNIT] == 0; round++) {
    kit_major(&kit, GCH_POLICY_ALL, true, false);
    while (at_load(&kit.heap->phase) == GCH_PHASE_FLIP) gch_safepoint(kit.m); /* it may be over already */
    walk(root[0]);
    gch_collect_wait(kit.m, NULL);
  }
  at_store(&gch_hook_fn, NULL);
  gch_stats_get(kit.heap, &after, sizeof after);
  gch_stalls now = stalls_of(kit.m);
  CHECK(now.count[GCH_STALL_FAULT] > mine.count[GCH_STALL_FAULT]);
  CHECK(now.count[GCH_STALL_UNIT] > 0);
  CHECK(now.ns[GCH_STALL_UNIT] / now.count[GCH_STALL_UNIT] < 1000000000);
  /* Nobody else has touched anything. */
  for (int cause = GCH_STALL_FAULT; cause <= GCH_STALL_UNIT; cause++) {
    CHECK_EQ(now.count[cause] - mine.count[cause], after.stall_count[cause] - before.stall_count[cause]);
    CHECK_EQ(now.ns[cause] - mine.ns[cause], after.stall_ns[cause] - before.stall_ns[cause]);
  }
  CHECK_EQ(at_load(&kit.heap->waiters.count), 0);
  for (int i = 0; i < WAITERS; i++) CHECK_EQ(kit.heap->waiters.all[i].word, 0);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static void by_thread(void) { touches_are_counted(GCH_MOVER_MOVE, GCH_FAULT_THREAD); }
static void by_signal(void) { touches_are_counted(GCH_MOVER_MOVE, GCH_FAULT_SIGNAL); }
static void by_thread_copied(void) { touches_are_counted(GCH_MOVER_COPY, GCH_FAULT_THREAD); }
static void by_signal_simulated(void) { touches_are_counted(GCH_MOVER_SIMULATED, GCH_FAULT_SIGNAL); }

/* --- records ---------------------------------------------------------------------------------------------------- */

static uint32_t records(const gch_heap *h) {
  uint32_t count = 0;
  for (const struct mutator *m = at_load(&h->world.records); m != NULL; m = m->next_record) count++;
  return count;
}

static void *attach_once(void *arg) {
  struct kit k = {.heap = arg};
  if (!CHECK_EQ(gch_attach(k.heap, &k.m, NULL), GCH_OK)) return NULL;
  CHECK(mutator_with(k.heap, thread_id()) == mutator_of(k.m));
  for (int i = 0; i < GCH_STALL_COUNT; i++) CHECK_EQ(stalls_of(k.m).count[i], 0);
  kit_minor(&k, false);
  mutator_of(k.m)->stalls.count[GCH_STALL_FORK] = 7; /* the next one to have the record does not see it */
  gch_detach(k.m);
  return NULL;
}

static void records_are_taken_again(void) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
  if (!kit_open(&kit, &c)) return;
  for (int i = 0; i < 100; i++) {
    pthread_t thread;
    pthread_create(&thread, NULL, attach_once, kit.heap);
    kit_join(&kit, thread);
  }
  CHECK_EQ(records(kit.heap), 2);
  CHECK(mutator_with(kit.heap, thread_id()) == mutator_of(kit.m));
  CHECK(mutator_with(kit.heap, 0x7fffffff) == NULL);
  CHECK(mutator_with(kit.heap, 0) == NULL);
  kit_close(&kit);
}

/* More wait than there are words: those beyond are not counted, and none is left over. */
static void many_waiters(void) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
  gch_stats s;
  if (!kit_open(&kit, &c)) return;
  gch_heap *h = kit.heap;
  for (size_t unit = 1; unit <= 3; unit++) {
    unit_arm(h, unit);
    CHECK(unit_claim(h, unit, GCH_ACTOR_WORKER));
  }
  for (int i = 0; i < WAITERS + 4; i++) stall_wait(h, 1 + (size_t)i % 2, thread_id(), clock_ns());
  stall_wait(h, 3, thread_id(), clock_ns());
  unit_done(h, 3); /* nobody found a word for it */
  CHECK_EQ(stalls_of(kit.m).count[GCH_STALL_UNIT], 0);
  unit_done(h, 1);
  CHECK_EQ(stalls_of(kit.m).count[GCH_STALL_UNIT], WAITERS / 2);
  stall_wait(h, 1, thread_id(), clock_ns()); /* it is done already */
  CHECK_EQ(stalls_of(kit.m).count[GCH_STALL_UNIT], WAITERS / 2 + 1);
  unit_done(h, 2);
  gch_stats_get(h, &s, sizeof s);
  CHECK_EQ(s.stall_count[GCH_STALL_UNIT], WAITERS + 1);
  CHECK_EQ(at_load(&h->waiters.count), 0);
  for (size_t unit = 1; unit <= 3; unit++) at_store(&h->tables.units[unit], (uint8_t)UNIT_NONE);
  kit_close(&kit);
}

int main(void) {
  kit_watchdog(60);
  RUN(pauses_of_each);
  RUN(by_thread);
  RUN(by_signal);
  RUN(by_thread_copied);
  RUN(by_signal_simulated);
  RUN(records_are_taken_again);
  RUN(many_waiters);
  return CHECK_SUMMARY();
}
