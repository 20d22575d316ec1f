/* What compact.c, compact_large.c and finish.c share. World stopped, but for compact_finish_large. */
#ifndef GC_COMPACT_INTERNAL_H
#define GC_COMPACT_INTERNAL_H

#include "gc/evacuate.h"

/* Puts memory behind an empty destination; takes no refusal. */
void compact_supply(gch_heap *heap, uintptr_t dst, uint64_t bytes);
/* Puts memory behind an arena, once; others that need it meanwhile wait for whoever is at it. */
void compact_supply_arena(gch_heap *heap, uintptr_t start);

/* Fixes the references in a piece of a large object, where it is. */
void compact_fix_piece(const struct gather *gather, const struct large_piece *piece);
/* Moves it, by `step` bytes, whole blocks, and fixes it; or fixes it where it stays. */
void compact_move_piece(const struct gather *gather, const struct large_piece *piece, uint64_t step);
/* An arena of large objects that relocates with its pages: fixes its references, where it is. */
void compact_fix_large_arena(const struct gather *gather, const struct relocation *arena);
/* Moves the pages of all of these. */
void compact_move_large_arenas(gch_heap *heap, const struct plan *plan);
/* Moves large objects with all their pages. Small pages. */
void compact_move_large(gch_heap *heap, const struct plan *plan);
/* `slide`: moves the objects of a chain, one after the other. */
void compact_slide_large(const struct gather *gather, uint32_t chain);
/* Large objects are where they went to; their sources are free, their memory is given back. Returns bytes. Under the lock of
 * the large spaces, if mutators run. */
uint64_t compact_finish_large(gch_heap *heap, const struct plan *plan);

#endif
