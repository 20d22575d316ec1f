/* Events: what the collector did, in a ring that overwrites its oldest records. */
#ifndef GCHEAP_EVENTS_H
#define GCHEAP_EVENTS_H

#include "gcheap/types.h"

/* Kinds; a..d as stated. Times are CLOCK_MONOTONIC ns. Every major has one number from begin to end; a minor that runs
 * beside it has a number of its own. */
typedef enum gch_event_kind {
  GCH_EVENT_PHASE = 1,  /* a: phase entered (gch_phase), b: phase left, c: cycle number */
  GCH_EVENT_PAUSE,      /* a: length, b: cause (gch_pause), c: time to safepoint, d: cycle number, 0: of no cycle */
  GCH_EVENT_FAULT, /* a: address, b: ns until published, c: 1 if in the faulting thread, d: unit; `thread` is who waited */
  GCH_EVENT_MOVED, /* a: pages moved, b: whole arenas, c: bytes copied, d: cycle number; once a cycle */
  GCH_EVENT_REFUSAL, /* a: gch_refusal, b: address, c: bytes */
  GCH_EVENT_DEGRADED, /* a: cycle number, b: gch_degraded */
  GCH_EVENT_MINOR, /* a: young bytes before, b: bytes survived, c: bytes promoted, d: ns */
  /* A virtual-memory call has not returned for 2 s. a: the call (low 32 bits, gch_kernel_call_name), its unit (high 32 bits;
   * UINT32_MAX: none), b: address, c: ns so far, d: source address (move, copy); `thread` is the one that waits. Also a call
   * that is refused again and again, and has to succeed: every 2 s. */
  GCH_EVENT_WATCHDOG,
  GCH_EVENT_BEGIN, /* a collection. a: cycle number, b: bytes in use, c: allocated since creation, d: GCH_COLLECTION_ bits */
  GCH_EVENT_END, /* likewise. a: cycle number, b: bytes in use, c: live bytes, d: GCH_COLLECTION_ bits */
  /* How little of its time a thread had to itself in a major (gcheap/report.h). a: cycle number, b: in it, c: in its move phase
   * (UINT64_MAX: it did not move beside the program), each in millionths: windows of 1 ms in the low 21 bits, of 10 ms in the next,
   * of 100 ms in the next; d: the thread with the least at 10 ms, 0: none */
  GCH_EVENT_UTILISATION,
  GCH_EVENT_KIND_COUNT
} gch_event_kind;

/* Why there was a collection. */
typedef enum gch_cause {
  GCH_CAUSE_ASKED = 0, /* gch_collect */
  GCH_CAUSE_NURSERY, /* the young space was full */
  GCH_CAUSE_DUE, /* it was time for a major, lest memory become short */
  GCH_CAUSE_LIMIT, /* an allocation found no room */
  GCH_CAUSE_MAJOR, /* a minor that goes before a flip */
  GCH_CAUSE_COUNT
} gch_cause;

/* What GCH_EVENT_BEGIN and GCH_EVENT_END say of a collection: its cause in the low bits, and these (the last two at its end). */
enum {
  GCH_COLLECTION_CAUSE = 255,
  GCH_COLLECTION_MINOR = 256,
  GCH_COLLECTION_CONCURRENT = 512,
  GCH_COLLECTION_DEGRADED = 1024
};

/* Why a collection did less than was asked for; gch_cycle has the sentence. */
typedef enum gch_degraded {
  GCH_DEGRADED_NOT = 0,
  GCH_DEGRADED_MOVER, /* the mover works in the pause only */
  GCH_DEGRADED_REGION, /* a space has no empty region that could be held out of the flip */
  GCH_DEGRADED_TIGHT, /* the process may reserve few addresses (RLIMIT_AS): there is no shadow to flip to */
  GCH_DEGRADED_HANDLER, /* somebody has replaced our signal handler */
  GCH_DEGRADED_PREPARE, /* the kernel refused what goes before the flip */
  GCH_DEGRADED_FLIP, /* the kernel refused the flip */
  GCH_DEGRADED_COUNT
} gch_degraded;

typedef enum gch_phase {
  GCH_PHASE_IDLE = 0,
  GCH_PHASE_MARK, /* mutators run, unless the major is in the pause */
  GCH_PHASE_PLAN, /* mutators run, unless the major is in the pause */
  GCH_PHASE_FLIP, /* world stopped */
  GCH_PHASE_MOVE, /* mutators run, unless the major is in the pause */
  GCH_PHASE_END, /* tables and memory given back */
  GCH_PHASE_COUNT
} gch_phase;

typedef enum gch_pause {
  GCH_PAUSE_MINOR = 0,
  GCH_PAUSE_MARK, /* a minor, then what roots refer to: what is reachable now will be marked */
  GCH_PAUSE_REMARK, /* what was overwritten meanwhile; the mark is complete, or goes on for a while */
  GCH_PAUSE_FLIP,
  GCH_PAUSE_WHOLE, /* an in-pause major, or the rest of one */
  GCH_PAUSE_OTHER, /* verify, walk, attach, statistics */
  GCH_PAUSE_COUNT
} gch_pause;

typedef struct gch_event {
  uint64_t sequence;
  uint64_t time;
  uint32_t kind;
  uint32_t thread;
  uint64_t a, b, c, d;
} gch_event;

GCH_API const char *gch_event_kind_name(uint32_t kind);
GCH_API const char *gch_kernel_call_name(uint32_t call);
GCH_API const char *gch_phase_name(uint32_t phase);
GCH_API const char *gch_pause_name(uint32_t pause);
GCH_API const char *gch_cause_name(uint32_t cause);
GCH_API const char *gch_degraded_name(uint32_t degraded);

/* Copies at most `capacity` events with sequence >= *sequence to `out`, advances *sequence past them, and adds
 * to *lost (may be NULL) how many had been overwritten. Returns the number copied. Thread-safe, any state. */
GCH_API size_t gch_events_read(gch_heap *heap, uint64_t *sequence, gch_event *out, size_t capacity, uint64_t *lost);

#endif
