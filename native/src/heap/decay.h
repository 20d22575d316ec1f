/* Memory that is populated and free goes back to the system when it has not been used for some time: policy only, so it can be
 * simulated (tests/test_decay.c).
 *
 * The time is cut into ticks. How much is free is looked at with each; what was free at all of the last DECAY_TICKS has not been used
 * in that time, and goes within as many ticks again, a part with each, as long as nobody comes to need it. */
#ifndef HEAP_DECAY_H
#define HEAP_DECAY_H

#include <stdint.h>

enum { DECAY_TICKS = 8 };

struct decay {
  uint64_t free[DECAY_TICKS]; /* bytes, at the last ticks */
  uint32_t ticks; /* so far */
  uint64_t step; /* bytes that go with a tick */
};

/* A tick, with so many bytes free: how many of them should go now. */
uint64_t decay_tick(struct decay *d, uint64_t free);

#endif
