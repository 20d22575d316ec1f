/* A heap and its shadow: random operations on both, compared object by object.
 *
 * The shadow is an array of records by object id; every heap object carries its id in its payload. Roots are slots of
 * one frame, handles, and pins. model_check walks both from the roots at once. Several models may share a heap: one
 * opens it (model_open), every thread joins it (model_join) with objects of its own.
 *
 * Weak references and ephemerons: what the shadow finds reachable they must refer to; else they may, for a while, and what they
 * give then is an object like others. What a finalizer gives back must not be reachable by the shadow, and is from then on. Its
 * token says whose object it is: that of another model is registered again, unless that has left.
 *
 * Ages: the record says after how many minor collections an object was born, so how many it has survived is known, and
 * whether it may be young. Minors are counted when their pause is over, so this is exact only if the model's own thread
 * makes all collections, and off by one where one other thread does. */
#ifndef TESTS_MODEL_H
#define TESTS_MODEL_H

#include "model_cells.h"

static inline void model_step(struct model *model) {
  uint32_t op = model_below(model, 1000), b = model_below(model, MODEL_ROOTS);
  uint32_t a = 1 + model_below(model, MODEL_ROOTS - 1);
  if (op < 450) {
    model_new(model, a);
    if (model_below(model, 2)) model_link(model, model_below(model, 3) ? 0 : b, a, false);
  } else if (op < 750) {
    model_link(model, a, b, model_below(model, 8) == 0);
  } else if (op < 900) {
    model_follow(model, a, b);
  } else if (op < 940) {
    model->slots[a] = NULL;
    model->roots[a] = 0;
  } else if (op < 970) {
    model_handle(model, a);
  } else if (op < 972 && model->pinning) {
    model_pin(model, a);
    model_word(model, b);
  } else if (op < 976) {
    model_hash(model, a);
  } else if (op < 982) {
    model_swap(model, a, b);
  } else if (op < 985) {
    model_resize(model, model_below(model, 4) ? a : 0);
  } else if (op < 989) {
    model_run(model, model_below(model, 4) ? a : b, b);
  } else if (op < 996) {
    model_cell(model, a);
  } else if (op < 998) {
    model_finalize(model, a);
  } else {
    model_finalized(model, a);
  }
  gch_safepoint(model->m);
}

#endif
