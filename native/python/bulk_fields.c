/* Fields of all elements of an array of references: gather into, scatter from plain memory.
 *
 * Objects lie anywhere, so the time goes into cache misses: references are read in order, objects prefetched
 * BULK_AHEAD elements before their use. The type in the header (same line as the field, mostly) is checked always: an
 * offset is right for one type only. */
#include <string.h>

#include "python/bulk_internal.h"

#define INLINE static inline __attribute__((always_inline))

/* One chunk of elements [0, n): returns the index of the first that is null or of another type, n if none is. */
struct chunk {
  const gch_ref *refs;
  uint64_t n, offset, bytes, stride;
  uint32_t type;
  uint8_t *out;
  const uint8_t *in;
};

INLINE bool usable(gch_ref object, uint32_t type) {
  return gch_likely(object != NULL) && gch_likely(header_type(header_load((uintptr_t)object)) == type);
}

INLINE void look_ahead(const struct chunk *c, uint64_t i, int for_write) {
  uint64_t ahead = i + BULK_AHEAD < c->n ? i + BULK_AHEAD : c->n - 1;
  const char *object = (const char *)(const void *)bulk_element(c->refs + ahead);
  if (for_write)
    __builtin_prefetch(object + c->offset, 1);
  else
    __builtin_prefetch(object + c->offset, 0);
}

INLINE uint64_t gather_fixed(const struct chunk *c, uint64_t bytes) {
  for (uint64_t i = 0; i < c->n; i++) {
    look_ahead(c, i, 0);
    gch_ref object = bulk_element(c->refs + i);
    if (!usable(object, c->type)) return i;
    memcpy(c->out + i * bytes, (const char *)(const void *)object + c->offset, bytes);
  }
  return c->n;
}

INLINE uint64_t scatter_fixed(const struct chunk *c, uint64_t bytes) {
  for (uint64_t i = 0; i < c->n; i++) {
    look_ahead(c, i, 1);
    gch_ref object = bulk_element(c->refs + i);
    if (!usable(object, c->type)) return i;
    memcpy((char *)(void *)object + c->offset, c->in + i * c->stride, bytes);
  }
  return c->n;
}

static uint64_t gather_chunk(const struct chunk *c) {
  switch (c->bytes) {
    case 1: return gather_fixed(c, 1);
    case 2: return gather_fixed(c, 2);
    case 4: return gather_fixed(c, 4);
    case 8: return gather_fixed(c, 8);
    case 16: return gather_fixed(c, 16);
    default: return gather_fixed(c, c->bytes);
  }
}

static uint64_t scatter_chunk(const struct chunk *c) {
  switch (c->bytes) {
    case 1: return scatter_fixed(c, 1);
    case 2: return scatter_fixed(c, 2);
    case 4: return scatter_fixed(c, 4);
    case 8: return scatter_fixed(c, 8);
    case 16: return scatter_fixed(c, 16);
    default: return scatter_fixed(c, c->bytes);
  }
}

/* All chunks; `in` and `out` are those of element 0, one of them NULL. */
static int each_chunk(struct bulk *b, const bulk_field *field, uint64_t count, void *out, const void *in,
                      uint64_t stride) {
  for (uint64_t at = 0; at < count; at += BULK_CHUNK) {
    struct chunk c = {.refs = bulk_slots(b, 0) + at,
                      .n = count - at < BULK_CHUNK ? count - at : BULK_CHUNK,
                      .offset = field->offset,
                      .bytes = field->bytes,
                      .stride = stride,
                      .type = header_type(field->type->header)};
    if (out != NULL) c.out = (uint8_t *)out + at * field->bytes;
    if (in != NULL) c.in = (const uint8_t *)in + at * stride;
    uint64_t done = out != NULL ? gather_chunk(&c) : scatter_chunk(&c);
    if (done < c.n) return bulk_fail_element(b, "element", at + done, bulk_element(c.refs + done), field->type);
    int status = bulk_poll(b);
    if (status != GCH_OK) return status;
  }
  return GCH_OK;
}

int bulk_gather(gch_mutator *m, gch_handle array, uint64_t count, const bulk_field *field, void *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root_sized(&b, 0, array, count);
  if (status == GCH_OK) status = each_chunk(&b, field, count, out, NULL, 0);
  return bulk_leave(&b, status);
}

int bulk_scatter(gch_mutator *m, gch_handle array, uint64_t count, const bulk_field *field, const void *in,
                 uint64_t stride) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root_sized(&b, 0, array, count);
  if (status == GCH_OK) status = each_chunk(&b, field, count, NULL, in, stride);
  return bulk_leave(&b, status);
}

/* --- fields that are references --------------------------------------------------------------------------------- */

/* Slots [at, at + n) of frame slot 1 from the field of the objects of frame slot 0. */
static int gather_refs_chunk(struct bulk *b, const bulk_field *field, uint64_t at, uint64_t n) {
  gch_ref *to = bulk_slots(b, 1) + at;
  struct chunk c = {.refs = bulk_slots(b, 0) + at, .n = n, .offset = field->offset};
  uint32_t type = header_type(field->type->header);
  for (uint64_t i = 0; i < n; i++) {
    look_ahead(&c, i, 0);
    gch_ref object = bulk_element(c.refs + i);
    if (!usable(object, type)) return bulk_fail_element(b, "element", at + i, object, field->type);
    bulk_set(b, to + i, gch_load(object, field->offset));
  }
  return GCH_OK;
}

int bulk_gather_refs(gch_mutator *m, gch_handle array, const bulk_field *field, const gch_type *refs, gch_handle *out) {
  struct bulk b;
  uint64_t count;
  bulk_enter(&b, m);
  int status = bulk_root_array(&b, 0, array, &count);
  if (status == GCH_OK) status = bulk_new_array(&b, 1, refs, count);
  for (uint64_t at = 0; at < count && status == GCH_OK; at += BULK_CHUNK) {
    status = gather_refs_chunk(&b, field, at, count - at < BULK_CHUNK ? count - at : BULK_CHUNK);
    if (status == GCH_OK) status = bulk_poll(&b);
  }
  if (status == GCH_OK) status = bulk_give(&b, 1, out);
  return bulk_leave(&b, status);
}

/* What one scatter of references needs; frame slot 0 is the array, 1 the values (or the one value). */
struct scatter {
  struct bulk *b;
  const bulk_field *field;
  const gch_type *must_be;
  bool one;
};

static int scatter_refs_chunk(const struct scatter *s, uint64_t at, uint64_t n) {
  struct chunk c = {.refs = bulk_slots(s->b, 0) + at, .n = n, .offset = s->field->offset};
  const gch_ref *values = s->one ? NULL : bulk_slots(s->b, 1) + at;
  uint32_t type = header_type(s->field->type->header);
  for (uint64_t i = 0; i < n; i++) {
    look_ahead(&c, i, 1);
    if (values != NULL && s->must_be != NULL)
      __builtin_prefetch(bulk_element(values + (i + BULK_AHEAD < n ? i + BULK_AHEAD : n - 1)));
    gch_ref object = bulk_element(c.refs + i), value = s->one ? s->b->refs[1] : bulk_element(values + i);
    if (!usable(object, type)) return bulk_fail_element(s->b, "element", at + i, object, s->field->type);
    if (s->must_be != NULL && value != NULL && !bulk_is(value, s->must_be))
      return bulk_fail_element(s->b, "value", at + i, value, s->must_be);
    bulk_set(s->b, gch_slot(object, s->field->offset), value);
  }
  return GCH_OK;
}

int bulk_scatter_refs(gch_mutator *m, gch_handle array, const bulk_field *field, gch_handle values, bool one,
                      const gch_type *must_be) {
  struct bulk b;
  uint64_t count, available;
  bulk_enter(&b, m);
  struct scatter s = {&b, field, must_be, one};
  int status = bulk_root_array(&b, 0, array, &count);
  if (status == GCH_OK) status = one ? bulk_root(&b, 1, values, true) : bulk_root_array(&b, 1, values, &available);
  if (status == GCH_OK && !one && available != count)
    status = bulk_fail(&b, BULK_BAD_LENGTH, "%llu references cannot be stored into %llu objects",
                       (unsigned long long)available, (unsigned long long)count);
  for (uint64_t at = 0; at < count && status == GCH_OK; at += BULK_CHUNK) {
    status = scatter_refs_chunk(&s, at, count - at < BULK_CHUNK ? count - at : BULK_CHUNK);
    if (status == GCH_OK) status = bulk_poll(&b);
  }
  return bulk_leave(&b, status);
}
