/* A log-linear histogram of unsigned 64-bit values, of fixed size, without allocation.
 *
 * Values below 16 have a bucket each; above, every power of two is cut into 16 sub-buckets, so a percentile is
 * off by at most 1/16 of its value. The layout is that of HdrHistogram with 4 significant bits. Recording is a
 * few relaxed atomic operations: any number of threads may record, merge and read at a time, and a reader may see
 * a record half done (counted in its bucket, not yet in the sum). */
#ifndef GCH_BASE_HISTOGRAM_H
#define GCH_BASE_HISTOGRAM_H

#include <stdint.h>

#include "gcheap/stats.h"

#define HISTOGRAM_SUB_BITS 4
#define HISTOGRAM_SUB (1u << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_SUB_BITS + 1) * HISTOGRAM_SUB)

struct histogram {
  uint64_t buckets[HISTOGRAM_BUCKETS]; /* [atomic] relaxed: statistics, ordered by nothing */
  uint64_t sum;                        /* [atomic] wraps at 2^64 */
  uint64_t min;                        /* [atomic] UINT64_MAX while empty */
  uint64_t max;                        /* [atomic] */
};

void histogram_init(struct histogram *h);
void histogram_record(struct histogram *h, uint64_t value);
/* Adds what `from` holds to `into`. */
void histogram_merge(struct histogram *into, const struct histogram *from);

uint64_t histogram_count(const struct histogram *h);
uint64_t histogram_sum(const struct histogram *h);
uint64_t histogram_min(const struct histogram *h); /* 0 if empty */
uint64_t histogram_max(const struct histogram *h); /* 0 if empty */
/* The smallest bucket limit that at least `pct` (0 to 100) per cent of the values do not exceed, clipped to
 * [min, max]; 0 if empty. */
uint64_t histogram_percentile(const struct histogram *h, double pct);

void histogram_describe(const struct histogram *h, gch_distribution *out);

/* The bucket of a value, and the greatest value of a bucket. */
uint32_t histogram_bucket(uint64_t value);
uint64_t histogram_bucket_max(uint32_t bucket);

#endif
