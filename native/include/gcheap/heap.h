/* Heaps as values: create, collect, destroy. Any number may live in a process. */
#ifndef GCHEAP_HEAP_H
#define GCHEAP_HEAP_H

#include "gcheap/options.h"
#include "gcheap/stats.h"
#include "gcheap/types.h"

/* Creates a heap: reserves address space, starts its threads. On failure *out is NULL and `error` (may be
 * NULL) says what was asked for and what stood in the way; nothing is left behind. Thread-safe. */
GCH_API gch_status gch_heap_create(const gch_config *config, gch_heap **out, gch_error *error);

/* Destroys a heap: threads, descriptors and mappings are gone afterwards. GCH_BAD_STATE while mutators are
 * attached or objects are pinned; the heap is then untouched. Waits: a safepoint of other heaps in which the thread is managed. */
GCH_API gch_status gch_heap_destroy(gch_heap *heap, gch_error *error);

/* Collects. May collect (of course), so the caller's references must be in roots. `report` (may be NULL)
 * receives the figures of the cycle. Returns GCH_OK even if less was done than asked for because memory was
 * short; the report says so. */
GCH_API gch_status gch_collect(gch_mutator *mutator, const gch_collect_options *options, gch_cycle *report);

/* Waits until no cycle is running. May collect. `report` (may be NULL) gets the last finished major cycle. */
GCH_API gch_status gch_collect_wait(gch_mutator *mutator, gch_cycle *report);

/* Figures of the heap so far. `bytes` is sizeof(gch_stats) of the caller. Thread-safe, any state. */
GCH_API void gch_stats_get(gch_heap *heap, gch_stats *out, size_t bytes);
/* The stalls of a mutator since it was attached. `bytes` is sizeof(gch_stalls) of the caller. Any thread, while it is. */
GCH_API void gch_stalls_get(const gch_mutator *mutator, gch_stalls *out, size_t bytes);

/* Adds fault-injection rules at run time (grammar: native/src/os/kernel_inject.c); "" clears them. For tests. */
GCH_API gch_status gch_inject(gch_heap *heap, const char *spec, gch_error *error);

#endif
