/* Heap and shadow of model.h, walked from the roots at once and compared. */
#ifndef TESTS_MODEL_CHECK_H
#define TESTS_MODEL_CHECK_H

#include "model_objects.h"

struct model_pending {
  uint32_t id;
  gch_ref o;
};

struct model_walk {
  struct model *model;
  struct model_pending *stack;
  size_t top;
};

static inline void model_reach(struct model_walk *w, uint32_t id, gch_ref o) {
  if (id == 0 || w->model->objects[id].visited == w->model->round) return;
  w->model->objects[id].visited = w->model->round;
  w->stack[w->top++] = (struct model_pending){id, o};
}

/* Whether the object is what its record says, its references apart. */
static inline bool model_is(struct model *model, uint32_t id, gch_ref p) {
  const struct model_object *o = &model->objects[id];
  if (*model_id_slot(p) != id || gch_type_user(model->heap, gch_type_of(model->heap, p)) != o->kind) return false;
  if (o->hash != 0 && gch_identity_hash(model->m, p) != o->hash) return false;
  if (o->kind == MODEL_BYTES || o->kind == MODEL_MIXED) {
    const uint8_t *bytes = (const uint8_t *)(const void *)p + model_bytes_offset(o->kind);
    for (uint32_t i = 0; i < o->count; i++)
      if (bytes[i] != model_byte(id, i)) return false;
  }
  return o->kind == MODEL_NODE || o->kind == MODEL_TAGGED || gch_length(model->heap, p) == o->count;
}

/* Keys that are reachable make values so; false: that has gone on for as long as it could. */
static inline bool model_ephemerons(struct model_walk *w) {
  struct model *model = w->model;
  for (uint32_t i = 0; i < MODEL_CELLS; i++) {
    const struct model_cell *c = &model->cells[i];
    if (!c->ephemeron || c->id == 0 || model->objects[c->id].visited != model->round) continue;
    if (c->value != 0 && model->objects[c->value].visited != model->round) {
      model_reach(w, c->value, gch_ephemeron_value(model->m, model->cell_slots[i]));
      return true;
    }
  }
  return false;
}

/* What cells say of what is reachable; the first object of which they say something wrong, or 0. */
static inline uint32_t model_cells(struct model *model) {
  for (uint32_t i = 0; i < MODEL_CELLS; i++) {
    const struct model_cell *c = &model->cells[i];
    if (c->id == 0 || model->objects[c->id].visited != model->round) continue;
    gch_ref cell = model->cell_slots[i];
    gch_ref o = c->ephemeron ? gch_ephemeron_key(model->m, cell) : gch_weak_get(model->m, cell);
    gch_ref value = c->ephemeron ? gch_ephemeron_value(model->m, cell) : NULL;
    if (o == NULL || *model_id_slot(o) != c->id) return c->id;
    if ((value == NULL) != (c->value == 0) || (value != NULL && *model_id_slot(value) != c->value)) return c->id;
  }
  return 0;
}

/* Compares heap and shadow; the id of the first object that differs, or 0. No safepoint is passed. */
static inline uint32_t model_check(struct model *model) {
  struct model_walk w = {.model = model};
  size_t most = (size_t)model->count + MODEL_ROOTS + MODEL_HANDLES + MODEL_PINS + MODEL_WORDS;
  uint32_t bad = 0;
  w.stack = malloc(most * sizeof *w.stack);
  model->round++;
  for (uint32_t i = 0; i < MODEL_ROOTS; i++) model_reach(&w, model->roots[i], model->slots[i]);
  for (uint32_t i = 0; i < MODEL_PINS; i++) model_reach(&w, model->pin_ids[i], model->pins[i]);
  for (uint32_t i = 0; i < MODEL_WORDS; i++) model_reach(&w, model->word_ids[i], model->held[i]);
  for (uint32_t i = 0; i < MODEL_HANDLES; i++) {
    gch_ref o = NULL;
    if (model->handle_ids[i] != 0 && gch_handle_get(model->m, model->handles[i], &o) != GCH_OK)
      bad = model->handle_ids[i];
    if (bad == 0) model_reach(&w, model->handle_ids[i], o);
  }
  while (bad == 0 && (w.top > 0 || model_ephemerons(&w))) {
    struct model_pending p = w.stack[--w.top];
    if (p.o == NULL) bad = p.id; /* an ephemeron has lost it */
    if (bad != 0) break;
    const struct model_object *o = &model->objects[p.id];
    if (!model_is(model, p.id, p.o) || !model_age_is_right(model, o, p.o)) bad = p.id;
    for (uint32_t i = 0; i < model_ref_count(o) && bad == 0; i++) {
      gch_ref target = gch_load(p.o, 16 + 8 * i);
      uint32_t id = o->refs[i];
      if (id == 0 && target != NULL && !(o->kind == MODEL_TAGGED && (uintptr_t)target & 1)) bad = p.id;
      if (id != 0 && (target == NULL || *model_id_slot(target) != id)) bad = p.id;
      if (bad == 0) model_reach(&w, id, target);
    }
  }
  free(w.stack);
  if (bad == 0) bad = model_cells(model);
  if (model->wrong != NULL) fprintf(stderr, "model: %s\n", model->wrong);
  return bad == 0 && model->wrong != NULL ? 1 : bad;
}

#endif
