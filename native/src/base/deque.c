/* The Chase-Lev deque. The orders are those of Le et al. (PPoPP 2013), figure 1, line by line; see deque.h. */
#include "base/deque.h"

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"

void deque_init(struct deque *d, uint64_t *items, uint64_t capacity) {
  GCH_CHECK(is_pow2(capacity), "the capacity of a deque is a power of two, not %llu", (unsigned long long)capacity);
  d->items = items;
  d->mask = (int64_t)capacity - 1;
  at_store_relaxed(&d->top, 0); /* relaxed: whoever shares the deque publishes it */
  at_store(&d->bottom, 0);
}

static uint64_t *cell(const struct deque *d, int64_t index) { return &d->items[index & d->mask]; }

bool deque_push(struct deque *d, uint64_t item) {
  int64_t bottom = at_load_relaxed(&d->bottom); /* relaxed: only the owner writes it */
  int64_t top = at_load(&d->top);
  if (bottom - top > d->mask) return false;
  at_store_relaxed(cell(d, bottom), item); /* relaxed: published by the next line */
  at_store(&d->bottom, bottom + 1);
  return true;
}

bool deque_pop(struct deque *d, uint64_t *item) {
  int64_t bottom = at_load_relaxed(&d->bottom) - 1; /* relaxed: only the owner writes it */
  at_store(&d->bottom, bottom); /* before the look at top, by the fence */
  at_fence_seq();
  int64_t top = at_load_relaxed(&d->top); /* relaxed: the fence again */
  if (top > bottom) {
    at_store(&d->bottom, bottom + 1); /* empty: put it back */
    return false;
  }
  uint64_t taken = at_load_relaxed(cell(d, bottom)); /* relaxed: the owner wrote it itself */
  if (top == bottom) {                               /* the last one: race the thieves for it */
    bool won = at_cas_seq(&d->top, &top, top + 1);
    at_store(&d->bottom, bottom + 1);
    if (!won) return false;
  }
  *item = taken;
  return true;
}

enum deque_steal deque_steal(struct deque *d, uint64_t *item) {
  int64_t top = at_load(&d->top);
  at_fence_seq();
  int64_t bottom = at_load(&d->bottom);
  if (top >= bottom) return DEQUE_EMPTY;
  uint64_t taken = at_load_relaxed(cell(d, top)); /* relaxed: valid only if the CAS says so */
  if (!at_cas_seq(&d->top, &top, top + 1)) return DEQUE_LOST;
  *item = taken;
  return DEQUE_ITEM;
}

uint64_t deque_size(const struct deque *d) {
  int64_t bottom = at_load(&d->bottom), top = at_load(&d->top);
  return bottom > top ? (uint64_t)(bottom - top) : 0;
}
