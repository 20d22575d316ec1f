/* Frames: populated memory that is mapped nowhere in the heap, in blocks.
 *
 * An evacuated destination is filled in a frame and published by moving the frame's pages, which leaves a hole where
 * the frame was; a source block whose last reader is done becomes a frame where it stands. So memory circulates and
 * nothing is allocated while moving: the pool starts with what the FRAMES region holds and lives on what the sources
 * give back. Beyond the staging budget what is given back is dropped (its memory returned). A drop interrupts every CPU that
 * runs the process, so it is best made by nobody for whom a program waits: beside mutators, where pages are small, workers keep
 * some room in the pool (`slack`), dropping when they hold no unit (frames_trim).
 *
 * Frames are taken and given in runs of neighbouring blocks, because a run is published in one call: with a second CPU
 * busy in the process, a call pays one TLB shootdown, which costs as much as moving a hundred pages.
 *
 *   home slot (FRAMES region)   EMPTY --take: populated--> TAKEN --done, published--> EMPTY
 *                                                           |  done, not published
 *                                                           v
 *                                                         READY --take--> TAKEN; beyond HOME_KEPT dropped when a cycle ends
 *   source block                consumed --give--> pooled --take--> TAKEN --done, published--> (its place is empty)
 *
 * `extra` is what a move has put behind the heap beyond what was resident at the flip (I4): memory populated for frames,
 * copied to destinations and filled in place, less consumed sources dropped. Workers take destinations in order, so their
 * sources empty as they go; faults take them in any order, and each may leave its sources half read. Who makes a unit for a
 * fault, and finds `extra` at the budget, first makes units in order until it is not (gc/produce_arena.c).
 *
 * Contents of a frame are undefined. Thread-safe (one lock, a few instructions; memory is populated and dropped outside it); never
 * blocks on a pause. */
#ifndef HEAP_FRAMES_H
#define HEAP_FRAMES_H

#include <gcheap/types.h>
#include "base/atomic.h"
#include "base/lock.h"

struct frame_run {
  uintptr_t start;
  uint32_t blocks;
};

struct frames {
  struct lock lock;
  uintptr_t start;        /* [const] of the FRAMES region */
  uint32_t slots;         /* [const] blocks in it: the staging budget */
  uint32_t reserve;       /* [const] of them kept for faulting threads (I3) */
  uint64_t *free;         /* [lock] bit a home slot: nobody has taken it */
  uint32_t free_count;    /* [lock] */
  uint64_t *held;         /* [lock] bit a home slot: it has memory */
  struct frame_run *runs; /* [lock] consumed blocks, warmest last */
  uint32_t run_count;     /* [lock] */
  uint32_t pooled;        /* [atomic, written under lock] blocks in the runs, at most `slots` */
  uint32_t slack;         /* [const] blocks */
  uintptr_t arenas[16];   /* [lock] consumed huge arenas */
  uint32_t arena_count;   /* [lock] */
  uint32_t arena_limit;   /* [const] */
  uint32_t
      arena_slots;   /* [const] arenas at the start of the FRAMES region that serve as frames of 2 MiB (huge heaps) */
  uint32_t arena_taken;   /* [lock] bit a slot: in use */
  uint32_t arena_held;    /* [lock] bit a slot: it has memory */
  int64_t extra;          /* [atomic, moving] bytes */
};

gch_status frames_init(gch_heap *heap, gch_error *error);
void frames_destroy(gch_heap *heap);
/* At most `want` neighbouring frames, from *start on; 0 (and *start is 0) if the budget is used up and nothing was given back, or the
 * kernel has no memory. `must`: may use the reserve, and takes no refusal of the kernel. */
uint32_t frames_take(gch_heap *heap, uint32_t want, bool must, uintptr_t *start);
/* Frames whose pages were moved away (`published`), or that are to be used again. */
void frames_done(gch_heap *heap, uintptr_t start, uint32_t blocks, bool published);
/* Consumed source blocks join the pool; returns how many there was room for, from the first on. */
uint32_t frames_give(gch_heap *heap, uintptr_t start, uint32_t blocks);
/* Less than half of the slack is left. A hint. */
static inline bool frames_want_trim(const struct frames *f) {
  return at_load_relaxed(&f->pooled) > f->slots - f->slack / 2;
}
/* Drops pooled blocks until there is room for `slack` more; returns bytes released. */
uint64_t frames_trim(gch_heap *heap);
/* At most `want` neighbouring consumed blocks given back before, or 0; nothing is populated for it. */
uint32_t frames_reuse(gch_heap *heap, uint32_t want, uintptr_t *start);
/* A consumed huge arena given back before, or 0. */
uintptr_t frames_reuse_arena(gch_heap *heap);
/* A frame of a whole arena, populated: a consumed one, or one of staging; 0: the budget is used up. */
uintptr_t frames_take_arena(gch_heap *heap);
void frames_done_arena(gch_heap *heap, uintptr_t frame, bool published);
/* The same pool for whole huge arenas. False: full. */
bool frames_give_arena(gch_heap *heap, uintptr_t arena);
/* Bytes more (or less) than were resident at the flip; is the staging budget used up by them? */
void frames_add_extra(gch_heap *heap, int64_t bytes);
bool frames_spent(const gch_heap *heap);
/* Memory of home slots. */
uint64_t frames_bytes(gch_heap *heap);
/* Memory that nobody has taken goes, but for a little; returns bytes of consumed sources released. What the kernel will not
 * take is no frame any more, unless its home is here, and is populated when its block is freed. */
uint64_t frames_settle(gch_heap *heap);
/* At rest: the little as well; returns how much. Where pages are huge it stays. */
uint64_t frames_release_idle(gch_heap *heap);

#endif
