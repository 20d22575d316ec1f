/* Sources become free blocks and destinations used ones, then every arena is made ready for the next cycle. What large objects
 * leave is in gc/compact_large.c. */
#include "gc/finish.h"

#include "base/check.h"
#include "gc/compact_internal.h"
#include "gc/drive.h"
#include "gc/sampler.h"
#include "gc/sweep.h"
#include "heap/small.h"
#include "heap/summary.h"
#include "heap/trim.h"
#include "mover/mover.h"
#include "os/pages.h"

/* Destinations that do not count as used yet. (Those of `slide` are sources, too, and do.) */
static uint64_t count_uncounted(const gch_heap *h, const struct plan *p) {
  uint64_t count = 0;
  for (uint32_t i = 0; i < p->dest_count; i++) count += h->tables.blocks[p->dests[i].block].state == BLOCK_DEST;
  return count;
}

/* Mutators may allocate meanwhile: a destination counts as used in the same moment in which a source no longer does. */
static void finish_dests(gch_heap *h, struct plan *p) {
  uint64_t uncounted = count_uncounted(h, p);
  for (uint32_t i = 0; i < p->source_count; i++) {
    size_t block = p->sources[i];
    bool emptied = h->tables.forward[block] != 0; /* else it was pinned since the plan */
    h->tables.forward[block] = 0;
    h->tables.needed[block] = 0;
    if (!emptied || h->tables.dest[block] != 0) continue; /* (`slide` fills some again) */
    block_vacate(h, block_address(&h->layout, block), true); /* its populated bit says what is there */
    if (uncounted > 0)
      uncounted--;
    else
      heap_unuse(h, BLOCK_BYTES);
  }
  heap_use(h, uncounted * BLOCK_BYTES);
  for (uint32_t i = 0; i < p->dest_count; i++) {
    struct block *b = &h->tables.blocks[p->dests[i].block];
    at_store(&b->state, (uint8_t)BLOCK_USED);
    b->top = p->dests[i].granules;
    b->live = p->dests[i].granules;
    h->tables.dest[p->dests[i].block] = 0;
  }
}

/* What the source counted for the destination counts for now. */
static void finish_moved_block(gch_heap *h, size_t block) {
  struct block *b = &h->tables.blocks[block];
  struct block *to = b + (h->tables.forward[block] >> BLOCK_SHIFT);
  at_store(&to->state, (uint8_t)BLOCK_USED);
  to->top = b->top;
  to->live = b->live;
  h->tables.dest[to - h->tables.blocks] = 0;
  h->tables.forward[block] = 0;
  if (h->tables.dest[block] != 0) return; /* `slide`: another one is here now */
  /* Its memory went with it, but for pieces that were copied out of a huge page. */
  size_t arena = (size_t)(to - h->tables.blocks) / ARENA_BLOCKS;
  bool left = h->huge && (h->mover->slides || at_load(&h->tables.arenas[arena].made) != ARENA_WHOLE);
  block_vacate(h, block_address(&h->layout, block), left);
}

static void finish_moves(gch_heap *h, struct plan *p) {
  for (uint32_t i = 0; i < p->move_count; i++)
    if (h->tables.forward[p->moves[i]] != 0) finish_moved_block(h, p->moves[i]);
  for (uint32_t i = 0; i < p->arena_count; i++)
    for (size_t b = (size_t)p->arenas[i] * ARENA_BLOCKS; b < ((size_t)p->arenas[i] + 1) * ARENA_BLOCKS; b++)
      if (h->tables.forward[b] != 0) finish_moved_block(h, b);
}

/* The old map is cleared, nothing is newly born any more, memory of free blocks is given back. */
static uint64_t finish_arena(gch_heap *h, enum space_id space, uint32_t arena) {
  struct arena *a = &h->tables.arenas[arena];
  uint64_t first = (uint64_t)arena * ARENA_BLOCKS;
  a->pending = a->left = 0;
  summary_clear(h, arena);
  arena_set_populated(a, a->populated | a->kept); /* of a consumed huge arena, blocks that were free too */
  a->kept = 0;
  bits_clear_range(h->tables.mark, first * BLOCK_GRANULES, (first + ARENA_BLOCKS) * BLOCK_GRANULES);
  for (size_t b = first; b < first + ARENA_BLOCKS; b++) {
    if (space == SPACE_YOUNG) sweep_block(h, b); /* kept blocks that died: see gc/sweep.h */
    h->tables.blocks[b].born = 0;
    h->tables.blocks[b].marked = 0;
    if (h->tables.blocks[b].state != BLOCK_DEST) continue;
    h->tables.dest[b] = 0; /* nothing came: its source was pinned */
    block_vacate(h, block_address(&h->layout, b), true);
  }
  GCH_ASSERT(!a->cleared); /* everything in it went */
  /* Else finish_opened asks, which looks at nothing beyond the region's end: that comes down before. */
  if (a->made < ARENA_CLOSED || a->used == 0) a->made = ARENA_UNMADE;
  return space_is_large(space) || space == SPACE_YOUNG || arena_keep_free(h, arena, space)
             ? 0
             : arena_release_free(h, arena);
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
    sampler_note(h, a);
    if (beside) lock_unlock(region_lock(h, space));
    if (beside && space == SPACE_YOUNG) lock_unlock(&h->cycle_lock);
  }
  return released;
}

uint64_t finish_move(gch_heap *h, struct plan *p, bool beside) {
  uint64_t released = beside ? frames_settle(h) : 0; /* before sources are freed: some may keep their memory */
  finish_dests(h, p);
  finish_moves(h, p);
  if (beside) lock_lock(&h->large.lock);
  released += compact_finish_large(h, p);
  for (uint32_t id = 1; id < h->large.count; id++) h->large.entries[id].born = 0;
  if (beside) lock_unlock(&h->large.lock);
  for (uint32_t r = 0; r < h->layout.region_count; r++)
    if (h->layout.regions[r].space != SPACE_FRAMES) released += finish_region(h, r, beside);
  trim_tables(h, beside);
  return released;
}

/* --- opened arenas ---------------------------------------------------------------------------------------------- */

/* Sources and dead objects have been freed: reservations that nothing came to do not count. */
static uint32_t blocks_in_use(const gch_heap *h, uint32_t arena) {
  const struct block *b = &h->tables.blocks[(size_t)arena * ARENA_BLOCKS];
  uint32_t count = 0;
  for (uint32_t i = 0; i < ARENA_BLOCKS; i++) count += b[i].state == BLOCK_USED || b[i].state == BLOCK_LARGE;
  return count;
}

/* Lock held. What was populated for the collapse goes again. Large objects leave holes inside blocks. */
static void drop_holes(gch_heap *h, uint32_t arena, enum space_id space) {
  uintptr_t start = arena_address(&h->layout, arena);
  if (space_is_large(space)) large_release_arena(h, arena);
  for (uint32_t rest = space_is_large(space) ? 0 : ~h->tables.arenas[arena].populated, from; rest != 0;) {
    uint32_t blocks = bits_take_run(&rest, &from);
    h->drop(h, start + from * (uintptr_t)BLOCK_BYTES, blocks * (uint64_t)BLOCK_BYTES);
  }
}

/* At least half of it is in use. */
static void collapse_arena(gch_heap *h, uint32_t arena, enum space_id space) {
  struct arena *a = &h->tables.arenas[arena];
  struct lock *lock = region_lock(h, space);
  void *start = (void *)arena_address(&h->layout, arena);
  lock_lock(lock);
  bool worth = blocks_in_use(h, arena) * 2 >= ARENA_BLOCKS;
  lock_unlock(lock);
  if (!worth) return;
  bool whole = pages_populate(&h->kernel, start, ARENA_BYTES) >= 0 &&
               kernel_madvise(&h->kernel, start, ARENA_BYTES, UABI_MADV_COLLAPSE) >= 0;
  lock_lock(lock);
  arena_set_huge(a, whole);
  if (whole)
    arena_set_populated(a, UINT32_MAX);
  else
    drop_holes(h, arena, space);
  lock_unlock(lock);
  GCH_POINT(arena_collapsed);
}

/* Not in regions that the kernel would not let go: there a touch of what has no page may wait for ever (mover/region.c). */
void finish_opened(gch_heap *h) {
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    enum space_id space = h->layout.regions[r].space;
    uint32_t first, count = space > SPACE_LARGE_LEAF ? 0 : region_arenas(h, r, &first);
    for (uint32_t i = 0; i < count; i++) {
      if (at_load(&h->tables.arenas[first + i].made) == ARENA_UNMADE) continue;
      drive_begin(h);
      if (region_registered(h, r) == REGION_QUIET) collapse_arena(h, first + i, space);
      at_store(&h->tables.arenas[first + i].made, (uint32_t)ARENA_UNMADE);
      drive_end(h);
    }
  }
}
