/* Giving sources back as they empty.
 *
 * A source block (or, where an arena is huge, all of it with its last source) is consumed when its last reader is
 * done: it becomes a frame where the mover can use it as one and the pool has room, else its memory is dropped; both in
 * runs, because both pay a call. Sources lie at their address + delta (in the shadow after a flip). Memory of the young
 * space is never given back. */
#ifndef GC_CONSUME_H
#define GC_CONSUME_H

#include "gc/evacuate.h"

/* Neighbouring consumed blocks of one worker that wait to be given back together. */
struct drops {
  gch_heap *heap;
  uint32_t limit; /* blocks */
  uintptr_t start, end;
};

/* None yet; a quarter of the staging budget is for those of so many threads. */
struct drops drops_of(gch_heap *heap, uint32_t threads);

void drops_flush(struct drops *drops);
void consume_block(struct drops *drops, size_t block, uintptr_t delta);
/* One of the sources of the huge arena at `at` is consumed: the last one gives the arena back. */
void consume_in_huge_arena(gch_heap *heap, uintptr_t at, uintptr_t delta);
/* [source, source + bytes) is where pages were that have been copied to where they go (in the shadow, or not): where they are
 * small they are given back now, else with their arena. `fresh`: the copies took memory that was not there before. */
void consume_copied(gch_heap *heap, uintptr_t source, uint64_t bytes, bool fresh);
/* A unit of a huge arena that was opened is MAPPED: the last one closes the arena, and what its units were copied from
 * goes. */
void consume_opened(gch_heap *heap, size_t block);
/* The step that reads [from, from + bytes) of a large object that moves is done: the last step gives an arena back. */
void consume_read(gch_heap *heap, uintptr_t from, uint64_t bytes, uintptr_t delta);
/* Counts what each huge arena waits for: evacuated blocks in it, and the steps in which large objects are read out of it.
 * `pieces`: those of the in-pause move, else units of their destinations. */
void consume_count(gch_heap *heap, const struct plan *plan, bool pieces);
/* How many steps of an object, which overlaps the arena, read of it. */
uint32_t consume_reads(const gch_heap *heap, const struct large *object, size_t arena, bool pieces);
/* Notes that `blocks` blocks at `at` have no memory any more. */
void block_unpopulate(gch_heap *heap, uintptr_t at, uint32_t blocks);

#endif
