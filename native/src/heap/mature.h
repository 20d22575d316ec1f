/* Mature allocation: objects born in old and leaf blocks, for bulk loads.
 *
 * A load of a gigabyte through a nursery of a few MiB would copy everything once and die young in nothing. Here
 * objects are bumped into whole old or leaf blocks, two open at a time (with and without references). Their starts
 * go into the live map at once, and before into the mark map from a major's mark to its flip, as for promoted objects.
 *
 * Rule: a safepoint may collect, and a collection reads every block's `top`. So retire the buffer before each; what
 * is left of its blocks is lost (free again after the next major). Large objects do not come from here.
 *
 * Managed state, one thread a buffer. Nothing here collects. */
#ifndef HEAP_MATURE_H
#define HEAP_MATURE_H

#include "heap/mutator.h"

/* All zero: no open block. */
struct mature {
  uintptr_t block[2];  /* by leaf; 0: none */
  uintptr_t cursor[2]; /* next free byte */
  uintptr_t limit[2];  /* end of the block */
};

/* Objects that are all alike. */
struct mature_kind {
  uint64_t header, bytes;
  bool leaf;
};

/* Opens a block for objects with (leaf: without) references, zeroed; the one before is retired. False: no memory, or
 * the heap's limit. */
bool mature_refill(gch_heap *heap, struct mature *buffer, bool leaf);
/* Completes the open blocks. */
void mature_retire(gch_heap *heap, struct mature *buffer);
/* Up to `count` small objects of one kind into the open block; their addresses go to `out`. Returns how many fitted. */
uint64_t mature_fill(gch_heap *heap, struct mature *buffer, const struct mature_kind *kind, uint64_t count,
                     gch_ref *out);

static inline void mature_note(gch_heap *h, uintptr_t object) {
  uint64_t bit = granule_index(&h->layout, object);
  if (gch_unlikely(heap_births_marked(h)))
    bits_set_own(h->tables.mark, bit); /* first: no marker takes it for its own */
  bits_set_own(h->tables.live, bit);
}

/* One small object (bytes <= GCH_SMALL_MAX); NULL: the block is full. */
static inline gch_ref mature_bump(gch_heap *h, struct mature *buffer, bool leaf, uint64_t header, uint64_t bytes) {
  uintptr_t object = buffer->cursor[leaf];
  if (object + bytes > buffer->limit[leaf]) return NULL;
  buffer->cursor[leaf] = object + bytes;
  *(uint64_t *)object = header;
  mature_note(h, object);
  return (gch_ref)object;
}

#endif
