/* Elements of arrays of references: take, put, compare. */
#include "python/bulk_internal.h"

/* Element `i` of an index, checked and made non-negative; UINT64_MAX: out of range. */
static inline uint64_t index_at(const bulk_index *index, uint64_t i, uint64_t count) {
  int64_t at = index->items != NULL ? index->items[i] : index->start + (int64_t)i * index->step;
  if (at < 0) at += (int64_t)count;
  return at >= 0 && (uint64_t)at < count ? (uint64_t)at : UINT64_MAX;
}

static int bad_index(struct bulk *b, const bulk_index *index, uint64_t i, uint64_t count) {
  int64_t at = index->items != NULL ? index->items[i] : index->start + (int64_t)i * index->step;
  return bulk_fail(b, BULK_BAD_INDEX, "index %lld (entry %llu of the index) is out of range for %llu elements",
                   (long long)at, (unsigned long long)i, (unsigned long long)count);
}

static inline uint64_t chunk_end(uint64_t at, uint64_t count) {
  return count - at < BULK_CHUNK ? count : at + BULK_CHUNK;
}

/* Prefetches the element that index entry i + BULK_AHEAD names, if there is one. */
static inline void look_ahead(const gch_ref *slots, const bulk_index *index, uint64_t i, uint64_t count) {
  if (i + BULK_AHEAD >= index->count) return;
  uint64_t at = index_at(index, i + BULK_AHEAD, count);
  if (at != UINT64_MAX) __builtin_prefetch(slots + at);
}

static int take_chunk(struct bulk *b, const bulk_index *index, uint64_t from, uint64_t end, uint64_t count) {
  const gch_ref *slots = bulk_slots(b, 0);
  gch_ref *to = bulk_slots(b, 1);
  for (uint64_t i = from; i < end; i++) {
    uint64_t at = index_at(index, i, count);
    look_ahead(slots, index, i, count);
    if (gch_unlikely(at == UINT64_MAX)) return bad_index(b, index, i, count);
    bulk_set(b, to + i, bulk_element(slots + at));
  }
  return GCH_OK;
}

int bulk_take(gch_mutator *m, gch_handle array, const bulk_index *index, const gch_type *refs, gch_handle *out) {
  struct bulk b;
  uint64_t count;
  bulk_enter(&b, m);
  int status = bulk_root_array(&b, 0, array, &count);
  if (status == GCH_OK) status = bulk_new_array(&b, 1, refs, index->count);
  for (uint64_t at = 0; at < index->count && status == GCH_OK; at += BULK_CHUNK) {
    status = take_chunk(&b, index, at, chunk_end(at, index->count), count);
    if (status == GCH_OK) status = bulk_poll(&b);
  }
  if (status == GCH_OK) status = bulk_give(&b, 1, out);
  return bulk_leave(&b, status);
}

/* Frame slots: 0 the array, 1 the values or the value. */
struct put {
  struct bulk *b;
  const bulk_index *index;
  const gch_type *must_be;
  uint64_t count; /* elements of the array */
  bool one;
};

static int put_chunk(const struct put *p, uint64_t from, uint64_t end) {
  gch_ref *slots = bulk_slots(p->b, 0);
  for (uint64_t i = from; i < end; i++) {
    uint64_t at = index_at(p->index, i, p->count);
    look_ahead(slots, p->index, i, p->count);
    gch_ref value = p->one ? p->b->refs[1] : bulk_element(bulk_slots(p->b, 1) + i);
    if (gch_unlikely(at == UINT64_MAX)) return bad_index(p->b, p->index, i, p->count);
    if (p->must_be != NULL && value != NULL && !bulk_is(value, p->must_be))
      return bulk_fail_element(p->b, "value", i, value, p->must_be);
    bulk_set(p->b, slots + at, value);
  }
  return GCH_OK;
}

int bulk_put(gch_mutator *m, gch_handle array, const bulk_index *index, gch_handle values, bool one,
             const gch_type *must_be) {
  struct bulk b;
  uint64_t available;
  bulk_enter(&b, m);
  struct put p = {.b = &b, .index = index, .must_be = must_be, .one = one};
  int status = bulk_root_array(&b, 0, array, &p.count);
  if (status == GCH_OK) status = one ? bulk_root(&b, 1, values, true) : bulk_root_array(&b, 1, values, &available);
  if (status == GCH_OK && !one && available != index->count)
    status = bulk_fail(&b, BULK_BAD_LENGTH, "%llu references cannot be stored into %llu elements",
                       (unsigned long long)available, (unsigned long long)index->count);
  for (uint64_t at = 0; at < index->count && status == GCH_OK; at += BULK_CHUNK) {
    status = put_chunk(&p, at, chunk_end(at, index->count));
    if (status == GCH_OK) status = bulk_poll(&b);
  }
  return bulk_leave(&b, status);
}

int bulk_is_null(gch_mutator *m, gch_handle array, uint64_t count, bool *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root_sized(&b, 0, array, count);
  for (uint64_t at = 0; at < count && status == GCH_OK; at += BULK_CHUNK) {
    const gch_ref *slots = bulk_slots(&b, 0);
    for (uint64_t i = at; i < chunk_end(at, count); i++) out[i] = bulk_element(slots + i) == NULL;
    status = bulk_poll(&b);
  }
  return bulk_leave(&b, status);
}

int bulk_equal(gch_mutator *m, gch_handle array, uint64_t count, gch_handle values, bool one, bool *out) {
  struct bulk b;
  uint64_t available;
  bulk_enter(&b, m);
  int status = bulk_root_sized(&b, 0, array, count);
  if (status == GCH_OK) status = one ? bulk_root(&b, 1, values, true) : bulk_root_array(&b, 1, values, &available);
  if (status == GCH_OK && !one && available != count)
    status = bulk_fail(&b, BULK_BAD_LENGTH, "%llu references cannot be compared with %llu", (unsigned long long)count,
                       (unsigned long long)available);
  for (uint64_t at = 0; at < count && status == GCH_OK; at += BULK_CHUNK) {
    const gch_ref *left = bulk_slots(&b, 0), *right = one ? NULL : bulk_slots(&b, 1);
    for (uint64_t i = at; i < chunk_end(at, count); i++)
      out[i] = bulk_element(left + i) == (one ? b.refs[1] : bulk_element(right + i));
    status = bulk_poll(&b);
  }
  return bulk_leave(&b, status);
}

int bulk_common(gch_mutator *m, gch_handle array, uint64_t *user) {
  struct bulk b;
  uint64_t count;
  bulk_enter(&b, m);
  const gch_type *type = NULL;
  int status = bulk_root_array(&b, 0, array, &count);
  for (uint64_t at = 0; at < count && status == GCH_OK; at += BULK_CHUNK) {
    const gch_ref *slots = bulk_slots(&b, 0);
    for (uint64_t i = at; i < chunk_end(at, count) && status == GCH_OK; i++) {
      gch_ref object = bulk_element(slots + i);
      if (i + BULK_AHEAD < count) __builtin_prefetch(bulk_element(slots + i + BULK_AHEAD));
      if (object == NULL) continue;
      if (type == NULL) type = gch_type_of(b.h, object);
      if (!bulk_is(object, type)) status = bulk_fail_element(&b, "element", i, object, type);
    }
    if (status == GCH_OK) status = bulk_poll(&b);
  }
  *user = type == NULL ? 0 : gch_type_user(b.h, type);
  return bulk_leave(&b, status);
}
