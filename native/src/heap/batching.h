/* How many units are published together: policy only, so it can be simulated (tests/test_batching.c).
 *
 * A call that publishes costs the same again and again, whatever it publishes (entering the kernel, one TLB shootdown to every CPU that
 * runs the process: 1 us while they idle, 10 beside a busy one), and so much for each unit. Batches are as large as it takes for the
 * fixed part to be a SHARE of what a unit costs in all, made and published, and no larger: who waits for a unit waits for those
 * that are published with it. Costs are weighted means of what calls took, of one unit and of several: what a call of several took
 * beyond one is due to the others. A call that took very long was put off its CPU, and counts for little.
 *
 * Threads: anybody; all fields are atomic and relaxed, so notes may be lost. */
#ifndef HEAP_BATCHING_H
#define HEAP_BATCHING_H

#include <stdint.h>

enum { BATCH_UNITS = 8 };

struct batching {
  uint64_t one_ns;  /* a call of one unit; 0: none seen */
  uint64_t more_ns; /* a unit more; 0: none seen */
  uint64_t make_ns; /* making a unit */
};

/* `units` were made in `make_ns`, and published in one call that took `publish_ns`. */
void batching_note(struct batching *b, uint32_t units, uint64_t make_ns, uint64_t publish_ns);
/* 1 to BATCH_UNITS; BATCH_UNITS as long as nothing is known. */
uint32_t batching_units(const struct batching *b);

#endif
