#include "workloads/beside.h"

#include <stdlib.h>

#include "base/error.h"
#include "python/graph_internal.h"
#include "workloads/runner_internal.h"

enum { MAX_STEPS = 8 };

struct beside {
  struct runner runner; /* the first root is the table */
  beside_config config;
  beside_result result; /* but for the stamps */
  uint64_t length;      /* of the table, at first */
};

/* --- what an operation does, shared by heap and shadow ---------------------------------------------------------- */

static inline uint64_t mix(uint64_t checksum, uint64_t label) { return (checksum << 5 | checksum >> 59) ^ (label + 1); }
static inline uint64_t turn(uint64_t turns, uint32_t step, uint64_t degree) {
  return (turns >> (8 * step) & 0xff) % degree;
}

/* The two slots that a store swaps. */
static inline void choose_swap(uint64_t turns, uint64_t degree, uint64_t *a, uint64_t *b) {
  uint64_t x = turns * 0x9e3779b97f4a7c15u;
  *a = (x >> 16 & 0xffffff) % degree;
  *b = (x >> 40) % degree;
}

static inline bool is_due(uint64_t op, uint32_t every) { return every != 0 && op % every == every - 1; }
static uint64_t unlabelled(uint64_t degree) { return 0x5bd1e995u + degree; }

/* --- on the heap ------------------------------------------------------------------------------------------------ */

struct object {
  gch_ref ref;
  uint64_t degree, first; /* its references */
  uint64_t label;
};

static struct object look(const gch_heap *h, gch_ref ref) {
  struct object o = {.ref = ref};
  const struct type_info *type = typetab_get(&h->types, header_load((uintptr_t)ref));
  if (graph_kind(type) < BULK_KIND_GRAPH) return o;
  o.degree = graph_degree(h, ref, type, &o.first);
  o.label = unlabelled(o.degree);
  if (graph_kind(type) == BULK_KIND_GRAPH && gch_length(h, ref) >= GRAPH_LABEL_BYTES)
    o.label = *(const uint64_t *)(const void *)gch_slot(ref, type->pub.tail_offset);
  return o;
}

static void swap_slots(gch_mutator *m, const struct object *o, uint64_t turns) {
  uint64_t a, b;
  choose_swap(turns, o->degree, &a, &b);
  gch_ref left = gch_load(o->ref, o->first + 8 * a), right = gch_load(o->ref, o->first + 8 * b);
  gch_set(m, o->ref, o->first + 8 * a, right);
  gch_set(m, o->ref, o->first + 8 * b, left);
}

static void walk(struct beside *run, uint64_t op) {
  const beside_config *c = &run->config;
  gch_mutator *m = run->runner.m;
  beside_result *r = &run->result;
  uint64_t entry = op % c->schedule, turns = c->turns[entry];
  gch_ref start = gch_load(run->runner.frame[0], REFS_OFFSET + 8 * (size_t)c->starts[entry]);
  if (start != NULL) {
    struct object o = look(m->heap, start);
    for (uint32_t i = 0; i < c->steps && o.degree != 0; i++) {
      gch_ref next = gch_load(o.ref, o.first + 8 * turn(turns, i, o.degree));
      if (next == NULL) break;
      o = look(m->heap, next);
      r->checksum = mix(r->checksum, o.label);
      r->steps++;
    }
    if (is_due(op, c->store_every) && o.degree >= 2) {
      swap_slots(m, &o, turns);
      r->stores++;
    }
  }
  if (is_due(op, c->alloc_every)) {
    r->allocs++;
    if (gch_alloc_array(m, c->garbage, c->garbage_bytes) == NULL) r->failed_allocs++;
  }
}

static bool operate(struct runner *runner, uint64_t op) {
  struct beside *run = (struct beside *)runner;
  walk(run, op);
  if (gch_unlikely(gch_poll(runner->m))) {
    gch_safepoint_slow(runner->m);
    if (gch_length(runner->heap, runner->frame[0]) < run->length) return false; /* somebody has made it shorter */
  }
  return op + 1 != run->config.max_ops;
}

/* Another thread may have made the table shorter since the schedule was checked. */
static gch_status begin(struct runner *runner) {
  struct beside *run = (struct beside *)runner;
  gch_status status = gch_handle_get(runner->m, run->config.table, &runner->frame[0]);
  if (status != GCH_OK) return status;
  run->length = gch_length(runner->heap, runner->frame[0]);
  for (uint64_t i = 0; i < run->config.schedule; i++)
    if ((uint64_t)run->config.starts[i] >= run->length)
      return error_set(&mutator_of(runner->m)->error, GCH_BAD_VALUE,
                       "entry %lld of a table of %llu elements is asked for", (long long)run->config.starts[i],
                       (unsigned long long)run->length);
  return GCH_OK;
}

/* --- entry ---------------------------------------------------------------------------------------------------------- */

int beside_start(gch_heap *heap, const beside_config *config, beside **out, gch_error *error) {
  static const struct workload workload = {"gcheap-beside", begin, operate};
  *out = NULL;
  if (config->steps > MAX_STEPS || config->schedule == 0)
    return (int)error_set(error, GCH_BAD_VALUE,
                          "a walk of %u steps on %llu schedule entries, expected at most %d steps and an entry",
                          config->steps, (unsigned long long)config->schedule, MAX_STEPS);
  struct beside *run = calloc(1, sizeof *run);
  if (run == NULL) return (int)error_set(error, GCH_NO_MEMORY, "no memory for a workload's records");
  run->runner = (struct runner){.workload = &workload, .heap = heap, .cpu = -1, .stamps = config->stamps};
  run->config = *config;
  int status = (int)runner_start(&run->runner, error);
  if (status == GCH_OK)
    *out = run;
  else
    free(run);
  return status;
}

uint64_t beside_ops(const beside *run) { return runner_ops(&run->runner); }

void beside_finish(beside *run, bool now, beside_result *out) {
  runner_finish(&run->runner, now);
  *out = run->result;
  out->stamps = run->runner.result;
  free(run);
}

/* --- replay --------------------------------------------------------------------------------------------------------- */

static uint64_t shadow_label(const beside_shadow *s, int64_t node, uint64_t degree) {
  if (degree > GRAPH_FIXED_MAX || s->sizes[node] < GCH_HEADER_BYTES + 8 * degree + GRAPH_LABEL_BYTES)
    return unlabelled(degree);
  return (uint64_t)(s->labels != NULL ? s->labels[node] : node);
}

static void replay_one(const beside_config *c, const beside_shadow *s, uint64_t op, beside_result *r) {
  uint64_t entry = op % c->schedule, turns = c->turns[entry];
  int64_t node = s->table[c->starts[entry]];
  if (node < 0) return;
  uint64_t degree = (uint64_t)(s->indptr[node + 1] - s->indptr[node]);
  for (uint32_t i = 0; i < c->steps && degree != 0; i++) {
    int64_t next = s->indices[s->indptr[node] + (int64_t)turn(turns, i, degree)];
    if (next < 0) break;
    node = next;
    degree = (uint64_t)(s->indptr[node + 1] - s->indptr[node]);
    r->checksum = mix(r->checksum, shadow_label(s, node, degree));
    r->steps++;
  }
  if (!is_due(op, c->store_every) || degree < 2) return;
  uint64_t a, b;
  choose_swap(turns, degree, &a, &b);
  int64_t *slots = s->indices + s->indptr[node], left = slots[a];
  slots[a] = slots[b];
  slots[b] = left;
  r->stores++;
}

void beside_replay(const beside_config *config, const beside_shadow *shadow, uint64_t ops, beside_result *out) {
  *out = (beside_result){.stamps.ops = ops};
  for (uint64_t op = 0; op < ops; op++) replay_one(config, shadow, op, out);
}
