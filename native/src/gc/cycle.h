/* Collections, a call a phase. */
#ifndef GC_CYCLE_H
#define GC_CYCLE_H

#include "gc/safepoint.h"

/* Cycle lock held (cycle_enter), world running. */
void cycle_minor(gch_heap *heap, bool promote_all, gch_cause cause, gch_cycle *report);
void cycle_major(gch_heap *heap, const gch_collect_options *options, gch_cause cause, gch_cycle *report);
/* After a minor, the lock left: if promotion will want memory, the controller sees to it (gc/reserve.h). */
void cycle_fill_reserve(gch_heap *heap);

/* A concurrent major, start to end; the controller's. Takes and leaves the cycle lock itself. `if_due`: unless another one has
 * made it superfluous. */
void cycle_concurrent(gch_heap *heap, const gch_collect_options *options, bool if_due, gch_cycle *report);
/* In the child of fork(), while it is alone: a cycle that was running is given up, or made ready to go on (gc/fork.h). */
void cycle_inherit(gch_heap *heap);
/* What cycle_inherit has left of it, to its end; the controller's. */
void cycle_resume(gch_heap *heap);
/* Cycle lock held: waits (releasing it meanwhile) until no major is running. */
void cycle_wait_idle(gch_heap *heap);

/* Stops the world between two majors, to look at all of the heap: nothing of it changes until the end. No locks held. */
void cycle_inspect(gch_heap *heap, struct pause *pause);
void cycle_inspect_end(gch_heap *heap, const struct pause *pause);

/* What an allocation does that found no room in eden: a minor if the nursery is full, and what cycle_start_due does. The mutator
 * is managed before and after. */
void cycle_for_allocation(struct mutator *m);

/* An allocation that found no room where a minor does not help: what it wants (a block, or the pages of a large object), and what
 * has been done for it so far. */
struct relief {
  uint64_t bytes;
  uint32_t waits, majors;
};
/* Waits for the end of the major that runs, whoever began it; if there is still no room, or none runs, collects in the pause. To
 * have waited for somebody else's is no attempt, as long as it leaves room (which others may be quicker to take), and not
 * for ever. False: enough has been tried, nothing is done. Managed before and after. */
bool cycle_for_room(struct mutator *m, struct relief *relief);

/* Has the heap grown so much that a major should begin? If so, one begins: beside mutators, and nobody waits for it, or (where
 * the mover cannot) in the pause. Managed before and after; may collect. */
bool cycle_is_due(const gch_heap *heap);
void cycle_start_due(struct mutator *m);

#endif
