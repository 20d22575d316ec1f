#include "heap/mutator.h"

#include <stdlib.h>
#include <string.h>

/* --- records -------------------------------------------------------------------------------------------------- */

static void clear(struct mutator *m) {
  memset(m, 0, offsetof(struct mutator, thread));
  for (int i = 0; i < GCH_STALL_COUNT; i++) {
    at_store_relaxed(&m->stalls.count[i], 0); /* somebody may still be counting for the one before */
    at_store_relaxed(&m->stalls.ns[i], 0);
  }
  at_store(&m->stall_place, 0);
  at_store(&m->stalled_since, 0);
}

struct mutator *mutator_take(gch_heap *h, uint32_t thread) {
  for (struct mutator *m = at_load(&h->world.records); m != NULL; m = m->next_record) {
    uint32_t nobody = 0;
    if (!at_cas(&m->thread, &nobody, thread)) continue;
    clear(m);
    return m;
  }
  struct mutator *m = calloc(1, sizeof *m);
  if (m == NULL) return NULL;
  m->thread = thread;
  m->next_record = at_load(&h->world.records);
  while (!at_cas(&h->world.records, &m->next_record, m)) {
  }
  return m;
}

/* Whoever comes second, its holder or the end of the heap, frees it. */
static const uint32_t HEAP_GONE = UINT32_MAX;

void mutator_give(struct mutator *m) {
  if (at_xchg(&m->thread, (uint32_t)0) == HEAP_GONE) free(m);
}

void mutator_forget_all(gch_heap *h) {
  for (struct mutator *m = h->world.records, *next; m != NULL; m = next) {
    next = m->next_record;
    if (at_xchg(&m->thread, HEAP_GONE) == 0) free(m);
  }
  h->world.records = NULL;
}

struct mutator *mutator_with(gch_heap *h, uint32_t thread) {
  struct mutator *m = thread == 0 ? NULL : at_load(&h->world.records); /* 0: nobody, not who has a free record */
  while (m != NULL && at_load(&m->thread) != thread) m = m->next_record;
  return m;
}

/* --- buffers -------------------------------------------------------------------------------------------------- */

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
