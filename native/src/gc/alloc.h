/* Allocation, for who makes objects otherwise than gch_alloc: see gc/resize.c. */
#ifndef GC_ALLOC_H
#define GC_ALLOC_H

#include "heap/mutator.h"

/* Bytes of an object of this type with `count` elements; 0: it cannot exist (error filled in). */
uint64_t alloc_object_bytes(struct mutator *m, const gch_type *type, uint64_t count);
/* gch_alloc_slow; a large object is put where it can grow to `room` bytes, if there is such a place. */
gch_ref alloc_roomy(struct mutator *m, const gch_type *type, uint64_t count, uint64_t room);
/* Makes the pages of what is being born present, step by step, with polls in between (`polls`). False: it does not last, and is to
 * be given up; else *step is how it ended. */
bool alloc_populate(struct mutator *m, struct large_birth *b, bool polls, enum large_step *step);
/* The message of a failure: no room for `bytes` bytes even after full collections. */
void alloc_refused(struct mutator *m, uint64_t bytes);

#endif
