/* What the userfaultfd movers share: the quiet registration, and publishing through a given descriptor. */
#ifndef MOVER_PUBLISH_H
#define MOVER_PUBLISH_H

#include "heap/heap.h"

/* Opens the quiet descriptor and registers every region that receives pages with it. */
gch_status quiet_open(gch_heap *heap, gch_error *error);
void quiet_close(gch_heap *heap);
gch_status quiet_inherit(gch_heap *heap, bool parent_waits, gch_error *error);

/* Reserves the shadow. */
gch_status shadow_open(gch_heap *heap, gch_error *error);

void region_prepare(gch_heap *heap, uint32_t region);
void region_arm_dests(gch_heap *heap, uint32_t region);
void region_disarm(gch_heap *heap, uint32_t region);
void region_flip(gch_heap *heap, uint32_t region);
void region_unflip(gch_heap *heap, uint32_t region, uint64_t used);

/* Publishes through descriptor `fd`, with which the destination is registered; see mover/mover.h. By copy the source stays. */
void publish_by_move(gch_heap *heap, int fd, uintptr_t dst, uintptr_t src, uint64_t bytes, uint64_t mode);
void publish_by_copy(gch_heap *heap, int fd, uintptr_t dst, uintptr_t src, uint64_t bytes, uint64_t mode);

#endif
