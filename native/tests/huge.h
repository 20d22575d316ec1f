/* What the tests of huge arenas share: a heap of them, and dense objects that fill some. */
#ifndef TESTS_HUGE_H
#define TESTS_HUGE_H

#include "heap/small.h"
#include "hold.h"
#include "os/pages.h"

static inline bool huge_available(const char *test) {
  if (!kit_available(GCH_MOVER_MOVE)) {
    printf("  SKIP %s: move: not available here\n", test);
    return false;
  }
  if (pages_thp_policy() == PAGES_THP_NEVER) {
    printf("  SKIP %s: the kernel's huge pages are off\n", test);
    return false;
  }
  return true;
}

static inline bool open_huge(struct kit *k, gch_mover mover, gch_fault_mode faults, gch_huge_faults huge_faults) {
  gch_config c = kit_config(mover, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.fault_mode = faults;
  c.huge_faults = huge_faults;
  return kit_open(k, &c) && CHECK(k->heap->huge);
}

enum { DENSE = 27000, SLOTS = 100 }; /* ten arenas and a half, dense: they relocate whole */

static inline void fill(struct kit *k, gch_ref *table, uint64_t count, uint64_t number) {
  *table = kit_refs(k, count);
  for (uint64_t i = 0; i < count; i++) {
    gch_ref o = kit_refs(k, SLOTS);
    *kit_number(o) = number + i;
    kit_put(k, *table, i, o);
  }
}

static inline void check_filled(gch_ref table, uint64_t count, uint64_t number) {
  for (uint64_t i = 0; i < count; i++)
    if (!CHECK_EQ(*kit_number(kit_at(table, i)), number + i)) break;
}

#endif
