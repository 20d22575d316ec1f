/* Where arenas are huge, a large object that moves gives its arenas back one after the other, as they are read; and who counts
 * what is still to be read of them keeps count of what is pinned meanwhile. */
#include "base/units.h"
#include "gc/consume.h"
#include "gc/plan.h"
#include "hold.h"
#include "os/pages.h"

static struct kit kit;

static bool open_kit(gch_mover mover) {
  gch_config c = kit_config(mover, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.gc_threads = 1;
  return kit_available(mover) && kit_open(&kit, &c);
}

/* --- memory ----------------------------------------------------------------------------------------------------- */

enum { OBJECT = 96 << 20, OTHER = 4 << 20, BESIDE = 8 << 20 };

static bool is_filled(gch_ref o) {
  const unsigned char *bytes = (const unsigned char *)(const void *)gch_slot(o, KIT_BYTES);
  uint64_t i = 0;
  while (i < OBJECT && bytes[i] == (unsigned char)(i >> 12)) i += 4096;
  return CHECK(i >= OBJECT);
}

/* The object lies in another region than a larger part of the space, into which it moves: not with its pages. */
static void fill(gch_ref *root, bool apart) {
  root[0] = kit_bytes(&kit, apart ? OTHER + OBJECT : OTHER + BLOCK_BYTES / 2);
  if (apart) kit_major(&kit, GCH_POLICY_NEEDED, true, true);
  root[1] = kit_bytes(&kit, OBJECT);
  unsigned char *bytes = (unsigned char *)(void *)gch_slot(root[1], KIT_BYTES);
  for (uint64_t i = 0; i < OBJECT; i += 4096) bytes[i] = (unsigned char)(i >> 12);
}

static void move_within_the_budget(gch_mover mover, bool concurrent) {
  if (!open_kit(mover)) return;
  GCH_FRAME(kit.m, root, 2);
  bool apart = mover == GCH_MOVER_MOVE;
  struct pages_memory before, after;
  uint64_t budget = kit.heap->config.staging_bytes;
  fill(root, apart);
  pages_peak_reset();
  pages_memory_read(&before);
  gch_cycle r = kit_major(&kit, apart ? GCH_POLICY_NEEDED : GCH_POLICY_ALL, concurrent, true);
  pages_memory_read(&after);
  CHECK_EQ(r.concurrent, concurrent);
  CHECK(r.bytes_copied >= OBJECT);
  CHECK(budget <= OBJECT / 4);
  if (!KIT_SANITIZED) CHECK(after.peak_bytes <= before.peak_bytes + budget + BESIDE);
  is_filled(root[1]);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static void a_large_object_moves_within_the_budget(void) {
  for (size_t i = 0; i < KIT_MOVER_COUNT; i++) {
    gch_mover mover = KIT_MOVERS[i];
    if (mover == GCH_MOVER_SIMULATED || mover == GCH_MOVER_SLIDE) continue; /* no huge pages; moves within a region */
    move_within_the_budget(mover, false);
    if (mover != GCH_MOVER_MEMCPY) move_within_the_budget(mover, true);
  }
}

/* --- the staging budget ----------------------------------------------------------------------------------------- */

/* A touch opens an arena: what is copied out of it is there twice, and counts. */
static void opened_arenas_count(void) {
  if (!open_kit(GCH_MOVER_MOVE)) SKIP("move", "not available here");
  GCH_FRAME(kit.m, root, 1);
  uint32_t arenas = kit.heap->open_limit < 3 ? kit.heap->open_limit : 3;
  root[0] = kit_refs(&kit, (arenas + 1) * ARENA_BYTES / 8);
  hold_on(true);
  kit_major(&kit, GCH_POLICY_NEEDED, true, false);
  while (!at_load(&held)) gch_safepoint(kit.m);
  int64_t extra = at_load(&kit.heap->frames.extra);
  for (uint32_t i = 0; i < arenas; i++) CHECK(kit_at(root[0], i * ARENA_BYTES / 8) == NULL);
  int64_t twice = (int64_t)arenas * BLOCK_BYTES;
  for (int i = 0; i < 10000 && at_load(&kit.heap->frames.extra) - extra < twice; i++)
    usleep(1000); /* after we are woken */
  CHECK_EQ(at_load(&kit.heap->frames.extra) - extra, twice);
  hold_end(&kit);
  CHECK(at_load(&kit.heap->frames.extra) <= (int64_t)kit.heap->config.staging_bytes);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* --- counts ----------------------------------------------------------------------------------------------------- */

enum { OBJECTS = 40 };

/* Page by page: destination blocks of the entry that have something of the arena. */
static uint32_t naive_reads(const struct large *e, size_t arena) {
  const struct layout *l = &kit.heap->layout;
  uint32_t reads = 0;
  size_t last = SIZE_MAX;
  for (uintptr_t at = e->base; at < e->base + e->bytes; at += l->page_bytes) {
    if (arena_index(l, at) != arena) continue;
    size_t block = block_index(l, e->forward + (at - e->base));
    reads += block != last;
    last = block;
  }
  return reads;
}

static uint32_t expected(size_t arena) {
  uint32_t reads = 0;
  if (kit.heap->tables.arenas[arena].fate == ARENA_RELOCATES) return 0;
  for (uint32_t id = 1; id < kit.heap->large.count; id++) {
    const struct large *e = &kit.heap->large.entries[id];
    if (e->base != 0 && e->forward != e->base) reads += naive_reads(e, arena);
  }
  return reads;
}

static uint32_t check_counts(void) {
  const gch_heap *h = kit.heap;
  uint32_t some = 0;
  for (uint32_t id = 1; id < h->large.count; id++) {
    const struct large *e = &h->large.entries[id];
    if (e->base == 0) continue;
    for (size_t a = arena_index(&h->layout, e->base); a <= arena_index(&h->layout, e->base + e->bytes - 1); a++) {
      some += h->tables.arenas[a].pending;
      if (!CHECK_EQ(h->tables.arenas[a].pending, expected(a))) return some;
    }
  }
  return some;
}

/* The next point at which the controller is held; it cannot get there before we poll. */
static void hold_next(const char *point) {
  at_store(&hold_point, point);
  at_store(&held, 0);
  at_store(&hold, 0);
  while (!at_load_seq(&kit.heap->world.stop)) usleep(100);
  at_store(&hold, 1);
  while (!at_load(&held)) gch_safepoint(kit.m);
}

/* Objects of all sizes around an arena's, a few of which are pinned when everything is planned. */
static void count_amid_pins(gch_mover mover, gch_policy policy, bool leaf) {
  if (!open_kit(mover)) return;
  GCH_FRAME(kit.m, root, 1);
  root[0] = kit_refs(&kit, OBJECTS);
  for (uint64_t i = 0; i < OBJECTS; i++) {
    uint64_t bytes = 100000 + i * 7919 % OBJECTS * 130000;
    gch_ref o = leaf ? kit_bytes(&kit, bytes) : kit_refs(&kit, bytes / 8);
    kit_put(&kit, root[0], i, i % 3 == 0 && policy == GCH_POLICY_NEEDED ? NULL : o);
  }
  struct kit_request request;
  hold_before_flip(&kit, &request, policy);
  check_counts();
  for (uint64_t i = 1; i < OBJECTS; i += i % 9 == 1 ? 1 : 8) CHECK_EQ(gch_pin(kit.m, kit_at(root[0], i), NULL), GCH_OK);
  hold_next("move_begins");
  CHECK(check_counts() > 0); /* those that lay with the pinned ones, at least */
  gch_ref pinned[OBJECTS] = {NULL};
  hold_off(&kit, &request);
  for (uint64_t i = 1; i < OBJECTS; i += i % 9 == 1 ? 1 : 8) pinned[i] = kit_at(root[0], i);
  for (uint64_t i = 0; i < OBJECTS; i++)
    if (pinned[i] != NULL) CHECK_EQ(gch_unpin(kit.heap, pinned[i]), GCH_OK);
  CHECK(kit.heap->measures.last_major.concurrent);
  kit_verify(&kit);
  kit_major(&kit, GCH_POLICY_ALL, true, true);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static void counts_follow_pins(void) {
  static const gch_mover movers[] = {GCH_MOVER_MOVE, GCH_MOVER_COPY};
  if (!kit_available(GCH_MOVER_COPY)) SKIP("copy", "not available here");
  for (int kind = 0; kind < 8; kind++)
    count_amid_pins(movers[kind & 1], kind & 2 ? GCH_POLICY_ALL : GCH_POLICY_NEEDED, kind >> 2);
}

/* --- arenas to which nothing came --------------------------------------------------------------------------------- */

/* Where a large object would have gone, had it not been pinned, is made by pieces for want of a frame, and then empty, at the
 * end of its region: the next cycle finds it as if it were new. */
static void an_arena_opened_for_nothing_serves_again(void) {
  if (!open_kit(GCH_MOVER_MOVE)) SKIP("move", "not available here");
  GCH_FRAME(kit.m, root, 2);
  struct kit_request request;
  root[0] = kit_refs(&kit, 2 * ARENA_BYTES / 8 - 4);
  root[1] = kit_refs(&kit, ARENA_BYTES / 8 - 4);
  const struct large *e = &kit.heap->large.entries[2];
  hold_before_flip(&kit, &request, GCH_POLICY_ALL);
  CHECK_EQ(gch_pin(kit.m, root[1], NULL), GCH_OK);
  hold_next("move_begins");
  const struct arena *planned = heap_arena(kit.heap, e->planned);
  gch_inject(kit.heap, "populate:ENOMEM", NULL);
  hold_off(&kit, &request);
  gch_inject(kit.heap, "", NULL);
  CHECK(kit.heap->measures.last_major.concurrent && e->base != e->planned && planned->used == 0);
  CHECK_EQ(planned->made, ARENA_UNMADE);
  CHECK_EQ(gch_unpin(kit.heap, root[1]), GCH_OK);
  kit_put(&kit, root[1], 7, root[0]);
  CHECK(kit_major(&kit, GCH_POLICY_NEEDED, true, true).concurrent);
  CHECK(heap_arena(kit.heap, e->base) == planned && kit_at(root[1], 7) == root[0]);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

int main(void) {
  kit_growth = GCH_GROWTH_NEVER;
  kit_watchdog(60);
  RUN(a_large_object_moves_within_the_budget);
  RUN(opened_arenas_count);
  RUN(counts_follow_pins);
  RUN(an_arena_opened_for_nothing_serves_again);
  return CHECK_SUMMARY();
}
