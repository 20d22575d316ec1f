/* The event ring: the last `capacity` events, written by any thread, overwritten without waiting for readers.
 *
 * A writer takes the next sequence number and so its slot; the slot's stamp is odd while it is being written.
 *
 *      stamp of the slot for sequence s:   2*s + 1 (being written)  ->  2*s + 2 (complete)
 *
 * A reader copies a slot and takes it only if the stamp was 2*s + 2 before and after. Writers are lock-free: if
 * two writers a whole lap apart meet at a slot, nobody waits: whoever finds the slot being written, or written by
 * a later one, drops its event, and readers count it as lost once a lap has passed. Writing is async-signal-safe.
 * Events of one thread are in order; across threads the sequence is the order in which numbers were taken. */
#ifndef GCH_BASE_RING_H
#define GCH_BASE_RING_H

#include <stddef.h>
#include <stdint.h>

struct ring_event {
  uint64_t seq;
  uint64_t t_ns;
  uint32_t kind;
  uint32_t thread;
  uint64_t a, b, c, d;
};
_Static_assert(sizeof(struct ring_event) == 56, "the payload of a 64-byte slot");

struct ring_slot {
  uint64_t stamp;    /* [atomic acq/rel] */
  uint64_t words[7]; /* [atomic] relaxed: the stamp orders them */
};
_Static_assert(sizeof(struct ring_slot) == 64, "one cache line");

struct ring {
  struct ring_slot *slots; /* [const] memory of the caller */
  uint64_t capacity;       /* [const] a power of two */
  uint64_t *next; /* [const] where the next sequence number is: beside the slots, if others read them, else `own` */
  uint64_t own; /* [atomic] */
};

/* `slots`: capacity * 64 bytes, all zero, and not touched before they are used; capacity is a power of two. The struct stays
 * where it is. */
void ring_init(struct ring *ring, struct ring_slot *slots, uint64_t capacity);
/* Slots and number lie in memory that is shared with other processes. For who reads only, it may be readable only. */
void ring_attach(struct ring *ring, struct ring_slot *slots, uint64_t capacity, uint64_t *next);
/* Nobody writes into `from` whose event is wanted: what can be copied of it goes into `ring`, whose slots are all zero, and
 * numbers go on where they were. */
void ring_inherit(struct ring *ring, const struct ring *from);

/* Appends an event; its seq is filled in and returned. */
uint64_t ring_write(struct ring *ring, const struct ring_event *event);

/* Copies at most `limit` events with seq >= *sequence, oldest first, advances *sequence past them, and adds to
 * *lost (may be NULL) how many were overwritten before they could be copied. Stops at an event that is still
 * being written. Returns the number copied. */
size_t ring_read(struct ring *ring, uint64_t *sequence, struct ring_event *out, size_t limit, uint64_t *lost);

/* How many events have been overwritten. */
uint64_t ring_lost(const struct ring *ring);
/* The sequence number that the next event will get. */
uint64_t ring_next(const struct ring *ring);

#endif
