/* Large objects: more than 8 KiB, on pages of their own, described outside the heap.
 *
 * An entry of the large table says where an object is, how long and of which type, so that a unit in the middle of
 * a large array can be fixed without reading the header, which lies in another unit. Every page of an object names
 * its entry (tables.large_ids). Pages are found by next fit in a bitmap of the region that allocation uses.
 *
 *   entry:  FREE --begin--> RESERVED --publish--> live --(major finds it unmarked)--> FREE      (birth: heap/large.c)
 *                              '--(its region was flipped)--> LOST --(end of the major)--> FREE
 *   a live entry also changes its length and its pages (gc/resize.c): `length` is what mutators see, and `bytes` may be more than
 *   it needs for a while, which the next major's sweep gives back (large_trim); never less
 *
 *   during a major's move an entry has two homes: `base` (where it is now) and `forward` (where it goes); the pages of
 *   both name it, and neither changes owner before the cycle ends, because destinations were free at the plan. */
#ifndef HEAP_LARGE_H
#define HEAP_LARGE_H

#include <gcheap/types.h>
#include "base/lock.h"
#include "heap/layout.h"

enum large_state { LARGE_NOT_IN_BIRTH = 0, LARGE_RESERVED, LARGE_LOST };

struct large {
  uintptr_t base;    /* [stw, lock] 0: free entry */
  union {
    uintptr_t forward; /* [cycle] where the plan puts it; base if it stays */
    uint64_t counted;  /* [lock] while it is RESERVED: how many of its bytes count as used */
  };
  uintptr_t planned; /* [cycle] where the plan wanted it: differs from `forward` if it was pinned since */
  uint64_t
      bytes; /* [lock, atomic] of the object, header and rounding included; the pages change at rest and while marking only,
                      or if `born`: whoever moves it sees the same pages at any time */
  uint64_t length; /* [lock or stw, atomic] elements of the tail; when it grows, published last */
  uint32_t type; /* [const] */
  uint32_t leaf; /* [const] */
  uint32_t next_free; /* [lock] */
  uint32_t born; /* [cycle] 1: since the mark of the running major */
  uint32_t birth; /* [lock] enum large_state: unless NOT_IN_BIRTH, `base` is 0, and the pages are at `planned` */
  uint32_t resizing; /* [lock] threads that change its length: who else finds it so leaves its pages alone */
};
_Static_assert(sizeof(struct large) == 64, "");

struct large_space {
  struct lock lock;
  struct large *entries; /* [const] reserved; index 0 unused */
  uint32_t capacity; /* [const] */
  uint32_t count; /* [lock] entries ever used, 0 included */
  uint32_t free_list; /* [lock] */
  uint64_t *pages; /* [lock, stw] bit a page of the span: belongs to an object or is reserved for one */
  uint64_t *closed; /* [lock, the plan] the same, and pages that no destination may use; all zero outside a plan */
  bool keeps; /* [lock] what is freed keeps its memory, for `slide` to fill: large_release_free is due */
  uint32_t alloc_region[2]; /* [stw, lock] by leaf */
  uint32_t lost; /* [lock] entries that are LARGE_LOST */
  uint32_t
      transfers; /* [lock: cycle; atomic to read] objects whose pages are on their way to a longer one: no major begins */
  uint32_t turns[2]; /* [stw] by leaf: how often allocation has turned to another region */
  uint64_t cursor[2]; /* [lock] page (of the span) at which the search goes on */
  uint32_t top[2][4]; /* [lock, stw] arenas in use, by leaf and region: none beyond */
};

gch_status large_init(gch_heap *heap, gch_error *error);
void large_destroy(gch_heap *heap);
/* An object that is being born: reserved, populated in steps, published. */
struct large_birth {
  const gch_type *type;
  uintptr_t start, next, end; /* populated up to `next` */
  uint64_t counted; /* of its bytes, so many count as used */
  uint32_t id, turn;
};
enum large_step { LARGE_MORE, LARGE_READY, LARGE_REFUSED };
struct large_wish {
  const gch_type *type;
  uint64_t length, bytes, room, counted;
};

/* Managed state, all of them. False: no room (limit, addresses, entries). */
bool large_begin(gch_heap *heap, struct large_birth *birth, const gch_type *type, uint64_t length, uint64_t bytes);
/* The same for one that may grow: where a run of `room` bytes is free, if there is, and others are not begun directly behind it as
 * long as there is room elsewhere. `counted`: of its bytes, so many count as used until it is published. */
bool large_begin_roomy(gch_heap *heap, struct large_birth *birth, const struct large_wish *wish);
/* The pages behind object `id`, up to `bytes` of it, are reserved as if for an object. False: they are not free, or no room within
 * the limit (`*full`). */
bool large_begin_behind(gch_heap *heap, struct large_birth *birth, uint32_t id, uint64_t bytes, bool *full);
/* When those are READY: they belong to the object, which has `length` elements from now on. False: it has moved, or its region
 * is none any more in which pages are added; to be given up. */
bool large_absorb(gch_heap *heap, struct large_birth *birth, uint32_t id, uint64_t length);
/* May pages be added to the object, or taken from it, where it is? Lock held. */
bool large_may_change(const gch_heap *heap, const struct large *e);
/* The object keeps the pages that `bytes` of it need. Lock held. */
void large_cut(gch_heap *heap, uint32_t id, uint64_t bytes);
/* Pages of an object that its length does not need are given back. Lock held, nothing is planned. Bytes released. */
uint64_t large_trim(gch_heap *heap, uint32_t id);
/* Makes the next of its pages present and zero. REFUSED: no memory; to be given up. */
enum large_step large_populate(gch_heap *heap, struct large_birth *birth);
/* After a poll: may it go on where it is? Else it is to be given up. */
bool large_lasts(const gch_heap *heap, const struct large_birth *birth);
void large_give_up(gch_heap *heap, struct large_birth *birth);
/* When it is READY: writes the header; it is an object from now on. */
uintptr_t large_publish(gch_heap *heap, const struct large_birth *birth);
/* When a cycle has ended: gives back what was lost while it moved. */
void large_drop_lost(gch_heap *heap);
/* In the child of fork(): gives back what other threads had begun. */
void large_forget_births(gch_heap *heap);
/* All of that without a poll: a zeroed large object, or 0: no room (limit or memory). Managed state; never collects. */
uintptr_t large_alloc(gch_heap *heap, const gch_type *type, uint64_t length, uint64_t bytes);
/* Reserves `pages` consecutive free pages of a region, the next from the cursor on; 0: none. Nothing is populated.
 * `planned`: a destination, of pages that are not closed. */
uintptr_t large_reserve(gch_heap *heap, uint32_t region, uint64_t pages, uint64_t *cursor, bool planned);
/* Gives an object's pages back (memory too) and frees its entry. World stopped or cycle end. Bytes released. */
uint64_t large_free(gch_heap *heap, uint32_t id);
/* Frees a page range that an object has left, and gives back what memory is there. Bytes released: of small pages only if all
 * of them were there (`whole`). */
uint64_t large_vacate(gch_heap *heap, uintptr_t start, uint64_t bytes, bool whole);
/* The same in three steps, for `slide`, whose destinations overlap sources. World stopped.
 * The pages of [start, start + bytes) belong to nobody; nothing else changes. */
void large_leave(gch_heap *heap, uintptr_t start, uint64_t bytes);
/* The object is where its entry forwards to: the pages there are its own. */
void large_settle(gch_heap *heap, uint32_t id);
/* The memory of the free pages of an arena is given back, run by run, unless it is a huge page. Lock held. Bytes released. */
uint64_t large_release_arena(gch_heap *heap, size_t arena);
/* The memory of all free pages of the large spaces is given back. Bytes released. */
uint64_t large_release_free(gch_heap *heap);
/* Pages of the arena that belong to no object are free, though they were reserved. Lock held, or world stopped. */
void large_free_holes(gch_heap *heap, size_t arena);
/* Makes the pages of [start, start + bytes) name entry `id`, and their blocks BLOCK_LARGE. */
void large_claim(gch_heap *heap, uintptr_t start, uint64_t bytes, uint32_t id, bool leaf);

/* The entry of the large object at `a`. */
uint32_t large_id(const gch_heap *heap, uintptr_t a);
/* Bytes of a large object of this type with `length` elements, header and rounding included. */
uint64_t large_bytes_of(const gch_heap *heap, const struct large *e, uint64_t length);

#endif
