#include "gc/phase.h"

/* Bit b of row a: a may be followed by b. */
static const uint8_t NEXT[GCH_PHASE_COUNT] = {
    [GCH_PHASE_IDLE] = 1 << GCH_PHASE_MARK,
    [GCH_PHASE_MARK] = 1 << GCH_PHASE_PLAN,
    [GCH_PHASE_PLAN] = 1 << GCH_PHASE_FLIP | 1 << GCH_PHASE_MOVE | 1 << GCH_PHASE_END,
    [GCH_PHASE_FLIP] = 1 << GCH_PHASE_MOVE,
    [GCH_PHASE_MOVE] = 1 << GCH_PHASE_END,
    [GCH_PHASE_END] = 1 << GCH_PHASE_IDLE,
};

void phase_enter(gch_heap *h, gch_phase phase) {
  gch_phase from = (gch_phase)at_load_relaxed(&h->phase); /* only the driver of the cycle writes it */
  GCH_CHECK(NEXT[from] >> phase & 1, "phase %s cannot follow %s", gch_phase_name(phase), gch_phase_name(from));
  at_store_seq(&h->phase, (uint32_t)phase); /* seq_cst: faults.c pairs it with its counter */
  heap_event(h, GCH_EVENT_PHASE, phase, from, h->major_number, 0);
  GCH_POINT(phase_entered);
}

const char *gch_phase_name(uint32_t phase) {
  static const char *const names[] = {"idle", "mark", "plan", "flip", "move", "end"};
  return phase < GCH_PHASE_COUNT ? names[phase] : "?";
}
