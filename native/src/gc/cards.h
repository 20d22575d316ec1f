/* Cards: where references may have been stored since the last minor collection.
 *
 * Two levels, both written by the barrier (gcheap/barrier_inline.h): a byte a 2 MiB arena, a byte 512 bytes. A minor
 * looks at the arena bytes of the regions in use, then at the cards of the dirty ones. Objects under a dirty card are
 * found with the live map, large ones with the large table; nothing is parsed.
 *
 * Cards of blocks that are themselves young say nothing and are cleared unread. */
#ifndef GC_CARDS_H
#define GC_CARDS_H

#include "heap/heap.h"

/* A walk over the arenas in use when it began, which several threads may share: the ends of regions move meanwhile, as a major
 * plans and ends beside a minor, and whoever counted by those would meet an arena twice, or never. */
struct card_walk {
  uint32_t count[REGION_MAX];
  uint64_t next; /* [atomic] counted over all regions */
};
/* World stopped. */
void cards_begin(const gch_heap *heap, struct card_walk *walk);

/* Called for every dirty card with each part [from, to) of an object's bytes that lies in it. */
struct card_part {
  uintptr_t object, from, to;
  const struct type_info *type;
  uint64_t tail_count;
  size_t card;
};
typedef void (*card_visit)(const struct card_part *part, void *context);

/* Visits what dirty cards hold, an arena after the other, beside others that share the walk, until none is left. A card (and its
 * arena's byte) is cleared before it is visited, so that the visitor may mark it again. */
void cards_visit(gch_heap *heap, struct card_walk *walk, card_visit visit, void *context);

/* A slot under a dirty card that led to a young object: found as a minor marks, so that its move need not look for it again (of the
 * eight lines of a card it is one). Who has no room for what a card holds leaves that dirty instead. */
struct card_slot {
  uint64_t *slot;
  const struct type_info *type;
};
enum { CARD_SLOTS = CARD_BYTES / 8 }; /* at most */

/* Marks the card of a slot, as the barrier does. */
static inline void card_mark(gch_heap *h, uintptr_t slot) {
  at_store_relaxed(&h->tables.cards[card_index(&h->layout, slot)], (uint8_t)1); /* ordered by the end of the pause */
  at_store_relaxed(&h->tables.dirty[arena_index(&h->layout, slot)], (uint8_t)1);
}

#endif
