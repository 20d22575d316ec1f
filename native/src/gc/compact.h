/* Moving in the pause: a plan carried out with the world stopped, nothing armed. */
#ifndef GC_COMPACT_H
#define GC_COMPACT_H

#include "gc/evacuate.h"

/* Rewrites every reference (roots included), moves what the plan moves, gives sources back as they empty. The maps
 * have been swapped: `live` says what lives. */
void compact_in_pause(gch_heap *heap, struct plan *plan);
/* After a move, in the pause or not: sources become free blocks, destinations used ones, the dead are freed, tables
 * are clean for the next cycle. `beside`: mutators run. Returns bytes given back to the system. */
uint64_t compact_finish(gch_heap *heap, struct plan *plan, bool beside);

#endif
