/* The state of the running major cycle. phase_enter is its only writer.
 *
 *   IDLE --mark--> MARK --plan--> PLAN --flip--> FLIP --> MOVE --> END --> IDLE
 *                                   '--in the pause--> MOVE            (no flip: the world is stopped throughout)
 *                                   '--nothing to move, or no room--> END
 *
 * MARK and FLIP are pauses; PLAN, MOVE and END run beside mutators in a concurrent major. Written with the cycle lock held
 * or by the controller, read by anyone (atomic acquire). */
#ifndef GC_PHASE_H
#define GC_PHASE_H

#include "heap/heap.h"

void phase_enter(gch_heap *heap, gch_phase phase);

static inline gch_phase phase_now(const gch_heap *h) { return (gch_phase)at_load(&h->phase); }

#endif
