/* Shared by the loops: one running loop, random numbers. */
#ifndef WORKLOADS_LOOPS_INTERNAL_H
#define WORKLOADS_LOOPS_INTERNAL_H

#include "workloads/loops.h"
#include "workloads/runner_internal.h"

struct loop {
  struct runner runner; /* the first two roots are those of the configuration */
  loop_config config;
  loop_result result; /* but for the stamps */
  uint64_t random;
  const gch_type *types[3];
  uint64_t lengths[2]; /* elements of the first two */
};

static inline uint64_t random_next(uint64_t *state) {
  uint64_t x = *state;
  x ^= x << 13, x ^= x >> 7, x ^= x << 17;
  *state = x;
  return x * 0x2545f4914f6cdd1du;
}

static inline uint64_t random_seed(uint64_t seed) { return (seed + 1) * 0x9e3779b97f4a7c15u; }

/* 0 to n - 1. */
static inline uint64_t random_below(uint64_t *state, uint64_t n) {
  return (uint64_t)((unsigned __int128)random_next(state) * n >> 64);
}

static inline gch_ref array_at(gch_ref array, uint64_t i) { return gch_load(array, REFS_OFFSET + 8 * (size_t)i); }
static inline void array_put(gch_mutator *m, gch_ref array, uint64_t i, gch_ref value) {
  gch_set(m, array, REFS_OFFSET + 8 * (size_t)i, value);
}
static inline uint64_t *word_at(gch_ref object, size_t offset) { return (uint64_t *)(void *)gch_slot(object, offset); }

/* Puts the references of the configuration into the roots. */
gch_status loop_begin(struct runner *runner);

extern const struct workload walk_workload, cache_workload;

#endif
