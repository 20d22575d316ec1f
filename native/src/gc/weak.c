#include "gc/weak.h"

#include "base/error.h"
#include "gc/safepoint.h"
#include "heap/mutator.h"

enum {
  LIST_END = 1,    /* the link of a list's last cell */
  CLEAR_STEP = 64, /* cells between two looks for a pause */
};

gch_status weak_init(gch_heap *h, gch_error *error) {
  gch_status status = GCH_OK;
  for (int kind = CELL_WEAK; kind < CELL_KINDS && status == GCH_OK; kind++)
    status = typetab_add_cell(&h->types, &h->kernel, (enum cell_kind)kind, &h->weak.types[kind], error);
  return status;
}

/* --- lists ------------------------------------------------------------------------------------------------------ */

/* Relaxed: a list is its marker's, and handed over by the end of a job. */
void cells_push(uintptr_t *list, uintptr_t cell) {
  at_store_relaxed(cell_word(cell, CELL_LINK), *list != 0 ? (uint64_t)*list : LIST_END);
  *list = cell;
}

uintptr_t cells_pop(uintptr_t *list) {
  uintptr_t cell = *list;
  if (cell == 0) return 0;
  uint64_t next = at_load_relaxed(cell_word(cell, CELL_LINK));
  at_store_relaxed(cell_word(cell, CELL_LINK), (uint64_t)0);
  *list = next == LIST_END ? 0 : (uintptr_t)next;
  return cell;
}

void cells_join(uintptr_t *list, uintptr_t first, uintptr_t last) {
  if (first == 0) return;
  at_store_relaxed(cell_word(last, CELL_LINK), *list != 0 ? (uint64_t)*list : LIST_END); /* as above */
  *list = first;
}

/* --- marking ---------------------------------------------------------------------------------------------------- */

bool weak_is_unmarked(const gch_heap *h, uint64_t word, bool minor) {
  uintptr_t a = (uintptr_t)word;
  if (a == 0 || !(minor ? heap_is_young(h, a) : heap_is_old(h, a))) return false;
  return !bits_test_atomic(h->tables.mark, granule_index(&h->layout, a));
}

/* It may be met again: what did not fit a marker's stack is scanned once more. */
void weak_meet(gch_heap *h, struct cells *cells, uintptr_t cell, bool minor) {
  if (!cell_is_listed(cell) && weak_is_unmarked(h, at_load(cell_word(cell, CELL_TARGET)), minor))
    cells_push(&cells->weak, cell);
}

uint64_t ephemeron_meet(gch_heap *h, struct cells *cells, uintptr_t cell) {
  if (cell_is_listed(cell)) return 0;
  if (!weak_is_unmarked(h, at_load(cell_word(cell, CELL_TARGET)), false)) return at_load(cell_word(cell, CELL_VALUE));
  cells_push(&cells->waiting, cell);
  return 0;
}

static void clear_list(gch_heap *h, uintptr_t *list, bool minor, bool beside) {
  uint64_t cleared = 0, seen = 0;
  for (uintptr_t cell; (cell = cells_pop(list)) != 0;) {
    if (weak_is_unmarked(h, at_load(cell_word(cell, CELL_TARGET)), minor)) {
      at_store(cell_word(cell, CELL_TARGET), (uint64_t)0);
      at_store(cell_word(cell, CELL_VALUE), (uint64_t)0);
      cleared++;
    }
    if (beside && ++seen % CLEAR_STEP == 0 && at_load_relaxed(&h->world.stop) != 0) { /* a hint: see marker_enter */
      marker_leave(h);
      marker_enter(h);
    }
  }
  if (cleared != 0) at_add_relaxed(&h->weak.cleared, cleared);
}

void cells_clear(gch_heap *h, struct cells *cells, bool minor, bool beside) {
  clear_list(h, &cells->weak, minor, beside);
  clear_list(h, &cells->waiting, minor, beside);
}

void cells_forget(struct cells *cells) {
  while (cells_pop(&cells->weak) != 0 || cells_pop(&cells->waiting) != 0 || cells_pop(&cells->looked) != 0) continue;
  cells->last = 0;
}

/* --- what programs call ------------------------------------------------------------------------------------------- */

static bool is_cell(gch_mutator *m, gch_ref o, enum cell_kind kind) {
  const gch_heap *h = m->heap;
  if (o != NULL && heap_contains(h, (uintptr_t)o) &&
      header_type(header_load((uintptr_t)o)) == header_type(h->weak.types[kind]->header))
    return true;
  error_set(&mutator_of(m)->error, GCH_BAD_VALUE, "%p is no %s of this heap", (void *)o,
            kind == CELL_WEAK ? "weak reference" : "ephemeron");
  return false;
}

static bool is_ours(gch_mutator *m, gch_ref o) {
  if (o == NULL || heap_contains(m->heap, (uintptr_t)o)) return true;
  error_set(&mutator_of(m)->error, GCH_BAD_VALUE, "object %p is not of this heap", (void *)o);
  return false;
}

/* A word of a cell. While a major marks, what is returned is logged; while it judges, what is dead is not returned. (Asked in
 * this order: when judging is over, all cells that refer to the dead have been cleared.) What is found marked while it judges may
 * have died and been marked since, for its finalizer; but before that its cell was cleared. No pause is between here. */
static gch_ref read_word(gch_mutator *m, gch_ref cell, uint32_t offset) {
  gch_heap *h = m->heap;
  bool judging = at_load(&h->weak.judging) != 0;
  uint64_t target = at_load(cell_word((uintptr_t)cell, CELL_TARGET));
  uint64_t word = at_load(cell_word((uintptr_t)cell, offset));
  GCH_POINT(weak_read);
  if (target == 0) return NULL;
  if (gch_unlikely(judging) &&
      (weak_is_unmarked(h, target, false) || at_load(cell_word((uintptr_t)cell, CELL_TARGET)) == 0))
    return NULL;
  gch_ref o = (gch_ref)(uintptr_t)word;
  if (gch_unlikely(m->snapshot != 0)) gch_log(m, o);
  return o;
}

/* Both live until the cell does: allocation may collect. */
static gch_ref new_cell(gch_mutator *m, enum cell_kind kind, gch_ref target, gch_ref value) {
  GCH_FRAME(m, root, 2);
  root[0] = target;
  root[1] = value;
  gch_ref cell = gch_alloc(m, m->heap->weak.types[kind]);
  if (cell != NULL) {
    gch_set(m, cell, CELL_TARGET, root[0]);
    gch_set(m, cell, CELL_VALUE, root[1]);
  }
  GCH_FRAME_END(m);
  return cell;
}

gch_ref gch_weak_new(gch_mutator *m, gch_ref referent) {
  return is_ours(m, referent) ? new_cell(m, CELL_WEAK, referent, NULL) : NULL;
}

gch_ref gch_weak_get(gch_mutator *m, gch_ref weak) {
  return is_cell(m, weak, CELL_WEAK) ? read_word(m, weak, CELL_TARGET) : NULL;
}

gch_status gch_weak_clear(gch_mutator *m, gch_ref weak) {
  if (!is_cell(m, weak, CELL_WEAK)) return GCH_BAD_VALUE;
  at_store(cell_word((uintptr_t)weak, CELL_TARGET), (uint64_t)0); /* it kept nothing alive: no log */
  return GCH_OK;
}

gch_ref gch_ephemeron_new(gch_mutator *m, gch_ref key, gch_ref value) {
  if (!is_ours(m, key) || !is_ours(m, value)) return NULL;
  if (key != NULL) return new_cell(m, CELL_EPHEMERON, key, value);
  error_set(&mutator_of(m)->error, GCH_BAD_VALUE, "%s", "the key of an ephemeron is NULL, expected an object");
  return NULL;
}

gch_ref gch_ephemeron_key(gch_mutator *m, gch_ref e) {
  return is_cell(m, e, CELL_EPHEMERON) ? read_word(m, e, CELL_TARGET) : NULL;
}

gch_ref gch_ephemeron_value(gch_mutator *m, gch_ref e) {
  return is_cell(m, e, CELL_EPHEMERON) ? read_word(m, e, CELL_VALUE) : NULL;
}

/* Of one that is about to be cleared the value stays as it is. (Who cleared it meanwhile found its key dead, as we do; if it is
 * not, nobody clears it.) */
gch_status gch_ephemeron_set(gch_mutator *m, gch_ref e, gch_ref value) {
  if (!is_cell(m, e, CELL_EPHEMERON) || !is_ours(m, value)) return GCH_BAD_VALUE;
  if (read_word(m, e, CELL_TARGET) != NULL) gch_set(m, e, CELL_VALUE, value);
  return GCH_OK;
}
