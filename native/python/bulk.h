/* What Python calls: whole arrays of objects at a time.
 *
 * Every function here is called in native state by the thread that owns the mutator, and with the GIL dropped (cffi
 * does that). It enters managed state, works through its elements, answering safepoints every few thousand, and
 * leaves again; nothing in it touches Python. Objects are named by handles. An array of references (a RefArray) is
 * an object with a tail of references and one handle, so that its elements are one root.
 *
 * A function that fails names the element in gch_last_error; elements before it have been stored. */
#ifndef PYTHON_BULK_H
#define PYTHON_BULK_H

#ifndef GCHEAP_CDEF
#include <gcheap/gcheap.h>
#endif

/* Outcomes beside those of gch_status. */
typedef enum bulk_status {
  BULK_WRONG_TYPE = 32, /* an object of another type than was asked for */
  BULK_NULL,            /* a null reference where an object was needed */
  BULK_BAD_INDEX,       /* an index outside the array */
  BULK_BAD_LENGTH,      /* two arrays of different lengths, or one that was resized meanwhile */
  BULK_PINNED,          /* a pinned array cannot be resized */
} bulk_status;

/* Types say in the top byte of their `user` word what they are to Python; the rest is an index of Python's. */
typedef enum bulk_kind {
  BULK_KIND_STRUCT = 1, /* heap.struct */
  BULK_KIND_REFS,       /* array of references */
  BULK_KIND_LEAF,       /* heap.array */
  BULK_KIND_GRAPH,      /* of a loaded graph: references, then bytes */
  BULK_KIND_GRAPH_REFS, /* the same, with more references than a fixed layout lists: a tail of references ... */
  BULK_KIND_GRAPH_WIDE, /* ... and, as they do not fill the object, their number in the first word */
  BULK_KIND_WEAK,       /* gcheap.WeakRef: the heap's own types, of which bulk_object says so */
  BULK_KIND_EPHEMERON,  /* gcheap.Ephemeron */
} bulk_kind;

/* Elements of an array: `items` (negative ones count from the end), or start, start + step, ... */
typedef struct bulk_index {
  const int64_t *items;
  int64_t start, step;
  uint64_t count;
} bulk_index;

/* A field: its type, where it lies in the object, its bytes (8 for a reference). */
typedef struct bulk_field {
  const gch_type *type;
  uint64_t offset;
  uint64_t bytes;
} bulk_field;

/* An object as Python sees it when it makes a wrapper for it. A null reference has handle 0. */
typedef struct bulk_object {
  gch_handle handle;
  uint64_t user;    /* of its type */
  uint64_t length;  /* elements in its tail */
  uint64_t address; /* now; stays only while pinned */
} bulk_object;

/* --- threads and the heap ------------------------------------------------------------------------------------- */
/* Attaches the calling thread and leaves it in native state. */
int bulk_attach(gch_heap *heap, gch_mutator **out, gch_error *error);
/* Takes another thread's mutator, in native state, away from its heap, so that the heap can be destroyed. Its thread
 * must not use it again; it is freed when that thread ends, which must not be before this returns. */
void bulk_orphan(gch_mutator *mutator);
int bulk_collect(gch_mutator *mutator, const gch_collect_options *options, gch_cycle *report);
int bulk_collect_wait(gch_mutator *mutator, gch_cycle *report);
int bulk_verify(gch_mutator *mutator, gch_error *error);
uint64_t bulk_map(gch_mutator *mutator, gch_block_info *out, uint64_t capacity);
/* Any thread, any state. */
void bulk_free(gch_heap *heap, const gch_handle *handles, uint64_t count);

/* --- new objects ---------------------------------------------------------------------------------------------- */
/* `count` objects with tails of `tail_count` elements each, and the array of type `refs` that lists them. */
int bulk_new(gch_mutator *mutator, const gch_type *type, uint64_t count, uint64_t tail_count, const gch_type *refs,
             gch_handle *out);
/* One object. */
int bulk_new_one(gch_mutator *mutator, const gch_type *type, uint64_t tail_count, gch_handle *out);
/* An array that lists the objects of `count` handles (0: null). */
int bulk_list(gch_mutator *mutator, const gch_handle *handles, uint64_t count, const gch_type *refs, gch_handle *out);

/* --- one object ----------------------------------------------------------------------------------------------- */
int bulk_load(gch_mutator *mutator, gch_handle object, const bulk_field *field, void *out);
int bulk_store(gch_mutator *mutator, gch_handle object, const bulk_field *field, const void *in);
int bulk_load_ref(gch_mutator *mutator, gch_handle object, const bulk_field *field, bulk_object *out);
/* `value` may be 0 (null) and must be of type `must_be`, if that is not NULL. */
int bulk_store_ref(gch_mutator *mutator, gch_handle object, const bulk_field *field, gch_handle value,
                   const gch_type *must_be);
/* `value` if the field holds `expected`; whether it did. Types as for bulk_store_ref. */
int bulk_swap_ref(gch_mutator *mutator, gch_handle object, const bulk_field *field, gch_handle expected,
                  gch_handle value, const gch_type *must_be, bool *swapped);
/* `value`, and what the field held before. */
int bulk_exchange_ref(gch_mutator *mutator, gch_handle object, const bulk_field *field, gch_handle value,
                      const gch_type *must_be, bulk_object *out);
int bulk_same(gch_mutator *mutator, gch_handle a, gch_handle b, bool *out);
int bulk_hash(gch_mutator *mutator, gch_handle object, uint32_t *out);
int bulk_describe(gch_mutator *mutator, gch_handle object, bulk_object *out);
/* Pins a leaf object; *payload is its first byte after the header, *address what gch_unpin wants, *length its elements. */
int bulk_pin(gch_mutator *mutator, gch_handle object, void **payload, void **address, uint64_t *length);
/* Elements in its tail. */
int bulk_length(gch_mutator *mutator, gch_handle object, uint64_t *out);
/* gch_resize; the handle names what comes of it. */
int bulk_resize(gch_mutator *mutator, gch_handle object, uint64_t count);

/* --- arrays of references ------------------------------------------------------------------------------------- */
/* Other threads may resize them: where there is a `count`, `out` or `in` has so many elements, and the array must have, too. */
int bulk_get(gch_mutator *mutator, gch_handle array, int64_t index, bulk_object *out);
int bulk_take(gch_mutator *mutator, gch_handle array, const bulk_index *index, const gch_type *refs, gch_handle *out);
/* Stores `values` (an array of references, or, `one`, an object for all of them) into elements of `array`. */
int bulk_put(gch_mutator *mutator, gch_handle array, const bulk_index *index, gch_handle values, bool one,
             const gch_type *must_be);
/* Elements [from_index, from_index + count) of `from` into `to` from to_index on; they may overlap. */
int bulk_copy(gch_mutator *mutator, gch_handle to, uint64_t to_index, gch_handle from, uint64_t from_index,
              uint64_t count);
int bulk_fill(gch_mutator *mutator, gch_handle array, uint64_t from, uint64_t count, gch_handle value,
              const gch_type *must_be);
/* As bulk_swap_ref and bulk_exchange_ref, for element `index` (negative: from the end). */
int bulk_swap_element(gch_mutator *mutator, gch_handle array, int64_t index, gch_handle expected, gch_handle value,
                      const gch_type *must_be, bool *swapped);
int bulk_exchange_element(gch_mutator *mutator, gch_handle array, int64_t index, gch_handle value,
                          const gch_type *must_be, bulk_object *out);
int bulk_is_null(gch_mutator *mutator, gch_handle array, uint64_t count, bool *out);
int bulk_equal(gch_mutator *mutator, gch_handle array, uint64_t count, gch_handle values, bool one, bool *out);
/* The `user` of the one type that all elements have, 0 if all are null; BULK_WRONG_TYPE if there are several. */
int bulk_common(gch_mutator *mutator, gch_handle array, uint64_t *user);

/* --- fields of the elements of an array ------------------------------------------------------------------------ */
int bulk_gather(gch_mutator *mutator, gch_handle array, uint64_t count, const bulk_field *field, void *out);
/* `stride`: bytes from one value to the next, 0: one for all. */
int bulk_scatter(gch_mutator *mutator, gch_handle array, uint64_t count, const bulk_field *field, const void *in,
                 uint64_t stride);
int bulk_gather_refs(gch_mutator *mutator, gch_handle array, const bulk_field *field, const gch_type *refs,
                     gch_handle *out);
int bulk_scatter_refs(gch_mutator *mutator, gch_handle array, const bulk_field *field, gch_handle values, bool one,
                      const gch_type *must_be);

/* --- what is weak; finalizers ------------------------------------------------------------------------------------ */
int bulk_weak_new(gch_mutator *mutator, gch_handle referent, gch_handle *out);
int bulk_weak_get(gch_mutator *mutator, gch_handle weak, bulk_object *out);
int bulk_ephemeron_new(gch_mutator *mutator, gch_handle key, gch_handle value, gch_handle *out);
/* The key, or the value. */
int bulk_ephemeron_get(gch_mutator *mutator, gch_handle ephemeron, bool value, bulk_object *out);
int bulk_ephemeron_set(gch_mutator *mutator, gch_handle ephemeron, gch_handle value);
/* An array (of type `refs`) of weak references to the elements of an array. */
int bulk_weak_list(gch_mutator *mutator, gch_handle array, const gch_type *refs, gch_handle *out);
/* The array (of type `refs`) of what they refer to; which are null; what one of them refers to. */
int bulk_weak_take(gch_mutator *mutator, gch_handle cells, const gch_type *refs, gch_handle *out);
int bulk_weak_dead(gch_mutator *mutator, gch_handle cells, bool *out);
int bulk_weak_at(gch_mutator *mutator, gch_handle cells, int64_t index, bulk_object *out);
int bulk_finalize(gch_mutator *mutator, gch_handle object, uint64_t token);
/* Takes objects out of the queue, at most `capacity`: their tokens, and handles of them, or (NULL) they are dropped. */
int bulk_finalized(gch_mutator *mutator, uint64_t *tokens, gch_handle *objects, uint64_t capacity, uint64_t *count);

#endif
