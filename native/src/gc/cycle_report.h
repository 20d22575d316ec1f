/* The report of a collection (gch_cycle), from its begin to its end; by its driver. */
#ifndef GC_CYCLE_REPORT_H
#define GC_CYCLE_REPORT_H

#include "gc/safepoint.h"

/* Cycle lock held. Until report_figures has been called for it, times and counts are those at which it began. */
void report_begin(gch_heap *heap, bool minor, gch_cause cause, gch_cycle *report);
void report_begin_major(gch_heap *heap, const gch_collect_options *options, gch_cause cause, gch_cycle *report);
void report_pause(gch_cycle *report, uint64_t length, const struct pause *pause);
/* What has happened since it began; once, or of a copy. */
void report_figures(gch_heap *heap, gch_cycle *report);
/* Cycle lock held. It is over: the figures; then it is the last of its kind, and told to the log and in an event. */
void report_end(gch_heap *heap, gch_cycle *report);
void report_keep(gch_heap *heap, gch_cycle *where, gch_cause cause, const gch_cycle *report);
/* So of a major, whose figures the pacing takes note of, too. */
void report_finish(gch_heap *heap, gch_cause cause, gch_cycle *report);

/* The driver, its team, and who answers faults: of a major, also if a minor runs beside it. */
uint64_t report_cpu_now(const gch_heap *heap, bool minor);
/* Resident bytes of the process, 0 if they cannot be had; some microseconds: not for a pause. */
uint64_t report_resident_now(void);
/* What events say of a collection. */
uint64_t report_event_bits(const gch_cycle *report, gch_cause cause);

#endif
