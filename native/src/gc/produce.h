/* Producing units: making a destination block complete, for a batch that publishes it (after a flip). */
#ifndef GC_PRODUCE_H
#define GC_PRODUCE_H

#include "gc/batch.h"
#include "heap/unit.h"

/* Claims a unit, makes it, and adds it to the batch. False if it is not ARMED (any more). `fault`: may use the frames kept
 * in reserve. Any thread, any state; while the unit is BUSY no lock is held but those of frames and accounting, for a few
 * instructions. */
bool produce_block(struct batch *batch, size_t block, bool fault);
/* The destination's sources have one reader less. */
void produce_consumed(gch_heap *heap, struct drops *drops, uint32_t dest, uintptr_t delta);
/* At what distance from its home a source of this destination is read. */
uintptr_t produce_delta(const gch_heap *heap, uintptr_t dst);
/* The large object whose destination covers the page at `at`, if it is in the cycle, and where its run (at most to `end`)
 * stops; NULL: none, *stop is the next page. */
struct large *large_run_at(gch_heap *heap, uintptr_t at, uintptr_t end, uintptr_t *stop);
/* The run [at, stop) of a large object is made: its source is not read for it any more. */
void large_run_done(gch_heap *heap, const struct large *e, uintptr_t at, uintptr_t stop, uintptr_t delta);

#endif
