/* Workers take, in this order: evacuated destinations (they empty sources, which become frames), then every arena of the
 * flipped and armed regions for what is left. A batch is at most 8 blocks: publishing it pays one TLB shootdown to every CPU
 * that runs the process, and a fault waits for no more than a batch (measured: batches of 32 put a quarter of the faults
 * above 200 us). */
#include "gc/concurrent.h"

#include "gc/faults.h"
#include "gc/produce_arena.h"
#include "gc/team.h"
#include "heap/small.h"

enum { BATCH = 8 };

struct movement {
  gch_heap *heap;
  uint64_t next_dest, next_arena; /* [atomic] */
};

static bool in_cycle(const gch_heap *h, uint32_t region) { return (h->flipped | h->armed) >> region & 1; }

/* The next arena of a region in the cycle, counted over all of them. */
static bool take_arena(struct movement *m, uint32_t *out) {
  uint64_t i = at_add_relaxed(&m->next_arena, 1);
  for (uint32_t r = 0; r < m->heap->layout.region_count; r++) {
    if (!in_cycle(m->heap, r)) continue;
    uint32_t first, count = region_arenas(m->heap, r, &first);
    if (i < count) {
      *out = first + (uint32_t)i;
      return true;
    }
    i -= count;
  }
  return false;
}

static void move_arena(gch_heap *h, struct drops *drops, uint32_t arena) {
  size_t end = ((size_t)arena + 1) * ARENA_BLOCKS;
  uint32_t made = 0;
  if (h->huge) {
    produce_arena(h, drops, arena);
    faults_serve(h, drops);
    return;
  }
  for (size_t b = (size_t)arena * ARENA_BLOCKS; b < end;) {
    uint32_t run = 0;
    if (unit_state(h, b) == UNIT_ARMED) {
      uint32_t limit = end - b < BATCH ? (uint32_t)(end - b) : BATCH;
      run = produce_run(h, drops, b, limit);
      if (run == 0) run = produce_unit(h, drops, b, false);
      made += run;
    }
    b += run > 0 ? run : 1;
    if (made >= BATCH) {
      faults_serve(h, drops);
      made = 0;
    }
  }
}

/* Units that another thread has claimed are published by it: the phase ends when the last one is. */
static void wait_mapped(gch_heap *h, struct drops *drops) {
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    if (!in_cycle(h, r)) continue;
    uint32_t first, count = region_arenas(h, r, &first);
    for (size_t b = (size_t)first * ARENA_BLOCKS; b < (size_t)(first + count) * ARENA_BLOCKS; b++)
      if (unit_state(h, b) != UNIT_NONE) produce_ensure(h, drops, block_address(&h->layout, b), false);
  }
}

static void move_worker(void *context, uint32_t worker, uint32_t workers) {
  struct movement *m = context;
  gch_heap *h = m->heap;
  struct drops drops = {.heap = h};
  uint32_t arena, made = 0;
  (void)worker, (void)workers;
  for (uint64_t i; (i = at_add_relaxed(&m->next_dest, 1)) < h->plan->dest_count;) {
    if (h->huge)
      produce_arena(h, &drops, h->plan->dests[i].block / ARENA_BLOCKS);
    else
      produce_unit(h, &drops, h->plan->dests[i].block, false);
    if (++made % BATCH == 0) faults_serve(h, &drops);
  }
  while (take_arena(m, &arena)) move_arena(h, &drops, arena);
  drops_flush(&drops);
}

void concurrent_move(gch_heap *h) {
  struct movement m = {.heap = h};
  struct drops drops = {.heap = h};
  team_run(h, move_worker, &m);
  wait_mapped(h, &drops);
  drops_flush(&drops);
}
