#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "workloads/loops.h"

#include <sched.h>
#include <stdlib.h>

#include "workloads/loops_internal.h"

enum { CONTROL_SPINS = 64, MAX_LOOP_STEPS = 64 };

static bool control_operate(struct loop *run) {
  for (int i = 0; i < CONTROL_SPINS; i++) run->result.checksum ^= random_next(&run->random);
  return true;
}

static bool operate(struct loop *run, uint64_t op) {
  switch (run->config.kind) {
    case LOOP_WALK: return walk_operate(run, op);
    case LOOP_CACHE: return cache_operate(run, op);
    default: return control_operate(run);
  }
}

static void run_all(struct loop *run) {
  struct stamps *s = &run->stamps;
  loop_result *r = &run->result;
  bool more = true;
  stamps_begin(s);
  for (uint64_t op = 0; more && at_load_relaxed(&run->stop) == 0; op++) { /* a hint */
    more = operate(run, op);
    if (run->m != NULL) gch_safepoint(run->m);
    stamps_note(s);
    at_store_relaxed(&run->ops, op + 1); /* progress, ordered by the join */
  }
  r->ops = run->ops;
  r->start_ns = s->start_ns;
  r->end_ns = s->last_ns;
  r->gap_count = s->gap_count;
  r->gap_sum_ns = s->gap_sum_ns;
  r->gap_max_ns = s->gap_max_ns;
}

static gch_status begin(struct loop *run) {
  gch_handle handles[2] = {run->config.first, run->config.second};
  for (int i = 0; i < 2; i++) {
    if (handles[i] == 0) continue;
    gch_status status = gch_handle_get(run->m, handles[i], &run->frame[i]);
    if (status != GCH_OK) return status;
    run->lengths[i] = gch_length(run->heap, run->frame[i]);
  }
  return run->config.kind == LOOP_WALK ? walk_begin(run) : cache_begin(run);
}

static void run_attached(struct loop *run) {
  gch_frame frame;
  if (gch_attach(run->heap, &run->m, &run->error) != GCH_OK) {
    at_store(&run->attached, 2);
    return;
  }
  gch_frame_push(run->m, &frame, run->frame, LOOP_FRAME);
  gch_status status = begin(run);
  if (status != GCH_OK) run->error = *gch_last_error(run->m);
  at_store(&run->attached, status == GCH_OK ? 1 : 2);
  if (status == GCH_OK) run_all(run);
  gch_frame_pop(run->m);
  gch_detach(run->m);
}

static void loop_main(void *arg) {
  struct loop *run = arg;
  if (run->config.cpu >= 0) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET((size_t)run->config.cpu, &cpus);
    (void)sched_setaffinity(0, sizeof cpus, &cpus); /* where it may not, it runs where it did */
  }
  if (run->config.kind != LOOP_CONTROL) {
    run_attached(run);
    return;
  }
  at_store(&run->attached, 1);
  run_all(run);
}

static int check_config(const gch_heap *heap, const loop_config *c, gch_error *error) {
  if (c->steps == 0 || c->steps > MAX_LOOP_STEPS)
    return (int)error_set(error, GCH_BAD_VALUE, "%u steps an operation, expected 1 to %d", c->steps, MAX_LOOP_STEPS);
  if ((heap == NULL) != (c->kind == LOOP_CONTROL))
    return (int)error_set(error, GCH_BAD_VALUE, "the control is the loop without a heap, and the only one");
  return GCH_OK;
}

int loop_start(gch_heap *heap, const loop_config *config, loop **out, gch_error *error) {
  *out = NULL;
  int status = check_config(heap, config, error);
  if (status != GCH_OK) return status;
  struct loop *run = calloc(1, sizeof *run);
  if (run == NULL) return (int)error_set(error, GCH_NO_MEMORY, "no memory for a workload's records");
  run->config = *config;
  run->heap = heap;
  run->random = random_seed(config->seed);
  run->stamps = (struct stamps){.gap_ns = config->gap_ns,
                                .gaps = config->gaps,
                                .gap_capacity = config->gap_capacity,
                                .ops_by_ms = config->ops_by_ms,
                                .ms_capacity = config->ms_capacity};
  int rc = thread_start(&run->thread, "gcheap-loop", loop_main, run);
  if (rc < 0) {
    free(run);
    return (int)error_set(error, GCH_NO_MEMORY, "no thread for a workload (error %d)", -rc);
  }
  while (at_load(&run->attached) == 0) thread_yield();
  if (run->attached == 1) {
    *out = run;
    return GCH_OK;
  }
  thread_join(&run->thread);
  status = (int)run->error.status;
  if (error != NULL) *error = run->error;
  free(run);
  return status;
}

uint64_t loop_ops(const loop *run) { return at_load_relaxed(&run->ops); } /* progress */

void loop_finish(loop *run, loop_result *out) {
  at_store_relaxed(&run->stop, 1); /* the join orders everything else */
  thread_join(&run->thread);
  *out = run->result;
  free(run);
}
