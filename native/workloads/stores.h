/* What a reference store costs: the barrier against a plain store, as a host's inner loop does them. */
#ifndef WORKLOADS_STORES_H
#define WORKLOADS_STORES_H

#ifndef GCHEAP_CDEF
#include <gcheap/gcheap.h>
#endif

/* `rounds` times over `count` elements of an array of references: each gets the reference of the next one. `barrier`: by
 * gch_store, else by plain stores, which is safe only because nothing else runs and element 0 keeps all alive. *ns: what it took;
 * *marking: rounds during all of which stores were logged. Called in native state. */
int stores_run(gch_mutator *mutator, gch_handle array, uint64_t count, uint64_t rounds, bool barrier, uint64_t *ns,
               uint64_t *marking);

#endif
