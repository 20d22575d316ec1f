/* Minor collections: ageing, both levels of cards, references from old to young, dense arenas promoted by their pages,
 * pinned young blocks, lack of memory. */
#include "gc/minor.h"

#include "gc/mark_internal.h"
#include "kit.h"

static struct kit kit;

static bool is_young(gch_ref o) { return heap_is_young(kit.heap, (uintptr_t)o); }
static uint32_t age(gch_ref o) { return heap_block(kit.heap, (uintptr_t)o)->age; }

static bool open_with(gch_mover mover, gch_huge huge, uint32_t promote_age, uint64_t nursery_kib) {
  gch_config c = kit_config(mover, 128, nursery_kib);
  c.huge = huge;
  c.promote_age = promote_age;
  return kit_open(&kit, &c);
}

/* An object stays young for so many minors as asked for, counting them in its block's age; both kinds. */
static void ageing(void) {
  for (uint32_t promote = 1; promote <= 7; promote++) {
    if (!open_with(GCH_MOVER_MEMCPY, GCH_HUGE_OFF, promote, 1024)) return;
    GCH_FRAME(kit.m, root, 2);
    root[0] = kit_node(&kit, 1), root[1] = kit_bytes(&kit, 100);
    for (uint32_t i = 0; i < promote; i++) {
      CHECK(is_young(root[0]) && is_young(root[1]));
      CHECK_EQ(age(root[0]), i);
      CHECK_EQ(age(root[1]), i);
      gch_ref was = root[0];
      kit_minor(&kit, false);
      CHECK(root[0] != was); /* copied each time */
      kit_verify(&kit);
    }
    CHECK(is_young(root[0]) && is_young(root[1]));
    kit_minor(&kit, false);
    CHECK(!is_young(root[0]) && !is_young(root[1]));
    gch_ref was = root[0];
    kit_minor(&kit, false);
    CHECK(root[0] == was);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

static void promote_everything(void) {
  if (!open_with(GCH_MOVER_MEMCPY, GCH_HUGE_OFF, 7, 1024)) return;
  GCH_FRAME(kit.m, root, 1);
  root[0] = kit_node(&kit, 1);
  kit_minor(&kit, true);
  CHECK(!is_young(root[0]));
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static void the_dead_cost_nothing(void) {
  if (!open_with(GCH_MOVER_MEMCPY, GCH_HUGE_OFF, 1, 1024)) return;
  for (int i = 0; i < 15000; i++) kit_node(&kit, 1);
  gch_cycle r = kit_minor(&kit, false);
  CHECK(r.minor && r.live_objects == 0 && r.live_bytes == 0 && r.bytes_copied == 0);
  CHECK_EQ(r.heap_bytes_after, 0);
  kit_close(&kit);
}

/* --- cards ---------------------------------------------------------------------------------------------------- */

static uint32_t dirty_cards(void) {
  const gch_heap *h = kit.heap;
  uint32_t dirty = 0;
  for (size_t a = 0; a < layout_arena_count(&h->layout); a++) {
    uint32_t cards = 0;
    if (h->tables.dirty[a] == 0) continue; /* the first level says that there is nothing */
    for (size_t c = a * ARENA_CARDS; c < (a + 1) * ARENA_CARDS; c++) cards += h->tables.cards[c] != 0;
    dirty += cards;
  }
  return dirty;
}

/* Young objects that only one slot of an old object refers to, slot by slot through a large array and a small one. */
static void old_to_young(void) {
  if (!open_with(GCH_MOVER_MEMCPY, GCH_HUGE_OFF, 2, 1024)) return;
  GCH_FRAME(kit.m, root, 2);
  root[0] = kit_refs(&kit, 40000), root[1] = kit_refs(&kit, 900);
  kit_minor(&kit, true);
  kit_minor(&kit, true);
  CHECK_EQ(dirty_cards(), 0);
  for (uint64_t round = 0; round < 200; round++) {
    gch_ref *array = &root[round & 1];
    uint64_t i = round * 7919 % gch_length(kit.heap, *array);
    kit_put_node(&kit, array, i, round);
    CHECK_EQ(dirty_cards(), 1);
    for (int j = 0; j < 3; j++) { /* young, young, old: the card stays while it leads to a young object */
      CHECK_EQ(is_young(kit_at(*array, i)), j < 3);
      kit_minor(&kit, false);
      if (!CHECK_EQ(*kit_number(kit_at(*array, i)), round)) return;
      CHECK_EQ(dirty_cards(), j < 2);
    }
    CHECK(!is_young(kit_at(*array, i)));
  }
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* More slots lead to young objects than markers list for the move (gc/marker.c): the rest is found under its cards again. */
static void more_than_is_listed(void) {
  enum { COUNT = 30000 };
  for (uint32_t threads = 1; threads <= 2; threads++) {
    gch_config c = kit_config(GCH_MOVER_MEMCPY, 128, 4096);
    c.promote_age = 2;
    c.gc_threads = threads;
    if (!kit_open(&kit, &c)) return;
    GCH_FRAME(kit.m, root, 1);
    root[0] = kit_refs(&kit, COUNT);
    CHECK(COUNT > threads * LISTED);
    for (uint64_t i = 0; i < COUNT; i++) kit_put_node(&kit, &root[0], i, i);
    for (int j = 0; j < 4; j++) {
      CHECK_EQ(is_young(kit_at(root[0], COUNT - 1)), j < 3);
      CHECK_EQ(dirty_cards() >= COUNT * 8 / CARD_BYTES, j < 3);
      kit_minor(&kit, false);
      for (uint64_t i = 0; i < COUNT; i++)
        if (!CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) return;
      kit_verify(&kit);
    }
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

/* Only the slot whose card is dirty keeps its object; a store that was overwritten keeps nothing. */
static void overwritten(void) {
  if (!open_with(GCH_MOVER_MEMCPY, GCH_HUGE_OFF, 1, 1024)) return;
  GCH_FRAME(kit.m, root, 1);
  root[0] = kit_refs(&kit, 5000);
  kit_put_node(&kit, &root[0], 100, 1);
  kit_put(&kit, root[0], 100, NULL);
  kit_put_node(&kit, &root[0], 200, 2);
  gch_cycle r = kit_minor(&kit, false);
  CHECK_EQ(r.live_objects, 1);
  CHECK_EQ(*kit_number(kit_at(root[0], 200)), 2);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* An object that straddles cards: a store into its last slots is found although it starts in a clean card. */
static void straddling_cards(void) {
  if (!open_with(GCH_MOVER_MEMCPY, GCH_HUGE_OFF, 1, 1024)) return;
  GCH_FRAME(kit.m, root, 12);
  for (int i = 0; i < 12; i++) root[i] = kit_refs(&kit, 1000 - (uint64_t)i * 70);
  kit_minor(&kit, true);
  for (uint64_t slot = 0; slot < 230; slot++) {
    for (int i = 0; i < 12; i++) kit_put_node(&kit, &root[i], slot, slot * 100 + (uint64_t)i);
    kit_minor(&kit, true);
    for (int i = 0; i < 12; i++)
      if (!CHECK_EQ(*kit_number(kit_at(root[i], slot)), slot * 100 + (uint64_t)i)) return;
  }
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* --- arenas by their pages ------------------------------------------------------------------------------------ */

static void dense_arenas(gch_huge huge) {
  if (!kit_available(GCH_MOVER_MOVE)) SKIP("move", "not available here");
  if (!open_with(GCH_MOVER_MOVE, huge, 1, 16 * 1024)) return;
  GCH_FRAME(kit.m, root, 2);
  const uint64_t count = 90000;
  root[0] = kit_refs(&kit, count), root[1] = kit_refs(&kit, count);
  for (uint64_t i = 0; i < count; i++) {
    kit_put_node(&kit, &root[0], i, i);
    if (i > 0) gch_set(kit.m, kit_at(root[0], i), KIT_B, kit_at(root[0], i - 1));
    gch_ref bytes = kit_bytes(&kit, 40);
    *kit_number(bytes) = i;
    kit_put(&kit, root[1], i, bytes);
  }
  gch_cycle r = kit_minor(&kit, true);
  CHECK(r.arenas_moved >= 3); /* of 4 MiB nodes and 5 MiB bytes */
  CHECK_EQ(r.pages_moved, r.arenas_moved * (ARENA_BYTES / kit.heap->layout.page_bytes));
  CHECK(r.bytes_copied < 6 << 20);
  for (uint64_t i = 0; i < count; i++) {
    gch_ref o = kit_at(root[0], i);
    if (!CHECK(*kit_number(o) == i && !is_young(o) && *kit_number(kit_at(root[1], i)) == i)) break;
    if (i > 0 && !CHECK(gch_load(o, KIT_B) == kit_at(root[0], i - 1))) break;
  }
  kit_verify(&kit);
  for (int i = 0; i < 100000; i++) kit_node(&kit, 1); /* their young memory is populated again, and zero */
  kit_major(&kit, GCH_POLICY_NEEDED, false, true);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static void dense_arenas_of_small_pages(void) { dense_arenas(GCH_HUGE_OFF); }
static void dense_arenas_of_huge_pages(void) { dense_arenas(GCH_HUGE_ON); }

/* --- what stays where it is ----------------------------------------------------------------------------------- */

static void pinned_young_blocks(void) {
  if (!open_with(GCH_MOVER_MEMCPY, GCH_HUGE_OFF, 1, 1024)) return;
  GCH_FRAME(kit.m, root, 3);
  root[0] = kit_bytes(&kit, 100), root[1] = kit_node(&kit, 2), root[2] = kit_node(&kit, 3);
  gch_ref bytes = root[0], node = root[1];
  gch_pin(kit.m, bytes, NULL), gch_pin(kit.m, node, NULL);
  gch_ref child = kit_node(&kit, 4);
  gch_set(kit.m, root[1], KIT_A, child);
  for (int i = 0; i < 3; i++) {
    kit_minor(&kit, false);
    kit_verify(&kit);
    CHECK(root[0] == bytes && root[1] == node);
    CHECK(heap_in_young(kit.heap, (uintptr_t)node) && !is_young(node)); /* old where it stands */
    CHECK_EQ(*kit_number(gch_load(root[1], KIT_A)), 4);
    gch_ref next = kit_node(&kit, 4); /* a young object that only it refers to: its cards count */
    gch_set(kit.m, root[1], KIT_A, next);
  }
  gch_unpin(kit.heap, bytes), gch_unpin(kit.heap, node);
  kit_major(&kit, GCH_POLICY_NEEDED, false, true); /* moves it out; the block is young again */
  kit_verify(&kit);
  CHECK(!heap_in_young(kit.heap, (uintptr_t)root[1]));
  CHECK_EQ(heap_block(kit.heap, (uintptr_t)node)->state, BLOCK_FREE);
  CHECK_EQ(*kit_number(root[2]), 3);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* No memory for any destination: everything is kept, nothing is lost, and it moves when there is memory. */
static void without_memory(void) {
  for (uint32_t promote = 1; promote <= 2; promote++) {
    if (!open_with(GCH_MOVER_MEMCPY, GCH_HUGE_OFF, promote, 1024)) return;
    GCH_FRAME(kit.m, root, 1);
    root[0] = kit_refs(&kit, 5000);
    for (uint64_t i = 0; i < 5000; i++) kit_put_node(&kit, &root[0], i, i);
    gch_inject(kit.heap, "populate:ENOMEM", NULL);
    for (int i = 0; i < 4; i++) {
      kit_minor(&kit, i & 1);
      kit_verify(&kit);
      for (uint64_t j = 0; j < 5000; j++)
        if (!CHECK_EQ(*kit_number(kit_at(root[0], j)), j)) return;
    }
    gch_inject(kit.heap, "", NULL);
    kit_major(&kit, GCH_POLICY_NEEDED, false, true);
    for (uint64_t j = 0; j < 5000; j++)
      if (!CHECK(!heap_in_young(kit.heap, (uintptr_t)kit_at(root[0], j)) && *kit_number(kit_at(root[0], j)) == j))
        return;
    kit_verify(&kit);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

int main(void) {
  kit_watchdog(60);
  RUN(ageing);
  RUN(promote_everything);
  RUN(the_dead_cost_nothing);
  RUN(old_to_young);
  RUN(more_than_is_listed);
  RUN(overwritten);
  RUN(straddling_cards);
  RUN(dense_arenas_of_small_pages);
  RUN(dense_arenas_of_huge_pages);
  RUN(pinned_young_blocks);
  RUN(without_memory);
  return CHECK_SUMMARY();
}
