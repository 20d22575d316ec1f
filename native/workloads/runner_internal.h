/* The thread of a workload: it attaches (if there is a heap), gets ready, and does one operation after the other, with a stamp after
 * each, until it is told to stop or the workload says that it is over. */
#ifndef WORKLOADS_RUNNER_INTERNAL_H
#define WORKLOADS_RUNNER_INTERNAL_H

#include "os/thread.h"
#include "python/bulk_internal.h"
#include "workloads/stamps.h"

enum { RUNNER_ROOTS = 4 };

struct runner;

struct workload {
  const char *thread; /* its name */
  /* Once, attached; NULL: nothing to do. A status, and the mutator's error says more. */
  gch_status (*begin)(struct runner *run);
  /* One operation, a safepoint among it. False: it was the last. */
  bool (*operate)(struct runner *run, uint64_t op);
};

/* First member of a workload's own record. */
struct runner {
  const struct workload *workload;
  gch_heap *heap; /* NULL: none */
  gch_mutator *m; /* NULL: no heap */
  int32_t cpu; /* the only one to run on; -1: any */
  stamps_config stamps;
  stamps_result result;
  struct thread thread;
  uint64_t ops; /* [atomic] done so far */
  uint32_t stop; /* [atomic] */
  uint32_t attached; /* [atomic] 1: yes, 2: failed */
  gch_error error;
  gch_ref frame[RUNNER_ROOTS]; /* roots */
};

/* Starts the thread and waits until it is ready. On failure nothing is left but the record, which stays the caller's. */
gch_status runner_start(struct runner *run, gch_error *error);
static inline uint64_t runner_ops(const struct runner *run) { return at_load_relaxed(&run->ops); } /* progress */
/* Waits for the end; `now`: asks for it. */
void runner_finish(struct runner *run, bool now);

#endif
