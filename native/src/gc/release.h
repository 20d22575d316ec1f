/* Giving back memory that is populated and free, some time after it was last used (heap/decay.h). What that may be at rest:
 *
 *   blocks of the allocation regions   beyond the reserve (gc/reserve.h): those that were populated ahead of a flip and not needed; after a major that moves nothing,
 *                                      those in which all has died. Kept, as promotion will take them, up to what it takes in the
 *                                      time of the decay, and never more than the staging budget (I4)
 *   young blocks                       beyond what eden may take now: it had more mutators, or was larger
 *   frames                             those that are kept between two cycles
 *
 * All else that a major frees goes back before it has ended. Threads: the controller, between two cycles, a few blocks at a time,
 * under the cycle lock and that of the space, so it is in no pause, and no mutator does it. Ticks go on as long as there is
 * something. Without a controller nothing is kept in the first place. */
#ifndef GC_RELEASE_H
#define GC_RELEASE_H

#include "heap/heap.h"

/* How much a major may keep for allocation. */
uint64_t release_keeps(const gch_heap *heap);
/* A cycle has ended / a tick is due: when the next one is, 0: not before another cycle. The controller, no locks held. */
uint64_t release_begin(gch_heap *heap);
uint64_t release_tick(gch_heap *heap);

#endif
