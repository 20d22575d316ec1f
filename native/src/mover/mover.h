/* Movers: what puts finished pages at an address.
 *
 * `publish` makes the pages of [src, src + bytes) appear at [dst, dst + bytes), whole pages, and leaves the source
 * without memory: by moving them (`move`), by UFFDIO_COPY and dropping the source (`copy`), by memcpy into memory of
 * the destination (the baselines, `simulated`). The caller owns both ranges (a unit that is BUSY, or the world is
 * stopped), every reference in them is forwarded, and the destination is empty. publish never fails: each refusal of
 * the kernel has its answer (docs/uffd-move.md), the last one being a copy; what was done is counted.
 *
 * `supply` puts memory of undefined contents behind an empty destination block or arena before it is filled in a
 * pause: recycled from `frame` (a consumed source; its pages move) where the mover can, else fresh. */
#ifndef MOVER_MOVER_H
#define MOVER_MOVER_H

#include "heap/heap.h"

struct mover_ops {
  gch_mover id;
  bool promotes_pages; /* handing pages over is cheaper than copying objects */
  bool slides;          /* destinations are blocks emptied just before (gc/plan.c) */
  bool recycles;       /* supply can use a consumed source's pages */
  bool fixes_at_source; /* relocated blocks are fixed where they are, then published; else copied, then fixed */
  bool concurrent;      /* can arm: has all that follows `drop` */
  bool signals;         /* a touch of armed memory is SIGSEGV, whatever the fault mode */
  bool fill_in_place;   /* a missing destination can be filled where it is, through its shadow */
  gch_status (*open)(gch_heap *heap, gch_error *error);
  void (*close)(gch_heap *heap);
  /* In the child of fork(): descriptors and memory of its own (NULL: nothing is shared). `parent_waits`: the parent touches no
   * heap memory until this has returned. */
  gch_status (*inherit)(gch_heap *heap, bool parent_waits, gch_error *error);
  void (*publish)(gch_heap *heap, uintptr_t dst, uintptr_t src, uint64_t bytes);
  bool (*supply)(gch_heap *heap, uintptr_t dst, uint64_t bytes, uintptr_t frame);
  int (*drop)(gch_heap *heap, uintptr_t start, uint64_t bytes); /* gives the memory of heap pages back */
  /* Beside mutators: makes a region ready to flip, or leaf destinations in it missing; and back. */
  void (*prepare)(gch_heap *heap, uint32_t region);
  void (*arm_dests)(gch_heap *heap, uint32_t region);
  void (*disarm)(gch_heap *heap, uint32_t region);
  /* In the pause: the region's pages go to its shadow, and are missing from now on. */
  void (*flip)(gch_heap *heap, uint32_t region);
  /* Everything is published: nothing is missing any more, the first `used` bytes of the shadow are emptied. */
  void (*unflip)(gch_heap *heap, uint32_t region, uint64_t used);
  /* publish into a missing destination; wakes who waits for it. */
  void (*publish_armed)(gch_heap *heap, uintptr_t dst, uintptr_t src, uint64_t bytes);
};

extern const struct mover_ops mover_move, mover_copy, mover_simulated, mover_memcpy, mover_slide;

/* Chooses and opens the mover asked for (or the best there is) and notes the reason. */
gch_status mover_choose(gch_heap *heap, gch_error *error);
void mover_close(gch_heap *heap);

static inline void mover_publish(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  h->mover->publish(h, dst, src, bytes);
}

/* Drops the memory of a consumed range, and counts it. */
void mover_release(gch_heap *heap, uintptr_t start, uint64_t bytes);
/* Drops private memory (`drop` of most movers). */
int mover_drop_private(gch_heap *heap, uintptr_t start, uint64_t bytes);

/* Counts of the running cycle. */
void mover_count_moved(gch_heap *heap, uint64_t pages, uint64_t arenas);
void mover_count_copied(gch_heap *heap, uint64_t bytes);
void mover_refused(gch_heap *heap, gch_refusal refusal, uintptr_t at, uint64_t bytes);

#endif
