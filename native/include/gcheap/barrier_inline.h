/* The write barrier: a store, two marks, one branch. Its shape is ABI: it is inlined in hosts.
 *
 * Every store of a reference into an object goes through gch_store. It marks the 512-byte card of the slot and
 * the dirty byte of the slot's arena (what a minor collection looks at); the branch is for the
 * snapshot log of concurrent marking (Yuasa's deletion barrier), taken only while marking. There
 * is no read barrier: loads are plain loads. */
#ifndef GCHEAP_BARRIER_INLINE_H
#define GCHEAP_BARRIER_INLINE_H

#include "gcheap/mutator.h"

#define GCH_CARD_SHIFT 9
#define GCH_ARENA_SHIFT 21

/* Logs the value that a store is about to overwrite; one that an exchange has just replaced. */
GCH_API void gch_snapshot_slow(gch_mutator *mutator, gch_ref *slot);
GCH_API void gch_snapshot_value_slow(gch_mutator *mutator, gch_ref previous);

/* Checked forms for bindings: slot `offset` bytes into `object`; GCH_BAD_VALUE if that is not a reference slot
 * of it. Managed state. */
GCH_API gch_status gch_field_load(gch_mutator *mutator, gch_ref object, uint64_t offset, gch_ref *out);
GCH_API gch_status gch_field_store(gch_mutator *mutator, gch_ref object, uint64_t offset, gch_ref value);

#ifndef GCHEAP_CDEF
static inline gch_ref *gch_slot(gch_ref object, size_t offset) {
  return (gch_ref *)(void *)((char *)(void *)object + offset);
}

static inline gch_ref gch_load(gch_ref object, size_t offset) {
  return __atomic_load_n(gch_slot(object, offset), __ATOMIC_RELAXED);
}

/* Store `value` (a reference, or a tagged word cast to one) into the slot. The marks follow the store, and
 * a pause orders them before the collector's look at them. */
static inline void gch_store(gch_mutator *m, gch_ref *slot, gch_ref value) {
  if (__builtin_expect(m->snapshot != 0, 0)) gch_snapshot_slow(m, slot);
  __atomic_store_n(slot, value, __ATOMIC_RELEASE);
  __atomic_store_n((uint8_t *)(uintptr_t)(m->card_bias + ((uintptr_t)slot >> GCH_CARD_SHIFT)), 1, __ATOMIC_RELAXED);
  __atomic_store_n((uint8_t *)(uintptr_t)(m->dirty_bias + ((uintptr_t)slot >> GCH_ARENA_SHIFT)), 1, __ATOMIC_RELAXED);
}

static inline void gch_set(gch_mutator *m, gch_ref object, size_t offset, gch_ref value) {
  gch_store(m, gch_slot(object, offset), value);
}

/* The payload of a leaf object, or any non-reference field. */
static inline void *gch_payload(gch_ref object) { return (char *)(void *)object + GCH_HEADER_BYTES; }
#endif

#endif
