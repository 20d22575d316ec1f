#include "gc/consume.h"

#include "mover/mover.h"

enum { DROP_BATCH = 32 };

void drops_flush(struct drops *d) {
  if (d->start == d->end) return;
  uint32_t blocks = (uint32_t)((d->end - d->start) / BLOCK_BYTES);
  uint32_t kept = d->heap->mover->recycles ? frames_give(d->heap, d->start, blocks) : 0;
  uintptr_t rest = d->start + kept * (uintptr_t)BLOCK_BYTES;
  if (kept < blocks) mover_release(d->heap, rest, d->end - rest);
  d->start = d->end = 0;
}

static void drops_add(struct drops *d, uintptr_t block) {
  if (block == d->end && d->end - d->start < (uintptr_t)DROP_BATCH * BLOCK_BYTES && block % ARENA_BYTES != 0) {
    d->end += BLOCK_BYTES;
    return;
  }
  drops_flush(d);
  d->start = block;
  d->end = block + BLOCK_BYTES;
}

void block_unpopulate(gch_heap *h, uintptr_t at, uint32_t blocks) {
  uint32_t bit = (uint32_t)(block_index(&h->layout, at) % ARENA_BLOCKS);
  at_and_relaxed(&heap_arena(h, at)->populated, ~(uint32_t)bits_mask(bit, bit + blocks)); /* read after the job */
}

void consume_arena(gch_heap *h, uintptr_t start, uintptr_t delta) {
  block_unpopulate(h, start, ARENA_BLOCKS);
  if (!h->mover->recycles || !frames_give_arena(h, start + delta)) mover_release(h, start + delta, ARENA_BYTES);
}

void consume_in_huge_arena(gch_heap *h, uintptr_t at, uintptr_t delta) {
  struct arena *arena = heap_arena(h, at);
  if (at_sub(&arena->pending, 1) == 1 && !arena->stays && arena->huge)
    consume_arena(h, at & ~(uintptr_t)(ARENA_BYTES - 1), delta);
}

void consume_block(struct drops *d, size_t block, uintptr_t delta) {
  gch_heap *h = d->heap;
  uintptr_t at = block_address(&h->layout, block);
  if (h->tables.forward[block] != FORWARD_EVACUATED) return; /* pinned since the plan: it stays */
  if (heap_region(h, at)->space == SPACE_YOUNG) return; /* young memory is never given back */
  if (heap_arena(h, at)->huge) {
    consume_in_huge_arena(h, at, delta);
    return;
  }
  block_unpopulate(h, at, 1);
  drops_add(d, at + delta);
}

void consume_count(gch_heap *h, const struct plan *p) {
  for (uint32_t i = 0; i < p->source_count; i++) h->tables.arenas[p->sources[i] / ARENA_BLOCKS].pending++;
  for (uint32_t i = 0; i < p->large_move_count; i++) {
    const struct large *e = &h->large.entries[p->large_moves[i]];
    uint64_t bytes = align_up(e->bytes, h->layout.page_bytes);
    for (uintptr_t at = e->base; at < e->base + bytes; at = (at & ~(uintptr_t)(ARENA_BYTES - 1)) + ARENA_BYTES)
      heap_arena(h, at)->pending++;
  }
}
