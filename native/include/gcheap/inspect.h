/* Looking at a heap: walk, verify, map. All stop the world; a walk first finishes a running cycle. */
#ifndef GCHEAP_INSPECT_H
#define GCHEAP_INSPECT_H

#include "gcheap/types.h"

/* Called for every object found live by the last finished mark or allocated since, in address order in
 * each space. Return false to stop. No heap call is legal inside. */
typedef bool (*gch_walk_fn)(gch_ref object, const gch_type *type, uint64_t bytes, void *data);
GCH_API gch_status gch_walk(gch_mutator *mutator, gch_walk_fn fn, void *data);

/* Checks every invariant that can be checked with the world stopped: references, both maps, cards, tables, ages,
 * free lists, accounting. (Of handles: that what is in the list is free; that nothing is missing from it cannot be
 * seen, because handles may be freed meanwhile.) GCH_CORRUPT with a message that names the first breach. */
GCH_API gch_status gch_verify(gch_mutator *mutator, gch_error *error);

/* A block of the heap as `gcheap map` draws it. */
typedef struct gch_block_info {
  uint64_t address;
  uint32_t live_bytes; /* by the last mark; 0 for young blocks */
  uint32_t used_bytes;
  uint8_t space;       /* 0 old, 1 large, 2 leaf, 3 large leaf, 4 young */
  uint8_t free;        /* 1: holds nothing */
  uint8_t pinned;
  uint8_t populated;
} gch_block_info;

/* Copies at most `capacity` blocks of the arenas in use to `out`; returns how many there are. */
GCH_API size_t gch_heap_map(gch_mutator *mutator, gch_block_info *out, size_t capacity);

#endif
