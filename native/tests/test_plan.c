/* The planner: its threshold against a naive one, and plans made on real heaps (test_plan_simulated.c: on none): nothing
 * overlaps, destinations were free, forwarding is idempotent (I12), policies do what they say. */
#include "gc/plan.h"

#include "gc/cycle.h"
#include "gc/forward_inline.h"
#include "gc/mark.h"
#include "gc/minor.h"
#include "gc/phase.h"
#include "gc/safepoint.h"
#include "gc/sweep.h"
#include "heap/small.h"
#include "kit.h"
#include "mover/mover.h"

/* --- the threshold -------------------------------------------------------------------------------------------- */

/* The least t such that, with all units of density <= t packed, what is used is within the allowed waste. */
static uint32_t naive_threshold(const uint64_t count[65]) {
  for (uint32_t t = 0; t <= 64; t++) {
    uint64_t live = 0, used = 0;
    for (uint32_t d = 1; d <= 64; d++) {
      live += count[d] * d;
      used += count[d] * (d <= t ? d : 64);
    }
    if (used * 100 <= live * (100 + PLAN_WASTE_PERCENT)) return t;
  }
  return 64;
}

static void threshold(void) {
  uint64_t random = 88172645463325252u;
  uint64_t none[65] = {0}, full[65] = {[64] = 1000}, half[65] = {[32] = 1000}, mixed[65] = {[64] = 100000, [1] = 100};
  CHECK_EQ(plan_threshold(none), 0);
  CHECK_EQ(plan_threshold(full), 0);
  CHECK_EQ(plan_threshold(half), 32);
  CHECK_EQ(plan_threshold(mixed), 0); /* little to win */
  for (int round = 0; round < 20000; round++) {
    uint64_t count[65] = {0};
    for (int i = 0; i < 10; i++) {
      random ^= random << 13, random ^= random >> 7, random ^= random << 17;
      count[1 + random % 64] += random >> 40 & (round % 2 ? 0xff : 0xfffff);
    }
    if (!CHECK_EQ(plan_threshold(count), naive_threshold(count))) return;
  }
}

/* --- plans ---------------------------------------------------------------------------------------------------- */

static struct kit kit, left[2 * GCH_POLICY_COUNT + 2]; /* heaps in the middle of a cycle, never closed */
static int left_count;

enum use { USE_NONE, USE_SOURCE, USE_STAYS, USE_DEST };

/* Marks and plans as a major does, without moving; the tables are looked at, then put right by moving for real. */
static void make_plan(gch_policy policy) {
  gch_heap *h = kit.heap;
  struct minor_result minor;
  struct mark_result marked;
  minor_collect(h, true, &minor);
  phase_enter(h, GCH_PHASE_MARK);
  mark_major(h, &marked);
  phase_enter(h, GCH_PHASE_PLAN);
  sweep_dead(h, h->tables.mark, false);
  plan_major(h, h->plan, &(struct plan_options){.policy = policy, .map = h->tables.mark});
}

static uint8_t *used; /* enum use by block */

static bool claim(size_t block, enum use use) {
  bool free = CHECK_EQ(used[block], USE_NONE);
  used[block] = (uint8_t)use;
  return free;
}

static void check_small(const struct plan *p) {
  const gch_heap *h = kit.heap;
  for (uint32_t i = 0; i < p->source_count; i++) {
    if (!claim(p->sources[i], USE_SOURCE)) return;
    CHECK_EQ(h->tables.forward[p->sources[i]], FORWARD_EVACUATED);
  }
  for (uint32_t i = 0; i < p->fix_count; i++) {
    if (!claim(p->fixes[i], USE_STAYS)) return;
    CHECK_EQ(h->tables.forward[p->fixes[i]], 0);
  }
  for (uint32_t i = 0; i < p->dest_count; i++) {
    if (!claim(p->dests[i].block, USE_DEST)) return;
    CHECK_EQ(h->tables.blocks[p->dests[i].block].state, BLOCK_DEST);
    CHECK(p->dests[i].granules <= BLOCK_GRANULES && p->dests[i].granules > 0);
  }
  for (uint32_t i = 0; i < p->move_count; i++) {
    size_t to = p->moves[i] + (size_t)(h->tables.forward[p->moves[i]] >> BLOCK_SHIFT);
    if (!claim(p->moves[i], USE_SOURCE) || !claim(to, USE_DEST)) return;
    CHECK_EQ(h->tables.blocks[to].state, BLOCK_DEST);
  }
  for (uint32_t i = 0; i < p->arena_count; i++)
    for (size_t b = (size_t)p->arenas[i] * ARENA_BLOCKS; b < ((size_t)p->arenas[i] + 1) * ARENA_BLOCKS; b++) {
      if (h->tables.forward[b] == 0) continue;
      if (!claim(b, USE_SOURCE) || !claim(b + (size_t)(h->tables.forward[b] >> BLOCK_SHIFT), USE_DEST)) return;
    }
}

/* Page by page: the new homes of large objects overlap nothing, their old ones included. */
static void check_large(void) {
  const gch_heap *h = kit.heap;
  uint8_t *pages = calloc(h->layout.span >> h->layout.page_shift, 1);
  for (uint32_t id = 1; id < h->large.count; id++) {
    const struct large *e = &h->large.entries[id];
    if (e->base == 0) continue;
    for (int home = 0; home < (e->forward != e->base ? 2 : 1); home++) {
      uintptr_t at = home ? e->forward : e->base, end = at + e->bytes;
      for (; at < end; at += h->layout.page_bytes) {
        size_t page = (at - h->layout.base) >> h->layout.page_shift;
        if (!CHECK_EQ(pages[page]++, 0) || !CHECK_EQ(h->tables.large_ids[page], id)) return free(pages);
      }
    }
  }
  free(pages);
}

/* `slide`: whatever chain is first, each of its blocks finds its place empty, and leaves its arena. */
static void check_chains(const struct plan *p, bool last_first) {
  const gch_heap *h = kit.heap;
  size_t blocks = layout_block_count(&h->layout);
  uint8_t *full = calloc(blocks, 1);
  for (size_t b = 0; b < blocks; b++) full[b] = h->tables.blocks[b].state == BLOCK_USED;
  CHECK(p->move_chain_count > 1 && p->move_chains[p->move_chain_count] == p->move_count);
  for (uint32_t i = 0; i < p->move_chain_count; i++) {
    uint32_t c = last_first ? p->move_chain_count - 1 - i : i;
    for (uint32_t k = p->move_chains[c]; k < p->move_chains[c + 1]; k++) {
      size_t from = p->moves[k], to = from + (size_t)(h->tables.forward[from] >> BLOCK_SHIFT);
      CHECK_EQ(h->tables.dest[to], DEST_RELOCATED | from);
      CHECK(to / ARENA_BLOCKS != from / ARENA_BLOCKS);
      if (!CHECK(full[from] && !full[to])) return free(full);
      full[from] = 0;
      full[to] = 1;
    }
  }
  free(full);
}

/* Large objects: destinations may overlap sources, but no other destination, and go down in the order of addresses. */
static void check_slides(const struct plan *p) {
  const gch_heap *h = kit.heap;
  uint8_t *pages = calloc(h->layout.span >> h->layout.page_shift, 1);
  for (uint32_t id = 1; id < h->large.count; id++) {
    const struct large *e = &h->large.entries[id];
    uint64_t first = e->base == 0 ? 0 : (e->forward - h->layout.base) >> h->layout.page_shift;
    for (uint64_t i = 0; e->base != 0 && i << h->layout.page_shift < e->bytes; i++)
      if (!CHECK_EQ(pages[first + i]++, 0)) return free(pages);
  }
  free(pages);
  CHECK(p->large_move_count > 1 && p->large_chain_count > 0);
  for (uint32_t c = 0; c < p->large_chain_count; c++)
    for (uint32_t i = p->large_chains[c]; i < p->large_chains[c + 1]; i++) {
      const struct large *e = &h->large.entries[p->large_moves[i]];
      CHECK(e->forward < e->base && layout_region(&h->layout, e->forward) == layout_region(&h->layout, e->base));
      if (i == p->large_chains[c]) continue;
      const struct large *below = &h->large.entries[p->large_moves[i - 1]];
      CHECK(below->base < e->base && below->forward + below->bytes <= e->forward);
    }
}

/* What moves, and what stays and holds references, is there piece by piece, once. */
static void check_pieces(const struct plan *p) {
  const gch_heap *h = kit.heap;
  for (uint32_t i = 0; i < p->piece_count;) {
    const struct large *e = &h->large.entries[p->pieces[i].id];
    uint32_t count = (uint32_t)div_ceil(e->bytes, PLAN_PIECE_BYTES);
    CHECK(e->forward != e->base || !e->leaf);
    for (uint32_t piece = 0; piece < count; piece++, i++)
      if (!CHECK(i < p->piece_count && p->pieces[i].index == piece && &h->large.entries[p->pieces[i].id] == e)) return;
  }
}

/* Every live object: where it goes is a place of its own, and going there twice is going once. */
static bool check_object(uint64_t bit, uint64_t *taken) {
  const gch_heap *h = kit.heap;
  uintptr_t a = h->layout.base + bit * GRANULE_BYTES, to = forward_address(h, a);
  uint64_t first = granule_index(&h->layout, to), granules = gch_object_bytes(h, (gch_ref)a) / GRANULE_BYTES;
  if (!CHECK_EQ(forward_address(h, to), to)) return false; /* I12 */
  if (!CHECK_EQ(bits_count_range(taken, first, first + granules), 0)) return false;
  bits_set_range(taken, first, first + granules);
  return header_is_large(header_load(a)) || CHECK(to % BLOCK_BYTES + granules * GRANULE_BYTES <= BLOCK_BYTES);
}

static void check_forwarding(void) {
  const gch_heap *h = kit.heap;
  uint64_t *taken = calloc(h->layout.span / GRANULE_BYTES / 64, 8);
  bool good = true;
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    uint32_t first, count = region_arenas(h, r, &first);
    uint64_t bit = (uint64_t)first * ARENA_BLOCKS * BLOCK_GRANULES,
             end = bit + (uint64_t)count * ARENA_BLOCKS * BLOCK_GRANULES;
    for (bit = bits_find_next(h->tables.mark, bit, end); bit != BITS_NONE && good;
         bit = bits_find_next(h->tables.mark, bit + 1, end))
      good = check_object(bit, taken);
  }
  free(taken);
}

static uint32_t large_staying(void) {
  uint32_t count = 0;
  for (uint32_t id = 1; id < kit.heap->large.count; id++) {
    const struct large *e = &kit.heap->large.entries[id];
    count += e->base != 0 && e->forward == e->base;
  }
  return count;
}

static void check_policy(gch_policy policy, const struct plan *p) {
  uint32_t moving = p->source_count + p->move_count + p->arena_count + p->large_move_count;
  if (policy == GCH_POLICY_RELEASE) CHECK_EQ(moving, 0);
  if (policy == GCH_POLICY_ALL) CHECK(moving > 0 && p->fix_count == 0 && large_staying() == 0);
}

static void fill(gch_ref *root, uint64_t seed) {
  uint64_t random = seed * 0x9e3779b97f4a7c15u + 1, count = 60000;
  root[0] = kit_refs(&kit, count);
  for (uint64_t i = 0; i < count; i++) {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    bool dense = i / 20000 % 2;
    uint64_t kind = random % 500;
    gch_ref o = kind == 0    ? kit_refs(&kit, 1100 + random % 9000)
                : kind < 200 ? kit_bytes(&kit, random >> 20 & 255)
                             : kit_node(&kit, i);
    if (dense || random >> 50 & 1) kit_put(&kit, root[0], i, o);
  }
}

static void plan_and_look(gch_policy policy, gch_ref *root, uint64_t seed) {
  gch_heap *h = kit.heap;
  struct pause pause;
  fill(root, seed);
  gch_native_enter(kit.m);
  lock_lock(&h->cycle_lock);
  world_stop(h, GCH_PAUSE_WHOLE, &pause);
  make_plan(policy);
  used = calloc(layout_block_count(&h->layout), 1);
  check_pieces(h->plan);
  if (h->mover->slides) {
    check_chains(h->plan, false);
    check_chains(h->plan, true);
    check_slides(h->plan);
  } else {
    check_small(h->plan);
    check_large();
    check_forwarding();
    check_policy(policy, h->plan);
  }
  free(used);
  world_resume(h, &pause);
  lock_unlock(&h->cycle_lock);
  gch_native_leave(kit.m);
}

/* Each plan gets a heap of its own, which is left as it is. */
static void plans(gch_huge huge) {
  for (int policy = 0; policy < GCH_POLICY_COUNT; policy++) {
    gch_config c = kit_config(GCH_MOVER_MEMCPY, 128, 1024);
    c.huge = huge;
    if (!kit_open(&kit, &c)) return;
    GCH_FRAME(kit.m, root, 1);
    if (policy == GCH_POLICY_NEEDED) fill(root, 7), kit_major(&kit, GCH_POLICY_NEEDED, false, true);
    plan_and_look((gch_policy)policy, root, (uint64_t)policy + 1);
    kit.m->frames = NULL;
    left[left_count++] = kit;
  }
}

/* The first large objects have died since: what is left slides down, chain by chain. So do dense blocks. */
static void plan_to_slide(gch_huge huge) {
  gch_config c = kit_config(GCH_MOVER_SLIDE, 128, 1024);
  c.huge = huge;
  if (!kit_open(&kit, &c)) return;
  GCH_FRAME(kit.m, root, 2);
  for (int i = 0; i < 10; i++) kit_bytes(&kit, 100000 * (uint64_t)(i + 1)), kit_refs(&kit, 10000);
  root[1] = kit_refs(&kit, 200000);
  for (uint64_t i = 0; i < 200000; i++) {
    gch_ref o = kit_node(&kit, i);
    kit_put(&kit, root[1], i, o);
  }
  plan_and_look(GCH_POLICY_ALL, root, 3);
  kit.m->frames = NULL;
  left[left_count++] = kit;
}

static void plans_of_blocks(void) { plans(GCH_HUGE_OFF); }
static void plans_of_arenas(void) { plans(GCH_HUGE_ON); }
static void slides_of_blocks(void) { plan_to_slide(GCH_HUGE_OFF); }
static void slides_of_huge_arenas(void) { plan_to_slide(GCH_HUGE_ON); }

int main(void) {
  kit_watchdog(60);
  RUN(threshold);
  RUN(plans_of_blocks);
  RUN(plans_of_arenas);
  RUN(slides_of_blocks);
  RUN(slides_of_huge_arenas);
  return CHECK_SUMMARY();
}
