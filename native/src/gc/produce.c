/* A unit is made from its own sources and tables only (I11), in the shadow or in a frame, and published when all of it is
 * finished (I2).
 *
 *   stays      references fixed in the shadow; its pages go home
 *   relocated  the same, in the shadow of the source block
 *   evacuated  objects gathered into a frame (a consumed source, or staging), or into the mover's own place for it
 *   large      the page runs of the objects that overlap the block, each fixed in the shadow
 *
 * Leaf regions are not flipped: their sources are read where they are. */
#include "gc/produce.h"

#include <string.h>

#include "heap/frames.h"
#include "mover/mover.h"

struct production {
  gch_heap *heap;
  struct batch *batch;
  struct gather gather;
  size_t block;
  uintptr_t at; /* address of the destination */
};

static bool is_flipped(const gch_heap *h, uintptr_t a) { return h->flipped >> layout_region(&h->layout, a) & 1; }
uintptr_t produce_delta(const gch_heap *h, uintptr_t dst) { return is_flipped(h, dst) ? h->layout.shadow_delta : 0; }

/* --- small blocks --------------------------------------------------------------------------------------------- */

static void make_in_place(struct production *p) {
  fix_block(&p->gather, p->block, 0);
  batch_add(p->batch, p->at, p->at + p->gather.source_delta, BLOCK_BYTES, false);
}

static void make_relocated(struct production *p, size_t source) {
  gch_heap *h = p->heap;
  uintptr_t from = block_address(&h->layout, source);
  if (!h->tables.blocks[source].leaf) fix_block(&p->gather, source, p->at - from);
  bits_copy_range(h->tables.live, p->block * BLOCK_GRANULES, h->tables.live, source * BLOCK_GRANULES, BLOCK_GRANULES);
  batch_add(p->batch, p->at, from + p->gather.source_delta, BLOCK_BYTES, false);
}

void produce_consumed(gch_heap *h, struct drops *drops, uint32_t dest, uintptr_t delta) {
  const struct dest *d = &h->plan->dests[dest];
  mover_count_copied(h, (uint64_t)d->granules * GRANULE_BYTES);
  for (uint32_t s = d->first_source; s <= d->last_source; s++) {
    size_t source = h->plan->sources[s];
    if (at_sub(&h->tables.needed[source], 1) == 1) consume_block(drops, source, delta);
  }
}

static void make_evacuated(struct production *p, uint32_t dest) {
  gch_heap *h = p->heap;
  bool framed = !h->mover->fill_in_place;
  uintptr_t into = framed ? batch_use_frame(p->batch) : p->at + h->layout.shadow_delta;
  if (!framed) frames_add_extra(h, BLOCK_BYTES); /* else it counts with the frame */
  evacuate_gather(&p->gather, dest, into);
  produce_consumed(h, &p->batch->drops, dest, p->gather.source_delta);
  batch_add(p->batch, p->at, into, BLOCK_BYTES, framed);
}

/* --- large objects -------------------------------------------------------------------------------------------- */

struct large *large_run_at(gch_heap *h, uintptr_t at, uintptr_t end, uintptr_t *stop) {
  uint32_t id = h->tables.large_ids[(at - h->layout.base) >> h->layout.page_shift];
  struct large *e = &h->large.entries[id];
  uint64_t bytes = align_up(at_load_relaxed(&e->bytes), h->layout.page_bytes); /* the same pages at any time */
  bool here = id != 0 && at - e->forward < bytes && (is_flipped(h, at) || e->forward != e->base);
  *stop = !here ? at + h->layout.page_bytes : e->forward + bytes < end ? e->forward + bytes : end;
  return here ? e : NULL;
}

void large_run_done(gch_heap *h, const struct large *e, uintptr_t at, uintptr_t stop, uintptr_t delta) {
  if (h->huge && e->forward != e->base) consume_read(h, e->base + (at - e->forward), stop - at, delta);
}

/* Each run of an object's pages in the block. All of them are fixed before the first is added (I2). */
static void fix_runs(struct production *p) {
  gch_heap *h = p->heap;
  uintptr_t end = p->at + BLOCK_BYTES, stop;
  for (uintptr_t at = p->at; at < end; at = stop) {
    struct large *e = large_run_at(h, at, end, &stop);
    if (e == NULL) continue;
    uintptr_t source = e->base + (at - e->forward);
    if (!e->leaf) fix_large(&p->gather, source, source + (stop - at), at - source);
    if (at == e->forward) bits_set_atomic(h->tables.live, granule_index(&h->layout, at));
  }
}

/* False: nothing lies there (it was pinned since the plan, and stayed where it was). */
static bool add_runs(struct production *p) {
  uintptr_t end = p->at + BLOCK_BYTES, stop;
  bool some = false;
  for (uintptr_t at = p->at; at < end; at = stop) {
    struct large *e = large_run_at(p->heap, at, end, &stop);
    if (e == NULL) continue;
    uintptr_t source = e->base + (at - e->forward) + p->gather.source_delta;
    batch_add(p->batch, at, source, stop - at, false);
    some = true;
  }
  return some;
}

/* Where arenas are huge, its source is given back by arenas, when all has been copied out of it. */
static void runs_done(struct production *p) {
  uintptr_t end = p->at + BLOCK_BYTES, stop;
  batch_publish(p->batch);
  for (uintptr_t at = p->at; at < end; at = stop) {
    struct large *e = large_run_at(p->heap, at, end, &stop);
    if (e != NULL) large_run_done(p->heap, e, at, stop, p->gather.source_delta);
  }
}

static void make_large(struct production *p) {
  fix_runs(p);
  if (add_runs(p)) {
    batch_add_unit(p->batch, p->block);
    if (p->heap->huge) runs_done(p);
  } else {
    batch_publish(p->batch);
    unit_done(p->heap, p->block);
    if (p->heap->huge) consume_opened(p->heap, p->block);
  }
}

/* --- entry ---------------------------------------------------------------------------------------------------- */

static bool is_filled(const gch_heap *h, size_t block) {
  uint32_t dest = h->tables.dest[block];
  return h->tables.blocks[block].state != BLOCK_LARGE && dest != 0 && !(dest & DEST_RELOCATED);
}

static void make(struct production *p) {
  gch_heap *h = p->heap;
  uint32_t dest = h->tables.dest[p->block];
  if (h->tables.blocks[p->block].state == BLOCK_LARGE) {
    make_large(p);
    return;
  }
  if (dest & DEST_RELOCATED)
    make_relocated(p, dest & ~DEST_RELOCATED);
  else if (dest != 0)
    make_evacuated(p, dest - 1);
  else
    make_in_place(p);
  batch_add_unit(p->batch, p->block);
}

bool produce_block(struct batch *b, size_t block, bool fault) {
  gch_heap *h = b->heap;
  if (unit_state(h, block) != UNIT_ARMED) return false;
  if (is_filled(h, block)) batch_need_frame(b, fault);
  batch_listen(b);
  if (!unit_claim(h, block, b->maker)) return false;
  struct production p = {.heap = h, .batch = b, .block = block, .at = block_address(&h->layout, block)};
  p.gather = (struct gather){.heap = h,
                             .plan = h->plan,
                             .map = h->tables.live,
                             .born = h->tables.live,
                             .source_delta = produce_delta(h, p.at)};
  make(&p);
  return true;
}
