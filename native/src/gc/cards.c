#include "gc/cards.h"

#include "heap/small.h"
#include "heap/summary.h"
#include "heap/unit.h"
#include "os/thread.h"

enum { CACHE_LINE = 64, CARDS_AHEAD = 16 };

/* One thread's way. It visits a few cards behind those that it finds: what has been stored at random lies anywhere, and is on its way
 * from memory meanwhile. */
struct card_scan {
  gch_heap *heap;
  card_visit visit;
  void *context;
  uint32_t found, visited;
  size_t cards[CARDS_AHEAD]; /* found and not visited yet */
};

void cards_begin(const gch_heap *h, struct card_walk *w) {
  uint32_t first;
  for (uint32_t r = 0; r < h->layout.region_count; r++) w->count[r] = region_arenas(h, r, &first);
  at_store_relaxed(&w->next, 0); /* who shares it is told by the team */
}

/* The next dirty arena; false: no more. */
static bool next_arena(const gch_heap *h, struct card_walk *w, uint32_t *out) {
  for (;;) {
    uint64_t i =
        at_add(&w->next, 1); /* orders what workers say of themselves (gc/marker.c, gc/minor.c) with what they take */
    uint32_t region = 0;
    while (region < h->layout.region_count && i >= w->count[region]) i -= w->count[region++];
    if (region == h->layout.region_count) return false;
    *out = region_first_arena(h, region) + (uint32_t)i;
    if (at_load_relaxed(&h->tables.dirty[*out]) != 0) return true; /* the world is stopped */
  }
}

/* Objects of a small block under the card [from, to). */
static void visit_small(gch_heap *h, uintptr_t from, uintptr_t to, card_visit visit, struct card_part *part,
                        void *context) {
  const struct layout *l = &h->layout;
  uint64_t first = granule_index(l, from), end = granule_index(l, to);
  uint64_t block_first = block_index(l, from) * BLOCK_GRANULES;
  uint64_t bit = bits_find_prev(h->tables.live, first, block_first);
  if (bit == BITS_NONE) bit = bits_find_next(h->tables.live, first, end);
  for (; bit != BITS_NONE && bit < end; bit = bits_find_next(h->tables.live, bit + 1, end)) {
    uintptr_t object = l->base + bit * GRANULE_BYTES;
    uint64_t header = header_load(object);
    part->type = typetab_get(&h->types, header);
    uintptr_t object_end = object + object_small_bytes(part->type, header);
    if (object_end <= from) continue;
    part->object = object;
    part->from = object < from ? from : object;
    part->to = object_end < to ? object_end : to;
    part->tail_count = header_tail_bytes(header) / 8;
    visit(part, context);
  }
}

static bool large_is_live(const gch_heap *h, uintptr_t base) {
  return bits_test_atomic(h->tables.live, granule_index(&h->layout, base));
}

static void visit_large(gch_heap *h, uintptr_t from, uintptr_t to, card_visit visit, struct card_part *part,
                        void *context) {
  uint32_t id = h->tables.large_ids[(from - h->layout.base) >> h->layout.page_shift];
  if (id == 0) return;
  const struct large *e = &h->large.entries[id];
  uintptr_t object = large_address(h, e), end = object + e->bytes;
  /* While it moves, its bit is at the old address, and at the new one from its first unit on. */
  if (from - object >= e->bytes || (!large_is_live(h, object) && !large_is_live(h, at_load(&e->base)))) return;
  part->type = &h->types.items[e->type];
  part->object = object;
  part->from = from;
  part->to = end < to ? end : to;
  part->tail_count = e->length;
  if (part->from < part->to) visit(part, context);
}

/* Whoever dirtied the card touched the page, so it had been published: its unit is MAPPED, or BUSY for a moment longer. */
static void wait_produced(gch_heap *h, size_t block) {
  if (at_load(&h->phase) < GCH_PHASE_MOVE) return; /* armed, but not flipped yet */
  enum unit_state state = unit_state(h, block);
  GCH_CHECK(state != UNIT_ARMED, "a card of armed unit %zu is dirty", block);
  if (gch_likely(state != UNIT_BUSY)) return;
  uint64_t start = clock_ns();
  for (uint32_t spins = 0; unit_state(h, block) == UNIT_BUSY; spins++)
    if (spins > 100) thread_yield();
  stall_waited(h, GCH_ACTOR_MINOR, unit_maker(h, block), clock_ns() - start);
}

static void visit_card(struct card_scan *s, size_t card) {
  gch_heap *h = s->heap;
  uintptr_t from = h->layout.base + card * CARD_BYTES;
  const struct block *block = heap_block(h, from);
  struct card_part part = {.card = card};
  h->tables.cards[card] = 0;
  if (block->leaf) return;
  wait_produced(h, block_index(&h->layout, from));
  uint8_t state = at_load(&block->state); /* the end of a cycle turns DEST into USED meanwhile */
  if (state == BLOCK_LARGE)
    visit_large(h, from, from + CARD_BYTES, s->visit, &part, s->context);
  else if (state == BLOCK_USED || state == BLOCK_DEST) /* a destination holds objects once it is mapped */
    visit_small(h, from, from + CARD_BYTES, s->visit, &part, s->context);
}

static void fetch_card(const gch_heap *h, size_t card) {
  uintptr_t from = h->layout.base + card * CARD_BYTES;
  __builtin_prefetch(&h->tables.live[granule_index(&h->layout, from) / 64]);
  for (uintptr_t at = from; at < from + CARD_BYTES; at += CACHE_LINE) __builtin_prefetch((const void *)at);
}

static void find_card(struct card_scan *s, size_t card) {
  if (s->found - s->visited == CARDS_AHEAD) visit_card(s, s->cards[s->visited++ % CARDS_AHEAD]);
  fetch_card(s->heap, card);
  s->cards[s->found++ % CARDS_AHEAD] = card;
}

static void cards_scan(struct card_scan *s, uint32_t arena) {
  gch_heap *h = s->heap;
  size_t first = (size_t)arena * ARENA_CARDS;
  const uint64_t *words = (const uint64_t *)(const void *)&h->tables.cards[first];
  h->tables.dirty[arena] = 0;
  if (heap_births_marked(h) || at_load_relaxed(&h->phase) == GCH_PHASE_FLIP) summary_anywhere(h, arena); /* stw */
  for (size_t w = 0; w < ARENA_CARDS / 8; w++) {
    if (gch_likely(words[w] == 0)) continue;
    for (size_t c = first + w * 8; c < first + w * 8 + 8; c++)
      if (h->tables.cards[c] != 0) find_card(s, c);
  }
}

void cards_visit(gch_heap *h, struct card_walk *walk, card_visit visit, void *context) {
  struct card_scan s = {.heap = h, .visit = visit, .context = context};
  uint32_t arena;
  while (next_arena(h, walk, &arena)) cards_scan(&s, arena);
  while (s.visited != s.found) visit_card(&s, s.cards[s.visited++ % CARDS_AHEAD]);
}
