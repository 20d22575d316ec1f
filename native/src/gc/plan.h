/* The plan of a major collection: what stays, relocates, is evacuated or freed, and where to.
 *
 * Pure: a function of liveness tables, decided before anything moves; no heap memory is touched and nothing but tables
 * is written. Destinations are blocks (arenas, pages of large regions) that were free, reserved here.
 *
 *   density threshold   the least density t (in 64ths) such that, with everything sparser than t evacuated, what is
 *                       left occupies at most WASTE_PERCENT more than the live bytes. Where pages are small the unit
 *                       of density is the block, where arenas are huge the arena (taking a block out of a huge page costs
 *                       255 us, copying it 5).
 *   target region       destinations lie in one region of the space; with policy `needed`, blocks already there and
 *                       dense stay, and the fullest is chosen; else the emptiest. What lies in other regions moves, so
 *                       that they become spare.
 *   policy              needed: dense ones stay where they can; all: dense ones relocate with their pages, to arenas
 *                       that were empty; release: nothing moves.
 *
 * What does not find a destination stays: a plan that runs out of room does less, it never fails. */
#ifndef GC_PLAN_H
#define GC_PLAN_H

#include "gc/evacuate.h"

enum { PLAN_WASTE_PERCENT = 6, PLAN_WORTH_PERCENT = 10 };

struct plan_options {
  gch_policy policy;
  bool flips;         /* moves concurrently: destinations avoid the regions that allocation uses */
  const uint64_t *map; /* liveness: the map just built */
};

/* Fills `plan` (reset here), forward[], needed[], dest[], entries' forward. */
void plan_major(gch_heap *heap, struct plan *plan, const struct plan_options *options);

/* Before the mark, world stopped: will markers keep rows of references (heap/summary.h)? */
void plan_summaries(gch_heap *heap, gch_policy policy);

/* Would moving win back enough to pay for a flip, in which every live reference is fixed? By what a mark that is complete, or nearly,
 * has counted in small blocks: more than WORTH_PERCENT of what lives, beyond the waste that a plan allows, and some MiB. */
bool plan_is_worth_it(gch_heap *heap);

/* The end of a relocation of large objects, made or not: what was reserved around them is free again. */
void plan_release_relocation(gch_heap *heap, const struct relocation *relocation);

/* The density threshold for a histogram of units: count[d] units of density d / 64, d in 0..64. Pure; for tests. */
uint32_t plan_threshold(const uint64_t count[65]);

#endif
