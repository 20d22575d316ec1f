/* What the userfaultfd movers share: the quiet registration, and publishing through a given descriptor. */
#ifndef MOVER_PUBLISH_H
#define MOVER_PUBLISH_H

#include "mover/mover.h"

/* Opens the quiet descriptor and registers every region that receives pages with it. */
gch_status quiet_open(gch_heap *heap, gch_error *error);
void quiet_close(gch_heap *heap);
gch_status quiet_inherit(gch_heap *heap, bool parent_waits, gch_error *error);

/* Reserves the shadow. */
gch_status shadow_open(gch_heap *heap, gch_error *error);

bool region_prepare(gch_heap *heap, uint32_t region);
bool region_arm_dests(gch_heap *heap, uint32_t region);
void region_disarm(gch_heap *heap, uint32_t region);
bool region_flip(gch_heap *heap, uint32_t region);
void region_unflip_pause(gch_heap *heap, uint32_t region);
bool region_guard(gch_heap *heap, uint32_t region);
void region_unflip(gch_heap *heap, uint32_t region, uint64_t used);
/* The descriptor with which the region of `dst` is registered, -1: with none. */
int region_fd(const gch_heap *heap, uintptr_t dst);
/* May [dst, ...) be touched by mutators that wait for it to be published? */
static inline bool region_armed(const gch_heap *h, uintptr_t dst) {
  return region_registered(h, layout_region(&h->layout, dst)) == REGION_MISSING;
}
/* Puts memory behind a destination that is not armed, whatever it is registered for. Negative errno: no memory. */
int region_populate(gch_heap *heap, uintptr_t dst, uint64_t bytes);

/* Publishes through descriptor `fd`, with which the destination is registered (-1: with none); see mover/mover.h. By copy
 * the source stays. */
void publish_by_move(gch_heap *heap, int fd, uintptr_t dst, uintptr_t src, uint64_t bytes);
void publish_by_copy(gch_heap *heap, int fd, uintptr_t dst, uintptr_t src, uint64_t bytes, uint64_t mode);
/* The last resort where nothing is armed: memcpy into the destination, whatever is there. The source stays. */
void publish_by_memcpy(gch_heap *heap, uintptr_t dst, uintptr_t src, uint64_t bytes);
/* Is there no page at all? False where the kernel does not say. Nothing lives there then; but who touched it could be trapped
 * (a shadow). */
bool source_is_hole(gch_heap *heap, uintptr_t src);
/* A page of zeros for the empty destination page at `dst`, counted; 0, or what the kernel said. */
int publish_zeros(gch_heap *heap, int fd, uintptr_t dst);
/* Drops a source; what the kernel will not take reads as zeros, as if it were gone. */
void empty_source(gch_heap *heap, uintptr_t src, uint64_t bytes);

#endif
