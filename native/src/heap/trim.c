#include "heap/trim.h"

#include "heap/small.h"

enum { STEP = 16 }; /* arenas whose tables are dropped under the locks: about 1 MiB */

/* What a step works on. */
struct trim {
  gch_heap *heap;
  uint32_t region, first, arenas; /* of the region */
  uint32_t *top;
  struct lock *lock;
  bool beside;
};

static struct trim trim_of(gch_heap *h, uint32_t region, bool beside) {
  enum space_id space = h->layout.regions[region].space;
  uint32_t i = region - layout_first_region(&h->layout, space);
  struct trim t = {.heap = h, .region = region, .first = region_first_arena(h, region), .beside = beside};
  t.arenas = (uint32_t)(h->layout.regions[region].bytes >> ARENA_SHIFT);
  if (space_is_large(space)) {
    t.top = &h->large.top[space == SPACE_LARGE_LEAF][i];
    t.lock = &h->large.lock;
  } else {
    struct small_space *s = heap_small_space(h, space == SPACE_LEAF);
    t.top = &s->top[i];
    t.lock = &s->lock;
  }
  return t;
}

static void enter(const struct trim *t) {
  if (t->beside) lock_lock(&t->heap->cycle_lock);
  lock_lock(t->lock);
}

static void leave(const struct trim *t) {
  lock_unlock(t->lock);
  if (t->beside) lock_unlock(&t->heap->cycle_lock);
}

static bool is_empty(const struct arena *a) { return a->used == 0 && a->populated == 0 && !a->huge; }

static void search_from_start(gch_heap *h, uint32_t region) {
  if (region == h->old.alloc_region) h->old.cursor = 0;
  if (region == h->leaf.alloc_region) h->leaf.cursor = 0;
  for (int leaf = 0; leaf < 2; leaf++)
    if (region == h->large.alloc_region[leaf])
      h->large.cursor[leaf] = (h->layout.regions[region].start - h->layout.base) >> h->layout.page_shift;
}

/* Returns where `top` was. */
static uint32_t lower_top(const struct trim *t) {
  enter(t);
  uint32_t was = *t->top, top = was;
  while (top > 0 && is_empty(&t->heap->tables.arenas[t->first + top - 1])) top--;
  if (top != was) at_store(t->top, top);
  search_from_start(t->heap, t->region);
  leave(t);
  return was;
}

/* Drops the tables of arenas [keep, end) of the region, from the end on; returns where it stopped: at an arena in use. */
static uint32_t drop_tables(const struct trim *t, uint32_t keep, uint32_t end) {
  gch_heap *h = t->heap;
  uint32_t from = end;
  do {
    end = from;
    enter(t);
    from = end > keep + STEP ? end - STEP : keep;
    if (from < *t->top) from = *t->top < end ? *t->top : end;
    struct arena_range range = {t->first + from, t->first + end, t->first + t->arenas};
    if (from < end) tables_drop(&h->tables, &h->layout, &h->kernel, &range);
    leave(t);
  } while (from < end);
  return end;
}

static void trim_region(gch_heap *h, uint32_t region, bool beside) {
  struct trim t = trim_of(h, region, beside);
  struct trimmed *last = &h->trimmed[region];
  uint32_t was = lower_top(&t), top = at_load_relaxed(t.top); /* who raises it has nothing to tell us */
  uint32_t keep = beside || top > last->top ? top : last->top;
  if (was > last->tabled) at_store_relaxed(&last->tabled, was); /* read for statistics */
  if (keep < last->tabled) at_store_relaxed(&last->tabled, drop_tables(&t, keep, last->tabled));
  last->top = top;
}

uint64_t trim_table_bytes(gch_heap *h) {
  uint64_t arenas = 0, arena_bytes = h->tables.bytes / layout_arena_count(&h->layout);
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    uint32_t first, count = region_arenas(h, r, &first), tabled = at_load_relaxed(&h->trimmed[r].tabled); /* a sample */
    arenas += count > tabled ? count : tabled;
  }
  /* Each table has a page at the begin and at the end of each region that belongs to neighbours, too. */
  return arenas * arena_bytes + (uint64_t)h->layout.region_count * 2 * TABLE_COUNT * h->layout.page_bytes;
}

void trim_tables(gch_heap *h, bool beside) {
  for (uint32_t r = 0; r < h->layout.region_count; r++)
    if (h->layout.regions[r].space <= SPACE_LARGE_LEAF) trim_region(h, r, beside);
}
