#include "heap/batching.h"

#include "base/atomic.h"

enum {
  SHARE = 20,  /* the fixed part is a 20th */
  WEIGHT = 64, /* of the latest in a mean: a 64th */
  FAR = 4,     /* what is more than so many times the mean counts as that */
};

static void weigh(uint64_t *mean, uint64_t now) {
  uint64_t was = at_load_relaxed(mean); /* figures, all of them */
  if (was != 0 && now / FAR > was) now = was * FAR;
  at_store_relaxed(mean, was == 0 ? now : was - was / WEIGHT + now / WEIGHT + 1);
}

void batching_note(struct batching *b, uint32_t units, uint64_t make_ns, uint64_t publish_ns) {
  uint64_t one = at_load_relaxed(&b->one_ns);
  weigh(&b->make_ns, make_ns / units + 1);
  if (units == 1)
    weigh(&b->one_ns, publish_ns + 1);
  else if (one != 0)
    weigh(&b->more_ns, (publish_ns > one ? publish_ns - one : 0) / (units - 1) + 1);
}

uint32_t batching_units(const struct batching *b) {
  uint64_t one = at_load_relaxed(&b->one_ns), more = at_load_relaxed(&b->more_ns), make = at_load_relaxed(&b->make_ns);
  if (one == 0 || more == 0) return BATCH_UNITS;
  uint64_t fixed = one > more ? one - more : 0, units = (fixed * SHARE + make + more - 1) / (make + more);
  return units < 1 ? 1 : units > BATCH_UNITS ? BATCH_UNITS : (uint32_t)units;
}
