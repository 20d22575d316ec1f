/* Weak references and ephemerons: what they keep alive, and what clears them. */
#include "cells.h"
#include "gc/mark_internal.h"

enum { CHAIN = 2000 };

/* --- weak references -------------------------------------------------------------------------------------------- */

static void majors(bool concurrent) {
  GCH_FRAME(kit.m, root, 5);
  root[0] = kit_node(&kit, 7);
  root[1] = weak_to(root[0]);
  root[2] = kit_refs(&kit, 3000); /* a large one */
  root[3] = weak_to(root[2]);
  root[4] = kit_bytes(&kit, 100);
  root[4] = weak_to(root[4]);
  gch_cycle r = kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
  CHECK_EQ(r.weak_cleared, 1);
  CHECK(gch_weak_get(kit.m, root[1]) == root[0] && *kit_number(root[0]) == 7);
  CHECK(gch_weak_get(kit.m, root[3]) == root[2] && gch_length(kit.heap, root[2]) == 3000);
  CHECK(gch_weak_get(kit.m, root[4]) == NULL);
  r = kit_major(&kit, GCH_POLICY_ALL, concurrent, true); /* all are old now */
  CHECK_EQ(r.weak_cleared, 0);
  CHECK(gch_weak_get(kit.m, root[1]) == root[0] && gch_weak_get(kit.m, root[3]) == root[2]);
  root[0] = root[2] = NULL;
  r = kit_major(&kit, GCH_POLICY_NEEDED, concurrent, true);
  CHECK_EQ(r.weak_cleared, 2);
  CHECK_EQ(r.live_objects, 3);
  CHECK(gch_weak_get(kit.m, root[1]) == NULL && gch_weak_get(kit.m, root[3]) == NULL);
  GCH_FRAME_END(kit.m);
}
static void majors_clear(void) { each_kind(majors); }

static void minors(bool concurrent) {
  (void)concurrent;
  GCH_FRAME(kit.m, root, 5);
  root[0] = kit_refs(&kit, 4);
  kit_minor(&kit, true);
  root[1] = kit_node(&kit, 5);
  root[2] = weak_to(root[1]); /* young cell, referent that stays */
  root[3] = kit_node(&kit, 6);
  root[3] = weak_to(root[3]); /* young cell, one that goes */
  gch_ref old = weak_to(NULL);
  kit_put(&kit, root[0], 0, old);
  gch_cycle r = kit_minor(&kit, false); /* nothing is promoted yet */
  CHECK_EQ(r.weak_cleared, 1);
  CHECK(gch_weak_get(kit.m, root[2]) == root[1] && *kit_number(root[1]) == 5);
  CHECK(gch_weak_get(kit.m, root[3]) == NULL);
  kit_minor(&kit, true);
  CHECK(gch_weak_get(kit.m, root[2]) == root[1]);
  root[1] = NULL; /* old by now: a minor does not look */
  CHECK_EQ(kit_minor(&kit, true).weak_cleared, 0);
  CHECK(gch_weak_get(kit.m, root[2]) != NULL);
  GCH_FRAME_END(kit.m);
}
static void minors_clear(void) { each_kind(minors); }

/* A cell that is promoted before its referent: kept in a pinned block, it is old, and only its card tells of it. */
static void old_cells_of_young_objects(void) {
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 3);
  root[0] = kit_node(&kit, 1);
  root[1] = weak_to(root[0]);
  gch_ref cell = root[1];
  CHECK_EQ(gch_pin(kit.m, cell, NULL), GCH_OK); /* its block is kept; that of what is allocated next is another */
  for (int i = 0; i < 3; i++) {
    while (heap_block(kit.heap, (uintptr_t)root[0]) == heap_block(kit.heap, (uintptr_t)cell))
      root[0] = kit_node(&kit, 2);
    at_store(cell_word((uintptr_t)cell, CELL_TARGET), (uint64_t)(uintptr_t)root[0]);
    gch_set(kit.m, cell, CELL_TARGET, root[0]); /* as new_cell does */
    gch_cycle r = kit_minor(&kit, false);
    CHECK_EQ(r.weak_cleared, 0);
    CHECK(heap_is_old(kit.heap, (uintptr_t)cell));
    CHECK(gch_weak_get(kit.m, cell) == root[0]);
    kit_verify(&kit);
    if (i < 2) continue;
    root[0] = kit_node(&kit, 3);
    gch_set(kit.m, cell, CELL_TARGET, root[0]);
    root[0] = NULL;
    CHECK_EQ(kit_minor(&kit, false).weak_cleared, 1);
    CHECK(gch_weak_get(kit.m, cell) == NULL);
  }
  kit_verify(&kit);
  gch_unpin(kit.heap, cell);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static void cleared_by_hand(bool concurrent) {
  GCH_FRAME(kit.m, root, 2);
  root[0] = kit_node(&kit, 1);
  root[1] = weak_to(root[0]);
  CHECK_EQ(gch_weak_clear(kit.m, root[1]), GCH_OK);
  CHECK(gch_weak_get(kit.m, root[1]) == NULL && root[0] != NULL);
  CHECK_EQ(kit_major(&kit, GCH_POLICY_ALL, concurrent, true).weak_cleared, 0);
  CHECK(gch_weak_get(kit.m, root[1]) == NULL);
  /* what they are not */
  CHECK(gch_weak_get(kit.m, root[0]) == NULL);
  CHECK_EQ(gch_last_error(kit.m)->status, GCH_BAD_VALUE);
  CHECK_EQ(gch_weak_clear(kit.m, root[0]), GCH_BAD_VALUE);
  CHECK_EQ(gch_weak_clear(kit.m, NULL), GCH_BAD_VALUE);
  CHECK(gch_ephemeron_key(kit.m, root[1]) == NULL && gch_ephemeron_value(kit.m, root[1]) == NULL);
  CHECK_EQ(gch_ephemeron_set(kit.m, root[1], NULL), GCH_BAD_VALUE);
  CHECK(gch_weak_new(kit.m, (gch_ref)(uintptr_t)4096) == NULL);
  CHECK(gch_ephemeron_new(kit.m, NULL, root[0]) == NULL);
  CHECK_EQ(gch_field_store(kit.m, root[1], CELL_TARGET, root[0]), GCH_BAD_VALUE); /* its words are its own */
  GCH_FRAME_END(kit.m);
}
static void by_hand(void) { each_kind(cleared_by_hand); }

static void small_stacks(uint64_t capacity) {
  for (int major = 0; major < 2; major++)
    for (uint32_t i = 0; i < kit.heap->marking[major]->count; i++)
      kit.heap->marking[major]->markers[i].capacity = capacity;
}

/* Many cells and few objects, one in ten of which stays. */
static void many(bool concurrent) {
  enum { COUNT = 40000 };
  GCH_FRAME(kit.m, root, 3);
  small_stacks(1024);
  root[0] = kit_refs(&kit, COUNT);
  root[1] = kit_refs(&kit, COUNT);
  for (uint64_t i = 0; i < COUNT; i++) {
    root[2] = kit_node(&kit, i);
    if (i % 10 == 0) kit_put(&kit, root[1], i, root[2]);
    gch_ref cell = gch_weak_new(kit.m, root[2]);
    if (!CHECK(cell != NULL)) break;
    kit_put(&kit, root[0], i, cell);
    if (i % 10000 == 9999) kit_minor(&kit, false);
  }
  root[2] = NULL;
  kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
  CHECK(kit.heap->marking[1]->markers[0].peak >= 1024 - 2 * FOUND); /* it was too small */
  for (uint64_t i = 0; i < COUNT; i++) {
    gch_ref o = gch_weak_get(kit.m, kit_at(root[0], i));
    if (!CHECK(o == kit_at(root[1], i)) || (o != NULL && !CHECK_EQ(*kit_number(o), i))) break;
  }
  GCH_FRAME_END(kit.m);
}
static void many_cells(void) { each_kind(many); }

/* Cells in blocks that are scanned again, because what arrays in them refer to did not fit a stack, stay weak. */
static void overflow(bool concurrent) {
  enum { ARRAYS = 16, COUNT = 1000 };
  small_stacks(700);
  for (int major = 0; major < 2; major++) {
    uint64_t cleared = at_load(&kit.heap->weak.cleared);
    GCH_FRAME(kit.m, root, 4);
    root[0] = kit_refs(&kit, ARRAYS);
    root[3] = kit_refs(&kit, 2 * ARRAYS);
    for (uint64_t i = 0; i < ARRAYS; i++) {
      root[1] = kit_refs(&kit, COUNT); /* small */
      kit_put(&kit, root[0], i, root[1]);
      root[2] = kit_node(&kit, i);
      root[2] = major ? gch_ephemeron_new(kit.m, root[2], root[0]) : weak_to(root[2]);
      kit_put(&kit, root[3], 2 * i, root[2]);
      root[2] = weak_to(root[1]);
      kit_put(&kit, root[3], 2 * i + 1, root[2]);
      for (uint64_t j = 0; j < COUNT; j++) kit_put_node(&kit, &root[1], j, j);
    }
    root[1] = root[2] = NULL;
    if (major)
      kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
    else
      kit_minor(&kit, true);
    CHECK_EQ(at_load(&kit.heap->weak.cleared) - cleared, ARRAYS); /* some by minors while they were made */
    for (uint64_t i = 0; i < ARRAYS; i++) {
      gch_ref cell = kit_at(root[3], 2 * i);
      CHECK((major ? gch_ephemeron_key(kit.m, cell) : gch_weak_get(kit.m, cell)) == NULL);
      CHECK(gch_weak_get(kit.m, kit_at(root[3], 2 * i + 1)) == kit_at(root[0], i));
    }
    GCH_FRAME_END(kit.m);
  }
}
static void in_blocks_scanned_again(void) { each_kind(overflow); }

/* What refers to nothing that moves is not read: a weak reference is a reference to who asks that. */
static void summaries(bool concurrent) {
  enum { COUNT = 120000 };
  gch_config c = kit_config(kit.heap->mover->id, 256, 1024);
  kit_close(&kit);
  c.summaries = GCH_SUMMARIES_ON;
  if (!kit_open(&kit, &c)) return;
  GCH_FRAME(kit.m, root, 4);
  root[0] = kit_refs(&kit, COUNT);
  root[1] = kit_refs(&kit, COUNT);
  for (uint64_t i = 0; i < COUNT; i++) kit_put_node(&kit, &root[0], i, i);
  kit_minor(&kit, true);
  for (uint64_t i = 0; i < COUNT; i++) { /* arenas of their own, which refer to the nodes and to nothing else */
    gch_ref cell =
        i < COUNT / 2 ? weak_to(kit_at(root[0], i)) : gch_ephemeron_new(kit.m, kit_at(root[0], i), kit_at(root[0], i));
    kit_put(&kit, root[1], i, cell);
  }
  kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
  for (uint64_t i = 0; i < COUNT; i++)
    if (i % 8 > 1) kit_put(&kit, root[0], i, NULL);
  gch_cycle r = kit_major(&kit, GCH_POLICY_NEEDED, concurrent, true);
  CHECK(r.blocks_evacuated > 0);
  for (uint64_t i = 0; i < COUNT; i++) {
    gch_ref cell = kit_at(root[1], i), node = kit_at(root[0], i);
    if (!CHECK((i < COUNT / 2 ? gch_weak_get(kit.m, cell) : gch_ephemeron_key(kit.m, cell)) == node)) break;
    if (i >= COUNT / 2 && !CHECK(gch_ephemeron_value(kit.m, cell) == node)) break;
  }
  GCH_FRAME_END(kit.m);
}
static void summaries_know_them(void) { each_kind(summaries); }

/* --- ephemerons ------------------------------------------------------------------------------------------------- */

static void values(bool concurrent) {
  GCH_FRAME(kit.m, root, 6);
  root[0] = kit_node(&kit, 1);
  root[3] = kit_node(&kit, 2);
  root[2] = gch_ephemeron_new(kit.m, root[0], root[3]); /* key stays */
  root[1] = kit_node(&kit, 3);
  root[3] = kit_node(&kit, 4);
  root[4] = gch_ephemeron_new(kit.m, root[1], root[3]); /* key goes */
  root[1] = kit_node(&kit, 5);
  root[3] = kit_node(&kit, 6);
  gch_set(kit.m, root[3], KIT_A, root[1]);
  root[5] = gch_ephemeron_new(kit.m, root[1], root[3]); /* key reachable from its own value only */
  root[1] = root[3] = NULL;
  CHECK_EQ(kit_minor(&kit, true).weak_cleared, 0); /* for minors they are strong */
  CHECK_EQ(*kit_number(gch_ephemeron_key(kit.m, root[5])), 5);
  gch_cycle r = kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
  CHECK_EQ(r.weak_cleared, 2);
  CHECK_EQ(r.live_objects, 5); /* key, value, three cells */
  CHECK(gch_ephemeron_key(kit.m, root[2]) == root[0]);
  CHECK_EQ(*kit_number(gch_ephemeron_value(kit.m, root[2])), 2);
  CHECK(gch_ephemeron_key(kit.m, root[4]) == NULL && gch_ephemeron_value(kit.m, root[4]) == NULL);
  CHECK(gch_ephemeron_key(kit.m, root[5]) == NULL && gch_ephemeron_value(kit.m, root[5]) == NULL);
  root[3] = kit_node(&kit, 9);
  CHECK_EQ(gch_ephemeron_set(kit.m, root[2], root[3]), GCH_OK);
  CHECK_EQ(gch_ephemeron_set(kit.m, root[4], root[3]), GCH_OK); /* cleared: stays so */
  root[3] = NULL;
  kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
  CHECK_EQ(*kit_number(gch_ephemeron_value(kit.m, root[2])), 9);
  CHECK(gch_ephemeron_value(kit.m, root[4]) == NULL);
  root[0] = NULL;
  CHECK_EQ(kit_major(&kit, GCH_POLICY_ALL, concurrent, true).live_objects, 3);
  GCH_FRAME_END(kit.m);
}
static void values_live_by_keys(void) { each_kind(values); }

static void chains(bool concurrent) {
  static const uint64_t steps[] = {1, 1999, 1201}; /* in order, in reverse, in neither */
  GCH_FRAME(kit.m, root, 2);
  for (int i = 0; i < 3; i++) {
    make_ephemerons(&root[0], &root[1], CHAIN, steps[i]);
    gch_cycle r = kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
    CHECK_EQ(r.weak_cleared, 0);
    CHECK_EQ(r.live_objects, 2 * CHAIN + 2);
    gch_ref key = root[1];
    for (uint64_t j = 0; j < CHAIN; j++) {
      gch_ref e = kit_at(root[0], j * steps[i] % CHAIN);
      if (!CHECK(gch_ephemeron_key(kit.m, e) == key && *kit_number(key) == j)) break;
      key = gch_ephemeron_value(kit.m, e);
    }
    root[1] = NULL; /* the first key goes, so all do */
    r = kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
    CHECK_EQ(r.weak_cleared, CHAIN);
    CHECK_EQ(r.live_objects, CHAIN + 1);
  }
  GCH_FRAME_END(kit.m);
}
static void chains_of_ephemerons(void) { each_kind(chains); }

/* The verifier sees a cell that was left in a list. */
static void lists_left_over(void) {
  gch_error error = {0};
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 1);
  root[0] = weak_to(NULL);
  *cell_word((uintptr_t)root[0], CELL_LINK) = 1;
  CHECK_EQ(gch_verify(kit.m, &error), GCH_CORRUPT);
  CHECK(strstr(error.message, "list") != NULL);
  *cell_word((uintptr_t)root[0], CELL_LINK) = 0;
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

int main(void) {
  kit_watchdog(60);
  RUN(majors_clear);
  RUN(minors_clear);
  RUN(by_hand);
  RUN(many_cells);
  RUN(in_blocks_scanned_again);
  RUN(summaries_know_them);
  RUN(values_live_by_keys);
  RUN(chains_of_ephemerons);
  if (!kit_available(GCH_MOVER_MOVE)) return CHECK_SUMMARY();
  RUN(old_cells_of_young_objects);
  RUN(lists_left_over);
  return CHECK_SUMMARY();
}
