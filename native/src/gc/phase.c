#include "gc/phase.h"

/* Bit b of row a: a may be followed by b. */
static const uint8_t NEXT[GCH_PHASE_COUNT] = {
    [GCH_PHASE_IDLE] = 1 << GCH_PHASE_MARK,
    [GCH_PHASE_MARK] = 1 << GCH_PHASE_PLAN | 1 << GCH_PHASE_END, /* given up, in a child of fork() */
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

const char *gch_pause_name(uint32_t pause) {
  static const char *const names[GCH_PAUSE_COUNT] = {[GCH_PAUSE_MINOR] = "minor",   [GCH_PAUSE_MARK] = "mark",
                                                     [GCH_PAUSE_REMARK] = "remark", [GCH_PAUSE_FLIP] = "flip",
                                                     [GCH_PAUSE_WHOLE] = "whole",   [GCH_PAUSE_OTHER] = "other"};
  return pause < GCH_PAUSE_COUNT && names[pause] != NULL ? names[pause] : "?";
}

const char *gch_cause_name(uint32_t cause) {
  static const char *const names[GCH_CAUSE_COUNT] = {[GCH_CAUSE_ASKED] = "asked",
                                                     [GCH_CAUSE_NURSERY] = "nursery",
                                                     [GCH_CAUSE_DUE] = "due",
                                                     [GCH_CAUSE_LIMIT] = "limit",
                                                     [GCH_CAUSE_MAJOR] = "major"};
  return cause < GCH_CAUSE_COUNT ? names[cause] : "?";
}

const char *gch_degraded_name(uint32_t degraded) {
  static const char *const names[GCH_DEGRADED_COUNT] = {
      [GCH_DEGRADED_NOT] = "not",     [GCH_DEGRADED_MOVER] = "mover",     [GCH_DEGRADED_REGION] = "region",
      [GCH_DEGRADED_TIGHT] = "tight", [GCH_DEGRADED_HANDLER] = "handler", [GCH_DEGRADED_PREPARE] = "prepare",
      [GCH_DEGRADED_FLIP] = "flip"};
  return degraded < GCH_DEGRADED_COUNT && names[degraded] != NULL ? names[degraded] : "?";
}
