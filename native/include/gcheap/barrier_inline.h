/* The write barrier: a store, two marks, one branch. Its shape is ABI: it is inlined in hosts.
 *
 * Every store of a reference into an object goes through gch_store, or one of the forms below that exchange one or write many. It marks the 512-byte card of the slot and
 * the dirty byte of the slot's arena (what a minor collection looks at); the branch is for the
 * snapshot log of concurrent marking (Yuasa's deletion barrier), taken only while marking. There
 * is no read barrier: loads are plain loads. */
#ifndef GCHEAP_BARRIER_INLINE_H
#define GCHEAP_BARRIER_INLINE_H

#include "gcheap/mutator.h"

#define GCH_CARD_SHIFT 9
#define GCH_ARENA_SHIFT 21

/* gch_log, when the thread's log has no room. */
GCH_API void gch_log_slow(gch_mutator *mutator, gch_ref previous);

/* Checked forms for bindings: slot `offset` bytes into `object`; GCH_BAD_VALUE if that is not a reference slot
 * of it. Managed state. */
GCH_API gch_status gch_field_load(gch_mutator *mutator, gch_ref object, uint64_t offset, gch_ref *out);
GCH_API gch_status gch_field_store(gch_mutator *mutator, gch_ref object, uint64_t offset, gch_ref value);
/* `value` if the slot holds *expected, which otherwise gets what it holds; *swapped says which. */
GCH_API gch_status gch_field_compare_and_swap(gch_mutator *mutator, gch_ref object, uint64_t offset, gch_ref *expected,
                                              gch_ref value, bool *swapped);
GCH_API gch_status gch_field_exchange(gch_mutator *mutator, gch_ref object, uint64_t offset, gch_ref value,
                                      gch_ref *previous);

/* Elements [src_index, src_index + count) of the tail of references of `src` into that of `dst` (which may be the same object,
 * and the ranges may overlap: as memmove does it). Every element is loaded and stored whole; the copy as a whole is not
 * atomic. GCH_BAD_VALUE, and nothing copied: an object without such a tail, elements that it does not have, tails whose tag
 * rules differ (see gch_type_desc). GCH_BAD_STATE: a thread has shortened one of them meanwhile, and the copy ended there.
 * May collect (it answers safepoints every few thousand elements): references in variables are stale afterwards, the arguments
 * too. */
GCH_API gch_status gch_copy_refs(gch_mutator *mutator, gch_ref dst, uint64_t dst_index, gch_ref src, uint64_t src_index,
                                 uint64_t count);
/* `value` (null, a reference, or a word that the type's tag rule says is none) into elements [from, from + count) of the tail of
 * references. Otherwise like gch_copy_refs. */
GCH_API gch_status gch_fill_refs(gch_mutator *mutator, gch_ref object, uint64_t from, uint64_t count, gch_ref value);

#ifndef GCHEAP_CDEF
static inline gch_ref *gch_slot(gch_ref object, size_t offset) {
  return (gch_ref *)(void *)((char *)(void *)object + offset);
}

static inline gch_ref gch_load(gch_ref object, size_t offset) {
  return __atomic_load_n(gch_slot(object, offset), __ATOMIC_RELAXED);
}

/* Marks the card of a slot that has been written, and its arena. Part of each barrier, and of no use without the rest of it. */
static inline void gch_mark_card(gch_mutator *m, const gch_ref *slot) {
  __atomic_store_n((uint8_t *)(uintptr_t)(m->card_bias + ((uintptr_t)slot >> GCH_CARD_SHIFT)), 1, __ATOMIC_RELAXED);
  __atomic_store_n((uint8_t *)(uintptr_t)(m->dirty_bias + ((uintptr_t)slot >> GCH_ARENA_SHIFT)), 1, __ATOMIC_RELAXED);
}

/* Logs a value that is being overwritten, or has just been by an atomic exchange (the thread has passed no safepoint since),
 * while a collection marks beside the program. Part of each barrier. */
static inline void gch_log(gch_mutator *m, gch_ref previous) {
  if (previous == NULL) return;
  if (__builtin_expect(m->log != m->log_end, 1))
    *m->log++ = (uint64_t)(uintptr_t)previous;
  else
    gch_log_slow(m, previous);
}

/* Store `value` (a reference, or a tagged word cast to one) into the slot. The marks follow the store, and
 * a pause orders them before the collector's look at them. */
static inline void gch_store(gch_mutator *m, gch_ref *slot, gch_ref value) {
  if (__builtin_expect(m->snapshot != 0, 0)) gch_log(m, __atomic_load_n(slot, __ATOMIC_RELAXED));
  __atomic_store_n(slot, value, __ATOMIC_RELEASE);
  gch_mark_card(m, slot);
}

/* `value` into the slot; what it held is returned. Acquire and release. (What is logged is the value that was replaced, by
 * whomever it was stored: so it is logged after the exchange, and no safepoint lies between.) */
static inline gch_ref gch_exchange(gch_mutator *m, gch_ref *slot, gch_ref value) {
  gch_ref previous = __atomic_exchange_n(slot, value, __ATOMIC_ACQ_REL);
  if (__builtin_expect(m->snapshot != 0, 0)) gch_log(m, previous);
  gch_mark_card(m, slot);
  return previous;
}

/* `value` into the slot, if that holds *expected; else *expected gets what it holds, and nothing changes. Whether it was stored.
 * Acquire and release, acquire if not; never fails without a cause. */
static inline bool gch_compare_and_swap(gch_mutator *m, gch_ref *slot, gch_ref *expected, gch_ref value) {
  gch_ref previous = *expected;
  if (!__atomic_compare_exchange_n(slot, expected, value, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return false;
  if (__builtin_expect(m->snapshot != 0, 0)) gch_log(m, previous);
  gch_mark_card(m, slot);
  return true;
}

static inline void gch_set(gch_mutator *m, gch_ref object, size_t offset, gch_ref value) {
  gch_store(m, gch_slot(object, offset), value);
}

/* The payload of a leaf object, or any non-reference field. */
static inline void *gch_payload(gch_ref object) { return (char *)(void *)object + GCH_HEADER_BYTES; }
#endif

#endif
