/* The event ring. See ring.h.
 *
 * The slot is a seqlock whose data words are atomics: stored with release after the odd stamp, loaded with acquire
 * before the second look at the stamp. So a reader that sees any word of a later event also sees its stamp. */
#include "base/ring.h"

#include <stdbool.h>
#include <string.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"

#define RING_WORDS 7

static uint64_t stamp_writing(uint64_t seq) { return 2 * seq + 1; }
static uint64_t stamp_complete(uint64_t seq) { return 2 * seq + 2; }

void ring_attach(struct ring *ring, struct ring_slot *slots, uint64_t capacity, uint64_t *next) {
  GCH_CHECK(is_pow2(capacity), "the capacity of a ring is a power of two, not %llu", (unsigned long long)capacity);
  ring->slots = slots;
  ring->capacity = capacity;
  ring->next = next;
}

void ring_init(struct ring *ring, struct ring_slot *slots, uint64_t capacity) {
  ring_attach(ring, slots, capacity, &ring->own);
  at_store(ring->next, 0);
}

static struct ring_slot *slot_of(const struct ring *ring, uint64_t seq) {
  return &ring->slots[seq & (ring->capacity - 1)];
}

/* Takes the slot for writing; false if a writer of another lap has it, or a later event is in it already. */
static bool slot_claim(struct ring_slot *slot, uint64_t seq) {
  uint64_t stamp = at_load(&slot->stamp);
  do {
    if (stamp % 2 == 1 || stamp > stamp_writing(seq)) return false;
  } while (!at_cas(&slot->stamp, &stamp, stamp_writing(seq)));
  return true;
}

/* Into a slot that was claimed. */
static void slot_fill(struct ring_slot *slot, uint64_t seq, const struct ring_event *event) {
  uint64_t words[RING_WORDS];
  memcpy(words, event, sizeof words);
  words[0] = seq;
  for (int i = 0; i < RING_WORDS; i++) at_store(&slot->words[i], words[i]);
  at_store(&slot->stamp, stamp_complete(seq));
}

uint64_t ring_write(struct ring *ring, const struct ring_event *event) {
  uint64_t seq = at_add_relaxed(ring->next, 1); /* relaxed: hands out a number; the stamp publishes */
  struct ring_slot *slot = slot_of(ring, seq);
  if (slot_claim(slot, seq)) slot_fill(slot, seq, event);
  return seq;
}

enum slot_state { SLOT_COPIED, SLOT_LOST, SLOT_PENDING };

static enum slot_state slot_copy(struct ring_slot *slot, uint64_t seq, struct ring_event *out) {
  uint64_t words[RING_WORDS];
  uint64_t stamp = at_load(&slot->stamp);
  if (stamp < stamp_complete(seq)) return SLOT_PENDING;
  if (stamp > stamp_complete(seq)) return SLOT_LOST;
  for (int i = 0; i < RING_WORDS; i++) words[i] = at_load(&slot->words[i]);
  if (at_load(&slot->stamp) != stamp) return SLOT_LOST;
  memcpy(out, words, sizeof words);
  return SLOT_COPIED;
}

size_t ring_read(struct ring *ring, uint64_t *sequence, struct ring_event *out, size_t limit, uint64_t *lost) {
  uint64_t next = at_load(ring->next), seq = *sequence, missed = 0;
  size_t copied = 0;
  if (next > ring->capacity && seq < next - ring->capacity) {
    missed = next - ring->capacity - seq;
    seq += missed;
  }
  while (seq < next && copied < limit) {
    enum slot_state state = slot_copy(slot_of(ring, seq), seq, &out[copied]);
    if (state == SLOT_PENDING) break;
    if (state == SLOT_COPIED) copied++;
    if (state == SLOT_LOST) missed++;
    seq++;
  }
  *sequence = seq;
  if (lost != NULL) *lost += missed;
  return copied;
}

void ring_inherit(struct ring *ring, const struct ring *from) {
  uint64_t next = at_load(from->next), seq = next > from->capacity ? next - from->capacity : 0;
  struct ring_event event;
  at_store(ring->next, next);
  for (; seq < next; seq++)
    if (slot_copy(slot_of(from, seq), seq, &event) == SLOT_COPIED) slot_fill(slot_of(ring, seq), seq, &event);
}

uint64_t ring_lost(const struct ring *ring) {
  uint64_t next = at_load(ring->next);
  return next > ring->capacity ? next - ring->capacity : 0;
}

uint64_t ring_next(const struct ring *ring) { return at_load(ring->next); }
