/* fork(): the child gets a heap of its own, the parent keeps its.
 *
 * fork() is a safepoint of every heap the calling thread is attached to: references in its local variables are stale
 * afterwards, in parent and child. It waits until every mutator has stopped, and of a collection only for the step that is being
 * made; the calling thread's wait is counted as a stall with cause `fork`, and so is, in the child, what it takes to make its
 * heaps its own. Calling it inside a callback of this library is not legal.
 *
 *   prepare   own mutators native -> one fork at a time -> each heap: cycle lock held, the driver of a major rests -> world
 *             stopped, markers too -> claims closed, nobody inside -> all locks held
 *   parent    (waits until the child has its copy of shared memory) -> undone in reverse: the cycle goes on
 *   child     each heap: descriptors and memory of its own, what is missing registered before anything touches it -> other
 *             threads' mutators dropped, locks and conditions new -> the cycle taken over, collector threads started -> own
 *             mutators managed again
 *
 * What fork() finds of a concurrent major, and what becomes of it in the child, which has none of its threads (a minor, and a
 * major in the pause, hold the cycle lock to their end):
 *
 *   phase              fork() waits for                       in the child
 *   MARK               markers: they stand still in a pause   given up (gc/give_up.h): at rest
 *   PLAN, judging      the same                               given up: at rest
 *   PLAN, sweep        a step of the sweep                    goes on: the sweep, the swap of maps, and nothing moves
 *   PLAN, plan, arming the next step: extents (a block), a    the plan is given up; then as before
 *                      region prepared, destinations emptied
 *   FLIP               the pause                              (never seen)
 *   MOVE               units that are BUSY: claims are        goes on: regions that are missing, and their shadow, are
 *                      closed, whoever may hold one leaves    registered anew, those that were shut are; all units that are ARMED are looked for again
 *   END                the end, but not until arenas that     goes on: arenas that were opened become huge pages again
 *                      were opened are huge again
 *
 * What goes on is driven by the child's controller, beside its program; nobody waits for it (requests of other threads are gone
 * with them), but gch_collect_wait does. The driver's own state is in heap->drive, not on its stack.
 *
 * Two heaps wait for each other where a thread stopped by one is managed in the other; so only the first is waited for
 * without end. If another is not to be had in time all are let go, and that one comes first in the next round. After some
 * seconds fork() goes ahead without what is not to be had: the parent notices nothing, the child cannot use those heaps.
 *
 * In the child the frames of other threads are no roots any more; handles, static slots and pins are as they were. After a
 * fork all pages are shared until written: page moves meet EBUSY for a while, in both. What cannot be made anew in the child
 * (descriptors, threads, memory) leaves the heap there unusable: calls answer GCH_BAD_STATE. Processes made without the
 * handlers (a bare clone) are told apart by their pid, and get the same answer; vfork and posix_spawn are harmless. */
#ifndef GC_FORK_H
#define GC_FORK_H

#include "heap/heap.h"

/* From now on fork() takes care of the heap. Last step of its creation. */
gch_status fork_watch(gch_heap *heap, gch_error *error);
/* First step of its end; waits for a fork() that is going on. */
void fork_unwatch(gch_heap *heap);

/* GCH_BAD_STATE where the heap cannot be used in this process. For slow paths. */
gch_status fork_check(const gch_heap *heap, gch_error *error);
/* Whether this process has the heap's threads. */
bool fork_is_home(const gch_heap *heap);

#endif
