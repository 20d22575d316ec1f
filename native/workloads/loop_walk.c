#include "workloads/loops_internal.h"

/* A node: header | ring | two references at random | number | 24 bytes. */
enum { RING = 8, LEFT = 16, RIGHT = 24, NUMBER = 32, NODE_BYTES = 64 };
enum { ANYWHERE = 65536, AHEAD = 16, GARBAGE_BYTES = 48, HEADS_EVERY = 1024 };

/* --- the graph --------------------------------------------------------------------------------------------------- */

static bool stays(const walk_shape *s, uint64_t node) {
  uint64_t cluster = node / s->cluster;
  if (s->thin_every == 0 || cluster % s->thin_every != s->thin_every - 1) return true;
  return node % s->cluster % s->keep_every == 0;
}

static uint64_t cluster_end(const walk_shape *s, uint64_t node) {
  uint64_t end = (node / s->cluster + 1) * s->cluster;
  return end < s->nodes ? end : s->nodes;
}

/* The next of its cluster that stays; the first one follows on the last. */
static uint64_t next_of(const walk_shape *s, uint64_t node) {
  uint64_t end = cluster_end(s, node);
  for (uint64_t next = node + 1; next < end; next++)
    if (stays(s, next)) return next;
  return node / s->cluster * s->cluster;
}

static uint64_t draw(const walk_shape *s, uint64_t node, uint64_t *random) {
  uint64_t first = node / s->cluster * s->cluster, count = cluster_end(s, node) - first, to;
  if (random_next(random) >> 48 < s->across) first = 0, count = s->nodes;
  do to = first + random_below(random, count);
  while (!stays(s, to));
  return to;
}

struct drawn {
  uint64_t node, ring, left, right;
};

static void link_drawn(gch_mutator *m, gch_ref nodes, const struct drawn *d) {
  gch_ref node = array_at(nodes, d->node);
  gch_set(m, node, RING, array_at(nodes, d->ring));
  gch_set(m, node, LEFT, array_at(nodes, d->left));
  gch_set(m, node, RIGHT, array_at(nodes, d->right));
  *word_at(node, NUMBER) = d->node;
}

static void prefetch_element(gch_ref nodes, uint64_t i) {
  __builtin_prefetch(gch_slot(nodes, REFS_OFFSET + 8 * (size_t)i));
}

/* Frame slot 0 lists all nodes, slot 1 will list the first of each cluster. */
static uint64_t link_all(struct bulk *b, const walk_shape *s) {
  uint64_t random = random_seed(s->seed), live = 0;
  struct drawn ahead[AHEAD];
  for (uint64_t node = 0, since = 0; node < s->nodes + AHEAD; node++) {
    if (node >= AHEAD && stays(s, node - AHEAD)) link_drawn(b->m, b->refs[0], &ahead[node % AHEAD]);
    if (++since % BULK_CHUNK == 0) gch_safepoint(b->m);
    if (node >= s->nodes || !stays(s, node)) continue;
    struct drawn *d = &ahead[node % AHEAD];
    *d = (struct drawn){node, next_of(s, node), draw(s, node, &random), draw(s, node, &random)};
    prefetch_element(b->refs[0], d->left);
    prefetch_element(b->refs[0], d->right);
    if (node % s->cluster == 0) array_put(b->m, b->refs[1], node / s->cluster, array_at(b->refs[0], node));
    live++;
  }
  return live;
}

static int check_shape(struct bulk *b, const walk_shape *s) {
  if (s->nodes > 0 && s->cluster > 0 && (s->thin_every == 0 || s->keep_every > 0) && s->across <= ANYWHERE)
    return GCH_OK;
  return bulk_fail(b, GCH_BAD_VALUE, "a graph of %llu nodes in clusters of %llu", (unsigned long long)s->nodes,
                   (unsigned long long)s->cluster);
}

int walk_build(gch_mutator *m, const walk_shape *shape, const gch_type *refs, gch_handle *heads, uint64_t *live) {
  static const uint32_t offsets[] = {RING, LEFT, RIGHT};
  const gch_type_desc desc = {
      sizeof desc, NODE_BYTES - GCH_HEADER_BYTES, offsets, 3, GCH_TAIL_NONE, 0, 0, 0, "node of a walk", 0};
  const gch_type *type;
  gch_handle all = 0;
  int status = (int)gch_type_new(m->heap, &desc, &type, &mutator_of(m)->error);
  if (status == GCH_OK) status = bulk_new(m, type, shape->nodes, 0, refs, &all);
  if (status != GCH_OK) return status;
  struct bulk b;
  bulk_enter(&b, m);
  status = check_shape(&b, shape);
  if (status == GCH_OK) status = bulk_root(&b, 0, all, false);
  if (status == GCH_OK) status = bulk_new_array(&b, 1, refs, (shape->nodes + shape->cluster - 1) / shape->cluster);
  if (status == GCH_OK) *live = link_all(&b, shape);
  if (status == GCH_OK) status = bulk_give(&b, 1, heads);
  gch_handle_free(m->heap, all);
  return bulk_leave(&b, status);
}

int walk_check(gch_mutator *m, gch_handle heads, const walk_shape *s, uint64_t *nodes) {
  struct bulk b;
  bulk_enter(&b, m);
  int status = bulk_root(&b, 0, heads, false);
  *nodes = 0;
  for (uint64_t first = 0; first < s->nodes && status == GCH_OK; first += s->cluster) {
    uint64_t expected = first;
    b.refs[1] = array_at(b.refs[0], first / s->cluster);
    do {
      if (*word_at(b.refs[1], NUMBER) != expected) {
        status = bulk_fail(&b, GCH_CORRUPT, "node %llu is where node %llu was",
                           (unsigned long long)*word_at(b.refs[1], NUMBER), (unsigned long long)expected);
        break;
      }
      ++*nodes;
      b.refs[1] = gch_load(b.refs[1], RING);
      expected = next_of(s, expected);
      if (*nodes % BULK_CHUNK == 0) gch_safepoint(m);
    } while (expected != first);
  }
  return bulk_leave(&b, status);
}

/* --- the walk ---------------------------------------------------------------------------------------------------- */

static gch_status walk_begin(struct runner *runner) {
  struct loop *run = (struct loop *)runner;
  gch_status status = loop_begin(runner);
  if (status != GCH_OK) return status;
  const gch_type_desc desc = {sizeof desc, 0, NULL, 0, GCH_TAIL_BYTES, 1, 0, 0, "garbage of a walk", 0};
  if (run->lengths[0] == 0)
    return error_set(&mutator_of(run->runner.m)->error, GCH_BAD_VALUE, "a walk through no objects");
  run->runner.frame[2] = array_at(run->runner.frame[0], 0);
  return gch_type_new(run->runner.heap, &desc, &run->types[0], &mutator_of(run->runner.m)->error);
}

/* One step of 16 follows the ring: so those are met, too, to which no random reference leads. */
static gch_ref step(gch_ref at, uint64_t turn) {
  return gch_load(at, (turn & 15) == 0 ? RING : (turn & 1) != 0 ? LEFT : RIGHT);
}

static bool walk_operate(struct runner *runner, uint64_t op) {
  struct loop *run = (struct loop *)runner;
  const loop_config *c = &run->config;
  loop_result *r = &run->result;
  uint64_t turns = random_next(&run->random);
  gch_ref at = run->runner.frame[2];
  if (op % HEADS_EVERY == 0) at = array_at(run->runner.frame[0], random_below(&run->random, run->lengths[0]));
  for (uint32_t i = 0; i < c->steps; i++) {
    at = step(at, turns >> 4 * (i % 15));
    r->checksum = (r->checksum << 5 | r->checksum >> 59) ^ *word_at(at, NUMBER);
  }
  run->runner.frame[2] = at;
  if (c->store_every != 0 && op % c->store_every == 0) {
    gch_ref left = gch_load(at, LEFT);
    gch_set(run->runner.m, at, LEFT, gch_load(at, RIGHT));
    gch_set(run->runner.m, at, RIGHT, left);
    r->stores++;
  }
  if (c->alloc_every != 0 && op % c->alloc_every == 0) {
    r->allocs++;
    if (gch_alloc_array(run->runner.m, run->types[0], GARBAGE_BYTES) == NULL) r->failed_allocs++;
  }
  gch_safepoint(run->runner.m);
  return true;
}

const struct workload walk_workload = {"gcheap-loop", walk_begin, walk_operate};
