/* Weak references and ephemerons: what they keep alive, what clears them, and what a program is told of them at each moment of
 * a collection. Markers, and who judges, are held where the program could be told something wrong. */
#include "gc/weak.h"

#include "gc/mark_internal.h"
#include "hold.h"
#include "mover/mover.h"

enum { CHAIN = 2000 };
static struct kit kit;

static bool open_as(gch_mover mover, uint64_t max_mib) {
  gch_config c = kit_config(mover, max_mib, 512);
  c.gc_threads = 2;
  return kit_open(&kit, &c);
}

/* Each mover that works here, in the pause and (if it can) beside the program. */
static void each_kind(void (*body)(bool concurrent)) {
  for (size_t i = 0; i < 2 * KIT_MOVER_COUNT; i++) {
    gch_mover mover = KIT_MOVERS[i / 2];
    if (!kit_available(mover) || !open_as(mover, 64)) continue;
    if (i % 2 == 0 || kit.heap->mover->concurrent) body(i % 2);
    kit_verify(&kit);
    kit_close(&kit);
  }
}

/* Fills what is free with something else, old and young: what was lost would be seen. */
static void use_again(void) {
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 40000; i++)
      if (!CHECK(kit_node(&kit, 0xdeaddeaddeaddeadu) != NULL)) return;
    kit_minor(&kit, true);
  }
}

static void end(struct kit_request *request) {
  hold_off(&kit, request);
  CHECK_EQ(kit.heap->measures.last_major.degraded, 0);
  use_again();
  kit_verify(&kit);
}

static void make_chain(gch_ref *root, uint64_t first, uint64_t count) {
  *root = NULL;
  for (uint64_t i = count; i-- > 0;) {
    gch_ref node = kit_node(&kit, first + i);
    gch_set(kit.m, node, KIT_A, *root);
    *root = node;
  }
}

static void check_chain(gch_ref node, uint64_t first, uint64_t count) {
  uint64_t i = 0;
  for (; node != NULL && i < count; node = gch_load(node, KIT_A), i++)
    if (!CHECK_EQ(*kit_number(node), first + i)) return;
  CHECK(node == NULL);
  CHECK_EQ(i, count);
}

static gch_ref weak_to(gch_ref o) {
  gch_ref weak = gch_weak_new(kit.m, o);
  CHECK(weak != NULL);
  return weak;
}

/* What the cell holds, whatever a program is told of it. */
static uint64_t raw(gch_ref cell) { return at_load(cell_word((uintptr_t)cell, CELL_TARGET)); }

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

/* Ephemerons in an array (in this order or another), each of which leads to the key of the next in the chain. */
static void make_ephemerons(gch_ref *array, gch_ref *first, uint64_t count, uint64_t step) {
  GCH_FRAME(kit.m, root, 2);
  *array = kit_refs(&kit, count);
  *first = root[0] = kit_node(&kit, 0);
  for (uint64_t i = 0; i < count; i++) {
    root[1] = kit_node(&kit, i + 1);
    gch_ref e = gch_ephemeron_new(kit.m, root[0], root[1]);
    kit_put(&kit, *array, i * step % count, e);
    root[0] = root[1];
  }
  GCH_FRAME_END(kit.m);
}

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

/* --- beside the program ------------------------------------------------------------------------------------------- */

/* In root[0] a weak reference to a chain that nothing else refers to any more; all old. */
static void weak_chain(gch_ref *root, gch_ref *spare) {
  make_chain(spare, 10, CHAIN);
  *root = weak_to(*spare);
  kit_minor(&kit, true);
  *spare = NULL;
}

/* What is read while it is marked is reachable from then on. */
static void read_while_marking(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 3);
  weak_chain(&root[0], &root[1]);
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[1] = gch_weak_get(kit.m, root[0]);
  CHECK(root[1] != NULL);
  end(&request);
  check_chain(root[1], 10, CHAIN);
  CHECK(gch_weak_get(kit.m, root[0]) == root[1]);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* A handle that is made of what was read, and nothing else. */
static void handle_while_marking(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 3);
  weak_chain(&root[0], &root[1]);
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  gch_handle handle = gch_handle_new(kit.m, gch_weak_get(kit.m, root[0]));
  end(&request);
  CHECK_EQ(gch_handle_get(kit.m, handle, &root[1]), GCH_OK);
  check_chain(root[1], 10, CHAIN);
  gch_handle_free(kit.heap, handle);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* Between the remark and the clearing the cell still holds the address of what is dead; nobody is told. */
static void read_while_judged(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 4);
  weak_chain(&root[0], &root[1]);
  root[2] = kit_node(&kit, 5);
  root[3] = weak_to(root[2]);
  hold_before(&kit, &request, GCH_POLICY_ALL, "judging");
  CHECK_EQ(at_load(&kit.heap->weak.judging), 1);
  CHECK(raw(root[0]) != 0);
  CHECK(gch_weak_get(kit.m, root[0]) == NULL);
  CHECK(gch_weak_get(kit.m, root[3]) == root[2]); /* what lives is there all the time */
  root[1] = kit_node(&kit, 6);
  gch_ref fresh = weak_to(root[1]); /* born now */
  CHECK(gch_weak_get(kit.m, fresh) == root[1]);
  kit_minor(&kit, false); /* minors leave lists alone */
  kit_minor(&kit, true);
  CHECK(raw(root[0]) != 0 && gch_weak_get(kit.m, root[0]) == NULL);
  CHECK_EQ(gch_weak_clear(kit.m, root[0]), GCH_OK); /* one that is listed */
  end(&request);
  CHECK_EQ(at_load(&kit.heap->weak.judging), 0);
  CHECK(raw(root[0]) == 0 && gch_weak_get(kit.m, root[0]) == NULL);
  CHECK(gch_weak_get(kit.m, root[3]) == root[2]);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static void read_when_cleared(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 2);
  weak_chain(&root[0], &root[1]);
  hold_before(&kit, &request, GCH_POLICY_ALL, "cells_cleared");
  CHECK_EQ(at_load(&kit.heap->weak.judging), 0);
  CHECK(raw(root[0]) == 0 && gch_weak_get(kit.m, root[0]) == NULL);
  end(&request);
  CHECK_EQ(kit.heap->measures.last_major.weak_cleared, 1);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* The value of an ephemeron whose key nobody has, read while it is marked, stays, though the ephemeron does not. */
static void value_while_marking(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 3);
  make_chain(&root[1], 10, CHAIN);
  root[2] = kit_node(&kit, 1);
  root[0] = gch_ephemeron_new(kit.m, root[2], root[1]);
  kit_minor(&kit, true);
  root[1] = root[2] = NULL;
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[1] = gch_ephemeron_value(kit.m, root[0]);
  end(&request);
  check_chain(root[1], 10, CHAIN);
  CHECK(gch_ephemeron_key(kit.m, root[0]) == NULL && gch_ephemeron_value(kit.m, root[0]) == NULL);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* A key that is read while it is marked saves the value; it is marked by the remark alone, so ephemerons are looked at again. */
static void key_while_marking(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 4);
  make_ephemerons(&root[0], &root[1], CHAIN, CHAIN - 1);
  root[2] = weak_to(root[1]);
  kit_minor(&kit, true);
  root[1] = NULL;
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[1] = gch_weak_get(kit.m, root[2]);
  end(&request);
  CHECK_EQ(kit.heap->measures.last_major.weak_cleared, 0);
  for (uint64_t j = 0; j < CHAIN; j++)
    if (!CHECK_EQ(*kit_number(gch_ephemeron_value(kit.m, kit_at(root[0], j * (CHAIN - 1) % CHAIN))), j + 1)) break;
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* While it is judged, neither key nor value of what is about to be cleared is had, nor is it changed. */
static void ephemeron_while_judged(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 4);
  make_chain(&root[1], 10, CHAIN);
  root[2] = kit_node(&kit, 1);
  root[0] = gch_ephemeron_new(kit.m, root[2], root[1]);
  root[3] = gch_ephemeron_new(kit.m, root[0], root[1]);
  gch_ephemeron_set(kit.m, root[3], root[0]);
  kit_minor(&kit, true);
  root[1] = root[2] = NULL;
  hold_before(&kit, &request, GCH_POLICY_ALL, "judging");
  CHECK(raw(root[0]) != 0);
  CHECK(gch_ephemeron_key(kit.m, root[0]) == NULL && gch_ephemeron_value(kit.m, root[0]) == NULL);
  CHECK(gch_ephemeron_key(kit.m, root[3]) == root[0] && gch_ephemeron_value(kit.m, root[3]) == root[0]);
  CHECK_EQ(gch_ephemeron_set(kit.m, root[0], root[3]), GCH_OK);
  end(&request);
  CHECK(gch_ephemeron_value(kit.m, root[0]) == NULL && raw(root[0]) == 0);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* What an ephemeron gets while it is marked, before and after its key is, stays; and so does what it had, if it was read. */
static void set_while_marking(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 4);
  root[0] = kit_node(&kit, 1);
  make_chain(&root[1], 10, CHAIN);
  root[2] = gch_ephemeron_new(kit.m, root[0], root[1]);
  kit_minor(&kit, true);
  root[1] = NULL;
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[1] = gch_ephemeron_value(kit.m, root[2]);
  make_chain(&root[3], 90, CHAIN);
  CHECK_EQ(gch_ephemeron_set(kit.m, root[2], root[3]), GCH_OK);
  root[3] = NULL;
  kit_minor(&kit, true);
  end(&request);
  check_chain(root[1], 10, CHAIN);
  check_chain(gch_ephemeron_value(kit.m, root[2]), 90, CHAIN);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* Cells that are born while it is marked, and promoted, are not looked at, and need not be. */
static void born_while_marking(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 5);
  make_chain(&root[0], 10, CHAIN);
  root[3] = kit_node(&kit, 4);
  kit_minor(&kit, true);
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[1] = weak_to(root[0]); /* young, of an old one */
  root[2] = kit_node(&kit, 3);
  root[2] = weak_to(root[2]); /* young, of a young one that goes */
  root[4] = gch_ephemeron_new(kit.m, root[3], root[0]);
  kit_minor(&kit, true);
  CHECK(gch_weak_get(kit.m, root[2]) == NULL);
  root[0] = NULL;
  end(&request);
  check_chain(gch_weak_get(kit.m, root[1]), 10, CHAIN); /* for this cycle */
  check_chain(gch_ephemeron_value(kit.m, root[4]), 10, CHAIN);
  root[3] = NULL;
  kit_major(&kit, GCH_POLICY_ALL, true, true);
  CHECK(gch_weak_get(kit.m, root[1]) == NULL && gch_ephemeron_value(kit.m, root[4]) == NULL);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* There is no buffer for the log: who reads marks. */
static void read_without_buffers(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  kit.heap->snapshot.capacity = 0;
  GCH_FRAME(kit.m, root, 2);
  weak_chain(&root[0], &root[1]);
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[1] = gch_weak_get(kit.m, root[0]);
  end(&request);
  check_chain(root[1], 10, CHAIN);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* Programs that read and drop what caches of weak references hold, beside majors that begin one after the other: what is read is
 * always whole. */
static void caches(gch_mover mover) {
  enum { SLOTS = 4000 };
  struct kit_request request;
  if (!kit_available(mover) || !open_as(mover, 64)) return;
  GCH_FRAME(kit.m, root, 3);
  root[0] = kit_refs(&kit, SLOTS);
  uint64_t random = 1, hits = 0, misses = 0;
  for (int round = 0; round < 6; round++) {
    kit_begin(&kit, &request, round % 2 ? GCH_POLICY_ALL : GCH_POLICY_NEEDED);
    for (uint64_t n = 0; n < kit_scaled(300000, 10); n++) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      uint64_t i = (random >> 33) % SLOTS;
      gch_ref cell = kit_at(root[0], i), o = cell == NULL ? NULL : gch_weak_get(kit.m, cell);
      hits += o != NULL;
      misses += cell != NULL && o == NULL;
      if (o == NULL) {
        root[1] = kit_node(&kit, i);
        o = kit_node(&kit, i + 1);
        gch_set(kit.m, root[1], KIT_A, o);
        o = weak_to(root[1]);
        kit_put(&kit, root[0], i, o);
        o = root[1];
      }
      gch_ref next = gch_load(o, KIT_A);
      if (!CHECK(*kit_number(o) == i && next != NULL && *kit_number(next) == i + 1)) break;
      if (n % 64 == 0) root[2] = o;
      gch_safepoint(kit.m);
    }
    kit_end(&kit, &request);
  }
  CHECK(hits > 0 && misses > 0);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void caches_beside_majors(void) {
  for (int i = 0; i < 3; i++) caches(KIT_MOVERS[i]);
}

/* Majors begin by themselves, and flip or not, as they find it worth: caches do not grow, and what they hold is whole. */
static void majors_by_themselves(void) {
  enum { SLOTS = 20000 };
  for (int i = 0; i < 3; i++) {
    if (!kit_available(KIT_MOVERS[i]) || !open_as(KIT_MOVERS[i], KIT_SANITIZED ? 32 : 128)) continue;
    GCH_FRAME(kit.m, root, 3);
    root[0] = kit_refs(&kit, SLOTS);
    root[1] = kit_refs(&kit, SLOTS);
    uint64_t random = 1, finalized = 0;
    for (uint64_t n = 0; n < kit_scaled(1000000, 4); n++) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      uint64_t at = (random >> 33) % SLOTS;
      root[2] = random >> 60 == 0 ? kit_refs(&kit, 600) : kit_node(&kit, n);
      if (!CHECK(root[2] != NULL)) break;
      if (n % 4 == 0) kit_put(&kit, root[1], at, root[2]);
      if (n % 16 == 0) CHECK_EQ(gch_finalize(kit.m, root[2], n), GCH_OK);
      gch_ref cell = weak_to(root[2]);
      kit_put(&kit, root[0], at, cell);
      gch_ref other = kit_at(root[0], (at + 1) % SLOTS), o = other == NULL ? NULL : gch_weak_get(kit.m, other);
      uint64_t token;
      if (o != NULL) CHECK(gch_type_of(kit.heap, o) == kit.node || gch_length(kit.heap, o) == 600);
      if (gch_finalizer_next(kit.m, &o, &token))
        finalized += gch_type_of(kit.heap, o) != kit.node || CHECK_EQ(*kit_number(o), token);
    }
    gch_collect_wait(kit.m, NULL);
    gch_stats s;
    gch_stats_get(kit.heap, &s, sizeof s);
    CHECK(s.major_count > 0);
    CHECK(at_load(&kit.heap->weak.cleared) > 0 && finalized > 0);
    kit_verify(&kit);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

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
  RUN(read_while_marking);
  RUN(handle_while_marking);
  RUN(read_while_judged);
  RUN(read_when_cleared);
  RUN(value_while_marking);
  RUN(key_while_marking);
  RUN(ephemeron_while_judged);
  RUN(set_while_marking);
  RUN(born_while_marking);
  RUN(read_without_buffers);
  RUN(caches_beside_majors);
  RUN(majors_by_themselves);
  RUN(lists_left_over);
  return CHECK_SUMMARY();
}
