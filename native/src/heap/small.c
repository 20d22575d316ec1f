#include "heap/small.h"

#include <string.h>

#include "heap/summary.h"
#include "heap/unit.h"
#include "os/pages.h"

enum { YOUNG_SPARE = 4 }; /* of the young region, 1/4 is for survivors, blocks that are kept, arenas of either kind */

void small_init(gch_heap *h) {
  const struct layout *l = &h->layout;
  h->old = (struct small_space){.id = SPACE_OLD, .alloc_region = layout_first_region(l, SPACE_OLD)};
  h->leaf = (struct small_space){.id = SPACE_LEAF, .alloc_region = layout_first_region(l, SPACE_LEAF)};
  lock_init(&h->old.lock, RANK_SPACE, "old space");
  lock_init(&h->leaf.lock, RANK_SPACE + 1, "leaf space");
  lock_init(&h->young.lock, RANK_YOUNG, "young space");
  uint32_t young = layout_first_region(l, SPACE_YOUNG);
  h->reserve.arena = ARENA_NOWHERE;
  h->young.arena_count = (uint32_t)(l->regions[young].bytes >> ARENA_SHIFT);
  h->young.limit_blocks = h->nursery.bytes / BLOCK_BYTES;
}

void small_destroy(gch_heap *h) {
  lock_destroy(&h->old.lock);
  lock_destroy(&h->leaf.lock);
  lock_destroy(&h->young.lock);
}

uint32_t region_arenas(const gch_heap *h, uint32_t region, uint32_t *first) {
  *first = region_first_arena(h, region);
  enum space_id space = h->layout.regions[region].space;
  uint32_t i = region - layout_first_region(&h->layout, space);
  /* A hint for who holds no lock: an arena that is being taken for the first time may be missed. */
  if (space == SPACE_OLD) return at_load(&h->old.top[i]);
  if (space == SPACE_LEAF) return at_load(&h->leaf.top[i]);
  if (space_is_large(space)) return at_load(&h->large.top[space == SPACE_LARGE_LEAF][i]);
  return (uint32_t)(h->layout.regions[region].bytes >> ARENA_SHIFT);
}

int populate_empty(gch_heap *h, uintptr_t start, uint64_t bytes) {
  int rc = pages_populate(&h->kernel, (void *)start, bytes);
  if (rc < 0) (void)h->drop(h, start, bytes); /* else it is noted as undropped */
  return rc;
}

bool block_populate(gch_heap *h, uintptr_t block) {
  struct arena *arena = heap_arena(h, block);
  uint32_t bit = (uint32_t)(block_index(&h->layout, block) % ARENA_BLOCKS);
  if (at_load_relaxed(&arena->populated) >> bit & 1) return true;
  if (h->huge && at_load_relaxed(&arena->populated) == 0) {
    uintptr_t start = arena_of(block);
    if (populate_empty(h, start, ARENA_BYTES) < 0) return false;
    arena_set_huge(arena, true);
    at_store_relaxed(&arena->populated, UINT32_MAX);
    return true;
  }
  if (populate_empty(h, block, BLOCK_BYTES) < 0) return false;
  at_or_relaxed(&arena->populated, (uint32_t)1 << bit);
  return true;
}

void block_assign(gch_heap *h, uintptr_t address, enum block_state state, bool leaf) {
  struct block *b = heap_block(h, address);
  struct arena *arena = heap_arena(h, address);
  GCH_ASSERT(b->state == BLOCK_FREE);
  *b = (struct block){.state = (uint8_t)state, .leaf = leaf, .born = heap_births(h)};
  arena->used |= (uint32_t)1 << block_index(&h->layout, address) % ARENA_BLOCKS;
  at_store_relaxed(&arena->kind, (uint8_t)(leaf ? ARENA_LEAF : ARENA_REFS)); /* read by a plan beside a minor */
  /* What was stored here in an earlier life says nothing of the next one. */
  memset(&h->tables.cards[card_index(&h->layout, address)], 0, BLOCK_CARDS);
  /* Born before the flip: it will be flipped with its region, and holds references to be fixed. */
  if (state != BLOCK_USED || !heap_births_marked(h)) return;
  at_store_relaxed(&arena->fate, (uint8_t)ARENA_STAYS);
  summary_anywhere(h, block_index(&h->layout, address) / ARENA_BLOCKS);
  if (!leaf && at_load(&h->arming) != 0) unit_arm(h, block_index(&h->layout, address));
}

void block_keep(gch_heap *h, uintptr_t start, uint64_t bytes) {
  if (!heap_contains(h, start)) return;
  enum space_id space = heap_region(h, start)->space;
  if (space != SPACE_OLD && space != SPACE_LEAF && space != SPACE_YOUNG) return;
  for (uintptr_t at = start; at < start + bytes; at += BLOCK_BYTES)
    at_or_relaxed(&heap_arena(h, at)->kept,
                  (uint32_t)1 << block_index(&h->layout, at) % ARENA_BLOCKS); /* read after the job */
}

void small_settle_kept(struct arena *arena, uint32_t blocks) {
  if (gch_likely((arena->kept & blocks) == 0)) return;
  arena_set_populated(arena, arena->populated | (arena->kept & blocks));
  arena->kept &= ~blocks;
}

/* Of a block that nobody has: it is not assigned, and so not armed, before its memory is there. */
static bool populate_free(gch_heap *h, uintptr_t block) {
  if (block_populate(h, block)) return true;
  small_settle_kept(heap_arena(h, block), (uint32_t)1 << block_index(&h->layout, block) % ARENA_BLOCKS);
  return false;
}

void block_vacate(gch_heap *h, uintptr_t address, bool populated) {
  size_t index = block_index(&h->layout, address);
  struct arena *arena = heap_arena(h, address);
  uint32_t bit = (uint32_t)1 << index % ARENA_BLOCKS;
  GCH_ASSERT(h->tables.blocks[index].state != BLOCK_FREE);
  h->tables.blocks[index] = (struct block){0};
  if (!arena->cleared) bits_clear_range(h->tables.live, index * BLOCK_GRANULES, (index + 1) * BLOCK_GRANULES);
  arena->used &= ~bit;
  if (!populated) arena_set_populated(arena, arena->populated & ~bit);
  small_settle_kept(arena, bit);
  if (arena->used == 0) {
    at_store_relaxed(&arena->kind, (uint8_t)ARENA_NONE);
    arena->cleared = 0;
    if (arena->populated == 0) arena_set_huge(arena, false);
  }
}

void block_free(gch_heap *h, uintptr_t address, bool populated) {
  block_vacate(h, address, populated);
  heap_unuse(h, BLOCK_BYTES);
}

/* A free block of the arena, a populated one if there is any; ARENA_BLOCKS: none. `but`: not these. */
static uint32_t pick_block(const struct arena *arena, uint32_t but) {
  uint32_t free = ~arena->used & ~but, ready = free & arena->populated;
  if (ready != 0) return (uint32_t)__builtin_ctz(ready);
  return free != 0 ? (uint32_t)__builtin_ctz(free) : ARENA_BLOCKS;
}

/* Lock held. The first free block from the cursor on, wrapping round once. */
static uintptr_t find_block(gch_heap *h, struct small_space *s) {
  uint32_t first = region_first_arena(h, s->alloc_region);
  uint32_t count = (uint32_t)(h->layout.regions[s->alloc_region].bytes >> ARENA_SHIFT);
  uint32_t *top = &s->top[s->alloc_region - layout_first_region(&h->layout, s->id)];
  bool passed = false; /* what will be free in a moment: the search goes on there */
  for (uint32_t step = 0; step < count; step++) {
    uint32_t i = s->cursor + step;
    if (i >= count) i -= count;
    uint32_t filling = small_being_filled(h, first + i), bit = pick_block(&h->tables.arenas[first + i], filling);
    passed = passed || filling != 0;
    if (bit == ARENA_BLOCKS) continue;
    if (!passed) s->cursor = i;
    if (*top <= i) at_store(top, i + 1);
    return arena_address(&h->layout, first + i) + bit * (uintptr_t)BLOCK_BYTES;
  }
  return 0;
}

uintptr_t small_take(gch_heap *h, bool leaf, bool collector) {
  struct small_space *s = heap_small_space(h, leaf);
  if (collector) heap_use(h, BLOCK_BYTES);
  if (!collector && !heap_use_within(h, BLOCK_BYTES)) return 0;
  GCH_POINT(room_taken);
  lock_lock(&s->lock);
  uintptr_t block = find_block(h, s);
  if (block != 0) {
    if (populate_free(h, block))
      block_assign(h, block, BLOCK_USED, leaf);
    else
      block = 0;
  }
  lock_unlock(&s->lock);
  if (block == 0) heap_unuse(h, BLOCK_BYTES);
  return block;
}

/* Lock held. A free block in an arena of this kind, or in an arena of no kind yet. */
static uintptr_t find_young(gch_heap *h, bool leaf) {
  struct young_space *y = &h->young;
  uint32_t first = region_first_arena(h, layout_first_region(&h->layout, SPACE_YOUNG));
  uint32_t fresh = UINT32_MAX;
  for (uint32_t step = 0; step < y->arena_count; step++) {
    uint32_t i = y->cursor[leaf] + step;
    if (i >= y->arena_count) i -= y->arena_count;
    const struct arena *arena = &h->tables.arenas[first + i];
    if (arena->kind == ARENA_NONE) {
      if (fresh == UINT32_MAX || (arena->populated != 0 && h->tables.arenas[first + fresh].populated == 0)) fresh = i;
      continue;
    }
    if (arena->kind != (leaf ? ARENA_LEAF : ARENA_REFS)) continue;
    uint32_t bit = pick_block(arena, 0);
    if (bit == ARENA_BLOCKS) continue;
    y->cursor[leaf] = i;
    return arena_address(&h->layout, first + i) + bit * (uintptr_t)BLOCK_BYTES;
  }
  if (fresh == UINT32_MAX) return 0;
  y->cursor[leaf] = fresh;
  return arena_address(&h->layout, first + fresh) +
         pick_block(&h->tables.arenas[first + fresh], 0) * (uintptr_t)BLOCK_BYTES;
}

uint64_t young_limit(const gch_heap *h) {
  uint64_t mutators = at_load_relaxed(&h->world.mutator_count), least = 2 * mutators + 2;
  uint64_t room = (uint64_t)h->young.arena_count * ARENA_BLOCKS, most = room - room / YOUNG_SPARE;
  uint64_t eden = at_load_relaxed(&h->young.limit_blocks),
           limit = eden < least ? least : eden; /* a limit, old or new */
  return limit < most ? limit : most;
}

bool young_is_full(const gch_heap *h) {
  const struct young_space *y = &h->young;
  uint64_t eden = at_load_relaxed(&y->blocks), survivors = at_load_relaxed(&y->survivors);
  return eden >= young_limit(h) || (at_load_relaxed(&y->full) != 0 && eden + survivors != 0);
}

uintptr_t young_take(gch_heap *h, bool leaf, bool eden) {
  struct young_space *y = &h->young;
  if (eden && (at_load_relaxed(&y->blocks) >= young_limit(h) || !heap_use_within(h, BLOCK_BYTES))) return 0;
  if (!eden) heap_use(h, BLOCK_BYTES);
  GCH_POINT(room_taken);
  lock_lock(&y->lock);
  uintptr_t block = find_young(h, leaf);
  if (block == 0 && eden) at_store_relaxed(&y->full, 1);
  bool fresh = false;
  if (block != 0) {
    struct arena *arena = heap_arena(h, block);
    fresh = (arena->populated >> block_index(&h->layout, block) % ARENA_BLOCKS & 1) == 0 && !h->huge;
    if (populate_free(h, block)) {
      block_assign(h, block, BLOCK_YOUNG, leaf);
      if (eden) at_add_relaxed(&y->blocks, 1);
    } else {
      block = 0;
    }
  }
  lock_unlock(&y->lock);
  if (block == 0) heap_unuse(h, BLOCK_BYTES);
  if (block != 0 && eden && !fresh) memset((void *)block, 0, BLOCK_BYTES);
  return block;
}

uint64_t arena_release_free(gch_heap *h, uint32_t index) { return arena_release_some(h, index, ARENA_BLOCKS); }

/* The last `most` bits of a word, at most. */
static uint32_t last_bits(uint32_t word, uint32_t most) {
  uint32_t count = (uint32_t)__builtin_popcount(word);
  for (; count > most; count--) word &= word - 1;
  return word;
}

uint64_t arena_release_some(gch_heap *h, uint32_t index, uint32_t most) {
  struct arena *arena = &h->tables.arenas[index];
  uint32_t idle = ~arena->used & arena->populated;
  if (idle == 0 || (arena->huge && arena->used != 0)) return 0;
  uintptr_t start = arena_address(&h->layout, index);
  uint64_t released = 0;
  for (uint32_t rest = arena->huge ? idle : last_bits(idle, most); rest != 0;) {
    uint32_t from = (uint32_t)__builtin_ctz(rest);
    uint64_t run = ~((uint64_t)rest >> from);
    uint32_t length = ctz64(run);
    if (h->drop(h, start + from * (uintptr_t)BLOCK_BYTES, length * (uint64_t)BLOCK_BYTES) >= 0) {
      arena_set_populated(arena, arena->populated & ~(uint32_t)bits_mask(from, from + length));
      released += length * (uint64_t)BLOCK_BYTES;
    }
    rest &= ~(uint32_t)bits_mask(from, from + length);
  }
  if (arena->populated == 0) arena_set_huge(arena, false);
  return released;
}
