/* The driver of a concurrent major, and who has to wait for it: fork(), whose child loses that thread, and goes on without it.
 *
 * Whoever holds the cycle lock, with the world stopped and claims closed (gc/claims.h), finds a cycle that the child can take
 * over, but where the driver is *busy*: in the middle of a plan, of preparing a flip, of an end. There it rests between two
 * steps if a fork() wants it to, and fork() waits for that.
 *
 *   RESTS --drive_begin--> BUSY --drive_end--> RESTS        BUSY --drive_pass, wanted--> RESTS --fork() is over--> BUSY
 *
 * What waits for nobody but keeps state on its driver's stack only between two such steps: marking and judging (markers stand
 * still in a pause), sweeping (steps under the cycle lock), moving (claims). */
#ifndef GC_DRIVE_H
#define GC_DRIVE_H

#include "heap/heap.h"

enum { DRIVE_WAIT_NS = 1000000 }; /* a fork() that did not get the lock in time tells nobody */

/* Lock held: while a fork() wants to pass, it does. */
static inline void drive_let_pass(gch_heap *h) {
  while (at_load_relaxed(&h->drive.wanted) != 0)
    (void)cond_wait_until(&h->cycle_done, &h->cycle_lock, clock_ns() + DRIVE_WAIT_NS);
}

/* Cycle lock not held. */
static inline void drive_begin(gch_heap *h) {
  lock_lock(&h->cycle_lock);
  drive_let_pass(h);
  h->drive.busy = 1;
  lock_unlock(&h->cycle_lock);
}

static inline void drive_end(gch_heap *h) {
  lock_lock(&h->cycle_lock);
  h->drive.busy = 0;
  cond_broadcast(&h->cycle_done);
  lock_unlock(&h->cycle_lock);
}

/* Does a fork() wait for the driver? A hint, for any thread. */
static inline bool drive_wanted(const gch_heap *h) { return at_load_relaxed(&h->drive.wanted) != 0; }

/* Between two steps, busy or not: what has been done so far can be taken over, or taken back. (Who leaves the cycle lock and takes
 * it again at once is always quicker than who waits for it.) */
static inline void drive_pass(gch_heap *h) {
  if (gch_likely(!drive_wanted(h))) return;
  lock_lock(&h->cycle_lock);
  uint32_t busy = h->drive.busy;
  h->drive.busy = 0;
  cond_broadcast(&h->cycle_done);
  GCH_POINT(driver_rests);
  drive_let_pass(h);
  h->drive.busy = busy;
  lock_unlock(&h->cycle_lock);
}

#endif
