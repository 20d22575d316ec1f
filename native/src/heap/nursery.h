/* How large eden is: policy only, so it can be simulated (tests/test_nursery.c).
 *
 * A minor takes a time that it takes whatever eden holds (roots, cards), and a time for each byte that survives. Both are told
 * apart by a line through the last minors, in which the latest counts an eighth; where they were all alike, the slope stays that
 * of before, and drifts to what it would be if survivors were all that counts, so that it is tried again now and then. Eden is as
 * large as lets the survivors expected of it be moved in three quarters of the pause target.
 *
 *   too long: smaller at once, by half at most       short enough: an eighth larger with each minor
 *
 * What is not due to survivors no smaller eden makes shorter: their part is not pushed below half of the other.
 * Nor is eden ever larger than it was at the start: that fits into the cache. */
#ifndef HEAP_NURSERY_H
#define HEAP_NURSERY_H

#include <stdint.h>

struct nursery {
  uint64_t least, most; /* bytes; the same: it is fixed */
  uint64_t target_ns;
  uint64_t bytes;       /* in force */
  double size, ns, size_size, size_ns; /* weighted means: survivors in KiB, time, their products */
  double slope;         /* ns for a KiB of survivors; 0: not known */
  double survival;      /* KiB that survive of a byte of eden */
};

struct nursery_minor {
  uint64_t eden_bytes, live_bytes, ns;
};

void nursery_init(struct nursery *n, uint64_t least, uint64_t most, uint64_t target_ns);
/* A minor has been: `bytes` may change. */
void nursery_note(struct nursery *n, const struct nursery_minor *minor);
/* What eden starts with, for a share of the last-level cache (0: not known): half of it, between the two. */
uint64_t nursery_for_cache(uint64_t share, uint64_t least, uint64_t most);

#endif
