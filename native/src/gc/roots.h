/* Roots: every word outside the heap that holds a reference, and the pin table.
 *
 * The closed list that a pause visits: mutators' frames, handles, static slots, what the embedder enumerates, the queue of
 * finalizers (their table, which is no root, is forwarded by itself: gc/finalize.h); and what lives and stays without a slot of
 * ours: pinned objects, those of ambiguous roots (gc/ambiguous.h). Handle
 * slots are written by compare-and-swap, because a handle may be freed in native state at any time (its slot becomes
 * null, its generation even, its index goes to a Treiber stack outside the slots whose head counts pushes, against
 * ABA). The pin table is keyed by address and needs no visit: what is pinned does not move. */
#ifndef GC_ROOTS_H
#define GC_ROOTS_H

#include "heap/mutator.h"

typedef void (*root_visit)(uint64_t *slot, void *context);

gch_status roots_init(gch_heap *heap, gch_error *error);
void roots_destroy(gch_heap *heap);

/* Visits every root slot. World stopped. The visitor writes slots with root_replace. */
void roots_visit(gch_heap *heap, root_visit visit, void *context);

/* Replaces what a root held; a handle freed meanwhile stays freed. */
static inline void root_replace(uint64_t *slot, uint64_t old, uint64_t new) {
  if (old != new) at_cas(slot, &old, new);
}

gch_status roots_add_static(gch_heap *heap, gch_ref *slot);
gch_status roots_remove_static(gch_heap *heap, gch_ref *slot);

/* Pins by address. `object` does not move from here on: callers have made sure that its block is no source. */
gch_status pins_add(gch_heap *heap, uintptr_t object);
/* False if it is not pinned. */
bool pins_remove(gch_heap *heap, uintptr_t object);
uint64_t pins_count(gch_heap *heap, uintptr_t object);

#endif
