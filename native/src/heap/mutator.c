#include "heap/mutator.h"

static void sync_buffer(gch_heap *h, struct mutator *m, int leaf) {
  if (m->buffer[leaf] == 0) return;
  uint64_t bytes = m->pub.alloc_cursor[leaf] - m->buffer[leaf];
  heap_block(h, m->buffer[leaf])->top = (uint16_t)(bytes >> GRANULE_SHIFT);
}

void mutator_sync_one(gch_heap *h, struct mutator *m) {
  for (int leaf = 0; leaf < 2; leaf++) sync_buffer(h, m, leaf);
}

void mutator_sync_buffers(gch_heap *h) {
  for (struct mutator *m = h->world.mutators; m != NULL; m = m->next) mutator_sync_one(h, m);
}

void mutator_retire_buffers(gch_heap *h) {
  mutator_sync_buffers(h);
  for (struct mutator *m = h->world.mutators; m != NULL; m = m->next)
    for (int leaf = 0; leaf < 2; leaf++) {
      m->buffer[leaf] = 0;
      m->pub.alloc_cursor[leaf] = m->pub.alloc_limit[leaf] = 0;
    }
}
