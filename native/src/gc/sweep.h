/* Freeing the dead after a mark: blocks without a live object, large objects without a mark. Their memory is given back
 * at once (whole arenas where huge), so that a plan starts from what lives. */
#ifndef GC_SWEEP_H
#define GC_SWEEP_H

#include "heap/heap.h"

/* `map`: the map just built. `beside`: mutators run; the cycle lock is taken for moments, so that no minor collection
 * looks at a card of what is being freed. Returns bytes given back. */
uint64_t sweep_dead(gch_heap *heap, const uint64_t *map, bool beside);

#endif
