#include "gc/sweep.h"

#include "base/check.h"
#include "gc/drive.h"
#include "heap/small.h"
#include "mover/mover.h"

enum { LARGE_BATCH = 64 };

void sweep_block(gch_heap *h, size_t b) {
  struct block *block = &h->tables.blocks[b];
  if (block->state != BLOCK_USED || block->born) return;
  GCH_ASSERT(block->marked <= BLOCK_GRANULES);
  block->live = block->marked;
  if (block->live == 0 && at_load(&block->pins) == 0) block_free(h, block_address(&h->layout, b), true);
}

static struct lock *space_lock(gch_heap *h, enum space_id space) {
  return space == SPACE_YOUNG ? &h->young.lock : space == SPACE_LEAF ? &h->leaf.lock : &h->old.lock;
}

bool arena_keep_free(gch_heap *h, uint32_t arena, enum space_id space) {
  const struct arena *a = &h->tables.arenas[arena];
  uint64_t bytes = (uint64_t)__builtin_popcount(a->populated & ~a->used) * BLOCK_BYTES;
  if (bytes > h->keeps || (a->huge && a->used == 0)) return false;
  if (layout_region(&h->layout, arena_address(&h->layout, arena)) !=
      heap_small_space(h, space == SPACE_LEAF)->alloc_region)
    return false;
  h->keeps -= bytes;
  return true;
}

static uint64_t sweep_region(gch_heap *h, uint32_t region, bool beside) {
  enum space_id space = h->layout.regions[region].space;
  uint32_t first, count = region_arenas(h, region, &first);
  uint64_t released = 0;
  for (uint32_t a = first; a < first + count; a++) {
    if (beside) drive_pass(h);
    if (beside) lock_lock(&h->cycle_lock);
    lock_lock(space_lock(h, space));
    for (size_t b = (size_t)a * ARENA_BLOCKS; b < (size_t)(a + 1) * ARENA_BLOCKS; b++) sweep_block(h, b);
    if (space != SPACE_YOUNG && !arena_keep_free(h, a, space)) released += arena_release_free(h, a);
    lock_unlock(space_lock(h, space));
    if (beside) lock_unlock(&h->cycle_lock);
  }
  return released;
}

/* Entries [from, from + LARGE_BATCH); false: there are none. */
static bool sweep_large_batch(gch_heap *h, const uint64_t *map, uint32_t from, uint64_t *released) {
  lock_lock(&h->large.lock);
  h->large.keeps = h->mover->slides;
  uint32_t count = h->large.count;
  for (uint32_t id = from; id < from + LARGE_BATCH && id < count; id++) {
    const struct large *e = &h->large.entries[id];
    if (e->base == 0 || e->born) continue;
    *released += bits_test(map, granule_index(&h->layout, e->base)) ? large_trim(h, id) : large_free(h, id);
  }
  h->large.keeps = false;
  lock_unlock(&h->large.lock);
  return from < count;
}

static uint64_t sweep_large(gch_heap *h, const uint64_t *map, bool beside) {
  uint64_t released = 0;
  bool more = true;
  for (uint32_t from = 1; more; from += LARGE_BATCH) {
    if (beside) drive_pass(h);
    if (beside) lock_lock(&h->cycle_lock);
    more = sweep_large_batch(h, map, from, &released);
    if (beside) lock_unlock(&h->cycle_lock);
  }
  return released;
}

uint64_t sweep_dead(gch_heap *h, const uint64_t *map, bool beside) {
  uint64_t released = 0;
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    enum space_id space = h->layout.regions[r].space;
    bool young = space == SPACE_YOUNG && !beside;
    if (space == SPACE_OLD || space == SPACE_LEAF || young) released += sweep_region(h, r, beside);
  }
  return released + sweep_large(h, map, beside);
}
