/* The heap: one struct that holds it all, and the small questions that everybody asks of it.
 *
 * Who may touch what: fields tagged [const] are set by heap_create; [stw] change with the world stopped only;
 * [lock: x] under that lock; [atomic] any time. A collection holds the cycle lock (RANK_CYCLE), so everything
 * tagged [cycle] belongs to the thread that drives it. */
#ifndef HEAP_HEAP_H
#define HEAP_HEAP_H

#include <gcheap/events.h>
#include <gcheap/gcheap.h>
#include "base/bits.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/histogram.h"
#include "base/lock.h"
#include "base/ranks.h"
#include "base/ring.h"
#include "heap/batching.h"
#include "heap/decay.h"
#include "heap/frames.h"
#include "heap/large.h"
#include "heap/layout.h"
#include "heap/nursery.h"
#include "heap/pacing.h"
#include "heap/stall.h"
#include "heap/stall_log.h"
#include "heap/tables.h"
#include "object/typetab.h"
#include "os/kernel.h"
#include "os/probe.h"
#include "os/uffd.h"

enum { OPEN_ARENAS = 16 };
#define PLACE_TAKEN UINT32_MAX /* a place for an opened arena, by somebody who may be too late to open it */

struct mutator;
struct cycle;
struct mover_ops;
struct team;
struct plan;
struct faults;

/* A space of small objects: which blocks are handed out next. */
struct small_space {
  struct lock lock;
  enum space_id id;       /* [const] */
  uint32_t alloc_region;  /* [stw, lock] region that allocation and promotion take blocks from */
  uint32_t cursor;        /* [lock] arena at which the search goes on */
  uint32_t top[SPACE_REGIONS]; /* [lock, stw] arenas in use: none from first + top on */
};

struct young_space {
  struct lock lock;
  uint32_t arena_count; /* [const] of the region */
  uint32_t cursor[2];   /* [lock] arena to look in first, by leaf */
  uint64_t blocks;      /* [atomic] young blocks handed out since the last minor, survivors not counted */
  uint64_t survivors;   /* [atomic] young blocks that hold survivors */
  uint64_t limit_blocks; /* [atomic, cycle writes] eden: a minor is due beyond */
  uint32_t full;        /* [atomic] a mutator has found no place since the last minor */
};

struct handle_slot {
  uint64_t ref;         /* [atomic] written by the owner of the handle, and by the collector by CAS */
  uint32_t generation;  /* [atomic] odd: in use */
  uint32_t next_free;   /* [atomic] index + 1 */
};

struct static_root {
  gch_ref *slot;
};

struct roots {
  struct handle_slot *handles; /* [const] reserved */
  uint64_t handle_capacity;    /* [const] */
  uint64_t handle_top;         /* [atomic] slots ever used */
  uint64_t handle_free;        /* [atomic] low 32: index + 1 of the first free slot; high 32: counts pushes */
  uint64_t handle_count;       /* [atomic] in use */
  uint32_t handle_stamp;       /* [const] tells this heap's handles from others' */
  gch_ref **statics;           /* [lock: mutators] malloc'd */
  size_t static_count, static_capacity;
  gch_roots_fn fn; /* [stw] */
  void *fn_data;
  gch_ambiguous_fn ambiguous_fn; /* [stw] */
  void *ambiguous_data;
  uint64_t *ambiguous; /* [stw] objects, and young blocks, that the last pause has found; gc/ambiguous.h */
  uint64_t ambiguous_count, ambiguous_capacity;
};

struct pin_entry {
  uintptr_t address; /* 0: empty */
  uint64_t count;    /* 0: tombstone */
};

struct pins {
  struct lock lock; /* held for a few instructions only, never across a pause: unpin never waits for one */
  struct pin_entry *entries; /* [lock] open addressing, linear probing; malloc'd */
  size_t capacity, used;
  uint64_t count; /* [atomic] pins, nested ones included */
};

struct world {
  struct lock mutators_lock; /* RANK_MUTATORS */
  struct mutator *mutators;  /* [lock: mutators] */
  struct mutator *records;   /* [atomic] all there ever were; heap/mutator.c */
  uint32_t mutator_count;    /* [lock: mutators; atomic to read] */
  struct lock lock;          /* RANK_WORLD */
  struct cond stopped;       /* a mutator left managed state */
  struct cond resumed;       /* the world runs again */
  uint32_t stop;             /* [atomic seq] a pause is asked for or on */
  uint32_t markers;          /* [atomic seq] markers that are at work beside mutators: they stop as mutators do */
};

/* Who may hold a unit of the running move, what goes with one, or free blocks that are being given memory: gc/claims.h. */
struct claims {
  uint32_t inside; /* [atomic seq] threads */
  uint32_t closed; /* [atomic seq] by a fork(), or by who pauses for the whole heap */
};

/* Of the concurrent major that runs, its driver's; gc/drive.h. */
struct drive {
  gch_cycle report; /* [cycle] so far */
  gch_cause cause;  /* [cycle] */
  uint32_t busy;    /* [lock: cycle] the driver is at what only itself can bring to an end */
  uint32_t wanted;  /* [atomic] a fork() waits for it to rest, and for the lock */
  bool judged;      /* [lock: cycle] the mark is over */
  uint64_t flipped_ns; /* [cycle] when the move began */
};

struct controller;
struct watchdog;
struct ring_file;
struct sampler;
struct diary;

/* Logs of what mutators overwrite while a major marks; gc/snapshot.h. */
struct snapshot {
  uint64_t *words;   /* [const] reserved: `capacity` buffers */
  uint32_t *next;    /* [atomic] a buffer: the next one in its list, index + 1 */
  uint32_t *counts;  /* [owner of the buffer] words in it */
  uint32_t capacity; /* [const] */
  uint32_t on;       /* [stw] 1: stores log */
  uint32_t taken;    /* [atomic] buffers ever taken since they were last all free */
  uint64_t full;     /* [atomic] list heads: low 32, index + 1; high 32, counts pushes */
  uint64_t free;     /* [atomic] */
  uint64_t logged;   /* [atomic] words that markers were given, since the mark began */
};

/* Weak references and ephemerons; gc/weak.h. */
struct weak {
  const gch_type *types[CELL_KINDS]; /* [const] */
  uint32_t judging; /* [atomic] the mark is complete, and cells may still refer to what is dead */
  uint64_t cleared; /* [atomic] since creation */
};

struct finalizer {
  uint64_t object; /* 0: none */
  uint64_t token;
};

/* Registrations, and those whose objects have died; gc/finalize.h. */
struct finalizers {
  struct lock lock;          /* RANK_FINALIZERS; held for moments */
  uint64_t capacity;         /* [const] of the table; the queue has twice as many */
  uint64_t populated;        /* [lock] of the table */
  struct finalizer *table;   /* [lock, stw] reserved; in the order of registration */
  uint64_t count, old;       /* [lock, stw] entries; the first `old` have no young objects */
  uint64_t to_forward;       /* [cycle] entries that the flip has left as they were */
  uint64_t gone;             /* [lock, stw] of those: without an object */
  struct finalizer *queue;   /* [lock, stw] reserved; strong roots */
  uint64_t head, ready, tail; /* [lock, stw] what is beyond `ready` is not handed out yet: a major is at it */
  uint32_t judging;          /* [stw, the major's driver] a major is at the queue's end */
  uint64_t pending;          /* [atomic] handed out when asked for */
  uint64_t registered;       /* [atomic] entries with an object */
  uint64_t queued;           /* [atomic] since creation */
};

struct measures { /* [atomic] relaxed counters and histograms */
  uint64_t allocated_bytes, promoted_bytes, minor_count, major_count, faults;
  struct stalls stalls; /* of all mutators */
  uint64_t refusals[GCH_REFUSAL_COUNT];
  uint64_t overdue_calls;
  uint64_t served_cpu_ns; /* CPU time of the fault handler and of mutators that make units */
  struct histogram pause, minor_pause, flip_pause, safepoint, fault, stall_move;
  struct lock lock;                 /* RANK_MEASURES: the reports below */
  gch_cycle last_minor, last_major; /* [lock] */
  gch_report last_report;           /* [lock] of the last major */
};

/* What the side tables of a region hold; heap/trim.h. */
struct trimmed {
  uint32_t tabled; /* [cycle, atomic to read] arenas whose slices may have memory */
  uint32_t top;    /* [cycle] at the end of the last major */
};

enum { UNIT_PAUSE_NS = 20000 }; /* what moving a block in a pause takes, before it has been measured */

/* Which arenas a selective flip takes; gc/arm.h. */
enum { SELECT_MAX = 64 };
struct selection {
  uint64_t regions;           /* [cycle] bit a region: of those that are flipped, of which only some arenas are */
  uint32_t count;             /* [cycle] */
  uint32_t arenas[SELECT_MAX]; /* [cycle] of all such regions; what has memory goes to the shadow */
  uint32_t end;               /* [cycle] arenas below may be selected */
  uint32_t shared;            /* [cycle] 1: since a fork() pages may be shared, so moving them tears and copies */
  uint32_t notes;             /* [atomic] arenas of which `anywhere` is set are noted: */
  uint32_t noted_count;       /* [atomic] so many, of which the first have room */
  uint32_t noted[SELECT_MAX]; /* [atomic] */
};

/* Where faults were, of this move and of the one before it; gc/hot.h. */
enum { HOT_MAX = 4096 };
struct hot {
  uint32_t now;   /* [atomic, stw] which of both is being noted */
  uint64_t taken; /* [atomic, moving] */
  struct hot_places {
    uint64_t count;       /* [atomic] of which the first have room */
    uint64_t at[HOT_MAX]; /* [atomic] a granule, and how many moves ago its last fault was */
  } places[2];
};

/* While a concurrent major runs: how fast mutators may go on; gc/pace.h. All [atomic], relaxed but for `from`. */
struct brake {
  uint64_t from; /* used bytes; UINT64_MAX: none runs */
  uint64_t begun_ns, expected_ns;
  uint32_t mutators;
  uint32_t share; /* of 1,024 bytes of eden, how many were promoted by the last minors */
};

/* Free blocks that have memory, for promotion; gc/reserve.h. */
struct reserve {
  uint32_t want[2]; /* [atomic, cycle writes] so many, by leaf */
  uint32_t low;     /* [atomic] there are fewer */
  uint32_t busy;    /* [atomic] somebody fills */
  uint32_t arena; /* [atomic; written under the lock of its space] where blocks are given memory; or ARENA_NOWHERE */
  uint32_t blocks; /* [lock of that space] which: nobody takes them */
  uint64_t minors; /* [controller] that there had been at the last tick of gc/release.h */
};

struct moved { /* [atomic] since creation; a cycle reports differences */
  uint64_t pages, arenas, bytes, released;
  uint64_t unread; /* units (blocks, parts of large objects) whose references were left alone, by their summaries */
  uint64_t home; /* arenas of flipped regions that stayed mapped (gc/arm.h) */
};

struct gch_heap {
  gch_config config; /* [const] as completed */
  uint64_t memory_bytes; /* [const] that the process may have; 0: not known */
  char limit_reason[192]; /* [const] of config.max_bytes */
  struct layout layout; /* [const] */
  struct kernel kernel;
  struct probe probe; /* [const] */
  struct tables tables;
  struct typetab types;
  struct small_space old, leaf;
  struct young_space young;
  struct large_space large;
  struct frames frames;
  struct roots roots;
  struct pins pins;
  struct world world;
  struct waiters waiters;
  struct touching touching;
  struct stall_log stall_log;
  struct lock cycle_lock; /* RANK_CYCLE */
  struct cond cycle_done; /* [lock: cycle] the running cycle ended, or its driver rests, or may go on */
  struct drive drive;
  struct claims claims;
  uint32_t phase; /* [atomic] gch_phase; only phase_enter writes it */
  gch_report report; /* [cycle] of the running major, as far as it has come */
  uint64_t cycle_number; /* [cycle] the last one given: majors and minors are counted together */
  uint64_t major_number; /* [cycle] of the running major, or the last; a minor beside it has one of its own */
  const struct mover_ops *mover; /* [const] */
  int (*drop)(gch_heap *heap, uintptr_t start,
              uint64_t bytes); /* [const] gives memory of heap pages back; the mover's */
  int shared_fd; /* [const] `simulated`: the object behind the heap, or -1 */
  struct uffd quiet; /* [const; faults: cycle] makes ranges destinations; mover/region.c; fd -1 without */
  bool liveness_moves; /* [const] the pages of the two maps too; mover/liveness.h */
  struct uffd missing; /* [const] delivers faults of armed memory */
  struct uffd trap; /* [const] traps stale accesses to the shadow */
  uint8_t registration[REGION_MAX]; /* [atomic] enum region_registration (mover/mover.h); the cycle's driver writes */
  uint64_t shadows_left; /* [cycle] bit a region: the kernel would not empty its shadow */
  uint32_t undropped; /* [atomic] 1: some memory could not be given back: what tables call empty may not be */
  char mover_reason[192]; /* [const] */
  bool huge; /* [const] huge pages are asked for */
  struct team *teams[2]; /* [const] collector threads: of pauses; beside mutators (NULL: the mover cannot) */
  uint32_t closing; /* [atomic] the heap ends: whoever marks beside mutators, of which there are none, leaves it
                          * undone */
  uint32_t movers; /* [atomic] workers that move beside mutators now */
  struct marking *marking[2]; /* [const] gc/mark.c: of minors, of majors */
  struct snapshot snapshot;
  struct weak weak;
  struct finalizers finalizers;
  struct plan *minor_plan; /* [const] [cycle] contents; tables reserved once */
  struct plan *plan; /* [const] [cycle] contents: of the running major */
  struct faults *faults; /* [const] gc/faults.c */
  struct controller *controller; /* [const] gc/controller.c */
  struct watchdog *watchdog; /* [const] gc/watchdog.c */
  uint64_t watchdog_ns; /* [atomic] a virtual-memory call that takes longer is reported */
  uint32_t held_out[2]; /* [cycle] regions of OLD and LARGE that this cycle does not flip */
  uint32_t promoted[2]; /* [cycle] blocks that the first pause promoted, by leaf: an estimate for the flip */
  uint32_t
      arming; /* [atomic; set by the driver, then seen by who takes the lock of a space] what is born with references is armed */
  uint64_t
      unit_pause_ns; /* [cycle] what moving a block in a pause takes: a weighted mean, of which the latest is 3/8 */
  uint64_t to_flip; /* [cycle] bit a region: prepared for the flip */
  uint64_t flipped; /* [stw] bit a region: lies in its shadow since the flip */
  uint64_t armed; /* [stw, plan] bit a leaf region: destinations in it are armed */
  uint32_t open_arenas
      [OPEN_ARENAS]; /* [atomic, moving] huge arenas made by pieces, each once: index + 1; PLACE_TAKEN; 0: a free place */
  uint32_t open_limit; /* [const] places there are: they count against the staging budget */
  struct selection selection;
  struct batching batching;
  struct hot hot;
  bool summarises; /* [stw] markers keep rows (heap/summary.h) */
  uint32_t summary_rest; /* [cycle] majors for which rows are not worth keeping */
  uint64_t next_dest; /* [atomic, moving] evacuated destinations of the plan that have been taken, in order */
  uint64_t impatient; /* [atomic] counts who found a unit BUSY and waits for it */
  uint64_t used_bytes; /* [atomic] blocks (destinations not) and large pages in use, young ones included */
  uint64_t major_trigger; /* [atomic] a major is due beyond so many used bytes */
  uint64_t major_goal; /* [atomic] and should have ended at so many; heap/pacing.h */
  struct pacing pacing; /* [cycle] */
  struct nursery nursery; /* [cycle; target_ns const] */
  struct brake brake;
  struct decay decay; /* [controller] gc/release.h */
  struct reserve reserve;
  uint64_t keeps; /* [cycle] bytes that this major may still leave populated and free */
  uint32_t board; /* [const] its place among the heaps that share a budget; 0: it has none; heap/board.h */
  uint64_t budget_extra; /* [cycle] what it may grow by, by the budget; 0: not known */
  struct pacing_left left; /* [cycle] by the last major; all 0: there was none */
  uint64_t paced_used, paced_ns; /* [cycle] used bytes at the last look, and when that was */
  uint64_t stress_count; /* [atomic] */
  struct ring ring;
  struct ring_slot *ring_slots; /* [const] NULL: they lie in the file */
  struct ring_file *ring_file; /* [const] NULL: no other process reads; heap/ring_file.h */
  struct sampler *sampler; /* [const] NULL: likewise; gc/sampler.h */
  struct diary *diary; /* [const] NULL: no log; heap/diary.h */
  struct measures measures;
  struct moved moved;
  struct trimmed trimmed[REGION_MAX];
  uint64_t pid; /* [fork] the process that owns the threads */
  char broken[160]; /* [fork] why it cannot be used in this process; "": it can */
};

/* --- small questions ------------------------------------------------------------------------------------------ */
static inline bool heap_contains(const gch_heap *h, uintptr_t a) { return layout_contains(&h->layout, a); }
static inline struct block *heap_block(const gch_heap *h, uintptr_t a) {
  return &h->tables.blocks[block_index(&h->layout, a)];
}
static inline struct arena *heap_arena(const gch_heap *h, uintptr_t a) {
  return &h->tables.arenas[arena_index(&h->layout, a)];
}
static inline const struct region *heap_region(const gch_heap *h, uintptr_t a) {
  return &h->layout.regions[layout_region(&h->layout, a)];
}
static inline bool heap_in_young(const gch_heap *h, uintptr_t a) {
  const struct region *young = &h->layout.regions[4 * h->layout.per_space];
  return a - young->start < young->bytes;
}
/* Of a reference: is it no young one? Kept objects in the young region have live bits, which change in pauses. */
static inline bool heap_is_old(const gch_heap *h, uintptr_t a) {
  uintptr_t old_bytes = h->layout.regions[4 * h->layout.per_space].start - h->layout.base;
  if (gch_likely(a - h->layout.base < old_bytes)) return true;
  return heap_in_young(h, a) && bits_test_atomic(h->tables.live, granule_index(&h->layout, a));
}
/* Kept blocks lie in the young region but are old. */
static inline bool heap_is_young(const gch_heap *h, uintptr_t a) {
  return heap_in_young(h, a) && heap_block(h, a)->state == BLOCK_YOUNG;
}
static inline bool heap_is_live(const gch_heap *h, uintptr_t a) {
  return bits_test(h->tables.live, granule_index(&h->layout, a));
}
static inline bool heap_is_frame(const gch_heap *h, uintptr_t a) {
  return a - h->frames.start < (uintptr_t)h->frames.slots * BLOCK_BYTES;
}
static inline struct small_space *heap_small_space(gch_heap *h, bool leaf) { return leaf ? &h->leaf : &h->old; }

/* The region of the space that allocation uses; guarded by the lock of the space. */
static inline uint32_t *heap_alloc_region(gch_heap *h, enum space_id space) {
  if (space == SPACE_OLD) return &h->old.alloc_region;
  if (space == SPACE_LEAF) return &h->leaf.alloc_region;
  return &h->large.alloc_region[space == SPACE_LARGE_LEAF];
}

/* Where mutators see a large object: once flipped, where it goes. */
static inline uintptr_t large_address(const gch_heap *h, const struct large *e) {
  /* While the end of a cycle makes the one the other, both are the same or the phase says which. */
  return at_load(&h->phase) >= GCH_PHASE_MOVE ? at_load(&e->forward) : at_load(&e->base);
}

/* What is taken now is born since the mark of the running major began. Under the lock of the space, so that the end of the
 * cycle, which resets `born` under it, misses none: what is taken after that is in phase END. */
static inline bool heap_births(const gch_heap *h) {
  uint32_t phase = at_load(&h->phase);
  return phase >= GCH_PHASE_MARK && phase <= GCH_PHASE_MOVE;
}
/* Is it born before the flip: marked, and (with references) a unit that stays? The phases change in pauses. */
static inline bool heap_births_marked(const gch_heap *h) {
  uint32_t phase = at_load_relaxed(&h->phase);
  return phase == GCH_PHASE_MARK || phase == GCH_PHASE_PLAN;
}

/* What is used counts once: a destination from the moment on at which its source does not any more. */
static inline void heap_use(gch_heap *h, uint64_t bytes) { at_add_relaxed(&h->used_bytes, bytes); }
static inline void heap_unuse(gch_heap *h, uint64_t bytes) { at_sub_relaxed(&h->used_bytes, bytes); }
/* A mutator uses `bytes` more. False: they are beyond the limit, and nothing has changed, so many threads do not go beyond it
 * together, either. (The collector itself may, for the length of a cycle.) */
static inline bool heap_use_within(gch_heap *h, uint64_t bytes) {
  uint64_t used = at_load_relaxed(&h->used_bytes); /* a figure */
  while (used + bytes <= h->config.max_bytes)
    if (at_cas_relaxed(&h->used_bytes, &used, used + bytes)) return true;
  return false;
}

static inline void heap_event(gch_heap *h, uint32_t kind, uint64_t a, uint64_t b, uint64_t c, uint64_t d);

#include "os/thread.h"
static inline void heap_event(gch_heap *h, uint32_t kind, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  struct ring_event event = {.t_ns = clock_ns(), .kind = kind, .thread = thread_id(), .a = a, .b = b, .c = c, .d = d};
  ring_write(&h->ring, &event);
}

#endif
