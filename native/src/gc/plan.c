#include "gc/plan.h"

#include <string.h>

#include "gc/plan_internal.h"
#include "heap/small.h"
#include "heap/summary.h"
#include "mover/mover.h"

enum {
  WORTH_BYTES = 2 << 20,
  QUIET_SHARE = 20,
  SUMMARY_REST = 7, /* majors without rows after one in which they did not pay */
};

/* --- policy --------------------------------------------------------------------------------------------------- */

uint32_t plan_threshold(const uint64_t count[65]) {
  uint64_t live = 0, used = 0;
  for (uint32_t d = 1; d <= DENSITY_STEPS; d++) {
    live += count[d] * d;
    used += count[d] * DENSITY_STEPS;
  }
  uint32_t t = 0;
  while (t < DENSITY_STEPS && used * 100 > live * (100 + PLAN_WASTE_PERCENT)) {
    t++;
    used -= count[t] * (DENSITY_STEPS - t); /* of these, only what lives is left */
  }
  return t;
}

static bool in_plan(const struct planner *p, const struct block *b) {
  return b->state == BLOCK_USED && !b->born && (b->leaf != 0) == p->leaf;
}

void plan_each_arena(struct planner *p, void (*fn)(struct planner *p, uint32_t region, uint32_t arena)) {
  for (uint32_t r = 0; r < p->heap->layout.region_count; r++) {
    enum space_id space = p->heap->layout.regions[r].space;
    uint32_t first, count = region_arenas(p->heap, r, &first);
    bool kept =
        space == SPACE_YOUNG && !space_is_large(p->space) && !p->options.flips; /* a flip fixes them in its pause */
    if (space != p->space && !kept) continue;
    for (uint32_t a = first; a < first + count; a++)
      if (at_load_relaxed(&p->heap->tables.arenas[a].kind) ==
          (p->leaf ? ARENA_LEAF : ARENA_REFS)) /* a hint: `fn` looks */
        fn(p, r, a);
  }
}

/* Under the space's lock: what is born in the arena from now on sets its fate itself. */
static void tally_small(struct planner *p, uint32_t region, uint32_t arena) {
  struct block *b = &p->heap->tables.blocks[(size_t)arena * ARENA_BLOCKS];
  uint64_t live = 0;
  lock_lock(&heap_small_space(p->heap, p->leaf)->lock);
  at_store_relaxed(&p->heap->tables.arenas[arena].fate, (uint8_t)ARENA_EMPTIES);
  for (uint32_t i = 0; i < ARENA_BLOCKS; i++) {
    if (b[i].state == BLOCK_USED && b[i].born)
      at_store_relaxed(&p->heap->tables.arenas[arena].fate, (uint8_t)ARENA_STAYS);
    if (!in_plan(p, &b[i])) continue;
    live += b[i].live;
    if (!p->heap->huge && b[i].live != 0) p->density[plan_density(b[i].live, BLOCK_GRANULES)]++;
  }
  p->heap->tables.arenas[arena].live = (uint32_t)live;
  lock_unlock(&heap_small_space(p->heap, p->leaf)->lock);
  if (p->heap->huge && live != 0) p->density[plan_density(live, ARENA_BLOCKS * BLOCK_GRANULES)]++;
  p->region_live[region] += live;
  p->live += live;
}

struct occupancy {
  uint64_t used, live; /* granules, of units of density in which something lives */
};

static void count_occupancy(gch_heap *h, enum space_id space, uint32_t arena, struct occupancy *o) {
  const struct block *b = &h->tables.blocks[(size_t)arena * ARENA_BLOCKS];
  struct small_space *s = heap_small_space(h, space == SPACE_LEAF);
  uint64_t used = 0, live = 0;
  lock_lock(&s->lock);
  for (uint32_t i = 0; i < ARENA_BLOCKS; i++) {
    uint32_t marked = at_load_relaxed(&b[i].marked); /* a figure: markers may be adding to it */
    if (b[i].state != BLOCK_USED || b[i].born || marked == 0) continue;
    used += BLOCK_GRANULES;
    live += marked;
  }
  lock_unlock(&s->lock);
  o->used += h->huge && used != 0 ? ARENA_BLOCKS * BLOCK_GRANULES : used;
  o->live += live;
}

bool plan_is_worth_it(gch_heap *h) {
  struct occupancy o = {0};
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    enum space_id space = h->layout.regions[r].space;
    uint32_t first, count = region_arenas(h, r, &first);
    for (uint32_t a = first; a < first + count && (space == SPACE_OLD || space == SPACE_LEAF); a++)
      count_occupancy(h, space, a, &o);
  }
  uint64_t least = o.live / 100 * (100 + PLAN_WASTE_PERCENT + PLAN_WORTH_PERCENT);
  return o.used > least && (o.used - least) * GRANULE_BYTES > WORTH_BYTES;
}

/* --- target region -------------------------------------------------------------------------------------------- */

static uint32_t empty_arenas(const gch_heap *h, uint32_t region) {
  uint32_t first = region_first_arena(h, region), empty = 0;
  uint32_t count = (uint32_t)(h->layout.regions[region].bytes >> ARENA_SHIFT);
  for (uint32_t a = first; a < first + count; a++) empty += h->tables.arenas[a].used == 0;
  return empty;
}

/* The fullest region that has room for all that could move, counting what lies there already as room; `all`: the emptiest,
 * so that the others become spare, and their tables cost nothing. */
static void choose_target(struct planner *p) {
  const gch_heap *h = p->heap;
  bool fullest = p->options.policy == GCH_POLICY_NEEDED;
  uint32_t first = layout_first_region(&h->layout, p->space);
  uint32_t held_out = p->leaf ? h->leaf.alloc_region : h->held_out[0];
  uint64_t best_live = 0;
  p->target = REGION_NONE;
  for (uint32_t r = first; r < first + layout_space_regions(&h->layout, p->space); r++) {
    if (p->options.flips && r == held_out) continue;
    uint64_t live = p->region_live[r], demand = p->live - (fullest ? live : 0);
    uint64_t room = (uint64_t)empty_arenas(h, r) * ARENA_BLOCKS * BLOCK_GRANULES;
    if (room < demand + demand / 8) continue;
    if (p->target != REGION_NONE && (fullest ? live <= best_live : live >= best_live)) continue;
    p->target = r;
    best_live = live;
  }
  if (p->target == REGION_NONE) return;
  uint32_t start = region_first_arena(h, p->target);
  uint32_t end = start + (uint32_t)(h->layout.regions[p->target].bytes >> ARENA_SHIFT);
  p->moves = (struct outlet){.next = start, .end = end, .whole = true};
  p->dests =
      (struct outlet){.next = start,
                      .end = end,
                      .whole = p->options.policy != GCH_POLICY_NEEDED || (p->leaf && p->options.flips && h->huge)};
}

/* --- destinations --------------------------------------------------------------------------------------------- */

static bool outlet_refill(gch_heap *h, struct outlet *o) {
  for (; o->next < o->end; o->next++) {
    const struct arena *arena = &h->tables.arenas[o->next];
    bool usable =
        arena->used == 0 || (!o->whole && at_load_relaxed(&arena->fate) == ARENA_STAYS && arena->used != UINT32_MAX);
    if (!usable) continue;
    o->arena = o->next++;
    o->mask = ~arena->used;
    return true;
  }
  return false;
}

static void note_top(gch_heap *h, struct planner *p, uint32_t arena) {
  uint32_t first = region_first_arena(h, p->target);
  struct small_space *s = heap_small_space(h, p->leaf);
  uint32_t *top = &s->top[p->target - layout_first_region(&h->layout, p->space)];
  if (*top <= arena - first) at_store(top, arena - first + 1);
}

/* Reserves the next destination block, or 0. Beside mutators the target may be the region they allocate in. */
static uintptr_t outlet_take(struct planner *p, struct outlet *o) {
  gch_heap *h = p->heap;
  struct small_space *s = heap_small_space(h, p->leaf);
  uintptr_t block = 0;
  if (p->target == REGION_NONE) return 0;
  lock_lock(&s->lock);
  o->mask &= o->mask == 0 ? 0 : ~h->tables.arenas[o->arena].used;
  if (o->mask != 0 || outlet_refill(h, o)) {
    uint32_t bit = (uint32_t)__builtin_ctz(o->mask);
    o->mask &= o->mask - 1;
    note_top(h, p, o->arena);
    block = arena_address(&h->layout, o->arena) + bit * (uintptr_t)BLOCK_BYTES;
    block_assign(h, block, BLOCK_DEST, p->leaf);
  }
  lock_unlock(&s->lock);
  return block;
}

static uintptr_t take_dest(gch_heap *h, void *context) {
  struct planner *p = context;
  (void)h;
  return outlet_take(p, &p->dests);
}

/* --- small spaces --------------------------------------------------------------------------------------------- */

enum verdict { VERDICT_STAY, VERDICT_RELOCATE, VERDICT_EVACUATE };

static bool slides_all(const struct planner *p) {
  return p->heap->mover->slides && p->options.policy == GCH_POLICY_ALL;
}

static enum verdict judge(const struct planner *p, uint32_t region, uint32_t density) {
  if (p->options.policy == GCH_POLICY_RELEASE || p->target == REGION_NONE) return VERDICT_STAY;
  if (p->heap->layout.regions[region].space == SPACE_YOUNG || density <= p->threshold) return VERDICT_EVACUATE;
  return p->options.policy == GCH_POLICY_NEEDED && region == p->target ? VERDICT_STAY : VERDICT_RELOCATE;
}

static void stay(struct planner *p, size_t block) {
  at_store_relaxed(&p->heap->tables.arenas[block / ARENA_BLOCKS].fate, (uint8_t)ARENA_STAYS);
  if (!p->leaf) p->plan->fixes[p->plan->fix_count++] = (uint32_t)block;
}

static bool arena_pinned(const struct planner *p, uint32_t arena) {
  const struct block *b = &p->heap->tables.blocks[(size_t)arena * ARENA_BLOCKS];
  for (uint32_t i = 0; i < ARENA_BLOCKS; i++)
    if (at_load_relaxed(&b[i].pins) != 0 || (b[i].state != BLOCK_FREE && !in_plan(p, &b[i]))) return true;
  return false;
}

/* Lock held: beside mutators others of its blocks are being handed out. */
static void judge_arena(struct planner *p, uint32_t region, uint32_t arena) {
  gch_heap *h = p->heap;
  enum verdict whole = judge(p, region, plan_density(h->tables.arenas[arena].live, ARENA_BLOCKS * BLOCK_GRANULES));
  if (h->huge && whole == VERDICT_RELOCATE && !slides_all(p)) {
    if (!arena_pinned(p, arena)) {
      p->plan->arenas[p->plan->arena_count++] = arena;
      return;
    }
    whole = VERDICT_STAY;
  }
  for (size_t i = (size_t)arena * ARENA_BLOCKS; i < (size_t)(arena + 1) * ARENA_BLOCKS; i++) {
    const struct block *b = &h->tables.blocks[i];
    bool pinned = at_load_relaxed(&b->pins) != 0;
    if (!in_plan(p, b) || (b->live == 0 && !pinned)) continue;
    enum verdict v = pinned ? VERDICT_STAY : h->huge ? whole : judge(p, region, plan_density(b->live, BLOCK_GRANULES));
    if (v == VERDICT_STAY) stay(p, i);
    if (v == VERDICT_RELOCATE) p->plan->moves[p->plan->move_count++] = (uint32_t)i;
    if (v == VERDICT_EVACUATE) p->plan->sources[p->plan->source_count++] = (uint32_t)i;
  }
}

static void judge_blocks(struct planner *p, uint32_t region, uint32_t arena) {
  struct small_space *s = heap_small_space(p->heap, p->leaf);
  lock_lock(&s->lock);
  judge_arena(p, region, arena);
  lock_unlock(&s->lock);
}

/* Blocks that relocate get the next blocks of empty arenas; those that find none stay. */
static void place_moves(struct planner *p, uint32_t from) {
  gch_heap *h = p->heap;
  uint32_t kept = from;
  for (uint32_t i = from; i < p->plan->move_count; i++) {
    uint32_t block = p->plan->moves[i];
    uintptr_t to = outlet_take(p, &p->moves);
    if (to == 0) {
      stay(p, block);
      continue;
    }
    h->tables.forward[block] = (int64_t)(to - block_address(&h->layout, block));
    p->plan->moves[kept++] = block;
  }
  p->plan->move_count = kept;
}

/* Free blocks of an arena are nobody's before the cycle has ended. */
static void reserve_free(struct planner *p, uint32_t arena) {
  uintptr_t start = arena_address(&p->heap->layout, arena);
  for (uint32_t rest = ~p->heap->tables.arenas[arena].used; rest != 0; rest &= rest - 1)
    block_assign(p->heap, start + (uintptr_t)__builtin_ctz(rest) * BLOCK_BYTES, BLOCK_DEST, p->leaf);
}

/* A page that comes whole leaves no room beside it. (What the arena's fate was when something last lived there says that free
 * blocks may be destinations.) */
static void close_holes(struct planner *p, uint32_t dest) {
  at_store_relaxed(&p->heap->tables.arenas[dest].fate, (uint8_t)ARENA_EMPTIES);
  note_top(p->heap, p, dest);
}

/* Arenas that relocate whole: their dead blocks are free at the other end. What is born beside the plan finds no place in
 * them, nor where they go: it would stay, while all pages go. (Leaf memory is born elsewhere: flip_hold_out.) */
static void place_arenas(struct planner *p, uint32_t from) {
  gch_heap *h = p->heap;
  uint32_t kept = from;
  for (uint32_t i = from; i < p->plan->arena_count; i++) {
    uint32_t arena = p->plan->arenas[i];
    bool births = p->options.flips && !p->leaf;
    lock_lock(&heap_small_space(h, p->leaf)->lock);
    p->moves.mask = 0;
    bool found = !(births && arena_pinned(p, arena)) && outlet_refill(h, &p->moves);
    uintptr_t to = found ? arena_address(&h->layout, p->moves.arena) : 0;
    for (size_t b = (size_t)arena * ARENA_BLOCKS; b < (size_t)(arena + 1) * ARENA_BLOCKS; b++) {
      if (h->tables.blocks[b].live == 0) continue;
      if (!found) {
        stay(p, b);
        continue;
      }
      block_assign(h, to + (b % ARENA_BLOCKS) * BLOCK_BYTES, BLOCK_DEST, p->leaf);
      h->tables.forward[b] = (int64_t)(to - arena_address(&h->layout, arena));
    }
    p->moves.mask = 0;
    if (found && births) reserve_free(p, arena), reserve_free(p, p->moves.arena);
    if (found) close_holes(p, p->moves.arena);
    if (found) p->plan->arenas[kept++] = arena;
    lock_unlock(&heap_small_space(h, p->leaf)->lock);
  }
  p->plan->arena_count = kept;
}

/* --- sliding (the `slide` baseline) ------------------------------------------------------------------------------ */

struct chain {
  struct planner *planner;
  uint32_t next; /* sources from here on may be filled once they have been packed */
};

/* Where block `i` of `moves`, of the chain that began at `from`, goes: to where the one an arena's number of blocks before it
 * was, so to another arena; the chain's first ones to fresh blocks. */
static uintptr_t chain_dest(struct planner *p, uint32_t from, uint32_t i, uint32_t *lag) {
  if (i - from == *lag && *lag < ARENA_BLOCKS) {
    uintptr_t fresh = outlet_take(p, &p->moves);
    if (fresh != 0) return ++*lag, fresh;
  }
  return *lag == 0 ? 0 : block_address(&p->heap->layout, p->plan->moves[i - *lag]);
}

/* Blocks for which there is no memory stay: all of the chain, or none. */
static bool place_chain(struct planner *p, uint32_t from, uint32_t to) {
  gch_heap *h = p->heap;
  uint32_t lag = 0;
  for (uint32_t i = from; i < to; i++) {
    uint32_t block = p->plan->moves[i];
    uintptr_t next = chain_dest(p, from, i, &lag);
    if (next == 0) {
      stay(p, block);
      continue;
    }
    h->tables.forward[block] = (int64_t)(next - block_address(&h->layout, block));
    h->tables.dest[block_index(&h->layout, next)] = DEST_RELOCATED | block;
  }
  return lag != 0;
}

/* Dense blocks slide whole. A chain a thread. */
static void place_chains(struct planner *p, uint32_t from) {
  struct plan *plan = p->plan;
  uint32_t threads = p->heap->config.gc_threads, count = plan->move_count - from;
  plan->move_count = from;
  for (uint32_t i = 0; i < threads && i < TEAM_CHAINS; i++) {
    uint32_t first = from + (uint32_t)((uint64_t)count * i / threads),
             last = from + (uint32_t)((uint64_t)count * (i + 1) / threads);
    if (first == last || !place_chain(p, first, last)) continue;
    memmove(&plan->moves[plan->move_count], &plan->moves[first], (last - first) * sizeof plan->moves[0]);
    plan->move_chains[plan->move_chain_count++] = plan->move_count;
    plan->move_count += last - first;
    plan->move_chains[plan->move_chain_count] = plan->move_count;
  }
}

/* A block that has been emptied by then, else (the chain's first few) a fresh one. */
static uintptr_t take_emptied(gch_heap *h, void *context) {
  struct chain *c = context;
  struct plan *plan = c->planner->plan;
  while (c->next < plan->packing && heap_in_young(h, block_address(&h->layout, plan->sources[c->next])))
    c->next++; /* not here */
  if (c->next < plan->packing) return block_address(&h->layout, plan->sources[c->next++]);
  return outlet_take(c->planner, &c->planner->dests);
}

/* Cuts the sources into one chain a thread; each fills its destinations in order, so what a chain has emptied it may fill:
 * sliding compaction, block by block. Forwarding is not idempotent then: the move is in the pause and done once. */
static void plan_chains(struct planner *p, uint32_t from) {
  struct plan *plan = p->plan;
  uint32_t threads = p->heap->config.gc_threads, count = plan->source_count - from, end = plan->source_count;
  for (uint32_t i = 0; i < threads && count > 0 && plan->chain_count < TEAM_CHAINS; i++) {
    uint32_t first = from + (uint32_t)((uint64_t)count * i / threads),
             last = from + (uint32_t)((uint64_t)count * (i + 1) / threads);
    struct chain chain = {.planner = p, .next = first};
    plan->chains[plan->chain_count++] = plan->dest_count;
    uint32_t packed = evacuate_pack(p->heap, plan, first, last, p->options.map, take_emptied, &chain);
    GCH_CHECK(packed == last - first, "sliding ran out of destinations at source %u of %u", first + packed, end);
    plan->chains[plan->chain_count] = plan->dest_count;
  }
}

static void plan_small(struct planner *p) {
  struct plan *plan = p->plan;
  plan_each_arena(p, tally_small);
  p->threshold = plan_threshold(p->density);
  choose_target(p);
  uint32_t moves = plan->move_count, arenas = plan->arena_count, sources = plan->source_count;
  plan_each_arena(p, judge_blocks);
  place_arenas(p, arenas);
  if (slides_all(p))
    place_chains(p, moves);
  else
    place_moves(p, moves);
  evacuate_extents(p->heap, plan, sources, p->options.map);
  if (p->heap->mover->slides) {
    plan_chains(p, sources);
    return;
  }
  uint32_t packed = evacuate_pack(p->heap, plan, sources, plan->source_count, p->options.map, take_dest, p);
  for (uint32_t s = sources + packed; s < plan->source_count; s++) stay(p, plan->sources[s]);
  plan->source_count = sources + packed;
}

/* --- summaries -------------------------------------------------------------------------------------------------- */

static void moves_from(const gch_heap *h, struct plan *plan, uintptr_t from, uint64_t bytes) {
  for (size_t a = arena_index(&h->layout, from); a <= arena_index(&h->layout, from + bytes - 1); a++)
    summary_set(plan->moving, a);
}

static void note_moving(gch_heap *h, struct plan *plan) {
  memset(plan->moving, 0, sizeof plan->moving);
  for (uint32_t i = 0; i < plan->source_count; i++) summary_set(plan->moving, plan->sources[i] / ARENA_BLOCKS);
  for (uint32_t i = 0; i < plan->move_count; i++) summary_set(plan->moving, plan->moves[i] / ARENA_BLOCKS);
  for (uint32_t i = 0; i < plan->arena_count; i++) summary_set(plan->moving, plan->arenas[i]);
  for (uint32_t i = 0; i < plan->large_arena_count; i++) summary_set(plan->moving, plan->large_arenas[i].from);
  for (uint32_t i = 0; i < plan->large_move_count; i++) {
    const struct large *e = &h->large.entries[plan->large_moves[i]];
    moves_from(h, plan, e->base, e->bytes);
  }
}

/* Did the rows pay? A twentieth of the arenas with references need not be read. */
static bool is_quiet_enough(gch_heap *h, const struct plan *plan) {
  uint64_t all = 0, quiet = 0;
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    uint32_t first, count = region_arenas(h, r, &first);
    for (uint32_t a = first; a < first + count && space_has_refs(h->layout.regions[r].space); a++) {
      if (at_load_relaxed(&h->tables.arenas[a].fate) == ARENA_EMPTIES) continue; /* a figure */
      all++;
      quiet += summary_is_quiet(h, a, plan->moving);
    }
  }
  return quiet * QUIET_SHARE >= all && quiet > 0;
}

static void sum_up(gch_heap *h, struct plan *plan) {
  plan->summed = h->summarises;
  if (!plan->summed) return;
  note_moving(h, plan);
  h->summary_rest = is_quiet_enough(h, plan) ? 0 : SUMMARY_REST;
}

void plan_summaries(gch_heap *h, gch_policy policy) {
  bool rests = h->summary_rest > 0 && h->config.summaries == GCH_SUMMARIES_AUTO;
  h->summarises = policy == GCH_POLICY_NEEDED && h->config.summaries != GCH_SUMMARIES_OFF && !rests;
  if (rests) h->summary_rest--;
}

void plan_major(gch_heap *h, struct plan *plan, const struct plan_options *options) {
  static const enum space_id small[] = {SPACE_OLD, SPACE_LEAF}, large[] = {SPACE_LARGE, SPACE_LARGE_LEAF};
  plan_reset(plan);
  for (int leaf = 0; leaf < 2; leaf++) {
    struct planner p = {.heap = h, .plan = plan, .options = *options, .space = small[leaf], .leaf = leaf};
    plan_small(&p);
  }
  for (int leaf = 0; leaf < 2; leaf++) {
    struct planner p = {.heap = h, .plan = plan, .options = *options, .space = large[leaf], .leaf = leaf};
    lock_lock(&h->large.lock);
    plan_large(&p);
    lock_unlock(&h->large.lock);
  }
  sum_up(h, plan);
}
