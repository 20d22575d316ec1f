/* Freeing the dead after a mark: blocks without a live object, large objects without a mark. Their memory is given back
 * at once (whole arenas where huge), so that a plan starts from what lives. */
#ifndef GC_SWEEP_H
#define GC_SWEEP_H

#include "heap/heap.h"

/* `map`: the map just built. `beside`: mutators run; the cycle lock is taken for moments, so that no minor collection
 * looks at a card of what is being freed, and kept blocks of the young region are left for the end of the cycle: until the
 * maps are swapped, dead objects under dirty cards are still looked at, and what they refer to must not become young
 * memory again. Returns bytes given back. */
uint64_t sweep_dead(gch_heap *heap, const uint64_t *map, bool beside);
/* The arena's free blocks stay populated for allocation, as long as the major may keep some (gc/release.h): true. */
bool arena_keep_free(gch_heap *heap, uint32_t arena, enum space_id space);
/* The block's live count becomes that of the mark; it is freed if nothing in it lives. */
void sweep_block(gch_heap *heap, size_t block);

#endif
