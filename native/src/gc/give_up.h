/* The child of fork() takes back what a concurrent major has begun before its flip (gc/fork.h). It is alone: no other thread runs,
 * and the driver and markers of the parent stood where gc/drive.h says. Nothing has moved, so what is taken back is in tables:
 *
 *   mark   the bits that have been set, counts, rows, logs, lists of cells. Weak cells that were being cleared are: none is told
 *          from another whose target died with its own. What finalizers have been judged of is handed out: it was dead, and
 *          nothing is freed. What is born since is old like the rest. The dead are found by the next major
 *   plan   each source stays, each destination is free at the end; nothing is armed. The mark is over, and the dead have been
 *          freed in part, so the rest of the cycle is made: the sweep, and the swap of maps
 *
 * The region that has been held out stays the one in which leaf memory is allocated. */
#ifndef GC_GIVE_UP_H
#define GC_GIVE_UP_H

#include "heap/heap.h"

/* In phase MARK, or PLAN before the mark is over; then the heap is at rest. */
void give_up_mark(gch_heap *heap);
/* In phase PLAN after that: there is a mark, and no plan. */
void give_up_plan(gch_heap *heap);

#endif
