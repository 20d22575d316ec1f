/* The end of a mark: ephemerons whose keys have been marked, weak cells that refer to what has not, finalizers. */
#include "gc/finalize.h"
#include "gc/mark_internal.h"
#include "gc/safepoint.h"

enum { LOOK_STEP = 64 }; /* cells between two looks at the clock, and for a pause */

/* An object counts when it is scanned: no marker has found one that is not. */
static uint64_t marked_so_far(const struct marking *s) {
  uint64_t marked = at_load(&s->objects_overwritten);
  for (uint32_t i = 0; i < s->count; i++) marked += s->markers[i].result.objects;
  return marked;
}

/* One look at a list, which is turned round. The first in a mark leaves what it finds to all markers; later ones follow it at
 * once, so that a chain of ephemerons is gone through in one look if it is listed in its order. In a pause nothing that is
 * listed is known to this stack only: fork() may be made there. */
static bool look_at(struct marker *m, struct cells *c, bool follow, bool *late) {
  bool found = false;
  for (uint64_t seen = 1; c->waiting != 0 && !*late; seen++) {
    uintptr_t cell = cells_pop(&c->waiting);
    if (weak_is_unmarked(m->heap, at_load(cell_word(cell, CELL_TARGET)), false)) {
      cells_push(&c->looked, cell);
      if (c->last == 0) c->last = cell;
    } else {
      found = true;
      marker_find(m, at_load(cell_word(cell, CELL_VALUE)));
      if (follow) marker_drain(m);
    }
    if (seen % LOOK_STEP != 0) continue;
    marker_let_pass(m);
    *late = marker_is_late(m);
  }
  cells_join(&c->waiting, c->looked, c->last);
  c->looked = c->last = 0;
  return found;
}

bool mark_waiting(struct marking *s) {
  uint64_t marked = marked_so_far(s); /* first: who marks while it is looked is looked after */
  bool found = false, late = false;
  if (marked == s->waited_at) return false;
  for (uint32_t i = 0; i < s->count; i++) found |= look_at(&s->markers[0], &s->markers[i].cells, s->waited, &late);
  s->waited = true;
  if (!found && !late) s->waited_at = marked;
  return found || late;
}

static void clear_cells(struct marking *s, bool beside) {
  if (beside) marker_enter(s->heap);
  for (uint32_t i = 0; i < s->count; i++) cells_clear(s->heap, &s->markers[i].cells, s->minor, beside);
  if (beside) marker_leave(s->heap);
}

/* What the queue has got keeps all that it refers to. */
static void mark_judged(struct marking *s, uint32_t workers) {
  gch_heap *h = s->heap;
  bool more;
  if (workers > 0) marker_enter(h);
  at_fence_rel(); /* as in marker.c: cells that refer to it are cleared */
  for (uint64_t i = 0, object; (object = finalizers_judged(h, i)) != 0; i++) marker_find(&s->markers[0], object);
  if (workers > 0) marker_leave(h);
  do {
    marking_run(s, workers);
    if (workers > 0) marker_enter(h);
    more = mark_waiting(s);
    if (workers > 0) marker_leave(h);
  } while (more);
}

void mark_settle(struct marking *s, uint32_t workers) {
  gch_heap *h = s->heap;
  bool beside = workers > 0;
  s->markers[0].beside = beside;
  if (beside) GCH_POINT(judging);
  clear_cells(s, beside);
  if (!s->minor) at_store(&h->weak.judging, 0);
  if (beside) GCH_POINT(cells_cleared);
  if (finalizers_judge(h, s->minor, beside)) {
    mark_judged(s, workers);
    clear_cells(s, beside);
  }
  finalizers_publish(h, s->minor, beside);
}
