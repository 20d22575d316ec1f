/* New objects by the million: whole blocks of them, straight into the old and leaf spaces.
 *
 * What fills less than a block, and what is large, takes the ordinary way through gch_alloc. */
#include "gc/cycle.h"
#include "gc/pace.h"
#include "python/bulk_internal.h"

enum { SMALL_BATCH = BLOCK_BYTES / 2 };

/* One run of bulk_new: frame slot 0 is the array, which may move at each safepoint. */
struct making {
  struct bulk *b;
  const gch_type *type;
  uint64_t tail_count;
  struct mature_kind kind;
  struct mature buffer;
};

static int full(struct making *k) {
  const gch_heap *h = k->b->h;
  return bulk_fail(k->b, GCH_NO_MEMORY,
                   "no room for more objects of %llu bytes (type %s): %llu of the heap's %llu bytes are in use",
                   (unsigned long long)k->kind.bytes, gch_type_name(h, k->type),
                   (unsigned long long)at_load_relaxed(&h->used_bytes), (unsigned long long)h->config.max_bytes);
}

/* Room in the open block, collecting for it if need be. */
static bool make_room(struct making *k) {
  gch_heap *h = k->b->h;
  mature_retire(h, &k->buffer);
  cycle_start_due(mutator_of(k->b->m));
  pace_allocation(mutator_of(k->b->m), BLOCK_BYTES);
  struct relief relief = {.bytes = BLOCK_BYTES};
  while (!mature_refill(h, &k->buffer, k->kind.leaf))
    if (!cycle_for_room(mutator_of(k->b->m), &relief)) return false;
  return true;
}

static int make_mature(struct making *k, uint64_t *at, uint64_t count) {
  gch_ref made[BLOCK_GRANULES];
  while ((count - *at) * k->kind.bytes >= SMALL_BATCH) {
    if (!make_room(k)) return full(k);
    uint64_t n = mature_fill(k->b->h, &k->buffer, &k->kind, count - *at, made);
    gch_ref *slots = bulk_slots(k->b, 0) + *at;
    for (uint64_t i = 0; i < n; i++) bulk_set(k->b, slots + i, made[i]);
    *at += n;
    mature_retire(k->b->h, &k->buffer);
    gch_safepoint(k->b->m);
  }
  return GCH_OK;
}

static int make_singly(struct making *k, uint64_t at, uint64_t count) {
  for (; at < count; at++) {
    gch_ref object = gch_alloc_array(k->b->m, k->type, k->tail_count);
    if (object == NULL) return (int)gch_last_error(k->b->m)->status;
    gch_store(k->b->m, bulk_slots(k->b, 0) + at, object);
    gch_safepoint(k->b->m);
  }
  return GCH_OK;
}

static int make_all(struct bulk *b, const gch_type *type, uint64_t count, uint64_t tail_count) {
  struct making k = {.b = b, .type = type, .tail_count = tail_count, .kind.leaf = type->leaf != 0};
  uint64_t at = 0;
  int status = GCH_OK;
  bool small = tail_count <= GCH_SMALL_MAX; /* so that the next line does not overflow */
  k.kind.bytes = small ? align_up(type->tail_offset + tail_count * type->tail_bytes, GRANULE_BYTES) : UINT64_MAX;
  if (k.kind.bytes < type->bytes) k.kind.bytes = type->bytes;
  if (k.kind.bytes <= GCH_SMALL_MAX) {
    k.kind.header = type->header | tail_count * type->tail_bytes << GCH_HEADER_LENGTH_SHIFT;
    status = make_mature(&k, &at, count);
  }
  return status == GCH_OK ? make_singly(&k, at, count) : status;
}

int bulk_new(gch_mutator *m, const gch_type *type, uint64_t count, uint64_t tail_count, const gch_type *refs,
             gch_handle *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_new_array(&b, 0, refs, count);
  if (status == GCH_OK) status = make_all(&b, type, count, tail_count);
  if (status == GCH_OK) status = bulk_give(&b, 0, out);
  return bulk_leave(&b, status);
}

int bulk_new_one(gch_mutator *m, const gch_type *type, uint64_t tail_count, gch_handle *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_new_array(&b, 0, type, tail_count);
  if (status == GCH_OK) status = bulk_give(&b, 0, out);
  return bulk_leave(&b, status);
}

int bulk_list(gch_mutator *m, const gch_handle *handles, uint64_t count, const gch_type *refs, gch_handle *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_new_array(&b, 0, refs, count);
  for (uint64_t i = 0; i < count && status == GCH_OK && handles != NULL; i++) {
    status = bulk_root(&b, 1, handles[i], true);
    if (status == GCH_OK) bulk_set(&b, bulk_slots(&b, 0) + i, b.refs[1]);
    if (i % BULK_CHUNK == BULK_CHUNK - 1) gch_safepoint(m);
  }
  if (status == GCH_OK) status = bulk_give(&b, 0, out);
  return bulk_leave(&b, status);
}
