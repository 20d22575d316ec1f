/* fork(): the child gets a heap of its own, the parent keeps its.
 *
 * fork() is a safepoint of every heap the calling thread is attached to: references in its local variables are stale
 * afterwards, in parent and child. It waits until no collection runs and every mutator has stopped; the calling thread's
 * wait is counted as a stall with cause `fork`. Calling it inside a callback of this library is not legal.
 *
 *   prepare   own mutators native -> one fork at a time -> each heap: collections kept out, world stopped, all locks held
 *   parent    (waits until the child has its copy of shared memory) -> undone in reverse
 *   child     each heap: descriptors and memory of its own -> other threads' mutators dropped, locks and conditions new,
 *             collector threads started -> own mutators managed again
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
