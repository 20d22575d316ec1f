/* Stopping the world and letting it run.
 *
 * A mutator is MANAGED or NATIVE (heap/mutator.h). Whoever holds the cycle lock may stop the world:
 *
 *   stopper                                         mutator
 *   stop = 1; every poll = 1                        safepoint: state = NATIVE; wake the stopper; wait for stop == 0
 *   fence                                           leave native: state = MANAGED; fence; stop? back to NATIVE, wait
 *   wait until no state is MANAGED                  enter native: state = NATIVE; fence; stop? wake the stopper
 *
 * Both sides store, fence and load (Dekker), so that either the stopper sees MANAGED or the mutator sees stop. The
 * list of mutators is locked for the whole pause, so attach and detach wait it out. Pauses do not nest.
 *
 * A thread may be managed in several heaps. While it waits for one it would be waited for in the others, and two such
 * threads for each other, so no thread waits for a pause, a lock that is held across one, or a cycle while it is managed in
 * any heap: all its mutators become native for the wait. Nor does one leave native state in one heap and then wait in the
 * next: all become managed again together, or none yet.
 *
 * A mutator that faults on a missing page stays MANAGED: the stopper waits for its fault to be answered, which never
 * waits for a pause (I3). */
#ifndef GC_SAFEPOINT_H
#define GC_SAFEPOINT_H

#include "heap/mutator.h"

struct pause {
  uint64_t asked_ns;   /* request */
  uint64_t stopped_ns; /* every mutator had stopped */
  uint32_t managed;    /* mutators that ran when it was asked for */
  gch_pause cause;
};

void world_init(gch_heap *heap);
void world_destroy(gch_heap *heap);

/* Cycle lock held, the caller in native state or not a mutator. */
void world_stop(gch_heap *heap, gch_pause cause, struct pause *pause);
/* Returns the length of the pause in ns, and counts it. */
uint64_t world_resume(gch_heap *heap, const struct pause *pause);

/* Their parts, for who holds the lock of the list otherwise: stops (false: not all by the deadline, UINT64_MAX: waits; world_run
 * ends the attempt), lets run, counts the pause. */
bool world_halt(gch_heap *heap, gch_pause cause, struct pause *pause, uint64_t deadline_ns);
void world_run(gch_heap *heap);
uint64_t world_count(gch_heap *heap, const struct pause *pause);

/* The list of mutators, from any thread, whose mutators are native meanwhile (a pause may be on). */
void world_lock(gch_heap *heap);
void world_unlock(gch_heap *heap);

/* A marker begins, or goes on, beside mutators: waits while the world is stopped, which counts it from then on. It leaves. */
void marker_enter(gch_heap *heap);
void marker_leave(gch_heap *heap);

/* The calling thread's mutator of this heap, or NULL. */
struct mutator *mutator_here(gch_heap *heap);
/* The first of the calling thread's mutators, of any heap; linked by next_here. */
struct mutator *mutators_here(void);
/* Notes that the calling thread has one more mutator, one less. A thread that ends detaches what it still has. */
bool mutator_adopt(struct mutator *m);
void mutator_disown(struct mutator *m);

/* One mutator: what gch_native_enter and _leave are. Leaving may wait. */
void mutator_enter_native(struct mutator *m);
void mutator_leave_native(struct mutator *m);

/* Around every wait inside gcheap: all mutators of the calling thread that are managed, of whatever heap, become native,
 * and managed again. Not nested. */
void mutators_enter_native(void);
void mutators_leave_native(void);
/* Both: lets a pause pass, if there is one. */
void mutators_let_pass(void);

/* Enters and leaves the cycle lock; the calling thread's mutators count as stopped in between. */
void cycle_enter(gch_heap *heap);
void cycle_leave(gch_heap *heap);
/* The end of cycle_leave for who is no mutator: leaves the lock, then tells the log what has been collected. */
void cycle_unlock(gch_heap *heap);

#endif
