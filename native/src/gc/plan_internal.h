/* What plan.c (the frame, small spaces) and plan_large.c share. */
#ifndef GC_PLAN_INTERNAL_H
#define GC_PLAN_INTERNAL_H

#include "gc/plan.h"

enum { DENSITY_STEPS = 64 };

/* Where destinations come from: the free blocks of one arena after the other. */
struct outlet {
  uint32_t next;  /* arena to look at next */
  uint32_t end;
  uint32_t arena; /* being filled */
  uint32_t mask;  /* its blocks that are left */
  bool whole;     /* take arenas only that were empty */
};

struct planner {
  gch_heap *heap;
  struct plan *plan;
  struct plan_options options;
  enum space_id space;
  bool leaf;
  uint32_t target;    /* region */
  uint32_t threshold; /* units of this density (in 64ths) or less are evacuated */
  struct outlet moves, dests;
  uint64_t density[DENSITY_STEPS + 1];
  uint64_t region_live[REGION_MAX]; /* granules */
  uint64_t live;                    /* granules */
};

static inline uint32_t plan_density(uint64_t live, uint64_t capacity) {
  return (uint32_t)div_ceil(live * DENSITY_STEPS, capacity);
}

/* Calls fn for every used arena that may hold blocks of the space; kept young blocks belong to it. */
void plan_each_arena(struct planner *p, void (*fn)(struct planner *p, uint32_t region, uint32_t arena));

/* Plans one of the large spaces; under their lock. */
void plan_large(struct planner *p);

#endif
