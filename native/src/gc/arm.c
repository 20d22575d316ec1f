#include "gc/arm.h"

#include "gc/consume.h"
#include "gc/drive.h"
#include "heap/small.h"
#include "heap/summary.h"
#include "heap/unit.h"
#include "mover/mover.h"

static bool is_home(const gch_heap *h, size_t arena) { return at_load(&h->tables.arenas[arena].made) == ARENA_HOME; }

/* Decided before the flip for good: the only region that may come into use between is the one that allocation uses. */
static bool to_be_flipped(gch_heap *h, uint32_t region) {
  enum space_id space = h->layout.regions[region].space;
  uint32_t first;
  if (!space_has_refs(space) || region == h->held_out[space == SPACE_LARGE]) return false;
  return region == *heap_alloc_region(h, space) || region_arenas(h, region, &first) > 0;
}

/* Small blocks that hold something after the cycle; in leaf regions only what is moved there. */
static void arm_arena(gch_heap *h, uint32_t region, size_t arena) {
  bool leaf = h->layout.regions[region].space == SPACE_LEAF;
  for (size_t b = arena * ARENA_BLOCKS; b < (arena + 1) * ARENA_BLOCKS; b++) {
    const struct block *block = &h->tables.blocks[b];
    bool destination = h->tables.dest[b] != 0;
    if (destination && leaf) h->armed |= (uint64_t)1 << region;
    if (destination || (!leaf && block->state == BLOCK_USED && h->tables.forward[b] == 0)) unit_arm(h, b);
  }
}

/* A minor, which promotes into the same regions and notes its own destinations there, is kept out an arena at a time; who
 * allocates in the region, too. */
static void arm_small(gch_heap *h, uint32_t region) {
  struct lock *space = &heap_small_space(h, h->layout.regions[region].space == SPACE_LEAF)->lock;
  uint32_t first, count = region_arenas(h, region, &first);
  for (uint32_t a = first; a < first + count; a++) {
    drive_pass(h);
    lock_lock(&h->cycle_lock);
    lock_lock(space);
    if (!is_home(h, a)) arm_arena(h, region, a);
    lock_unlock(space);
    lock_unlock(&h->cycle_lock);
  }
}

static void note_relocations(gch_heap *h) {
  const struct plan *p = h->plan;
  for (uint32_t i = 0; i < p->move_count; i++) {
    size_t to = p->moves[i] + (size_t)(h->tables.forward[p->moves[i]] >> BLOCK_SHIFT);
    h->tables.dest[to] = DEST_RELOCATED | p->moves[i];
  }
  for (uint32_t i = 0; i < p->arena_count; i++)
    for (size_t b = (size_t)p->arenas[i] * ARENA_BLOCKS; b < ((size_t)p->arenas[i] + 1) * ARENA_BLOCKS; b++)
      if (h->tables.forward[b] != 0)
        h->tables.dest[b + (size_t)(h->tables.forward[b] >> BLOCK_SHIFT)] = DEST_RELOCATED | (uint32_t)b;
  for (uint32_t i = 0; i < p->large_arena_count; i++)
    for (uint32_t b = 0; b < ARENA_BLOCKS; b++)
      h->tables.dest[(size_t)p->large_arenas[i].to * ARENA_BLOCKS + b] =
          DEST_RELOCATED | (p->large_arenas[i].from * ARENA_BLOCKS + b);
}

static void arm_large(gch_heap *h) {
  lock_lock(&h->large.lock);
  for (uint32_t id = 1; id < h->large.count; id++) {
    struct large *e = &h->large.entries[id];
    if (e->base == 0 || (e->leaf && e->forward == e->base)) continue;
    if (e->leaf) h->armed |= (uint64_t)1 << layout_region(&h->layout, e->forward);
    size_t first = block_index(&h->layout, e->forward), last = block_index(&h->layout, e->forward + e->bytes - 1);
    for (size_t b = first; b <= last; b++) unit_arm(h, b);
  }
  lock_unlock(&h->large.lock);
}

/* --- what stays at home ---------------------------------------------------------------------------------------- */

/* Something moves out of it or into it, or it refers to something that moves, as far as anybody knows. */
static bool has_to_go(const gch_heap *h, size_t arena) {
  for (size_t b = arena * ARENA_BLOCKS; b < (arena + 1) * ARENA_BLOCKS; b++)
    if (h->tables.dest[b] != 0 || h->tables.forward[b] != 0) return true;
  return !summary_is_quiet(h, arena, h->plan->moving);
}

static bool add(struct selection *s, uint32_t arena) {
  for (uint32_t i = 0; i < s->count; i++)
    if (s->arenas[i] == arena) return true;
  if (s->count == SELECT_MAX) return false;
  s->arenas[s->count++] = arena;
  return true;
}

static void nobody_at_home(gch_heap *h, uint32_t region, bool arms) {
  uint32_t first, count = region_arenas(h, region, &first);
  for (uint32_t a = first; a < first + count; a++) {
    if (!is_home(h, a)) continue;
    at_store(&h->tables.arenas[a].made, (uint32_t)ARENA_UNMADE);
    if (arms) arm_arena(h, region, a);
  }
}

/* A minor, which cleans cards, is kept out an arena at a time. */
static bool select_arena(gch_heap *h, uint32_t arena, uint32_t *at_home) {
  lock_lock(&h->cycle_lock);
  bool goes = has_to_go(h, arena);
  lock_unlock(&h->cycle_lock);
  if (goes) return add(&h->selection, arena);
  at_store(&h->tables.arenas[arena].made, (uint32_t)ARENA_HOME);
  *at_home += h->tables.arenas[arena].used != 0;
  return true;
}

/* Worth it if most of what is there stays at home. */
static void select_region(gch_heap *h, uint32_t region) {
  struct selection *s = &h->selection;
  uint32_t first, count = region_arenas(h, region, &first), before = s->count, at_home = 0;
  bool few = true;
  for (uint32_t a = first; a < first + count && few; a++) few = select_arena(h, a, &at_home);
  if (few && at_home >= s->count - before && h->mover->guard(h, region)) {
    s->regions |= (uint64_t)1 << region;
    return;
  }
  nobody_at_home(h, region, false);
  s->count = before;
}

/* Before anybody could take what is armed from now on. */
static void begin_selecting(gch_heap *h) {
  struct selection *s = &h->selection;
  s->regions = 0;
  s->count = 0;
  s->end = region_first_arena(h, layout_first_region(&h->layout, SPACE_LARGE)); /* old regions come first */
  at_store(&s->noted_count, 0);
  bool can = h->huge && h->mover->flip_arena != NULL && h->plan->summed;
  /* Memory that the tables do not know of would stay at home, in front of what is to come there. */
  at_store(&s->notes, can && !s->shared && at_load(&h->undropped) == 0);
}

static void select_arenas(gch_heap *h) {
  for (uint32_t r = 0; r < h->layout.region_count && at_load(&h->selection.notes); r++)
    if (h->to_flip >> r & 1 && h->layout.regions[r].space == SPACE_OLD) select_region(h, r);
}

/* False: too many go. */
static bool recall(gch_heap *h, uint32_t region, uint32_t arena) {
  if (is_home(h, arena)) {
    at_store(&h->tables.arenas[arena].made, (uint32_t)ARENA_UNMADE);
    arm_arena(h, region, arena);
  }
  return add(&h->selection, arena);
}

static void flip_whole(gch_heap *h, uint32_t region) {
  nobody_at_home(h, region, true);
  h->selection.regions &= ~((uint64_t)1 << region);
}

/* If not, the pause would be long: pages of a small size go one by one. */
static bool is_all_huge(const gch_heap *h, uint32_t region) {
  const struct selection *s = &h->selection;
  for (uint32_t i = 0; i < s->count; i++) {
    const struct arena *a = &h->tables.arenas[s->arenas[i]];
    if (layout_region(&h->layout, arena_address(&h->layout, s->arenas[i])) == region && a->populated != 0 && !a->huge)
      return false;
  }
  return true;
}

void arm_recalled(gch_heap *h) {
  struct selection *s = &h->selection;
  uint32_t noted = at_load(&s->noted_count);
  at_store(&s->notes, 0);
  for (uint32_t i = 0; i < noted && i < SELECT_MAX && s->regions != 0; i++) {
    uint32_t arena = at_load(&s->noted[i]), region = layout_region(&h->layout, arena_address(&h->layout, arena));
    if (arm_selects(h, region) && !recall(h, region, arena)) flip_whole(h, region);
  }
  for (uint32_t r = 0; r < h->layout.region_count && s->regions != 0; r++)
    if (arm_selects(h, r) && (noted > SELECT_MAX || s->shared || !is_all_huge(h, r))) flip_whole(h, r);
}

void arm_all(gch_heap *h) {
  at_store(&h->selection.notes, 0);
  for (uint32_t r = 0; r < h->layout.region_count; r++)
    if (arm_selects(h, r)) flip_whole(h, r);
}

/* --- entry ---------------------------------------------------------------------------------------------------- */

/* From now on what is born is armed by who takes it, and all that was born before is there to be armed. */
static void begin_arming(gch_heap *h) {
  struct lock *locks[] = {&h->old.lock, &h->large.lock};
  at_store(&h->arming, 1);
  for (int i = 0; i < 2; i++) {
    lock_lock(locks[i]);
    lock_unlock(locks[i]);
  }
}

void arm_units(gch_heap *h) {
  h->armed = h->to_flip = 0;
  begin_selecting(h);
  begin_arming(h);
  for (uint32_t r = 0; r < h->layout.region_count; r++)
    if (to_be_flipped(h, r)) h->to_flip |= (uint64_t)1 << r;
  if (h->huge) consume_count(h, h->plan, false);
  note_relocations(h);
  select_arenas(h);
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    enum space_id space = h->layout.regions[r].space;
    bool dests = space == SPACE_LEAF && r != h->leaf.alloc_region;
    if ((space == SPACE_OLD && h->to_flip >> r & 1) || dests) arm_small(h, r);
  }
  arm_large(h);
}
