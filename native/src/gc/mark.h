/* Marking: from the roots, in parallel, one bit an object.
 *
 * Each worker has a private stack of candidates, a prefetch queue of 16 in front of the work (Cher, Hosking, Vitek,
 * "Software prefetching for mark-sweep garbage collection", ASPLOS 2004) and a small deque that others steal from. A
 * candidate is an address, or a chunk of a large array of references. Setting the bit decides who scans an object.
 *
 * The stack is bounded (a sixteenth of the heap's limit, populated as it grows). When it is full the
 * candidate is dropped and the block of the object that held the reference is flagged; flagged blocks are scanned
 * again, until none is left. So marking needs no memory that it might not get, and no recursion.
 *
 * The minor form marks young objects only, the major form all others. World stopped. */
#ifndef GC_MARK_H
#define GC_MARK_H

#include "heap/heap.h"

struct mark_result {
  uint64_t objects;
  uint64_t bytes; /* rounded to granules; large objects to granules too */
};

gch_status mark_init(gch_heap *heap, gch_error *error);
void mark_destroy(gch_heap *heap);
void mark_minor(gch_heap *heap, struct mark_result *result);
void mark_major(gch_heap *heap, struct mark_result *result);

#endif
