/* Options: how a heap is configured and how a collection is asked for. */
#ifndef GCHEAP_OPTIONS_H
#define GCHEAP_OPTIONS_H

#include "gcheap/types.h"

/* What puts live pages at their new address. */
typedef enum gch_mover {
  GCH_MOVER_AUTO = 0,  /* the best that works here; the choice and its reason are in gch_stats */
  GCH_MOVER_MOVE,      /* UFFDIO_MOVE (first proposed as UFFDIO_REMAP): page moves, no copy */
  GCH_MOVER_COPY,      /* UFFDIO_COPY, then the source is dropped */
  GCH_MOVER_SIMULATED, /* a shared object mapped twice, and mprotect; no privileges */
  GCH_MOVER_MEMCPY,    /* baseline, in the pause: memcpy into fresh memory, the source is dropped */
  GCH_MOVER_SLIDE,     /* baseline, in the pause: memcpy into memory emptied just before */
  GCH_MOVER_COUNT
} gch_mover;

/* Who answers a touch of a missing page. */
typedef enum gch_fault_mode {
  GCH_FAULT_THREAD = 0, /* a handler thread; nothing is installed in the host process (but by `simulated`: SIGSEGV) */
  GCH_FAULT_SIGNAL,     /* the faulting thread itself, in a SIGBUS handler */
  GCH_FAULT_COUNT
} gch_fault_mode;

/* What a fault in a huge arena makes: its block only, by copying, and the rest later (short stalls, more work; a quarter of the
 * staging budget bounds how many arenas are in that state, and who finds no room for one more waits for all of it); or all
 * of it at once. */
typedef enum gch_huge_faults { GCH_HUGE_LATENCY = 0, GCH_HUGE_THROUGHPUT } gch_huge_faults;

/* Pages of the heap. AUTO is OFF: huge pages are a choice, because they buy speed with stalls and memory. Whoever touches an arena
 * that is not ready may wait for all 2 MiB of it, not for a page; and an arena of which one block is in use holds 2 MiB,
 * until the last thing in it has died. What was not asked for is declined (MADV_NOHUGEPAGE), whatever the kernel's policy.
 * ON is off too where the kernel has none, or the mover cannot (`simulated`): gch_stats.huge says what is. */
typedef enum gch_huge { GCH_HUGE_AUTO = 0, GCH_HUGE_ON, GCH_HUGE_OFF } gch_huge;

/* Which live pages a major collection moves. */
typedef enum gch_policy {
  GCH_POLICY_NEEDED = 0, /* dense arenas stay, sparse blocks are evacuated */
  GCH_POLICY_ALL,        /* every live page changes arena, as in a from-space collector */
  GCH_POLICY_RELEASE,    /* nothing moves, so it is done in the pause, asked for or not; dead arenas are given back */
  GCH_POLICY_COUNT
} gch_policy;

/* While a major marks, does it note which arenas refer to which, so that those that refer to nothing that moves need not be read?
 * AUTO: as long as that pays. */
typedef enum gch_summaries { GCH_SUMMARIES_AUTO = 0, GCH_SUMMARIES_ON, GCH_SUMMARIES_OFF } gch_summaries;

enum { GCH_GROWTH_NEVER = 1000000, GCH_DECAY_NEVER = 1000000000, GCH_DECAY_NOW };

/* Configuration of a heap. Fill with gch_config_init, then change what you need; `struct_bytes` lets
 * the struct grow, at its end, without breaking callers: fields that the caller does not have are as if 0; fields that the
 * library does not have must be 0. Sizes in bytes, rounded up to 64 KiB (gch_stats has them as they are); 0 means
 * "choose". */
typedef struct gch_config {
  uint32_t struct_bytes;
  gch_mover mover;
  gch_fault_mode fault_mode;
  gch_huge huge;
  gch_huge_faults huge_faults;
  uint32_t gc_threads;      /* threads that mark and move, the caller included; 0: the CPUs, at most 8 */
  uint64_t
      max_bytes; /* limit of the heap: small and large objects, young space included; 1 MiB to 16 TiB; 0: 1 GiB, or half of
                       * the memory that the machine and control groups leave the process, if that is less */
  uint64_t
      nursery_bytes; /* eden: a minor collection is due when this much was allocated; 256 KiB to max_bytes / 4; 0: half of the
                      * process's share of the last-level cache, at most 4 MiB, and less where pauses are too long */
  uint64_t staging_bytes; /* frames that hold what is being moved; at least 512 KiB; 0: min(32 MiB, max_bytes / 16) */
  uint32_t promote_age; /* minor collections an object survives in the young space before promotion (1..7) */
  uint32_t event_capacity; /* events kept in the ring, 64 bytes each, a power of two up to 2^24; 0: 16384 */
  uint64_t stress_interval; /* collect at every n-th slow-path allocation; 0: off */
  uint32_t full_moves; /* 1: what stress_interval starts moves every live page, concurrently where the mover can */
  uint32_t geometry_page; /* tests only: pretend pages of this many bytes; 0: the machine's */
  const char *inject; /* fault injection, grammar in native/src/os/kernel_inject.c; NULL: none */
  uint64_t
      soft_max_bytes; /* majors begin so early that the heap stays below, where what lives allows it; 0: max_bytes, or three
                       * quarters of the memory that the machine and control groups leave the process, if that is less */
  /* A major is to have ended when the heap has grown by so much of what lived after the last one; up to 10000; 0: 100;
   * GCH_GROWTH_NEVER: majors begin when they are asked for, or nothing else makes room for an allocation. */
  uint32_t growth_percent;
  gch_summaries summaries;
  /* A file with events and figures for other processes (gcheap/ring.h; `gcheap top`): "auto", a folder, or a path at which there
   * is nothing yet; "": none; NULL: what the environment variable GCHEAP_RING says, none if it is not set. */
  const char *ring_path;
  /* A line a collection: where to (docs/traces.md); "": nowhere; NULL: what the environment variable GCHEAP_LOG says. */
  const char *log;
  /* What minor pauses are to stay below, unless nursery_bytes is given; and a major that began by itself moves in a pause what fits
   * into so much. 0: 2 ms. */
  uint64_t pause_target_ns;
  /* Instead of growth_percent: all heaps of the process that name a budget (the least that one has named) grow so far that
   * what lives in them and what they may grow by are so many bytes together, and shared by the square-root rule: more for those that
   * grow fast, hold much, and are slow to collect. A heap may always grow by a 16th of what lives in it, and by 4 MiB. 0: none. */
  uint64_t budget_bytes;
  /* Memory that a major leaves populated and free for allocation (no more than the staging budget) goes back to the system,
   * gradually, when it has not been used for so long; up to an hour; 0: 1000; GCH_DECAY_NOW: none is left; GCH_DECAY_NEVER. */
  uint32_t decay_ms;
} gch_config;

/* `bytes` is sizeof(gch_config) of the caller. */
GCH_API void gch_config_init_sized(gch_config *config, size_t bytes);

#ifndef GCHEAP_CDEF
/* In the caller's code, so that `struct_bytes` is what the caller was compiled with, not what the library was. */
static inline void gch_config_init(gch_config *config) { gch_config_init_sized(config, sizeof *config); }
#endif

/* "move", "copy", ...; "remap" is accepted as the other name of "move", and "memcpy-fresh",
 * "memcpy-sliding" as those of the two baselines. False if `name` is none. */
GCH_API bool gch_mover_parse(const char *name, gch_mover *out);
GCH_API const char *gch_mover_name(gch_mover mover);

/* What a collection should do. Fill with gch_collect_options_init; grows as gch_config does. What a minor would not look at is
 * refused with one, and so is `promote` without. */
typedef struct gch_collect_options {
  uint32_t struct_bytes;
  gch_policy policy;
  bool minor; /* the young space only, in a pause: without policy and concurrent */
  bool concurrent; /* mark and move while mutators run; falls back to the pause where the mover cannot, and says so */
  bool wait; /* return when the cycle has ended (else when its flip is done: the report has the figures so far) */
  bool promote; /* minor: promote every survivor, whatever its age */
  bool background; /* concurrent: return when it has begun to mark, whatever `wait` says */
} gch_collect_options;

/* `bytes` is sizeof(gch_collect_options) of the caller. */
GCH_API void gch_collect_options_init_sized(gch_collect_options *options, size_t bytes);

#ifndef GCHEAP_CDEF
static inline void gch_collect_options_init(gch_collect_options *options) {
  gch_collect_options_init_sized(options, sizeof *options);
}
#endif

#endif
