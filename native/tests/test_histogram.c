/* The histogram: bucket limits over the whole range, percentiles against sorted values, concurrent records. */
#include "base/histogram.h"

#include <pthread.h>
#include <stdlib.h>

#include "check.h"

static struct histogram h, other;

static void buckets(void) {
  uint64_t wrong = 0;
  CHECK_EQ(histogram_bucket(0), 0);
  CHECK_EQ(histogram_bucket(15), 15);
  CHECK_EQ(histogram_bucket(16), 16);
  CHECK_EQ(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
  CHECK(histogram_bucket_max(HISTOGRAM_BUCKETS - 1) == UINT64_MAX);
  for (uint32_t b = 0; b < HISTOGRAM_BUCKETS; b++) {
    uint64_t max = histogram_bucket_max(b);
    wrong += histogram_bucket(max) != b;
    if (b + 1 < HISTOGRAM_BUCKETS) wrong += histogram_bucket(max + 1) != b + 1;
    if (b > 0) wrong += (double)(max - histogram_bucket_max(b - 1) - 1) > (double)max / 16;
  }
  CHECK_EQ(wrong, 0);
}

static void empty(void) {
  histogram_init(&h);
  CHECK_EQ(histogram_count(&h), 0);
  CHECK_EQ(histogram_min(&h), 0);
  CHECK_EQ(histogram_max(&h), 0);
  CHECK_EQ(histogram_percentile(&h, 50), 0);
}

static void extremes(void) {
  histogram_init(&h);
  histogram_record(&h, UINT64_MAX);
  CHECK(histogram_min(&h) == UINT64_MAX && histogram_max(&h) == UINT64_MAX);
  CHECK(histogram_percentile(&h, 0) == UINT64_MAX && histogram_percentile(&h, 100) == UINT64_MAX);
  histogram_record(&h, 0);
  CHECK_EQ(histogram_min(&h), 0);
  CHECK_EQ(histogram_percentile(&h, 50), 0);
  CHECK_EQ(histogram_count(&h), 2);
}

static int by_value(const void *x, const void *y) {
  uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
  return (a > b) - (a < b);
}

static void percentiles(void) {
  enum { N = 10007 };
  static uint64_t values[N];
  static const double wanted[] = {0, 0.01, 1, 25, 50, 90, 99, 99.9, 99.99, 100};
  uint64_t state = 88172645463325252u, sum = 0;
  histogram_init(&h);
  for (int i = 0; i < N; i++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    values[i] = state >> (state % 60);
    sum += values[i];
    histogram_record(&h, values[i]);
  }
  qsort(values, N, sizeof *values, by_value);
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
    uint64_t rank = (uint64_t)(wanted[i] / 100 * N + 0.999999);
    uint64_t exact = values[rank == 0 ? 0 : rank - 1], got = histogram_percentile(&h, wanted[i]);
    CHECK(got >= exact && got - exact <= exact / 16 + 1);
  }
  CHECK(histogram_sum(&h) == sum);
  CHECK(histogram_min(&h) == values[0] && histogram_max(&h) == values[N - 1]);
  CHECK(histogram_percentile(&h, 100) == values[N - 1]);
}

static void merging(void) {
  histogram_init(&h);
  histogram_init(&other);
  histogram_merge(&h, &other);
  CHECK_EQ(histogram_count(&h), 0);
  CHECK_EQ(histogram_min(&h), 0);
  for (uint64_t v = 1; v <= 100; v++) histogram_record(v % 2 ? &h : &other, v);
  histogram_merge(&h, &other);
  CHECK_EQ(histogram_count(&h), 100);
  CHECK_EQ(histogram_sum(&h), 5050);
  CHECK_EQ(histogram_min(&h), 1);
  CHECK_EQ(histogram_max(&h), 100);
}

static void *recorder(void *arg) {
  for (uint64_t i = 0; i < 20000; i++) histogram_record(arg, i);
  return NULL;
}

static void concurrent(void) {
  pthread_t threads[3];
  histogram_init(&h);
  for (int i = 0; i < 3; i++) CHECK_EQ(pthread_create(&threads[i], NULL, recorder, &h), 0);
  CHECK(histogram_percentile(&h, 50) < 20000);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  CHECK_EQ(histogram_count(&h), 60000);
  CHECK_EQ(histogram_sum(&h), 3 * 19999 * 20000LL / 2);
  CHECK_EQ(histogram_max(&h), 19999);
}

int main(void) {
  RUN(buckets);
  RUN(empty);
  RUN(extremes);
  RUN(percentiles);
  RUN(merging);
  RUN(concurrent);
  return CHECK_SUMMARY();
}
