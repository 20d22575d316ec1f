/* Large objects in the in-pause move.
 *
 * An object is moved and fixed in pieces of 1 MiB, by as many threads as there are: pieces have no order, for destinations
 * overlap no sources, and entries, not headers, say what is where. A huge arena is consumed with the last piece that lies in
 * it; small pages go piece by piece. Where pages move (`move`, small pages), pieces are fixed, and objects moved at the end
 * (compact.c).
 *
 * Arenas that relocate whole (gc/plan_large.c) are fixed where they are and published as they are.
 *
 * `slide` moves the objects of a space in the order of their addresses, in one thread: a destination may overlap its own
 * source, and the sources of those before. All tables speak of the old addresses until the end (references are
 * forwarded by them), so the pages change owners there: all sources are left first, then all destinations taken. */
#include <string.h>

#include "gc/compact_internal.h"
#include "gc/consume.h"
#include "gc/plan.h"
#include "heap/small.h"
#include "mover/mover.h"

/* --- pieces --------------------------------------------------------------------------------------------------- */

/* Memory for destination pages, where there is none yet. */
static void supply(gch_heap *h, uintptr_t start, uintptr_t end) {
  if (!h->huge && start < end) compact_supply(h, start, end - start);
  for (uintptr_t at = arena_of(start); at < end && h->huge; at += ARENA_BYTES) compact_supply_arena(h, at);
}

/* `from` and `to`: whole pages of the object where it was. */
static void move_range(const struct gather *gather, const struct large *e, uintptr_t from, uintptr_t to) {
  gch_heap *h = gather->heap;
  struct gather g = *gather;
  uintptr_t distance = e->forward - e->base;
  if (h->mover->fixes_at_source && !h->huge) {
    if (!e->leaf) fix_large(&g, from, to, distance);
    h->mover->publish(h, from + distance, from, to - from);
    return;
  }
  supply(h, from + distance, to + distance);
  memcpy((void *)(from + distance), (void *)from, to - from);
  mover_count_copied(h, to - from);
  g.source_delta = distance;
  if (!e->leaf) fix_large(&g, from, to, distance);
  GCH_POINT(piece_copied);
  if (!h->huge)
    mover_release(h, from, to - from);
  else
    consume_copied(h, from, to - from, false);
}

/* The pages of the piece: [*from, *to). */
static const struct large *piece_pages(const gch_heap *h, const struct large_piece *piece, uintptr_t *from,
                                       uintptr_t *to) {
  const struct large *e = &h->large.entries[piece->id];
  uintptr_t end = e->base + align_up(e->bytes, h->layout.page_bytes);
  *from = e->base + (uintptr_t)piece->index * PLAN_PIECE_BYTES;
  *to = *from + PLAN_PIECE_BYTES < end ? *from + PLAN_PIECE_BYTES : end;
  return e;
}

void compact_fix_piece(const struct gather *g, const struct large_piece *piece) {
  uintptr_t from, to;
  const struct large *e = piece_pages(g->heap, piece, &from, &to);
  if (!e->leaf) fix_large(g, from, to, e->forward - e->base);
}

void compact_move_piece(const struct gather *g, const struct large_piece *piece, uint64_t step) {
  gch_heap *h = g->heap;
  uintptr_t from, to;
  const struct large *e = piece_pages(h, piece, &from, &to);
  if (e->forward == e->base) {
    fix_large(g, from, to, 0);
    return;
  }
  if (piece->index == 0) bits_set_atomic(h->tables.live, granule_index(&h->layout, e->forward));
  for (uintptr_t at = from; at < to; at += step) move_range(g, e, at, at + step < to ? at + step : to);
  if (h->huge) consume_read(h, from, to - from, 0);
}

static void publish_in_calls(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  for (uint64_t done = 0, n; done < bytes; done += n) {
    n = bytes - done < CALL_BYTES ? bytes - done : CALL_BYTES;
    h->mover->publish(h, dst + done, src + done, n);
  }
}

/* Neighbours that stay neighbours go together. */
void compact_move_large(gch_heap *h, const struct plan *p) {
  for (uint32_t i = 0; i < p->large_move_count;) {
    const struct large *first = &h->large.entries[p->large_moves[i]], *e = first;
    uint64_t bytes = 0;
    if (e->forward == e->base) { /* pinned since the plan */
      i++;
      continue;
    }
    while (e->base == first->base + bytes && e->forward == first->forward + bytes) {
      bits_set_atomic(h->tables.live, granule_index(&h->layout, e->forward));
      bytes += align_up(e->bytes, h->layout.page_bytes);
      if (++i == p->large_move_count) break;
      e = &h->large.entries[p->large_moves[i]];
    }
    publish_in_calls(h, first->forward, first->base, bytes);
  }
}

/* --- arenas --------------------------------------------------------------------------------------------------- */

/* What begins in the arena is live where it goes. Where it was it counts as live until the end (fix_large asks), in whatever
 * arena the rest of it lies. */
static void set_live(gch_heap *h, uintptr_t arena, uintptr_t distance) {
  uint64_t page = h->layout.page_bytes;
  for (uintptr_t at = arena; at < arena + ARENA_BYTES; at += page) {
    uint32_t id = h->tables.large_ids[(at - h->layout.base) >> h->layout.page_shift];
    if (id != 0 && h->large.entries[id].base == at)
      bits_set_atomic(h->tables.live, granule_index(&h->layout, at + distance));
  }
}

/* Every object in the arena goes the same way; one that begins before it is in another arena of the same group. */
void compact_fix_large_arena(const struct gather *g, const struct relocation *arena) {
  const struct layout *l = &g->heap->layout;
  uintptr_t start = arena_address(l, arena->from), to = arena_address(l, arena->to);
  if (heap_region(g->heap, start)->space == SPACE_LARGE) fix_large(g, start, start + ARENA_BYTES, to - start);
}

static void settle_large_arena(gch_heap *h, const struct relocation *arena) {
  uintptr_t start = arena_address(&h->layout, arena->from), to = arena_address(&h->layout, arena->to);
  set_live(h, start, to - start);
  block_unpopulate(h, start, ARENA_BLOCKS);
  heap_arena(h, to)->populated = UINT32_MAX;
  arena_set_huge(heap_arena(h, to), true); /* the dead between came along */
}

void compact_move_large_arenas(gch_heap *h, const struct plan *p) {
  const struct relocation *all = p->large_arenas;
  for (uint32_t i = 0, n; i < p->large_arena_count; i += n) {
    for (n = 1; i + n < p->large_arena_count && n < CALL_BYTES / ARENA_BYTES; n++)
      if (all[i + n].from != all[i].from + n || all[i + n].to != all[i].to + n) break;
    h->mover->publish(h, arena_address(&h->layout, all[i].to), arena_address(&h->layout, all[i].from),
                      n * (uint64_t)ARENA_BYTES);
    for (uint32_t k = 0; k < n; k++) settle_large_arena(h, &all[i + k]);
  }
}

/* --- sliding -------------------------------------------------------------------------------------------------- */

static void slide_object(const struct gather *gather, const struct large *e) {
  gch_heap *h = gather->heap;
  struct gather g = *gather;
  uint64_t bytes = align_up(e->bytes, h->layout.page_bytes);
  g.source_delta = e->forward - e->base;
  supply(h, e->forward, e->forward + bytes < e->base ? e->forward + bytes : e->base);
  memmove((void *)e->forward, (void *)e->base, e->bytes);
  mover_count_copied(h, e->bytes);
  if (!e->leaf) fix_large(&g, e->base, e->base + bytes, g.source_delta);
}

void compact_slide_large(const struct gather *g, uint32_t chain) {
  const struct plan *p = g->plan;
  for (uint32_t i = p->large_chains[chain]; i < p->large_chains[chain + 1]; i++)
    slide_object(g, &g->heap->large.entries[p->large_moves[i]]);
}

/* --- end ------------------------------------------------------------------------------------------------------ */

static uint64_t finish_slide(gch_heap *h, const struct plan *p) {
  for (uint32_t i = 0; i < p->large_move_count; i++) {
    const struct large *e = &h->large.entries[p->large_moves[i]];
    large_leave(h, e->base, e->bytes);
  }
  for (uint32_t i = 0; i < p->large_move_count; i++) large_settle(h, p->large_moves[i]);
  return large_release_free(h);
}

uint64_t compact_finish_large(gch_heap *h, const struct plan *p) {
  uint64_t released = 0;
  for (uint32_t i = 0; i < p->large_arena_count; i++) plan_release_relocation(h, &p->large_arenas[i]);
  for (uint32_t i = 0; i < p->large_move_count; i++)
    h->tables.forward[block_index(&h->layout, h->large.entries[p->large_moves[i]].base)] = 0;
  if (h->mover->slides) return finish_slide(h, p);
  for (uint32_t i = 0; i < p->large_move_count; i++) {
    struct large *e = &h->large.entries[p->large_moves[i]];
    bool moved = e->forward != e->base; /* else it was pinned since the plan: it leaves what was reserved for it */
    /* Whatever a mover leaves behind (a copied piece of a huge page) must not turn up in the next object. */
    released += large_vacate(h, moved ? e->base : e->planned, e->bytes, false);
    at_store(&e->base, e->forward);
  }
  return released;
}
