/* Entering and leaving, threads and the heap, single objects. */
#include "python/bulk_internal.h"

#include <pthread.h>
#include <string.h>

#include "gc/roots.h"

/* --- shared --------------------------------------------------------------------------------------------------- */

static const char *type_name(const gch_heap *h, gch_ref object) {
  return typetab_get(&h->types, header_load((uintptr_t)object))->name;
}

int bulk_root(struct bulk *b, int slot, gch_handle handle, bool null) {
  b->lengths[slot] = 0;
  if (handle == 0) {
    b->refs[slot] = NULL;
    return null ? GCH_OK : bulk_fail(b, BULK_NULL, "%s", "the reference is null, expected an object");
  }
  return (int)gch_handle_get(b->m, handle, &b->refs[slot]);
}

int bulk_root_array(struct bulk *b, int slot, gch_handle handle, uint64_t *count) {
  int status = bulk_root(b, slot, handle, false);
  *count = 0;
  if (status != GCH_OK) return status;
  const gch_type *type = gch_type_of(b->h, b->refs[slot]);
  if (gch_type_user(b->h, type) >> 56 != BULK_KIND_REFS)
    return bulk_fail(b, BULK_WRONG_TYPE, "an object of type %s is no array of references",
                     type_name(b->h, b->refs[slot]));
  *count = b->lengths[slot] = gch_length(b->h, b->refs[slot]);
  return GCH_OK;
}

int bulk_root_sized(struct bulk *b, int slot, gch_handle handle, uint64_t count) {
  uint64_t length;
  int status = bulk_root_array(b, slot, handle, &length);
  if (status != GCH_OK || length == count) return status;
  return bulk_fail(b, BULK_BAD_LENGTH, "the array has %llu elements, expected %llu: it was resized meanwhile",
                   (unsigned long long)length, (unsigned long long)count);
}

int bulk_check_lengths(struct bulk *b) {
  for (int i = 0; i < BULK_FRAME; i++) {
    uint64_t length = b->lengths[i] == 0 ? 0 : gch_length(b->h, b->refs[i]);
    if (length < b->lengths[i])
      return bulk_fail(b, BULK_BAD_LENGTH, "the array has %llu elements, it had %llu: it was resized meanwhile",
                       (unsigned long long)length, (unsigned long long)b->lengths[i]);
  }
  return GCH_OK;
}

int bulk_give(struct bulk *b, int slot, gch_handle *out) {
  *out = gch_handle_new(b->m, b->refs[slot]);
  return *out != 0 ? GCH_OK : GCH_NO_MEMORY;
}

int bulk_new_array(struct bulk *b, int slot, const gch_type *refs, uint64_t count) {
  b->refs[slot] = gch_alloc_array(b->m, refs, count);
  return b->refs[slot] != NULL ? GCH_OK : (int)gch_last_error(b->m)->status;
}

int bulk_fail_element(struct bulk *b, const char *what, uint64_t index, gch_ref element, const gch_type *type) {
  const char *name = gch_type_name(b->h, type);
  if (element == NULL)
    return bulk_fail(b, BULK_NULL, "%s %llu is null, expected an object of type %s", what, (unsigned long long)index,
                     name);
  return bulk_fail(b, BULK_WRONG_TYPE, "%s %llu is an object of type %s, expected %s", what, (unsigned long long)index,
                   type_name(b->h, element), name);
}

/* --- threads and the heap ------------------------------------------------------------------------------------- */

int bulk_attach(gch_heap *h, gch_mutator **out, gch_error *error) {
  gch_status status = gch_attach(h, out, error);
  if (status == GCH_OK) gch_native_enter(*out);
  return (int)status;
}

/* The heap of orphans: a lock and nothing else. A thread that ends detaches its mutators from their heaps; those whose
 * heap is gone find this one, in whose list they are not. */
static struct gch_heap limbo;
static pthread_once_t limbo_once = PTHREAD_ONCE_INIT;
static void make_limbo(void) { lock_init(&limbo.world.mutators_lock, RANK_MUTATORS, "orphans"); }

void bulk_orphan(gch_mutator *mutator) {
  struct mutator *m = mutator_of(mutator);
  gch_heap *h = mutator->heap;
  pthread_once(&limbo_once, make_limbo);
  lock_lock(&h->world.mutators_lock); /* waits out a pause */
  GCH_CHECK(at_load(&m->state) == MUTATOR_NATIVE, "%s", "a managed mutator is taken from its thread");
  struct mutator **link = &h->world.mutators;
  while (*link != NULL && *link != m) link = &(*link)->next;
  if (*link == m) {
    *link = m->next;
    at_store(&h->world.mutator_count, h->world.mutator_count - 1);
    mutator_sync_one(h, m);
  }
  m->buffer[0] = m->buffer[1] = 0;
  at_store(&mutator->heap, &limbo);
  lock_unlock(&h->world.mutators_lock);
}

int bulk_collect(gch_mutator *m, const gch_collect_options *options, gch_cycle *report) {
  struct bulk b;
  bulk_enter(&b, m);
  return bulk_leave(&b, (int)gch_collect(m, options, report));
}

int bulk_collect_wait(gch_mutator *m, gch_cycle *report) {
  struct bulk b;
  bulk_enter(&b, m);
  return bulk_leave(&b, (int)gch_collect_wait(m, report));
}

int bulk_verify(gch_mutator *m, gch_error *error) {
  struct bulk b;
  bulk_enter(&b, m);
  return bulk_leave(&b, (int)gch_verify(m, error));
}

uint64_t bulk_map(gch_mutator *m, gch_block_info *out, uint64_t capacity) {
  struct bulk b;
  bulk_enter(&b, m);
  uint64_t count = gch_heap_map(m, out, capacity);
  bulk_leave(&b, GCH_OK);
  return count;
}

void bulk_free(gch_heap *h, const gch_handle *handles, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) (void)gch_handle_free(h, handles[i]);
}

/* --- one object ----------------------------------------------------------------------------------------------- */

int bulk_root_of_type(struct bulk *b, gch_handle object, const gch_type *type) {
  int status = bulk_root(b, 0, object, false);
  if (status != GCH_OK || bulk_is(b->refs[0], type)) return status;
  return bulk_fail(b, BULK_WRONG_TYPE, "the object is of type %s, expected %s", type_name(b->h, b->refs[0]),
                   gch_type_name(b->h, type));
}

int bulk_root_value(struct bulk *b, int slot, gch_handle value, const gch_type *must_be) {
  int status = bulk_root(b, slot, value, true);
  if (status != GCH_OK || b->refs[slot] == NULL || must_be == NULL || bulk_is(b->refs[slot], must_be)) return status;
  return bulk_fail(b, BULK_WRONG_TYPE, "the value is an object of type %s, expected %s or null",
                   type_name(b->h, b->refs[slot]), gch_type_name(b->h, must_be));
}

int bulk_load(gch_mutator *m, gch_handle object, const bulk_field *field, void *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root_of_type(&b, object, field->type);
  if (status == GCH_OK) memcpy(out, gch_slot(b.refs[0], field->offset), field->bytes);
  return bulk_leave(&b, status);
}

int bulk_store(gch_mutator *m, gch_handle object, const bulk_field *field, const void *in) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root_of_type(&b, object, field->type);
  if (status == GCH_OK) memcpy(gch_slot(b.refs[0], field->offset), in, field->bytes);
  return bulk_leave(&b, status);
}

void bulk_describe_as(struct bulk *b, int slot, gch_handle handle, bulk_object *out) {
  gch_ref object = b->refs[slot];
  gch_handle_set(b->m, handle, object);
  *out = (bulk_object){.handle = handle,
                       .user = bulk_user(typetab_get(&b->h->types, header_load((uintptr_t)object))),
                       .length = gch_length(b->h, object),
                       .address = (uint64_t)(uintptr_t)object};
}

int bulk_describe_slot(struct bulk *b, int slot, bulk_object *out) {
  *out = (bulk_object){0};
  if (b->refs[slot] == NULL) return GCH_OK;
  int status = bulk_give(b, slot, &out->handle);
  if (status == GCH_OK) bulk_describe_as(b, slot, out->handle, out);
  return status;
}

int bulk_load_ref(gch_mutator *m, gch_handle object, const bulk_field *field, bulk_object *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root_of_type(&b, object, field->type);
  if (status == GCH_OK) b.refs[1] = gch_load(b.refs[0], field->offset);
  if (status == GCH_OK) status = bulk_describe_slot(&b, 1, out);
  return bulk_leave(&b, status);
}

int bulk_store_ref(gch_mutator *m, gch_handle object, const bulk_field *field, gch_handle value,
                   const gch_type *must_be) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root_of_type(&b, object, field->type);
  if (status == GCH_OK) status = bulk_root_value(&b, 1, value, must_be);
  if (status == GCH_OK) gch_set(m, b.refs[0], field->offset, b.refs[1]);
  return bulk_leave(&b, status);
}

int bulk_same(gch_mutator *m, gch_handle left, gch_handle right, bool *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root(&b, 0, left, true);
  if (status == GCH_OK) status = bulk_root(&b, 1, right, true);
  *out = b.refs[0] == b.refs[1];
  return bulk_leave(&b, status);
}

int bulk_hash(gch_mutator *m, gch_handle object, uint32_t *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root(&b, 0, object, false);
  *out = status == GCH_OK ? gch_identity_hash(m, b.refs[0]) : 0;
  return bulk_leave(&b, status);
}

int bulk_length(gch_mutator *m, gch_handle object, uint64_t *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root(&b, 0, object, false);
  *out = status == GCH_OK ? gch_length(b.h, b.refs[0]) : 0;
  return bulk_leave(&b, status);
}

/* The handle names the object that comes of it. */
int bulk_resize(gch_mutator *m, gch_handle object, uint64_t count) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root(&b, 0, object, false);
  if (status == GCH_OK && pins_count(b.h, (uintptr_t)b.refs[0]) != 0)
    status = bulk_fail(&b, BULK_PINNED, "%s",
                       "the array is pinned: a view of it is open, or an array over its memory in use");
  if (status == GCH_OK) {
    b.refs[1] = gch_resize(m, b.refs[0], count);
    status = b.refs[1] == NULL ? (int)gch_last_error(m)->status : (int)gch_handle_set(m, object, b.refs[1]);
  }
  return bulk_leave(&b, status);
}

int bulk_describe(gch_mutator *m, gch_handle object, bulk_object *out) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root(&b, 0, object, true);
  if (status == GCH_OK) status = bulk_describe_slot(&b, 0, out);
  return bulk_leave(&b, status);
}

int bulk_pin(gch_mutator *m, gch_handle object, void **payload, void **address, uint64_t *length) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root(&b, 0, object, false);
  if (status == GCH_OK && !gch_type_of(b.h, b.refs[0])->leaf)
    status = bulk_fail(&b, BULK_WRONG_TYPE,
                       "an object of type %s holds references: only leaf objects are lent to native code",
                       type_name(b.h, b.refs[0]));
  if (status == GCH_OK) status = (int)gch_pin(m, b.refs[0], payload);
  *address = status == GCH_OK ? b.refs[0] : NULL;
  *length = status == GCH_OK ? gch_length(b.h, b.refs[0]) : 0; /* it stays while it is pinned */
  return bulk_leave(&b, status);
}

int bulk_element_at(struct bulk *b, int64_t index, uint64_t count, uint64_t *at) {
  int64_t from_start = index < 0 ? index + (int64_t)count : index;
  *at = (uint64_t)from_start;
  if (from_start >= 0 && *at < count) return GCH_OK;
  return bulk_fail(b, BULK_BAD_INDEX, "index %lld is out of range for %llu elements", (long long)index,
                   (unsigned long long)count);
}

int bulk_get(gch_mutator *m, gch_handle array, int64_t index, bulk_object *out) {
  struct bulk b;
  uint64_t count, at;
  bulk_enter(&b, m);
  int status = bulk_root_array(&b, 0, array, &count);
  if (status == GCH_OK) status = bulk_element_at(&b, index, count, &at);
  if (status == GCH_OK) b.refs[1] = bulk_element(bulk_slots(&b, 0) + at);
  if (status == GCH_OK) status = bulk_describe_slot(&b, 1, out);
  return bulk_leave(&b, status);
}
