#include "gc/give_up.h"

#include <string.h>

#include "gc/arm.h"
#include "gc/compact_internal.h"
#include "gc/finalize.h"
#include "gc/mark.h"
#include "gc/phase.h"
#include "gc/snapshot.h"
#include "heap/small.h"
#include "heap/summary.h"
#include "heap/unit.h"
#include "os/pages.h"

/* --- the mark ------------------------------------------------------------------------------------------------- */

static const size_t ARENA_MAP_BYTES = ARENA_BYTES / GRANULE_BYTES / 8;

/* Memory that would be copied only to be cleared is dropped. */
static void clear_marks(gch_heap *h, uint32_t arena, uint32_t arenas) {
  char *map = (char *)h->tables.mark + arena * ARENA_MAP_BYTES;
  size_t bytes = arenas * ARENA_MAP_BYTES;
  if (bytes == 0) return;
  bool whole = is_aligned((uintptr_t)map | bytes, h->layout.page_bytes);
  if (!whole || pages_drop(&h->kernel, map, bytes) < 0) memset(map, 0, bytes);
}

static void forget_births(gch_heap *h, uint32_t arena) {
  struct block *b = &h->tables.blocks[(size_t)arena * ARENA_BLOCKS];
  for (uint32_t i = 0; i < ARENA_BLOCKS; i++)
    if (b[i].born || b[i].marked != 0) b[i].born = 0, b[i].marked = 0;
}

static void give_up_mark(gch_heap *h) {
  mark_give_up(h);
  finalizers_publish(h, false, false);
  snapshot_give_up(h);
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    if (h->layout.regions[r].space == SPACE_FRAMES) continue;
    uint32_t first, count = region_arenas(h, r, &first);
    clear_marks(h, first, count);
    for (uint32_t a = first; a < first + count; a++) {
      forget_births(h, a);
      if (h->summarises) summary_clear(h, a);
      at_store_relaxed(&h->tables.anywhere[a], (uint8_t)0);
    }
  }
  for (uint32_t id = 1; id < h->large.count; id++) h->large.entries[id].born = 0;
  phase_enter(h, GCH_PHASE_END);
  phase_enter(h, GCH_PHASE_IDLE);
}

/* --- the plan ------------------------------------------------------------------------------------------------- */

static void stays(gch_heap *h, size_t block) {
  h->tables.forward[block] = 0;
  h->tables.needed[block] = 0;
}

/* What is reserved is vacated with its arena, at the end of the cycle (gc/finish.c). */
static void give_up_small(gch_heap *h, const struct plan *p) {
  for (uint32_t i = 0; i < p->source_count; i++) stays(h, p->sources[i]);
  for (uint32_t i = 0; i < p->move_count; i++) stays(h, p->moves[i]);
  for (uint32_t i = 0; i < p->arena_count; i++)
    for (size_t b = (size_t)p->arenas[i] * ARENA_BLOCKS; b < ((size_t)p->arenas[i] + 1) * ARENA_BLOCKS; b++)
      stays(h, b);
}

static void give_up_large(gch_heap *h, const struct plan *p) {
  for (uint32_t i = 0; i < p->large_move_count; i++) {
    struct large *e = &h->large.entries[p->large_moves[i]];
    e->forward = e->base;
  }
  at_add_relaxed(&h->moved.released, compact_finish_large(h, p)); /* as if all of them had been pinned since */
}

static void give_up_plan(gch_heap *h) {
  give_up_small(h, h->plan);
  give_up_large(h, h->plan);
  plan_reset(h->plan);
  arm_all(h); /* nobody stays at home by himself */
  at_store(&h->arming, 0);
  h->to_flip = h->armed = 0;
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    uint32_t first, count = region_arenas(h, r, &first);
    for (size_t b = (size_t)first * ARENA_BLOCKS; b < (size_t)(first + count) * ARENA_BLOCKS; b++) {
      if (unit_state(h, b) != UNIT_NONE) unit_reset(h, b);
      if (h->tables.dest[b] != 0) h->tables.dest[b] = 0;
    }
  }
}

bool give_up(gch_heap *h) {
  gch_phase phase = phase_now(h);
  if (phase == GCH_PHASE_PLAN && h->drive.judged) give_up_plan(h);
  bool marks = phase == GCH_PHASE_MARK || (phase == GCH_PHASE_PLAN && !h->drive.judged);
  if (marks) give_up_mark(h);
  return marks;
}
