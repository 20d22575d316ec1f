/* The invariant of a complete mark, looked at in GCH_VERIFY builds: whatever a marked object or a root refers to is marked, or
 * young; the value of a marked ephemeron only if its key is, and what is weak need not be. World stopped. */
#include "base/check.h"
#include "gc/mark.h"
#include "gc/roots.h"
#include "gc/weak.h"
#include "heap/small.h"
#include "object/scan_inline.h"

struct closure {
  gch_heap *heap;
  uintptr_t object; /* 0: a root */
  const struct type_info *type;
};

static void check(const struct closure *c, const uint64_t *slot, uintptr_t a) {
  const gch_heap *h = c->heap;
  if (!heap_contains(h, a) || !heap_is_old(h, a)) return;
  uint64_t bit = granule_index(&h->layout, a);
  GCH_CHECK(bits_test(h->tables.mark, bit), "slot %p of %s %p refers to %p, which is not marked (block %zu, born %u)",
            (const void *)slot, c->object != 0 ? c->type->name : "root", (void *)c->object, (void *)a,
            block_index(&h->layout, a), heap_block(h, a)->born);
}

static void check_slot(uint64_t *slot, void *context) {
  const struct closure *c = context;
  if (word_is_ref(c->type, *slot)) check(c, slot, (uintptr_t)(*slot & ~c->type->tag_mask));
}

static void check_root(uint64_t *slot, void *context) {
  check(context, slot, (uintptr_t)(at_load_relaxed(slot) & ~(uint64_t)7)); /* the world is stopped */
}

static void check_object(struct closure *c) {
  gch_heap *h = c->heap;
  uint64_t header = header_load(c->object);
  c->type = typetab_get(&h->types, header);
  if (c->type->cell != CELL_NONE) {
    if (c->type->cell == CELL_EPHEMERON && !weak_is_unmarked(h, *cell_word(c->object, CELL_TARGET), false))
      check_slot(cell_word(c->object, CELL_VALUE), c);
    return;
  }
  if (!header_is_large(header)) {
    scan_small(c->type, c->object, header, check_slot, c);
    return;
  }
  const struct large *e = &h->large.entries[large_id(h, c->object)];
  scan_object_range(c->type, c->object, e->length, c->object, c->object + e->bytes, check_slot, c);
}

static void check_arena(struct closure *c, uint64_t arena) {
  gch_heap *h = c->heap;
  uint64_t from = arena * ARENA_BLOCKS * BLOCK_GRANULES, end = from + ARENA_BLOCKS * BLOCK_GRANULES;
  for (uint64_t bit = bits_find_next(h->tables.mark, from, end); bit != BITS_NONE;
       bit = bits_find_next(h->tables.mark, bit + 1, end)) {
    c->object = h->layout.base + bit * GRANULE_BYTES;
    check_object(c);
  }
}

bool mark_is_closed(gch_heap *h) {
  struct closure c = {.heap = h};
  roots_visit(h, check_root, &c);
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    uint32_t first, count = region_arenas(h, r, &first);
    for (uint64_t a = first; a < first + count && h->layout.regions[r].space != SPACE_FRAMES; a++) check_arena(&c, a);
  }
  return true;
}
