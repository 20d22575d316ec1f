/* The controller: the thread that drives concurrent majors.
 *
 *   WAITING --request--> RUNNING (one cycle) --end--> WAITING         any --quit--> gone
 *
 * Requests queue. A cycle answers, with its report, the first of them and all that ask for the same policy; they came
 * before it began, so each gets a whole cycle of the kind it asked for. A caller waits until that has begun to mark, flipped,
 * or ended. */
#ifndef GC_CONTROLLER_H
#define GC_CONTROLLER_H

#include "heap/mutator.h"

/* In the child of fork() it first brings a cycle that is running to its end. */
gch_status controller_start(gch_heap *heap, gch_error *error);
/* Lets a running cycle end, or leave off where it only marks, then ends the thread. No mutators, and the heap ends, too. */
void controller_stop(gch_heap *heap);
enum cycle_stage { CYCLE_BEGUN, CYCLE_FLIPPED, CYCLE_ENDED };
/* Asks for a concurrent major. The caller is in native state or no mutator. Returns when it has come to that stage (its first
 * pause is over; its flip is done; all of it): `report` (may be NULL) is that of the cycle that answered, as far as it has
 * come. */
void controller_request(gch_heap *heap, gch_policy policy, enum cycle_stage until, gch_cycle *report);

/* Asks for one of the default policy that nobody waits for, if none is due yet. Any state. */
void controller_wake(gch_heap *heap);
/* There is something to do at rest (gc/reserve.h). Any state. */
void controller_nudge(gch_heap *heap);

/* Waits until every cycle asked for has ended, and no other major runs. Native state or no mutator. */
void controller_wait(gch_heap *heap);
/* fork(): the lock (NULL without a controller); in the child, the thread does not exist: its record goes, requests with it. */
struct lock *controller_lock(gch_heap *heap);
void controller_forget(gch_heap *heap);
/* The running cycle has come so far. */
void controller_reached(gch_heap *heap, enum cycle_stage stage, const gch_cycle *report);

#endif
