/* Weak references, ephemerons and finalizers. An array of weak references is an array of references to cells, so that it is moved
 * and collected as others are; a null element has no cell. */
#include "python/bulk_internal.h"

static inline uint64_t chunk_end(uint64_t at, uint64_t count) {
  return count - at < BULK_CHUNK ? count : at + BULK_CHUNK;
}

/* What a call on a cell gave, NULL or not; it has left an error if the object was no cell. */
static int read_cell(struct bulk *b, gch_handle cell, gch_ref (*read)(gch_mutator *, gch_ref), enum cell_kind kind) {
  int status = bulk_root(b, 0, cell, false);
  if (status == GCH_OK && !bulk_is(b->refs[0], b->h->weak.types[kind]))
    status = bulk_fail(b, BULK_WRONG_TYPE, "an object of type %s is no %s",
                       gch_type_name(b->h, gch_type_of(b->h, b->refs[0])), gch_type_name(b->h, b->h->weak.types[kind]));
  if (status == GCH_OK) b->refs[1] = read(b->m, b->refs[0]);
  return status;
}

static int give_cell(struct bulk *b, gch_ref cell, gch_handle *out) {
  b->refs[0] = cell;
  return cell != NULL ? bulk_give(b, 0, out) : (int)gch_last_error(b->m)->status;
}

int bulk_weak_new(gch_mutator *m, gch_handle referent, gch_handle *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root(&b, 0, referent, false);
  if (status == GCH_OK) status = give_cell(&b, gch_weak_new(m, b.refs[0]), out);
  return bulk_leave(&b, status);
}

int bulk_weak_get(gch_mutator *m, gch_handle weak, bulk_object *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = read_cell(&b, weak, gch_weak_get, CELL_WEAK);
  if (status == GCH_OK) status = bulk_describe_slot(&b, 1, out);
  return bulk_leave(&b, status);
}

int bulk_ephemeron_new(gch_mutator *m, gch_handle key, gch_handle value, gch_handle *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root(&b, 0, key, false);
  if (status == GCH_OK) status = bulk_root(&b, 1, value, true);
  if (status == GCH_OK) status = give_cell(&b, gch_ephemeron_new(m, b.refs[0], b.refs[1]), out);
  return bulk_leave(&b, status);
}

int bulk_ephemeron_get(gch_mutator *m, gch_handle ephemeron, bool value, bulk_object *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = read_cell(&b, ephemeron, value ? gch_ephemeron_value : gch_ephemeron_key, CELL_EPHEMERON);
  if (status == GCH_OK) status = bulk_describe_slot(&b, 1, out);
  return bulk_leave(&b, status);
}

int bulk_ephemeron_set(gch_mutator *m, gch_handle ephemeron, gch_handle value) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root(&b, 0, ephemeron, false);
  if (status == GCH_OK) status = bulk_root(&b, 1, value, true);
  if (status == GCH_OK) status = (int)gch_ephemeron_set(m, b.refs[0], b.refs[1]);
  return bulk_leave(&b, status);
}

/* --- arrays ------------------------------------------------------------------------------------------------------- */

/* Each cell may collect, and then all three move. */
static int new_cells(struct bulk *b, uint64_t from, uint64_t end) {
  for (uint64_t i = from; i < end; i++) {
    gch_ref referent = bulk_element(bulk_slots(b, 0) + i);
    if (referent == NULL) continue;
    gch_ref cell = gch_weak_new(b->m, referent);
    if (cell == NULL) return (int)gch_last_error(b->m)->status;
    gch_store(b->m, bulk_slots(b, 1) + i, cell);
  }
  return GCH_OK;
}

int bulk_weak_list(gch_mutator *m, gch_handle array, const gch_type *refs, gch_handle *out) {
  struct bulk b;
  uint64_t count;
  bulk_enter(&b, m);
  int status = bulk_root_array(&b, 0, array, &count);
  if (status == GCH_OK) status = bulk_new_array(&b, 1, refs, count);
  for (uint64_t at = 0; at < count && status == GCH_OK; at += BULK_CHUNK) {
    status = new_cells(&b, at, chunk_end(at, count));
    gch_safepoint(m);
  }
  if (status == GCH_OK) status = bulk_give(&b, 1, out);
  return bulk_leave(&b, status);
}

static gch_ref referent_at(const struct bulk *b, uint64_t i) {
  gch_ref cell = bulk_element(bulk_slots(b, 0) + i);
  return cell == NULL ? NULL : gch_weak_get(b->m, cell);
}

static inline void look_ahead(const struct bulk *b, uint64_t i, uint64_t end) {
  if (i + BULK_AHEAD < end) __builtin_prefetch(bulk_element(bulk_slots(b, 0) + i + BULK_AHEAD));
}

int bulk_weak_take(gch_mutator *m, gch_handle cells, const gch_type *refs, gch_handle *out) {
  struct bulk b;
  uint64_t count;
  bulk_enter(&b, m);
  int status = bulk_root_array(&b, 0, cells, &count);
  if (status == GCH_OK) status = bulk_new_array(&b, 1, refs, count);
  for (uint64_t at = 0; at < count && status == GCH_OK; at += BULK_CHUNK) {
    for (uint64_t i = at, end = chunk_end(at, count); i < end; i++) {
      look_ahead(&b, i, end);
      bulk_set(&b, bulk_slots(&b, 1) + i, referent_at(&b, i));
    }
    gch_safepoint(m);
  }
  if (status == GCH_OK) status = bulk_give(&b, 1, out);
  return bulk_leave(&b, status);
}

int bulk_weak_dead(gch_mutator *m, gch_handle cells, bool *out) {
  struct bulk b;
  uint64_t count;
  bulk_enter(&b, m);
  int status = bulk_root_array(&b, 0, cells, &count);
  for (uint64_t at = 0; at < count; at += BULK_CHUNK) {
    for (uint64_t i = at, end = chunk_end(at, count); i < end; i++) {
      look_ahead(&b, i, end);
      out[i] = referent_at(&b, i) == NULL;
    }
    gch_safepoint(m);
  }
  return bulk_leave(&b, status);
}

int bulk_weak_at(gch_mutator *m, gch_handle cells, int64_t index, bulk_object *out) {
  struct bulk b;
  uint64_t count, at;
  bulk_enter(&b, m);
  int status = bulk_root_array(&b, 0, cells, &count);
  if (status == GCH_OK) status = bulk_element_at(&b, index, count, &at);
  if (status == GCH_OK) {
    b.refs[1] = referent_at(&b, at);
    status = bulk_describe_slot(&b, 1, out);
  }
  return bulk_leave(&b, status);
}

/* --- finalizers --------------------------------------------------------------------------------------------------- */

int bulk_finalize(gch_mutator *m, gch_handle object, uint64_t token) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root(&b, 0, object, false);
  if (status == GCH_OK) status = (int)gch_finalize(m, b.refs[0], token);
  return bulk_leave(&b, status);
}

int bulk_finalized(gch_mutator *m, uint64_t *tokens, gch_handle *objects, uint64_t capacity, uint64_t *count) {
  struct bulk b;
  int status = GCH_OK;
  bulk_enter(&b, m);
  for (*count = 0; *count < capacity && status == GCH_OK && gch_finalizer_next(m, &b.refs[0], &tokens[*count]);
       ++*count)
    if (objects != NULL) status = bulk_give(&b, 0, &objects[*count]);
  return bulk_leave(&b, status);
}
