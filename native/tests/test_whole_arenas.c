/* Arenas that relocate whole in the pause: where one goes, nothing else does, whatever is free there. */
#include "gc/evacuate.h"
#include "huge.h"

enum { OLD = 15000, NEW = 5200, HOLE_BLOCKS = 4 };

static size_t arena_at(const struct kit *k, gch_ref o) { return arena_index(&k->heap->layout, (uintptr_t)o); }

/* Drops those objects of the table whose `drops` says so; returns how many are left. */
static uint64_t drop_if(struct kit *k, gch_ref table, uint64_t count, bool (*drops)(uintptr_t object, size_t arena),
                        size_t arena) {
  uint64_t left = 0;
  for (uint64_t i = 0; i < count; i++) {
    gch_ref o = kit_at(table, i);
    if (o == NULL) continue;
    if (drops((uintptr_t)o, arena_at(k, o) - arena))
      kit_put(k, table, i, NULL);
    else
      left++;
  }
  return left;
}

static bool in_first(uintptr_t object, size_t arena) {
  (void)object;
  return arena == 0;
}

/* The first arena keeps holes of whole blocks, the others are sparse. */
static bool in_holes(uintptr_t object, size_t arena) {
  size_t block = object / BLOCK_BYTES % ARENA_BLOCKS;
  return arena == 0 ? block >= 8 && block < 8 + HOLE_BLOCKS : object / 1024 % 10 != 0;
}

static size_t first_arena(const struct kit *k, gch_ref table, uint64_t count) {
  size_t first = SIZE_MAX;
  for (uint64_t i = 0; i < count; i++)
    if (kit_at(table, i) != NULL && arena_at(k, kit_at(table, i)) < first) first = arena_at(k, kit_at(table, i));
  return first;
}

static bool check_left(gch_ref table, uint64_t count, uint64_t number, uint64_t left) {
  for (uint64_t i = 0; i < count; i++) {
    gch_ref o = kit_at(table, i);
    if (o == NULL) continue;
    left--;
    if (!CHECK_EQ(*kit_number(o), number + i)) return false;
  }
  return CHECK_EQ(left, 0);
}

/* An arena in which all has died since the last cycle, when it stayed, is where one goes that has free blocks; there is
 * more to be evacuated, for which these holes would do. */
static void holes_are_taken(gch_mover mover) {
  struct kit k;
  if (!kit_available(mover) || !open_huge(&k, mover, GCH_FAULT_THREAD, GCH_HUGE_LATENCY)) return;
  const struct layout *l = &k.heap->layout;
  GCH_FRAME(k.m, root, 2);
  fill(&k, &root[0], OLD, 0);
  kit_major(&k, GCH_POLICY_ALL, false, true);
  kit_major(&k, GCH_POLICY_NEEDED, false, true);
  size_t emptied = first_arena(&k, root[0], OLD);
  uint64_t old = drop_if(&k, root[0], OLD, in_first, emptied);
  fill(&k, &root[1], NEW, OLD);
  kit_minor(&k, true);
  size_t dense = first_arena(&k, root[1], NEW);
  CHECK(layout_region(l, arena_address(l, dense)) != layout_region(l, arena_address(l, emptied)));
  uint64_t new = drop_if(&k, root[1], NEW, in_holes, dense);
  kit_major(&k, GCH_POLICY_NEEDED, false, true);
  CHECK(k.heap->plan->source_count > 0);
  CHECK_EQ(first_arena(&k, root[1], NEW), emptied); /* it is where the dense one went */
  kit_verify(&k);
  check_left(root[0], OLD, 0, old);
  check_left(root[1], NEW, OLD, new);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void by_move(void) { holes_are_taken(GCH_MOVER_MOVE); }
static void by_copy(void) { holes_are_taken(GCH_MOVER_COPY); }
static void by_memcpy(void) { holes_are_taken(GCH_MOVER_MEMCPY); }

int main(void) {
  if (!huge_available("test_whole_arenas")) return CHECK_SUMMARY();
  RUN(by_move);
  RUN(by_copy);
  RUN(by_memcpy);
  return CHECK_SUMMARY();
}
