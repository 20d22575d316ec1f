/* Swaps and exchanges of one reference, copies and fills of many: the barrier's other forms (gcheap/barrier_inline.h). */
#include "python/bulk_internal.h"

/* --- one reference -------------------------------------------------------------------------------------------- */

/* Frame slots: 0 the object or array, 1 the value, 2 what is expected, or was there. */
static int swap(struct bulk *b, uint64_t offset, gch_handle expected, gch_handle value, const gch_type *must_be,
                bool *swapped) {
  int status = bulk_root_value(b, 1, value, must_be);
  if (status == GCH_OK) status = bulk_root(b, 2, expected, true);
  if (status != GCH_OK) return status;
  gch_ref found = b->refs[2];
  *swapped = gch_compare_and_swap(b->m, gch_slot(b->refs[0], offset), &found, b->refs[1]);
  return GCH_OK;
}

static int exchange(struct bulk *b, uint64_t offset, gch_handle value, const gch_type *must_be, bulk_object *out) {
  int status = bulk_root_value(b, 1, value, must_be);
  if (status != GCH_OK) return status;
  gch_handle handle = gch_handle_new(b->m, NULL); /* first: what comes out must not be lost for want of a name */
  if (handle == 0) return GCH_NO_MEMORY;
  b->refs[2] = gch_exchange(b->m, gch_slot(b->refs[0], offset), b->refs[1]);
  *out = (bulk_object){0};
  if (b->refs[2] == NULL) return (int)gch_handle_free(b->h, handle);
  bulk_describe_as(b, 2, handle, out);
  return GCH_OK;
}

int bulk_swap_ref(gch_mutator *m, gch_handle object, const bulk_field *field, gch_handle expected, gch_handle value,
                  const gch_type *must_be, bool *swapped) {
  struct bulk b;
  bulk_enter(&b, m);
  *swapped = false;
  int status = bulk_root_of_type(&b, object, field->type);
  if (status == GCH_OK) status = swap(&b, field->offset, expected, value, must_be, swapped);
  return bulk_leave(&b, status);
}

int bulk_exchange_ref(gch_mutator *m, gch_handle object, const bulk_field *field, gch_handle value,
                      const gch_type *must_be, bulk_object *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root_of_type(&b, object, field->type);
  if (status == GCH_OK) status = exchange(&b, field->offset, value, must_be, out);
  return bulk_leave(&b, status);
}

static int root_element(struct bulk *b, gch_handle array, int64_t index, uint64_t *offset) {
  uint64_t count, at = 0;
  int status = bulk_root_array(b, 0, array, &count);
  if (status == GCH_OK) status = bulk_element_at(b, index, count, &at);
  *offset = REFS_OFFSET + 8 * at;
  return status;
}

int bulk_swap_element(gch_mutator *m, gch_handle array, int64_t index, gch_handle expected, gch_handle value,
                      const gch_type *must_be, bool *swapped) {
  struct bulk b;
  uint64_t offset;
  bulk_enter(&b, m);
  *swapped = false;
  int status = root_element(&b, array, index, &offset);
  if (status == GCH_OK) status = swap(&b, offset, expected, value, must_be, swapped);
  return bulk_leave(&b, status);
}

int bulk_exchange_element(gch_mutator *m, gch_handle array, int64_t index, gch_handle value, const gch_type *must_be,
                          bulk_object *out) {
  struct bulk b;
  uint64_t offset;
  bulk_enter(&b, m);
  int status = root_element(&b, array, index, &offset);
  if (status == GCH_OK) status = exchange(&b, offset, value, must_be, out);
  return bulk_leave(&b, status);
}

/* --- many ----------------------------------------------------------------------------------------------------- */

int bulk_copy(gch_mutator *m, gch_handle to, uint64_t to_index, gch_handle from, uint64_t from_index, uint64_t count) {
  struct bulk b;
  uint64_t length;
  bulk_enter(&b, m);
  int status = bulk_root_array(&b, 0, to, &length);
  if (status == GCH_OK) status = bulk_root_array(&b, 1, from, &length);
  if (status == GCH_OK) status = (int)gch_copy_refs(m, b.refs[0], to_index, b.refs[1], from_index, count);
  return bulk_leave(&b, status);
}

int bulk_fill(gch_mutator *m, gch_handle array, uint64_t from, uint64_t count, gch_handle value,
              const gch_type *must_be) {
  struct bulk b;
  uint64_t length;
  bulk_enter(&b, m);
  int status = bulk_root_array(&b, 0, array, &length);
  if (status == GCH_OK) status = bulk_root_value(&b, 1, value, must_be);
  if (status == GCH_OK) status = (int)gch_fill_refs(m, b.refs[0], from, count, b.refs[1]);
  return bulk_leave(&b, status);
}
