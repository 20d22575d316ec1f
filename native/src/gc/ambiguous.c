#include "gc/ambiguous.h"

#include <sys/mman.h>

#include "gc/safepoint.h"

#define YOUNG_BLOCK ((uint64_t)1) /* of an entry: all objects in it */

struct gatherer {
  gch_heap *heap;
  const uint64_t *map;
};

static void note(gch_heap *h, uint64_t entry) {
  struct roots *r = &h->roots;
  struct block *block = heap_block(h, (uintptr_t)entry);
  if (r->ambiguous_count > 0 && r->ambiguous[r->ambiguous_count - 1] == entry) return;
  GCH_CHECK(r->ambiguous_count < r->ambiguous_capacity, "ambiguous roots lead to more than %llu objects",
            (unsigned long long)r->ambiguous_capacity);
  r->ambiguous[r->ambiguous_count++] = entry;
  at_or(&block->pins, PINS_AMBIGUOUS);
}

static void forget(gch_heap *h) {
  struct roots *r = &h->roots;
  for (uint64_t i = 0; i < r->ambiguous_count; i++) {
    struct block *block = heap_block(h, (uintptr_t)r->ambiguous[i]);
    at_and(&block->pins, (uint16_t)~PINS_AMBIGUOUS);
  }
  r->ambiguous_count = 0;
}

/* --- what a word may refer to --------------------------------------------------------------------------------- */

static void find_young(gch_heap *h, uintptr_t a) {
  size_t block = block_index(&h->layout, a);
  const struct block *b = &h->tables.blocks[block];
  bool within = (a & (BLOCK_BYTES - 1)) >> GRANULE_SHIFT < b->top;
  bool noted = at_load_relaxed(&b->pins) & PINS_AMBIGUOUS; /* written in pauses */
  if (within && !noted) note(h, block_address(&h->layout, block) | YOUNG_BLOCK);
}

static void find_small(gch_heap *h, uintptr_t a, const uint64_t *map) {
  uint64_t first = block_index(&h->layout, a) * BLOCK_GRANULES;
  uint64_t bit = bits_find_prev(map, granule_index(&h->layout, a), first);
  if (bit == BITS_NONE) return;
  uintptr_t object = h->layout.base + bit * GRANULE_BYTES;
  uint64_t header = header_load(object);
  if (a - object < object_small_bytes(typetab_get(&h->types, header), header)) note(h, object);
}

/* Pages name their entry also where a plan wants it to go, and while it is being born. */
static void find_large(gch_heap *h, uintptr_t a, const uint64_t *map) {
  const struct large *e = &h->large.entries[large_id(h, a)];
  if (e->base != 0 && a - e->base < e->bytes && bits_test(map, granule_index(&h->layout, e->base))) note(h, e->base);
}

static void find(uintptr_t a, void *closure) {
  const struct gatherer *g = closure;
  gch_heap *h = g->heap;
  if (!heap_contains(h, a) || heap_is_frame(h, a)) return;
  uint8_t state = heap_block(h, a)->state;
  if (g->map == NULL && state == BLOCK_YOUNG) find_young(h, a);
  if (g->map != NULL && state == BLOCK_USED) find_small(h, a, g->map);
  if (g->map != NULL && state == BLOCK_LARGE) find_large(h, a, g->map);
}

void ambiguous_gather(gch_heap *h, const uint64_t *map) {
  struct roots *r = &h->roots;
  forget(h);
  if (r->ambiguous_fn != NULL) r->ambiguous_fn(find, &(struct gatherer){h, map}, r->ambiguous_data);
}

/* --- roots ---------------------------------------------------------------------------------------------------- */

/* Young blocks are filled without gaps. */
static void visit_block(gch_heap *h, uintptr_t at, root_visit visit, void *context) {
  const struct block *b = heap_block(h, at);
  uintptr_t end = at + (uintptr_t)b->top * GRANULE_BYTES;
  while (b->state == BLOCK_YOUNG && at < end) {
    uint64_t header = header_load(at), copy = at;
    GCH_CHECK(header_type(header) != 0, "no object at %p in a young block", (void *)at);
    at += object_small_bytes(typetab_get(&h->types, header), header);
    visit(&copy, context);
  }
}

void ambiguous_visit(gch_heap *h, root_visit visit, void *context) {
  const struct roots *r = &h->roots;
  for (uint64_t i = 0; i < r->ambiguous_count; i++) {
    uint64_t copy = r->ambiguous[i];
    if (copy & YOUNG_BLOCK)
      visit_block(h, (uintptr_t)(copy & ~YOUNG_BLOCK), visit, context);
    else
      visit(&copy, context);
  }
}

/* --- entry ---------------------------------------------------------------------------------------------------- */

static int reserve(gch_heap *h) {
  struct roots *r = &h->roots;
  if (r->ambiguous != NULL) return 0;
  r->ambiguous_capacity = (uint64_t)1 << (h->layout.tight ? 20 : 24);
  int rc = kernel_mmap(&h->kernel, NULL, r->ambiguous_capacity * sizeof *r->ambiguous, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, (void **)&r->ambiguous);
  if (rc < 0) r->ambiguous = NULL;
  return rc;
}

void ambiguous_destroy(gch_heap *h) {
  struct roots *r = &h->roots;
  if (r->ambiguous != NULL) kernel_munmap(&h->kernel, r->ambiguous, r->ambiguous_capacity * sizeof *r->ambiguous);
}

gch_status gch_ambiguous_fn_set(gch_heap *h, gch_ambiguous_fn fn, void *data) {
  gch_status status = GCH_OK;
  world_lock(h);
  if (fn != NULL && reserve(h) < 0) status = GCH_NO_MEMORY;
  if (status == GCH_OK) h->roots.ambiguous_fn = fn, h->roots.ambiguous_data = data;
  world_unlock(h);
  return status;
}
