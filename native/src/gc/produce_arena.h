/* Producing whole huge arenas: fixed or filled in one 2 MiB page, published by moving that page. */
#ifndef GC_PRODUCE_ARENA_H
#define GC_PRODUCE_ARENA_H

#include "gc/consume.h"

/* Claims every armed unit of the arena. If it got all of them and the arena can be made in one page, publishes it whole;
 * else makes what it claimed block by block. Returns the number of units made. */
uint32_t produce_arena(gch_heap *heap, struct drops *drops, uint32_t arena);

#endif
