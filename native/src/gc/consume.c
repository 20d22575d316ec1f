#include "gc/consume.h"

#include "heap/unit.h"
#include "mover/mover.h"

enum { DROP_BATCH = 32 };

struct drops drops_of(gch_heap *h, uint32_t threads) {
  uint32_t limit = h->frames.slots / (4 * threads);
  return (struct drops){.heap = h, .limit = limit < 1 ? 1 : limit > DROP_BATCH ? DROP_BATCH : limit};
}

void drops_flush(struct drops *d) {
  if (d->start == d->end) return;
  uint32_t blocks = (uint32_t)((d->end - d->start) / BLOCK_BYTES);
  uint32_t kept = d->heap->mover->moves_pages ? frames_give(d->heap, d->start, blocks) : 0;
  uintptr_t rest = d->start + kept * (uintptr_t)BLOCK_BYTES;
  if (kept < blocks && mover_release(d->heap, rest, d->end - rest))
    frames_add_extra(d->heap, -(int64_t)(d->end - rest));
  d->start = d->end = 0;
}

static void drops_add(struct drops *d, uintptr_t block) {
  if (block == d->end && d->end - d->start < d->limit * (uintptr_t)BLOCK_BYTES && block % ARENA_BYTES != 0) {
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

/* True: dropped. Else it serves as a frame, or the kernel will not take it. */
static bool give_arena(gch_heap *h, uintptr_t memory) {
  if (h->mover->moves_pages && frames_give_arena(h, memory)) return false;
  return mover_release(h, memory, ARENA_BYTES);
}

static bool is_huge(const struct arena *arena) {
  return at_load_relaxed(&arena->huge) != 0; /* see gc/produce_arena.c */
}

static bool was_flipped(const gch_heap *h, uintptr_t at) { return h->flipped >> layout_region(&h->layout, at) & 1; }

/* What it held is there a second time, and has been counted. */
static void give_copied(gch_heap *h, uintptr_t memory) {
  if (give_arena(h, memory)) frames_add_extra(h, -(int64_t)ARENA_BYTES);
}

/* The last one who reads the memory of a huge arena gives it back, if nothing of it is in use where it is. There may be two
 * last ones: the last source's, and the closer of an arena that was opened only after that. An arena of small pages is given
 * back by pieces. */
static void consume_one(gch_heap *h, uintptr_t start, uintptr_t delta) {
  struct arena *arena = heap_arena(h, start);
  uint32_t closed = ARENA_CLOSED;
  if (at_sub(&arena->pending, 1) != 1 || !is_huge(arena)) return;
  GCH_POINT(arena_consumed);
  if (at_cas(&arena->made, &closed, (uint32_t)ARENA_GIVEN)) {
    if (was_flipped(h, start)) give_copied(h, start + delta); /* what stays has been copied out of the shadow */
  } else if (at_load_relaxed(&arena->fate) != ARENA_STAYS) { /* no unit lies in it */
    block_unpopulate(h, start, ARENA_BLOCKS);
    give_copied(h, start + delta);
  }
}

void consume_in_huge_arena(gch_heap *h, uintptr_t at, uintptr_t delta) { consume_one(h, arena_of(at), delta); }

void consume_copied(gch_heap *h, uintptr_t source, uint64_t bytes, bool fresh) {
  uintptr_t delta = heap_contains(h, source) ? 0 : h->layout.shadow_delta, end = source + bytes;
  for (uintptr_t at = source, next; at < end; at = next) {
    next = arena_after(at);
    if (next > end) next = end;
    bool gone = !is_huge(heap_arena(h, at - delta)) && mover_release(h, at, next - at);
    uintptr_t first = align_up(at - delta, BLOCK_BYTES), stop = align_down(next - delta, BLOCK_BYTES);
    if (gone && first < stop) block_unpopulate(h, first, (uint32_t)((stop - first) / BLOCK_BYTES));
    if (gone != fresh) frames_add_extra(h, gone ? -(int64_t)(next - at) : (int64_t)(next - at));
  }
}

/* What the units of an arena were copied from: its own memory, if it had any at the flip (it waits for itself since it was
 * opened), the arena from which it relocates, or sources that count on their own. */
static void close_arena(gch_heap *h, size_t arena) {
  uintptr_t at = arena_address(&h->layout, arena), delta = was_flipped(h, at) ? h->layout.shadow_delta : 0;
  size_t source = SIZE_MAX;
  for (size_t b = arena * ARENA_BLOCKS; b < (arena + 1) * ARENA_BLOCKS && source == SIZE_MAX; b++)
    if (h->tables.dest[b] & DEST_RELOCATED) source = (h->tables.dest[b] & ~DEST_RELOCATED) / ARENA_BLOCKS;
  at_store(&h->tables.arenas[arena].made, (uint32_t)ARENA_CLOSED);
  consume_one(h, at, delta);
  if (source == SIZE_MAX || !is_huge(&h->tables.arenas[source])) return;
  uintptr_t from = arena_address(&h->layout, source);
  block_unpopulate(h, from, ARENA_BLOCKS);
  give_copied(h, from + delta);
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
  if (is_huge(heap_arena(h, at))) {
    consume_in_huge_arena(h, at, delta);
    return;
  }
  block_unpopulate(h, at, 1);
  drops_add(d, at + delta);
}

/* --- large objects ---------------------------------------------------------------------------------------------- */

/* An object is read in order of its bytes, but its units are blocks of where it goes, and a step may read of two arenas. */
uint32_t consume_reads(const gch_heap *h, const struct large *e, size_t arena, bool pieces) {
  uintptr_t start = arena_address(&h->layout, arena), end = start + ARENA_BYTES;
  uintptr_t object_end = e->base + align_up(e->bytes, h->layout.page_bytes);
  uintptr_t shift = pieces ? 0 - e->base : e->planned - e->base, step = pieces ? PLAN_PIECE_BYTES : BLOCK_BYTES;
  if (start < e->base) start = e->base;
  if (end > object_end) end = object_end;
  return (uint32_t)((end - 1 + shift) / step - (start + shift) / step + 1);
}

/* (What relocates with its page is not read out of it.) */
void consume_read(gch_heap *h, uintptr_t from, uint64_t bytes, uintptr_t delta) {
  for (uintptr_t at = from; at < from + bytes; at = arena_after(at))
    if (at_load_relaxed(&heap_arena(h, at)->fate) != ARENA_RELOCATES) consume_in_huge_arena(h, at, delta);
}

static void count_object(gch_heap *h, const struct large *e, bool pieces) {
  size_t last = arena_index(&h->layout, e->base + e->bytes - 1);
  for (size_t a = arena_index(&h->layout, e->base); a <= last; a++)
    if (at_load_relaxed(&h->tables.arenas[a].fate) != ARENA_RELOCATES)
      h->tables.arenas[a].pending += consume_reads(h, e, a, pieces);
}

void consume_count(gch_heap *h, const struct plan *p, bool pieces) {
  for (uint32_t i = 0; i < p->source_count; i++) h->tables.arenas[p->sources[i] / ARENA_BLOCKS].pending++;
  for (uint32_t i = 0; i < p->large_move_count; i++) {
    const struct large *e = &h->large.entries[p->large_moves[i]];
    if (e->forward != e->base) count_object(h, e, pieces); /* else it was pinned since the plan */
  }
}
