/* What a major's mutators waited for: the public report of it (gcheap/report.h), made at its end, beside mutators. */
#ifndef GC_STALL_REPORT_H
#define GC_STALL_REPORT_H

#include "heap/heap.h"

/* Driver of a major, cycle lock held: it begins. */
void stall_report_begin(gch_heap *heap, uint64_t number, gch_report *report);
/* Its last unit is published, and nobody answers faults any more. Beside mutators without the cycle lock: of many stalls it takes
 * milliseconds (measured: 10 for 100,000). */
void stall_report_end(gch_heap *heap, gch_report *report);

#endif
