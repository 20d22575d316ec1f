/* The baselines: memcpy in the pause, into fresh memory (`memcpy`) or into memory emptied just before (`slide`).
 *
 * As good as they can be made: memory is populated in one call a block or arena (no faults one by one), huge pages where
 * the others have them, references are fixed in the copy while it is warm, sources are dropped in runs.
 *
 * `slide` recycles: the memory of consumed sources goes to the next destinations, as with `move`, but since nothing can
 * move pages here, it is the destination's *address* that is chosen among what has just been emptied (gc/plan.c). Dense
 * blocks go whole, as with `move`, each to where the one an arena before it was. Large objects slide down, into what the
 * dead and those before them have left (gc/plan_large.c). */
#include <string.h>

#include "mover/mover.h"
#include "os/pages.h"

static gch_status memcpy_open(gch_heap *h, gch_error *error) {
  (void)h, (void)error;
  return GCH_OK;
}

static void memcpy_close(gch_heap *h) { (void)h; }

static bool memcpy_supply(gch_heap *h, uintptr_t dst, uint64_t bytes, uintptr_t frame) {
  (void)frame;
  return pages_populate(&h->kernel, (void *)dst, bytes) >= 0;
}

static void memcpy_publish(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  memcpy_supply(h, dst, bytes, 0);
  memcpy((void *)dst, (void *)src, bytes);
  mover_count_copied(h, bytes);
  mover_release(h, src, bytes);
}

const struct mover_ops mover_memcpy = {
    .id = GCH_MOVER_MEMCPY,
    .open = memcpy_open,
    .close = memcpy_close,
    .publish = memcpy_publish,
    .supply = memcpy_supply,
    .drop = mover_drop_private,
};

const struct mover_ops mover_slide = {
    .id = GCH_MOVER_SLIDE,
    .slides = true,
    .open = memcpy_open,
    .close = memcpy_close,
    .publish = memcpy_publish,
    .supply = memcpy_supply,
    .drop = mover_drop_private,
};
