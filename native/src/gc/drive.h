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

/* Cycle lock not held. */
static inline void drive_begin(gch_heap *h) {
  lock_lock(&h->cycle_lock);
  while (h->drive.wanted != 0) cond_wait(&h->cycle_done, &h->cycle_lock);
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

/* Between two steps: what has been done so far can be taken over, or taken back. */
static inline void drive_pass(gch_heap *h) {
  if (gch_likely(!drive_wanted(h))) return;
  drive_end(h);
  GCH_POINT(driver_rests);
  drive_begin(h);
}

#endif
