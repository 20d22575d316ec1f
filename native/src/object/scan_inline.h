/* Visiting the reference slots of an object, or of a part of it.
 *
 * `visit(slot, context)` must be inlinable: every caller gets its own loop. Slots are visited whatever they hold, null and words
 * that are no references by the type's tag rule included, but where it says otherwise. */
#ifndef OBJECT_SCAN_INLINE_H
#define OBJECT_SCAN_INLINE_H

#include "base/check.h"
#include "object/typetab.h"

typedef void (*slot_visit)(uint64_t *slot, void *context);

#define SCAN_INLINE static inline __attribute__((always_inline))

SCAN_INLINE bool word_is_ref(const struct type_info *type, uint64_t word) {
  return (word & type->tag_mask) == type->tag_value && (word & ~type->tag_mask) != 0;
}

SCAN_INLINE void scan_words(uint64_t *slot, uint64_t *end, slot_visit visit, void *context) {
  for (; slot < end; slot++) visit(slot, context);
}

SCAN_INLINE void scan_fixed_range(const struct type_info *type, uintptr_t object, uintptr_t from, uintptr_t to,
                                  slot_visit visit, void *context) {
  for (uint64_t bits = type->ref_bits; bits != 0; bits &= bits - 1) {
    uintptr_t slot = object + 8 * (uintptr_t)__builtin_ctzll(bits);
    if (slot >= from && slot < to) visit((uint64_t *)slot, context);
  }
  for (uint32_t i = 0; gch_unlikely(i < type->far_count); i++) {
    uintptr_t slot = object + type->far_refs[i];
    if (slot >= from && slot < to) visit((uint64_t *)slot, context);
  }
}

/* The elements of the tail whose addresses lie in [from, to): from the one returned to `*end`. */
SCAN_INLINE uint64_t *tail_range(const struct type_info *type, uintptr_t object, uint64_t tail_count, uintptr_t from,
                                 uintptr_t to, uint64_t **end) {
  uintptr_t first = object + type->pub.tail_offset, last = first + 8 * tail_count;
  if (first < from) first = from;
  if (last > to) last = to;
  *end = (uint64_t *)(type->tail == GCH_TAIL_REFS && first < last ? last : first);
  return (uint64_t *)first;
}

/* Slots of the object that starts at `object` whose addresses lie in [from, to); `tail_count` elements. The
 * object may be looked at through an alias: only [from, to) is read. */
SCAN_INLINE void scan_object_range(const struct type_info *type, uintptr_t object, uint64_t tail_count, uintptr_t from,
                                   uintptr_t to, slot_visit visit, void *context) {
  uint64_t *end, *slot = tail_range(type, object, tail_count, from, to, &end);
  scan_fixed_range(type, object, from, to, visit, context);
  scan_words(slot, end, visit, context);
}

/* The same, but nulls may be left out: large arrays are often mostly empty (hash tables), so eight are passed at once. */
SCAN_INLINE void scan_object_refs(const struct type_info *type, uintptr_t object, uint64_t tail_count, uintptr_t from,
                                  uintptr_t to, slot_visit visit, void *context) {
  uint64_t *end, *slot = tail_range(type, object, tail_count, from, to, &end);
  scan_fixed_range(type, object, from, to, visit, context);
  for (; slot + 8 <= end; slot += 8) {
    uint64_t any = 0;
    for (int i = 0; i < 8; i++) any |= __atomic_load_n(&slot[i], __ATOMIC_RELAXED); /* visit looks again */
    if (any != 0) scan_words(slot, slot + 8, visit, context);
  }
  scan_words(slot, end, visit, context);
}

/* All slots of a small object. */
SCAN_INLINE void scan_small(const struct type_info *type, uintptr_t object, uint64_t header, slot_visit visit,
                            void *context) {
  for (uint64_t bits = type->ref_bits; bits != 0; bits &= bits - 1)
    visit((uint64_t *)(object + 8 * (uintptr_t)__builtin_ctzll(bits)), context);
  for (uint32_t i = 0; gch_unlikely(i < type->far_count); i++) visit((uint64_t *)(object + type->far_refs[i]), context);
  if (type->tail == GCH_TAIL_REFS) {
    uint64_t *first = (uint64_t *)(object + type->pub.tail_offset);
    scan_words(first, first + header_tail_bytes(header) / 8, visit, context);
  }
}

#endif
