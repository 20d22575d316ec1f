/* Forwarding: the new address of an object, from tables alone.
 *
 *   forward(a) = a + delta                                              block stays (0) or is relocated whole
 *   forward(a) = dest[line] + 16 * popcount(extents of the line before a)   block is evacuated
 *   forward(a) = entry(a).forward                                       large objects
 *
 * The popcount form is the Compressor's (Kermany and Petrank, PLDI 2006) at line granularity; whole-block deltas are
 * ours: a page that moves with its holes costs one word. Destinations were free when the plan was made, so a
 * forwarded address is no source and forwarding is idempotent (I12). No heap memory is read. */
#ifndef GC_FORWARD_INLINE_H
#define GC_FORWARD_INLINE_H

#include "heap/heap.h"
#include "object/scan_inline.h"

static inline uintptr_t forward_evacuated(const gch_heap *h, uintptr_t a) {
  const struct line_forward *line = &h->tables.lines[(a - h->layout.base) >> LINE_SHIFT];
  uint64_t before = ((uint64_t)1 << ((a >> GRANULE_SHIFT) & 63)) - 1;
  return line->dest + (uintptr_t)popcount64(line->extents & before) * GRANULE_BYTES;
}

static inline uintptr_t forward_large(const gch_heap *h, uintptr_t a) {
  return h->large.entries[h->tables.large_ids[(a - h->layout.base) >> h->layout.page_shift]].forward;
}

/* `a` lies in the heap. */
SCAN_INLINE uintptr_t forward_address(const gch_heap *h, uintptr_t a) {
  int64_t f = h->tables.forward[block_index(&h->layout, a)];
  if (gch_likely((f & 1) == 0)) return a + (uintptr_t)f;
  return f == FORWARD_EVACUATED ? forward_evacuated(h, a) : forward_large(h, a);
}

/* The forwarded form of a word that may be a reference of the given type's slots. */
SCAN_INLINE uint64_t forward_word(const gch_heap *h, const struct type_info *type, uint64_t word) {
  uintptr_t a = (uintptr_t)(word & ~type->tag_mask);
  if (!heap_contains(h, a) || (word & type->tag_mask) != type->tag_value) return word;
  return forward_address(h, a) | (word & type->tag_mask);
}

/* The forwarded form of a root. */
static inline uint64_t forward_root(const gch_heap *h, uint64_t word) {
  uintptr_t a = (uintptr_t)(word & ~(uint64_t)7);
  return heap_contains(h, a) ? forward_address(h, a) | (word & 7) : word;
}

#endif
