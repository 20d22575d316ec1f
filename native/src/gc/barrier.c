/* Checked forms of the barrier, and those that write many references in a row.
 *
 * A run of references is written in chunks of some microseconds with a safepoint between two. A chunk sees one state of the
 * world: neither m->snapshot nor the phase changes before the next poll, nothing moves, no object that was there when it began
 * gives its pages away. After each poll addresses are taken from the frame again, and lengths looked at again.
 *
 * Cards: one mark for all slots of a card, and none outside a cycle if nothing of what is stored is young (as in
 * native/python/bulk_internal.h: a bulk load that dirtied every card would make the next minor read all of it). */
#include "base/error.h"
#include "heap/heap.h"
#include "heap/mutator.h"
#include "object/scan_inline.h"

enum {
  CHUNK = 4096,       /* elements between two polls */
  CHUNK_LOGGED = 512, /* the same while each is logged */
};

/* --- fields --------------------------------------------------------------------------------------------------- */

static bool is_reference_slot(const gch_heap *h, gch_ref object, uint64_t offset) {
  uint64_t header = header_load((uintptr_t)object);
  const struct type_info *type = typetab_get(&h->types, header);
  if (offset % 8 != 0 || type->cell != CELL_NONE) return false;
  if (offset / 8 < TYPE_BITMAP_WORDS && type->ref_bits >> offset / 8 & 1) return true;
  for (uint32_t i = 0; i < type->far_count; i++)
    if (type->far_refs[i] == offset) return true;
  return type->tail == GCH_TAIL_REFS && offset >= type->pub.tail_offset &&
         (offset - type->pub.tail_offset) / 8 < gch_length(h, object);
}

static gch_status check_field(gch_mutator *m, gch_ref object, uint64_t offset) {
  const gch_heap *h = m->heap;
  gch_error *error = &mutator_of(m)->error;
  if (object == NULL) return error_set(error, GCH_BAD_VALUE, "a field of the null reference was asked for");
  if (!heap_contains(h, (uintptr_t)object))
    return error_set(error, GCH_BAD_VALUE, "%p is not a reference of this heap", (void *)object);
  if (!is_reference_slot(h, object, offset))
    return error_set(error, GCH_BAD_VALUE, "offset %llu of an object of type %s is not a reference",
                     (unsigned long long)offset, typetab_get(&h->types, header_load((uintptr_t)object))->name);
  return GCH_OK;
}

static bool is_value(gch_mutator *m, gch_ref value) {
  if (value == NULL || heap_contains(m->heap, (uintptr_t)value)) return true;
  error_set(&mutator_of(m)->error, GCH_BAD_VALUE, "%p is not a reference of this heap", (void *)value);
  return false;
}

gch_status gch_field_load(gch_mutator *m, gch_ref object, uint64_t offset, gch_ref *out) {
  gch_status status = check_field(m, object, offset);
  *out = status == GCH_OK ? gch_load(object, offset) : NULL;
  return status;
}

gch_status gch_field_store(gch_mutator *m, gch_ref object, uint64_t offset, gch_ref value) {
  gch_status status = check_field(m, object, offset);
  if (status != GCH_OK) return status;
  if (!is_value(m, value)) return GCH_BAD_VALUE;
  gch_set(m, object, offset, value);
  return GCH_OK;
}

gch_status gch_field_compare_and_swap(gch_mutator *m, gch_ref object, uint64_t offset, gch_ref *expected, gch_ref value,
                                      bool *swapped) {
  *swapped = false;
  gch_status status = check_field(m, object, offset);
  if (status != GCH_OK) return status;
  if (!is_value(m, value)) return GCH_BAD_VALUE;
  *swapped = gch_compare_and_swap(m, gch_slot(object, offset), expected, value);
  return GCH_OK;
}

gch_status gch_field_exchange(gch_mutator *m, gch_ref object, uint64_t offset, gch_ref value, gch_ref *previous) {
  *previous = NULL;
  gch_status status = check_field(m, object, offset);
  if (status != GCH_OK) return status;
  if (!is_value(m, value)) return GCH_BAD_VALUE;
  *previous = gch_exchange(m, gch_slot(object, offset), value);
  return GCH_OK;
}

/* --- runs of references --------------------------------------------------------------------------------------- */

/* What holds until the next poll. */
struct run {
  gch_mutator *m;
  const gch_heap *h;
  bool logs;    /* marking: what is overwritten is logged first */
  bool filters; /* only what is young needs a card */
};

static struct run run_begin(gch_mutator *m) {
  return (struct run){m, m->heap, m->snapshot != 0, at_load_relaxed(&m->heap->phase) == GCH_PHASE_IDLE};
}

static uint64_t chunk_of(const gch_mutator *m, uint64_t count) {
  uint64_t most = m->snapshot != 0 ? CHUNK_LOGGED : CHUNK;
  return count < most ? count : most;
}

static inline gch_ref run_load(const gch_ref *slot) { return __atomic_load_n(slot, __ATOMIC_RELAXED); }

static inline bool run_store(const struct run *r, gch_ref *slot, gch_ref value) {
  if (gch_unlikely(r->logs)) gch_log(r->m, run_load(slot));
  __atomic_store_n(slot, value, __ATOMIC_RELEASE);
  return heap_in_young(r->h, (uintptr_t)value);
}

static inline void run_mark(const struct run *r, const gch_ref *slot, bool young) {
  if (young || !r->filters) gch_mark_card(r->m, slot);
}

/* Slots [at, end) up to the end of at's card. */
static inline gch_ref *card_end(gch_ref *at, gch_ref *end) {
  gch_ref *next = (gch_ref *)align_up((uintptr_t)at + 1, CARD_BYTES);
  return next < end ? next : end;
}

/* From slot `end` down to the first of the card of the one before it. */
static inline gch_ref *card_start(gch_ref *start, gch_ref *end) {
  gch_ref *first = (gch_ref *)align_down((uintptr_t)end - 1, CARD_BYTES);
  return first > start ? first : start;
}

static void copy_up(const struct run *r, gch_ref *to, const gch_ref *from, uint64_t count) {
  for (gch_ref *at = to, *end = to + count, *stop; at < end; at = stop) {
    bool young = false;
    stop = card_end(at, end);
    for (gch_ref *slot = at; slot < stop; slot++) young |= run_store(r, slot, run_load(from++));
    run_mark(r, at, young);
  }
}

static void copy_down(const struct run *r, gch_ref *to, const gch_ref *from, uint64_t count) {
  from += count;
  for (gch_ref *end = to + count, *at; end > to; end = at) {
    bool young = false;
    at = card_start(to, end);
    for (gch_ref *slot = end; slot > at;) young |= run_store(r, --slot, run_load(--from));
    run_mark(r, at, young);
  }
}

static void fill(const struct run *r, gch_ref *to, uint64_t count, gch_ref value) {
  for (gch_ref *at = to, *end = to + count, *stop; at < end; at = stop) {
    bool young = false;
    stop = card_end(at, end);
    for (gch_ref *slot = at; slot < stop; slot++) young |= run_store(r, slot, value);
    run_mark(r, at, young);
  }
}

/* --- their arguments ------------------------------------------------------------------------------------------ */

static const struct type_info *type_of(const gch_heap *h, gch_ref object) {
  return typetab_get(&h->types, header_load((uintptr_t)object));
}

static gch_ref *element(const gch_heap *h, gch_ref object, uint64_t index) {
  return gch_slot(object, type_of(h, object)->pub.tail_offset) + index;
}

static gch_status check_elements(gch_mutator *m, const char *what, gch_ref object, uint64_t from, uint64_t count) {
  const gch_heap *h = m->heap;
  gch_error *error = &mutator_of(m)->error;
  if (object == NULL)
    return error_set(error, GCH_BAD_VALUE, "the %s is null, expected an object with a tail of references", what);
  if (!heap_contains(h, (uintptr_t)object))
    return error_set(error, GCH_BAD_VALUE, "the %s, %p, is not a reference of this heap", what, (void *)object);
  const struct type_info *type = type_of(h, object);
  if (type->tail != GCH_TAIL_REFS)
    return error_set(error, GCH_BAD_VALUE, "the %s is of type %s, expected one with a tail of references", what,
                     type->name);
  uint64_t length = gch_length(h, object);
  if (from <= length && count <= length - from) return GCH_OK;
  return error_set(error, GCH_BAD_VALUE, "%llu elements from %llu on of the %s, which has %llu",
                   (unsigned long long)count, (unsigned long long)from, what, (unsigned long long)length);
}

/* After a poll: are they still there? Another thread may have shortened the object. */
static bool still_has(gch_mutator *m, gch_ref object, uint64_t end) {
  uint64_t length = gch_length(m->heap, object);
  if (end <= length) return true;
  error_set(&mutator_of(m)->error, GCH_BAD_STATE,
            "the object has %llu elements now, %llu were asked for: a thread has shortened it meanwhile",
            (unsigned long long)length, (unsigned long long)end);
  return false;
}

static gch_status check_tags(gch_mutator *m, gch_ref dst, gch_ref src) {
  const struct type_info *to = type_of(m->heap, dst), *from = type_of(m->heap, src);
  if (to->tag_mask == from->tag_mask && to->tag_value == from->tag_value) return GCH_OK;
  return error_set(&mutator_of(m)->error, GCH_BAD_VALUE,
                   "type %s tags words by mask %llu and value %llu, type %s by %llu and %llu; expected the same",
                   to->name, (unsigned long long)to->tag_mask, (unsigned long long)to->tag_value, from->name,
                   (unsigned long long)from->tag_mask, (unsigned long long)from->tag_value);
}

/* --- entry ---------------------------------------------------------------------------------------------------- */

gch_status gch_copy_refs(gch_mutator *m, gch_ref dst, uint64_t dst_index, gch_ref src, uint64_t src_index,
                         uint64_t count) {
  gch_status status = check_elements(m, "destination", dst, dst_index, count);
  if (status == GCH_OK) status = check_elements(m, "source", src, src_index, count);
  if (status == GCH_OK) status = check_tags(m, dst, src);
  if (status != GCH_OK) return status;
  bool down = dst == src && dst_index > src_index; /* what is read last is overwritten last */
  GCH_FRAME(m, roots, 2);
  roots[0] = dst, roots[1] = src;
  for (uint64_t left = count; left > 0 && status == GCH_OK;) {
    uint64_t n = chunk_of(m, left), at = down ? left - n : count - left;
    struct run r = run_begin(m);
    gch_ref *to = element(r.h, roots[0], dst_index + at);
    const gch_ref *from = element(r.h, roots[1], src_index + at);
    if (down)
      copy_down(&r, to, from, n);
    else
      copy_up(&r, to, from, n);
    left -= n;
    if (left == 0) break;
    gch_safepoint(m);
    if (!still_has(m, roots[0], dst_index + count) || !still_has(m, roots[1], src_index + count))
      status = GCH_BAD_STATE;
  }
  GCH_FRAME_END(m);
  return status;
}

/* What the tag rule says is no reference must not stand in a root: it might look like one there. */
gch_status gch_fill_refs(gch_mutator *m, gch_ref object, uint64_t from, uint64_t count, gch_ref value) {
  gch_status status = check_elements(m, "object", object, from, count);
  if (status != GCH_OK) return status;
  const struct type_info *type = type_of(m->heap, object);
  bool is_ref = word_is_ref(type, (uint64_t)(uintptr_t)value);
  if (is_ref && !heap_contains(m->heap, (uintptr_t)value))
    return error_set(&mutator_of(m)->error, GCH_BAD_VALUE, "the value, %p, is not a reference of this heap",
                     (void *)value);
  GCH_FRAME(m, roots, 2);
  roots[0] = object, roots[1] = is_ref ? value : NULL;
  for (uint64_t at = 0, n; at < count && status == GCH_OK; at += n) {
    struct run r = run_begin(m);
    n = chunk_of(m, count - at);
    fill(&r, element(r.h, roots[0], from + at), n, is_ref ? roots[1] : value);
    if (at + n == count) break;
    gch_safepoint(m);
    if (!still_has(m, roots[0], from + count)) status = GCH_BAD_STATE;
  }
  GCH_FRAME_END(m);
  return status;
}
