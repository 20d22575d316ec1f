/* The end of a major collection, after its move, in the pause or not. */
#ifndef GC_FINISH_H
#define GC_FINISH_H

#include "gc/evacuate.h"

/* Sources become free blocks, destinations used ones, the dead are freed, tables are clean for the next cycle. `beside`:
 * mutators run. Returns bytes given back to the system. */
uint64_t finish_move(gch_heap *heap, struct plan *plan, bool beside);
/* Then, beside mutators, where arenas are huge: those that faults have opened become huge pages again. The move is over. */
void finish_opened(gch_heap *heap);

#endif
