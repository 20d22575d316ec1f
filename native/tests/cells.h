/* Weak references and ephemerons for tests. */
#ifndef TESTS_CELLS_H
#define TESTS_CELLS_H

#include "chains.h"
#include "gc/weak.h"

static inline gch_ref weak_to(gch_ref o) {
  gch_ref weak = gch_weak_new(kit.m, o);
  CHECK(weak != NULL);
  return weak;
}

/* What the cell holds, whatever a program is told of it. */
static inline uint64_t raw(gch_ref cell) { return at_load(cell_word((uintptr_t)cell, CELL_TARGET)); }

/* Ephemerons in an array (in this order or another), each of which leads to the key of the next in the chain. */
static inline void make_ephemerons(gch_ref *array, gch_ref *first, uint64_t count, uint64_t step) {
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

#endif
