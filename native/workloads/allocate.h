/* Allocation as a host's inner loop does it: inlined, a safepoint an object. */
#ifndef WORKLOADS_ALLOCATE_H
#define WORKLOADS_ALLOCATE_H

#ifndef GCHEAP_CDEF
#include <gcheap/gcheap.h>
#endif

/* Allocates `count` objects of a type without a tail. With `keep` (an array of references of at least so many
 * elements) object i is stored in element i, with 0 all die young. *ns: what it took, collections included. Called in
 * native state; GCH_NO_MEMORY if the heap is full. */
int allocate_run(gch_mutator *mutator, const gch_type *type, uint64_t count, gch_handle keep, uint64_t *ns);

#endif
