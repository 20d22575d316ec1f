#include "gc/consume.h"

#include "heap/unit.h"
#include "mover/mover.h"

enum { DROP_BATCH = 32 };

void drops_flush(struct drops *d) {
  if (d->start == d->end) return;
  uint32_t blocks = (uint32_t)((d->end - d->start) / BLOCK_BYTES);
  uint32_t kept = d->heap->mover->recycles ? frames_give(d->heap, d->start, blocks) : 0;
  uintptr_t rest = d->start + kept * (uintptr_t)BLOCK_BYTES;
  if (kept < blocks) mover_release(d->heap, rest, d->end - rest);
  frames_add_extra(d->heap, -(int64_t)(d->end - rest));
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

static bool large_stays(const gch_heap *h, uintptr_t from, uintptr_t to) {
  for (uintptr_t at = from; at < to; at += h->layout.page_bytes) {
    uint32_t id = h->tables.large_ids[(at - h->layout.base) >> h->layout.page_shift];
    const struct large *e = &h->large.entries[id];
    if (id != 0 && e->forward == e->base && at - e->base < e->bytes) return true;
  }
  return false;
}

bool unit_stays(const gch_heap *h, size_t block) {
  uintptr_t at = block_address(&h->layout, block);
  if (h->tables.blocks[block].state == BLOCK_LARGE) return large_stays(h, at, at + BLOCK_BYTES);
  return h->tables.dest[block] == 0;
}

/* Blocks of an arena that was opened whose memory went to the shadow with the flip: it is still there, as pieces are copied. */
static uint32_t left_behind(const gch_heap *h, size_t arena) {
  const struct arena *a = &h->tables.arenas[arena];
  size_t first = arena * ARENA_BLOCKS;
  uint32_t filled = 0;
  if (!(h->flipped >> layout_region(&h->layout, arena_address(&h->layout, arena)) & 1)) return 0;
  if (a->huge) return UINT32_MAX;
  for (uint32_t i = 0; i < ARENA_BLOCKS; i++)
    if (unit_state(h, first + i) != UNIT_NONE && !unit_stays(h, first + i)) filled |= (uint32_t)1 << i;
  return at_load(&a->populated) & ~filled; /* those had none, and have some where they were published */
}

/* True: dropped; it may serve as a frame else. */
static bool give_arena(gch_heap *h, uintptr_t memory, bool huge) {
  if (huge && h->mover->recycles && frames_give_arena(h, memory)) return false;
  mover_release(h, memory, ARENA_BYTES);
  return true;
}

/* The memory of these blocks of an arena: if it is one page, all of it, or nothing. */
static void give_blocks(gch_heap *h, uintptr_t memory, bool huge, uint32_t populated) {
  if (huge && populated != 0) give_arena(h, memory, true);
  for (uint32_t rest = huge ? 0 : populated, from; rest != 0;) {
    uint32_t blocks = bits_take_run(&rest, &from);
    mover_release(h, memory + from * (uintptr_t)BLOCK_BYTES, blocks * (uint64_t)BLOCK_BYTES);
  }
}

/* The last one who reads the arena's memory gives it back, if nothing of it is in use where it is. There may be two last
 * ones: the last source's, and the closer of an arena that was opened only after that. */
static void consume_one(gch_heap *h, uintptr_t start, uintptr_t delta) {
  struct arena *arena = heap_arena(h, start);
  uint32_t closed = ARENA_CLOSED;
  if (at_sub(&arena->pending, 1) != 1) return;
  GCH_POINT(arena_consumed);
  if (at_cas(&arena->made, &closed, (uint32_t)ARENA_GIVEN)) {
    give_blocks(h, start + delta, arena->huge, left_behind(h, arena_index(&h->layout, start)));
  } else if (arena->fate != ARENA_STAYS && arena->huge) { /* no unit lies in it */
    block_unpopulate(h, start, ARENA_BLOCKS);
    if (give_arena(h, start + delta, true)) frames_add_extra(h, -(int64_t)ARENA_BYTES);
  }
}

void consume_in_huge_arena(gch_heap *h, uintptr_t at, uintptr_t delta) {
  consume_one(h, at & ~(uintptr_t)(ARENA_BYTES - 1), delta);
}

/* What the units of an arena were copied from: its own memory, if it had any at the flip (it waits for itself since it was opened),
 * the arena from which it relocates, or sources that count on their own. */
static void close_arena(gch_heap *h, size_t arena) {
  uintptr_t at = arena_address(&h->layout, arena);
  uintptr_t delta = h->flipped >> layout_region(&h->layout, at) & 1 ? h->layout.shadow_delta : 0;
  uint32_t relocated = 0;
  for (size_t b = arena * ARENA_BLOCKS; b < (arena + 1) * ARENA_BLOCKS && relocated == 0; b++)
    if (h->tables.dest[b] & DEST_RELOCATED) relocated = h->tables.dest[b] & ~DEST_RELOCATED;
  at_store(&h->tables.arenas[arena].made, (uint32_t)ARENA_CLOSED);
  consume_one(h, at, delta);
  if (relocated == 0) return;
  struct arena *source = &h->tables.arenas[relocated / ARENA_BLOCKS];
  uint32_t populated = at_load(&source->populated);
  at = arena_address(&h->layout, relocated / ARENA_BLOCKS);
  block_unpopulate(h, at, ARENA_BLOCKS);
  give_blocks(h, at + delta, source->huge, populated);
}

void consume_opened(gch_heap *h, size_t block) {
  size_t arena = block / ARENA_BLOCKS;
  if (at_load(&h->tables.arenas[arena].made) != ARENA_OPEN || at_sub(&h->tables.arenas[arena].left, 1) != 1) return;
  close_arena(h, arena);
  for (uint32_t i = 0; i < OPEN_ARENAS; i++) {
    uint32_t slot = (uint32_t)arena + 1;
    if (at_cas(&h->open_arenas[i], &slot, 0)) return;
  }
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
      if (heap_arena(h, at)->fate != ARENA_RELOCATES) heap_arena(h, at)->pending++;
  }
}
