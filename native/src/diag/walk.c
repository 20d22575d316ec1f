/* Walking: old and kept blocks by the live map, young blocks by parsing (they are filled without gaps), large objects
 * by their table. */
#include "diag/verify.h"
#include "heap/small.h"

static bool walk_mapped(gch_heap *h, size_t block, walk_fn fn, void *context) {
  uint64_t end = (block + 1) * BLOCK_GRANULES;
  for (uint64_t bit = bits_find_next(h->tables.live, block * BLOCK_GRANULES, end); bit != BITS_NONE;
       bit = bits_find_next(h->tables.live, bit + 1, end)) {
    uintptr_t object = h->layout.base + bit * GRANULE_BYTES;
    uint64_t header = header_load(object);
    const struct type_info *type = typetab_get(&h->types, header);
    if (!fn(object, type, object_small_bytes(type, header), context)) return false;
  }
  return true;
}

static bool walk_young(gch_heap *h, size_t block, walk_fn fn, void *context) {
  uintptr_t at = block_address(&h->layout, block), end = at + (uintptr_t)h->tables.blocks[block].top * GRANULE_BYTES;
  while (at < end) {
    uint64_t header = header_load(at);
    const struct type_info *type = typetab_get(&h->types, header);
    GCH_CHECK(header_type(header) != 0, "no object at %p in young block %zu", (void *)at, block);
    uint32_t bytes = object_small_bytes(type, header);
    if (!fn(at, type, bytes, context)) return false;
    at += bytes;
  }
  return true;
}

static bool walk_block(gch_heap *h, size_t b, walk_fn fn, void *context) {
  switch (h->tables.blocks[b].state) {
    case BLOCK_USED: return walk_mapped(h, b, fn, context);
    case BLOCK_YOUNG: return walk_young(h, b, fn, context);
    default: return true;
  }
}

void walk_heap(gch_heap *h, walk_fn fn, void *context) {
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    uint32_t first, count = region_arenas(h, r, &first);
    if (space_is_large(h->layout.regions[r].space)) continue;
    for (size_t b = (size_t)first * ARENA_BLOCKS; b < (size_t)(first + count) * ARENA_BLOCKS; b++)
      if (!walk_block(h, b, fn, context)) return;
  }
  for (uint32_t id = 1; id < h->large.count; id++) {
    const struct large *e = &h->large.entries[id];
    if (e->base != 0 && heap_is_live(h, e->base) &&
        !fn(e->base, &h->types.items[e->type], large_bytes_of(h, e, e->length), context))
      return;
  }
}
