/* The controller: the thread that drives concurrent majors.
 *
 *   WAITING --request--> RUNNING (one cycle) --end--> WAITING         any --quit--> gone
 *
 * Requests are counted: a caller waits until the cycle it asked for (or a later one) has flipped, or ended. */
#ifndef GC_CONTROLLER_H
#define GC_CONTROLLER_H

#include "heap/mutator.h"

gch_status controller_start(gch_heap *heap, gch_error *error);
/* Lets a running cycle end, then ends the thread. */
void controller_stop(gch_heap *heap);
/* Asks for a concurrent major. The caller is in native state or no mutator. Returns when it has ended (`wait`), or when its
 * flip is done. */
void controller_request(gch_heap *heap, const gch_collect_options *options, bool wait);

/* Waits until every cycle asked for has ended, and no other major runs. Native state or no mutator. */
void controller_wait(gch_heap *heap);
/* fork(): the lock (NULL without a controller); in the child, the thread does not exist: its record goes, requests with it. */
struct lock *controller_lock(gch_heap *heap);
void controller_forget(gch_heap *heap);
/* The running cycle has flipped. */
void controller_flipped(gch_heap *heap);

#endif
