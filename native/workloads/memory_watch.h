/* What memory the process has while a collection moves: a thread that follows a heap's phase and samples.
 *
 * In the phase before (plan, flip) it looks often, so that a sample lies close to the beginning of the move phase. When it
 * sees that one begin it resets the kernel's high-water mark, and reads it when it sees the end: with a sample's gap at
 * the beginning, the peak is then the kernel's own and not that of some samples. A sample costs a few microseconds of a
 * CPU (statm, sysinfo); nothing takes the lock that a flip needs but the one reset. */
#ifndef WORKLOADS_MEMORY_WATCH_H
#define WORKLOADS_MEMORY_WATCH_H

#ifndef GCHEAP_CDEF
#include <gcheap/gcheap.h>
#endif

typedef struct memory_watch memory_watch;

typedef struct memory_sample {
  uint64_t time_ns;   /* CLOCK_MONOTONIC, after it was taken */
  uint64_t resident;  /* statm */
  uint64_t shared;    /* files and shared memory in it */
  uint64_t other;     /* not in `resident - shared`, but physical: what the backing files hold, page tables */
  uint64_t mem_free;  /* MemFree of the machine: what lists of single CPUs hold is not in it */
  uint64_t cgroup;    /* what the process's memory cgroup is charged with; 0 without one */
  uint64_t allocated; /* by mutators since the heap is there, in whole buffers */
} memory_sample;

/* Arrays belong to the caller and must outlive the run. */
typedef struct memory_watch_config {
  memory_sample *samples;
  uint64_t capacity;
  const int32_t *backing; /* descriptors of shared memory that is mapped twice: only samples speak of it then */
  uint64_t backing_count;
  int32_t cgroup; /* descriptor of the file with the cgroup's usage, -1: none */
} memory_watch_config;

typedef struct memory_watch_result {
  uint64_t count;       /* samples: recorded ones and lost ones */
  uint64_t reset_ns;    /* when the high-water mark was reset, in the last move phase seen; 0: none was seen */
  uint64_t peak_before; /* physical memory at most, until the last reset; 0 without one */
  uint64_t peak_moving; /* from the last reset until the end of the phase was seen; 0 with a backing file */
} memory_watch_result;

/* Starts the thread: just before the collection, so that it disturbs nothing else that is measured. */
int memory_watch_start(gch_heap *heap, const memory_watch_config *config, memory_watch **out, gch_error *error);
/* Ends it and frees the watch. */
void memory_watch_finish(memory_watch *watch, memory_watch_result *out);

#endif
