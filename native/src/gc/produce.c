/* A unit is made from its own sources and tables only (I11), in the shadow or in a frame, and published when all of it is
 * finished (I2).
 *
 *   stays      references fixed in the shadow, pages moved back to where they were
 *   relocated  the same, from the shadow of the source block
 *   evacuated  objects gathered into a frame (a consumed source, staging, or the destination's own shadow), then published
 *   large      page runs of the objects that overlap the block, each fixed in the shadow, each published
 *
 * Leaf regions are not flipped: their sources are read where they are. */
#include "gc/produce.h"

#include <string.h>

#include "heap/frames.h"
#include "mover/mover.h"
#include "mover/publish.h"
#include "os/thread.h"

struct production {
  gch_heap *heap;
  struct drops *drops;
  struct gather gather;
  size_t block;
  uintptr_t at; /* address of the destination */
  uintptr_t frame; /* evacuated units: memory to fill */
  bool piece_of_huge; /* the arena's memory is huge: pieces are copied out of it, not torn out */
};

static bool is_flipped(const gch_heap *h, uintptr_t a) { return h->flipped >> layout_region(&h->layout, a) & 1; }
static uintptr_t source_delta(const gch_heap *h, uintptr_t a) { return is_flipped(h, a) ? h->layout.shadow_delta : 0; }

static void set_populated(gch_heap *h, size_t block) {
  at_or(&h->tables.arenas[block / ARENA_BLOCKS].populated, (uint32_t)1 << block % ARENA_BLOCKS);
}

/* Where pages are huge a single block is copied, and its source goes with the rest of its arena (policy `latency`). */
static void publish(struct production *p, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  gch_heap *h = p->heap;
  if (p->piece_of_huge)
    publish_by_copy(h, h->missing.fd, dst, src, bytes, 0);
  else
    h->mover->publish_armed(h, dst, src, bytes);
}

/* --- small blocks --------------------------------------------------------------------------------------------- */

static void produce_in_place(struct production *p) {
  fix_block(&p->gather, p->block, 0);
  publish(p, p->at, p->at + p->gather.source_delta, BLOCK_BYTES);
}

static void produce_relocated(struct production *p, size_t source) {
  gch_heap *h = p->heap;
  uintptr_t from = block_address(&h->layout, source);
  if (!h->tables.blocks[source].leaf) fix_block(&p->gather, source, p->at - from);
  bits_copy_range(h->tables.live, p->block * BLOCK_GRANULES, h->tables.live, source * BLOCK_GRANULES, BLOCK_GRANULES);
  publish(p, p->at, from + p->gather.source_delta, BLOCK_BYTES);
}

/* Memory to fill, in hand before the unit is claimed (I3): the mover's own place for the destination, or a frame. Frames
 * run out only while more units than the pool has frames are being made, by threads that wait for nothing. */
static uintptr_t take_frame(gch_heap *h, uintptr_t at, bool fault) {
  uintptr_t frame = h->mover->fill_in_place ? at + h->layout.shadow_delta : 0;
  for (uint32_t spins = 0; frame == 0; spins++) {
    frames_take(h, 1, fault || spins > 1000, &frame);
    if (frame == 0 && spins > 100) thread_yield();
  }
  return frame;
}

void produce_consumed(gch_heap *h, struct drops *drops, uint32_t dest, uintptr_t delta) {
  const struct dest *d = &h->plan->dests[dest];
  mover_count_copied(h, (uint64_t)d->granules * GRANULE_BYTES);
  for (uint32_t s = d->first_source; s <= d->last_source; s++) {
    size_t source = h->plan->sources[s];
    if (at_sub(&h->tables.needed[source], 1) == 1) consume_block(drops, source, delta);
  }
}

static void produce_evacuated(struct production *p, uint32_t dest) {
  gch_heap *h = p->heap;
  evacuate_gather(&p->gather, dest, p->frame);
  publish(p, p->at, p->frame, BLOCK_BYTES);
  if (!h->mover->fill_in_place) frames_done(h, p->frame, 1, h->mover->recycles && !p->piece_of_huge);
  produce_consumed(h, p->drops, dest, p->gather.source_delta);
}

/* --- large objects -------------------------------------------------------------------------------------------- */

struct large *large_run_at(gch_heap *h, uintptr_t at, uintptr_t end, uintptr_t *stop) {
  uint32_t id = h->tables.large_ids[(at - h->layout.base) >> h->layout.page_shift];
  struct large *e = &h->large.entries[id];
  uint64_t bytes = align_up(e->bytes, h->layout.page_bytes);
  bool here = id != 0 && at - e->forward < bytes && (is_flipped(h, at) || e->forward != e->base);
  *stop = !here ? at + h->layout.page_bytes : e->forward + bytes < end ? e->forward + bytes : end;
  return here ? e : NULL;
}

void large_run_done(gch_heap *h, struct drops *drops, struct large *e, uintptr_t delta) {
  (void)drops;
  if (!h->huge || e->forward == e->base || e->born || at_sub(&e->left, 1) != 1) return;
  uint64_t bytes = align_up(e->bytes, h->layout.page_bytes);
  for (uintptr_t at = e->base; at < e->base + bytes; at = (at & ~(uintptr_t)(ARENA_BYTES - 1)) + ARENA_BYTES)
    consume_in_huge_arena(h, at, delta);
}

/* Each run of an object's pages in the block: fixed in the shadow; then, when all runs are, published. */
static void produce_large(struct production *p) {
  gch_heap *h = p->heap;
  uintptr_t end = p->at + BLOCK_BYTES, stop;
  for (int publishing = 0; publishing < 2; publishing++) {
    for (uintptr_t at = p->at; at < end; at = stop) {
      struct large *e = large_run_at(h, at, end, &stop);
      uintptr_t source = e == NULL ? 0 : e->base + (at - e->forward);
      if (e == NULL) continue;
      if (publishing) {
        publish(p, at, source + p->gather.source_delta, stop - at);
        large_run_done(h, p->drops, e, p->gather.source_delta);
        continue;
      }
      if (!e->leaf) fix_large(&p->gather, source, source + (stop - at), at - source);
      if (at == e->forward) bits_set_atomic(h->tables.live, granule_index(&h->layout, at));
    }
  }
}

/* --- entry ---------------------------------------------------------------------------------------------------- */

static void produce_claimed(struct production *p) {
  gch_heap *h = p->heap;
  uint32_t dest = h->tables.dest[p->block];
  p->piece_of_huge = h->huge && !h->mover->fill_in_place;
  p->gather = (struct gather){.heap = h,
                              .plan = h->plan,
                              .map = h->tables.live,
                              .born = h->tables.live,
                              .source_delta = source_delta(h, p->at)};
  if (h->tables.blocks[p->block].state == BLOCK_LARGE)
    produce_large(p);
  else if (dest & DEST_RELOCATED)
    produce_relocated(p, dest & ~DEST_RELOCATED);
  else if (dest != 0)
    produce_evacuated(p, dest - 1);
  else
    produce_in_place(p);
  set_populated(h, p->block);
}

static bool is_filled(const gch_heap *h, size_t block) {
  uint32_t dest = h->tables.dest[block];
  return h->tables.blocks[block].state != BLOCK_LARGE && dest != 0 && !(dest & DEST_RELOCATED);
}

void produce_claimed_unit(gch_heap *h, struct drops *drops, size_t block) {
  struct production p = {.heap = h, .drops = drops, .block = block, .at = block_address(&h->layout, block)};
  if (is_filled(h, block)) p.frame = take_frame(h, p.at, true); /* the rule (I3) bends here: the reserve is for this */
  produce_claimed(&p);
  unit_done(h, block);
}

bool produce_unit(gch_heap *h, struct drops *drops, size_t block, bool fault) {
  struct production p = {.heap = h, .drops = drops, .block = block, .at = block_address(&h->layout, block)};
  bool fills = is_filled(h, block);
  if (unit_state(h, block) != UNIT_ARMED) return false;
  if (fills) p.frame = take_frame(h, p.at, fault);
  if (!unit_claim(h, block)) {
    if (fills && !h->mover->fill_in_place) frames_done(h, p.frame, 1, false);
    return false;
  }
  produce_claimed(&p);
  unit_done(h, block);
  return true;
}

/* In-place neighbours are fixed one by one and published in one call. */
uint32_t produce_run(gch_heap *h, struct drops *drops, size_t block, uint32_t limit) {
  size_t end = block;
  uintptr_t at = block_address(&h->layout, block);
  struct gather g = {.heap = h, .plan = h->plan, .map = h->tables.live, .source_delta = source_delta(h, at)};
  (void)drops;
  while (end < block + limit && h->tables.dest[end] == 0 && h->tables.blocks[end].state == BLOCK_USED &&
         unit_claim(h, end))
    fix_block(&g, end++, 0);
  if (end == block) return 0;
  h->mover->publish_armed(h, at, at + g.source_delta, (end - block) * (uint64_t)BLOCK_BYTES);
  for (size_t b = block; b < end; b++) {
    set_populated(h, b);
    unit_done(h, b);
  }
  return (uint32_t)(end - block);
}

bool produce_ensure(gch_heap *h, struct drops *drops, uintptr_t address, bool fault) {
  size_t block = block_index(&h->layout, address);
  for (uint32_t spins = 0;; spins++) {
    switch (unit_state(h, block)) {
      case UNIT_NONE: return false;
      case UNIT_MAPPED: return true;
      case UNIT_ARMED: produce_unit(h, drops, block, fault); break;
      case UNIT_BUSY:
        if (spins < 100)
          spin_pause();
        else
          thread_yield();
    }
  }
}
