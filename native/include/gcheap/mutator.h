/* Mutators: threads that use a heap.
 *
 * States:   (none) --attach--> MANAGED <--native_enter/leave--> NATIVE --detach--> (none)
 * MANAGED: may touch objects, and must reach a safepoint soon whenever gch_poll says so.
 * NATIVE: counts as stopped; may not touch objects with references, but may use pinned leaf memory.
 * A thread may be managed in several heaps. Whatever may wait in one (each call that may collect) makes it native in all of
 * them for the wait: a safepoint of one heap is a safepoint of all heaps in which this thread is managed, and references of
 * any of them in variables are stale afterwards.
 * A mutator belongs to the thread that attached it; calls from another thread are undefined. */
#ifndef GCHEAP_MUTATOR_H
#define GCHEAP_MUTATOR_H

#include "gcheap/type.h"
#include "gcheap/types.h"

/* A frame of the shadow stack: `count` slots that hold references; see GCH_FRAME. */
typedef struct gch_frame {
  struct gch_frame *previous;
  gch_ref *slots;
  uint64_t count;
} gch_frame;

/* The part of a mutator that the inlined fast paths read; the rest is private. Index 0: objects with
 * references, 1: leaf objects. */
struct gch_mutator {
  uint64_t alloc_cursor[2]; /* [owner] next free byte of the allocation buffer */
  uint64_t alloc_limit[2];  /* [owner] its end */
  uint64_t card_bias;       /* [const] address of the card of address 0 */
  uint64_t dirty_bias;      /* [const] address of the dirty byte of address 0's arena */
  uint32_t poll;            /* [atomic] nonzero: a safepoint is asked for */
  uint32_t snapshot;        /* [stw] nonzero: stores log the previous value (marking) */
  gch_frame *frames;        /* [owner] innermost frame */
  gch_heap *heap;           /* [const] */
  uint64_t *log;            /* [owner, stw] next free word of the log of overwritten references */
  uint64_t *log_end;        /* [owner, stw] its end; both NULL: there is none yet */
};

/* Attaches the calling thread, in managed state. Waits out a pause: a safepoint of its other heaps. A thread that ends while attached is
 * detached by then. GCH_BAD_STATE if this thread is attached to this heap already. */
GCH_API gch_status gch_attach(gch_heap *heap, gch_mutator **out, gch_error *error);

/* Detaches; its frames must be popped. Waits out a pause: a safepoint of its other heaps. */
GCH_API void gch_detach(gch_mutator *mutator);

/* Answers a pending request to stop. May collect. Cheap when nothing is asked for: call it in every loop. */
GCH_API void gch_safepoint_slow(gch_mutator *mutator);

/* Enters and leaves native state. Leaving may wait for a pause to end: references in local variables are
 * stale afterwards, those in frames are right. */
GCH_API void gch_native_enter(gch_mutator *mutator);
GCH_API void gch_native_leave(gch_mutator *mutator);

/* The last failure of a call on this mutator that returned NULL or a status. Owned by the mutator. */
GCH_API const gch_error *gch_last_error(const gch_mutator *mutator);

#ifndef GCHEAP_CDEF
static inline bool gch_poll(const gch_mutator *m) {
  return __builtin_expect(__atomic_load_n(&m->poll, __ATOMIC_RELAXED) != 0, 0);
}

static inline void gch_safepoint(gch_mutator *m) {
  if (gch_poll(m)) gch_safepoint_slow(m);
}

static inline void gch_frame_push(gch_mutator *m, gch_frame *frame, gch_ref *slots, size_t count) {
  frame->previous = m->frames;
  frame->slots = slots;
  frame->count = count;
  m->frames = frame;
}

static inline void gch_frame_pop(gch_mutator *m) { m->frames = m->frames->previous; }

/* Declares `name`, an array of `n` null references that the collector sees until GCH_FRAME_END. */
#define GCH_FRAME(m, name, n) \
  gch_ref name[n] = {NULL};   \
  gch_frame name##_frame;     \
  gch_frame_push((m), &name##_frame, name, (n))
#define GCH_FRAME_END(m) gch_frame_pop(m)
#endif

#endif
