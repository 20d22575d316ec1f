/* Giving sources back as they empty.
 *
 * A source block (or, where arenas are huge, an arena whose last source is done) is consumed when its last reader is
 * done: it becomes a frame where the mover can use it as one and the pool has room, else its memory is dropped; both in
 * runs, because both pay a call. Sources lie at their address + delta (in the shadow after a flip). Memory of the young
 * space is never given back. */
#ifndef GC_CONSUME_H
#define GC_CONSUME_H

#include "gc/evacuate.h"

/* Neighbouring consumed blocks of one worker that wait to be given back together. */
struct drops {
  gch_heap *heap;
  uintptr_t start, end;
};

void drops_flush(struct drops *drops);
void consume_block(struct drops *drops, size_t block, uintptr_t delta);
/* One of the sources of the huge arena at `at` is consumed: the last one gives the arena back. */
void consume_in_huge_arena(gch_heap *heap, uintptr_t at, uintptr_t delta);
/* A unit of a huge arena that was opened is MAPPED: the last one closes the arena, and what its units were copied from
 * goes. */
void consume_opened(gch_heap *heap, size_t block);
/* Counts how many sources each huge arena waits for. */
void consume_count(gch_heap *heap, const struct plan *plan);
/* Does what lives in the unit's block, or some of it, stay where it is? Of units of this cycle, until their arena's end. */
bool unit_stays(const gch_heap *heap, size_t block);
/* Notes that `blocks` blocks at `at` have no memory any more. */
void block_unpopulate(gch_heap *heap, uintptr_t at, uint32_t blocks);

#endif
