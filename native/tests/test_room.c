/* Allocations that find the heap full: what they wait for, what counts as an attempt, what it is called; and that few find it full,
 * because majors begin before, whatever is allocated. */
#include "base/units.h"
#include "gc/cycle.h"
#include "hold.h"

static struct kit kit;

static uint64_t majors(void) { return at_load(&kit.heap->measures.major_count); }
static uint64_t stalls(gch_stall cause) { return at_load(&kit.heap->measures.stalls.count[cause]); }

/* Lets the held major go on once the main thread waits for it. */
static void *let_go(void *arg) {
  (void)arg;
  while (at_load_seq(&mutator_of(kit.m)->state) == MUTATOR_MANAGED) usleep(100);
  usleep(20000);
  at_store(&hold, 0);
  return NULL;
}

struct waiting {
  struct kit_request request;
  pthread_t thread;
};

/* A major runs, and will go on only when the main thread waits. */
static void begin(struct waiting *w) {
  hold_before_marking(&kit, &w->request, GCH_POLICY_NEEDED);
  pthread_create(&w->thread, NULL, let_go, NULL);
}

static void end(struct waiting *w) {
  kit_end(&kit, &w->request);
  pthread_join(w->thread, NULL);
  hold_on(false);
}

/* Nothing but garbage, up to so many bytes below the limit. */
static void fill_up(uint64_t but) {
  while (at_load(&kit.heap->used_bytes) + but + MIB <= kit.heap->config.max_bytes)
    if (!CHECK(kit_bytes(&kit, MIB - 16) != NULL)) return;
}

/* The one that runs is waited for, is enough, and is no attempt. */
static void waits_for_the_major_that_runs(void) {
  gch_config c = kit_config(GCH_MOVER_AUTO, 32, 1024);
  struct waiting w;
  if (!kit_open(&kit, &c)) return;
  fill_up(2 * MIB);
  begin(&w);
  gch_ref object = kit_bytes(&kit, 8 * MIB);
  CHECK(object != NULL);
  end(&w);
  CHECK_EQ(majors(), 1);
  CHECK_EQ(stalls(GCH_STALL_LIMIT), 1);
  CHECK(at_load(&kit.heap->measures.stalls.ns[GCH_STALL_LIMIT]) >= 20000000);
  CHECK_EQ(stalls(GCH_STALL_ALLOC), 0);
  kit_verify(&kit);
  kit_close(&kit);
}

static void what_counts_as_an_attempt(void) {
  gch_config c = kit_config(GCH_MOVER_AUTO, 32, 1024);
  struct waiting w;
  if (!kit_open(&kit, &c)) return;
  struct relief relief = {.bytes = MIB};
  for (uint32_t i = 1; i <= 5; i++) { /* more than there are attempts */
    begin(&w);
    CHECK(cycle_for_room(mutator_of(kit.m), &relief));
    end(&w);
    CHECK_EQ(relief.waits, i);
    CHECK_EQ(relief.majors, 0);
    CHECK_EQ(majors(), i);
  }
  struct relief more = {.bytes = kit.heap->config.max_bytes + 1}; /* the one that runs leaves no room for it */
  begin(&w);
  CHECK(cycle_for_room(mutator_of(kit.m), &more));
  end(&w);
  CHECK(more.waits == 0 && more.majors == 1);
  CHECK_EQ(majors(), 7);
  CHECK(cycle_for_room(mutator_of(kit.m), &more) && cycle_for_room(mutator_of(kit.m), &more));
  CHECK_EQ(majors(), 9);
  CHECK(!cycle_for_room(mutator_of(kit.m), &more)); /* given up */
  CHECK_EQ(majors(), 9);
  relief.waits = 1000; /* nor is there waiting for ever */
  begin(&w);
  CHECK(cycle_for_room(mutator_of(kit.m), &relief));
  end(&w);
  CHECK_EQ(relief.majors, 1);
  kit_close(&kit);
}

/* Large objects only: no minor looks at the trigger for them. */
static void large_objects_alone_make_majors_due(gch_mover mover) {
  gch_config c = kit_config(mover, 256, 1024);
  c.growth_percent = 100;
  if (!kit_available(mover) || !kit_open(&kit, &c)) return;
  uint64_t most = 0;
  GCH_FRAME(kit.m, root, 1);
  root[0] = kit_bytes(&kit, 4 * MIB);
  for (int i = 0; i < 600; i++) {
    if (!CHECK(kit_bytes(&kit, MIB) != NULL)) break;
    uint64_t used = at_load(&kit.heap->used_bytes);
    if (used > most && majors() > 0) most = used;
  }
  CHECK(majors() >= 4);
  CHECK(kit.heap->controller != NULL || most <= 160 * MIB); /* the first begins at half of the limit */
  CHECK_EQ(stalls(GCH_STALL_LIMIT), 0);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static void large_objects_alone(void) {
  for (size_t i = 0; i < KIT_MOVER_COUNT; i++) large_objects_alone_make_majors_due(KIT_MOVERS[i]);
}

int main(void) {
  kit_growth = GCH_GROWTH_NEVER;
  kit_watchdog(60);
  if (kit_available(GCH_MOVER_MOVE) || kit_available(GCH_MOVER_COPY) || kit_available(GCH_MOVER_SIMULATED)) {
    RUN(waits_for_the_major_that_runs);
    RUN(what_counts_as_an_attempt);
  }
  RUN(large_objects_alone);
  return CHECK_SUMMARY();
}
