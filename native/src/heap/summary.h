/* Reference summaries: which arenas an arena may refer to, so that one that refers to nothing that moves is published unread.
 *
 * A row of 1,024 bits an arena, a bit for all arenas of the same number modulo 1,024, set by markers as they scan slots: by the
 * arena of the slot. (Compare the regional remembered sets of Garbage-First, Detlefs et al., ISMM 2004, which know the other
 * direction, and cost a barrier.) What a slot is given after it was scanned no row knows; but whoever stores dirties a card, and
 * from the mark to the flip whoever cleans one sets the arena's `anywhere`, and so do births: such an arena is read. A slot that
 * held a young reference when it was scanned had been stored into since the mark began, so that holds for it, too.
 *
 * Whether rows are kept is decided before each mark: they cost markers a little, and pay only where arenas refer to few others.
 * Rows and flags are cleared when a major ends. */
#ifndef HEAP_SUMMARY_H
#define HEAP_SUMMARY_H

#include "heap/heap.h"

enum { SUMMARY_WORDS = SUMMARY_BITS / 64 };

static inline uint64_t *summary_row(const gch_heap *h, size_t arena) {
  return &h->tables.summaries[arena * SUMMARY_WORDS];
}

static inline void summary_set(uint64_t *row, size_t target) {
  uint64_t *word = &row[target % SUMMARY_BITS / 64], bit = (uint64_t)1 << target % 64;
  if ((at_load_relaxed(word) & bit) == 0) at_or_relaxed(word, bit); /* read after the mark */
}

/* A slot of an object that is being marked refers to `target`. */
static inline void summary_note(const gch_heap *h, uintptr_t slot, uintptr_t target) {
  summary_set(summary_row(h, arena_index(&h->layout, slot)), arena_index(&h->layout, target));
}

/* Something in the arena may refer to anything. All of it is read in the pause of the flip, or after it. */
static inline void summary_anywhere(gch_heap *h, size_t arena) {
  if (at_load_relaxed(&h->tables.anywhere[arena]) != 0) return;
  at_store_relaxed(&h->tables.anywhere[arena], (uint8_t)1);
  if (gch_likely(at_load(&h->selection.notes) == 0) || arena >= h->selection.end) return;
  uint32_t i = at_add_relaxed(&h->selection.noted_count, 1);
  if (i < SELECT_MAX) at_store_relaxed(&h->selection.noted[i], (uint32_t)arena);
}

/* Does nothing in the arena refer to an arena of the set `moving` (a row)? */
static inline bool summary_is_quiet(const gch_heap *h, size_t arena, const uint64_t *moving) {
  const uint64_t *row = summary_row(h, arena);
  uint64_t common = at_load_relaxed(&h->tables.anywhere[arena]); /* ordered by the pause of the flip */
  for (int i = 0; i < SUMMARY_WORDS; i++) common |= row[i] & moving[i];
  return common == 0;
}

static inline void summary_clear(gch_heap *h, size_t arena) {
  uint64_t *row = summary_row(h, arena), any = 0;
  for (int i = 0; i < SUMMARY_WORDS; i++) any |= row[i];
  for (int i = 0; i < SUMMARY_WORDS && any != 0; i++) row[i] = 0;
  at_store_relaxed(&h->tables.anywhere[arena], (uint8_t)0); /* nobody reads it before the next mark */
}

#endif
