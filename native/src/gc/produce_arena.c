/* Where arenas are huge the page is 2 MiB: taking 64 KiB out of it costs 255 us, moving it whole 1.5. So workers make
 * arenas, not blocks. Where the page comes from:
 *
 *   some unit stays         the arena's own shadow: staying blocks are fixed in it, evacuated ones filled into its dead blocks
 *   all relocate from one   the shadow of that arena
 *   all are filled          a frame of 2 MiB (a consumed arena, or staging): evacuated blocks, or large objects that move
 *
 * An arena that a fault has opened (gc/produce.c: policy `latency`), or whose memory is not one huge page, is made block by
 * block. */
#include "gc/produce_arena.h"

#include <string.h>

#include "gc/produce.h"
#include "heap/unit.h"
#include "mover/mover.h"
#include "os/thread.h"

struct arena_production {
  gch_heap *heap;
  struct drops *drops;
  uint32_t arena;
  uint32_t claimed;  /* bit a block */
  uint32_t units;    /* bit a block: has a unit in this cycle */
  uintptr_t at;      /* address of the arena */
  uintptr_t page;    /* where it is made */
  uintptr_t delta;   /* sources are read at their address + delta */
  bool frame;        /* `page` is a frame */
};

/* --- what kind of arena --------------------------------------------------------------------------------------- */

enum make { MAKE_BLOCKS, MAKE_IN_SHADOW, MAKE_RELOCATED, MAKE_IN_FRAME };

static bool large_stays(const gch_heap *h, uintptr_t from, uintptr_t to) {
  for (uintptr_t at = from; at < to; at += h->layout.page_bytes) {
    uint32_t id = h->tables.large_ids[(at - h->layout.base) >> h->layout.page_shift];
    const struct large *e = &h->large.entries[id];
    if (id != 0 && e->forward == e->base && at - e->base < e->bytes) return true;
  }
  return false;
}

static bool unit_stays(const gch_heap *h, size_t block) {
  uintptr_t at = block_address(&h->layout, block);
  if (h->tables.blocks[block].state == BLOCK_LARGE) return large_stays(h, at, at + BLOCK_BYTES);
  return h->tables.dest[block] == 0;
}

static enum make decide(struct arena_production *p) {
  const gch_heap *h = p->heap;
  const struct arena *arena = &h->tables.arenas[p->arena];
  uint32_t stay = 0, relocated = 0;
  size_t source = 0;
  for (uint32_t rest = p->units; rest != 0; rest &= rest - 1) {
    size_t b = (size_t)p->arena * ARENA_BLOCKS + (uint32_t)__builtin_ctz(rest);
    bool reloc = h->tables.blocks[b].state != BLOCK_LARGE && h->tables.dest[b] & DEST_RELOCATED;
    if (reloc) source = (h->tables.dest[b] & ~DEST_RELOCATED) / ARENA_BLOCKS;
    relocated += reloc;
    stay += unit_stays(h, b);
  }
  if (stay != 0) {
    p->page = p->at + p->delta;
    bool whole = space_is_large(heap_region(h, p->at)->space) || arena->populated == UINT32_MAX;
    bool read = at_load(&arena->pending) != 0; /* somebody still reads the shadow: it cannot move away */
    return p->delta != 0 && arena->huge && whole && !read && relocated == 0 ? MAKE_IN_SHADOW : MAKE_BLOCKS;
  }
  if (relocated != 0) {
    p->page = arena_address(&h->layout, source) + p->delta;
    return h->tables.arenas[source].huge ? MAKE_RELOCATED : MAKE_BLOCKS;
  }
  return h->mover->fill_in_place ? MAKE_BLOCKS : MAKE_IN_FRAME;
}

/* --- making it ------------------------------------------------------------------------------------------------ */

static struct gather gather_of(const struct arena_production *p) {
  gch_heap *h = p->heap;
  return (struct gather){
      .heap = h, .plan = h->plan, .map = h->tables.live, .born = h->tables.live, .source_delta = p->delta};
}

/* The run of a large object that lies in [at, stop): fixed where it is, or copied into the page and fixed there. */
static void make_large_run(struct arena_production *p, struct large *e, uintptr_t at, uintptr_t stop) {
  gch_heap *h = p->heap;
  struct gather g = gather_of(p);
  uintptr_t source = e->base + (at - e->forward), into = p->page + (at - p->at);
  if (e->forward != e->base) {
    memcpy((void *)into, (void *)(source + p->delta), stop - at);
    mover_count_copied(h, stop - at);
    g.source_delta = into - source;
  }
  if (!e->leaf) fix_large(&g, source, source + (stop - at), at - source);
  if (at == e->forward) bits_set_atomic(h->tables.live, granule_index(&h->layout, at));
}

static void make_large_block(struct arena_production *p, size_t block) {
  uintptr_t at = block_address(&p->heap->layout, block), end = at + BLOCK_BYTES, stop;
  for (; at < end; at = stop) {
    struct large *e = large_run_at(p->heap, at, end, &stop);
    if (e == NULL) continue;
    make_large_run(p, e, at, stop);
    large_run_done(p->heap, p->drops, e, p->delta);
  }
}

static void make_block(struct arena_production *p, size_t block) {
  gch_heap *h = p->heap;
  struct gather g = gather_of(p);
  uint32_t dest = h->tables.dest[block];
  uintptr_t offset = (block % ARENA_BLOCKS) * (uintptr_t)BLOCK_BYTES;
  if (h->tables.blocks[block].state == BLOCK_LARGE) {
    make_large_block(p, block);
  } else if (dest == 0) {
    fix_block(&g, block, 0);
  } else if (dest & DEST_RELOCATED) {
    size_t source = dest & ~DEST_RELOCATED;
    if (!h->tables.blocks[source].leaf) fix_block(&g, source, 0);
    bits_copy_range(h->tables.live, block * BLOCK_GRANULES, h->tables.live, source * BLOCK_GRANULES, BLOCK_GRANULES);
  } else {
    evacuate_gather(&g, dest - 1, p->page + offset);
    produce_consumed(h, p->drops, dest - 1, p->delta);
  }
}

static uint32_t publish_whole(struct arena_production *p) {
  gch_heap *h = p->heap;
  struct arena *arena = &h->tables.arenas[p->arena];
  size_t first = (size_t)p->arena * ARENA_BLOCKS;
  for (uint32_t rest = p->claimed; rest != 0; rest &= rest - 1) make_block(p, first + (uint32_t)__builtin_ctz(rest));
  h->mover->publish_armed(h, p->at, p->page, ARENA_BYTES);
  if (p->frame) frames_done_arena(h, p->page, h->mover->recycles);
  at_store(&arena->populated, UINT32_MAX);
  arena->huge = h->mover->recycles || space_is_large(heap_region(h, p->at)->space); /* dead pages came along */
  at_store(&arena->supplied, ARENA_PUBLISHED_WHOLE);
  for (uint32_t rest = p->claimed; rest != 0; rest &= rest - 1) unit_done(h, first + (uint32_t)__builtin_ctz(rest));
  return (uint32_t)__builtin_popcount(p->claimed);
}

static uint32_t publish_blocks(struct arena_production *p) {
  size_t first = (size_t)p->arena * ARENA_BLOCKS;
  uint32_t made = 0;
  for (uint32_t rest = p->units; rest != 0; rest &= rest - 1)
    made += produce_unit(p->heap, p->drops, first + (uint32_t)__builtin_ctz(rest), false);
  return made;
}

/* All or nothing: units that are claimed one by one and not made would be owed. What a fault has taken spoils the whole. */
static bool claim_all(struct arena_production *p) {
  size_t first = (size_t)p->arena * ARENA_BLOCKS;
  for (uint32_t rest = p->units; rest != 0; rest &= rest - 1) {
    uint32_t bit = (uint32_t)__builtin_ctz(rest);
    if (!unit_claim(p->heap, first + bit)) return false;
    p->claimed |= (uint32_t)1 << bit;
  }
  return true;
}

static void make_claimed_blocks(struct arena_production *p) {
  size_t first = (size_t)p->arena * ARENA_BLOCKS;
  for (uint32_t rest = p->claimed; rest != 0; rest &= rest - 1)
    produce_claimed_unit(p->heap, p->drops, first + (uint32_t)__builtin_ctz(rest));
}

uint32_t produce_arena(gch_heap *h, struct drops *drops, uint32_t arena) {
  struct arena_production p = {.heap = h, .drops = drops, .arena = arena, .at = arena_address(&h->layout, arena)};
  size_t first = (size_t)arena * ARENA_BLOCKS;
  uint32_t armed = 0;
  for (uint32_t i = 0; i < ARENA_BLOCKS; i++) {
    enum unit_state state = unit_state(h, first + i);
    if (state != UNIT_NONE) p.units |= (uint32_t)1 << i;
    armed += state == UNIT_ARMED;
  }
  if (armed == 0) return 0;
  p.delta = h->flipped >> layout_region(&h->layout, p.at) & 1 ? h->layout.shadow_delta : 0;
  enum make make = decide(&p);
  if (make == MAKE_BLOCKS || armed != (uint32_t)__builtin_popcount(p.units)) return publish_blocks(&p);
  if (make == MAKE_IN_FRAME) {
    p.page = frames_take_arena(h);
    p.frame = p.page != 0;
    if (!p.frame) return publish_blocks(&p);
  }
  if (claim_all(&p)) return publish_whole(&p);
  if (p.frame) frames_done_arena(h, p.page, false);
  make_claimed_blocks(&p);
  return publish_blocks(&p) + (uint32_t)__builtin_popcount(p.claimed);
}
