/* A mutator beside a compaction: a C thread that goes on using a loaded graph while the heap is collected.
 *
 * Operation i takes entry i (modulo their number) of a schedule that numpy made: start at an element of the table,
 * follow `steps` references (which slot: a byte of `turns` each), adding the label of each object visited to a
 * checksum. Every `store_every`-th operation swaps two references of the last object, every `alloc_every`-th
 * allocates an object that nobody keeps. All of it is a function of schedule and graph: beside_replay does the same
 * to CSR arrays, and heap and arrays must agree afterwards.
 */
#ifndef WORKLOADS_BESIDE_H
#define WORKLOADS_BESIDE_H

#ifndef GCHEAP_CDEF
#include <gcheap/gcheap.h>
#endif
#include "workloads/stamps.h"

typedef struct beside beside;

/* Arrays belong to the caller and must outlive the run. */
typedef struct beside_config {
  gch_handle table;
  const gch_type *garbage;  /* type with a byte tail */
  uint64_t garbage_bytes;
  const uint32_t *starts;   /* elements of the table */
  const uint64_t *turns;
  uint64_t schedule;        /* entries in both */
  uint64_t max_ops;         /* 0: until stopped */
  uint32_t steps;           /* at most 8 */
  uint32_t store_every;     /* 0: never */
  uint32_t alloc_every;     /* 0: never */
  stamps_config stamps;
} beside_config;

typedef struct beside_result {
  stamps_result stamps;
  uint64_t steps, stores, allocs;
  uint64_t checksum;
  uint64_t failed_allocs;
} beside_result;

/* The graph as arrays, for a replay; `indices` is changed. */
typedef struct beside_shadow {
  const int64_t *table;     /* node of each element, -1: null */
  const uint64_t *sizes;
  const int64_t *indptr;
  int64_t *indices;
  const int64_t *labels;    /* NULL: node i has label i */
} beside_shadow;

/* Starts the thread; returns when it is attached. */
int beside_start(gch_heap *heap, const beside_config *config, beside **out, gch_error *error);
/* Operations done so far. Any thread. */
uint64_t beside_ops(const beside *run);
/* Asks the thread to end (`now`), or waits for max_ops; frees the run. */
void beside_finish(beside *run, bool now, beside_result *out);
/* Does the first `ops` operations to arrays; only ops, steps, stores and checksum of the result are filled in. */
void beside_replay(const beside_config *config, const beside_shadow *shadow, uint64_t ops, beside_result *out);

#endif
