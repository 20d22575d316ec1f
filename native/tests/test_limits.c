/* The limit of the heap: what moves counts once, at all times, so programs allocate beside a move as they do at rest; and
 * threads that are at the limit together do not pass it. Nor does the young region's end, which is another, cost a major. */
#include "base/units.h"
#include "gc/plan.h"
#include "heap/small.h"
#include "hold.h"

static struct kit kit;

/* --- beside a move ---------------------------------------------------------------------------------------------- */

enum { LIVE_MIB = 24, MAX_MIB = 48, FRESH_MIB = 8 };

/* Large objects, and arenas full of nodes. */
static void fill(gch_ref *root) {
  uint64_t nodes = (uint64_t)(LIVE_MIB - 6) * MIB / 40;
  root[1] = kit_bytes(&kit, 3 * MIB);
  root[2] = kit_refs(&kit, 3 * MIB / 8);
  root[0] = kit_refs(&kit, nodes);
  for (uint64_t i = 0; i < nodes; i++) kit_put_node(&kit, &root[0], i, i);
  kit_major(&kit, GCH_POLICY_NEEDED, false, true);
}

struct sampler {
  uint32_t begun, stop; /* [atomic] */
  uint64_t least, most;
};

static void *sample(void *arg) {
  struct sampler *s = arg;
  s->least = UINT64_MAX;
  while (!at_load(&s->stop)) {
    uint64_t used = at_load(&kit.heap->used_bytes);
    if (used < s->least) s->least = used;
    if (used > s->most) s->most = used;
    at_store(&s->begun, 1);
  }
  return NULL;
}

static uint64_t majors(void) { return at_load(&kit.heap->measures.major_count); }

/* Everything is on the move: the limit leaves the room that it left before. Allocates all the same, if that is so: without the
 * room it would wait for the end of the move, which waits for us. */
static void allocate_beside(uint64_t used) {
  uint64_t count = majors(), failed = 0;
  if (!CHECK(at_load(&kit.heap->used_bytes) <= used + MIB)) return;
  for (uint64_t i = 0; i < FRESH_MIB * MIB / 40; i++) failed += kit_node(&kit, i) == NULL;
  CHECK(kit_bytes(&kit, 4 * MIB) != NULL);
  CHECK_EQ(failed, 0);
  CHECK_EQ(majors(), count);
}

static void room_beside_a_move(gch_mover mover, gch_huge huge) {
  gch_config c = kit_config(mover, MAX_MIB, 1024);
  c.huge = huge;
  if (!kit_open(&kit, &c)) return;
  GCH_FRAME(kit.m, root, 3);
  fill(root);
  uint64_t used = at_load(&kit.heap->used_bytes);
  CHECK(used > MAX_MIB * MIB / 2);
  struct kit_request request;
  struct sampler sampler = {0};
  pthread_t thread;
  hold_on(true);
  kit_begin(&kit, &request, GCH_POLICY_ALL);
  while (!at_load(&held)) gch_safepoint(kit.m);
  allocate_beside(used);
  pthread_create(&thread, NULL, sample, &sampler);
  while (!at_load(&sampler.begun)) gch_safepoint(kit.m);
  hold_off(&kit, &request);
  at_store(&sampler.stop, 1);
  kit_join(&kit, thread);
  CHECK(sampler.least + MIB >= used &&
        sampler.most <= used + (FRESH_MIB + 2) * MIB); /* what fragments cost, and garbage */
  CHECK(kit.heap->measures.last_major.concurrent);
  CHECK(kit.heap->plan->move_count + kit.heap->plan->arena_count + kit.heap->plan->source_count > 0);
  kit_verify(&kit); /* what is counted is what is there */
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static void room_while_moving(void) {
  bool some = false;
  for (size_t i = 0; i < 3; i++) {
    if (!kit_available(KIT_MOVERS[i])) continue;
    some = true;
    for (int huge = 0; huge < 2; huge++) room_beside_a_move(KIT_MOVERS[i], huge ? GCH_HUGE_ON : GCH_HUGE_OFF);
  }
  if (!some) SKIP("faults", "no mover has them here");
}

/* --- the young region ------------------------------------------------------------------------------------------- */

enum { SMALL_YOUNG = 3 }; /* arenas */

/* Garbage of both kinds, many times what the region holds. */
static void churn(void) {
  uint64_t failed = 0;
  for (uint64_t i = 0; i < 16 * SMALL_YOUNG * ARENA_BYTES / 1024; i++) {
    failed += kit_node(&kit, i) == NULL;
    failed += kit_bytes(&kit, 1000) == NULL;
  }
  CHECK_EQ(failed, 0);
}

/* As many mutators as would have eden larger than the region: what a minor can do needs no major. */
static void more_mutators_than_the_region_holds(void) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 256, 1024);
  c.huge = GCH_HUGE_OFF;
  if (!kit_open(&kit, &c)) return;
  kit.heap->young.arena_count = SMALL_YOUNG;
  at_store(&kit.heap->world.mutator_count, 100000);
  churn();
  at_store(&kit.heap->world.mutator_count, 1);
  CHECK_EQ(majors(), 0);
  CHECK(at_load(&kit.heap->measures.minor_count) >= 8);
  kit_verify(&kit);
  kit_close(&kit);
}

/* Half of the region stands where it was pinned: it is full long before eden is used up. */
static void little_is_left_of_the_region(void) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 256, 16 * 1024);
  c.huge = GCH_HUGE_OFF;
  if (!kit_open(&kit, &c)) return;
  gch_ref pinned[SMALL_YOUNG * ARENA_BLOCKS / 2];
  uint32_t count = sizeof pinned / sizeof pinned[0];
  kit.heap->young.arena_count = SMALL_YOUNG;
  for (uint32_t i = 0; i < count; i++) {
    for (int j = 0; j < 8; j++) pinned[i] = kit_bytes(&kit, 8000);
    CHECK_EQ(gch_pin(kit.m, pinned[i], NULL), GCH_OK);
  }
  CHECK_EQ(kit_minor(&kit, false).minor, 1);
  uint64_t minors = at_load(&kit.heap->measures.minor_count);
  churn();
  CHECK_EQ(majors(), 0);
  CHECK(at_load(&kit.heap->measures.minor_count) >= minors + 8);
  for (uint32_t i = 0; i < count; i++) gch_unpin(kit.heap, pinned[i]);
  kit_verify(&kit);
  kit_close(&kit);
}

/* --- the staging budget ----------------------------------------------------------------------------------------- */

/* Every second node goes: what is evacuated ends in half the blocks, and the other half is what the move gives back, as it is
 * accounted to those who must stay within the budget. */
static void filled_in_place(void) {
  enum { NODES = 200000 };
  gch_config c = kit_config(GCH_MOVER_SIMULATED, 64, 1024);
  if (!kit_available(GCH_MOVER_SIMULATED)) SKIP("simulated", "not available here");
  if (!kit_open(&kit, &c)) return;
  GCH_FRAME(kit.m, root, 1);
  root[0] = kit_refs(&kit, NODES);
  for (uint64_t i = 0; i < NODES; i++) kit_put_node(&kit, &root[0], i, i);
  kit_minor(&kit, true);
  for (uint64_t i = 0; i < NODES; i += 2) kit_put(&kit, root[0], i, NULL);
  gch_cycle r = kit_major(&kit, GCH_POLICY_ALL, true, true);
  const struct plan *p = kit.heap->plan;
  CHECK(r.concurrent && p->source_count > 64 && p->dest_count > 32 && p->dest_count < p->source_count);
  CHECK_EQ(at_load(&kit.heap->frames.extra), ((int64_t)p->dest_count - p->source_count) * BLOCK_BYTES);
  GCH_FRAME_END(kit.m);
  kit_verify(&kit);
  kit_close(&kit);
}

/* --- many threads ----------------------------------------------------------------------------------------------- */

static uint32_t how, depth;
static uintptr_t second;

/* A block of old or young memory, or a large object as big as one. */
static uintptr_t take(void) {
  if (how == 0) return small_take(kit.heap, false, false);
  if (how == 1) return young_take(kit.heap, true, true);
  return large_alloc(kit.heap, kit.bytes, BLOCK_BYTES - 16, BLOCK_BYTES);
}

/* Somebody else comes when the first has been let in, but has nothing yet. */
static void take_between(const char *name) {
  if (strcmp(name, "room_taken") != 0 || depth++ > 0) return;
  second = take();
}

static void put(uintptr_t block) {
  gch_heap *h = kit.heap;
  if (how == 2)
    large_free(h, h->tables.large_ids[(block - h->layout.base) >> h->layout.page_shift]);
  else
    block_free(h, block, true);
}

static void nobody_passes_the_limit(void) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 16, 1024);
  if (!kit_open(&kit, &c)) return;
  uint64_t used = at_load(&kit.heap->used_bytes), max = kit.heap->config.max_bytes;
  at_store(&kit.heap->used_bytes, max - BLOCK_BYTES);
  at_store(&gch_hook_fn, take_between);
  for (how = 0; how < 3; how++) {
    depth = 0;
    second = 1;
    uintptr_t first = take();
    CHECK_EQ(depth, 1);
    CHECK(first != 0 && second == 0);
    CHECK_EQ(at_load(&kit.heap->used_bytes), max);
    if (first != 0) put(first);
    CHECK_EQ(at_load(&kit.heap->used_bytes), max - BLOCK_BYTES);
  }
  at_store(&gch_hook_fn, NULL);
  at_store(&kit.heap->young.blocks, 0);
  at_store(&kit.heap->used_bytes, used);
  kit_verify(&kit);
  kit_close(&kit);
}

int main(void) {
  kit_growth = GCH_GROWTH_NEVER;
  kit_watchdog(60);
  RUN(room_while_moving);
  RUN(more_mutators_than_the_region_holds);
  RUN(little_is_left_of_the_region);
  RUN(filled_in_place);
  RUN(nobody_passes_the_limit);
  return CHECK_SUMMARY();
}
