/* Statistics: a versioned struct of monotone counters, and the figures of one cycle. Times in ns. */
#ifndef GCHEAP_STATS_H
#define GCHEAP_STATS_H

#include "gcheap/options.h"
#include "gcheap/types.h"

#define GCH_STATS_VERSION 1

/* Why a mutator made no progress. */
typedef enum gch_stall {
  GCH_STALL_PAUSE = 0, /* stopped at a safepoint, or kept from leaving native state */
  GCH_STALL_FAULT,     /* touched a missing page (signal mode: produced it itself) */
  GCH_STALL_UNIT,      /* waited for a unit that another thread was producing */
  GCH_STALL_ALLOC, /* ran a collection, or waited for one, because of an allocation: a minor, or a major that was due */
  GCH_STALL_BARRIER, /* slow path of the write barrier */
  GCH_STALL_FORK, /* waited for fork() to be possible */
  GCH_STALL_PACE, /* slowed down, lest the heap is full before a major that runs has ended */
  GCH_STALL_LIMIT, /* found the heap full: waited for the end of a major, or ran one, whatever else could be done */
  GCH_STALL_COUNT
} gch_stall;

/* Stalls of one mutator, by gch_stall. In `thread` mode the kernel holds a thread that has touched a missing page, so what is
 * counted is the time from its message being read until the page was there: without delivery and wake-up. */
typedef struct gch_stalls {
  uint64_t count[8];
  uint64_t ns[8];
} gch_stalls;

/* Answers of the kernel to page moves, and to the calls around them, that were not plain success, by what was done. */
typedef enum gch_refusal {
  GCH_REFUSAL_EXIST_MOVED = 0, /* EEXIST, yet the page had moved (Linux 6.18): taken as done */
  GCH_REFUSAL_EXIST, /* EEXIST, destination really occupied: emptied and tried again */
  GCH_REFUSAL_BUSY, /* EBUSY, went away after a byte of the page was written */
  GCH_REFUSAL_COPIED, /* copied instead, source dropped */
  GCH_REFUSAL_AGAIN, /* EAGAIN: went on from where it stopped, or again */
  GCH_REFUSAL_NO_MEMORY, /* ENOMEM: another way, less, or later (docs/uffd-move.md) */
  GCH_REFUSAL_OTHER, /* EINVAL for a moment, ENOENT, EFAULT and others: copied or retried */
  GCH_REFUSAL_COUNT
} gch_refusal;

/* One collection. Fields that do not apply are 0. Its size never changes. */
typedef struct gch_cycle {
  uint64_t number;
  uint32_t minor; /* 1: young space only */
  uint32_t concurrent; /* 1: moved while mutators ran */
  uint32_t mover; /* gch_mover that did it */
  uint32_t policy;
  uint32_t degraded; /* 1: did less than asked for (the kernel refused, no spare region); see reason */
  uint32_t pauses;
  char reason[96];
  uint64_t live_bytes; /* reachable at the end of marking, headers and rounding included */
  uint64_t live_objects;
  uint64_t heap_bytes_before; /* blocks and large pages in use */
  uint64_t heap_bytes_after;
  uint64_t mark_ns; /* concurrent: from the end of the first pause to the last remark's */
  uint64_t plan_ns;
  uint64_t prepare_ns; /* between plan and flip, beside mutators: arming, memory for promotion, mmap_lock */
  uint64_t flip_ns; /* the flip's pause, its minor included */
  uint64_t flip_minor_ns;
  uint64_t move_ns; /* end of the plan to the last unit published and source given back */
  uint64_t cycle_ns;
  uint64_t pause_ns; /* sum over this cycle's pauses */
  uint64_t pause_longest_ns;
  uint64_t safepoint_longest_ns; /* from a request until every mutator had stopped */
  uint64_t collector_cpu_ns; /* of collector threads, of who drove the cycle, of mutators while they made units */
  uint64_t units; /* destination units produced */
  uint64_t pages_moved;
  uint64_t arenas_moved; /* whole arenas moved in one piece */
  uint64_t blocks_evacuated;
  uint64_t bytes_copied; /* objects copied, pages copied by the mover */
  uint64_t bytes_released; /* given back to the system */
  uint64_t faults_served;
  uint64_t
      physical_at_flip; /* resident bytes of the process when the flip's pause has ended (statm); concurrent majors */
  uint64_t physical_after; /* at the end of a major */
  uint64_t refusals[8]; /* by gch_refusal */
  uint64_t mark_pause_ns; /* the first pause, its minor included; concurrent majors */
  uint64_t mark_minor_ns; /* that minor */
  uint64_t remark_ns; /* the longest of the pauses in which the mark might have been complete */
  uint64_t overwritten; /* references that mutators overwrote while it marked, as far as markers had to look at them */
  uint64_t
      units_unread; /* whose references were not read, as their summaries say that they lead to nothing that moves */
  uint64_t move_cpu_ns; /* collector_cpu_ns of the concurrent move, from the flip to the last source given back */
  uint64_t weak_cleared; /* weak references and ephemerons */
  uint64_t finalizers_queued; /* registrations whose objects were put into the queue */
  uint64_t arenas_home; /* stayed mapped in a flip, as nothing in them had to be made; selective flips */
  uint64_t reserved[7]; /* 0; for what is reported one day */
} gch_cycle;

/* Distribution of durations, ns: exact count, sum and maximum; percentiles within 6 %. */
typedef struct gch_distribution {
  uint64_t count;
  uint64_t sum;
  uint64_t p50, p90, p99, p999;
  uint64_t max;
} gch_distribution;

typedef struct gch_stats {
  uint32_t version; /* GCH_STATS_VERSION */
  uint32_t struct_bytes; /* as the library knows it */
  uint32_t mover; /* gch_mover in use */
  uint32_t fault_mode;
  uint32_t gc_threads;
  uint32_t page_bytes;
  uint32_t huge; /* 1: huge pages are asked for */
  uint32_t mutators;
  char mover_reason[192]; /* why this mover */
  uint64_t max_bytes;
  uint64_t heap_bytes; /* blocks and large pages in use now, young space included */
  uint64_t populated_bytes; /* memory the heap holds, staging and free populated blocks included */
  uint64_t
      table_bytes; /* side tables: an upper bound of what is resident, unless the system gives huge pages unasked */
  uint64_t live_bytes; /* by the last major */
  uint64_t allocated_bytes; /* since creation, by mutators, in whole allocation buffers and large objects */
  uint64_t promoted_bytes;
  uint64_t minor_count;
  uint64_t major_count;
  uint64_t handles;
  uint64_t pins;
  uint64_t faults;
  uint64_t stall_count[8]; /* by gch_stall, all mutators */
  uint64_t stall_ns[8];
  uint64_t refusals[8]; /* by gch_refusal */
  uint64_t events_lost; /* overwritten in the ring: no longer to be read */
  gch_distribution pause; /* every pause */
  gch_distribution minor_pause;
  gch_distribution flip_pause;
  gch_distribution safepoint; /* time to safepoint */
  gch_distribution fault; /* from message or signal until published */
  gch_distribution stall_move; /* stalls of mutators in move phases, pauses excluded */
  gch_cycle last_minor;
  gch_cycle last_major;
  uint64_t overdue_calls; /* virtual-memory calls that did not return for 2 s; see GCH_EVENT_WATCHDOG */
  uint64_t nursery_bytes; /* in force now */
  uint64_t staging_bytes;
  uint64_t trigger_bytes; /* a major is due when the heap has so many bytes in use, */
  uint64_t goal_bytes; /* and is to have ended when it has so many */
  uint64_t finalizers; /* registered */
  uint64_t finalizers_pending; /* in the queue */
  uint64_t memory_bytes; /* what the process may have: of the machine, of control groups; 0: not known */
  uint64_t soft_max_bytes; /* in force */
  uint64_t pause_target_ns; /* in force */
  uint64_t budget_bytes; /* that it shares with other heaps; 0: none */
  char limit_reason[192]; /* why max_bytes and soft_max_bytes are what they are */
} gch_stats;

#endif
