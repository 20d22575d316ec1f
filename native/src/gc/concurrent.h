/* The concurrent move: all units made while mutators run. */
#ifndef GC_CONCURRENT_H
#define GC_CONCURRENT_H

#include "heap/heap.h"

/* As many as leave a CPU to each of the `running` mutators, at least one. */
uint32_t workers_beside(const gch_heap *heap, uint32_t running);

/* For marking, which nobody waits for: a quarter of the collector's threads may share CPUs with them. */
uint32_t markers_beside(const gch_heap *heap, uint32_t running);

/* After the flip: every unit becomes MAPPED. Workers (workers_beside) serve faults between units. */
void concurrent_move(gch_heap *heap, uint32_t running);

#endif
