#include "gc/reserve.h"

#include "gc/claims.h"
#include "heap/small.h"

enum {
  AHEAD = 4,       /* times what a minor takes: it takes some minors' time to fill it up */
  FADES = 8,       /* by an eighth with each minor that takes less */
  STAGING_PART = 4,
  LOOK = 256,      /* arenas looked at, */
  LOOK_FULL = 1 << 14, /* beside so many that are full */
  STEPS = 8, /* blocks given memory before somebody looks whether there is more urgent work; of huge arenas one */
};

/* --- how much ----------------------------------------------------------------------------------------------------- */

static uint32_t budget(const gch_heap *h) {
  if (h->controller == NULL || h->config.decay_ms == GCH_DECAY_NOW) return 0;
  uint64_t blocks = h->config.staging_bytes / BLOCK_BYTES / STAGING_PART;
  if (h->huge) blocks -= blocks % ARENA_BLOCKS;
  return blocks < INT32_MAX ? (uint32_t)blocks : INT32_MAX;
}

/* Blocks from the cursor on that lack memory (the first of them at most: those of one arena, or one block), where promotion will come
 * to before it has taken `want`. */
struct lack {
  uint32_t arena, blocks; /* blocks 0: none is lacking */
};

/* A huge arena gets memory in one piece, before anything is there. */
static uint32_t next_lacking(const gch_heap *h, const struct arena *a) {
  uint32_t populated = at_load_relaxed(&a->populated), lacking = ~a->used & ~populated;
  if (h->huge && populated == 0) return a->used == 0 ? UINT32_MAX : 0;
  return lacking & -lacking;
}

/* Lock held. */
static struct lack find_lack(const gch_heap *h, const struct small_space *s, uint32_t want) {
  uint32_t first = region_first_arena(h, s->alloc_region), ready = 0;
  uint32_t count = (uint32_t)(h->layout.regions[s->alloc_region].bytes >> ARENA_SHIFT);
  uint32_t looks = LOOK;
  for (uint32_t step = 0; step < count && step < LOOK_FULL && looks > 0 && ready < want; step++) {
    uint32_t i = (s->cursor + step) % count;
    const struct arena *a = &h->tables.arenas[first + i];
    if (a->used == UINT32_MAX) continue;
    looks--;
    uint32_t blocks = next_lacking(h, a);
    ready += (uint32_t)__builtin_popcount(~a->used & at_load_relaxed(&a->populated));
    if (blocks != 0 && ready < want) return (struct lack){first + i, blocks};
  }
  return (struct lack){0};
}

static bool lacks(gch_heap *h, bool leaf, uint32_t want) {
  struct small_space *s = heap_small_space(h, leaf);
  if (want == 0) return false;
  lock_lock(&s->lock);
  struct lack found = find_lack(h, s, want);
  lock_unlock(&s->lock);
  return found.blocks != 0;
}

void reserve_look(gch_heap *h) {
  bool low = false;
  for (int leaf = 0; leaf < 2; leaf++) low = low || lacks(h, leaf, at_load_relaxed(&h->reserve.want[leaf]));
  if (low) at_store(&h->reserve.low, 1);
}

void reserve_note(gch_heap *h, const struct minor_result *m) {
  struct reserve *r = &h->reserve;
  uint32_t left = budget(h);
  for (int leaf = 0; leaf < 2; leaf++) {
    uint32_t want = at_load_relaxed(&r->want[leaf]), most = AHEAD * m->promoted_blocks[leaf];
    want -= (want + FADES - 1) / FADES;
    if (want < most) want = most;
    if (h->huge && most > 0) want = (want + ARENA_BLOCKS - 1) / ARENA_BLOCKS * ARENA_BLOCKS; /* as it comes */
    if (want > left) want = left;
    left -= want;
    at_store_relaxed(&r->want[leaf], want); /* a hint for who fills */
  }
  reserve_look(h);
}

bool reserve_fade(gch_heap *h) {
  struct reserve *r = &h->reserve;
  uint64_t minors = at_load_relaxed(&h->measures.minor_count); /* a figure */
  uint32_t left = 0;
  lock_lock(&h->cycle_lock);
  for (int leaf = 0; leaf < 2; leaf++) {
    if (minors == r->minors) at_store_relaxed(&r->want[leaf], at_load_relaxed(&r->want[leaf]) / 2);
    left += at_load_relaxed(&r->want[leaf]);
  }
  lock_unlock(&h->cycle_lock);
  r->minors = minors;
  return left > 0;
}

/* --- filling -------------------------------------------------------------------------------------------------------- */

static bool begin_filling(gch_heap *h, struct small_space *s, uint32_t want, struct lack *out) {
  lock_lock(&s->lock);
  *out = find_lack(h, s, want);
  if (out->blocks != 0) {
    h->reserve.blocks = out->blocks;
    at_store_relaxed(&h->reserve.arena, out->arena); /* the other space's lock protects other arenas */
  }
  lock_unlock(&s->lock);
  return out->blocks != 0;
}

static void end_filling(gch_heap *h, struct small_space *s, const struct lack *l, bool filled) {
  struct arena *a = &h->tables.arenas[l->arena];
  uint32_t index = l->arena - region_first_arena(h, s->alloc_region);
  uint32_t *top = &s->top[s->alloc_region - layout_first_region(&h->layout, s->id)];
  lock_lock(&s->lock);
  at_store_relaxed(&h->reserve.arena, ARENA_NOWHERE);
  if (filled) {
    at_or_relaxed(&a->populated, l->blocks);
    if (l->blocks == UINT32_MAX) arena_set_huge(a, true);
    if (*top <= index) at_store(top, index + 1);
  } else {
    small_settle_kept(a, l->blocks);
  }
  lock_unlock(&s->lock);
}

/* False: there is enough, or no more is to be had. */
static bool fill_one(gch_heap *h, bool leaf) {
  struct small_space *s = heap_small_space(h, leaf);
  uint32_t want = at_load_relaxed(&h->reserve.want[leaf]);
  struct lack l;
  claims_enter(h);
  bool filled = want != 0 && begin_filling(h, s, want, &l);
  if (filled) {
    uint32_t first = (uint32_t)__builtin_ctz(l.blocks), count = (uint32_t)__builtin_popcount(l.blocks);
    uintptr_t start = arena_address(&h->layout, l.arena) + first * (uintptr_t)BLOCK_BYTES;
    GCH_POINT(reserve_filling);
    filled = populate_empty(h, start, count * (uint64_t)BLOCK_BYTES) >= 0;
    end_filling(h, s, &l, filled);
  }
  claims_leave(h);
  return filled;
}

void reserve_fill(gch_heap *h) {
  if (at_load(&h->closing) != 0 || at_xchg(&h->reserve.busy, 1) != 0) return;
  (void)at_xchg(&h->reserve.low, 0); /* a minor that ends from now on looks for itself */
  int steps = h->huge ? 1 : STEPS;
  bool more = true;
  for (int leaf = 0; leaf < 2 && more; leaf++) {
    while ((more = steps > 0 && at_load(&h->world.stop) == 0) && fill_one(h, leaf)) steps--;
  }
  if (!more) at_store(&h->reserve.low, 1);
  at_store(&h->reserve.busy, 0);
}

void reserve_give_up(gch_heap *h) {
  for (int leaf = 0; leaf < 2; leaf++) at_store_relaxed(&h->reserve.want[leaf], 0);
}

void reserve_forget(gch_heap *h) {
  at_store(&h->reserve.busy, 0);
  at_store(&h->reserve.low, 0);
}
