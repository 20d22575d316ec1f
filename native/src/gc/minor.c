/* A minor collection, start to end, with the world stopped.
 *
 *   mark   young objects reachable from roots, dirty cards and each other
 *   plan   each young block: FREE (nothing live), MOVED with its whole arena (dense, old enough: its pages become an
 *          old or leaf arena, nothing is copied), EVACUATED (to a young block of the next age, or to an old or leaf
 *          block), or KEPT (pinned, or no memory for a destination): it counts as an old block where it stands
 *   move   roots and what lay under cards first (a card is cleaned, and marked again if it still leads to a young object), then
 *          destinations, references in moved arenas and in kept blocks, in parallel; the pages of moved arenas last
 *
 * All objects of a block have one age, that of the block, so ageing writes no headers. Every destination exists before
 * anything is forwarded, so a collection that runs out of memory keeps more where it is and fails nothing.
 *
 * From the mark of a major to its flip, what is promoted is born marked (both maps), and references to old objects stay
 * as they are, whatever the plan says; the flip's own minor forwards them too, as it copies into regions that are not
 * flipped. */
#include "gc/minor.h"

#include "base/check.h"
#include "gc/ambiguous.h"
#include "gc/cards.h"
#include "gc/evacuate.h"
#include "gc/finalize.h"
#include "gc/forward_inline.h"
#include "gc/mark.h"
#include "gc/roots.h"
#include "gc/team.h"
#include "heap/small.h"
#include "heap/summary.h"
#include "mover/liveness.h"
#include "mover/mover.h"

enum {
  DENSE_PERCENT = 85, /* of an arena live: cheaper to move with its holes than to copy (measured: gc/plan.h) */
  CLASS_MAX = 8,      /* ages 0..7 */
  SLOTS_AHEAD = 16,   /* fetched */
};

struct minor {
  gch_heap *heap;
  struct plan *plan;
  struct minor_result *result;
  bool promote_all;
  uint32_t first_arena, arena_count;
  struct card_walk cards;
  uint64_t next_slots;  /* [atomic] found under cards */
  uint64_t next;        /* [atomic] work items of the second half */
  uint32_t cleaning;    /* [atomic] workers in the first half */
};

static bool is_old_enough(const struct minor *m, const struct block *b) {
  return m->promote_all || b->age >= m->heap->config.promote_age;
}

/* --- plan ----------------------------------------------------------------------------------------------------- */

/* Can the arena's pages be handed over as they are? Its young blocks fill it, are dense, of age, and none is pinned. */
static bool arena_moves(const struct minor *m, uint32_t arena) {
  const struct block *b = &m->heap->tables.blocks[(size_t)arena * ARENA_BLOCKS];
  uint64_t live = 0;
  if (!m->heap->mover->moves_pages || m->heap->tables.arenas[arena].used != UINT32_MAX) return false;
  for (uint32_t i = 0; i < ARENA_BLOCKS; i++) {
    if (b[i].state != BLOCK_YOUNG || at_load_relaxed(&b[i].pins) != 0 || !is_old_enough(m, &b[i])) return false;
    live += b[i].live;
  }
  return live * 100 >= (uint64_t)ARENA_BLOCKS * BLOCK_GRANULES * DENSE_PERCENT;
}

/* A whole unpopulated arena of the allocation region, all blocks assigned; 0: none. `empties`: one that is populated and free, if
 * there is no other. */
static uintptr_t take_arena_locked(gch_heap *h, struct small_space *s, bool leaf, bool empties) {
  uint32_t first = region_first_arena(h, s->alloc_region);
  uint32_t count = (uint32_t)(h->layout.regions[s->alloc_region].bytes >> ARENA_SHIFT);
  uint32_t *top = &s->top[s->alloc_region - layout_first_region(&h->layout, s->id)];
  for (uint32_t i = s->cursor; i < count; i++) {
    struct arena *arena = &h->tables.arenas[first + i];
    if (arena->used != 0 || (arena->populated != 0 && !empties) || small_being_filled(h, first + i) != 0) continue;
    uintptr_t start = arena_address(&h->layout, first + i);
    if (arena->populated != 0 && h->drop(h, start, ARENA_BYTES) < 0) continue;
    arena_set_populated(arena, 0);
    heap_use(h, ARENA_BYTES);
    for (uint32_t b = 0; b < ARENA_BLOCKS; b++) block_assign(h, start + b * (uintptr_t)BLOCK_BYTES, BLOCK_USED, leaf);
    if (*top <= i) at_store(top, i + 1);
    return start;
  }
  return 0;
}

static uintptr_t take_arena(gch_heap *h, bool leaf) {
  struct small_space *s = heap_small_space(h, leaf);
  lock_lock(&s->lock);
  uintptr_t start = take_arena_locked(h, s, leaf, false);
  if (start == 0) start = take_arena_locked(h, s, leaf, true);
  lock_unlock(&s->lock);
  return start;
}

static bool plan_arena_move(struct minor *m, uint32_t arena) {
  gch_heap *h = m->heap;
  size_t source = (size_t)arena * ARENA_BLOCKS;
  uintptr_t start = arena_address(&h->layout, arena);
  uintptr_t to = arena_moves(m, arena) ? take_arena(h, h->tables.blocks[source].leaf) : 0;
  if (to == 0) return false;
  for (uint32_t i = 0; i < ARENA_BLOCKS; i++) h->tables.forward[source + i] = (int64_t)(to - start);
  m->plan->arenas[m->plan->arena_count++] = arena;
  return true;
}

/* Appends the evacuated blocks of one class to the plan's sources. */
static void collect_class(struct minor *m, bool leaf, bool promote, uint32_t age) {
  gch_heap *h = m->heap;
  for (uint32_t a = m->first_arena; a < m->first_arena + m->arena_count; a++) {
    if (h->tables.arenas[a].used == 0) continue;
    for (size_t i = (size_t)a * ARENA_BLOCKS; i < (size_t)(a + 1) * ARENA_BLOCKS; i++) {
      const struct block *b = &h->tables.blocks[i];
      if (b->state != BLOCK_YOUNG || b->live == 0 || b->leaf != leaf || is_old_enough(m, b) != promote) continue;
      if (!promote && b->age != age) continue;
      if (h->tables.forward[i] != 0 || at_load_relaxed(&b->pins) != 0) continue;
      m->plan->sources[m->plan->source_count++] = (uint32_t)i;
    }
  }
}

struct take_context {
  bool leaf, promote;
  uint8_t age;
};

static uintptr_t take_dest(gch_heap *h, void *context) {
  const struct take_context *c = context;
  if (c->promote) return small_take(h, c->leaf, true);
  uintptr_t block = young_take(h, c->leaf, false);
  if (block != 0) heap_block(h, block)->age = c->age;
  return block;
}

/* Packs sources [from, to); those that find no young room are promoted, those that find none at all are kept. */
static void pack_class(struct minor *m, uint32_t from, uint32_t to, struct take_context c) {
  gch_heap *h = m->heap;
  from += evacuate_pack(h, m->plan, from, to, h->tables.mark, take_dest, &c);
  if (from < to && !c.promote) {
    c.promote = true;
    evacuate_pack(h, m->plan, from, to, h->tables.mark, take_dest, &c);
  }
}

static void plan_evacuation(struct minor *m) {
  struct plan *p = m->plan;
  struct take_context classes[2 * (CLASS_MAX + 1)];
  uint32_t ends[2 * (CLASS_MAX + 1)], count = 0;
  for (int leaf = 0; leaf < 2; leaf++) {
    for (uint32_t age = 0; age < m->heap->config.promote_age; age++) {
      collect_class(m, leaf, false, age);
      classes[count] = (struct take_context){leaf, false, (uint8_t)(age + 1)};
      ends[count++] = p->source_count;
    }
    collect_class(m, leaf, true, 0);
    classes[count] = (struct take_context){leaf, true, 0};
    ends[count++] = p->source_count;
  }
  evacuate_extents(m->heap, p, 0, m->heap->tables.mark);
  for (uint32_t i = 0, from = 0; i < count; from = ends[i++]) pack_class(m, from, ends[i], classes[i]);
}

/* From here on the block is no young one: nothing that refers to it dirties a card. A major that has begun to mark will not count
 * what lives in it (one that is about to begin will), and sweeps it at its end. */
static void keep_block(gch_heap *h, size_t block) {
  uint64_t first = block * BLOCK_GRANULES;
  struct block *b = &h->tables.blocks[block];
  b->state = BLOCK_USED;
  summary_anywhere(h, block / ARENA_BLOCKS); /* what it refers to nobody has noted */
  b->marked = at_load_relaxed(&h->phase) == GCH_PHASE_IDLE ? 0 : b->live; /* phases change in pauses */
  bits_copy_range(h->tables.live, first, h->tables.mark, first, BLOCK_GRANULES);
}

/* What is live and neither moved nor evacuated counts as old where it stands. */
static void plan_kept(struct minor *m) {
  gch_heap *h = m->heap;
  for (uint32_t a = m->first_arena; a < m->first_arena + m->arena_count; a++)
    for (size_t i = (size_t)a * ARENA_BLOCKS; i < (size_t)(a + 1) * ARENA_BLOCKS && h->tables.arenas[a].used != 0;
         i++) {
      struct block *b = &h->tables.blocks[i];
      bool pinned = at_load_relaxed(&b->pins) != 0;
      if (b->state != BLOCK_YOUNG || h->tables.forward[i] != 0 || h->tables.dest[i] != 0 || (b->live == 0 && !pinned))
        continue;
      keep_block(h, i);
      m->plan->fixes[m->plan->fix_count++] = (uint32_t)i;
    }
  m->result->blocks_kept = m->plan->fix_count;
}

static void plan_minor(struct minor *m) {
  plan_reset(m->plan);
  for (uint32_t a = m->first_arena; a < m->first_arena + m->arena_count; a++) plan_arena_move(m, a);
  plan_evacuation(m);
  plan_kept(m);
}

/* --- move ----------------------------------------------------------------------------------------------------- */

static void fix_root(uint64_t *slot, void *context) {
  const gch_heap *h = context;
  uint64_t old = at_load_relaxed(slot); /* the world is stopped */
  if (heap_is_young(h, (uintptr_t)(old & ~(uint64_t)7))) root_replace(slot, old, forward_root(h, old));
}

struct card_context {
  gch_heap *heap;
  const struct type_info *type;
};

static bool word_is_young(const gch_heap *h, const struct type_info *type, uint64_t word) {
  return word_is_ref(type, word) && heap_is_young(h, (uintptr_t)(word & ~type->tag_mask));
}

SCAN_INLINE void fix_card_slot(uint64_t *slot, void *context) {
  const struct card_context *c = context;
  uint64_t word = *slot;
  if (!word_is_young(c->heap, c->type, word)) return;
  uint64_t new = forward_word(c->heap, c->type, word);
  *slot = new;
  if (word_is_young(c->heap, c->type, new)) card_mark(c->heap, (uintptr_t)slot);
}

static void fix_card(const struct card_part *part, void *context) {
  struct card_context c = {context, part->type};
  scan_object_range(part->type, part->object, part->tail_count, part->from, part->to, fix_card_slot, &c);
}

/* From a major's mark to its flip, what is promoted is born marked. */
static uint64_t *born_map(gch_heap *h) {
  return heap_births_marked(h) || at_load_relaxed(&h->phase) == GCH_PHASE_FLIP ? h->tables.mark : NULL;
}

/* The objects of neighbouring arenas, promoted with their pages. */
static void publish_arenas(gch_heap *h, uintptr_t start, uint32_t arenas) {
  uintptr_t delta = (uintptr_t)h->tables.forward[block_index(&h->layout, start)];
  size_t from = arena_index(&h->layout, start), to = arena_index(&h->layout, start + delta);
  uint64_t *born = born_map(h);
  if (born != NULL)
    bits_copy_range(born, granule_index(&h->layout, start + delta), h->tables.mark, granule_index(&h->layout, start),
                    arenas * (uint64_t)(ARENA_BLOCKS * BLOCK_GRANULES));
  liveness_hand_over(h, h->tables.live, to, h->tables.mark, from, arenas);
  for (uint32_t i = 0; i < arenas; i++) h->tables.arenas[from + i].cleared = 1;
  mover_publish(h, start + delta, start, arenas * (uint64_t)ARENA_BYTES);
}

/* When all is fixed, while the other workers sleep: gc/compact.c. */
static void move_arenas(const struct minor *m) {
  for (uint32_t i = 0, n; i < m->plan->arena_count; i += n) {
    n = plan_arena_run(m->heap, m->plan, i);
    publish_arenas(m->heap, arena_address(&m->heap->layout, m->plan->arenas[i]), n);
  }
}

static void fill_dest(struct minor *m, struct gather *g, uint32_t dest) {
  gch_heap *h = m->heap;
  struct dest *d = &m->plan->dests[dest];
  struct block *b = &h->tables.blocks[d->block];
  bool old = b->state == BLOCK_USED;
  g->born = old ? h->tables.live : NULL;
  g->born_too = old ? born_map(h) : NULL;
  evacuate_gather(g, dest, block_address(&h->layout, d->block));
  b->top = d->granules;
  if (old) at_add_relaxed(&m->result->promoted_bytes, (uint64_t)d->granules * GRANULE_BYTES);
}

/* What the mark has found under cards that it could clean. */
static void fix_listed(struct minor *m) {
  const struct card_slot *slots;
  for (uint32_t count; (count = mark_young_slots(m->heap, &m->next_slots, &slots)) > 0;)
    for (uint32_t i = 0; i < count; i++) {
      struct card_context c = {m->heap, slots[i].type};
      if (i + SLOTS_AHEAD < count) __builtin_prefetch(slots[i + SLOTS_AHEAD].slot, 1);
      fix_card_slot(slots[i].slot, &c);
    }
}

/* Cleaning and marking the cards of one arena must not meet: nobody goes on while somebody cleans. Who comes later finds
 * all arenas taken. */
static void clean_cards(struct minor *m) {
  gch_heap *h = m->heap;
  at_add_seq(&m->cleaning, 1);
  cards_visit(h, &m->cards, fix_card, h);
  at_sub(&m->cleaning, 1);
  for (uint32_t spins = 0; at_load_seq(&m->cleaning) != 0; spins++)
    if (spins < 1000)
      spin_pause();
    else
      thread_yield();
}

static void move_worker(void *context, uint32_t worker, uint32_t workers) {
  struct minor *m = context;
  gch_heap *h = m->heap;
  (void)workers;
  if (worker == 0) roots_visit(h, fix_root, h);
  if (worker == 0) finalizers_fix_young(h);
  clean_cards(m);
  fix_listed(m);
  struct gather g = {.heap = h,
                     .plan = m->plan,
                     .map = h->tables.mark,
                     .cards = true,
                     .young_only = at_load_relaxed(&h->phase) != GCH_PHASE_FLIP};
  uint64_t dests = m->plan->dest_count, moves = m->plan->arena_count, fixes = m->plan->fix_count;
  for (uint64_t i; (i = at_add_relaxed(&m->next, 1)) < dests + moves + fixes;) {
    if (i < dests)
      fill_dest(m, &g, (uint32_t)i);
    else if (i < dests + moves)
      fix_arena(&g, m->plan->arenas[i - dests]);
    else if (!h->tables.blocks[m->plan->fixes[i - dests - moves]].leaf)
      fix_block(&g, m->plan->fixes[i - dests - moves], 0);
  }
}

/* --- end ------------------------------------------------------------------------------------------------------ */

static void finish_block(struct minor *m, size_t block) {
  gch_heap *h = m->heap;
  struct block *b = &h->tables.blocks[block];
  if (h->tables.dest[block] != 0) { /* holds survivors */
    h->tables.dest[block] = 0;
    at_add_relaxed(&h->young.survivors, 1);
    return;
  }
  int64_t forward = h->tables.forward[block];
  bool moved = forward != 0 && forward != FORWARD_EVACUATED;
  uint32_t live = b->live;
  h->tables.forward[block] = 0;
  h->tables.needed[block] = 0;
  block_free(h, block_address(&h->layout, block), !moved);
  if (moved) {
    struct block *to = &h->tables.blocks[block + (size_t)(forward >> BLOCK_SHIFT)];
    to->top = BLOCK_GRANULES;
    to->live = live;
    m->result->promoted_bytes += (uint64_t)live * GRANULE_BYTES;
  }
}

static void clear_marks(gch_heap *h, size_t block) {
  bits_clear_range(h->tables.mark, block * BLOCK_GRANULES, (block + 1) * BLOCK_GRANULES);
}

static void finish_minor(struct minor *m) {
  gch_heap *h = m->heap;
  at_store_relaxed(&h->young.survivors, 0); /* a hint for populate_ahead */
  for (uint32_t i = 0; i < m->plan->arena_count; i++) {
    uintptr_t to = arena_address(&h->layout, m->plan->arenas[i]) +
                   (uintptr_t)h->tables.forward[(size_t)m->plan->arenas[i] * ARENA_BLOCKS];
    arena_set_populated(heap_arena(h, to), UINT32_MAX);
    arena_set_huge(heap_arena(h, to), h->tables.arenas[m->plan->arenas[i]].huge);
  }
  for (uint32_t a = m->first_arena; a < m->first_arena + m->arena_count; a++) {
    bool cleared = h->tables.arenas[a].cleared;
    for (size_t b = (size_t)a * ARENA_BLOCKS; b < (size_t)(a + 1) * ARENA_BLOCKS && h->tables.arenas[a].used != 0;
         b++) {
      if (h->tables.blocks[b].state != BLOCK_YOUNG) continue;
      finish_block(m, b);
      if (!cleared) clear_marks(h, b);
    }
    GCH_ASSERT(!h->tables.arenas[a].cleared); /* everything in it went */
  }
  /* Kept blocks are old: their marks are those of a major, from its mark to its flip. */
  for (uint32_t i = 0; i < m->plan->fix_count && born_map(h) == NULL; i++) clear_marks(h, m->plan->fixes[i]);
  for (uint32_t i = 0; i < m->plan->dest_count; i++) {
    const struct block *b = &h->tables.blocks[m->plan->dests[i].block];
    if (b->state == BLOCK_USED) m->result->promoted_blocks[b->leaf]++;
    h->tables.dest[m->plan->dests[i].block] = 0;
  }
  at_store_relaxed(&h->young.blocks, 0); /* the world is stopped */
  at_store_relaxed(&h->young.full, 0);
}

static void reset_live(struct minor *m) {
  gch_heap *h = m->heap;
  for (uint32_t a = m->first_arena; a < m->first_arena + m->arena_count; a++)
    for (size_t b = (size_t)a * ARENA_BLOCKS; b < (size_t)(a + 1) * ARENA_BLOCKS && h->tables.arenas[a].used != 0; b++)
      if (h->tables.blocks[b].state == BLOCK_YOUNG) h->tables.blocks[b].live = 0;
}

void minor_collect(gch_heap *h, bool promote_all, struct minor_result *result) {
  uint32_t region = layout_first_region(&h->layout, SPACE_YOUNG);
  struct minor m = {.heap = h,
                    .plan = h->minor_plan,
                    .result = result,
                    .promote_all = promote_all,
                    .first_arena = region_first_arena(h, region),
                    .arena_count = h->young.arena_count};
  struct mark_result marked;
  *result = (struct minor_result){
      .young_bytes = (at_load_relaxed(&h->young.blocks) + at_load_relaxed(&h->young.survivors)) * BLOCK_BYTES,
      .eden_bytes = at_load_relaxed(&h->young.blocks) * BLOCK_BYTES};
  uint64_t start = clock_ns();
  mutator_retire_buffers(h);
  ambiguous_gather(h, NULL);
  reset_live(&m);
  mark_minor(h, &marked);
  uint64_t marked_at = clock_ns();
  plan_minor(&m);
  uint64_t planned_at = clock_ns();
  cards_begin(h, &m.cards);
  team_run(h, move_worker, &m);
  move_arenas(&m);
  finish_minor(&m);
  result->mark_ns = marked_at - start;
  result->plan_ns = planned_at - marked_at;
  result->move_ns = clock_ns() - planned_at;
  result->live_bytes = marked.bytes;
  result->live_objects = marked.objects;
  result->arenas_moved = m.plan->arena_count;
  at_add_relaxed(&h->measures.promoted_bytes, result->promoted_bytes);
}
