/* Small-object spaces: handing out and taking back blocks of OLD, LEAF and YOUNG.
 *
 * OLD and LEAF take blocks from one region at a time (`alloc_region`): during a major that is the held-out one, which
 * the flip leaves alone, so what is born in a cycle never goes missing. YOUNG hands out eden blocks until the
 * nursery's limit. A block is handed out with all its pages present: holes are never guessed. Where huge pages are
 * asked for, an arena is populated in one piece with its first block. */
#ifndef HEAP_SMALL_H
#define HEAP_SMALL_H

#include "heap/heap.h"

void small_init(gch_heap *heap);
void small_destroy(gch_heap *heap);

/* A populated block for objects with (leaf: without) references, state USED, contents undefined; 0: no memory, or
 * over the limit and `collector` is false. */
uintptr_t small_take(gch_heap *heap, bool leaf, bool collector);
/* A populated young block; `eden`: for a mutator, within the nursery's and the heap's limit, zeroed. */
uintptr_t young_take(gch_heap *heap, bool leaf, bool eden);
/* Eden blocks between two minors: the nursery, but at least a buffer of each kind for every mutator, as far as the region holds
 * them. */
uint64_t young_limit(const gch_heap *heap);
/* A minor is due, and makes room: eden is used up, or the region is, and some of it is not there to stay. */
bool young_is_full(const gch_heap *heap);

/* Collector: reserves a given free block as a destination / for a given use, without populating it. Whoever uses it counts it
 * (heap_use): of a destination that is the end of the cycle. */
void block_assign(gch_heap *heap, uintptr_t block, enum block_state state, bool leaf);
/* Frees a block; `populated`: its pages are still there. World stopped, or the block's space locked by a cycle. */
void block_free(gch_heap *heap, uintptr_t block, bool populated);
/* The same of a block that does not count as used: a destination, or one whose count another has taken over. */
void block_vacate(gch_heap *heap, uintptr_t block, bool populated);
/* The kernel would not take back the memory of blocks [start, start + bytes), which are being emptied: when they are freed,
 * they are populated. Any thread; addresses that are not in a space of small objects are none of ours. */
void block_keep(gch_heap *heap, uintptr_t start, uint64_t bytes);
/* Memory for a range in which the tables know of none: all of it, or (a negative errno) none, lest a page be seen where one is to be
 * missing. The lock of the space held, or nobody takes blocks there. */
int populate_empty(gch_heap *heap, uintptr_t start, uint64_t bytes);
/* Lock held. What could not be given back of blocks that are free now (block_keep) is there. */
void small_settle_kept(struct arena *arena, uint32_t blocks);
/* Lock of the space held: those of the arena that are being given memory (gc/reserve.h). */
static inline uint32_t small_being_filled(const gch_heap *h, uint32_t arena) {
  return gch_unlikely(at_load_relaxed(&h->reserve.arena) == arena) ? h->reserve.blocks : 0;
}
/* Makes the pages of a taken block present. False: no memory. */
bool block_populate(gch_heap *heap, uintptr_t block);
/* Gives the memory of free blocks back, whole arenas where huge; returns bytes released. World stopped. */
uint64_t arena_release_free(gch_heap *heap, uint32_t arena);
/* The same of so many blocks, the last ones first; of a huge arena all or nothing. */
uint64_t arena_release_some(gch_heap *heap, uint32_t arena, uint32_t most);

/* Arenas of region `region` in use (none beyond): [*first, *first + returned). */
uint32_t region_arenas(const gch_heap *heap, uint32_t region, uint32_t *first);
static inline uint32_t region_first_arena(const gch_heap *h, uint32_t region) {
  return (uint32_t)arena_index(&h->layout, h->layout.regions[region].start);
}

#endif
