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

uint64_t mature_fill(gch_heap *h, struct mature *m, const struct mature_kind *kind, uint64_t count, gch_ref *out) {
  uint64_t room = (m->limit[kind->leaf] - m->cursor[kind->leaf]) / kind->bytes;
  uint64_t n = count < room ? count : room;
  for (uint64_t i = 0; i < n; i++) out[i] = mature_bump(h, m, kind->leaf, kind->header, kind->bytes);
  return n;
}
