#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lisp.h"

enum { SYMBOL_CHAINS = 512 };

/* --- types and roots ------------------------------------------------------------------------------------------- */

static gch_status open_types(struct lisp *l, gch_error *error) {
  static const uint32_t pair[] = {CAR, CDR}, symbol[] = {SYMBOL_NAME, SYMBOL_VALUE};
  static const uint32_t closure[] = {CLOSURE_PARAMETERS, CLOSURE_BODY, CLOSURE_ENVIRONMENT, CLOSURE_NAME};
  static const uint32_t environment[] = {ENVIRONMENT_PARENT, ENVIRONMENT_NAMES, ENVIRONMENT_EXTRA};
  const gch_type_desc descs[KINDS] = {
      [PAIR] = {.fixed_bytes = 16, .ref_offsets = pair, .ref_count = 2, .name = "pair"},
      [SYMBOL] = {.fixed_bytes = 24, .ref_offsets = symbol, .ref_count = 2, .name = "symbol"},
      [STRING] = {.tail = GCH_TAIL_BYTES, .tail_bytes = 1, .name = "string"},
      [VECTOR] = {.tail = GCH_TAIL_REFS, .name = "vector"},
      [CLOSURE] = {.fixed_bytes = 32, .ref_offsets = closure, .ref_count = 4, .name = "closure"},
      [ENVIRONMENT] =
          {.fixed_bytes = 24, .ref_offsets = environment, .ref_count = 3, .tail = GCH_TAIL_REFS, .name = "environment"},
  };
  gch_status status = GCH_OK;
  for (int kind = 0; kind < KINDS && status == GCH_OK; kind++) {
    gch_type_desc desc = descs[kind];
    desc.struct_bytes = sizeof desc;
    desc.tag_mask = 1; /* a word is a reference if bit 0 is clear: immediates are skipped by the collector */
    desc.tag_value = 0;
    status = gch_type_new(l->heap, &desc, &l->types[kind], error);
  }
  return status;
}

/* Called in pauses. The well-known symbols are an array in C: named here one by one instead of being registered. */
static void enumerate_roots(gch_root_visit visit, void *closure, void *data) {
  struct lisp *l = data;
  for (int form = 0; form < FORMS; form++) visit(&l->forms[form], closure);
}

static void intern_forms(struct lisp *l) {
  for (int form = FORM_NONE + 1; form < FORMS; form++) {
    const char *name = form_name((enum form)form);
    l->forms[form] = intern(l, name, strlen(name));
    *(uint64_t *)(void *)gch_slot(l->forms[form], SYMBOL_FORM) = (uint64_t)form; /* no reference: no barrier */
  }
}

bool lisp_open(struct lisp *l, gch_heap *heap, gch_error *error) {
  l->heap = heap;
  if (gch_attach(heap, &l->m, error) != GCH_OK) return false;
  if (open_types(l, error) != GCH_OK || gch_root_add(heap, &l->symbols) != GCH_OK) return false;
  gch_roots_fn_set(heap, enumerate_roots, l);
  l->catch_frames = l->m->frames;
  if (setjmp(l->catch) != 0) {
    *error = *gch_last_error(l->m);
    return false;
  }
  l->symbols = make_vector(l, VECTOR, SYMBOL_CHAINS);
  intern_forms(l);
  builtins_define(l);
  return true;
}

void lisp_close(struct lisp *l) {
  gch_roots_fn_set(l->heap, NULL, NULL);
  gch_root_remove(l->heap, &l->symbols);
  gch_detach(l->m);
}

/* --- errors ---------------------------------------------------------------------------------------------------- */

void lisp_error(struct lisp *l, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(l->error, sizeof l->error, format, arguments);
  va_end(arguments);
  /* Frames and pins of the functions that longjmp abandons go first, while their stack still stands. */
  while (l->m->frames != l->catch_frames) gch_frame_pop(l->m);
  while (l->pin_count > 0) unpin_last(l);
  longjmp(l->catch, 1);
}

void pin(struct lisp *l, value v) {
  if (l->pin_count == PINS_MAX) lisp_error(l, "more than %d objects are pinned", PINS_MAX);
  if (gch_pin(l->m, v, NULL) != GCH_OK) lisp_error(l, "%.200s", gch_last_error(l->m)->message);
  l->pinned[l->pin_count++] = v;
}

void unpin_last(struct lisp *l) { gch_unpin(l->heap, l->pinned[--l->pin_count]); }

void check_stack(struct lisp *l) {
  if ((char *)__builtin_frame_address(0) < l->stack_end) lisp_error(l, "recursion is too deep");
}

value checked_car(struct lisp *l, value v) {
  if (!is_kind(l, v, PAIR)) lisp_error(l, "car: not a pair");
  return car(v);
}

value checked_cdr(struct lisp *l, value v) {
  if (!is_kind(l, v, PAIR)) lisp_error(l, "cdr: not a pair");
  return cdr(v);
}

/* --- objects --------------------------------------------------------------------------------------------------- */

static value alloc(struct lisp *l, enum kind kind, uint64_t count) {
  gch_ref object = gch_alloc_array(l->m, l->types[kind], count);
  if (object == NULL) lisp_error(l, "out of memory"); /* what is garbage by then goes with the next collection */
  return object;
}

value cons(struct lisp *l, value first, value rest) {
  GCH_FRAME(l->m, roots, 2);
  roots[0] = first;
  roots[1] = rest;
  value pair = gch_alloc(l->m, l->types[PAIR]); /* may collect: first and rest are stale from here on */
  if (pair == NULL) lisp_error(l, "out of memory");
  gch_set(l->m, pair, CAR, roots[0]);
  gch_set(l->m, pair, CDR, roots[1]);
  GCH_FRAME_END(l->m);
  return pair;
}

value make_vector(struct lisp *l, enum kind kind, uint64_t count) { return alloc(l, kind, count); }

value make_string(struct lisp *l, uint64_t count) { return alloc(l, STRING, count); }

value make_string_from(struct lisp *l, const char *bytes, uint64_t count) {
  value string = make_string(l, count);
  memcpy(string_bytes(string), bytes, count);
  return string;
}

value make_closure(struct lisp *l, value parameters, value body, value environment) {
  GCH_FRAME(l->m, roots, 3);
  roots[0] = parameters;
  roots[1] = body;
  roots[2] = environment;
  value closure = alloc(l, CLOSURE, 0);
  gch_set(l->m, closure, CLOSURE_PARAMETERS, roots[0]);
  gch_set(l->m, closure, CLOSURE_BODY, roots[1]);
  gch_set(l->m, closure, CLOSURE_ENVIRONMENT, roots[2]);
  GCH_FRAME_END(l->m);
  return closure;
}

/* --- symbols --------------------------------------------------------------------------------------------------- */

static uint64_t hash_name(const char *name, uint64_t count) {
  uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
  for (uint64_t i = 0; i < count; i++) hash = (hash ^ (unsigned char)name[i]) * 0x100000001b3u;
  return hash;
}

static bool has_name(struct lisp *l, value symbol, const char *name, uint64_t count) {
  value string = gch_load(symbol, SYMBOL_NAME);
  return length_of(l, string) == count && memcmp(string_bytes(string), name, count) == 0;
}

value intern(struct lisp *l, const char *name, uint64_t count) {
  enum { NAME, MADE, CHAIN, COUNT };
  size_t slot = element(hash_name(name, count) % SYMBOL_CHAINS);
  for (value chain = gch_load(l->symbols, slot); chain != NULL; chain = cdr(chain)) /* nothing here collects */
    if (has_name(l, car(chain), name, count)) return car(chain);
  GCH_FRAME(l->m, roots, COUNT);
  roots[NAME] = make_string_from(l, name, count);
  roots[MADE] = alloc(l, SYMBOL, 0);
  gch_set(l->m, roots[MADE], SYMBOL_NAME, roots[NAME]);
  gch_set(l->m, roots[MADE], SYMBOL_VALUE, constant(UNBOUND));
  roots[CHAIN] = cons(l, roots[MADE], gch_load(l->symbols, slot));
  gch_set(l->m, l->symbols, slot, roots[CHAIN]);
  value symbol = roots[MADE];
  GCH_FRAME_END(l->m);
  return symbol;
}
