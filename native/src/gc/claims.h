/* Who may hold a unit of a move counts as inside: workers, who answers faults, who asks for a unit; and who gives memory to free
 * blocks (gc/reserve.h). A move ends when all have left (faults_drain), and fork(), or a major that moves in its pause, closes the
 * way in and waits until they have:
 *
 *   claimer                                              fork(), a pause; the world stopped
 *   inside + 1; closed? inside - 1, wait, again          closed = 1
 *   claim, make, publish; leave: inside - 1              wait until inside is 0
 *
 * Both sides store, then load (Dekker): either the claimer sees that claims are closed, or they see the claimer. Only a stopped
 * world may be closed: a mutator that waits for a page runs (gc/safepoint.h), and somebody has to make it. Who is inside holds
 * units, frames, consumed sources; who has left holds nothing of the sort. Async-signal-safe. */
#ifndef GC_CLAIMS_H
#define GC_CLAIMS_H

#include "heap/heap.h"
#include "os/thread.h"

/* Waits while claims are closed; nothing that fork() waits for may be held. */
static inline void claims_enter(gch_heap *h) {
  for (;;) {
    at_add_seq(&h->claims.inside, 1);
    if (gch_likely(at_load_seq(&h->claims.closed) == 0)) return;
    at_sub_seq(&h->claims.inside, 1);
    while (at_load(&h->claims.closed) != 0) thread_sleep_ns(20000);
  }
}

static inline void claims_leave(gch_heap *h) { at_sub_seq(&h->claims.inside, 1); }

/* Does somebody wait for who is inside? A hint. */
static inline bool claims_wanted(const gch_heap *h) { return at_load_relaxed(&h->claims.closed) != 0; }

/* Returns when nobody is inside; false: that was not by the deadline, and claims are open again. */
static inline bool claims_close(gch_heap *h, uint64_t deadline_ns) {
  at_store_seq(&h->claims.closed, 1);
  GCH_POINT(claims_closed);
  while (at_load_seq(&h->claims.inside) != 0) {
    if (deadline_ns != UINT64_MAX && clock_ns() > deadline_ns) {
      at_store_seq(&h->claims.closed, 0);
      return false;
    }
    thread_yield();
  }
  return true;
}

static inline void claims_open(gch_heap *h) { at_store_seq(&h->claims.closed, 0); }

/* In the child, which has no other thread. */
static inline void claims_forget(gch_heap *h) {
  at_store_seq(&h->claims.inside, 0);
  at_store_seq(&h->claims.closed, 0);
}

#endif
