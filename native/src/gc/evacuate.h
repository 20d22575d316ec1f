/* Evacuation: from liveness to forwarding tables, and from tables to filled destinations.
 *
 * Three steps, the same for minor and major collections:
 *   extents   for each source block: a bit a granule that live objects cover, from the headers (parallel)
 *   pack      sources in order, line by line, into destination blocks; lines joined by an object that straddles them
 *             go together, and such a group always fits an empty block, because no object straddles a block
 *   gather    fill one destination: copy its objects, every reference forwarded on the way (parallel)
 *
 * Order is kept, so a destination reads one run of lines of one run of sources. `needed` of a source counts the
 * destinations that still read it. Sources may be read through an alias at a constant distance. */
#ifndef GC_EVACUATE_H
#define GC_EVACUATE_H

#include "heap/heap.h"

enum {
  TEAM_CHAINS = 64,
  CALL_BYTES = 32 << 20, /* at most so much in a call that moves pages: it holds locks of the mappings */
};

/* tables.dest of a destination: index + 1 in plan.dests, or this bit and the block it relocates from. */
#define DEST_RELOCATED 0x80000000u

struct dest {
  uint32_t block;                    /* destination block index */
  uint32_t first_source, last_source; /* indices in plan.sources */
  uint8_t first_line, end_line;      /* in the first / last source; [first_line, end_line) */
  uint16_t granules;                 /* filled */
};

/* A piece of a large object that is fixed, or moves, in the pause: threads share an object by them. */
enum { PLAN_PIECE_BYTES = 1 << 20 };
struct large_piece {
  uint32_t id, index; /* bytes [index, index + 1) * PLAN_PIECE_BYTES of it */
};

/* All that is large in arena `from` goes to arena `to`, at the same places. */
struct relocation {
  uint32_t from, to;
};

/* What a collection does. Arrays are reserved once for the worst case and populated by use; all hold source blocks,
 * arenas or entries, and forward[] says where each goes. */
struct plan {
  uint32_t *sources;     /* evacuated blocks, in the order they are packed */
  uint32_t *moves;       /* blocks relocated with their pages */
  uint32_t *fixes;       /* blocks that stay and hold references to be fixed */
  uint32_t *arenas;      /* arenas relocated in one piece */
  uint32_t *large_moves; /* large objects that move */
  struct relocation *large_arenas; /* arenas of large objects relocated in one piece: no pieces are listed for these */
  struct large_piece *pieces; /* of large objects that move, or stay and hold references; in the pause */
  struct dest *dests;
  uint32_t source_count, move_count, fix_count, arena_count, large_move_count, large_arena_count, piece_count,
      dest_count;
  uint32_t packing; /* source being packed */
  uint32_t chains[TEAM_CHAINS + 1]; /* `slide`: chain c fills dests [chains[c], chains[c + 1]), in this order */
  uint32_t move_chains[2 * TEAM_CHAINS + 1]; /* and chain c moves `moves` [move_chains[c], move_chains[c + 1]) */
  uint32_t chain_count, move_chain_count;
  uint32_t
      large_chains[3]; /* `slide`: chain c moves large_moves [large_chains[c], large_chains[c + 1]), in this order */
  uint32_t large_chain_count;
  bool summed; /* arenas that refer to none of `moving` need not be fixed; heap/summary.h */
  uint64_t moving[SUMMARY_BITS / 64];
  uint64_t blocks, large, piece_capacity; /* [const] */
};

gch_status plan_init(gch_heap *heap, struct plan **out, gch_error *error);
void plan_destroy(gch_heap *heap, struct plan *plan);
void plan_reset(struct plan *plan);
/* Lists a large object by its pieces. */
void plan_add_pieces(gch_heap *heap, struct plan *plan, uint32_t id);
/* How far an arena of plan.arenas goes. */
int64_t plan_arena_delta(const gch_heap *heap, uint32_t arena);
/* How many of plan.arenas, from index `from` on, can go in one call: neighbours that stay neighbours, and have memory in every
 * block; at least one, at most CALL_BYTES. World stopped. */
uint32_t plan_arena_run(const gch_heap *heap, const struct plan *plan, uint32_t from);

/* Fills `extents` of the lines of the sources from index `from` on (and clears `dest`); `map` says which objects live. Parallel. */
void evacuate_extents(gch_heap *heap, struct plan *plan, uint32_t from, const uint64_t *map);

/* Supplies an empty destination block for sources of one kind; 0: none left. */
typedef uintptr_t (*dest_source)(gch_heap *heap, void *context);

/* Packs sources [from, to) of the plan; returns how many of them were packed whole (all, unless `take` ran dry).
 * Sets forward[], needed[] of what it packed. */
uint32_t evacuate_pack(gch_heap *heap, struct plan *plan, uint32_t from, uint32_t to, const uint64_t *map,
                       dest_source take, void *context);

/* How a destination is filled. */
struct gather {
  gch_heap *heap;
  const struct plan *plan;
  const uint64_t *map; /* liveness of sources */
  uint64_t *born; /* map in which the destination's objects get their bits, or NULL */
  uint64_t *born_too; /* a second one, or NULL */
  uintptr_t source_delta; /* sources are read at address + delta */
  bool cards; /* mark cards of slots that refer to young objects */
  bool young_only; /* leave references to old objects alone: a major has planned, but not flipped */
};
/* Fills the memory at `into` (the destination itself, or a frame that will be published there). */
void evacuate_gather(const struct gather *gather, uint32_t dest, uintptr_t into);

/* Forwards the references of the live objects of block `block` in place, read at address + source_delta; they will
 * live at address + home (for cards). */
void fix_block(const struct gather *gather, size_t block, uintptr_t home);
/* The same for a block that relocates, where it is, and for all such blocks of an arena. */
void fix_relocating(const struct gather *gather, size_t block);
void fix_arena(const struct gather *gather, uint32_t arena);
/* The same for the part of large objects that lies in [from, to). */
void fix_large(const struct gather *gather, uintptr_t from, uintptr_t to, uintptr_t home);

#endif
