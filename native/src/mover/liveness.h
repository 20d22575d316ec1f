/* The liveness of whole arenas goes where their pages go.
 *
 * An arena has 16 KiB of bits: copied, they cost more than the move of its huge page, most of it in faults of the map's
 * fresh pages. So where pages can be moved, those of the maps are moved too: both maps are registered with the quiet
 * descriptor (mover/region.c), write-protect-only, so that what is missing in them reads as zeros as before. */
#ifndef MOVER_LIVENESS_H
#define MOVER_LIVENESS_H

#include "heap/heap.h"

/* With the quiet descriptor, when it is opened and when it is replaced. False: maps are copied, by this mover or by the
 * kernel's refusal. */
bool liveness_register(gch_heap *heap);
/* Takes the bits of `arenas` arenas from index `from` on in `source` (the map of live or marked objects) to those from
 * index `to` on in `map`, where none is set. None is set in the source afterwards. Nobody looks at either meanwhile. */
void liveness_hand_over(gch_heap *heap, uint64_t *map, size_t to, uint64_t *source, size_t from, size_t arenas);

#endif
