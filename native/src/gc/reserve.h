/* The reserve: free blocks that have memory, where promotion will take its next ones, so that no pause touches fresh memory.
 * (A huge page of it takes milliseconds; so do some dozen blocks of small pages where the host of a virtual machine has to find them
 * first.)
 *
 * How much: a few times what minors have taken lately, a quarter of the staging budget at most (I4). A minor that leaves less says
 * so. Who fills it up is a thread that is in no pause (which would want its CPU), one at a time, and never beside a plan or a flip:
 *
 *   at rest     the controller, which is woken
 *   MARK        a marker, which has left (gc/safepoint.h) meanwhile: pauses do not wait for it
 *   MOVE        a worker, which holds no unit meanwhile
 *
 *   free, without memory --lock, FILLING--> nobody takes it --populated; lock--> free, with memory
 *                                                           --refused; lock----> as before; no more is tried until the next minor
 *
 * Whoever fills counts as inside (gc/claims.h): fork(), a major that moves in its pause and who looks at the whole heap (cycle_inspect) find nothing that is being filled.
 * What is not needed any more goes back as all that is free does (gc/release.h); so there is no reserve where that is to be at once,
 * and none without a controller. */
#ifndef GC_RESERVE_H
#define GC_RESERVE_H

#include "gc/minor.h"

/* A minor has ended. Cycle lock held, in no pause. */
void reserve_note(gch_heap *heap, const struct minor_result *minor);

/* There is less than there should be, nobody sees to it, and no pause is on? A hint, for any thread. */
static inline bool reserve_is_low(const gch_heap *h) {
  return gch_unlikely(at_load_relaxed(&h->reserve.low) != 0) && at_load_relaxed(&h->reserve.busy) == 0 &&
         at_load_relaxed(&h->world.stop) == 0;
}

/* Fills it up, or until a pause begins (it is low still, then); see above for who may. No locks held, no claim. */
void reserve_fill(gch_heap *heap);

/* In the child of fork(). */
void reserve_forget(gch_heap *heap);

#endif
