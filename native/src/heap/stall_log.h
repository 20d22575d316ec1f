/* When mutators were stalled, while a major runs: the time that each lost, for the report at its end (gc/stall_report.h).
 *
 *   OFF --begin--> ON: whoever counts a stall appends it --end--> OFF: the driver reads --forget--> memory given back
 *
 * A log is a chain of chunks out of one reserved range, so it has memory only while a cycle runs, and only as much as there
 * are stalls. A stall is one word, written whole: half-written ones are seen as none. Its place is taken by compare-and-swap
 * (`place` of the mutator), since others append for a mutator that the kernel holds; so appending takes no lock, allocates
 * nothing, and is async-signal-safe. A cycle takes chunks where the last one left off: a thread that loses its CPU between taking a
 * place and filling it, for longer than the rest of the cycle, writes where nobody reads for a while. What finds no chunk is counted
 * as lost.
 *
 * Stalls that last when the cycle ends are seen, too, if they were begun with stall_begin. */
#ifndef HEAP_STALL_LOG_H
#define HEAP_STALL_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/utilisation.h"
#include "gcheap/stats.h"

struct mutator;

enum { STALL_CHUNK = 512 }; /* words; the first says whose they are */

struct stall_log {
  uint64_t *words; /* [const] reserved: `chunks` chunks */
  uint32_t chunks; /* [const] */
  struct span *spans; /* [const] reserved: for who reads */
  uint32_t cycle; /* [atomic seq] low 16 bits of the number of the major that is logged, plus 1 << 16; 0: none is */
  uint64_t origin; /* [atomic] when that began, ns */
  uint64_t first; /* [atomic] chunks taken before it; those that it took follow, modulo `chunks` */
  uint64_t taken; /* [atomic] chunks ever taken, or asked for */
  uint64_t lost, lost_ns; /* [atomic] of this cycle: found no room */
};

gch_status stall_log_init(gch_heap *heap, gch_error *error);
void stall_log_destroy(gch_heap *heap);

/* Driver of a major, cycle lock held. */
void stall_log_begin(gch_heap *heap, uint64_t number, uint64_t now);
/* Nothing is appended from now on; stalls that have not ended are, up to now. */
void stall_log_end(gch_heap *heap, uint64_t now);
/* After the end: the stalls of one more thread, disjoint, in order, in log->spans; returns how many. *thread 0: there is no more. */
size_t stall_log_next(gch_heap *heap, uint32_t *thread);
/* It has been read. */
void stall_log_forget(gch_heap *heap);

/* Any thread; nothing unless a major is logged. */
void stall_log_add(gch_heap *heap, struct mutator *m, gch_stall cause, uint64_t start, uint64_t end);

#endif
