/* Workers take, in this order: what was hot in the last moves (gc/hot.h); evacuated destinations (they empty sources, which become frames), then every arena of the
 * flipped and armed regions for what is left. After each unit they look whether somebody waits: then what they hold is
 * published, and faults are answered, before they go on. Where arenas are huge they make arenas, those first that faults
 * have opened (gc/produce_arena.c). Between two units they let a fork() pass (gc/claims.h). */
#include "gc/concurrent.h"

#include "gc/claims.h"
#include "gc/faults.h"
#include "gc/hot.h"
#include "gc/produce_arena.h"
#include "gc/reserve.h"
#include "gc/team.h"
#include "heap/frames.h"
#include "heap/small.h"
#include "os/thread.h"

struct movement {
  gch_heap *heap;
  uint64_t next_arena; /* [atomic] */
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

/* Between two units. What drops holds none. */
static void look_around(struct batch *b) {
  bool trims = frames_want_trim(&b->heap->frames);
  if (trims || batch_wanted(b)) batch_publish(b);
  faults_serve(b);
  if (trims) at_add_relaxed(&b->heap->moved.released, frames_trim(b->heap));
}

/* Somebody forks, or promotion needs memory (if frames have left some of the staging budget): what is held is published, or given
 * back. */
static inline void let_others_pass(struct batch *b) {
  gch_heap *h = b->heap;
  bool fills = reserve_is_due(h) && !frames_spent(h);
  if (gch_likely(!claims_wanted(h) && !fills)) return;
  batch_end(b);
  claims_leave(h);
  GCH_POINT(worker_rests);
  if (fills) reserve_fill(h);
  claims_enter(h);
  batch_begin(b, h, GCH_ACTOR_WORKER);
}

static void move_blocks(struct batch *b, size_t from, size_t to) {
  for (size_t block = from; block < to; block++) {
    let_others_pass(b);
    if (produce_block(b, block, false)) look_around(b);
  }
}

static void move_huge(struct batch *b, size_t arena) {
  bool more = true;
  let_others_pass(b);
  produce_arena(b, arena);
  while (more) {
    faults_serve(b);
    let_others_pass(b);
    more = produce_opened(b);
  }
}

static void move_hot(struct batch *b) {
  gch_heap *h = b->heap;
  for (size_t block; !frames_spent(h) && hot_take(h, &block);)
    if (h->huge)
      move_huge(b, block / ARENA_BLOCKS);
    else
      move_blocks(b, block, block + 1);
}

/* Neighbouring destinations go to one worker: they are published together. */
static void move_dests(struct batch *b) {
  gch_heap *h = b->heap;
  const struct plan *p = h->plan;
  for (uint64_t i; (i = at_add_relaxed(&h->next_dest, BATCH_UNITS)) < p->dest_count;)
    for (uint64_t end = i + BATCH_UNITS; i < end && i < p->dest_count; i++)
      if (h->huge)
        move_huge(b, p->dests[i].block / ARENA_BLOCKS);
      else
        move_blocks(b, p->dests[i].block, p->dests[i].block + 1);
}

/* The unit of a cycle is MAPPED, by whomever. */
static void see_mapped(struct batch *b, size_t block) {
  gch_heap *h = b->heap;
  if (gch_likely(unit_state(h, block) == UNIT_MAPPED)) return;
  uint64_t start = clock_ns();
  if (produce_ensure(b, block_address(&h->layout, block), false) == ENSURED_WAITED)
    stall_waited(h, b->maker, unit_maker(h, block), clock_ns() - start);
}

/* Units that another thread has claimed are published by it: the phase ends when the last one is. */
static void wait_mapped(struct batch *b) {
  gch_heap *h = b->heap;
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    if (!in_cycle(h, r)) continue;
    uint32_t first, count = region_arenas(h, r, &first);
    for (size_t block = (size_t)first * ARENA_BLOCKS; block < (size_t)(first + count) * ARENA_BLOCKS; block++)
      if (unit_state(h, block) != UNIT_NONE) {
        let_others_pass(b);
        see_mapped(b, block);
      }
  }
}

static void move_worker(void *context, uint32_t worker, uint32_t workers) {
  struct movement *m = context;
  struct batch b;
  uint32_t arena;
  (void)worker, (void)workers;
  GCH_POINT(move_begins); /* not inside yet: fork() may be */
  claims_enter(m->heap);
  batch_begin(&b, m->heap, GCH_ACTOR_WORKER);
  move_hot(&b);
  move_dests(&b);
  while (take_arena(m, &arena))
    if (m->heap->huge)
      move_huge(&b, arena);
    else
      move_blocks(&b, (size_t)arena * ARENA_BLOCKS, ((size_t)arena + 1) * ARENA_BLOCKS);
  batch_end(&b);
  claims_leave(m->heap);
}

/* A CPU is left to each mutator that runs: a worker that shares one with them is put off it for milliseconds, with units
 * BUSY that they wait for, and they make units themselves whenever they meet one. (Measured on 2 CPUs with one mutator: two
 * workers instead of one take 13 % less time, and stalls of 5 ms instead of 0.4.) */
uint32_t workers_beside(const gch_heap *h, uint32_t running) {
  uint32_t cpus = thread_cpu_count(), left = cpus > running ? cpus - running : 1;
  return left < h->config.gc_threads ? left : h->config.gc_threads;
}

uint32_t markers_beside(const gch_heap *h, uint32_t running) {
  uint32_t left = workers_beside(h, running), least = (h->config.gc_threads + 2) / 4;
  return left > least ? left : least;
}

void concurrent_move(gch_heap *h, uint32_t running) {
  struct movement m = {.heap = h};
  struct batch b;
  uint32_t workers = workers_beside(h, running);
  at_store_relaxed(&h->movers, workers); /* a hint */
  team_run_beside(h, move_worker, &m, workers);
  at_store_relaxed(&h->movers, 0);
  claims_enter(h);
  batch_begin(&b, h, GCH_ACTOR_WORKER);
  wait_mapped(&b);
  batch_end(&b);
  claims_leave(h);
}
