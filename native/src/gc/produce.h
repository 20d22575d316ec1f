/* Producing units: making a destination block complete and publishing it (after a flip). */
#ifndef GC_PRODUCE_H
#define GC_PRODUCE_H

#include "gc/consume.h"
#include "heap/unit.h"

/* tables.dest of a destination: index + 1 of an evacuation destination, or this bit and the block it relocates from. */
#define DEST_RELOCATED 0x80000000u

/* Claims and produces one unit. False if it is not ARMED (any more). `drops`: the caller's. `fault`: may use the frames
 * kept in reserve. Any thread, any state; no lock is held while the unit is BUSY but those of frames and accounting, for
 * a few instructions. */
bool produce_unit(gch_heap *heap, struct drops *drops, size_t block, bool fault);
/* The same for a unit that the caller has claimed. */
void produce_claimed_unit(gch_heap *heap, struct drops *drops, size_t block);
/* The destination's sources have one reader less. */
void produce_consumed(gch_heap *heap, struct drops *drops, uint32_t dest, uintptr_t delta);
/* The large object whose destination covers the page at `at`, if it is in the cycle, and where its run (at most to `end`)
 * stops; NULL: none, *stop is the next page. */
struct large *large_run_at(gch_heap *heap, uintptr_t at, uintptr_t end, uintptr_t *stop);
/* One block of a large object is made; the last one consumes its source. */
void large_run_done(gch_heap *heap, struct drops *drops, struct large *e, uintptr_t delta);
/* Makes the unit of an address MAPPED, waiting for another owner if there is one. False: no unit of this cycle. */
bool produce_ensure(gch_heap *heap, struct drops *drops, uintptr_t address, bool fault);
/* Claims and produces at most `limit` neighbouring units that stay where they are, from `block` on, published in one call
 * (a batch pays one TLB shootdown). Returns how many. */
uint32_t produce_run(gch_heap *heap, struct drops *drops, size_t block, uint32_t limit);

#endif
