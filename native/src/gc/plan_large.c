/* The plan of the large spaces: which objects move, and to which pages.
 *
 * Destinations are the first pages that do, searched from the start of the target region, so that regions do not grow with
 * every cycle. They were free when the plan was made; which free pages will do depends:
 *   policy `all`      arenas that were empty: every live page gets a new arena
 *   policy `needed`   any free page where pages are small; where arenas are huge, empty arenas and those that are dense and
 *                     stay (a sparse one is what is being emptied), in leaf regions beside mutators empty arenas only: the rest of a
 *                     huge page is present, so a touch of it would not fault
 * `closed` (heap/large.h) says so page by page while the plan is made, under the lock of the large spaces.
 *
 * `slide`: objects that move go down, in the order of their addresses, to the first pages behind the one before: into pages
 * that the dead and the moved have left. Source and destination may overlap, the move is in the pause and made once. */
#include <string.h>

#include "gc/plan_internal.h"
#include "heap/small.h"
#include "mover/mover.h"

/* --- tallies -------------------------------------------------------------------------------------------------- */

/* Arenas that hold something that stays, or that something moves into, are not given back as sources. */
static void keep_arenas(gch_heap *h, uintptr_t start, uint64_t bytes) {
  for (size_t a = arena_index(&h->layout, start); a <= arena_index(&h->layout, start + bytes - 1); a++)
    at_store_relaxed(&h->tables.arenas[a].fate, (uint8_t)ARENA_STAYS);
}

static void tally_large(struct planner *p) {
  gch_heap *h = p->heap;
  for (uint32_t id = 1; id < h->large.count; id++) {
    struct large *e = &h->large.entries[id];
    if ((e->leaf != 0) != p->leaf) continue;
    if (e->birth != LARGE_NOT_IN_BIRTH) keep_arenas(h, e->planned, e->bytes);
    if (e->base == 0) continue;
    e->forward = e->base;
    if (e->born) keep_arenas(h, e->base, e->bytes);
    if (e->born || !bits_test(p->options.map, granule_index(&h->layout, e->base))) continue;
    uint64_t granules = align_up(e->bytes, h->layout.page_bytes) / GRANULE_BYTES;
    p->region_live[layout_region(&h->layout, e->base)] += granules;
    p->live += granules;
    for (uintptr_t at = e->base, end = at + granules * GRANULE_BYTES; at < end;) {
      uintptr_t next = arena_after(at);
      if (next > end) next = end;
      heap_arena(h, at)->live += (uint32_t)((next - at) / GRANULE_BYTES);
      at = next;
    }
  }
}

static void clear_arena_live(struct planner *p, uint32_t region, uint32_t arena) {
  (void)region;
  p->heap->tables.arenas[arena].live = 0;
  at_store_relaxed(&p->heap->tables.arenas[arena].fate, (uint8_t)ARENA_EMPTIES);
}

static void count_arena_density(struct planner *p, uint32_t region, uint32_t arena) {
  uint32_t live = p->heap->tables.arenas[arena].live;
  (void)region;
  if (live != 0) p->density[plan_density(live, ARENA_BLOCKS * BLOCK_GRANULES)]++;
}

/* Where pages are small nothing is won by moving a large object inside its region: dead neighbours' pages are given
 * back one by one. Where arenas are huge it is, if its arenas are sparse. */
static bool large_moves(const struct planner *p, const struct large *e) {
  const gch_heap *h = p->heap;
  if (at_load_relaxed(&heap_block(h, e->base)->pins) != 0 || p->target == REGION_NONE) return false;
  if (p->options.policy == GCH_POLICY_RELEASE) return false;
  if (p->options.policy == GCH_POLICY_ALL || layout_region(&h->layout, e->base) != p->target) return true;
  return h->huge && plan_density(heap_arena(h, e->base)->live, ARENA_BLOCKS * BLOCK_GRANULES) <= p->threshold;
}

static void choose_large_target(struct planner *p) {
  const gch_heap *h = p->heap;
  uint32_t first = layout_first_region(&h->layout, p->space),
           held_out = p->leaf ? h->large.alloc_region[1] : h->held_out[1];
  bool fullest = p->options.policy == GCH_POLICY_NEEDED;
  p->target = REGION_NONE;
  for (uint32_t r = first; r < first + layout_space_regions(&h->layout, p->space); r++) {
    if (p->options.flips && r == held_out) continue;
    uint64_t live = p->region_live[r], best = p->target == REGION_NONE ? 0 : p->region_live[p->target];
    if (p->target == REGION_NONE || (fullest ? live > best : live < best)) p->target = r;
  }
}

/* --- where to ------------------------------------------------------------------------------------------------- */

/* Under the lock: may free pages of the arena be destinations? */
static bool is_open(const struct planner *p, const struct arena *arena) {
  const gch_heap *h = p->heap;
  if (arena->used == 0) return !arena->huge && arena->populated == 0;
  if (p->options.policy == GCH_POLICY_ALL) return false;
  if (!h->huge) return true;
  bool whole = arena->huge && arena->populated == UINT32_MAX && !(p->leaf && p->options.flips);
  return whole && plan_density(arena->live, ARENA_BLOCKS * BLOCK_GRANULES) > p->threshold;
}

static uint64_t pages_per_arena(const gch_heap *h) { return ARENA_BYTES >> h->layout.page_shift; }

static void close_arenas(struct planner *p) {
  gch_heap *h = p->heap;
  uint32_t first, count = region_arenas(h, p->target, &first);
  uint64_t pages = pages_per_arena(h);
  for (uint32_t a = first; a < first + count; a++) {
    if (is_open(p, &h->tables.arenas[a]))
      bits_copy_range(h->large.closed, a * pages, h->large.pages, a * pages, pages);
    else
      bits_set_range(h->large.closed, a * pages, (a + 1) * pages);
  }
}

static void reopen_arenas(struct planner *p) {
  uint32_t first, count = region_arenas(p->heap, p->target, &first);
  uint64_t pages = pages_per_arena(p->heap);
  bits_clear_range(p->heap->large.closed, first * pages, (first + count) * pages);
}

/* --- verdicts ------------------------------------------------------------------------------------------------- */

static bool in_plan(const struct planner *p, const struct large *e) {
  return e->base != 0 && (e->leaf != 0) == p->leaf && !e->born &&
         bits_test(p->options.map, granule_index(&p->heap->layout, e->base));
}

static void add_pieces(struct planner *p, uint32_t id) {
  if (!p->options.flips) plan_add_pieces(p->heap, p->plan, id); /* else units take their place */
}

static void large_stays(struct planner *p, uint32_t id) {
  const struct large *e = &p->heap->large.entries[id];
  keep_arenas(p->heap, e->base, e->bytes);
  if (!p->leaf) add_pieces(p, id);
}

static void large_goes(struct planner *p, uint32_t id, uintptr_t to) {
  gch_heap *h = p->heap;
  struct large *e = &h->large.entries[id];
  e->forward = e->planned = to;
  h->tables.forward[block_index(&h->layout, e->base)] = FORWARD_LARGE;
  p->plan->large_moves[p->plan->large_move_count++] = id;
}

static void plan_entry(struct planner *p, uint32_t id, uint64_t *cursor) {
  gch_heap *h = p->heap;
  struct large *e = &h->large.entries[id];
  if (!in_plan(p, e) || e->forward != e->base) return; /* (with its group) */
  uint64_t pages = align_up(e->bytes, h->layout.page_bytes) >> h->layout.page_shift;
  uintptr_t to = large_moves(p, e) ? large_reserve(h, p->target, pages, cursor, true) : 0;
  if (to == 0) {
    large_stays(p, id);
    return;
  }
  large_claim(h, to, e->bytes, id, p->leaf);
  keep_arenas(h, to, e->bytes);
  large_goes(p, id, to);
  add_pieces(p, id);
}

/* The next object from page `*at` on, or NULL. (*id is 0: a page of one that is being born.) */
static struct large *next_object(const gch_heap *h, uint64_t *at, uint64_t end, uint32_t *id) {
  *at = bits_find_next(h->large.pages, *at, end);
  if (*at == BITS_NONE) return NULL;
  *id = h->tables.large_ids[*at];
  struct large *e = &h->large.entries[*id];
  *at += *id == 0 ? 1 : align_up(e->bytes, h->layout.page_bytes) >> h->layout.page_shift;
  return e;
}

/* --- groups of huge arenas --------------------------------------------------------------------------------------- */

/* Does an object lie on both sides of the arena's end? */
static bool straddles(const gch_heap *h, uint32_t arena) {
  const uint32_t *next = &h->tables.large_ids[(arena + 1) * pages_per_arena(h)];
  return next[-1] != 0 && next[-1] == next[0];
}

/* Nothing in it is pinned, or born since the mark (then something stays), and its memory is in one piece. */
static bool is_movable(const gch_heap *h, uint32_t arena) {
  const struct arena *a = &h->tables.arenas[arena];
  const struct block *b = &h->tables.blocks[(size_t)arena * ARENA_BLOCKS];
  uint32_t pins = 0;
  for (uint32_t i = 0; i < ARENA_BLOCKS; i++) pins += at_load_relaxed(&b[i].pins);
  return a->used != 0 && a->huge && a->populated == UINT32_MAX && at_load_relaxed(&a->fate) != ARENA_STAYS && pins == 0;
}

static bool goes_whole(const struct planner *p, uint32_t first, uint32_t end, bool packs) {
  uint64_t live = 0;
  for (uint32_t a = first; a < end; a++) {
    if (!is_movable(p->heap, a)) return false;
    live += p->heap->tables.arenas[a].live;
  }
  return !packs || plan_density(live, (uint64_t)(end - first) * ARENA_BLOCKS * BLOCK_GRANULES) > p->threshold;
}

/* Would what lives in sparse arenas fit into fewer? */
static bool packing_gains(const struct planner *p) {
  uint64_t live = 0, sparse = 0;
  for (uint32_t d = 1; d <= p->threshold; d++) {
    live += p->density[d] * d;
    sparse += p->density[d];
  }
  return sparse > 0 && live <= (sparse - 1) * DENSITY_STEPS;
}

/* Arenas [first, end) relocate to a run of as many empty ones, if there is one. In the pause the holes between objects are
 * free there, too; beside mutators neither those are, nor those that are left, until the end: what is born in a hole would be
 * in the way of the page, or left by it. */
static void relocate_group(struct planner *p, uint32_t first, uint32_t end, uint64_t *cursor) {
  gch_heap *h = p->heap;
  uint64_t pages = pages_per_arena(h), at = first * pages, stop = end * pages;
  uintptr_t to = large_reserve(h, p->target, stop - at, cursor, true), from = arena_address(&h->layout, first);
  if (to == 0) return;
  uint64_t dest = (to - h->layout.base) >> h->layout.page_shift, from_page = at;
  if (!p->options.flips) bits_copy_range(h->large.pages, dest, h->large.pages, at, stop - at);
  uint32_t id;
  for (struct large *e; (e = next_object(h, &at, stop, &id)) != NULL;) {
    large_claim(h, to + (e->base - from), e->bytes, id, p->leaf);
    large_goes(p, id, to + (e->base - from));
  }
  if (p->options.flips) bits_set_range(h->large.pages, from_page, stop);
  for (uint32_t a = first; a < end; a++) {
    at_store_relaxed(&h->tables.arenas[a].fate, (uint8_t)ARENA_RELOCATES);
    p->plan->large_arenas[p->plan->large_arena_count++] =
        (struct relocation){a, (uint32_t)arena_index(&h->layout, to) + (a - first)};
  }
}

void plan_release_relocation(gch_heap *h, const struct relocation *r) {
  size_t dest = (size_t)r->to * ARENA_BLOCKS;
  memset(&h->tables.dest[dest], 0, ARENA_BLOCKS * sizeof h->tables.dest[0]);
  if (at_load_relaxed(&h->tables.arenas[r->from].fate) == ARENA_RELOCATES)
    at_store_relaxed(&h->tables.arenas[r->from].fate, (uint8_t)ARENA_EMPTIES);
  large_free_holes(h, r->from);
  large_free_holes(h, r->to);
}

/* Policy `all`: dense arenas, with all that straddles their borders, go as they are, page by huge page; sparse ones, too, where
 * packing them would free none. Where pages cannot be moved, copying objects into fresh huge pages is quicker (UFFDIO_COPY makes small ones). */
static void plan_groups(struct planner *p, uint64_t *cursor) {
  gch_heap *h = p->heap;
  uint32_t first = layout_first_region(&h->layout, p->space);
  if (!h->huge || p->options.policy != GCH_POLICY_ALL || !h->mover->moves_pages) return;
  bool packs = packing_gains(p);
  for (uint32_t r = first; r < first + layout_space_regions(&h->layout, p->space); r++) {
    uint32_t start, count = region_arenas(h, r, &start);
    for (uint32_t a = start, stop; a < start + count; a = stop) {
      for (stop = a + 1; stop < start + count && straddles(h, stop - 1);) stop++;
      if (goes_whole(p, a, stop, packs)) relocate_group(p, a, stop, cursor);
    }
  }
}

/* --- sliding (the `slide` baseline) ----------------------------------------------------------------------------- */

static void slide_region(struct planner *p, uint32_t region) {
  gch_heap *h = p->heap;
  uint32_t first, count = region_arenas(h, region, &first), id;
  uint64_t at = first * pages_per_arena(h), end = (first + count) * pages_per_arena(h);
  uintptr_t to = h->layout.regions[region].start;
  p->target = region;
  for (struct large *e; (e = next_object(h, &at, end, &id)) != NULL;) {
    if (id == 0) { /* what is free below stays free */
      to = h->layout.base + (at << h->layout.page_shift);
      continue;
    }
    uint64_t bytes = align_up(e->bytes, h->layout.page_bytes);
    if (to != e->base && large_moves(p, e)) {
      keep_arenas(h, to, e->bytes);
      large_goes(p, id, to);
    } else {
      large_stays(p, id);
      to = e->base;
    }
    to += bytes;
  }
}

/* One chain a space: an object may be moved when those below it have been. */
static void plan_slide(struct planner *p) {
  struct plan *plan = p->plan;
  uint32_t from = plan->large_move_count, first = layout_first_region(&p->heap->layout, p->space);
  for (uint32_t r = first; r < first + layout_space_regions(&p->heap->layout, p->space); r++) slide_region(p, r);
  if (plan->large_move_count == from) return;
  plan->large_chains[plan->large_chain_count++] = from;
  plan->large_chains[plan->large_chain_count] = plan->large_move_count;
}

/* --- entry ---------------------------------------------------------------------------------------------------- */

void plan_large(struct planner *p) {
  gch_heap *h = p->heap;
  uint64_t cursor = 0;
  plan_each_arena(p, clear_arena_live);
  tally_large(p);
  plan_each_arena(p, count_arena_density);
  p->threshold = plan_threshold(p->density);
  if (h->mover->slides) {
    plan_slide(p);
    return;
  }
  choose_large_target(p);
  close_arenas(p);
  plan_groups(p, &cursor);
  for (uint32_t id = 1; id < h->large.count; id++) plan_entry(p, id, &cursor);
  reopen_arenas(p);
}
