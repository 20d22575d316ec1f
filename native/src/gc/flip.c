#include "gc/flip.h"

#include <string.h>

#include "gc/ambiguous.h"
#include "gc/arm.h"
#include "gc/drive.h"
#include "gc/evacuate.h"
#include "gc/faults.h"
#include "gc/finalize.h"
#include "gc/forward_inline.h"
#include "gc/hot.h"
#include "gc/plan.h"
#include "gc/produce.h"
#include "gc/roots.h"
#include "heap/small.h"
#include "mover/mover.h"
#include "os/pages.h"

enum { LOCK_TRIES = 50 };
static const uint64_t LOCK_QUICK_NS = 200000;

/* --- regions -------------------------------------------------------------------------------------------------- */

static bool region_empty(const gch_heap *h, uint32_t region) {
  uint32_t first, count = region_arenas(h, region, &first);
  for (uint32_t a = first; a < first + count; a++)
    if (h->tables.arenas[a].used != 0) return false;
  return true;
}

static uint32_t find_empty(gch_heap *h, enum space_id space) {
  uint32_t first = layout_first_region(&h->layout, space), current = *heap_alloc_region(h, space);
  for (uint32_t r = first; r < first + layout_space_regions(&h->layout, space); r++)
    if (r != current && region_empty(h, r) && region_registered(h, r) != REGION_STUCK) return r;
  return REGION_NONE;
}

/* What the first pause's minor promoted, which was everything that lived then: the flip's minor will find about as much. */
void flip_note_promoted(gch_heap *h) {
  const struct plan *p = h->minor_plan;
  h->promoted[0] = h->promoted[1] = 0;
  for (uint32_t i = 0; i < p->dest_count; i++) h->promoted[h->tables.blocks[p->dests[i].block].leaf]++;
}

bool flip_hold_out(gch_heap *h) {
  uint32_t held[SPACE_YOUNG];
  if (h->layout.tight) return false;
  for (int s = SPACE_OLD; s <= SPACE_LARGE_LEAF; s++) {
    held[s] = find_empty(h, (enum space_id)s);
    if (held[s] == REGION_NONE) return false;
  }
  h->held_out[0] = held[SPACE_OLD];
  h->held_out[1] = held[SPACE_LARGE];
  h->leaf.alloc_region = held[SPACE_LEAF];
  h->leaf.cursor = 0;
  h->large.alloc_region[1] = held[SPACE_LARGE_LEAF];
  h->large.turns[1]++;
  return true;
}

/* Drops the runs of blocks of an arena that `mask` names. */
static bool empty_blocks(gch_heap *h, uint32_t arena, uint32_t mask) {
  for (uint32_t from; mask != 0;) {
    uint32_t blocks = bits_take_run(&mask, &from);
    uintptr_t at = arena_address(&h->layout, arena) + from * (uintptr_t)BLOCK_BYTES;
    if (h->drop(h, at, blocks * (uint64_t)BLOCK_BYTES) < 0) return false;
    block_unpopulate(h, at, blocks);
  }
  return true;
}

static uint32_t armed_blocks(const gch_heap *h, uint32_t arena) {
  uint32_t mask = 0;
  for (uint32_t i = 0; i < ARENA_BLOCKS; i++)
    if (unit_state(h, (size_t)arena * ARENA_BLOCKS + i) == UNIT_ARMED) mask |= (uint32_t)1 << i;
  return mask;
}

/* The memory of armed leaf destinations goes: a touch before they are published must fault. Where memory could not be given
 * back before, there may be some that the tables do not know of. False: the kernel will not take it. */
static bool empty_leaf_dests(gch_heap *h) {
  bool unknown = at_load(&h->undropped) != 0, empty = true;
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    uint32_t first, count = region_arenas(h, r, &first);
    if (!(h->armed >> r & 1) || h->layout.regions[r].space != SPACE_LEAF) continue;
    for (uint32_t a = first; a < first + count && empty; a++) {
      uint32_t populated = unknown ? UINT32_MAX : at_load_relaxed(&h->tables.arenas[a].populated); /* nobody else's */
      if (populated != 0) empty = empty_blocks(h, a, armed_blocks(h, a) & populated);
    }
  }
  for (uint32_t i = 0; i < h->plan->large_move_count && unknown && empty; i++) {
    const struct large *e = &h->large.entries[h->plan->large_moves[i]];
    if (e->leaf) empty = h->drop(h, e->forward, align_up(at_load_relaxed(&e->bytes), h->layout.page_bytes)) >= 0;
  }
  return empty || h->mover->fill_in_place; /* there, what is closed cannot be seen */
}

/* --- memory for promotion --------------------------------------------------------------------------------------- */

/* Young blocks in use now, by what they hold: all of them may live. Not while a minor is at them. */
static void count_young(gch_heap *h, uint32_t blocks[2]) {
  uint32_t first = region_first_arena(h, layout_first_region(&h->layout, SPACE_YOUNG));
  blocks[0] = blocks[1] = 0;
  lock_lock(&h->cycle_lock);
  lock_lock(&h->young.lock);
  for (uint32_t a = first; a < first + h->young.arena_count; a++)
    blocks[h->tables.arenas[a].kind == ARENA_LEAF] += (uint32_t)__builtin_popcount(h->tables.arenas[a].used);
  lock_unlock(&h->young.lock);
  lock_unlock(&h->cycle_lock);
}

/* The first blocks of an empty arena get memory, at most `blocks` (all of them where arenas are huge); returns how many have, or
 * what the kernel said. Lock held. */
static int populate_arena(gch_heap *h, struct small_space *s, uint32_t region, uint32_t index, uint32_t blocks) {
  uint32_t first = region_first_arena(h, region), *top = &s->top[region - layout_first_region(&h->layout, s->id)];
  struct arena *arena = &h->tables.arenas[first + index];
  if (arena->used != 0) return 0; /* a minor may be moving pages there */
  if (arena->populated != 0) return __builtin_popcount(arena->populated);
  if (blocks > ARENA_BLOCKS || h->huge) blocks = ARENA_BLOCKS;
  uintptr_t start = arena_address(&h->layout, first + index);
  int rc = populate_empty(h, start, blocks * (uint64_t)BLOCK_BYTES);
  if (rc < 0) return rc;
  arena_set_populated(arena, (uint32_t)bits_mask(0, blocks));
  arena_set_huge(arena, h->huge);
  if (*top <= index) at_store(top, index + 1);
  return (int)blocks;
}

/* Blocks of the region that promotion will use, which is empty, or nearly so; returns what is left of the budget. Without
 * memory nothing more is populated: promotion takes it on demand. */
static uint32_t populate_region(gch_heap *h, struct small_space *s, uint32_t region, uint32_t blocks, uint32_t budget) {
  uint32_t arenas = (uint32_t)(h->layout.regions[region].bytes >> ARENA_SHIFT);
  uint32_t least = h->huge ? ARENA_BLOCKS : 1;
  for (uint32_t i = 0; i < arenas && blocks > 0 && budget >= least; i++) {
    lock_lock(&s->lock);
    int ready = populate_arena(h, s, region, i, blocks < budget ? blocks : budget);
    lock_unlock(&s->lock);
    if (ready < 0) return 0;
    blocks -= (uint32_t)ready < blocks ? (uint32_t)ready : blocks;
    budget -= (uint32_t)ready < budget ? (uint32_t)ready : budget;
  }
  return budget;
}

/* No pause touches fresh memory, if it can be helped: within the staging budget, promotion finds its blocks populated. */
static void populate_ahead(gch_heap *h) {
  uint32_t young[2], budget = (uint32_t)(h->config.staging_bytes / BLOCK_BYTES);
  count_young(h, young);
  for (int leaf = 0; leaf < 2; leaf++) {
    struct small_space *s = heap_small_space(h, leaf);
    uint32_t blocks = young[leaf] > h->promoted[leaf] ? young[leaf] : h->promoted[leaf];
    budget = populate_region(h, s, leaf ? s->alloc_region : h->held_out[0], blocks, budget);
  }
}

static void find_lock_free(gch_heap *h) {
  for (int i = 0; i < LOCK_TRIES; i++) {
    uint64_t ns = 0;
    if (pages_lock_wait(&h->kernel, (void *)h->layout.regions[layout_first_region(&h->layout, SPACE_FRAMES)].start,
                        &ns) < 0)
      break;
    if (ns < LOCK_QUICK_NS) break;
  }
}

static void disarm_regions(gch_heap *h) {
  for (uint32_t r = 0; r < h->layout.region_count; r++)
    if ((h->to_flip | h->armed) >> r & 1) h->mover->disarm(h, r);
}

bool flip_prepare(gch_heap *h) {
  bool ready = true;
  drive_begin(h);
  arm_units(h);
  for (uint32_t r = 0; r < h->layout.region_count && ready; r++) {
    drive_pass(h);
    if (h->to_flip >> r & 1) ready = h->mover->prepare(h, r);
    if (h->armed >> r & 1) ready = h->mover->arm_dests(h, r);
  }
  drive_pass(h);
  ready = ready && empty_leaf_dests(h);
  if (!ready) disarm_regions(h);
  drive_pass(h);
  populate_ahead(h);
  drive_end(h);
  if (ready) find_lock_free(h);
  GCH_POINT(flip_prepared);
  return ready;
}

void flip_prepare_pause(gch_heap *h) {
  drive_begin(h);
  arm_units(h);
  populate_ahead(h);
  drive_end(h);
  GCH_POINT(flip_prepared);
}

/* --- the pause ------------------------------------------------------------------------------------------------ */

/* The block is no source any more: its arena cannot be given away, and if it is flipped it is a unit that stays. */
static void unplan_block(gch_heap *h, size_t block) {
  h->tables.forward[block] = 0;
  at_store_relaxed(&h->tables.arenas[block / ARENA_BLOCKS].fate, (uint8_t)ARENA_STAYS);
  bool flipped = h->to_flip >> layout_region(&h->layout, block_address(&h->layout, block)) & 1;
  if (!h->tables.blocks[block].leaf && flipped) unit_arm(h, block);
  GCH_POINT(block_unplanned);
}

/* A large object in the arena was pinned since the plan: the others are copied out of it. */
static void unplan_relocation(gch_heap *h, size_t arena, int64_t distance) {
  uint64_t pages = ARENA_BYTES >> h->layout.page_shift;
  const uint32_t *ids = &h->tables.large_ids[arena * pages];
  size_t dest = (size_t)((int64_t)(arena * ARENA_BLOCKS) + (distance >> BLOCK_SHIFT));
  memset(&h->tables.dest[dest], 0, ARENA_BLOCKS * sizeof h->tables.dest[0]);
  for (uint64_t i = 0; i < pages; i++) { /* what consume_count left out */
    const struct large *e = &h->large.entries[ids[i]];
    if (ids[i] == 0 || (i != 0 && ids[i] == ids[i - 1]) || e->forward == e->base) continue;
    h->tables.arenas[arena].pending += consume_reads(h, e, arena, false);
  }
}

static void unplan_large(gch_heap *h, uintptr_t object) {
  struct large *e = &h->large.entries[h->tables.large_ids[(object - h->layout.base) >> h->layout.page_shift]];
  if (e->forward == object) return; /* another's block forwards */
  e->forward = object;
  for (size_t a = arena_index(&h->layout, object); a <= arena_index(&h->layout, object + e->bytes - 1); a++) {
    struct arena *arena = &h->tables.arenas[a];
    if (at_load_relaxed(&arena->fate) == ARENA_RELOCATES)
      unplan_relocation(h, a, (int64_t)(e->planned - object));
    else if (h->huge)
      arena->pending -= consume_reads(h, e, a, false);
    at_store_relaxed(&arena->fate, (uint8_t)ARENA_STAYS);
  }
  for (size_t b = block_index(&h->layout, object); b <= block_index(&h->layout, object + e->bytes - 1) && !e->leaf; b++)
    unit_arm(h, b);
  GCH_POINT(object_unplanned);
}

/* An object was pinned since the plan: its block is no source any more. Its destination slots stay empty. */
static void unplan(gch_heap *h, uintptr_t object) {
  size_t block = block_index(&h->layout, object);
  int64_t forward = h->tables.forward[block];
  if (forward == 0) return;
  if (forward == FORWARD_LARGE) {
    unplan_large(h, object);
    return;
  }
  if (forward == FORWARD_EVACUATED) {
    unplan_block(h, block);
    return;
  }
  /* Where arenas are huge they relocate whole, or not at all. */
  size_t first = h->huge ? block - block % ARENA_BLOCKS : block, end = h->huge ? first + ARENA_BLOCKS : block + 1;
  for (size_t b = first; b < end; b++) {
    if (h->tables.forward[b] == 0) continue;
    unit_reset(h, b + (size_t)(h->tables.forward[b] >> BLOCK_SHIFT));
    unplan_block(h, b);
  }
}

static void unplan_pinned(gch_heap *h) {
  lock_lock(&h->pins.lock);
  for (size_t i = 0; i < h->pins.capacity; i++)
    if (h->pins.entries[i].count != 0) unplan(h, h->pins.entries[i].address);
  lock_unlock(&h->pins.lock);
  for (uint64_t i = 0; i < h->roots.ambiguous_count; i++) unplan(h, h->roots.ambiguous[i]);
}

void flip_switch(gch_heap *h) {
  ambiguous_gather(h, h->tables.mark);
  at_store(&h->arming, 0); /* what is born from now on lies in regions that are not flipped */
  unplan_pinned(h);
  h->old.alloc_region = h->held_out[0];
  h->old.cursor = 0;
  h->large.alloc_region[0] = h->held_out[1];
  h->large.turns[0]++;
}

static void forward_slot(uint64_t *slot, void *context) {
  uint64_t old = at_load_relaxed(slot); /* the world is stopped */
  root_replace(slot, old, forward_root(context, old));
}

/* Calls fn for the blocks that stay where they are and are not flipped: young ones kept for their pins. */
static void each_kept(gch_heap *h, void (*fn)(void *context, size_t block), void *context) {
  uint32_t first, count = region_arenas(h, layout_first_region(&h->layout, SPACE_YOUNG), &first);
  for (uint32_t a = first; a < first + count; a++)
    for (size_t b = (size_t)a * ARENA_BLOCKS; b < (size_t)(a + 1) * ARENA_BLOCKS && h->tables.arenas[a].used != 0; b++)
      if (h->tables.blocks[b].state == BLOCK_USED && !h->tables.blocks[b].leaf) fn(context, b);
}

static void fix_kept(void *context, size_t block) { fix_block(context, block, 0); }

/* --- selective (gc/arm.h) */

/* The i-th selected arena, if it lies in the region and has memory; else 0. */
static uintptr_t selected_in(const gch_heap *h, uint32_t region, uint32_t i) {
  uintptr_t at = arena_address(&h->layout, h->selection.arenas[i]);
  return layout_region(&h->layout, at) == region && heap_arena(h, at)->populated != 0 ? at : 0;
}

/* The region is not missing any more; arenas before the `end`th come home, where there is memory for them whatever the kernel says
 * to moves (mover_publish never fails), and `bytes` of that one. */
static void come_home(gch_heap *h, uint32_t region, uint32_t end, uint64_t bytes) {
  uintptr_t delta = h->layout.shadow_delta;
  h->mover->disarm(h, region);
  for (uint32_t i = 0; i < end; i++) {
    uintptr_t arena = selected_in(h, region, i);
    if (arena != 0) mover_publish(h, arena, arena + delta, ARENA_BYTES);
  }
  if (bytes > 0) mover_publish(h, selected_in(h, region, end), selected_in(h, region, end) + delta, bytes);
}

static bool flip_selected(gch_heap *h, uint32_t region) {
  if (!h->mover->arm_dests(h, region)) return false;
  for (uint32_t i = 0; i < h->selection.count; i++) {
    uintptr_t arena = selected_in(h, region, i);
    uint64_t went = arena != 0 ? h->mover->flip_arena(h, arena) : ARENA_BYTES;
    if (went == ARENA_BYTES) continue;
    come_home(h, region, i, went);
    return false;
  }
  return true;
}

static bool flip_region(gch_heap *h, uint32_t region) {
  return arm_selects(h, region) ? flip_selected(h, region) : h->mover->flip(h, region);
}

static void unflip_region(gch_heap *h, uint32_t region) {
  if (arm_selects(h, region))
    come_home(h, region, h->selection.count, 0);
  else
    h->mover->unflip_pause(h, region);
}

/* All regions, or none: those that were flipped before one is refused go back. */
static bool flip_regions(gch_heap *h) {
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    if (!(h->to_flip >> r & 1)) continue;
    if (!flip_region(h, r)) {
      for (uint32_t back = 0; back < r; back++)
        if (h->flipped >> back & 1) unflip_region(h, back);
      h->flipped = 0;
      return false;
    }
    h->flipped |= (uint64_t)1 << r;
    GCH_POINT(region_flipped);
  }
  return true;
}

bool flip_now(gch_heap *h) {
  at_store_relaxed(&h->next_dest, 0); /* the world is stopped */
  hot_turn(h);
  at_store_relaxed(&h->frames.extra, 0);
  struct gather g = {.heap = h, .plan = h->plan, .map = h->tables.live};
  arm_recalled(h);
  if (!faults_ready(h) || !flip_regions(h)) {
    disarm_regions(h);
    return false;
  }
  for (uint32_t r = 0; r < h->layout.region_count && h->mover->guard != NULL; r++)
    if (h->flipped >> r & 1 && !arm_selects(h, r)) (void)h->mover->guard(h, r); /* a refusal is counted */
  roots_visit(h, forward_slot, h);
  finalizers_flip(h);
  each_kept(h, fix_kept, &g);
  return true;
}

/* --- no flip -------------------------------------------------------------------------------------------------- */

static void note_fix(void *context, size_t block) {
  struct plan *p = context;
  p->fixes[p->fix_count++] = (uint32_t)block;
}

/* What was pinned since the plan relocates no more. (Of evacuated blocks and large objects the tables tell.) */
static void forget_unplanned(gch_heap *h, struct plan *p) {
  uint32_t moves = 0, arenas = 0;
  for (uint32_t i = 0; i < p->move_count; i++)
    if (h->tables.forward[p->moves[i]] != 0) p->moves[moves++] = p->moves[i];
  p->move_count = moves;
  for (uint32_t i = 0; i < p->arena_count; i++) {
    size_t b = (size_t)p->arenas[i] * ARENA_BLOCKS, end = b + ARENA_BLOCKS;
    while (b < end && h->tables.forward[b] == 0) b++;
    if (b < end) p->arenas[arenas++] = p->arenas[i];
  }
  p->arena_count = arenas;
}

/* The units that stay where they are: what the plan left there, what was pinned since, what was born since. */
static void note_staying(gch_heap *h, struct plan *p, uint32_t region) {
  uint32_t first, count = region_arenas(h, region, &first);
  bool small = h->layout.regions[region].space == SPACE_OLD;
  for (size_t b = (size_t)first * ARENA_BLOCKS; b < (size_t)(first + count) * ARENA_BLOCKS; b++) {
    if (small && h->tables.units[b] == UNIT_ARMED && h->tables.dest[b] == 0) note_fix(p, b);
    unit_reset(h, b);
  }
}

void flip_to_pause(gch_heap *h) {
  struct plan *p = h->plan;
  forget_unplanned(h, p);
  arm_all(h);
  p->fix_count = p->piece_count = 0;
  for (uint32_t r = 0; r < h->layout.region_count; r++)
    if ((h->to_flip | h->armed) >> r & 1) note_staying(h, p, r);
  each_kept(h, note_fix, p);
  for (uint32_t id = 1; id < h->large.count; id++) {
    const struct large *e = &h->large.entries[id];
    if (e->base != 0 && (!e->leaf || e->forward != e->base)) plan_add_pieces(h, p, id);
  }
  for (uint32_t i = 0; i < p->large_arena_count; i++)
    plan_release_relocation(h, &p->large_arenas[i]); /* their objects are moved by pieces, which are counted */
  p->large_arena_count = 0;
  for (size_t a = 0; a < layout_arena_count(&h->layout) && h->huge; a++)
    h->tables.arenas[a].pending = 0; /* counted again */
  h->to_flip = h->armed = 0;
}

/* --- end ------------------------------------------------------------------------------------------------------ */

void flip_cancel(gch_heap *h) {
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    enum space_id space = h->layout.regions[r].space;
    uint32_t first, count = region_arenas(h, r, &first);
    for (size_t b = (size_t)first * ARENA_BLOCKS; b < (size_t)(first + count) * ARENA_BLOCKS; b++) {
      struct block *block = &h->tables.blocks[b];
      if (space_has_refs(space)) unit_reset(h, b);
      if (block->state == BLOCK_USED && block->born) block->marked = block->top;
      block->born = 0;
    }
  }
  for (uint32_t id = 1; id < h->large.count; id++) h->large.entries[id].born = 0;
}

/* What was populated and free went to the shadow, and ends there. Of blocks of large objects only what lives came back. */
static void settle_region(gch_heap *h, uint32_t region) {
  uint32_t first, count = region_arenas(h, region, &first);
  bool large = space_is_large(h->layout.regions[region].space);
  for (uint32_t a = first; a < first + count; a++) {
    struct arena *arena = &h->tables.arenas[a];
    uint32_t mapped = 0;
    if (arena->made == ARENA_HOME) {
      at_add_relaxed(&h->moved.home, arena->used != 0); /* figures */
      at_add_relaxed(&h->moved.unread, (uint64_t)__builtin_popcount(arena->used));
      continue;
    }
    for (uint32_t i = 0; i < ARENA_BLOCKS; i++) {
      size_t unit = (size_t)a * ARENA_BLOCKS + i;
      if (unit_state(h, unit) != UNIT_NONE && !large) mapped |= (uint32_t)1 << i;
      unit_reset(h, unit);
    }
    if (arena->made == ARENA_WHOLE || h->mover->fill_in_place) continue; /* nothing went anywhere */
    at_and_relaxed(&arena->populated, mapped); /* statistics may be taken meanwhile */
    at_store_relaxed(&arena->huge, (uint8_t)0);
  }
}

void flip_end(gch_heap *h) {
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    uint32_t first, count = region_arenas(h, r, &first);
    if (h->flipped >> r & 1) {
      h->mover->unflip(h, r, count * (uint64_t)ARENA_BYTES);
      settle_region(h, r);
    } else if (h->armed >> r & 1) {
      h->mover->disarm(h, r);
      for (size_t b = (size_t)first * ARENA_BLOCKS; b < (size_t)(first + count) * ARENA_BLOCKS; b++) unit_reset(h, b);
    }
  }
  h->flipped = h->armed = 0;
}
