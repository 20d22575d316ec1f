/* Units: one owner however many claim, MAPPED for ever after, and a unit that is done without an owner is a broken
 * invariant. Counted at the hook points of a real move, too. */
#include "heap/unit.h"

#include <sys/wait.h>

#include "kit.h"

enum { THREADS = 4, UNITS = 4096 };
static struct kit kit;
static uint32_t claims[UNITS];
static size_t first_unit;

static void *claimer(void *arg) {
  (void)arg;
  for (size_t i = 0; i < UNITS; i++)
    if (unit_claim(kit.heap, first_unit + i, GCH_ACTOR_WORKER)) {
      at_add(&claims[i], 1);
      unit_done(kit.heap, first_unit + i);
    }
  return NULL;
}

static void one_owner(void) {
  pthread_t threads[THREADS];
  for (size_t i = 0; i < UNITS; i++) {
    CHECK_EQ(unit_state(kit.heap, first_unit + i), UNIT_NONE);
    CHECK(!unit_claim(kit.heap, first_unit + i, GCH_ACTOR_WORKER)); /* nothing to claim */
    unit_arm(kit.heap, first_unit + i);
  }
  for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, claimer, NULL);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  for (size_t i = 0; i < UNITS; i++) {
    CHECK_EQ(claims[i], 1);
    CHECK_EQ(unit_state(kit.heap, first_unit + i), UNIT_MAPPED);
    CHECK(!unit_claim(kit.heap, first_unit + i, GCH_ACTOR_WORKER));
    kit.heap->tables.units[first_unit + i] = UNIT_NONE;
  }
}

static void done_without_an_owner(void) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    (void)!freopen("/dev/null", "w", stderr);
    unit_arm(kit.heap, first_unit);
    unit_done(kit.heap, first_unit);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(!(WIFEXITED(status) && WEXITSTATUS(status) == 0));
}

static uint32_t claimed, published;
static void count(const char *name) {
  if (strcmp(name, "unit_claimed") == 0) at_add(&claimed, 1);
  if (strcmp(name, "unit_published") == 0) at_add(&published, 1);
}

/* Every unit that is claimed in a cycle is published, and afterwards none is left in any state. */
static void a_real_move(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MOVE, 128, 1024);
  if (!kit_available(GCH_MOVER_MOVE)) SKIP("move", "not available here");
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  root[0] = kit_refs(&k, 100000);
  for (uint64_t i = 0; i < 100000; i++) kit_put_node(&k, &root[0], i, i);
  at_store(&gch_hook_fn, count);
  for (int round = 0; round < 4; round++) {
    claimed = published = 0;
    kit_major(&k, round & 1 ? GCH_POLICY_NEEDED : GCH_POLICY_ALL, true, false);
    for (uint64_t i = 0; i < 100000; i++)
      if (!CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) return;
    gch_collect_wait(k.m, NULL);
    CHECK(at_load(&claimed) > 10);
    CHECK_EQ(at_load(&claimed), at_load(&published));
    for (size_t b = 0; b < layout_block_count(&k.heap->layout); b++)
      if (k.heap->tables.units[b] != UNIT_NONE && !CHECK_EQ(k.heap->tables.units[b], UNIT_NONE)) return;
  }
  at_store(&gch_hook_fn, NULL);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

int main(void) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 16, 256);
  c.gc_threads = 1; /* the child has no threads to start */
  kit_watchdog(30);
  if (!kit_open(&kit, &c)) return 1;
  first_unit = block_index(&kit.heap->layout, kit.heap->layout.regions[0].start);
  RUN(one_owner);
  RUN(done_without_an_owner);
  kit_close(&kit);
  RUN(a_real_move);
  return CHECK_SUMMARY();
}
