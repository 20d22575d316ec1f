/* What collections tell the policies of pacing and sizing, and what these set: when the next major is due (heap/pacing.h), how large
 * eden is (heap/nursery.h), how fast mutators may go on while a major runs and room is short. */
#ifndef GC_PACE_H
#define GC_PACE_H

#include "gc/minor.h"
#include "heap/mutator.h"

/* Cycle lock held. `due`: a minor because eden was used up, not one with which something else begins. */
void pace_minor(gch_heap *heap, const struct minor_result *minor, bool due);
/* A concurrent major has begun, with so many mutators running; it has ended, or given up. */
void pace_major_begins(gch_heap *heap, uint32_t mutators);
void pace_major_over(gch_heap *heap);
/* A major has ended, of whatever kind. */
void pace_major(gch_heap *heap, const gch_cycle *report);

/* A mutator is about to take `bytes` of old memory, or that part of a block of eden which will be (pace_of_eden). While a major
 * runs, and less than half of the room is left that there was when it began, a mutator takes its share of what is left no
 * faster than the major is expected to need: it sleeps before it takes more, for no longer than a pause may be, and that is a stall
 * of cause `pace`. Managed before and after; a safepoint. */
void pace_allocation(struct mutator *m, uint64_t bytes);
/* Of a block of eden, as the last minors had it. */
uint64_t pace_of_eden(const gch_heap *heap);

#endif
