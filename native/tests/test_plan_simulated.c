/* The planner on tables that nobody's heap has filled: blocks, densities, pins and liveness are drawn, and what is decided of each
 * block is compared with a reading of gc/plan.h that knows nothing of how it is done. */
#include "gc/phase.h"
#include "gc/plan_internal.h"
#include "gc/safepoint.h"
#include "heap/small.h"
#include "kit.h"
#include "os/pages.h"

enum { OBJECT_MOST = 32, LIVE_SHARES = 5 }; /* granules; kinds of blocks */

static struct kit kit;
static uint64_t state;

static uint64_t next_random(uint64_t below) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state % below;
}

/* --- tables ------------------------------------------------------------------------------------------------------- */

/* Live objects in the block, each after a gap of its own, until `live` granules live; returns how many do. */
static uint32_t draw_objects(size_t block, bool leaf, uint32_t live) {
  gch_heap *h = kit.heap;
  const gch_type *type = leaf ? kit.bytes : kit.refs;
  uint32_t at = 0, done = 0;
  while (done < live) {
    uint32_t granules = 1 + (uint32_t)next_random(OBJECT_MOST), slack = BLOCK_GRANULES - at - (live - done);
    if (granules > live - done) granules = live - done;
    if (slack > 0 && next_random(4) == 0) at += (uint32_t)next_random(slack < 64 ? slack + 1 : 64);
    uintptr_t object = block_address(&h->layout, block) + at * (uintptr_t)GRANULE_BYTES;
    *(uint64_t *)object = type->header | (uint64_t)(granules * GRANULE_BYTES - KIT_REFS) << HEADER_TAIL_SHIFT;
    bits_set(h->tables.mark, granule_index(&h->layout, object));
    at += granules;
    done += granules;
  }
  heap_block(h, block_address(&h->layout, block))->top = (uint16_t)at;
  return done;
}

/* None, a few, about half, nearly all, all. */
static uint32_t draw_live(void) {
  switch (next_random(LIVE_SHARES)) {
    case 0: return 0;
    case 1: return 1 + (uint32_t)next_random(BLOCK_GRANULES / 16);
    case 2: return BLOCK_GRANULES / 4 + (uint32_t)next_random(BLOCK_GRANULES / 2);
    case 3: return BLOCK_GRANULES - (uint32_t)next_random(BLOCK_GRANULES / 8);
    default: return BLOCK_GRANULES;
  }
}

static void draw_block(size_t index, bool leaf) {
  gch_heap *h = kit.heap;
  struct block *b = &h->tables.blocks[index];
  block_assign(h, block_address(&h->layout, index), BLOCK_USED, leaf);
  b->live = (uint16_t)draw_objects(index, leaf, draw_live());
  b->pins = next_random(40) == 0;
}

/* `fullness`: of ten arenas, how many hold something. */
static void draw_region(uint32_t region, uint32_t arenas, uint32_t fullness) {
  gch_heap *h = kit.heap;
  bool leaf = h->layout.regions[region].space == SPACE_LEAF;
  uint32_t first = region_first_arena(h, region);
  heap_small_space(h, leaf)->top[region - layout_first_region(&h->layout, leaf ? SPACE_LEAF : SPACE_OLD)] = arenas;
  for (uint32_t a = first; a < first + arenas; a++) {
    if (next_random(10) >= fullness) continue;
    for (size_t b = (size_t)a * ARENA_BLOCKS; b < (size_t)(a + 1) * ARENA_BLOCKS; b++)
      if (next_random(8) != 0) draw_block(b, leaf);
  }
}

static void draw_space(enum space_id space) {
  const struct layout *l = &kit.heap->layout;
  uint32_t first = layout_first_region(l, space);
  for (uint32_t r = first; r < first + layout_space_regions(l, space); r++) {
    uint32_t most = (uint32_t)(l->regions[r].bytes >> ARENA_SHIFT);
    if (next_random(3) != 0) draw_region(r, 1 + (uint32_t)next_random(most / 2), 1 + (uint32_t)next_random(9));
  }
}

/* --- what must come of it ----------------------------------------------------------------------------------------- */

struct expectation {
  enum space_id space;
  gch_policy policy;
  uint64_t live; /* granules of the space */
  uint64_t region_live[64];
  uint64_t density[65];
  uint32_t threshold, target;
};

static bool is_in(const struct block *b) { return b->state == BLOCK_USED; }

static uint64_t arena_live(size_t arena) {
  uint64_t live = 0;
  for (size_t b = arena * ARENA_BLOCKS; b < (arena + 1) * ARENA_BLOCKS; b++)
    if (is_in(&kit.heap->tables.blocks[b])) live += kit.heap->tables.blocks[b].live;
  return live;
}

/* In 64ths, upwards: what lives is never nothing. */
static uint32_t density_of(uint64_t live, uint64_t of) { return (uint32_t)((live * 64 + of - 1) / of); }

static void count_live(struct expectation *e) {
  const gch_heap *h = kit.heap;
  uint32_t first = layout_first_region(&h->layout, e->space);
  for (uint32_t r = first; r < first + layout_space_regions(&h->layout, e->space); r++) {
    uint32_t start, count = region_arenas(h, r, &start);
    for (uint32_t a = start; a < start + count; a++) {
      uint64_t live = arena_live(a);
      e->region_live[r] += live;
      e->live += live;
      if (h->huge && live != 0) e->density[density_of(live, ARENA_BLOCKS * BLOCK_GRANULES)]++;
      for (size_t b = (size_t)a * ARENA_BLOCKS; b < (size_t)(a + 1) * ARENA_BLOCKS && !h->huge; b++)
        if (is_in(&h->tables.blocks[b]) && h->tables.blocks[b].live != 0)
          e->density[density_of(h->tables.blocks[b].live, BLOCK_GRANULES)]++;
    }
  }
}

/* Room in empty arenas, an eighth more than what could come. */
static bool has_room(const struct expectation *e, uint32_t region) {
  const gch_heap *h = kit.heap;
  uint32_t first = region_first_arena(h, region), arenas = (uint32_t)(h->layout.regions[region].bytes >> ARENA_SHIFT);
  uint64_t room = 0, come = e->live - (e->policy == GCH_POLICY_NEEDED ? e->region_live[region] : 0);
  for (uint32_t a = first; a < first + arenas; a++) room += arena_live(a) == 0 && h->tables.arenas[a].used == 0;
  return room * ARENA_BLOCKS * BLOCK_GRANULES >= come + come / 8;
}

static struct expectation expect_of(enum space_id space, gch_policy policy) {
  struct expectation e = {.space = space, .policy = policy, .target = REGION_NONE};
  const struct layout *l = &kit.heap->layout;
  uint32_t first = layout_first_region(l, space);
  count_live(&e);
  e.threshold = plan_threshold(e.density);
  for (uint32_t r = first; r < first + layout_space_regions(l, space); r++) {
    if (!has_room(&e, r)) continue;
    bool better = e.target == REGION_NONE || (policy == GCH_POLICY_NEEDED ? e.region_live[r] > e.region_live[e.target]
                                                                          : e.region_live[r] < e.region_live[e.target]);
    if (better) e.target = r;
  }
  return e;
}

enum fate { FATE_NOTHING, FATE_STAYS, FATE_MOVES, FATE_EVACUATED };

static bool anything_pinned(size_t arena) {
  for (size_t b = arena * ARENA_BLOCKS; b < (arena + 1) * ARENA_BLOCKS; b++)
    if (kit.heap->tables.blocks[b].pins != 0) return true;
  return false;
}

static enum fate fate_of(const struct expectation *e, size_t block) {
  const gch_heap *h = kit.heap;
  const struct block *b = &h->tables.blocks[block];
  size_t arena = block / ARENA_BLOCKS;
  if (!is_in(b) || (b->live == 0 && b->pins == 0)) return FATE_NOTHING;
  if (b->pins != 0 || e->policy == GCH_POLICY_RELEASE || e->target == REGION_NONE) return FATE_STAYS;
  uint32_t density =
      h->huge ? density_of(arena_live(arena), ARENA_BLOCKS * BLOCK_GRANULES) : density_of(b->live, BLOCK_GRANULES);
  if (density <= e->threshold) return FATE_EVACUATED;
  bool at_home = layout_region(&h->layout, block_address(&h->layout, block)) == e->target;
  if (e->policy == GCH_POLICY_NEEDED && at_home) return FATE_STAYS;
  return h->huge && anything_pinned(arena) ? FATE_STAYS : FATE_MOVES;
}

/* --- what came ---------------------------------------------------------------------------------------------------- */

static uint8_t *decided; /* enum fate by block */

static void note(size_t block, enum fate fate) {
  CHECK_EQ(decided[block], FATE_NOTHING);
  decided[block] = (uint8_t)fate;
}

static void note_plan(const struct plan *p) {
  const gch_heap *h = kit.heap;
  for (uint32_t i = 0; i < p->source_count; i++) note(p->sources[i], FATE_EVACUATED);
  for (uint32_t i = 0; i < p->move_count; i++) note(p->moves[i], FATE_MOVES);
  for (uint32_t i = 0; i < p->fix_count; i++) note(p->fixes[i], FATE_STAYS);
  for (uint32_t i = 0; i < p->arena_count; i++)
    for (size_t b = (size_t)p->arenas[i] * ARENA_BLOCKS; b < ((size_t)p->arenas[i] + 1) * ARENA_BLOCKS; b++)
      if (h->tables.forward[b] != 0) note(b, FATE_MOVES);
}

/* (Leaf blocks that stay are in no list: nothing in them is fixed.) */
static bool compare_space(const struct expectation *e) {
  const gch_heap *h = kit.heap;
  uint32_t first = layout_first_region(&h->layout, e->space);
  for (uint32_t r = first; r < first + layout_space_regions(&h->layout, e->space); r++) {
    uint32_t start, count = region_arenas(h, r, &start);
    for (size_t b = (size_t)start * ARENA_BLOCKS; b < (size_t)(start + count) * ARENA_BLOCKS; b++) {
      enum fate fate = fate_of(e, b);
      if (fate == FATE_STAYS && e->space == SPACE_LEAF) fate = FATE_NOTHING;
      if (!CHECK_EQ(decided[b], fate)) return false;
    }
  }
  return true;
}

/* Granules of the lines from `line` on that cannot be parted, because an object lies in each and the next. */
static uint32_t group_granules(size_t block, uint32_t line) {
  const gch_heap *h = kit.heap;
  uint32_t granules = 0;
  for (bool reaches = true; reaches && line < BLOCK_LINES; line++) {
    uint64_t begin = (uint64_t)block * BLOCK_GRANULES + line * 64, next = begin + 64;
    granules += popcount64(h->tables.lines[block * BLOCK_LINES + line].extents);
    reaches = line + 1 < BLOCK_LINES && h->tables.lines[block * BLOCK_LINES + line].extents >> 63 != 0 &&
              (h->tables.lines[block * BLOCK_LINES + line + 1].extents & 1) != 0 && !bits_test(h->tables.mark, next);
  }
  return granules;
}

/* All go to free blocks of the target; each is filled until what comes next does not fit. */
static void check_dests(const struct plan *p, const struct expectation *e, uint64_t granules[2]) {
  const gch_heap *h = kit.heap;
  for (uint32_t i = 0; i < p->dest_count; i++) {
    const struct dest *d = &p->dests[i];
    uintptr_t at = block_address(&h->layout, d->block);
    int leaf = h->layout.regions[layout_region(&h->layout, at)].space == SPACE_LEAF;
    bool last = i + 1 == p->dest_count || h->tables.blocks[p->dests[i + 1].block].leaf != leaf;
    CHECK_EQ(layout_region(&h->layout, at), e[leaf].target);
    CHECK_EQ(h->tables.blocks[d->block].state, BLOCK_DEST);
    if (!last) CHECK(d->granules + group_granules(p->sources[d[1].first_source], d[1].first_line) > BLOCK_GRANULES);
    granules[leaf] += d->granules;
  }
  for (size_t b = 0; b < layout_block_count(&h->layout); b++) {
    if (decided[b] != FATE_MOVES) continue;
    uintptr_t to = block_address(&h->layout, b) + (uintptr_t)h->tables.forward[b];
    CHECK_EQ(layout_region(&h->layout, to), e[h->tables.blocks[b].leaf].target);
    CHECK_EQ(heap_block(h, to)->state, BLOCK_DEST);
    CHECK(heap_block(h, to)->leaf == h->tables.blocks[b].leaf);
  }
}

static void compare(const struct plan *p, const struct expectation e[2]) {
  uint64_t placed[2] = {0}, live[2] = {0};
  decided = calloc(layout_block_count(&kit.heap->layout), 1);
  note_plan(p);
  if (compare_space(&e[0]) && compare_space(&e[1])) {
    check_dests(p, e, placed);
    for (uint32_t i = 0; i < p->source_count; i++)
      live[kit.heap->tables.blocks[p->sources[i]].leaf] += kit.heap->tables.blocks[p->sources[i]].live;
    CHECK_EQ(placed[0], live[0]);
    CHECK_EQ(placed[1], live[1]);
  }
  free(decided);
}

/* The heap is left in the middle of a cycle that never was: nobody closes it, but its memory goes. */
static void plan_one(gch_policy policy, gch_huge huge) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 16, 1024);
  struct pause pause;
  c.huge = huge;
  if (!kit_open(&kit, &c)) return;
  gch_heap *h = kit.heap;
  gch_native_enter(kit.m);
  lock_lock(&h->cycle_lock);
  world_stop(h, GCH_PAUSE_WHOLE, &pause);
  draw_space(SPACE_OLD);
  draw_space(SPACE_LEAF);
  phase_enter(h, GCH_PHASE_MARK);
  phase_enter(h, GCH_PHASE_PLAN);
  struct expectation e[2] = {expect_of(SPACE_OLD, policy), expect_of(SPACE_LEAF, policy)};
  plan_major(h, h->plan, &(struct plan_options){.policy = policy, .map = h->tables.mark});
  compare(h->plan, e);
  CHECK(pages_drop(&h->kernel, (void *)h->layout.base, h->layout.span) >= 0);
  world_resume(h, &pause);
  lock_unlock(&h->cycle_lock);
}

static void plan_all(gch_huge huge) {
  for (uint64_t seed = 1; seed <= kit_scaled(5, 2); seed++)
    for (int policy = 0; policy < GCH_POLICY_COUNT; policy++) {
      state = seed * 0x9e3779b97f4a7c15u + (uint64_t)policy;
      plan_one((gch_policy)policy, huge);
    }
}

static void blocks(void) { plan_all(GCH_HUGE_OFF); }
static void arenas(void) { plan_all(GCH_HUGE_ON); }

int main(void) {
  kit_watchdog(60);
  RUN(blocks);
  RUN(arenas);
  return CHECK_SUMMARY();
}
