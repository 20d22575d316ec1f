/* Movers: what puts finished pages at an address.
 *
 * `publish` makes the pages of [src, src + bytes) appear at [dst, dst + bytes), whole pages, and leaves the source
 * without memory: by moving them (`move`), by UFFDIO_COPY and dropping the source (`copy`), by memcpy into memory of
 * the destination (the baselines, `simulated`). The caller owns both ranges (a unit that is BUSY, or the world is
 * stopped), every reference in them is forwarded, and the destination is empty. publish never fails: each refusal of
 * the kernel has its answer (docs/uffd-move.md), the last one being memcpy into the destination. That is not for armed
 * destinations, of which nothing may be seen before all of it is there (I2): `publish_armed` tries again until the kernel
 * does it, as a page fault waits for memory. What was done is counted.
 *
 * `supply` puts memory of undefined contents behind an empty destination block or arena before it is filled in a
 * pause: recycled from `frame` (a consumed source; its pages move) where the mover can, else fresh. */
#ifndef MOVER_MOVER_H
#define MOVER_MOVER_H

#include "heap/heap.h"

/* How a region that a flip or a leaf destination needs is registered; see mover/region.c. */
enum region_registration {
  REGION_QUIET,   /* serves allocation and publishing; no fault */
  REGION_READY,   /* not registered: to be flipped, or the kernel would not register it */
  REGION_MISSING, /* in a cycle: what is not mapped faults, and a unit answers */
  REGION_PARKED,  /* the fault descriptor could not be left: quiet under that one */
  REGION_STUCK,   /* not even that: still raises faults, but nothing in it is armed */
};

struct mover_ops {
  gch_mover id;
  /* publish hands pages over: arenas are promoted and relocated whole, supply recycles the pages of consumed sources, and in a
   * pause pages move last (gc/compact.c). */
  bool moves_pages;
  bool slides;          /* destinations are blocks emptied just before (gc/plan.c) */
  bool fixes_at_source; /* relocated blocks are fixed where they are, then published; else copied, then fixed */
  bool concurrent;      /* can arm: has all that follows `drop` */
  bool signals;         /* a touch of armed memory is SIGSEGV, whatever the fault mode */
  bool fill_in_place;   /* a missing destination can be filled where it is, through its shadow */
  uint64_t range_calls; /* UABI_RANGE_*: what a range that is registered must accept */
  gch_status (*open)(gch_heap *heap, gch_error *error);
  void (*close)(gch_heap *heap);
  /* In the child of fork(): descriptors and memory of its own (NULL: nothing is shared). `parent_waits`: the parent touches no
   * heap memory until this has returned. */
  gch_status (*inherit)(gch_heap *heap, bool parent_waits, gch_error *error);
  void (*publish)(gch_heap *heap, uintptr_t dst, uintptr_t src, uint64_t bytes);
  bool (*supply)(gch_heap *heap, uintptr_t dst, uint64_t bytes, uintptr_t frame);
  int (*drop)(gch_heap *heap, uintptr_t start, uint64_t bytes); /* gives the memory of heap pages back */
  /* Beside mutators: makes a region ready to flip, or leaf destinations in it missing. False: the kernel refused. */
  bool (*prepare)(gch_heap *heap, uint32_t region);
  bool (*arm_dests)(gch_heap *heap, uint32_t region);
  /* Undoes what is left of either, as far as the kernel lets it: nothing is missing afterwards in what a program can reach.
   * Called again at the beginning of the next cycle if it did not get to the end (mover_settle). */
  void (*disarm)(gch_heap *heap, uint32_t region);
  /* In the pause: the region's pages go to its shadow, and are missing from now on. False: the kernel refused, the pages are
   * where they were. */
  bool (*flip)(gch_heap *heap, uint32_t region);
  /* In the same pause: back again, everything mapped. Never fails. */
  void (*unflip_pause)(gch_heap *heap, uint32_t region);
  /* Keeps the shadow from being touched (NULL: nothing does); in the pause, when all regions are flipped, or before, while it is empty.
   * False: the kernel refused. */
  bool (*guard)(gch_heap *heap, uint32_t region);
  /* In the pause: the pages of one arena of a region that is missing (arm_dests) go to the shadow, which is guarded. Returns how many
   * bytes went: not all where there is no memory for what had to be copied. NULL: regions are flipped whole. */
  uint64_t (*flip_arena)(gch_heap *heap, uintptr_t arena);
  /* Everything is published: nothing is missing any more, the first `used` bytes of the shadow are emptied. */
  void (*unflip)(gch_heap *heap, uint32_t region, uint64_t used);
  /* publish into a missing destination; wakes who waits for it. */
  void (*publish_armed)(gch_heap *heap, uintptr_t dst, uintptr_t src, uint64_t bytes);
};

extern const struct mover_ops mover_move, mover_copy, mover_simulated, mover_memcpy, mover_slide;

/* Chooses and opens the mover asked for (or the best there is, and that can be opened) and notes the reason. */
gch_status mover_choose(gch_heap *heap, gch_error *error);
void mover_close(gch_heap *heap);

static inline void mover_publish(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  h->mover->publish(h, dst, src, bytes);
}

/* Drops the memory of a consumed range, and counts it. False: what the kernel will not take stays, and the tables say so. */
bool mover_release(gch_heap *heap, uintptr_t start, uint64_t bytes);
/* Before a cycle: regions that the kernel would not let go at the end of an earlier one are tried again. */
void mover_settle(gch_heap *heap);
static inline enum region_registration region_registered(const gch_heap *h, uint32_t region) {
  return (enum region_registration)at_load(&h->registration[region]);
}
/* Drops private memory (`drop` of most movers). */
int mover_drop_private(gch_heap *heap, uintptr_t start, uint64_t bytes);

/* Counts of the running cycle. */
void mover_count_moved(gch_heap *heap, uint64_t pages, uint64_t arenas);
void mover_count_copied(gch_heap *heap, uint64_t bytes);
void mover_refused(gch_heap *heap, gch_refusal refusal, uintptr_t at, uint64_t bytes);
/* The refusal that a negative errno is counted as. */
gch_refusal mover_refusal(int error);

/* A call that is tried until the kernel does it: {0} before the first refusal. */
struct waiting {
  uint64_t since, told; /* ns, 0: not yet */
  uint64_t sleep_ns;
};
/* Packs a call and the unit of its address as events WATCHDOG have them. */
static inline uint64_t mover_call_at(const gch_heap *h, uint32_t call, uintptr_t at) {
  uint64_t unit = heap_contains(h, at) ? block_index(&h->layout, at) : UINT32_MAX;
  return unit << 32 | call;
}
/* Counts the refusal, gives unused frames back the first time, sleeps (at most a millisecond), and tells of it (an event
 * WATCHDOG) every two seconds. Any thread, a signal handler too; no lock held but the unit's. */
void mover_wait(gch_heap *heap, struct waiting *waiting, enum kernel_call call, uintptr_t at, int error);

#endif
