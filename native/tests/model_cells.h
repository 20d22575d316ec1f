/* Weak references, ephemerons and finalizers of model.h. */
#ifndef TESTS_MODEL_CELLS_H
#define TESTS_MODEL_CELLS_H

#include "model_check.h"

static inline void model_cell_new(struct model *model, uint32_t i, uint32_t root) {
  uint32_t value = model_below(model, MODEL_ROOTS);
  bool ephemeron = model_below(model, 3) == 0;
  if (model->roots[root] == 0) return;
  gch_ref cell = ephemeron ? gch_ephemeron_new(model->m, model->slots[root], model->slots[value])
                           : gch_weak_new(model->m, model->slots[root]);
  if (cell == NULL) return; /* the heap is full */
  model->cell_slots[i] = cell;
  model->cells[i] = (struct model_cell){model->roots[root], ephemeron ? model->roots[value] : 0, ephemeron};
}

/* What the cell gives goes to the root: alive from then on. */
static inline void model_cell_read(struct model *model, uint32_t i, uint32_t root) {
  struct model_cell *c = &model->cells[i];
  gch_ref cell = model->cell_slots[i];
  bool value = c->ephemeron && model_below(model, 2);
  gch_ref o = !c->ephemeron ? gch_weak_get(model->m, cell)
              : value       ? gch_ephemeron_value(model->m, cell)
                            : gch_ephemeron_key(model->m, cell);
  uint32_t id = value ? c->value : c->id;
  if (o != NULL && (c->id == 0 || *model_id_slot(o) != id)) model->wrong = "a weak cell gives another object";
  if (o == NULL && !(value && c->value == 0)) {
    model->cleared += c->id != 0;
    *c = (struct model_cell){.ephemeron = c->ephemeron}; /* if that should not have been, model_check finds out */
    model->slots[root] = NULL;
    model->roots[root] = 0;
    return;
  }
  model->slots[root] = o;
  model->roots[root] = o == NULL ? 0 : id;
}

static inline void model_cell(struct model *model, uint32_t root) {
  uint32_t i = model_below(model, MODEL_CELLS), what = model_below(model, 8), from = model_below(model, MODEL_ROOTS);
  struct model_cell *c = &model->cells[i];
  if (model->cell_slots[i] == NULL) {
    model_cell_new(model, i, root);
  } else if (what == 0) {
    model->cell_slots[i] = NULL;
    *c = (struct model_cell){0};
  } else if (what == 1 && c->ephemeron) {
    gch_ephemeron_set(model->m, model->cell_slots[i], model->slots[from]);
    if (c->id != 0) c->value = model->roots[from];
  } else if (what == 1) {
    gch_weak_clear(model->m, model->cell_slots[i]);
    c->id = 0;
  } else {
    model_cell_read(model, i, root);
  }
}

static inline void model_finalize(struct model *model, uint32_t root) {
  if (model->roots[root] == 0) return;
  if (gch_finalize(model->m, model->slots[root], model->token) == GCH_OK)
    model->objects[model->roots[root]].finalizers++;
}

/* Cells of what comes back, or is reachable from there, have been cleared. */
static inline void model_cells_of_the_dead(struct model *model) {
  for (uint32_t i = 0; i < MODEL_CELLS; i++) {
    struct model_cell *c = &model->cells[i];
    gch_ref cell = model->cell_slots[i];
    if (c->id == 0 || (c->ephemeron ? gch_ephemeron_key(model->m, cell) : gch_weak_get(model->m, cell)) != NULL)
      continue;
    model->cleared++;
    *c = (struct model_cell){.ephemeron = c->ephemeron};
  }
}

static inline void model_came_back(struct model *model, uint32_t id) {
  uint32_t *stack = malloc(((size_t)model->count + 1) * sizeof *stack), top = 0;
  stack[top++] = id;
  model->objects[id].back = true;
  while (top > 0) {
    const struct model_object *o = &model->objects[stack[--top]];
    for (uint32_t i = 0; i < model_ref_count(o); i++) {
      if (o->refs[i] == 0 || model->objects[o->refs[i]].back) continue;
      model->objects[o->refs[i]].back = true;
      stack[top++] = o->refs[i];
    }
  }
  free(stack);
}

/* One from the queue, if there is one, becomes a root. */
static inline void model_finalized(struct model *model, uint32_t root) {
  gch_ref o;
  uint64_t token;
  if (!gch_finalizer_next(model->m, &o, &token)) return;
  if (token != model->token) {
    if (!at_load(&model_gone[token])) gch_finalize(model->m, o, token);
    return;
  }
  uint32_t id = (uint32_t)*model_id_slot(o);
  if (id >= model->count || model->objects[id].finalizers-- == 0) {
    model->wrong = "an object comes back that was not registered";
    return;
  }
  model->finalized++;
  if (!model->objects[id].back && model_below(model, 4) == 0 && model_check(model) == 0 &&
      model->objects[id].visited == model->round)
    model->wrong = "an object comes back that is reachable";
  model_came_back(model, id);
  model_cells_of_the_dead(model);
  model->slots[root] = o;
  model->roots[root] = id;
}

#endif
