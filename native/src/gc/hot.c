#include "gc/hot.h"

#include "gc/forward_inline.h"

enum { KEEP = 3 };
_Static_assert((int)KEEP < (int)GRANULE_BYTES, "an age fits beside the address of a granule");

void hot_turn(gch_heap *h) {
  struct hot *hot = &h->hot;
  uint32_t now = at_load_relaxed(&hot->now) ^ 1; /* published by the end of the pause */
  at_store_relaxed(&hot->places[now].count, (uint64_t)0);
  at_store_relaxed(&hot->taken, (uint64_t)0);
  at_store_relaxed(&hot->now, now);
}

/* Where the place goes in the move that runs; 0: nothing lives there any more. */
static uintptr_t forward_place(const gch_heap *h, uintptr_t a) {
  int64_t f = h->tables.forward[block_index(&h->layout, a)];
  if ((f & 1) == 0) return a + (uintptr_t)f;
  if (f == FORWARD_EVACUATED) {
    const struct line_forward *line = &h->tables.lines[(a - h->layout.base) >> LINE_SHIFT];
    return line->extents != 0 ? forward_evacuated(h, a) : 0;
  }
  uint32_t id = h->tables.large_ids[(a - h->layout.base) >> h->layout.page_shift];
  const struct large *e = &h->large.entries[id];
  return id != 0 ? e->forward + (a - e->base) : 0;
}

bool hot_take(gch_heap *h, size_t *block) {
  struct hot *hot = &h->hot;
  struct hot_places *last = &hot->places[at_load_relaxed(&hot->now) ^ 1]; /* as above */
  uint64_t count = at_load_relaxed(&last->count);
  for (uint64_t i; (i = at_add_relaxed(&hot->taken, 1)) < count && i < HOT_MAX;) {
    uint64_t place = at_load_relaxed(&last->at[i]), age = place % GRANULE_BYTES;
    uintptr_t to = forward_place(h, (uintptr_t)(place - age));
    if (to == 0 || !heap_contains(h, to)) continue;
    if (age + 1 < KEEP) hot_note(h, to, age + 1);
    *block = block_index(&h->layout, to);
    return true;
  }
  return false;
}
