/* Stalls of mutators: counted by cause for each mutator, and for the heap.
 *
 * A mutator counts its own: pauses, allocation, fork(), and in `signal` mode what it touched. In `thread` mode the kernel holds
 * it, so others count for it, by the thread that the message names: a fault, from the message until its unit was published, by
 * whoever made the unit; the wait for a unit that was being made already, by its maker (a `waiter`). What comes before and after,
 * delivery and wake-up, nobody here can see; a gap in the program's own clock can (gcheap compare: stalls.moving).
 *
 * Records of mutators are never freed while the heap lives, so they can be looked through without a lock. */
#ifndef HEAP_STALL_H
#define HEAP_STALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/histogram.h"
#include "gcheap/report.h"
#include "gcheap/stats.h"

struct mutator;

/* [atomic] relaxed counters */
struct stalls {
  uint64_t count[GCH_STALL_COUNT], ns[GCH_STALL_COUNT];
};

enum { WAITERS = 16 }; /* at a time; beyond that, waits for units are not counted in `thread` mode */

struct waiters {
  uint32_t count; /* [atomic seq] at least so many words are in use: makers of units look at no more while it is 0 */
  struct {
    uint64_t word;  /* [atomic seq] unit << 32 | thread; 0: free */
    uint64_t start; /* [atomic] written by who has taken the word */
  } all[WAITERS];
};

/* Of the running major, or the last: what touches of missing memory waited, and who waited for units that another was making. */
struct touching { /* [atomic] relaxed counters */
  struct histogram answers[GCH_ANSWER_COUNT];
  uint64_t wait_count[GCH_ACTOR_COUNT][GCH_ACTOR_COUNT], wait_ns[GCH_ACTOR_COUNT][GCH_ACTOR_COUNT];
};

/* Counts a stall of the mutator (NULL: of a thread that is none, for the heap only), and logs it; in a move phase, pauses apart, also
 * in the distribution of the phase. Async-signal-safe. */
void stall_count(gch_heap *heap, struct mutator *mutator, gch_stall cause, uint64_t start, uint64_t end);

/* A stall that may be long: seen also while it lasts. Of one within another the outer one is. */
struct stall {
  struct mutator *mutator;
  gch_stall cause;
  bool outer;
  uint64_t start;
};
struct stall stall_begin(struct mutator *mutator, gch_stall cause);
void stall_end(const struct stall *stall);

/* Counts the stall of a touch, by who answered it. Async-signal-safe. */
void stall_touch(gch_heap *heap, struct mutator *mutator, gch_answer answer, uint64_t start, uint64_t end);
/* `who` has waited for a unit that `maker` was making. Async-signal-safe. */
void stall_waited(gch_heap *heap, gch_actor who, gch_actor maker, uint64_t ns);

/* The thread waits since `start` for a unit that was busy a moment ago. */
void stall_wait(gch_heap *heap, size_t unit, uint32_t thread, uint64_t start);
/* The unit is mapped: whoever waited for it goes on. */
void stall_wait_over(gch_heap *heap, size_t unit);

#endif
