/* A workload's own clock: gaps between operations, operations a millisecond: the stalls as a program sees them. */
#ifndef WORKLOADS_STAMPS_H
#define WORKLOADS_STAMPS_H

#ifndef GCHEAP_CDEF
#include <stdint.h>
#endif

typedef struct stamps_gap {
  uint64_t start_ns; /* CLOCK_MONOTONIC, end of the operation before */
  uint64_t length_ns;
} stamps_gap;

/* Arrays belong to the caller and must outlive the run. */
typedef struct stamps_config {
  uint32_t gap_ns;     /* longer gaps are noted */
  stamps_gap *gaps;
  uint64_t gap_capacity;
  uint32_t *ops_by_ms; /* operations finished in each millisecond since the start */
  uint64_t ms_capacity;
} stamps_config;

typedef struct stamps_result {
  uint64_t ops;
  uint64_t start_ns, end_ns; /* of the first operation, of the last */
  uint64_t gap_count;        /* recorded ones and lost ones */
  uint64_t gap_sum_ns, gap_max_ns;
} stamps_result;

#endif
