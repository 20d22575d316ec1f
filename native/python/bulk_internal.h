/* Shared by the bulk operations: entering and leaving, errors, stores. */
#ifndef PYTHON_BULK_INTERNAL_H
#define PYTHON_BULK_INTERNAL_H

#include "base/error.h"
#include "heap/mature.h"
#include "heap/mutator.h"
#include "python/bulk.h"

enum {
  BULK_CHUNK = 4096, /* elements between two polls: 10 to 50 us */
  BULK_AHEAD = 24,   /* elements that objects are prefetched ahead of their use */
  BULK_FRAME = 3,    /* references that one operation keeps */
  REFS_OFFSET = GCH_HEADER_BYTES, /* of the first element of an array of references */
};

/* One running operation: managed from bulk_enter to bulk_leave, with a frame. */
struct bulk {
  gch_mutator *m;
  gch_heap *h;
  gch_frame frame;
  gch_ref refs[BULK_FRAME];
  uint64_t lengths[BULK_FRAME]; /* of arrays in the frame, as they were found */
};

static inline void bulk_enter(struct bulk *b, gch_mutator *m) {
  *b = (struct bulk){.m = m, .h = m->heap};
  gch_native_leave(m);
  gch_frame_push(m, &b->frame, b->refs, BULK_FRAME);
}

static inline int bulk_leave(struct bulk *b, int status) {
  gch_frame_pop(b->m);
  gch_native_enter(b->m);
  return status;
}

/* The mutator's error; status is cast, as the codes of bulk_status continue those of gch_status. */
#define bulk_fail(b, code, ...) ((int)error_set(&mutator_of((b)->m)->error, (gch_status)(code), __VA_ARGS__))

/* The object of a handle into frame slot `slot`. 0 is null, if `null` is legal. */
int bulk_root(struct bulk *b, int slot, gch_handle handle, bool null);
/* The same for an array of references; its length to *count. */
int bulk_root_array(struct bulk *b, int slot, gch_handle handle, uint64_t *count);
/* The same for one that is expected to have `count` elements, as memory outside the heap has. */
int bulk_root_sized(struct bulk *b, int slot, gch_handle handle, uint64_t count);
/* Arrays in the frame have become shorter meanwhile? (Another thread has resized one.) */
int bulk_check_lengths(struct bulk *b);
/* A handle for the object in frame slot `slot`. */
int bulk_give(struct bulk *b, int slot, gch_handle *out);
/* The object in frame slot `slot`, with a handle of its own. */
int bulk_describe_slot(struct bulk *b, int slot, bulk_object *out);
/* A new array of `count` null references into frame slot `slot`. May collect. */
int bulk_new_array(struct bulk *b, int slot, const gch_type *refs, uint64_t count);

/* Answers a request to stop, and looks whether arrays are as long as they were: lengths shrink in pauses only. */
static inline int bulk_poll(struct bulk *b) {
  if (gch_likely(!gch_poll(b->m))) return GCH_OK;
  gch_safepoint_slow(b->m);
  return bulk_check_lengths(b);
}

static inline gch_ref *bulk_slots(const struct bulk *b, int slot) { return gch_slot(b->refs[slot], REFS_OFFSET); }
static inline gch_ref bulk_element(const gch_ref *slot) { return __atomic_load_n(slot, __ATOMIC_RELAXED); }

static inline bool bulk_is(gch_ref object, const gch_type *type) {
  return header_type(header_load((uintptr_t)object)) == header_type(type->header);
}

/* The write barrier with a filter before its marks: outside a cycle a reference from old to old needs no card, and a
 * bulk load that dirtied every card of the heap would make the next minor collection read all of it. */
static inline void bulk_set(struct bulk *b, gch_ref *slot, gch_ref value) {
  bool plain = at_load_relaxed(&b->h->phase) == GCH_PHASE_IDLE && b->m->snapshot == 0; /* both change in pauses */
  if (gch_likely(plain && !heap_is_young(b->h, (uintptr_t)value)))
    __atomic_store_n(slot, value, __ATOMIC_RELEASE);
  else
    gch_store(b->m, slot, value);
}

/* The object of handle `value` (0: null) into a frame slot; `must_be`: its type, if it is not NULL. */
int bulk_root_value(struct bulk *b, int slot, gch_handle value, const gch_type *must_be);
/* The object in frame slot 0 is of this type? */
int bulk_root_of_type(struct bulk *b, gch_handle object, const gch_type *type);
/* Element `index` (negative: from the end) of the array in frame slot 0, which has `count`, into *at. */
int bulk_element_at(struct bulk *b, int64_t index, uint64_t count, uint64_t *at);
/* The wrapper's data for the object in a frame slot, with a handle of its own. */
int bulk_describe_slot(struct bulk *b, int slot, bulk_object *out);
/* The same, with a handle that there is already. The object is not null. */
void bulk_describe_as(struct bulk *b, int slot, gch_handle handle, bulk_object *out);
/* The type's `user`; the heap's own types have none, but a kind. */
static inline uint64_t bulk_user(const struct type_info *type) {
  if (gch_likely(type->cell == CELL_NONE)) return type->user;
  return (uint64_t)(type->cell == CELL_WEAK ? BULK_KIND_WEAK : BULK_KIND_EPHEMERON) << 56;
}

/* Why an element could not be used: null or of another type than `type`. */
int bulk_fail_element(struct bulk *b, const char *what, uint64_t index, gch_ref element, const gch_type *type);

#endif
