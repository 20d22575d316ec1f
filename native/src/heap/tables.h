/* Side tables: everything the collector knows about memory, kept outside it.
 *
 * Each table is one NORESERVE mapping indexed by (address - base) in its own unit, so looking something up is a
 * subtraction, a shift and a load, and an untouched part of the heap costs no memory. Who may write what is said
 * at the fields; [stw] means with the world stopped.
 *
 * Blocks:   FREE --take--> YOUNG (mutator's) or USED (old) or DEST (reserved by a plan) --publish--> USED
 *           YOUNG --minor--> FREE, or USED where it stands (pinned, or no room to promote)
 *           USED --cycle end--> FREE */
#ifndef HEAP_TABLES_H
#define HEAP_TABLES_H

#include <gcheap/types.h>
#include "base/atomic.h"
#include "heap/layout.h"

struct kernel;

enum block_state { BLOCK_FREE = 0, BLOCK_YOUNG, BLOCK_USED, BLOCK_DEST, BLOCK_LARGE };

/* In `pins` of a block: ambiguous roots lead to objects in it, which stay where they are as if they were pinned (gc/ambiguous.h). */
#define PINS_AMBIGUOUS ((uint16_t)0x8000)

struct block {
  uint8_t state;  /* [stw, or the space's lock] enum block_state */
  uint8_t leaf;   /* 1: holds objects without references */
  uint8_t age;    /* YOUNG: minor collections its objects have survived */
  uint8_t born;   /* taken since the mark of the running major: not in its plan, everything in it is live */
  uint16_t top;   /* granules in use, for blocks that nobody bumps into */
  uint16_t pins;  /* [atomic] pinned objects in it, and PINS_AMBIGUOUS */
  uint32_t live;  /* [stw, the space's lock; young: atomic while a minor marks] granules live by the last mark */
  uint32_t
      marked; /* [atomic while a major marks] the same, being counted; 0 outside a major. The sweep takes it over */
};
_Static_assert(sizeof(struct block) == 16, "one cache line for four blocks");

/* A huge arena in a move: as a destination it is made whole or by pieces (gc/produce_arena.c; in the pause, gc/compact.c:
 * how it gets its memory), as a source its page is given back once, when nobody reads it any more (gc/consume.c).
 *
 *   UNMADE --whole--> MAKING --> WHOLE             one thread makes all its units; others wait for them
 *   UNMADE --opened--> OPEN --last unit--> CLOSED  by pieces, each by whoever wants it; `left` counts them down
 *                 CLOSED --its memory is given back--> GIVEN
 *   UNMADE --nothing in it has to be made--> HOME  it has no units, and is mapped all the time; gc/arm.h
 *
 *   pending   sources in it that are still read, a large object once for each step in which it is; and itself while it is open
 *   fate      whether the page may be given away with its last source: not if something of it stays, or moves into it
 *
 * Whoever takes `pending` to 0 gives the page back: if nothing stays, or if the arena is CLOSED (by compare-and-swap to
 * GIVEN: the last source and the closer may both take it to 0) and had memory at the flip. An arena of which something stays
 * is made whole, which moves its page away, only while `pending` is 0. */
enum arena_made { ARENA_UNMADE = 0, ARENA_MAKING, ARENA_WHOLE, ARENA_OPEN, ARENA_HOME, ARENA_CLOSED, ARENA_GIVEN };
#define ARENA_NOWHERE UINT32_MAX
enum arena_kind { ARENA_NONE = 0, ARENA_REFS, ARENA_LEAF };
/* What the plan has found for a huge arena: nothing stays in it, but what lives is copied out; something of it stays, or moves
 * into it; large objects in it go with its page (nobody counts what is read of it). */
enum arena_fate { ARENA_EMPTIES = 0, ARENA_STAYS, ARENA_RELOCATES };

/* All zero: nothing in it, no memory. `used`, `populated` and `huge` mean the same in every space (a bit is a block):
 *
 *   used       its state is not FREE. Large: some page of it belongs to an object, or is reserved for one (`large.pages`).
 *   populated  all its pages are present. In a block whose bit is clear, and that is not being given memory
 *                (gc/reserve.h), present are
 *                of small objects, old or young: none, so what is used has its bit
 *                of large ones: those that belong to an object, so blocks have their bits all together, with `huge`, or not
 *   huge       its memory came in one piece, while huge pages were asked for, and goes so. Of large objects: no page of
 *              it is dropped before its last object, and what is born in it is cleared first.
 *
 * `huge` implies that something is populated. Only where the kernel has refused to take memory back (`undropped`) there may
 * be more than is said: pages where no bit is, and an arena of large objects that is `huge` without a bit, as its page went
 * elsewhere, but what took its place could not be dropped.
 *
 * Who writes: whoever holds the lock of the space, or the world. In a move, where nobody allocates meanwhile: `populated` and
 * `huge` of a destination who makes it, of a source who reads it last; `used` the driver, when all is moved. At rest all of
 * this holds; diag/verify.c looks whether it does. */
struct arena {
  uint32_t used;      /* [space's lock, or stw] */
  uint32_t populated; /* [space's lock, or stw; atomic, moving] */
  uint8_t kind; /* [atomic; space's lock, or stw] what its blocks hold, enum arena_kind */
  uint8_t huge; /* [space's lock, or stw; atomic, moving] */
  uint8_t fate; /* [the plan, stw] enum arena_fate; of one that stays, free blocks may be destinations */
  uint8_t cleared; /* [moving] its liveness has gone with its pages: no bit is set in it */
  uint32_t live; /* [the plan] granules live by the last mark */
  uint32_t pending; /* [atomic, moving] sources in it that are still read; it is given back with the last */
  uint32_t made; /* [atomic, moving] enum arena_made */
  uint32_t left; /* [atomic, moving] of an opened arena: units that are not MAPPED */
  uint32_t kept; /* [atomic, moving] bit a block: being emptied, but its memory could not be given back */
};
_Static_assert(sizeof(struct arena) == 32, "arenas are few");

/* For who may write them, see above. Statistics read them at any time. */
static inline void arena_set_populated(struct arena *arena, uint32_t blocks) {
  at_store_relaxed(&arena->populated, blocks); /* a sample */
}
static inline void arena_set_huge(struct arena *arena, bool huge) {
  at_store_relaxed(&arena->huge, (uint8_t)huge); /* a sample */
}

/* Where the live granules of a line go: those before granule g of it precede g's by a population count. */
struct line_forward {
  uint64_t extents; /* a bit a granule that live objects cover */
  uint64_t dest; /* new address of the first of them */
};

/* A cycle's answer for a block: an even number is the distance that its objects move (0: they stay);
 * FORWARD_EVACUATED: by line; FORWARD_LARGE: by object. */
enum { FORWARD_EVACUATED = 1, FORWARD_LARGE = 3 };

enum { TABLE_COUNT = 14, SUMMARY_BITS = 1024 };

struct tables {
  uint64_t *live; /* bit at the first granule of each object live by the last mark, or born since */
  uint64_t *mark; /* the same, being built; all zero outside a mark */
  uint8_t *cards; /* [mutators] 1: a reference was stored in these 512 bytes */
  uint8_t *dirty; /* [mutators] 1: some card of this arena is */
  struct block *blocks;
  struct arena *arenas;
  int64_t *forward; /* [stw, or the plan] a block; all zero outside a cycle */
  struct line_forward *lines; /* [the plan's workers] valid for evacuated blocks */
  uint32_t *dest; /* [the plan] of a destination block: index + 1 in plan.dests */
  uint16_t *needed; /* [atomic] of an evacuated block: destinations that still read it */
  uint8_t *units; /* [atomic] a block: enum unit_state, and who made it; heap/unit.h */
  uint64_t
      *summaries; /* [atomic while a major marks] SUMMARY_BITS an arena; all zero outside a major; heap/summary.h */
  uint8_t *anywhere; /* [atomic] an arena: 1 if its summary does not hold */
  uint32_t *large_ids; /* a page of the large spaces: index in the large table, 0: none */
  size_t bytes; /* address space of all tables together */
};

gch_status tables_init(struct tables *tables, const struct layout *layout, struct kernel *kernel, gch_error *error);
void tables_destroy(struct tables *tables, const struct layout *layout, struct kernel *kernel);
/* Arenas [first, end), with nothing in use in [first, limit). */
struct arena_range {
  size_t first, end, limit;
};
/* Gives back what tables hold for a range: whole pages only, pages shared with arenas outside [first, limit) excepted. */
void tables_drop(struct tables *tables, const struct layout *layout, struct kernel *kernel,
                 const struct arena_range *range);

static inline size_t granule_index(const struct layout *l, uintptr_t a) { return (a - l->base) >> GRANULE_SHIFT; }
static inline size_t block_index(const struct layout *l, uintptr_t a) { return (a - l->base) >> BLOCK_SHIFT; }
static inline size_t arena_index(const struct layout *l, uintptr_t a) { return (a - l->base) >> ARENA_SHIFT; }
static inline size_t card_index(const struct layout *l, uintptr_t a) { return (a - l->base) >> CARD_SHIFT; }
static inline uintptr_t block_address(const struct layout *l, size_t block) { return l->base + (block << BLOCK_SHIFT); }
static inline uintptr_t arena_address(const struct layout *l, size_t arena) { return l->base + (arena << ARENA_SHIFT); }

#endif
