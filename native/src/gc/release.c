#include "gc/release.h"

#include "gc/drive.h"
#include "gc/reserve.h"
#include "gc/watchdog.h"
#include "heap/small.h"

enum {
  STEP = 16,  /* blocks given back with the locks held */
  LOOK = 256, /* arenas looked at */
};

static uint64_t tick_ns(const gch_heap *h) { return h->config.decay_ms * (uint64_t)1000000 / DECAY_TICKS; }

uint64_t release_keeps(const gch_heap *h) {
  if (h->controller == NULL || h->config.decay_ms == GCH_DECAY_NOW) return 0;
  uint64_t most = h->config.staging_bytes, ms = h->config.decay_ms,
           growth = at_load_relaxed(&h->pacing.steady) / 1000; /* a figure */
  return ms == GCH_DECAY_NEVER || growth > most / ms ? most : growth * ms;
}

static struct lock *space_lock(gch_heap *h, enum space_id space) {
  return space == SPACE_YOUNG ? &h->young.lock : &heap_small_space(h, space == SPACE_LEAF)->lock;
}

/* No collection runs, and nobody takes blocks of the space. */
static void enter(gch_heap *h, enum space_id space) {
  lock_lock(&h->cycle_lock);
  lock_lock(space_lock(h, space));
}

static void leave(gch_heap *h, enum space_id space) {
  lock_unlock(space_lock(h, space));
  lock_unlock(&h->cycle_lock);
}

/* --- what is there ---------------------------------------------------------------------------------------------- */

/* Blocks of the arena that could go. */
static uint32_t idle_blocks(const struct arena *a) {
  return a->huge && a->used != 0 ? 0 : (uint32_t)__builtin_popcount(a->populated & ~a->used);
}

static uint64_t idle_in_region(gch_heap *h, uint32_t region) {
  enum space_id space = h->layout.regions[region].space;
  uint64_t blocks = 0;
  uint32_t first, count = region_arenas(h, region, &first);
  for (uint32_t from = first; from < first + count; from += LOOK) {
    enter(h, space);
    for (uint32_t a = from; a < from + LOOK && a < first + count; a++) blocks += idle_blocks(&h->tables.arenas[a]);
    leave(h, space);
  }
  return blocks;
}

/* Young blocks that eden will not come to. */
static uint64_t idle_young(gch_heap *h) {
  uint64_t idle = idle_in_region(h, layout_first_region(&h->layout, SPACE_YOUNG));
  uint64_t eden = young_limit(h), taken = at_load_relaxed(&h->young.blocks); /* a figure */
  uint64_t needed = eden > taken ? eden - taken : 0;
  needed += needed / 2; /* arenas are of one kind each, and survivors want some, too */
  return idle > needed ? idle - needed : 0;
}

static uint64_t idle_old(gch_heap *h) {
  uint64_t blocks = 0;
  for (uint32_t r = 0; r < h->layout.region_count; r++)
    if (h->layout.regions[r].space == SPACE_OLD || h->layout.regions[r].space == SPACE_LEAF)
      blocks += idle_in_region(h, r);
  uint64_t wanted = reserve_wants(h);
  return blocks > wanted ? blocks - wanted : 0;
}

/* --- giving it back --------------------------------------------------------------------------------------------- */

/* At most `most` blocks of the arena, and of a step; how many went: none that could, the kernel would not take them, or (then
 * *rests is false) a major runs. */
static uint32_t release_arena(gch_heap *h, uint32_t arena, enum space_id space, uint64_t most, bool *rests) {
  uint64_t bytes = 0;
  enter(h, space);
  *rests = at_load(&h->phase) == GCH_PHASE_IDLE;
  if (*rests) bytes = arena_release_some(h, arena, most < STEP ? (uint32_t)most : STEP);
  leave(h, space);
  at_add_relaxed(&h->moved.released, bytes);
  return (uint32_t)(bytes / BLOCK_BYTES);
}

/* From the end of the region, as allocation begins at its start. Returns what is left to be given back. */
static uint64_t release_region(gch_heap *h, uint32_t region, uint64_t blocks, bool *rests) {
  uint32_t first, count = region_arenas(h, region, &first), went = 0;
  for (uint32_t a = first + count; a > first && blocks > 0 && *rests && at_load(&h->closing) == 0; a -= went == 0) {
    went = release_arena(h, a - 1, h->layout.regions[region].space, blocks, rests);
    blocks = blocks > went ? blocks - went : 0;
    drive_pass(h);
  }
  return blocks;
}

/* Returns how many went. */
static uint64_t release_blocks(gch_heap *h, uint64_t blocks) {
  uint64_t asked = blocks;
  bool rests = true;
  uint64_t young = idle_young(h);
  for (uint32_t r = h->layout.region_count; r-- > 0;)
    if (h->layout.regions[r].space == SPACE_OLD || h->layout.regions[r].space == SPACE_LEAF)
      blocks = release_region(h, r, blocks, &rests);
  if (young > blocks) young = blocks;
  blocks -= young;
  blocks += release_region(h, layout_first_region(&h->layout, SPACE_YOUNG), young, &rests);
  uint64_t frames = blocks > 0 && rests ? frames_release_idle(h) : 0;
  at_add_relaxed(&h->moved.released, frames);
  return asked - blocks + frames / BLOCK_BYTES;
}

/* --- when ------------------------------------------------------------------------------------------------------- */

uint64_t release_begin(gch_heap *h) {
  if (h->config.decay_ms == GCH_DECAY_NOW || h->config.decay_ms == GCH_DECAY_NEVER) return 0;
  h->decay = (struct decay){0};
  return clock_ns() + tick_ns(h);
}

uint64_t release_tick(gch_heap *h) {
  uint64_t frames = h->huge ? 0 : frames_bytes(h) / BLOCK_BYTES; /* where pages are huge they stay */
  bool wants = reserve_fade(h);
  uint64_t blocks = idle_old(h) + idle_young(h) + frames;
  if (blocks == 0) return wants ? clock_ns() + tick_ns(h) : 0;
  uint64_t now = decay_tick(&h->decay, blocks);
  watchdog_begin(h);
  bool refused = now > 0 && release_blocks(h, now) == 0 && at_load(&h->phase) == GCH_PHASE_IDLE;
  watchdog_end(h);
  return refused ? 0 : clock_ns() + tick_ns(h); /* what the kernel will not take now, it may after another cycle */
}
