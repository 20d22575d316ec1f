/* The watchdog: a thread that reports virtual-memory calls which do not return (os/kernel.h watches every one of them).
 *
 *   ASLEEP --work begins--> AWAKE: looks twice in a limit --none was going on and none began in between--> ASLEEP
 *   any --quit--> gone
 *
 * Work is what makes such calls: collections, and allocations that need a new block. A heap that is not worked on is not
 * looked at, and its watchdog does not wake. It is a thread of its own because each of the others may be the one that
 * hangs. A call is reported once: an event (GCH_EVENT_WATCHDOG) and a count (gch_stats.overdue_calls). The thread only
 * looks: it takes no lock but its own, waits for nobody, and makes no virtual-memory call. */
#ifndef GC_WATCHDOG_H
#define GC_WATCHDOG_H

#include "heap/heap.h"

gch_status watchdog_start(gch_heap *heap, gch_error *error);
/* No work is going on. */
void watchdog_stop(gch_heap *heap);
/* Around work; any thread. Two atomic additions while the watchdog is awake. */
void watchdog_begin(gch_heap *heap);
void watchdog_end(gch_heap *heap);
/* fork(): the lock (NULL without a watchdog); in the child, the thread does not exist: its record goes. */
struct lock *watchdog_lock(gch_heap *heap);
void watchdog_forget(gch_heap *heap);

#endif
