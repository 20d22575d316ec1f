#include "heap/mature.h"

#include <string.h>

#include "heap/small.h"

static void retire_one(gch_heap *h, struct mature *m, bool leaf) {
  if (m->block[leaf] == 0) return;
  struct block *block = heap_block(h, m->block[leaf]);
  uint32_t granules = (uint32_t)((m->cursor[leaf] - m->block[leaf]) >> GRANULE_SHIFT);
  block->top = (uint16_t)granules;
  block->live = granules;
  m->block[leaf] = m->cursor[leaf] = m->limit[leaf] = 0;
}

void mature_retire(gch_heap *h, struct mature *m) {
  retire_one(h, m, false);
  retire_one(h, m, true);
}

bool mature_refill(gch_heap *h, struct mature *m, bool leaf) {
  retire_one(h, m, leaf);
  uintptr_t block = small_take(h, leaf, false);
  if (block == 0) return false;
  memset((void *)block, 0, BLOCK_BYTES);
  m->block[leaf] = m->cursor[leaf] = block;
  m->limit[leaf] = block + BLOCK_BYTES;
  at_add_relaxed(&h->measures.allocated_bytes, BLOCK_BYTES);
  return true;
}

uint64_t mature_fill(gch_heap *h, struct mature *m, const gch_type *type, uint64_t header, uint64_t bytes,
                     uint64_t count, gch_ref *out) {
  bool leaf = type->leaf != 0;
  uint64_t room = (m->limit[leaf] - m->cursor[leaf]) / bytes;
  uint64_t n = count < room ? count : room;
  uintptr_t object = m->cursor[leaf];
  for (uint64_t i = 0; i < n; i++, object += bytes) {
    *(uint64_t *)object = header;
    mature_note(h, object);
    out[i] = (gch_ref)object;
  }
  m->cursor[leaf] = object;
  return n;
}
