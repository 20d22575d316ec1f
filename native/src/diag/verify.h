/* The verifier: every invariant that can be checked with the world stopped. */
#ifndef DIAG_VERIFY_H
#define DIAG_VERIFY_H

#include "heap/heap.h"

/* World stopped, buffers synced, no armed unit. GCH_OK, or GCH_CORRUPT with the first breach. */
gch_status verify_heap(gch_heap *heap, gch_error *error);

/* Calls fn for every object, young ones included; stops when it returns false. Same conditions. */
typedef bool (*walk_fn)(uintptr_t object, const struct type_info *type, uint64_t bytes, void *context);
void walk_heap(gch_heap *heap, walk_fn fn, void *context);

#endif
