#include "base/seqlock.h"

#include "base/atomic.h"

enum { TRIES = 1000 };

void seqlock_write(uint64_t *stamp, uint64_t *record, const void *from, size_t words) {
  const uint64_t *in = from;
  uint64_t now = at_load_relaxed(stamp); /* only we write it */
  at_store_relaxed(stamp, now + 1);      /* ordered by the words behind it, each a release */
  for (size_t i = 0; i < words; i++) at_store(&record[i], in[i]);
  at_store(stamp, now + 2);
}

bool seqlock_read(const uint64_t *stamp, const uint64_t *record, void *to, size_t words) {
  uint64_t *out = to;
  for (int i = 0; i < TRIES; i++) {
    uint64_t before = at_load(stamp);
    if (before == 0) return false;
    if (before % 2 == 1) continue;
    for (size_t w = 0; w < words; w++) out[w] = at_load(&record[w]);
    if (at_load_relaxed(stamp) == before) return true; /* the loads before it are acquires */
  }
  return false;
}
