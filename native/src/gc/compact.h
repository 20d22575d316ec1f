/* Moving in the pause: a plan carried out with the world stopped, nothing armed. */
#ifndef GC_COMPACT_H
#define GC_COMPACT_H

#include "gc/evacuate.h"

/* Rewrites every reference (roots included), moves what the plan moves, gives sources back as they empty. The maps
 * have been swapped: `live` says what lives. */
void compact_in_pause(gch_heap *heap, struct plan *plan);

#endif
