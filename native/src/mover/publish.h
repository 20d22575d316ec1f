/* What the userfaultfd movers share: the quiet registration, and publishing through a given descriptor. */
#ifndef MOVER_PUBLISH_H
#define MOVER_PUBLISH_H

#include "heap/heap.h"

/* Opens the quiet descriptor and registers every region that receives pages with it. */
gch_status quiet_open(gch_heap *heap, gch_error *error);
void quiet_close(gch_heap *heap);

/* Publishes through descriptor `fd`, with which the destination is registered; see mover/mover.h. */
void publish_by_move(gch_heap *heap, int fd, uintptr_t dst, uintptr_t src, uint64_t bytes, uint64_t mode);
void publish_by_copy(gch_heap *heap, int fd, uintptr_t dst, uintptr_t src, uint64_t bytes, uint64_t mode);

#endif
