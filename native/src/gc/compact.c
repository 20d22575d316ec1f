/* The in-pause move.
 *
 * Workers share lists, in this order: relocated arenas, relocated blocks, evacuated destinations, large objects
 * (compact_large.c), what stays and holds references. A destination of an evacuation is given memory before it is filled
 * ("supplied"), recycled from sources consumed so far where the mover can (`move`: the pages of consumed blocks or of an
 * arena are moved there), else fresh. A source whose last reader is done is recycled or dropped, and what all workers have in
 * hand until then is shared out of the staging budget, so memory never exceeds what was there by more than that (I4).
 *
 * Movers that copy do with each entry of a list all that is to be done. `move` does it in two steps. What relocates is fixed
 * where it is, by all workers; then one moves the pages, in calls as long as neighbours allow, while the others sleep. For a
 * page move pays a TLB shootdown to every CPU that runs the process (measured, a huge page: 1.2 us while the others sleep, 10
 * while one runs), and moves of one pair of mappings do not run side by side in the kernel. (Measured, two threads, 1 GiB of
 * objects of 512 bytes: 41 ms; 51 when each moves what it has fixed, 15 of them spent waiting for the other's move.)
 *
 * Where arenas are huge, memory is supplied and given back by whole arenas: an arena counts its sources (`pending`). */
#include "gc/compact.h"

#include <string.h>

#include "gc/compact_internal.h"
#include "gc/consume.h"
#include "gc/finalize.h"
#include "gc/forward_inline.h"
#include "gc/roots.h"
#include "gc/team.h"
#include "heap/small.h"
#include "mover/liveness.h"
#include "mover/mover.h"
#include "os/pages.h"

enum {
  LEAST_SHARE = 8, /* blocks of the staging budget for each worker that fills */
};

/* In the order in which workers take them. */
enum list {
  LIST_ARENAS,
  LIST_LARGE_ARENAS,
  LIST_MOVES,
  LIST_MOVE_CHAINS,
  LIST_CHAINS,
  LIST_DESTS,
  LIST_LARGE_CHAINS,
  LIST_PIECES,
  LIST_FIXES,
  LIST_COUNT
};

struct compaction {
  gch_heap *heap;
  struct plan *plan;
  struct gather gather;
  uint32_t fillers; /* workers that take what needs memory, from the first on */
  uint32_t chunk; /* blocks that such a worker puts memory behind at a time */
  uint64_t next[LIST_COUNT]; /* [atomic] */
};

/* --- supplying destinations ----------------------------------------------------------------------------------- */

static void must_supply(gch_heap *h, uintptr_t dst, uint64_t bytes, uintptr_t frame) {
  if (!h->mover->supply(h, dst, bytes, frame)) pages_touch((void *)dst, bytes);
}

void compact_supply(gch_heap *h, uintptr_t dst, uint64_t bytes) { must_supply(h, dst, bytes, 0); }

void compact_supply_arena(gch_heap *h, uintptr_t start) {
  struct arena *arena = heap_arena(h, start);
  uint32_t none = ARENA_UNMADE;
  if (at_load_relaxed(&arena->populated) == UINT32_MAX && at_load(&arena->made) != ARENA_MAKING) return;
  if (at_cas(&arena->made, &none, (uint32_t)ARENA_MAKING)) {
    must_supply(h, start, ARENA_BYTES, h->mover->moves_pages ? frames_reuse_arena(h) : 0);
    arena_set_huge(arena, true);
    at_store(&arena->populated, UINT32_MAX);
    at_store(&arena->made, (uint32_t)ARENA_WHOLE);
  }
  while (at_load(&arena->made) == ARENA_MAKING) spin_pause();
}

/* Neighbouring empty blocks of one arena. */
static void supply_run(gch_heap *h, uintptr_t dst, uint32_t blocks) {
  uint32_t bit = (uint32_t)(block_index(&h->layout, dst) % ARENA_BLOCKS);
  for (uint32_t done = 0, n; done < blocks; done += n) {
    uintptr_t frame = 0;
    n = h->mover->moves_pages ? frames_reuse(h, blocks - done, &frame) : 0;
    if (n == 0) n = blocks - done;
    must_supply(h, dst + done * (uintptr_t)BLOCK_BYTES, n * (uint64_t)BLOCK_BYTES, frame);
  }
  at_or(&heap_arena(h, dst)->populated, (uint32_t)bits_mask(bit, bit + blocks));
}

static bool needs_supply(gch_heap *h, uintptr_t block) {
  struct arena *arena = heap_arena(h, block);
  if (h->huge && at_load_relaxed(&arena->populated) == 0) compact_supply_arena(h, arena_of(block));
  return (at_load(&arena->populated) >> block_index(&h->layout, block) % ARENA_BLOCKS & 1) == 0;
}

/* Where memory is fresh, block by block: it is still in the cache, zeroed, when it is filled. */
static void supply_block(gch_heap *h, uintptr_t block) {
  if (needs_supply(h, block)) supply_run(h, block, 1);
}

/* Where it is recycled, in runs: each is a call. */
static void supply_dests(gch_heap *h, const struct dest *dests, uint32_t count) {
  for (uint32_t i = 0, n; i < count; i += n) {
    uintptr_t at = block_address(&h->layout, dests[i].block);
    n = 1;
    if (!needs_supply(h, at)) continue;
    while (i + n < count && dests[i + n].block == dests[i].block + n && dests[i + n].block % ARENA_BLOCKS != 0 &&
           needs_supply(h, at + n * (uintptr_t)BLOCK_BYTES))
      n++;
    supply_run(h, at, n);
  }
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

/* A whole arena's bits go as its pages do: see mover/liveness.h. */
static void take_bits(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  if (bytes == ARENA_BYTES && h->mover->moves_pages) {
    liveness_hand_over(h, h->tables.live, arena_index(&h->layout, dst), h->tables.live, arena_index(&h->layout, src),
                       1);
    heap_arena(h, src)->cleared = 1;
    return;
  }
  bits_copy_range(h->tables.live, granule_index(&h->layout, dst), h->tables.live, granule_index(&h->layout, src),
                  bytes / GRANULE_BYTES);
}

/* Copies a block to where it is to be, and fixes its references there, while it is warm. */
static void copy_block(struct compaction *c, size_t block) {
  gch_heap *h = c->heap;
  struct gather g = c->gather;
  uintptr_t at = block_address(&h->layout, block);
  g.source_delta = (uintptr_t)h->tables.forward[block];
  supply_block(h, at + g.source_delta);
  memcpy((void *)(at + g.source_delta), (void *)at, BLOCK_BYTES);
  if (!h->tables.blocks[block].leaf) fix_block(&g, block, g.source_delta);
  mover_count_copied(h, BLOCK_BYTES);
}

/* Relocates `blocks` neighbouring blocks that go the same way. */
static void relocate_run(struct compaction *c, size_t block, uint32_t blocks) {
  gch_heap *h = c->heap;
  uintptr_t src = block_address(&h->layout, block), delta = (uintptr_t)h->tables.forward[block];
  uint64_t bytes = blocks * (uint64_t)BLOCK_BYTES;
  if (h->mover->fixes_at_source) {
    for (uint32_t i = 0; i < blocks && !h->mover->moves_pages; i++) fix_relocating(&c->gather, block + i);
    ensure_empty(h, src + delta, blocks);
    h->mover->publish(h, src + delta, src, bytes);
  } else {
    for (uint32_t i = 0; i < blocks; i++) copy_block(c, block + i);
    mover_release(h, src, bytes);
  }
  take_bits(h, src + delta, src, bytes);
  uint32_t bit = (uint32_t)(block_index(&h->layout, src + delta) % ARENA_BLOCKS);
  at_or_relaxed(&heap_arena(h, src + delta)->populated,
                (uint32_t)bits_mask(bit, bit + blocks)); /* read after the job */
  block_unpopulate(h, src, blocks);
}

/* Runs end at the borders of arenas on both sides, and where the distance changes; where they are copied they are short. */
static void relocate_blocks(struct compaction *c, uint32_t from, uint32_t to) {
  gch_heap *h = c->heap;
  const uint32_t *moves = c->plan->moves;
  uint32_t longest = h->mover->moves_pages ? ARENA_BLOCKS : c->chunk;
  for (uint32_t i = from, end; i < to; i = end) {
    int64_t delta = h->tables.forward[moves[i]];
    size_t dst = moves[i] + (size_t)(delta >> BLOCK_SHIFT);
    for (end = i + 1; end < to && moves[end] == moves[i] + (end - i) && h->tables.forward[moves[end]] == delta; end++)
      if (end - i == longest || moves[end] % ARENA_BLOCKS == 0 || (dst + (end - i)) % ARENA_BLOCKS == 0) break;
    relocate_run(c, moves[i], end - i);
  }
}

/* `slide`: each block into the memory of one before; that of the last ones is left over. (In huge arenas it stays, as free
 * blocks' does.) */
static void slide_blocks(struct compaction *c, uint32_t chain) {
  gch_heap *h = c->heap;
  const uint32_t *moves = c->plan->moves;
  uint32_t from = c->plan->move_chains[chain], to = c->plan->move_chains[chain + 1];
  for (uint32_t i = from; i < to; i++) {
    uintptr_t src = block_address(&h->layout, moves[i]);
    copy_block(c, moves[i]);
    take_bits(h, src + (uintptr_t)h->tables.forward[moves[i]], src, BLOCK_BYTES);
  }
  for (uint32_t i = from; i < to && !h->huge; i++) {
    if (h->tables.dest[moves[i]] != 0) continue;
    mover_release(h, block_address(&h->layout, moves[i]), BLOCK_BYTES);
    block_unpopulate(h, block_address(&h->layout, moves[i]), 1);
  }
}

/* The pages of an arena go where they are, run by run of blocks that have any: a hole would go as pages of zeros, which the tables
 * at the other end do not know of. */
static void publish_arena(gch_heap *h, uintptr_t dst, uintptr_t src) {
  for (uint32_t rest = at_load_relaxed(&heap_arena(h, src)->populated), from; rest != 0;) { /* nobody else's */
    uint32_t blocks = bits_take_run(&rest, &from);
    uintptr_t offset = from * (uintptr_t)BLOCK_BYTES;
    h->mover->publish(h, dst + offset, src + offset, blocks * (uint64_t)BLOCK_BYTES);
  }
}

/* The memory of neighbouring arenas has moved. */
static void settle_arenas(gch_heap *h, uintptr_t dst, uintptr_t src, uint32_t count) {
  size_t to = arena_index(&h->layout, dst), from = arena_index(&h->layout, src);
  liveness_hand_over(h, h->tables.live, to, h->tables.live, from, count);
  for (uint32_t i = 0; i < count; i++) {
    struct arena *new = &h->tables.arenas[to + i], *old = &h->tables.arenas[from + i];
    /* There may be some that could not be dropped, or that copying has supplied. */
    arena_set_populated(new, new->populated | old->populated);
    arena_set_huge(new, old->huge);
    old->cleared = 1;
    block_unpopulate(h, src + i * (uintptr_t)ARENA_BYTES, ARENA_BLOCKS);
  }
}

static void copy_arena(struct compaction *c, uint32_t arena, uintptr_t src, uintptr_t dst) {
  gch_heap *h = c->heap;
  struct gather g = c->gather;
  g.source_delta = dst - src;
  compact_supply_arena(h, dst);
  memcpy((void *)dst, (void *)src, ARENA_BYTES);
  for (size_t b = (size_t)arena * ARENA_BLOCKS; b < ((size_t)arena + 1) * ARENA_BLOCKS; b++)
    if (h->tables.forward[b] != 0 && !h->tables.blocks[b].leaf) fix_block(&g, b, g.source_delta);
  mover_count_copied(h, ARENA_BYTES);
  mover_release(h, src, ARENA_BYTES);
}

static void relocate_arena(struct compaction *c, uint32_t arena) {
  gch_heap *h = c->heap;
  uintptr_t src = arena_address(&h->layout, arena), dst = src + (uintptr_t)plan_arena_delta(h, arena);
  if (h->mover->fixes_at_source) {
    fix_arena(&c->gather, arena);
    ensure_empty(h, dst, ARENA_BLOCKS);
    publish_arena(h, dst, src);
  } else {
    copy_arena(c, arena, src, dst);
  }
  settle_arenas(h, dst, src, 1);
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
  GCH_POINT(dest_filled);
}

static void fill_dests(struct compaction *c, struct drops *drops, uint32_t from, uint32_t to) {
  if (c->heap->mover->moves_pages) {
    drops_flush(drops); /* what this worker has consumed serves first */
    supply_dests(c->heap, &c->plan->dests[from], to - from);
  }
  for (; from < to; from++) fill_dest(c, drops, from);
}

/* `slide`: destinations in order; what has been emptied and not filled again is given back at the end. */
static void fill_chain(struct compaction *c, struct drops *drops, uint32_t chain) {
  uint32_t from = c->plan->chains[chain], to = c->plan->chains[chain + 1];
  for (uint32_t i = from; i < to; i++) fill_dest(c, drops, i);
  if (from == to) return;
  for (uint32_t s = c->plan->dests[from].first_source; s <= c->plan->dests[to - 1].last_source; s++)
    if (c->heap->tables.dest[c->plan->sources[s]] == 0) consume_block(drops, c->plan->sources[s], 0);
}

/* --- `move`: pages, when references are fixed ------------------------------------------------------------------- */

static void move_arenas(gch_heap *h, const struct plan *p) {
  for (uint32_t i = 0, n; i < p->arena_count; i += n) {
    n = plan_arena_run(h, p, i);
    uintptr_t src = arena_address(&h->layout, p->arenas[i]), dst = src + (uintptr_t)plan_arena_delta(h, p->arenas[i]);
    for (uint32_t k = 0; k < n; k++) ensure_empty(h, dst + k * (uintptr_t)ARENA_BYTES, ARENA_BLOCKS);
    if (n > 1)
      h->mover->publish(h, dst, src, n * (uint64_t)ARENA_BYTES);
    else
      publish_arena(h, dst, src);
    settle_arenas(h, dst, src, n);
  }
}

/* The workers sleep. Large objects in huge arenas that do not go whole have been copied. */
static void move_fixed(struct compaction *c) {
  gch_heap *h = c->heap;
  const struct plan *p = c->plan;
  move_arenas(h, p);
  relocate_blocks(c, 0, p->move_count);
  compact_move_large_arenas(h, p);
  if (!h->huge) compact_move_large(h, p);
}

/* --- workers -------------------------------------------------------------------------------------------------- */

static void fix_root(uint64_t *slot, void *context) {
  uint64_t old = at_load_relaxed(slot); /* the world is stopped */
  root_replace(slot, old, forward_root(context, old));
}

/* Takes the next [*from, *to) of a list; false: there is no more. */
static bool take(struct compaction *c, enum list list, uint32_t chunk, uint64_t count, uint32_t *from, uint32_t *to) {
  uint64_t at = at_add_relaxed(&c->next[list], chunk);
  if (at >= count) return false;
  *from = (uint32_t)at;
  *to = (uint32_t)(at + chunk < count ? at + chunk : count);
  return true;
}

/* `move`: of what relocates, the part before pages move. */
static void fix_relocated(struct compaction *c) {
  const struct plan *p = c->plan;
  uint32_t i, to;
  while (take(c, LIST_ARENAS, 1, p->arena_count, &i, &to)) fix_arena(&c->gather, p->arenas[i]);
  while (take(c, LIST_LARGE_ARENAS, 1, p->large_arena_count, &i, &to))
    compact_fix_large_arena(&c->gather, &p->large_arenas[i]);
  while (take(c, LIST_MOVES, 8, p->move_count, &i, &to))
    for (; i < to; i++) fix_relocating(&c->gather, p->moves[i]);
}

static void relocate(struct compaction *c) {
  const struct plan *p = c->plan;
  uint32_t i, to;
  while (take(c, LIST_ARENAS, 1, p->arena_count, &i, &to)) relocate_arena(c, p->arenas[i]);
  while (take(c, LIST_MOVES, ARENA_BLOCKS, p->move_chain_count == 0 ? p->move_count : 0, &i, &to))
    relocate_blocks(c, i, to);
  while (take(c, LIST_MOVE_CHAINS, 1, p->move_chain_count, &i, &to)) slide_blocks(c, i);
}

static void evacuate(struct compaction *c, struct drops *drops) {
  const struct plan *p = c->plan;
  uint32_t i, to;
  while (take(c, LIST_CHAINS, 1, p->chain_count, &i, &to)) fill_chain(c, drops, i);
  while (take(c, LIST_DESTS, c->chunk, p->chain_count == 0 ? p->dest_count : 0, &i, &to)) fill_dests(c, drops, i, to);
  while (take(c, LIST_LARGE_CHAINS, 1, p->large_chain_count, &i, &to)) compact_slide_large(&c->gather, i);
}

static void fix_pieces(struct compaction *c) {
  uint32_t i, to;
  while (take(c, LIST_PIECES, 1, c->plan->piece_count, &i, &to)) compact_fix_piece(&c->gather, &c->plan->pieces[i]);
}

static void move_pieces(struct compaction *c) {
  uint32_t i, to;
  while (take(c, LIST_PIECES, 1, c->plan->piece_count, &i, &to))
    compact_move_piece(&c->gather, &c->plan->pieces[i], c->chunk * (uint64_t)BLOCK_BYTES);
}

static void fix(struct compaction *c) {
  uint32_t i, to;
  while (take(c, LIST_FIXES, 8, c->plan->fix_count, &i, &to))
    for (; i < to; i++) fix_block(&c->gather, c->plan->fixes[i], 0);
}

/* `fills`: what needs memory, too. */
static void work_on_lists(struct compaction *c, struct drops *drops, bool fills) {
  bool pages_last = c->heap->mover->moves_pages;
  if (pages_last)
    fix_relocated(c);
  else if (fills)
    relocate(c);
  if (fills) evacuate(c, drops);
  if (pages_last && !c->heap->huge) /* else what does not go by whole arenas is copied */
    fix_pieces(c);
  else if (fills)
    move_pieces(c);
  fix(c);
}

static void compact_worker(void *context, uint32_t worker, uint32_t workers) {
  struct compaction *c = context;
  struct drops drops = drops_of(c->heap, c->fillers);
  (void)workers;
  if (worker == 0) roots_visit(c->heap, fix_root, c->heap);
  if (worker == 0) finalizers_visit(c->heap, fix_root, c->heap);
  work_on_lists(c, &drops, worker < c->fillers);
  drops_flush(&drops);
}

/* Each worker that fills has in hand what it has supplied at a time, consumed sources that it has not given back yet, and two
 * sources that its neighbours still read: together not more than its share of the budget. Who would have no share that is
 * worth it does what needs no memory. */
static void share_budget(struct compaction *c) {
  const gch_heap *h = c->heap;
  uint32_t least = h->huge ? ARENA_BLOCKS : LEAST_SHARE, fillers = h->frames.slots / least;
  c->fillers = fillers < 1 ? 1 : fillers > h->config.gc_threads ? h->config.gc_threads : fillers;
  uint32_t half = h->frames.slots / c->fillers / 2;
  c->chunk = half > ARENA_BLOCKS ? ARENA_BLOCKS : half;
}

void compact_in_pause(gch_heap *h, struct plan *plan) {
  struct compaction c = {.heap = h, .plan = plan};
  c.gather = (struct gather){.heap = h, .plan = plan, .map = h->tables.live, .born = h->tables.live};
  share_budget(&c);
  if (h->huge) consume_count(h, plan, true);
  team_run(h, compact_worker, &c);
  if (h->mover->moves_pages) move_fixed(&c);
  at_add_relaxed(&h->moved.released, frames_settle(h));
}
