/* The log-linear histogram. See histogram.h. Every access is relaxed: figures, which order nothing. */
#include "base/histogram.h"

#include "base/atomic.h"
#include "base/bits.h"

void histogram_init(struct histogram *h) {
  for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) at_store_relaxed(&h->buckets[i], 0);
  at_store_relaxed(&h->sum, 0);
  at_store_relaxed(&h->min, UINT64_MAX);
  at_store_relaxed(&h->max, 0);
}

/* Values below HISTOGRAM_SUB: themselves. Above: HISTOGRAM_SUB buckets for each exponent from SUB_BITS on, by the
 * SUB_BITS bits after the leading one. */
uint32_t histogram_bucket(uint64_t value) {
  if (value < HISTOGRAM_SUB) return (uint32_t)value;
  uint32_t exponent = log2_floor(value);
  uint32_t sub = (uint32_t)(value >> (exponent - HISTOGRAM_SUB_BITS)) & (HISTOGRAM_SUB - 1);
  return (exponent - HISTOGRAM_SUB_BITS + 1) * HISTOGRAM_SUB + sub;
}

uint64_t histogram_bucket_max(uint32_t bucket) {
  if (bucket < HISTOGRAM_SUB) return bucket;
  uint32_t shift = bucket / HISTOGRAM_SUB - 1;
  uint64_t lead = (uint64_t)HISTOGRAM_SUB + bucket % HISTOGRAM_SUB;
  return (lead << shift) + (((uint64_t)1 << shift) - 1);
}

static void lower(uint64_t *cell, uint64_t value) {
  uint64_t seen = at_load_relaxed(cell);
  while (value < seen && !at_cas_relaxed(cell, &seen, value)) {
  }
}

static void raise_to(uint64_t *cell, uint64_t value) {
  uint64_t seen = at_load_relaxed(cell);
  while (value > seen && !at_cas_relaxed(cell, &seen, value)) {
  }
}

void histogram_record(struct histogram *h, uint64_t value) {
  at_add_relaxed(&h->buckets[histogram_bucket(value)], 1);
  at_add_relaxed(&h->sum, value);
  lower(&h->min, value);
  raise_to(&h->max, value);
}

void histogram_merge(struct histogram *into, const struct histogram *from) {
  for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
    uint64_t n = at_load_relaxed(&from->buckets[i]);
    if (n != 0) at_add_relaxed(&into->buckets[i], n);
  }
  at_add_relaxed(&into->sum, at_load_relaxed(&from->sum));
  lower(&into->min, at_load_relaxed(&from->min));
  raise_to(&into->max, at_load_relaxed(&from->max));
}

uint64_t histogram_count(const struct histogram *h) {
  uint64_t count = 0;
  for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) count += at_load_relaxed(&h->buckets[i]);
  return count;
}

uint64_t histogram_sum(const struct histogram *h) { return at_load_relaxed(&h->sum); }

uint64_t histogram_min(const struct histogram *h) {
  uint64_t min = at_load_relaxed(&h->min);
  return min == UINT64_MAX && histogram_count(h) == 0 ? 0 : min;
}

uint64_t histogram_max(const struct histogram *h) { return at_load_relaxed(&h->max); }

static uint64_t clip(const struct histogram *h, uint64_t value) {
  uint64_t min = at_load_relaxed(&h->min), max = at_load_relaxed(&h->max);
  if (value > max) return max;
  return value < min ? min : value;
}

/* The rank of the percentile among `count` values, 1 to count: the least r with r >= pct/100 * count. */
static uint64_t rank_of(uint64_t count, double pct) {
  if (!(pct > 0)) return 1;
  if (pct >= 100) return count;
  double exact = pct / 100 * (double)count;
  uint64_t rank = (uint64_t)exact;
  if ((double)rank < exact) rank++;
  return rank < 1 ? 1 : rank > count ? count : rank;
}

uint64_t histogram_percentile(const struct histogram *h, double pct) {
  uint64_t count = histogram_count(h);
  if (count == 0) return 0;
  uint64_t left = rank_of(count, pct);
  for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
    uint64_t n = at_load_relaxed(&h->buckets[i]);
    if (n >= left) return clip(h, histogram_bucket_max(i));
    left -= n;
  }
  return histogram_max(h);
}

void histogram_describe(const struct histogram *h, gch_distribution *out) {
  *out = (gch_distribution){.count = histogram_count(h),
                            .sum = histogram_sum(h),
                            .max = histogram_max(h),
                            .p50 = histogram_percentile(h, 50),
                            .p90 = histogram_percentile(h, 90),
                            .p99 = histogram_percentile(h, 99),
                            .p999 = histogram_percentile(h, 99.9)};
}
