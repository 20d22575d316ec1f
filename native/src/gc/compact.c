/* The in-pause move.
 *
 * Workers share five lists, in this order: relocated arenas, relocated blocks, evacuated destinations, large objects that
 * move, what stays and holds references. Relocations come first because they need no memory; a destination of an
 * evacuation is given memory before it is filled ("supplied"), recycled from sources consumed so far where the mover can
 * (`move`: the pages of a consumed block or arena are moved there), else fresh. A source whose last reader is done is
 * recycled or dropped at once, so memory never exceeds what was there by more than the staging budget (I4).
 *
 * Where arenas are huge, memory is supplied and given back by whole arenas: an arena counts its sources (`pending`). */
#include "gc/compact.h"

#include <string.h>

#include "gc/consume.h"
#include "gc/forward_inline.h"
#include "gc/roots.h"
#include "gc/sweep.h"
#include "gc/team.h"
#include "heap/small.h"
#include "mover/mover.h"
#include "os/pages.h"

struct compaction {
  gch_heap *heap;
  struct plan *plan;
  struct gather gather;
  uint64_t next; /* [atomic] index over all lists, in chunks */
};

/* --- supplying destinations ----------------------------------------------------------------------------------- */

static void must_supply(gch_heap *h, uintptr_t dst, uint64_t bytes) {
  uintptr_t frame = h->mover->recycles ? frames_reuse(h, bytes == ARENA_BYTES) : 0;
  if (!h->mover->supply(h, dst, bytes, frame)) pages_touch((void *)dst, bytes);
}

/* Gives an arena memory once; others that need it meanwhile wait for whoever is at it. */
static void supply_arena(gch_heap *h, uintptr_t start) {
  struct arena *arena = heap_arena(h, start);
  uint32_t none = ARENA_UNSUPPLIED;
  if (at_load_relaxed(&arena->populated) == UINT32_MAX && at_load(&arena->supplied) != ARENA_BEING_SUPPLIED) return;
  if (at_cas(&arena->supplied, &none, (uint32_t)ARENA_BEING_SUPPLIED)) {
    must_supply(h, start, ARENA_BYTES);
    arena->huge = 1;
    at_store(&arena->populated, UINT32_MAX);
    at_store(&arena->supplied, (uint32_t)ARENA_SUPPLIED);
  }
  while (at_load(&arena->supplied) == ARENA_BEING_SUPPLIED) spin_pause();
}

static void supply_block(gch_heap *h, uintptr_t block) {
  struct arena *arena = heap_arena(h, block);
  uint32_t bit = (uint32_t)1 << block_index(&h->layout, block) % ARENA_BLOCKS;
  if (h->huge && at_load_relaxed(&arena->populated) == 0) supply_arena(h, block & ~(uintptr_t)(ARENA_BYTES - 1));
  if (at_load(&arena->populated) & bit) return;
  must_supply(h, block, BLOCK_BYTES);
  at_or(&arena->populated, bit);
}

/* Destinations of page moves must be empty. */
static void ensure_empty(gch_heap *h, uintptr_t start, uint32_t blocks) {
  struct arena *arena = heap_arena(h, start);
  uint32_t bit = (uint32_t)(block_index(&h->layout, start) % ARENA_BLOCKS);
  uint32_t mask = (uint32_t)bits_mask(bit, bit + blocks);
  if ((at_load_relaxed(&arena->populated) & mask) == 0) return;
  if (h->drop(h, start, blocks * (uint64_t)BLOCK_BYTES) < 0) return; /* it is written over, then */
  at_add_relaxed(&h->moved.released, blocks * (uint64_t)BLOCK_BYTES);
  at_and_relaxed(&arena->populated, ~mask);
}

/* --- the lists ------------------------------------------------------------------------------------------------ */

static void copy_bits(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  bits_copy_range(h->tables.live, granule_index(&h->layout, dst), h->tables.live, granule_index(&h->layout, src),
                  bytes / GRANULE_BYTES);
}

/* Relocates `blocks` neighbouring blocks that go the same way. */
static void relocate_run(struct compaction *c, size_t block, uint32_t blocks) {
  gch_heap *h = c->heap;
  struct gather g = c->gather;
  uintptr_t src = block_address(&h->layout, block), delta = (uintptr_t)h->tables.forward[block];
  uint64_t bytes = blocks * (uint64_t)BLOCK_BYTES;
  bool refs = !h->tables.blocks[block].leaf;
  if (h->mover->fixes_at_source) {
    for (uint32_t i = 0; i < blocks && refs; i++) fix_block(&g, block + i, delta);
    ensure_empty(h, src + delta, blocks);
    h->mover->publish(h, src + delta, src, bytes);
  } else {
    g.source_delta = delta;
    for (uint32_t i = 0; i < blocks; i++) {
      uintptr_t at = src + i * (uintptr_t)BLOCK_BYTES;
      supply_block(h, at + delta);
      memcpy((void *)(at + delta), (void *)at, BLOCK_BYTES);
      if (refs) fix_block(&g, block + i, delta);
    }
    mover_count_copied(h, bytes);
    mover_release(h, src, bytes);
  }
  copy_bits(h, src + delta, src, bytes);
  uint32_t bit = (uint32_t)(block_index(&h->layout, src + delta) % ARENA_BLOCKS);
  at_or_relaxed(&heap_arena(h, src + delta)->populated,
                (uint32_t)bits_mask(bit, bit + blocks)); /* read after the job */
  block_unpopulate(h, src, blocks);
}

/* Runs end at the borders of arenas on both sides, and where the distance changes. */
static void relocate_blocks(struct compaction *c, uint32_t from, uint32_t to) {
  gch_heap *h = c->heap;
  const uint32_t *moves = c->plan->moves;
  for (uint32_t i = from, end; i < to; i = end) {
    int64_t delta = h->tables.forward[moves[i]];
    size_t dst = moves[i] + (size_t)(delta >> BLOCK_SHIFT);
    for (end = i + 1; end < to && moves[end] == moves[i] + (end - i) && h->tables.forward[moves[end]] == delta; end++)
      if (moves[end] % ARENA_BLOCKS == 0 || (dst + (end - i)) % ARENA_BLOCKS == 0) break;
    relocate_run(c, moves[i], end - i);
  }
}

static int64_t arena_delta(const gch_heap *h, uint32_t arena) {
  size_t b = (size_t)arena * ARENA_BLOCKS;
  while (h->tables.forward[b] == 0) b++; /* some block of a relocated arena lives */
  return h->tables.forward[b];
}

static void relocate_arena(struct compaction *c, uint32_t arena) {
  gch_heap *h = c->heap;
  size_t first = (size_t)arena * ARENA_BLOCKS;
  int64_t delta = arena_delta(h, arena);
  uintptr_t src = arena_address(&h->layout, arena), dst = src + (uintptr_t)delta;
  if (!h->mover->fixes_at_source) {
    struct gather g = c->gather;
    g.source_delta = (uintptr_t)delta;
    supply_arena(h, dst);
    memcpy((void *)dst, (void *)src, ARENA_BYTES);
    for (size_t b = first; b < first + ARENA_BLOCKS; b++)
      if (h->tables.forward[b] != 0 && !h->tables.blocks[b].leaf) fix_block(&g, b, (uintptr_t)delta);
    mover_count_copied(h, ARENA_BYTES);
    mover_release(h, src, ARENA_BYTES);
  } else {
    for (size_t b = first; b < first + ARENA_BLOCKS; b++)
      if (h->tables.forward[b] != 0 && !h->tables.blocks[b].leaf) fix_block(&c->gather, b, (uintptr_t)delta);
    ensure_empty(h, dst, ARENA_BLOCKS);
    h->mover->publish(h, dst, src, ARENA_BYTES);
  }
  copy_bits(h, dst, src, ARENA_BYTES);
  heap_arena(h, dst)->populated = heap_arena(h, src)->populated;
  heap_arena(h, dst)->huge = heap_arena(h, src)->huge;
  block_unpopulate(h, src, ARENA_BLOCKS);
}

static void fill_dest(struct compaction *c, struct drops *drops, uint32_t dest) {
  gch_heap *h = c->heap;
  const struct dest *d = &c->plan->dests[dest];
  uintptr_t at = block_address(&h->layout, d->block);
  supply_block(h, at);
  if (h->mover->slides) /* it may have been a source */
    bits_clear_range(h->tables.live, d->block * (uint64_t)BLOCK_GRANULES, (d->block + 1) * (uint64_t)BLOCK_GRANULES);
  evacuate_gather(&c->gather, dest, at);
  mover_count_copied(h, (uint64_t)d->granules * GRANULE_BYTES);
  for (uint32_t s = d->first_source; s <= d->last_source; s++) {
    size_t source = c->plan->sources[s];
    if (at_sub(&h->tables.needed[source], 1) == 1 && !h->mover->slides) consume_block(drops, source, 0);
  }
}

/* `slide`: destinations in order; what has been emptied and not filled again is given back at the end. */
static void fill_chain(struct compaction *c, struct drops *drops, uint32_t chain) {
  uint32_t from = c->plan->chains[chain], to = c->plan->chains[chain + 1];
  for (uint32_t i = from; i < to; i++) fill_dest(c, drops, i);
  if (from == to) return;
  for (uint32_t s = c->plan->dests[from].first_source; s <= c->plan->dests[to - 1].last_source; s++)
    if (c->heap->tables.dest[c->plan->sources[s]] == 0) consume_block(drops, c->plan->sources[s], 0);
}

static void move_large(struct compaction *c, uint32_t id) {
  gch_heap *h = c->heap;
  struct large *e = &h->large.entries[id];
  struct gather g = c->gather;
  uint64_t bytes = align_up(e->bytes, h->layout.page_bytes);
  if (e->forward == e->base) return; /* pinned since the plan: it stays */
  bits_set_atomic(h->tables.live, granule_index(&h->layout, e->forward));
  if (h->mover->fixes_at_source && !h->huge) {
    if (!e->leaf) fix_large(&g, e->base, e->base + bytes, e->forward - e->base);
    h->mover->publish(h, e->forward, e->base, bytes);
    return;
  }
  for (uintptr_t at = e->forward; at < e->forward + bytes && h->huge;
       at = (at & ~(uintptr_t)(ARENA_BYTES - 1)) + ARENA_BYTES)
    supply_arena(h, at & ~(uintptr_t)(ARENA_BYTES - 1));
  if (!h->huge) must_supply(h, e->forward, bytes);
  memcpy((void *)e->forward, (void *)e->base, e->bytes);
  mover_count_copied(h, e->bytes);
  g.source_delta = e->forward - e->base;
  if (!e->leaf) fix_large(&g, e->base, e->base + bytes, g.source_delta);
  if (!h->huge) mover_release(h, e->base, bytes);
  for (uintptr_t at = e->base; at < e->base + bytes && h->huge; at = (at & ~(uintptr_t)(ARENA_BYTES - 1)) + ARENA_BYTES)
    consume_in_huge_arena(h, at, 0);
}

static void fix_large_id(struct compaction *c, uint32_t id) {
  const struct large *e = &c->heap->large.entries[id];
  fix_large(&c->gather, e->base, e->base + align_up(e->bytes, c->heap->layout.page_bytes), 0);
}

/* --- workers -------------------------------------------------------------------------------------------------- */

static void fix_root(uint64_t *slot, void *context) {
  uint64_t old = at_load_relaxed(slot); /* the world is stopped */
  root_replace(slot, old, forward_root(context, old));
}

/* Takes [*from, *to) of a list whose items start at `base` in the common index; false: the index is beyond it. */
static bool in_list(uint64_t index, uint64_t chunk, uint64_t *base, uint64_t count, uint32_t *from, uint32_t *to) {
  uint64_t chunks = div_ceil(count, chunk);
  if (index >= *base + chunks) {
    *base += chunks;
    return false;
  }
  *from = (uint32_t)((index - *base) * chunk);
  *to = (uint32_t)(*from + chunk < count ? *from + chunk : count);
  return true;
}

static bool work_chunk(struct compaction *c, struct drops *drops, uint64_t index) {
  const struct plan *p = c->plan;
  uint64_t base = 0;
  uint32_t i, to;
  if (in_list(index, 1, &base, p->arena_count, &i, &to)) {
    relocate_arena(c, p->arenas[i]);
  } else if (in_list(index, ARENA_BLOCKS, &base, p->move_count, &i, &to)) {
    relocate_blocks(c, i, to);
  } else if (in_list(index, 1, &base, p->chain_count, &i, &to)) {
    fill_chain(c, drops, i);
  } else if (in_list(index, 8, &base, p->chain_count == 0 ? p->dest_count : 0, &i, &to)) {
    for (; i < to; i++) fill_dest(c, drops, i);
  } else if (in_list(index, 1, &base, p->large_move_count, &i, &to)) {
    move_large(c, p->large_moves[i]);
  } else if (in_list(index, 8, &base, p->fix_count, &i, &to)) {
    for (; i < to; i++) fix_block(&c->gather, p->fixes[i], 0);
  } else if (in_list(index, 1, &base, p->large_fix_count, &i, &to)) {
    fix_large_id(c, p->large_fixes[i]);
  } else {
    return false;
  }
  return true;
}

static void compact_worker(void *context, uint32_t worker, uint32_t workers) {
  struct compaction *c = context;
  struct drops drops = {.heap = c->heap};
  (void)workers;
  if (worker == 0) roots_visit(c->heap, fix_root, c->heap);
  while (work_chunk(c, &drops, at_add_relaxed(&c->next, 1))) continue;
  drops_flush(&drops);
}

void compact_in_pause(gch_heap *h, struct plan *plan) {
  struct compaction c = {.heap = h, .plan = plan};
  c.gather = (struct gather){.heap = h, .plan = plan, .map = h->tables.live, .born = h->tables.live};
  if (h->huge) consume_count(h, plan);
  team_run(h, compact_worker, &c);
}

/* --- end ------------------------------------------------------------------------------------------------------ */

static void finish_dests(gch_heap *h, struct plan *p) {
  for (uint32_t i = 0; i < p->source_count; i++) {
    size_t block = p->sources[i];
    bool emptied = h->tables.forward[block] != 0; /* else it was pinned since the plan */
    h->tables.forward[block] = 0;
    h->tables.needed[block] = 0;
    if (emptied && h->tables.dest[block] == 0) /* (`slide` fills some again) */
      block_free(h, block_address(&h->layout, block), true); /* its populated bit says what is there */
  }
  for (uint32_t i = 0; i < p->dest_count; i++) {
    struct block *b = &h->tables.blocks[p->dests[i].block];
    at_store(&b->state, (uint8_t)BLOCK_USED);
    b->top = p->dests[i].granules;
    b->live = p->dests[i].granules;
    h->tables.dest[p->dests[i].block] = 0;
  }
}

static void finish_moved_block(gch_heap *h, size_t block) {
  struct block *b = &h->tables.blocks[block];
  struct block *to = b + (h->tables.forward[block] >> BLOCK_SHIFT);
  at_store(&to->state, (uint8_t)BLOCK_USED);
  to->top = b->top;
  to->live = b->live;
  h->tables.dest[to - h->tables.blocks] = 0;
  h->tables.forward[block] = 0;
  /* Its memory went with it, but for pieces that were copied out of a huge page. */
  size_t arena = (size_t)(to - h->tables.blocks) / ARENA_BLOCKS;
  bool left = h->huge && at_load(&h->tables.arenas[arena].supplied) != ARENA_PUBLISHED_WHOLE;
  block_free(h, block_address(&h->layout, block), left);
}

static void finish_moves(gch_heap *h, struct plan *p) {
  for (uint32_t i = 0; i < p->move_count; i++)
    if (h->tables.forward[p->moves[i]] != 0) finish_moved_block(h, p->moves[i]);
  for (uint32_t i = 0; i < p->arena_count; i++)
    for (size_t b = (size_t)p->arenas[i] * ARENA_BLOCKS; b < ((size_t)p->arenas[i] + 1) * ARENA_BLOCKS; b++)
      if (h->tables.forward[b] != 0) finish_moved_block(h, b);
}

static uint64_t finish_large(gch_heap *h, struct plan *p) {
  uint64_t released = 0;
  for (uint32_t i = 0; i < p->large_move_count; i++) {
    struct large *e = &h->large.entries[p->large_moves[i]];
    bool moved = e->forward != e->base; /* else it was pinned since the plan: it leaves what was reserved for it */
    h->tables.forward[block_index(&h->layout, e->base)] = 0;
    /* Whatever a mover leaves behind (a copied piece of a huge page) must not turn up in the next object. */
    released += large_vacate(h, moved ? e->base : e->planned, e->bytes, true);
    at_store(&e->base, e->forward);
  }
  return released;
}

/* The old map is cleared, nothing is newly born any more, memory of free blocks is given back. */
static uint64_t finish_arena(gch_heap *h, enum space_id space, uint32_t arena) {
  struct arena *a = &h->tables.arenas[arena];
  uint64_t first = (uint64_t)arena * ARENA_BLOCKS;
  a->pending = a->supplied = 0;
  a->populated |= a->kept; /* of a consumed huge arena, blocks that were free too */
  a->kept = 0;
  bits_clear_range(h->tables.mark, first * BLOCK_GRANULES, (first + ARENA_BLOCKS) * BLOCK_GRANULES);
  for (size_t b = first; b < first + ARENA_BLOCKS; b++) {
    if (space == SPACE_YOUNG) sweep_block(h, b); /* kept blocks that died: see gc/sweep.h */
    h->tables.blocks[b].born = 0;
    if (h->tables.blocks[b].state != BLOCK_DEST) continue;
    h->tables.dest[b] = 0; /* nothing came: its source was pinned */
    block_free(h, block_address(&h->layout, b), true);
  }
  return space_is_large(space) || space == SPACE_YOUNG ? 0 : arena_release_free(h, arena);
}

static struct lock *region_lock(gch_heap *h, enum space_id space) {
  if (space == SPACE_YOUNG) return &h->young.lock;
  if (space == SPACE_OLD || space == SPACE_LEAF) return &heap_small_space(h, space == SPACE_LEAF)->lock;
  return &h->large.lock;
}

/* Beside mutators: who allocates in the region is kept out an arena at a time; a minor collection, whose marks are in the
 * young region, too. */
static uint64_t finish_region(gch_heap *h, uint32_t region, bool beside) {
  enum space_id space = h->layout.regions[region].space;
  uint32_t first, count = region_arenas(h, region, &first);
  uint64_t released = 0;
  for (uint32_t a = first; a < first + count; a++) {
    if (beside && space == SPACE_YOUNG) lock_lock(&h->cycle_lock);
    if (beside) lock_lock(region_lock(h, space));
    released += finish_arena(h, space, a);
    if (beside) lock_unlock(region_lock(h, space));
    if (beside && space == SPACE_YOUNG) lock_unlock(&h->cycle_lock);
  }
  return released;
}

uint64_t compact_finish(gch_heap *h, struct plan *p, bool beside) {
  uint64_t released = 0;
  finish_dests(h, p);
  finish_moves(h, p);
  if (beside) lock_lock(&h->large.lock);
  released += finish_large(h, p);
  for (uint32_t id = 1; id < h->large.count; id++) h->large.entries[id].born = 0;
  if (beside) lock_unlock(&h->large.lock);
  for (uint32_t r = 0; r < h->layout.region_count; r++)
    if (h->layout.regions[r].space != SPACE_FRAMES) released += finish_region(h, r, beside);
  return released + frames_settle(h);
}
