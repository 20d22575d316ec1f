/* Units: what is produced and published in one piece, and who owns it.
 *
 *            arm (the plan, nothing flipped yet)
 *   NONE ------------------------------------------> ARMED
 *     ^                                                |  claim: compare-and-swap, by whoever wants the unit made: a worker,
 *     | reset (end of cycle, everything                |  the handler thread, a faulting thread, a pin
 *     |  MAPPED, nothing registered)                   v
 *   MAPPED <---- done (pages published, then) ------- BUSY     one owner; it waits for nothing and nobody (frames are locked for a moment),
 *                                                              and never gives the unit back
 *
 * Who made a unit, or is at it, is noted with its state. A thread that finds BUSY waits for MAPPED: in the kernel (its fault is answered by the publishing call) or spinning.
 * Claim last (I3): what producing needs (a frame) is in hand before. The unit is the 64 KiB block; where arenas are huge a
 * worker claims all units of an arena and publishes them as one, unless a fault has opened it (policy `latency`). */
#ifndef HEAP_UNIT_H
#define HEAP_UNIT_H

#include "heap/heap.h"
#include "heap/stall.h"

enum unit_state { UNIT_NONE, UNIT_ARMED, UNIT_BUSY, UNIT_MAPPED };
enum { UNIT_STATE = 3, UNIT_MAKER_SHIFT = 2 }; /* of BUSY and MAPPED units the bits above are the gch_actor */

static inline enum unit_state unit_state(const gch_heap *h, size_t block) {
  return (enum unit_state)(at_load(&h->tables.units[block]) & UNIT_STATE);
}

/* Of a unit that is BUSY or MAPPED, or was a moment ago. */
static inline gch_actor unit_maker(const gch_heap *h, size_t block) {
  return (gch_actor)(at_load(&h->tables.units[block]) >> UNIT_MAKER_SHIFT);
}

static inline void unit_arm(gch_heap *h, size_t block) {
  at_store(&h->tables.units[block], (uint8_t)UNIT_ARMED);
  GCH_POINT(unit_armed);
}

static inline void unit_reset(gch_heap *h, size_t block) {
  at_store(&h->tables.units[block], (uint8_t)UNIT_NONE);
  GCH_POINT(unit_reset);
}

static inline bool unit_claim(gch_heap *h, size_t block, gch_actor maker) {
  uint8_t armed = UNIT_ARMED;
  bool won = at_cas(&h->tables.units[block], &armed, (uint8_t)(UNIT_BUSY | maker << UNIT_MAKER_SHIFT));
  if (won) GCH_POINT(unit_claimed);
  return won;
}

static inline void unit_done(gch_heap *h, size_t block) {
  GCH_POINT(unit_published);
  gch_actor maker = unit_maker(h, block);
  uint8_t was = at_xchg_seq(&h->tables.units[block], (uint8_t)(UNIT_MAPPED | maker << UNIT_MAKER_SHIFT)) &
                UNIT_STATE; /* seq_cst: Dekker, see stall_wait */
  GCH_CHECK(was == UNIT_BUSY, "unit %zu was in state %u when it was done, expected busy", block, was);
  if (gch_unlikely(at_load_seq(&h->waiters.count) != 0)) stall_wait_over(h, block);
}

#endif
