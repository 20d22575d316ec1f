/* The concurrent move: all units made while mutators run. */
#ifndef GC_CONCURRENT_H
#define GC_CONCURRENT_H

#include "heap/heap.h"

/* After the flip: every unit becomes MAPPED. Workers serve faults between units; there are as many as leave a CPU to each of
 * the `running` mutators, at least one. */
void concurrent_move(gch_heap *heap, uint32_t running);

#endif
