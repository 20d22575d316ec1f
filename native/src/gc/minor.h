/* Minor collections: the engine on the young space, in a pause. */
#ifndef GC_MINOR_H
#define GC_MINOR_H

#include "heap/heap.h"

struct minor_result {
  uint64_t young_bytes;    /* blocks in use before, */
  uint64_t eden_bytes;     /* of these, without survivors of the last one */
  uint64_t live_bytes;     /* survivors */
  uint64_t live_objects;
  uint64_t promoted_bytes; /* in old and leaf blocks, or by pages */
  uint32_t promoted_blocks[2]; /* old and leaf blocks taken for it */
  uint64_t arenas_moved;   /* promoted by moving their pages */
  uint64_t pages_moved;
  uint64_t blocks_kept;    /* promoted where they stand */
  uint64_t mark_ns, plan_ns, move_ns;
};

/* World stopped. `promote_all`: afterwards there is no young object (survivors that could not be moved count as old
 * where they stand) and no dirty card. */
void minor_collect(gch_heap *heap, bool promote_all, struct minor_result *result);

#endif
