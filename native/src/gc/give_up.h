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

/* True: a mark has been given up, and the heap is at rest. Else there was none, or it is over, and nothing is planned (phase PLAN),
 * or the flip has been made. */
bool give_up(gch_heap *heap);

#endif
