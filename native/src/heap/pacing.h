/* When a major should begin: policy only, no heap is touched, so it can be simulated (tests/test_pacing.c).
 *
 *   0 ---- live ------- used --------- trigger --------------- goal ------- limit
 *          marked by    when it had    |  begins to mark       |            allocation fails, or waits for the cycle
 *          the last     ended          '--- runway: what is ---'
 *          major                            allocated until the cycle has given memory back
 *
 * The goal is where the cycle should have ended: a multiple of what lived after the last one, within the limits. The runway is
 * the growth expected while a cycle runs: the rate of growth (old memory only: what is born and dies young costs nothing),
 * times how long a cycle takes, by those before (for each live byte), half as much again. The trigger is at least a quarter of the
 * way from what was in use to the goal: cycles that follow each other without a break would take the program's CPU and win little.
 *
 * Rates are weighted means, in which the latest counts 3/8; of growth the latest alone if it is higher, so that a burst is
 * seen at once. */
#ifndef HEAP_PACING_H
#define HEAP_PACING_H

#include <stdint.h>

struct pacing {
  uint64_t growth; /* bytes a second; 0: none seen */
  uint64_t cost;   /* ns of a cycle for a MiB that lives; 0: none seen */
  uint64_t steady; /* [atomic to read] bytes a second, over some seconds */
  uint64_t work;   /* as `cost`, of majors in the pause, too */
};

struct pacing_limits {
  uint64_t hard;    /* no allocation beyond */
  uint64_t soft;    /* the goal stays below where what lives allows it; 0: the hard one */
  uint32_t percent; /* growth allowed: of what lives */
  uint64_t extra;   /* if not 0: so many bytes instead (heap/budget.h) */
};

/* `bytes` more are in use than `ns` ago. */
void pacing_note_growth(struct pacing *p, uint64_t bytes, uint64_t ns);
/* A cycle has taken `ns` and marked `live` bytes. */
void pacing_note_cycle(struct pacing *p, uint64_t live, uint64_t ns);
/* The same of any major, for what growth costs, not for how early to begin. */
void pacing_note_work(struct pacing *p, uint64_t live, uint64_t ns);
uint64_t pacing_work(const struct pacing *p);
/* What the last major left: live bytes that it marked, bytes in use when it had ended. */
struct pacing_left {
  uint64_t live, used;
};
uint64_t pacing_goal(const struct pacing_limits *limits, const struct pacing_left *left);
/* What a cycle is expected to take. */
uint64_t pacing_cycle_ns(const struct pacing *p, uint64_t live);
uint64_t pacing_trigger(const struct pacing *p, const struct pacing_limits *limits, const struct pacing_left *left);

/* The brake, for when all that was not enough: how mutators share the room that is left until a cycle has ended. */
struct pacing_room {
  uint64_t bytes;                /* to the limit */
  uint64_t gone_ns, expected_ns; /* since the cycle began, and what it was to take */
  uint32_t mutators;             /* that run */
};
/* What is to pass before one of them takes more, when it has taken `bytes`: then the room lasts as long as the cycle is still
 * expected to run (a quarter of the whole, if that is over already), or they wait `most`, whatever that is worth. */
uint64_t pacing_delay(const struct pacing_room *room, uint64_t bytes, uint64_t most);

#endif
