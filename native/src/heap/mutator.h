/* A mutator: its public head (read by inlined fast paths), its state, its counters. */
#ifndef HEAP_MUTATOR_H
#define HEAP_MUTATOR_H

#include "heap/heap.h"

/* MANAGED --enter native, or answer a safepoint--> NATIVE --leave native (not during a pause)--> MANAGED */
enum mutator_state { MUTATOR_NATIVE = 0, MUTATOR_MANAGED = 1 };

struct mutator {
  struct gch_mutator pub; /* first: a gch_mutator is the address of its mutator */
  uint32_t state;         /* [atomic seq] enum mutator_state */
  uint32_t thread;        /* [const] kernel's thread id */
  struct mutator *next;   /* [lock: mutators] */
  struct mutator *next_here; /* [owner] the same thread's mutator of another heap */
  uintptr_t buffer[2];    /* [owner] block that alloc_cursor bumps through, by leaf; 0: none */
  gch_error error;        /* [owner] */
  uint64_t hash_seed;     /* [owner] */
  bool waits;             /* [owner] native for a wait inside gcheap: managed again when that is over */
  uint32_t paused;        /* [atomic] waits for a pause to be over, or has not noticed that it is */
};

static inline struct mutator *mutator_of(gch_mutator *m) { return (struct mutator *)m; }

/* Counts a stall; in a move phase, pauses apart, also in the distribution of the phase. */
static inline void mutator_stalled(gch_heap *h, gch_stall cause, uint64_t ns) {
  at_add_relaxed(&h->measures.stall_count[cause], 1);
  at_add_relaxed(&h->measures.stall_ns[cause], ns);
  if (cause != GCH_STALL_PAUSE && at_load_relaxed(&h->phase) == GCH_PHASE_MOVE)
    histogram_record(&h->measures.stall_move, ns);
}

/* Writes the top of the blocks that one mutator bumps through. */
void mutator_sync_one(gch_heap *h, struct mutator *m);
/* Writes the top of the blocks that are being bumped through, so that they can be walked. World stopped. */
void mutator_sync_buffers(gch_heap *h);
/* The same, and takes the buffers away: the next allocation gets a new block. World stopped. */
void mutator_retire_buffers(gch_heap *h);

#endif
