/* A mutator: its public head (read by inlined fast paths), its state, its counters. */
#ifndef HEAP_MUTATOR_H
#define HEAP_MUTATOR_H

#include "heap/heap.h"

/* MANAGED --enter native, or answer a safepoint--> NATIVE --leave native (not during a pause)--> MANAGED */
enum mutator_state { MUTATOR_NATIVE = 0, MUTATOR_MANAGED = 1 };

struct mutator {
  struct gch_mutator pub; /* first: a gch_mutator is the address of its mutator */
  uint32_t state;         /* [atomic seq] enum mutator_state */
  struct mutator *next;   /* [lock: mutators] */
  struct mutator *next_here; /* [owner] the same thread's mutator of another heap */
  uintptr_t buffer[2];    /* [owner] block that alloc_cursor bumps through, by leaf; 0: none */
  gch_error error;        /* [owner] */
  uint64_t hash_seed;     /* [owner] */
  bool waits;             /* [owner] native for a wait inside gcheap: managed again when that is over */
  uint32_t paused;        /* [atomic] waits for a pause to be over, or has not noticed that it is */
  /* Looked at by others without a lock, whoever has the record: last, for mutator_take. */
  uint32_t thread;             /* [atomic] kernel's thread id; 0: nobody's, the record may be taken again */
  struct mutator *next_record; /* [const] */
  struct stalls stalls;        /* since it was attached */
  uint64_t stall_place;        /* [atomic] heap/stall_log.c */
  uint64_t
      stalled_since; /* [atomic; the thread writes] the stall that it is in began then; 0: it is in none that lasts */
  uint32_t stalled_by; /* [atomic; the thread writes] gch_stall */
};

static inline struct mutator *mutator_of(gch_mutator *m) { return (struct mutator *)m; }

/* A record for the thread, all else 0; NULL: no memory. It is given back with mutator_give, never freed before the heap; but a
 * holder that is no mutator of the heap any more (an orphan, or in a child of fork()) may have it for longer. */
struct mutator *mutator_take(gch_heap *h, uint32_t thread);
void mutator_give(struct mutator *m);
/* The heap ends. */
void mutator_forget_all(gch_heap *h);
/* The mutator of the thread, or NULL. Takes no lock; async-signal-safe. It stays who it is while the thread waits in it. */
struct mutator *mutator_with(gch_heap *h, uint32_t thread);

/* Writes the top of the blocks that one mutator bumps through. */
void mutator_sync_one(gch_heap *h, struct mutator *m);
/* Writes the top of the blocks that are being bumped through, so that they can be walked. World stopped. */
void mutator_sync_buffers(gch_heap *h);
/* The same, and takes the buffers away: the next allocation gets a new block. World stopped. */
void mutator_retire_buffers(gch_heap *h);

#endif
