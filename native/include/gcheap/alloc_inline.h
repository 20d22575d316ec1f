/* Allocation: a bump of a pointer, inlined in the host; everything else is gch_alloc_slow. */
#ifndef GCHEAP_ALLOC_INLINE_H
#define GCHEAP_ALLOC_INLINE_H

#include "gcheap/mutator.h"
#include "gcheap/type.h"

/* Allocates an object with `count` tail elements (0 for types without a tail), zeroed. May collect.
 * NULL if the heap is full even after a collection, or the size is out of range: see gch_last_error. */
GCH_API gch_ref gch_alloc_slow(gch_mutator *mutator, const gch_type *type, uint64_t count);

/* The object with `count` elements in its tail: those that it has now, and zeros. It is the same object, or a new one (of the
 * same type, with the same fields and the same identity hash), which is then used in its stead everywhere: the old one, if it was large,
 * is left with an empty tail, and else as it is. Longer, a large object takes free pages behind it, or a new one takes its pages;
 * shorter, it stays where it is and gives pages back. While a major collection runs, contents may be copied instead. Polls
 * on the way; no part of it takes long at a stretch. Other threads do not use the object meanwhile.
 * May collect. NULL, and the object as it was: no memory (GCH_NO_MEMORY), a pinned object (GCH_BAD_STATE), no tail or no object of
 * this heap (GCH_BAD_VALUE): see gch_last_error. */
GCH_API gch_ref gch_resize(gch_mutator *mutator, gch_ref object, uint64_t count);

#ifndef GCHEAP_CDEF
#define GCH_HEADER_LENGTH_SHIFT 16 /* bytes of the tail, 14 bits; see native/src/object/header.h */

static inline gch_ref gch_bump(gch_mutator *m, const gch_type *type, uint64_t bytes, uint64_t header) {
  uint64_t address = m->alloc_cursor[type->leaf];
  uint64_t end = address + bytes;
  if (__builtin_expect(end > m->alloc_limit[type->leaf], 0)) return NULL;
  m->alloc_cursor[type->leaf] = end;
  *(uint64_t *)(uintptr_t)address = header;
  return (gch_ref)(uintptr_t)address;
}

/* A new object of a type without a tail, zeroed. */
static inline gch_ref gch_alloc(gch_mutator *m, const gch_type *type) {
  gch_ref object = gch_bump(m, type, type->bytes, type->header);
  return __builtin_expect(object != NULL, 1) ? object : gch_alloc_slow(m, type, 0);
}

/* A new object of a type with a tail of `count` elements, zeroed. What is large, or cannot be (elements without a
 * tail), is not for the fast path. */
static inline gch_ref gch_alloc_array(gch_mutator *m, const gch_type *type, uint64_t count) {
  if (__builtin_expect(count <= type->small_count, 1)) {
    uint64_t tail = count * type->tail_bytes;
    uint64_t bytes = (type->tail_offset + tail + 15) & ~(uint64_t)15;
    gch_ref object = gch_bump(m, type, bytes, type->header | tail << GCH_HEADER_LENGTH_SHIFT);
    if (__builtin_expect(object != NULL, 1)) return object;
  }
  return gch_alloc_slow(m, type, count);
}
#endif

#endif
