/* The slow path of allocation: a new block, a large object, a collection, or a clean failure (I8). */
#include "gc/alloc.h"

#include "base/error.h"
#include "gc/cycle.h"
#include "gc/fork.h"
#include "gc/safepoint.h"
#include "gc/watchdog.h"
#include "heap/mutator.h"
#include "heap/small.h"
#include "mover/mover.h"

enum {
  PATIENCE = 16, /* minor collections waited for because others were quicker to take what they had freed */
  MAJORS = 3,    /* then, or when the heap is full, full collections (one may be running) before it is given up */
  BIRTHS = 3,    /* times that a large object is begun; the last time without a poll */
};

uint64_t alloc_object_bytes(struct mutator *m, const gch_type *type, uint64_t count) {
  const struct type_info *info = (const struct type_info *)type;
  uint64_t max = m->pub.heap->config.max_bytes;
  if (count != 0 && type->tail_bytes == 0) {
    error_set(&m->error, GCH_BAD_VALUE, "type %s has no tail, but %llu elements were asked for", info->name,
              (unsigned long long)count);
    return 0;
  }
  if (count != 0 && count > (max - type->tail_offset) / type->tail_bytes) {
    error_set(&m->error, GCH_NO_MEMORY,
              "%llu elements of %u bytes (type %s) are more than the heap's limit of %llu bytes",
              (unsigned long long)count, type->tail_bytes, info->name, (unsigned long long)max);
    return 0;
  }
  uint64_t bytes = type->tail_offset + count * type->tail_bytes;
  return bytes < type->bytes ? type->bytes : align_up(bytes, 16);
}

static bool refill(struct mutator *m, bool leaf) {
  gch_heap *h = m->pub.heap;
  if (m->buffer[leaf] != 0)
    heap_block(h, m->buffer[leaf])->top = (uint16_t)((m->pub.alloc_cursor[leaf] - m->buffer[leaf]) >> GRANULE_SHIFT);
  m->buffer[leaf] = 0;
  m->pub.alloc_cursor[leaf] = m->pub.alloc_limit[leaf] = 0;
  uintptr_t block = young_take(h, leaf, true);
  if (block == 0) return false;
  m->buffer[leaf] = block;
  m->pub.alloc_cursor[leaf] = block;
  m->pub.alloc_limit[leaf] = block + BLOCK_BYTES;
  at_add_relaxed(&h->measures.allocated_bytes, BLOCK_BYTES);
  return true;
}

/* Whatever there is to wait for, the pages of a large object are made present in steps. A flip between two takes what has
 * been done (heap/large.c). */
bool alloc_populate(struct mutator *m, struct large_birth *b, bool polls, enum large_step *step) {
  gch_heap *h = m->pub.heap;
  while ((*step = large_populate(h, b)) == LARGE_MORE) {
    if (!polls) continue;
    gch_safepoint(&m->pub);
    if (!large_lasts(h, b)) return false;
  }
  return true;
}

static gch_ref alloc_large(struct mutator *m, const gch_type *type, uint64_t count, uint64_t bytes, uint64_t room) {
  gch_heap *h = m->pub.heap;
  struct large_wish wish = {type, count, bytes, room, align_up(bytes, h->layout.page_bytes)};
  struct large_birth b;
  enum large_step step = LARGE_MORE;
  for (int i = 1; step == LARGE_MORE; i++) {
    if (!large_begin_roomy(h, &b, &wish)) return NULL;
    if (alloc_populate(m, &b, i < BIRTHS, &step) && step == LARGE_READY) return (gch_ref)large_publish(h, &b);
    large_give_up(h, &b);
    GCH_POINT(large_given_up);
  }
  return NULL;
}

/* What is asked for, and what that means. */
struct asked {
  const gch_type *type;
  uint64_t count, bytes, room, header;
};

/* A new large object, or a small one in a new block. */
static gch_ref alloc_fresh(struct mutator *m, const struct asked *a) {
  gch_heap *h = m->pub.heap;
  gch_ref object = NULL;
  watchdog_begin(h);
  if (a->bytes > GCH_SMALL_MAX) {
    object = alloc_large(m, a->type, a->count, a->bytes, a->room);
    if (object != NULL) at_add_relaxed(&h->measures.allocated_bytes, a->bytes);
  } else if (refill(m, a->type->leaf != 0)) {
    object = gch_bump(&m->pub, a->type, a->bytes, a->header);
  }
  watchdog_end(h);
  return object;
}

static gch_ref try_alloc(struct mutator *m, const struct asked *a) {
  gch_ref object = a->bytes > GCH_SMALL_MAX ? NULL : gch_bump(&m->pub, a->type, a->bytes, a->header);
  return object != NULL ? object : alloc_fresh(m, a);
}

static bool stress_due(gch_heap *h) {
  uint64_t interval = h->config.stress_interval;
  return gch_unlikely(interval != 0) && at_add_relaxed(&h->stress_count, 1) % interval == interval - 1;
}

/* `full_moves`: everything is armed where the mover can, and the mutator goes on amidst it. */
static void stress(struct mutator *m) {
  gch_heap *h = m->pub.heap;
  if (h->config.full_moves == 0) {
    cycle_for_allocation(m, true);
    return;
  }
  struct stall stall = stall_begin(m, GCH_STALL_ALLOC);
  gch_collect_options options;
  gch_collect_options_init(&options);
  options.policy = GCH_POLICY_ALL;
  options.concurrent = h->mover->concurrent;
  options.wait = false;
  gch_collect(&m->pub, &options, NULL);
  stall_end(&stall);
}

void alloc_refused(struct mutator *m, uint64_t bytes) {
  const gch_heap *h = m->pub.heap;
  error_set(&m->error, GCH_NO_MEMORY,
            "no room for an object of %llu bytes: %llu of the heap's %llu bytes are in use after a full collection",
            (unsigned long long)bytes, (unsigned long long)at_load_relaxed(&h->used_bytes),
            (unsigned long long)h->config.max_bytes);
}

gch_ref gch_alloc_slow(gch_mutator *mutator, const gch_type *type, uint64_t count) {
  return alloc_roomy(mutator_of(mutator), type, count, 0);
}

gch_ref alloc_roomy(struct mutator *m, const gch_type *type, uint64_t count, uint64_t room) {
  gch_mutator *mutator = &m->pub;
  gch_heap *h = mutator->heap;
  uint64_t bytes = alloc_object_bytes(m, type, count);
  if (bytes == 0) return NULL;
  if (fork_check(h, &m->error) != GCH_OK) return NULL;
  gch_safepoint(mutator);
  if (stress_due(h)) stress(m);
  struct asked asked = {type, count, bytes, room, type->header | count * type->tail_bytes << GCH_HEADER_LENGTH_SHIFT};
  if (bytes > GCH_SMALL_MAX && h->controller != NULL) cycle_start_due(m);
  for (int patience = 0, majors = 0;;) {
    gch_ref object = try_alloc(m, &asked);
    if (object != NULL) return object;
    bool nursery = bytes <= GCH_SMALL_MAX && young_is_full(h) && patience++ < PATIENCE;
    if (!nursery && majors++ == MAJORS) break;
    cycle_for_allocation(m, !nursery);
  }
  alloc_refused(m, bytes);
  return NULL;
}
