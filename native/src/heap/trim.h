/* What emptied arenas still cost: their place below the `top` of their region, and their slices of the side tables.
 *
 * At the end of a major, with every source freed and every destination in use:
 *   1. `top` of each region falls behind its last arena that holds something (or whose memory the kernel would not take
 *      back). What walks regions stops there, and a region without arenas in use is not flipped.
 *   2. The slices of the side tables that belong to arenas beyond are dropped: 71 KiB an arena. For these arenas zero
 *      is what each table says already, or (`lines`, `cards`, the plan's words) what nobody reads before it is written anew:
 *      whether the kernel takes the pages back makes no difference but memory.
 *   3. Allocation looks for room from the start of its region again.
 *
 * Beside mutators everything goes at once: the driver pays. In the pause a slice goes when its arenas were beyond `top` at
 * the end of the major before, too: objects that go to and fro between two regions, a major each way, would pay in every pause
 * for the faults that bring the tables back.
 *
 * Threads: the driver. `top` falls under the cycle lock, because a minor numbers arenas by it, and under the lock of the space,
 * because allocation raises it. Beside mutators these are held for STEP arenas at a time. */
#ifndef HEAP_TRIM_H
#define HEAP_TRIM_H

#include "heap/heap.h"

/* `beside`: mutators run, and no lock is held; else the world is stopped. */
void trim_tables(gch_heap *heap, bool beside);
/* What the tables may hold in memory now, at most. Any thread; a sample. */
uint64_t trim_table_bytes(gch_heap *heap);

#endif
