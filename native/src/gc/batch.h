/* A batch: finished units of one thread that are published in one call.
 *
 *   EMPTY --add--> OPEN: its units are BUSY, and finished --publish--> EMPTY: they are MAPPED
 *
 * Publishing by page moves pays one TLB shootdown to every CPU that runs the process (10 us here, as much as moving a
 * hundred pages), so neighbours go together: units whose destinations are neighbours in one arena, finished at neighbouring
 * addresses (a run of frames, or their shadow). A batch is published when the next unit does not continue it, when it is
 * full (heap/batching.h), and at once when somebody waits for a unit (batch_wanted): so whoever waits, waits for at most the making of one
 * unit and one publishing, however large batches are.
 *
 * Units are claimed one by one, each just before it is made. While a batch is open its thread waits for nothing (I3):
 * whatever may wait (frames from the kernel, other producers) is done with an empty batch.
 *
 * One thread, on its stack; a signal handler has its own. */
#ifndef GC_BATCH_H
#define GC_BATCH_H

#include "gc/consume.h"

struct batch {
  gch_heap *heap;
  gch_actor maker;       /* who makes its units */
  struct drops drops;    /* sources that this thread has consumed */
  uintptr_t dst, src;    /* [dst, dst + bytes) is finished at src */
  uint64_t bytes;
  size_t first;          /* units [first, first + units) are finished with it */
  uint32_t units, most;  /* how many there are, and may be (heap/batching.h) */
  bool framed;           /* src lies in frames */
  uint32_t frames;       /* left of the run of frames being filled, from `frame` on */
  uintptr_t frame;
  uint64_t heard;        /* heap->impatient when its first unit was claimed */
  uint64_t begun_ns;     /* when that was */
};

void batch_begin(struct batch *batch, gch_heap *heap, gch_actor maker);
/* Publishes, gives frames and consumed sources back. */
void batch_end(struct batch *batch);
/* A frame in hand for the next unit that is filled; batch_use_frame takes it. May wait for memory, the batch is published
 * first. `fault`: may use the frames kept in reserve. */
void batch_need_frame(struct batch *batch, bool fault);
uintptr_t batch_use_frame(struct batch *batch);
/* A finished piece of the unit at hand; publishes what it does not continue. */
void batch_add(struct batch *batch, uintptr_t dst, uintptr_t src, uint64_t bytes, bool framed);
/* All pieces of the unit have been added. */
void batch_add_unit(struct batch *batch, size_t block);
void batch_publish(struct batch *batch);

/* From here on whoever waits is heard: before the first claim of a batch. */
static inline void batch_listen(struct batch *b) {
  if (b->bytes != 0) return;
  b->heard = at_load(&b->heap->impatient);
  b->begun_ns = clock_ns();
}

/* Somebody found a unit BUSY, and waits for it. */
static inline void batch_hurry(gch_heap *h) { at_add_relaxed(&h->impatient, 1); /* a hint */ }
static inline bool batch_wanted(const struct batch *b) {
  return b->bytes != 0 && at_load_relaxed(&b->heap->impatient) != b->heard; /* a hint */
}

#endif
