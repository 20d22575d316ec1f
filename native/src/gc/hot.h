/* Hot units: what programs touched before it had been made, in the last moves, is made first in the next.
 *
 * Faults note where they were; the order in which a program comes to its data is likely the order in which it will again.
 * A move begins with these places, each where it is now (objects move, and in a plan they do again), in the order of the
 * faults. What is made in time raises no fault, so whether it is hot still nobody knows: a place is kept for KEEP moves
 * since its last fault, and then has to prove itself again.
 *
 *   note     whoever answers a fault, signal handlers too: an atomic counter and a store
 *   turn     the flip's pause: what was noted is what the move begins with
 *   take     workers
 *
 * Making units in such an order empties sources in any order, so it ends when the staging budget is used up. */
#ifndef GC_HOT_H
#define GC_HOT_H

#include "gc/batch.h"

/* A program waited for the unit at `address`, or made it. */
static inline void hot_note(gch_heap *h, uintptr_t address, uint64_t age) {
  struct hot_places *p = &h->hot.places[at_load_relaxed(&h->hot.now)]; /* changes in the pause of a flip */
  uint64_t i = at_add_relaxed(&p->count, 1);
  if (i < HOT_MAX) at_store_relaxed(&p->at[i], (uint64_t)(address & ~(uintptr_t)(GRANULE_BYTES - 1)) | age);
}

/* The world is stopped. */
void hot_turn(gch_heap *heap);
/* In a move, after hot_turn, beside others: the next unit to be made, *block; false: there are no more. */
bool hot_take(gch_heap *heap, size_t *block);

#endif
