/* Frames: populated memory that is mapped nowhere in the heap, one block each.
 *
 * An evacuated destination is filled in a frame and published by moving the frame's pages, which leaves a hole
 * where the frame was; a source block whose last reader is done becomes a frame where it stands. So memory
 * circulates and nothing is allocated while moving: the pool starts with what the FRAMES region holds and lives on
 * what the sources give back. Beyond the staging budget a frame given back is dropped (its memory returned).
 *
 *   FRAMES slot:  EMPTY --populate--> frame --take/publish--> EMPTY        source block: consumed --give--> frame
 *
 * Contents of a frame are undefined. Thread-safe (one lock, a few instructions); never blocks on a pause. */
#ifndef HEAP_FRAMES_H
#define HEAP_FRAMES_H

#include <gcheap/types.h>
#include "base/lock.h"

struct frames {
  struct lock lock;
  uintptr_t start;      /* [const] of the FRAMES region */
  uint32_t slots;       /* [const] blocks in it: the staging budget */
  uint32_t reserve;     /* [const] of them kept for faulting threads (I3) */
  uint32_t taken;       /* [lock] frames out there being filled */
  uint32_t count;       /* [lock] frames in the stack */
  uint32_t capacity;    /* [const] of the stack */
  uintptr_t *stack;     /* [lock] frames ready to be taken, warmest last */
  uintptr_t arenas[16]; /* [lock] consumed huge arenas */
  uint32_t arena_count; /* [lock] */
  uint32_t arena_limit; /* [const] */
  uint32_t
      arena_slots; /* [const] arenas at the start of the FRAMES region that serve as frames of 2 MiB (huge heaps) */
  uint32_t arena_taken; /* [lock] bit a slot: in use */
  uint64_t *empty;      /* [lock] bit a slot: unpopulated */
};

gch_status frames_init(gch_heap *heap, gch_error *error);
void frames_destroy(gch_heap *heap);
/* A frame, or 0 if the budget is used up and nothing was given back, or the kernel has no memory. `must`: may use the
 * reserve, and takes no refusal of the kernel. */
uintptr_t frames_take(gch_heap *heap, bool must);
/* The frame's pages were moved away (`published`), or it is to be used again. */
void frames_done(gch_heap *heap, uintptr_t frame, bool published);
/* A consumed source block joins the pool; false: the pool is full, the caller drops it. */
bool frames_give(gch_heap *heap, uintptr_t block);
/* A consumed block (or, `arena`, a consumed huge arena) given back before, or 0; nothing is populated for it. */
uintptr_t frames_reuse(gch_heap *heap, bool arena);
/* A frame of a whole arena, populated: a consumed one, or one of staging; 0: the budget is used up. */
uintptr_t frames_take_arena(gch_heap *heap);
void frames_done_arena(gch_heap *heap, uintptr_t frame, bool published);
/* The same pool for whole huge arenas. False: full. */
bool frames_give_arena(gch_heap *heap, uintptr_t arena);
/* End of a cycle: frames outside the FRAMES region are dropped or moved home; returns bytes released. */
uint64_t frames_settle(gch_heap *heap);

#endif
