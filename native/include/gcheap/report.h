/* What the threads of a program waited for in one major: faults, who answered them, who waited for whom, and how little of
 * its time a thread had to itself. Times in ns, moments on CLOCK_MONOTONIC. */
#ifndef GCHEAP_REPORT_H
#define GCHEAP_REPORT_H

#include "gcheap/stats.h"
#include "gcheap/types.h"

/* Who makes a unit (a piece of the heap that is missing until it is made), and who waits for one. */
typedef enum gch_actor {
  GCH_ACTOR_MUTATOR =
      0, /* a thread of the program, in its signal handler, or as it needs memory that is to be present */
  GCH_ACTOR_WORKER, /* moves beside the program: the thread that drives the major, and those that help it */
  GCH_ACTOR_HANDLER, /* `thread` mode: the thread that answers faults when no worker is about. Waits for nobody */
  GCH_ACTOR_MINOR, /* collects the young space, in a pause. Makes no units */
  GCH_ACTOR_COUNT
} gch_actor;

/* How a touch of missing memory was answered. */
typedef enum gch_answer {
  GCH_ANSWER_SELF = 0, /* `signal` mode: the thread made the unit itself */
  GCH_ANSWER_WORKER, /* a worker did, between two others */
  GCH_ANSWER_HANDLER, /* the handler thread did */
  GCH_ANSWER_BUSY, /* somebody was making it already, and was waited for */
  GCH_ANSWER_COUNT
} gch_answer;

/* The window in which a thread had least of its time to itself: of all windows of that length, and of all threads. */
typedef struct gch_utilisation {
  uint64_t
      window_ns; /* the window's length: 1, 10 or 100 ms, or all of the time looked at if that is shorter; 0: there was none */
  uint64_t begin_ns; /* when it began */
  double least; /* the share that the thread had to itself, 0 to 1; 1: nobody lost anything */
  uint32_t thread; /* whose (the kernel's number); 0: nobody's */
  uint32_t reserved;
  uint64_t lost_ns
      [8]; /* by gch_stall: what the rest went to. Of a stall within another (a pause that an allocation waits for),
                        * the outer one counts */
} gch_utilisation;

/* A major. What a thread spends in gch_collect it has asked for: that is no stall. In `thread` mode the kernel holds a thread that
 * has touched missing memory, so all that can be known is the time from its message being read until the page was there, without
 * delivery and wake-up, here too: those gaps only the program's own clock shows. */
typedef struct gch_report {
  uint32_t struct_bytes; /* as the library knows it */
  uint32_t threads; /* that were stalled */
  uint64_t number; /* of the cycle; 0: no major has ended yet */
  uint64_t begin_ns, end_ns; /* the major, but for the moments in which it gives up its number */
  uint64_t move_begin_ns,
      move_end_ns; /* when memory moved beside the program, from the end of the flip's pause; 0: it did not */
  gch_distribution answers[4]; /* by gch_answer: what the touching threads waited. The first three add up to the stalls
                                * GCH_STALL_FAULT of the major, the last to GCH_STALL_UNIT */
  gch_distribution touches; /* all of them */
  uint64_t wait_count
      [4][4]; /* [who waited][for whom], by gch_actor: for faults answered by another, and for units that another */
  uint64_t wait_ns[4][4]; /* was making. [GCH_ACTOR_MUTATOR][GCH_ACTOR_MUTATOR]: for another thread of the program */
  gch_utilisation cycle[3]; /* windows of 1, 10, 100 ms in [begin_ns, end_ns) */
  gch_utilisation move[3]; /* in [move_begin_ns, move_end_ns) */
  uint64_t unlogged; /* stalls that `cycle` and `move` do not know of, as there was no room: 0, as a rule */
  uint64_t unlogged_ns;
} gch_report;

/* Of the last major that has ended. `bytes` is sizeof(gch_report) of the caller. Thread-safe, any state. */
GCH_API void gch_report_get(gch_heap *heap, gch_report *out, size_t bytes);

GCH_API const char *gch_actor_name(uint32_t actor);
GCH_API const char *gch_answer_name(uint32_t answer);

#endif
