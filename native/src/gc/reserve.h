/* The reserve: free blocks that have memory, where promotion will take its next ones, so that no pause touches fresh memory.
 * (A huge page of it takes milliseconds; so do some dozen blocks of small pages where the host of a virtual machine has to find them
 * first.)
 *
 * How much: a few times what minors have taken lately, a quarter of the staging budget at most (I4). A minor that leaves less says
 * so. Who fills it up is a thread that is in no pause (which would want its CPU), one at a time, and never beside a flip:
 *
 *   at rest     the controller, which is woken
 *   MARK        a marker, which has left (gc/safepoint.h) meanwhile: pauses do not wait for it. (Between the sweep, which gives
 *               back what is free, and the flip, for which memory is populated by its own rule, there is none.)
 *   MOVE        a worker, which holds no unit meanwhile, as long as frames have not spent the staging budget
 *
 *   free, without memory --lock, FILLING--> nobody takes it --populated; lock--> free, with memory
 *                                                           --refused; lock----> as before, until after the next minor
 *
 * Whoever fills counts as inside (gc/claims.h): fork(), a major that moves in its pause and who looks at the whole heap
 * (cycle_inspect) find nothing that is being filled. What is not needed any more goes back as all that is free does (gc/release.h):
 * without minors less and less is wanted. So there is no reserve where that is to go at once, and none without a controller. */
#ifndef GC_RESERVE_H
#define GC_RESERVE_H

#include "gc/minor.h"

/* A minor has ended / a major has, which gives back what is free. Cycle lock held. */
void reserve_note(gch_heap *heap, const struct minor_result *minor);
void reserve_look(gch_heap *heap);

/* A tick of gc/release.h: without a minor since the last one it wants half as much. False: nothing. The controller, no locks held. */
bool reserve_fade(gch_heap *heap);

/* Blocks that are not idle, though free. */
static inline uint64_t reserve_wants(const gch_heap *h) {
  return (uint64_t)at_load_relaxed(&h->reserve.want[0]) + at_load_relaxed(&h->reserve.want[1]);
}

/* There is less than there should be, and nobody sees to it? A hint, for any thread. */
static inline bool reserve_is_low(const gch_heap *h) {
  return gch_unlikely(at_load_relaxed(&h->reserve.low) != 0) && at_load_relaxed(&h->reserve.busy) == 0;
}
/* And may be filled now: no pause is on, no heap ends. */
static inline bool reserve_is_due(const gch_heap *h) {
  return reserve_is_low(h) && at_load_relaxed(&h->world.stop) == 0 && at_load_relaxed(&h->closing) == 0;
}

/* Fills it up, some of it, or until a pause begins (it is low still, then); see above for who may. No locks held, no claim. */
void reserve_fill(gch_heap *heap);

/* Wants nothing until a minor promotes. Cycle lock held. */
void reserve_give_up(gch_heap *heap);
/* In the child of fork(). */
void reserve_forget(gch_heap *heap);

#endif
