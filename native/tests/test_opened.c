/* Huge arenas that faults have opened: what is left of them after the cycle, and what goes when (I4). */
#include "gc/evacuate.h"
#include "heap/unit.h"
#include "huge.h"

/* --- what is left of opened arenas ------------------------------------------------------------------------------- */

/* The thread that touches makes units itself, the collector alone the others. */
static bool open_for_touches(struct kit *k, gch_mover mover) {
  gch_config c = kit_config(mover, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.fault_mode = GCH_FAULT_SIGNAL;
  c.gc_threads = 1;
  return kit_available(mover) && kit_open(k, &c);
}

/* A concurrent major whose collector is held up until some of the objects have been touched: that opens arenas. */
static void major_with_touches(struct kit *k, const gch_ref *objects, uint64_t count, uint64_t most) {
  hold_on(true);
  kit_major(k, GCH_POLICY_ALL, true, false);
  for (uint64_t i = 0; i < count; i++) {
    (void)*(volatile uint64_t *)(void *)gch_slot(objects[i], KIT_BYTES);
    if (--most == 0) break; /* more might wait for a place */
  }
  hold_end(k);
}

static uint32_t count_present(struct kit *k, size_t arena) {
  uintptr_t at = arena_address(&k->heap->layout, arena), end = at + ARENA_BYTES;
  uint32_t present = 0;
  for (; at < end; at += k->heap->layout.page_bytes)
    present += kernel_pagemap_present(&k->heap->kernel, (void *)at) == 1;
  return present;
}

/* Pages present in arenas of large leaf objects of which the tables say that they are empty. */
static uint32_t count_stray(struct kit *k) {
  uint32_t stray = 0, region = layout_first_region(&k->heap->layout, SPACE_LARGE_LEAF);
  for (uint32_t r = region; r < region + k->heap->layout.per_space; r++)
    for (size_t a = region_first_arena(k->heap, r), end = a + 4; a < end; a++) {
      const struct arena *arena = &k->heap->tables.arenas[a];
      if (arena->used == 0 && arena->populated == 0 && !arena->huge) stray += count_present(k, a);
    }
  return stray;
}

/* The kernel will not collapse: no page is left over in arenas that are emptied later (in a leaf
 * destination it would be seen before its unit is made). */
static void collapse_refused(void) {
  struct kit k;
  if (!open_for_touches(&k, GCH_MOVER_MOVE)) return;
  GCH_FRAME(k.m, root, 5);
  for (int i = 0; i < 5; i++) {
    root[i] = kit_bytes(&k, 700000); /* an arena and three quarters */
    memset(gch_slot(root[i], KIT_BYTES), 0x5a, 700000);
  }
  for (int round = 0; round < 4; round++) {
    gch_inject(k.heap, "collapse:EAGAIN", NULL);
    major_with_touches(&k, root, 5, 1);
    gch_inject(k.heap, "", NULL);
    CHECK_EQ(count_stray(&k), 0);
    for (int i = 0; i < 5; i++) CHECK_EQ(*((uint8_t *)gch_slot(root[i], KIT_BYTES) + 699999), 0x5a);
    if (!kit_verify(&k)) break;
  }
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

enum { OBJECTS = 64, OBJECT_BYTES = (1 << 20) - 64 };

/* Large objects, every other one with references, in arenas of small pages: what a refused collapse leaves. */
static void fill_small_pages(struct kit *k, gch_ref *table) {
  *table = kit_refs(k, OBJECTS);
  for (uint64_t i = 0; i < OBJECTS; i++) {
    gch_ref o = i % 2 ? kit_refs(k, OBJECT_BYTES / 8) : kit_bytes(k, OBJECT_BYTES);
    kit_put(k, *table, i, o);
    if (i % 2)
      kit_put(k, o, OBJECT_BYTES / 8 - 1, o);
    else
      memset(gch_slot(o, KIT_BYTES), (int)i, OBJECT_BYTES);
  }
  for (size_t a = 0; a < layout_arena_count(&k->heap->layout); a++)
    if (space_is_large(heap_region(k->heap, arena_address(&k->heap->layout, a))->space))
      k->heap->tables.arenas[a].huge = 0, k->heap->tables.arenas[a].populated = 0;
}

static void touch_large(gch_ref table) {
  for (uint64_t i = 0, n = 0; n < OBJECTS; n++, i = (i + 37) % OBJECTS) {
    gch_ref o = kit_at(table, i);
    if (i % 2)
      CHECK(kit_at(o, OBJECT_BYTES / 8 - 1) == o);
    else
      CHECK_EQ(*((uint8_t *)gch_slot(o, KIT_BYTES) + OBJECT_BYTES - 1), i);
  }
}

enum beside { IN_PAUSE, WORKERS_ONLY, TOUCHED };

/* All of it moves, and memory never exceeds what was there by more than the budget (I4). */
static void small_pages_move(gch_mover mover, enum beside beside) {
  enum { STAGING = 8 << 20, SLACK = 6 << 20 };
  struct kit k;
  struct pages_memory before, after;
  gch_config c = kit_config(mover, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.fault_mode = GCH_FAULT_SIGNAL;
  c.gc_threads = 1;
  c.staging_bytes = STAGING;
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  fill_small_pages(&k, &root[0]);
  kit_minor(&k, true);
  CHECK_EQ(pages_peak_reset(), 0);
  CHECK_EQ(pages_memory_read(&before), 0);
  gch_cycle r = kit_major(&k, GCH_POLICY_ALL, beside != IN_PAUSE, beside != TOUCHED);
  if (beside == TOUCHED) touch_large(root[0]);
  gch_collect_wait(k.m, NULL);
  CHECK_EQ(pages_memory_read(&after), 0);
  CHECK(!r.degraded);
  uint64_t limit = before.rss_anon_bytes + before.rss_shmem_bytes + before.rss_file_bytes + STAGING + SLACK;
  if (!KIT_SANITIZED && !CHECK(after.peak_bytes <= limit)) /* their own memory is resident too */
    printf("    %s %d: %lld KiB beyond\n", gch_mover_name(mover), (int)beside,
           (long long)(after.peak_bytes - limit) >> 10);
  touch_large(root[0]);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void sources_of_small_pages_go_at_once(void) {
  for (int beside = IN_PAUSE; beside <= TOUCHED; beside++) {
    small_pages_move(GCH_MOVER_MOVE, (enum beside)beside);
    small_pages_move(GCH_MOVER_COPY, (enum beside)beside);
  }
}

/* Sources in an opened arena are not in use any more when it is decided whether it becomes a huge page again. */
static void emptied_arenas_are_not_collapsed(void) {
  enum { COUNT = 12000, STEP = 16, PINS = 8 };
  struct kit k;
  gch_ref pinned[PINS];
  uint64_t used = 0, present = 0;
  if (!open_for_touches(&k, GCH_MOVER_MOVE)) return;
  GCH_FRAME(k.m, root, 1);
  fill(&k, &root[0], COUNT, 0);
  kit_minor(&k, true);
  for (uint64_t i = 0; i < COUNT; i++)
    if (i % STEP != 0)
      kit_put(&k, root[0], i, *kit_number(kit_at(root[0], i)) == i ? kit_at(root[0], i / STEP * STEP) : NULL);
  for (uint64_t i = 0; i < PINS; i++) {
    pinned[i] = kit_at(root[0], i * (COUNT / PINS));
    CHECK_EQ(gch_pin(k.m, pinned[i], NULL), GCH_OK);
  }
  major_with_touches(&k, pinned, PINS, PINS);
  for (uint64_t i = 0; i < PINS; i++) {
    size_t a = arena_index(&k.heap->layout, (uintptr_t)pinned[i]);
    used += (uint64_t)__builtin_popcount(k.heap->tables.arenas[a].used) * (BLOCK_BYTES / k.heap->layout.page_bytes);
    present += count_present(&k, a);
    CHECK_EQ(gch_unpin(k.heap, pinned[i]), GCH_OK);
  }
  CHECK(used > 0 && present <= used);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* --- what opened arenas give back -------------------------------------------------------------------------------- */

/* A destination that nobody has made yet: all its units are filled (relocated: from another arena), and some were armed. */
static size_t find_destination(const gch_heap *h, enum space_id space, bool relocated) {
  for (size_t a = 0; a < layout_arena_count(&h->layout); a++) {
    if (heap_region(h, arena_address(&h->layout, a))->space != space || h->tables.arenas[a].populated != 0) continue;
    uint32_t units = 0, from_another = 0;
    for (size_t b = a * ARENA_BLOCKS; b < (a + 1) * ARENA_BLOCKS; b++) {
      units += unit_state(h, b) == UNIT_ARMED;
      from_another += (h->tables.dest[b] & DEST_RELOCATED) != 0;
    }
    if (units == ARENA_BLOCKS && (from_another != 0) == relocated && at_load(&h->tables.arenas[a].made) == ARENA_UNMADE)
      return a;
  }
  return SIZE_MAX;
}

/* Touches every block of the arena, whose units the handler makes by pieces: the last one closes it. Returns what has been given
 * back meanwhile, to the system or for reuse. */
static uint64_t touch_arena(gch_heap *h, size_t arena) {
  uint64_t before = at_load(&h->moved.released) + h->frames.arena_count * (uint64_t)ARENA_BYTES;
  for (size_t b = arena * ARENA_BLOCKS; b < (arena + 1) * ARENA_BLOCKS; b++)
    (void)*(volatile uint8_t *)block_address(&h->layout, b);
  CHECK(at_load(&h->tables.arenas[arena].made) >= ARENA_CLOSED);
  return at_load(&h->moved.released) + h->frames.arena_count * (uint64_t)ARENA_BYTES - before;
}

/* An arena into which a part of a large object moves was empty: when it is closed, nothing of its own is given back, nor
 * counted; only the first arena of the source, which has been read whole. */
static void filled_arenas_give_nothing(gch_mover mover) {
  struct kit k;
  if (!open_for_touches(&k, mover)) return;
  GCH_FRAME(k.m, root, 4);
  /* Two fifths of an arena before and behind it die: the three arenas that are left are sparse, and fit into two. */
  root[0] = kit_refs(&k, 100000);
  root[1] = kit_refs(&k, 314572); /* six fifths */
  root[2] = kit_refs(&k, 110000);
  root[3] = kit_refs(&k, 20000);
  kit_put(&k, root[1], 314571, root[1]);
  root[0] = root[2] = NULL;
  hold_on(true);
  CHECK(!kit_major(&k, GCH_POLICY_ALL, true, false).degraded);
  size_t arena = find_destination(k.heap, SPACE_LARGE, false);
  if (CHECK(arena != SIZE_MAX)) CHECK_EQ(touch_arena(k.heap, arena), ARENA_BYTES);
  hold_end(&k);
  CHECK(kit_at(root[1], 314571) == root[1]);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* An arena to which another relocates: what goes is the other's page, once, in whatever life the arena is. */
static void relocated_arenas_give_one(gch_mover mover) {
  struct kit k;
  if (!open_for_touches(&k, mover)) return;
  GCH_FRAME(k.m, root, 1);
  fill(&k, &root[0], DENSE, 0);
  kit_minor(&k, true);
  kit_major(&k, GCH_POLICY_NEEDED, true, true); /* all stay */
  for (int round = 0; round < 4; round++) {
    hold_on(true);
    CHECK(!kit_major(&k, GCH_POLICY_ALL, true, false).degraded);
    size_t arena = find_destination(k.heap, SPACE_OLD, true);
    if (CHECK(arena != SIZE_MAX)) {
      if (round % 2) k.heap->tables.arenas[arena].fate = ARENA_STAYS; /* as an earlier life may have left it */
      size_t source = (k.heap->tables.dest[arena * ARENA_BLOCKS] & ~DEST_RELOCATED) / ARENA_BLOCKS;
      CHECK_EQ(k.heap->tables.arenas[source].populated, UINT32_MAX);
      CHECK_EQ(touch_arena(k.heap, arena), ARENA_BYTES);
      CHECK_EQ(k.heap->tables.arenas[source].populated, 0);
    }
    hold_end(&k);
    check_filled(root[0], DENSE, 0);
    if (!kit_verify(&k)) break;
  }
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void closed_arenas_give_what_was_there(void) {
  for (int mover = GCH_MOVER_MOVE; mover <= GCH_MOVER_COPY; mover++) {
    filled_arenas_give_nothing((gch_mover)mover);
    relocated_arenas_give_one((gch_mover)mover);
  }
}

int main(void) {
  kit_decay = GCH_DECAY_NOW;
  kit_growth = GCH_GROWTH_NEVER;
  if (!huge_available("test_opened")) return CHECK_EXIT_SKIPPED;
  kit_watchdog(90);
  RUN(emptied_arenas_are_not_collapsed);
  RUN(collapse_refused);
  RUN(sources_of_small_pages_go_at_once);
  RUN(closed_arenas_give_what_was_there);
  return CHECK_SUMMARY();
}
