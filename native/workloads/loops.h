/* Mutators for measuring collections: C threads with random numbers of their own, each of which stamps its progress.
 *
 *   walk      a step from object to object at random, through all that lives. walk_build makes the graph.
 *   cache     a cache of a fixed number of entries, keys by popularity: a hit reads entry, record and text; a miss makes a new
 *             entry and evicts the least recently used of a few drawn at random. cache_build makes and fills it.
 *   control   the same clock without a heap: what the machine does to a thread that wants nothing of anybody.
 *
 * An operation is `steps` steps or look-ups. */
#ifndef WORKLOADS_LOOPS_H
#define WORKLOADS_LOOPS_H

#ifndef GCHEAP_CDEF
#include <gcheap/gcheap.h>
#endif
#include "workloads/stamps.h"

typedef enum loop_kind { LOOP_WALK, LOOP_CACHE, LOOP_CONTROL } loop_kind;

enum { LOOP_QUANTILES = 65536 };

/* A graph of nodes of 64 bytes with three references: a ring through what stays of a cluster, in order of addresses, and two drawn
 * at random. Clusters are neighbours in memory. */
typedef struct walk_shape {
  uint64_t nodes;      /* before some are let go */
  uint64_t cluster;    /* nodes in one, the last has what is left */
  uint64_t thin_every; /* the last of so many clusters is thinned out; 0: none */
  uint64_t keep_every; /* there the first of so many nodes stays */
  uint64_t across;     /* of 65,536 random references so many lead anywhere, the others into their own cluster */
  uint64_t seed;
} walk_shape;

/* Arrays belong to the caller and must outlive the run. */
typedef struct loop_config {
  loop_kind kind;
  gch_handle first, second; /* walk: the array that walk_build made; cache: the two of cache_build */
  uint64_t keys;            /* cache: how many there are */
  const uint64_t *ranks; /* cache: LOOP_QUANTILES + 1, ascending: share i of the look-ups is for ranks below ranks[i] */
  uint64_t seed;
  uint32_t steps;
  uint32_t store_every; /* walk: every so many operations two references of an object change places; 0: never */
  uint32_t alloc_every; /* walk: an object is allocated and dropped; 0: never */
  int32_t cpu; /* the only one that the thread runs on; -1: any */
  stamps_config stamps;
} loop_config;

typedef struct loop_result {
  stamps_result stamps;
  uint64_t stores, allocs, misses;
  uint64_t checksum;
  uint64_t failed_allocs; /* the first one ends a cache */
} loop_result;

typedef struct loop loop;

/* In native state, like bulk.h. *heads: an array of type `refs` that lists the first node of each cluster, and keeps all that stays
 * alive; *live: how many nodes that are. */
int walk_build(gch_mutator *mutator, const walk_shape *shape, const gch_type *refs, gch_handle *heads, uint64_t *live);
/* GCH_CORRUPT: a ring is not as it was made. *nodes: how many were met. Nothing walks meanwhile. */
int walk_check(gch_mutator *mutator, gch_handle heads, const walk_shape *shape, uint64_t *nodes);

/* Entries for the `entries` most popular of `keys` keys; *by_key lists them by key, *by_entry as they are. */
int cache_build(gch_mutator *mutator, uint64_t entries, uint64_t keys, const gch_type *refs, gch_handle *by_key,
                gch_handle *by_entry);
/* So many misses of keys drawn at random, one after the other: garbage, as quickly as it can be made. Nothing else uses it. */
int cache_churn(gch_mutator *mutator, gch_handle by_key, gch_handle by_entry, uint64_t keys, uint64_t misses,
                uint64_t seed);
/* GCH_CORRUPT: the arrays differ, or an entry holds what belongs to another key. *entries: how many there are. */
int cache_check(gch_mutator *mutator, gch_handle by_key, gch_handle by_entry, uint64_t *entries);

/* Starts the thread; returns when it is attached. `heap` NULL: control only. */
int loop_start(gch_heap *heap, const loop_config *config, loop **out, gch_error *error);
/* Operations done so far. Any thread. */
uint64_t loop_ops(const loop *run);
/* Asks the thread to end (`now`), or waits until it has; frees the run. */
void loop_finish(loop *run, bool now, loop_result *out);

#endif
