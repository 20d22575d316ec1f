#include "gc/batch.h"

#include "heap/unit.h"
#include "mover/mover.h"
#include "mover/publish.h"
#include "os/thread.h"

void batch_begin(struct batch *b, gch_heap *h, gch_actor maker) {
  *b = (struct batch){.heap = h, .maker = maker, .drops = drops_of(h, h->config.gc_threads)};
  b->most = batching_units(&h->batching);
}

void batch_end(struct batch *b) {
  batch_publish(b);
  if (b->frames > 0) frames_done(b->heap, b->frame, b->frames, false);
  b->frames = 0;
  drops_flush(&b->drops);
}

/* --- frames ----------------------------------------------------------------------------------------------------- */

/* Frames run out only while more units than the pool has frames are being made, by threads that wait for nothing. */
void batch_need_frame(struct batch *b, bool fault) {
  gch_heap *h = b->heap;
  if (b->frames > 0 || h->mover->fill_in_place) return;
  batch_publish(b);
  for (uint32_t spins = 0; b->frames == 0; spins++) {
    b->frames = frames_take(h, fault ? 1 : BATCH_UNITS, fault || spins > 1000, &b->frame);
    if (b->frames == 0) drops_flush(&b->drops);
    if (spins > 100) thread_yield();
  }
}

uintptr_t batch_use_frame(struct batch *b) {
  uintptr_t frame = b->frame;
  b->frame += BLOCK_BYTES;
  b->frames--;
  return frame;
}

/* --- publishing --------------------------------------------------------------------------------------------------- */

/* A piece of a huge arena is copied: moving it would tear the huge page that it comes from. */
static bool copies(const gch_heap *h) { return h->huge && !h->mover->fill_in_place; }

void batch_publish(struct batch *b) {
  gch_heap *h = b->heap;
  if (b->bytes == 0) return;
  uint64_t made = clock_ns();
  if (copies(h))
    publish_by_copy(h, h->missing.fd, b->dst, b->src, b->bytes, 0);
  else
    h->mover->publish_armed(h, b->dst, b->src, b->bytes);
  if (b->units > 0) batching_note(&h->batching, b->units, made - b->begun_ns, clock_ns() - made);
  b->most = batching_units(&h->batching);
  bool moved = h->mover->moves_pages && !copies(h);
  if (b->framed) frames_done(h, b->src, (uint32_t)(b->bytes / BLOCK_BYTES), moved);
  if (b->framed && !moved) frames_add_extra(h, (int64_t)b->bytes);
  if (!b->framed && copies(h)) consume_copied(h, b->src, b->bytes, true);
  b->bytes = 0;
  bool large = space_is_large(heap_region(h, block_address(&h->layout, b->first))->space); /* dead pages are missing */
  for (; b->units > 0; b->units--, b->first++) {
    if (!large) at_or(&h->tables.arenas[b->first / ARENA_BLOCKS].populated, (uint32_t)1 << b->first % ARENA_BLOCKS);
    unit_done(h, b->first);
    if (h->huge) consume_opened(h, b->first);
  }
}

void batch_add(struct batch *b, uintptr_t dst, uintptr_t src, uint64_t bytes, bool framed) {
  bool continues =
      dst == b->dst + b->bytes && src == b->src + b->bytes && framed == b->framed && dst % ARENA_BYTES != 0;
  if (b->bytes != 0 && !continues) batch_publish(b);
  if (b->bytes == 0) {
    b->dst = dst;
    b->src = src;
    b->framed = framed;
  }
  b->bytes += bytes;
}

void batch_add_unit(struct batch *b, size_t block) {
  if (b->units == 0) b->first = block;
  GCH_ASSERT(b->first + b->units == block && b->bytes != 0);
  if (++b->units >= b->most) batch_publish(b);
}
