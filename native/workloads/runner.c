#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>

#include "base/clock.h"
#include "base/error.h"
#include "workloads/runner_internal.h"

/* An operation has ended. */
static void stamp(const stamps_config *c, stamps_result *r) {
  uint64_t now = clock_ns(), gap = now - r->end_ns, ms = (now - r->start_ns) / 1000000u;
  if (gap > c->gap_ns) {
    if (r->gap_count < c->gap_capacity) c->gaps[r->gap_count] = (stamps_gap){r->end_ns, gap};
    r->gap_count++;
    r->gap_sum_ns += gap;
    if (gap > r->gap_max_ns) r->gap_max_ns = gap;
  }
  if (ms < c->ms_capacity) c->ops_by_ms[ms]++;
  r->end_ns = now;
}

static void run_all(struct runner *run) {
  bool more = true;
  run->result.start_ns = run->result.end_ns = clock_ns();
  for (uint64_t op = 0; more && at_load_relaxed(&run->stop) == 0; op++) { /* a hint */
    more = run->workload->operate(run, op);
    stamp(&run->stamps, &run->result);
    at_store_relaxed(&run->ops, op + 1); /* progress, ordered by the join */
  }
  run->result.ops = run->ops;
}

static void run_attached(struct runner *run) {
  gch_frame frame;
  if (gch_attach(run->heap, &run->m, &run->error) != GCH_OK) {
    at_store(&run->attached, 2);
    return;
  }
  gch_frame_push(run->m, &frame, run->frame, RUNNER_ROOTS);
  gch_status status = run->workload->begin == NULL ? GCH_OK : run->workload->begin(run);
  if (status != GCH_OK) run->error = *gch_last_error(run->m);
  at_store(&run->attached, status == GCH_OK ? 1 : 2);
  if (status == GCH_OK) run_all(run);
  gch_frame_pop(run->m);
  gch_detach(run->m);
}

static void runner_main(void *arg) {
  struct runner *run = arg;
  if (run->cpu >= 0) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET((size_t)run->cpu, &cpus);
    (void)sched_setaffinity(0, sizeof cpus, &cpus); /* where it may not, it runs where it did */
  }
  if (run->heap != NULL) {
    run_attached(run);
    return;
  }
  at_store(&run->attached, 1);
  run_all(run);
}

gch_status runner_start(struct runner *run, gch_error *error) {
  int rc = thread_start(&run->thread, run->workload->thread, runner_main, run);
  if (rc < 0) return error_set(error, GCH_NO_MEMORY, "no thread for a workload (error %d)", -rc);
  while (at_load(&run->attached) == 0) thread_yield();
  if (run->attached == 1) return GCH_OK;
  thread_join(&run->thread);
  if (error != NULL) *error = run->error;
  return run->error.status;
}

void runner_finish(struct runner *run, bool now) {
  if (now) at_store_relaxed(&run->stop, 1); /* the join orders everything else */
  thread_join(&run->thread);
}
