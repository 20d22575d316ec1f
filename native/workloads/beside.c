#include "workloads/beside.h"

#include <stdlib.h>

#include "base/error.h"
#include "os/thread.h"
#include "python/graph_internal.h"
#include "workloads/stamps_inline.h"

enum { MAX_STEPS = 8 };

struct beside {
  beside_config config;
  beside_result result;
  gch_heap *heap;
  struct thread thread;
  uint64_t ops;      /* [atomic] */
  uint32_t stop;     /* [atomic] */
  uint32_t attached; /* [atomic] 1: yes, 2: failed */
  gch_error error;
  struct stamps stamps;
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

static void operate(struct beside *run, gch_mutator *m, gch_ref table, uint64_t op) {
  const beside_config *c = &run->config;
  beside_result *r = &run->result;
  uint64_t entry = op % c->schedule, turns = c->turns[entry];
  gch_ref start = gch_load(table, REFS_OFFSET + 8 * (size_t)c->starts[entry]);
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

/* --- measuring ---------------------------------------------------------------------------------------------------- */

static void measured(struct beside *run) {
  const struct stamps *s = &run->stamps;
  beside_result *r = &run->result;
  r->start_ns = s->start_ns;
  r->end_ns = s->last_ns;
  r->gap_count = s->gap_count;
  r->gap_sum_ns = s->gap_sum_ns;
  r->gap_max_ns = s->gap_max_ns;
}

static void run_all(struct beside *run, gch_mutator *m, gch_ref *table) {
  const beside_config *c = &run->config;
  uint64_t length = gch_length(run->heap, *table);
  stamps_begin(&run->stamps);
  for (uint64_t op = 0; (c->max_ops == 0 || op < c->max_ops) && at_load_relaxed(&run->stop) == 0; op++) { /* a hint */
    operate(run, m, *table, op);
    stamps_note(&run->stamps);
    at_store_relaxed(&run->ops, op + 1); /* progress, ordered by the join */
    if (gch_likely(!gch_poll(m))) continue;
    gch_safepoint_slow(m);
    if (gch_length(run->heap, *table) < length) break; /* somebody has made it shorter */
  }
  run->result.ops = run->ops;
  measured(run);
}

/* Another thread may have made it shorter since the schedule was checked. */
static gch_status check_table(const struct beside *run, gch_mutator *m, gch_ref table) {
  uint64_t length = gch_length(run->heap, table);
  for (uint64_t i = 0; i < run->config.schedule; i++)
    if ((uint64_t)run->config.starts[i] >= length)
      return error_set(&mutator_of(m)->error, GCH_BAD_VALUE, "entry %lld of a table of %llu elements is asked for",
                       (long long)run->config.starts[i], (unsigned long long)length);
  return GCH_OK;
}

static void beside_main(void *arg) {
  struct beside *run = arg;
  gch_mutator *m;
  gch_status status = gch_attach(run->heap, &m, &run->error);
  if (status != GCH_OK) {
    at_store(&run->attached, 2);
    return;
  }
  GCH_FRAME(m, table, 1);
  status = gch_handle_get(m, run->config.table, &table[0]);
  if (status == GCH_OK) status = check_table(run, m, table[0]);
  if (status != GCH_OK) run->error = *gch_last_error(m);
  at_store(&run->attached, status == GCH_OK ? 1 : 2);
  if (status == GCH_OK) run_all(run, m, &table[0]);
  GCH_FRAME_END(m);
  gch_detach(m);
}

/* --- entry ---------------------------------------------------------------------------------------------------------- */

int beside_start(gch_heap *heap, const beside_config *config, beside **out, gch_error *error) {
  *out = NULL;
  if (config->steps > MAX_STEPS || config->schedule == 0)
    return (int)error_set(error, GCH_BAD_VALUE,
                          "a walk of %u steps on %llu schedule entries, expected at most %d steps and an entry",
                          config->steps, (unsigned long long)config->schedule, MAX_STEPS);
  struct beside *run = calloc(1, sizeof *run);
  if (run == NULL) return (int)error_set(error, GCH_NO_MEMORY, "no memory for a workload's records");
  run->config = *config;
  run->heap = heap;
  run->stamps = (struct stamps){.gap_ns = config->gap_ns,
                                .gaps = config->gaps,
                                .gap_capacity = config->gap_capacity,
                                .ops_by_ms = config->ops_by_ms,
                                .ms_capacity = config->ms_capacity};
  int rc = thread_start(&run->thread, "gcheap-beside", beside_main, run);
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
  gch_status status = run->error.status;
  if (error != NULL) *error = run->error;
  free(run);
  return (int)status;
}

uint64_t beside_ops(const beside *run) { return at_load_relaxed(&run->ops); } /* progress */

void beside_finish(beside *run, bool now, beside_result *out) {
  if (now) at_store_relaxed(&run->stop, 1); /* the join orders everything else */
  thread_join(&run->thread);
  *out = run->result;
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
  *out = (beside_result){.ops = ops};
  for (uint64_t op = 0; op < ops; op++) replay_one(config, shadow, op, out);
}
