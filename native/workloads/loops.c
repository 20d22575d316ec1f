#include "workloads/loops.h"

#include <stdlib.h>

#include "workloads/loops_internal.h"

enum { CONTROL_SPINS = 64, MAX_LOOP_STEPS = 64 };

static bool control_operate(struct runner *runner, uint64_t op) {
  struct loop *run = (struct loop *)runner;
  (void)op;
  for (int i = 0; i < CONTROL_SPINS; i++) run->result.checksum ^= random_next(&run->random);
  return true;
}

static const struct workload control_workload = {"gcheap-loop", NULL, control_operate};

gch_status loop_begin(struct runner *runner) {
  struct loop *run = (struct loop *)runner;
  gch_handle handles[2] = {run->config.first, run->config.second};
  for (int i = 0; i < 2; i++) {
    if (handles[i] == 0) continue;
    gch_status status = gch_handle_get(runner->m, handles[i], &runner->frame[i]);
    if (status != GCH_OK) return status;
    run->lengths[i] = gch_length(runner->heap, runner->frame[i]);
  }
  return GCH_OK;
}

static int check_config(const gch_heap *heap, const loop_config *c, gch_error *error) {
  if (c->steps == 0 || c->steps > MAX_LOOP_STEPS)
    return (int)error_set(error, GCH_BAD_VALUE, "%u steps an operation, expected 1 to %d", c->steps, MAX_LOOP_STEPS);
  if ((heap == NULL) != (c->kind == LOOP_CONTROL))
    return (int)error_set(error, GCH_BAD_VALUE, "the control is the loop without a heap, and the only one");
  return GCH_OK;
}

static const struct workload *workload_of(loop_kind kind) {
  switch (kind) {
    case LOOP_WALK: return &walk_workload;
    case LOOP_CACHE: return &cache_workload;
    default: return &control_workload;
  }
}

int loop_start(gch_heap *heap, const loop_config *config, loop **out, gch_error *error) {
  *out = NULL;
  int status = check_config(heap, config, error);
  if (status != GCH_OK) return status;
  struct loop *run = calloc(1, sizeof *run);
  if (run == NULL) return (int)error_set(error, GCH_NO_MEMORY, "no memory for a workload's records");
  run->runner = (struct runner){
      .workload = workload_of(config->kind), .heap = heap, .cpu = config->cpu, .stamps = config->stamps};
  run->config = *config;
  run->random = random_seed(config->seed);
  status = (int)runner_start(&run->runner, error);
  if (status == GCH_OK)
    *out = run;
  else
    free(run);
  return status;
}

uint64_t loop_ops(const loop *run) { return runner_ops(&run->runner); }

void loop_finish(loop *run, bool now, loop_result *out) {
  runner_finish(&run->runner, now);
  *out = run->result;
  out->stamps = run->runner.result;
  free(run);
}
