/* Where arenas are huge the page is 2 MiB: taking 64 KiB out of it costs 255 us, moving it whole 1.5. So an arena is made
 * and published in one piece, if it can be. Where the page comes from:
 *
 *   some unit stays         the arena's own shadow: staying blocks are fixed in it, evacuated ones filled into its dead
 *                           blocks; only while nobody reads that shadow as a source
 *   all relocate from one   the shadow of that arena
 *   all are filled          a frame of 2 MiB (a consumed arena, or staging): evacuated blocks, or large objects that move
 *
 * But a faulting thread would wait for all of it (0.3 to 0.6 ms). So (policy `latency`) a fault *opens* the arena: its block
 * is copied out and published, the others by whoever needs them, by pieces. What they are copied from, if it is a huge page, is
 * given back with the arena's last unit, so an open arena holds its memory twice: there are places for a quarter of the staging budget (I4),
 * and workers finish opened arenas before they begin others. Who finds no place makes the arena whole (as policy
 * `throughput` always does), or, where it cannot be made whole, finishes one that is open.
 *
 * `made` of the arena (heap/tables.h) says which of the two it is; one compare-and-swap decides, so whole arenas never meet
 * half-made ones. */
#include "gc/produce_arena.h"

#include <string.h>

#include "heap/frames.h"
#include "mover/mover.h"
#include "os/thread.h"

struct arena_production {
  gch_heap *heap;
  struct batch *batch;
  size_t arena;
  uint32_t units; /* bit a block: has a unit in this cycle */
  uintptr_t at; /* address of the arena */
  uintptr_t page; /* where it is made */
  uintptr_t delta; /* sources are read at their address + delta */
  bool frame; /* `page` is a frame */
};

/* --- what kind of arena --------------------------------------------------------------------------------------- */

enum make { MAKE_BLOCKS, MAKE_IN_SHADOW, MAKE_RELOCATED, MAKE_IN_FRAME };

static bool large_stays(const gch_heap *h, uintptr_t from, uintptr_t to) {
  for (uintptr_t at = from; at < to; at += h->layout.page_bytes) {
    uint32_t id = h->tables.large_ids[(at - h->layout.base) >> h->layout.page_shift];
    const struct large *e = &h->large.entries[id];
    if (id != 0 && e->forward == e->base && at - e->base < at_load_relaxed(&e->bytes)) return true;
  }
  return false;
}

static bool unit_stays(const gch_heap *h, size_t block) {
  uintptr_t at = block_address(&h->layout, block);
  if (h->tables.blocks[block].state == BLOCK_LARGE) return large_stays(h, at, at + BLOCK_BYTES);
  return h->tables.dest[block] == 0;
}

static enum make decide(struct arena_production *p) {
  const gch_heap *h = p->heap;
  const struct arena *arena = &h->tables.arenas[p->arena];
  uint32_t stay = 0, relocated = 0;
  size_t source = 0;
  for (uint32_t rest = p->units; rest != 0; rest &= rest - 1) {
    size_t b = p->arena * ARENA_BLOCKS + (uint32_t)__builtin_ctz(rest);
    bool reloc = h->tables.dest[b] & DEST_RELOCATED;
    if (reloc) source = (h->tables.dest[b] & ~DEST_RELOCATED) / ARENA_BLOCKS;
    relocated += reloc;
    stay += unit_stays(h, b);
  }
  if (stay != 0) {
    GCH_POINT(arena_judged);
    p->page = p->at + p->delta;
    bool whole = space_is_large(heap_region(h, p->at)->space) || at_load(&arena->populated) == UINT32_MAX;
    bool read = at_load(&arena->pending) != 0; /* somebody still reads the shadow: it cannot move away */
    bool huge = at_load_relaxed(&arena->huge); /* who is late here may see the maker's: it makes nothing any more */
    return p->delta != 0 && huge && whole && !read && relocated == 0 ? MAKE_IN_SHADOW : MAKE_BLOCKS;
  }
  if (relocated != 0) {
    p->page = arena_address(&h->layout, source) + p->delta;
    return at_load_relaxed(&h->tables.arenas[source].huge) ? MAKE_RELOCATED : MAKE_BLOCKS; /* nobody changes it */
  }
  return MAKE_IN_FRAME;
}

/* --- whole ------------------------------------------------------------------------------------------------------ */

static struct gather gather_of(const struct arena_production *p) {
  gch_heap *h = p->heap;
  return (struct gather){
      .heap = h, .plan = h->plan, .map = h->tables.live, .born = h->tables.live, .source_delta = p->delta};
}

/* The run of a large object that lies in [at, stop): fixed where it is if that is in the page, else copied into it. */
static void make_large_run(struct arena_production *p, struct large *e, uintptr_t at, uintptr_t stop) {
  gch_heap *h = p->heap;
  struct gather g = gather_of(p);
  uintptr_t source = e->base + (at - e->forward), into = p->page + (at - p->at);
  if (into != source + p->delta) {
    memcpy((void *)into, (void *)(source + p->delta), stop - at);
    mover_count_copied(h, stop - at);
    consume_copied(h, source + p->delta, stop - at, false);
    g.source_delta = into - source;
  }
  if (!e->leaf) fix_large(&g, source, source + (stop - at), at - source);
  if (at == e->forward) bits_set_atomic(h->tables.live, granule_index(&h->layout, at));
}

static void make_large_block(struct arena_production *p, size_t block) {
  uintptr_t at = block_address(&p->heap->layout, block), end = at + BLOCK_BYTES, stop;
  for (; at < end; at = stop) {
    struct large *e = large_run_at(p->heap, at, end, &stop);
    if (e == NULL) continue;
    make_large_run(p, e, at, stop);
    large_run_done(p->heap, e, at, stop, p->delta);
  }
}

static void make_block(struct arena_production *p, size_t block) {
  gch_heap *h = p->heap;
  struct gather g = gather_of(p);
  uint32_t dest = h->tables.dest[block];
  uintptr_t offset = (block % ARENA_BLOCKS) * (uintptr_t)BLOCK_BYTES;
  if (h->tables.blocks[block].state == BLOCK_LARGE) {
    make_large_block(p, block);
  } else if (dest == 0) {
    fix_block(&g, block, 0);
  } else if (dest & DEST_RELOCATED) {
    size_t source = dest & ~DEST_RELOCATED;
    if (!h->tables.blocks[source].leaf) fix_block(&g, source, 0);
    bits_copy_range(h->tables.live, block * BLOCK_GRANULES, h->tables.live, source * BLOCK_GRANULES, BLOCK_GRANULES);
  } else {
    evacuate_gather(&g, dest - 1, p->page + offset);
    produce_consumed(h, &p->batch->drops, dest - 1, p->delta);
  }
}

/* All its units are ours: `made` is MAKING. */
static void make_whole(struct arena_production *p) {
  gch_heap *h = p->heap;
  struct arena *arena = &h->tables.arenas[p->arena];
  size_t first = p->arena * ARENA_BLOCKS;
  for (uint32_t rest = p->units; rest != 0; rest &= rest - 1) {
    bool claimed = unit_claim(h, first + (uint32_t)__builtin_ctz(rest), p->batch->maker);
    GCH_CHECK(claimed, "a unit of arena %zu was claimed by another while it is made whole", p->arena);
  }
  for (uint32_t rest = p->units; rest != 0; rest &= rest - 1) make_block(p, first + (uint32_t)__builtin_ctz(rest));
  h->mover->publish_armed(h, p->at, p->page, ARENA_BYTES);
  if (!p->frame && p->page != p->at + p->delta) block_unpopulate(h, p->page - p->delta, ARENA_BLOCKS);
  if (p->frame) frames_done_arena(h, p->page, h->mover->moves_pages);
  if (p->frame && !h->mover->moves_pages) frames_add_extra(h, ARENA_BYTES);
  at_store(&arena->populated, UINT32_MAX);
  bool huge = h->mover->moves_pages || space_is_large(heap_region(h, p->at)->space); /* dead pages came along */
  at_store_relaxed(&arena->huge, (uint8_t)huge); /* see `decide` */
  at_store(&arena->made, ARENA_WHOLE);
  for (uint32_t rest = p->units; rest != 0; rest &= rest - 1) unit_done(h, first + (uint32_t)__builtin_ctz(rest));
}

static bool take_making(struct arena_production *p) {
  uint32_t unmade = ARENA_UNMADE;
  return at_cas(&p->heap->tables.arenas[p->arena].made, &unmade, (uint32_t)ARENA_MAKING);
}

/* False: it cannot be, now. What is waited for is in hand before it is claimed (I3). */
static bool try_whole(struct arena_production *p) {
  enum make make = decide(p);
  if (make == MAKE_BLOCKS) return false;
  if (make == MAKE_IN_FRAME) p->page = frames_take_arena(p->heap);
  p->frame = make == MAKE_IN_FRAME;
  if (p->page == 0) return false;
  if (take_making(p))
    make_whole(p);
  else if (p->frame)
    frames_done_arena(p->heap, p->page, false);
  return true;
}

/* --- by pieces ---------------------------------------------------------------------------------------------------- */

static uint32_t *take_place(gch_heap *h) {
  for (uint32_t i = 0; i < h->open_limit; i++) {
    uint32_t none = 0;
    if (at_cas(&h->open_arenas[i], &none, PLACE_TAKEN)) return &h->open_arenas[i];
  }
  return NULL;
}

/* The place is ours until the arena is closed; whoever was quicker has its own. Only that one names the arena, so who closes
 * it frees no place of another's. */
static void open_arena(struct arena_production *p, uint32_t *place) {
  gch_heap *h = p->heap;
  struct arena *arena = &h->tables.arenas[p->arena];
  GCH_POINT(place_taken);
  if (!take_making(p)) {
    at_store(place, 0);
    return;
  }
  GCH_POINT(arena_opening);
  at_store(place, (uint32_t)p->arena + 1);
  at_store(&arena->left, (uint32_t)__builtin_popcount(p->units));
  at_add(&arena->pending, 1); /* it waits for itself: see gc/consume.c */
  at_store(&arena->made, (uint32_t)ARENA_OPEN);
}

/* At most a batch of its units: faults are answered in between. */
static bool make_some(struct batch *b, size_t arena) {
  uint32_t made = 0;
  for (size_t block = arena * ARENA_BLOCKS; block < (arena + 1) * ARENA_BLOCKS && made < BATCH_UNITS; block++)
    made += produce_block(b, block, false);
  batch_publish(b);
  return made > 0;
}

bool produce_opened(struct batch *b) {
  gch_heap *h = b->heap;
  bool some = false;
  for (uint32_t i = 0; i < h->open_limit; i++) {
    uint32_t arena = at_load(&h->open_arenas[i]);
    if (arena != 0 && arena != PLACE_TAKEN && at_load(&h->tables.arenas[arena - 1].made) == ARENA_OPEN)
      some |= make_some(b, arena - 1);
  }
  return some;
}

/* --- entry ---------------------------------------------------------------------------------------------------------- */

static struct arena_production production_of(struct batch *b, size_t arena) {
  gch_heap *h = b->heap;
  struct arena_production p = {.heap = h, .batch = b, .arena = arena, .at = arena_address(&h->layout, arena)};
  for (uint32_t i = 0; i < ARENA_BLOCKS; i++)
    if (unit_state(h, arena * ARENA_BLOCKS + i) != UNIT_NONE) p.units |= (uint32_t)1 << i;
  p.delta = produce_delta(h, p.at);
  return p;
}

/* Until it is decided how the arena is made: whole, which is then done, or by pieces. */
static void settle_how(struct batch *b, size_t arena, bool by_pieces) {
  gch_heap *h = b->heap;
  uint32_t *made = &h->tables.arenas[arena].made;
  batch_publish(b);
  for (uint32_t spins = 0; at_load(made) == ARENA_UNMADE; spins++) {
    struct arena_production p = production_of(b, arena);
    uint32_t *place = by_pieces ? take_place(h) : NULL;
    if (place == NULL && try_whole(&p)) return;
    if (place == NULL) place = take_place(h);
    if (place != NULL) {
      open_arena(&p, place);
      return;
    }
    if (!produce_opened(b) && spins > 100) thread_yield(); /* others finish them, and wait for nobody */
  }
}

static bool by_arenas(const gch_heap *h) { return h->huge && !h->mover->fill_in_place; }

bool produce_next(struct batch *b) {
  gch_heap *h = b->heap;
  const struct plan *p = h->plan;
  uint64_t i = at_add_relaxed(&h->next_dest, BATCH_UNITS), end = i + BATCH_UNITS;
  if (i >= p->dest_count) return false;
  for (; i < end && i < p->dest_count; i++)
    if (by_arenas(h))
      produce_arena(b, p->dests[i].block / ARENA_BLOCKS);
    else
      produce_block(b, p->dests[i].block, false);
  batch_publish(b);
  return true;
}

/* Evacuating in the order of faults may leave many sources half read, and opened arenas are there twice: not beyond the budget
 * (I4). */
static void stay_within_budget(struct batch *b) {
  while (frames_spent(b->heap) && (produce_next(b) || produce_opened(b))) continue;
}

bool produce_unit(struct batch *b, size_t block, bool fault) {
  gch_heap *h = b->heap;
  if (unit_state(h, block) != UNIT_ARMED) return false;
  if (fault) stay_within_budget(b);
  if (!by_arenas(h)) return produce_block(b, block, fault);
  settle_how(b, block / ARENA_BLOCKS, fault && h->config.huge_faults == GCH_HUGE_LATENCY);
  if (unit_state(h, block) == UNIT_MAPPED) return true;
  return at_load(&h->tables.arenas[block / ARENA_BLOCKS].made) == ARENA_OPEN && produce_block(b, block, fault);
}

void produce_arena(struct batch *b, size_t arena) {
  if (at_load(&b->heap->tables.arenas[arena].made) == ARENA_UNMADE && production_of(b, arena).units != 0)
    settle_how(b, arena, false);
}

static const uint64_t PATIENCE_NS = 100000;

/* The owner needs some microseconds, unless it has lost its CPU: then it may have ours, which it does not get from one that
 * spins or yields, but for the scheduler's time slices. (Measured, 2 CPUs, another program running: 2.8 ms.) */
static void wait_for_owner(uint32_t spins, uint64_t start) {
  if (spins < 100)
    spin_pause();
  else if (clock_ns() - start < PATIENCE_NS)
    thread_yield();
  else
    thread_sleep_ns(PATIENCE_NS / 2);
}

enum ensured produce_ensure(struct batch *b, uintptr_t address, bool fault) {
  gch_heap *h = b->heap;
  size_t block = block_index(&h->layout, address);
  uint64_t start = clock_ns();
  bool made = false;
  batch_publish(b);
  for (uint32_t spins = 0;; spins++) {
    switch (unit_state(h, block)) {
      case UNIT_NONE: return ENSURED_NOT;
      case UNIT_MAPPED: return made ? ENSURED_MADE : ENSURED_WAITED;
      case UNIT_ARMED:
        made = produce_unit(b, block, fault);
        batch_publish(b);
        made = made && unit_maker(h, block) == b->maker; /* not an arena that was made whole meanwhile */
        if (spins > 100) thread_yield();
        break;
      case UNIT_BUSY:
        if (spins == 0) batch_hurry(h);
        wait_for_owner(spins, start);
    }
  }
}
