/* A mutator's own clock: gaps between operations, operations a millisecond. Shared by the workloads. */
#ifndef WORKLOADS_STAMPS_INLINE_H
#define WORKLOADS_STAMPS_INLINE_H

#include "base/clock.h"
#include "workloads/beside.h"

struct stamps {
  uint64_t start_ns, last_ns;
  uint32_t gap_ns; /* longer gaps are noted */
  beside_gap *gaps;
  uint64_t gap_capacity, gap_count, gap_sum_ns, gap_max_ns;
  uint32_t *ops_by_ms;
  uint64_t ms_capacity;
};

static inline void stamps_begin(struct stamps *s) { s->start_ns = s->last_ns = clock_ns(); }

/* An operation has ended. */
static inline void stamps_note(struct stamps *s) {
  uint64_t now = clock_ns(), gap = now - s->last_ns, ms = (now - s->start_ns) / 1000000u;
  if (gap > s->gap_ns) {
    if (s->gap_count < s->gap_capacity) s->gaps[s->gap_count] = (beside_gap){s->last_ns, gap};
    s->gap_count++;
    s->gap_sum_ns += gap;
    if (gap > s->gap_max_ns) s->gap_max_ns = gap;
  }
  if (ms < s->ms_capacity) s->ops_by_ms[ms]++;
  s->last_ns = now;
}

#endif
