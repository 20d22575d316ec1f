/* Weak references, ephemerons, finalizers: objects of the heap's own types, which the rest of this Lisp only hands around. */
#include "lisp.h"

static value argument(const value *a, uint64_t i) { return gch_load(*a, variable(i)); }

static value object(struct lisp *l, const value *a, uint64_t i) {
  value v = argument(a, i);
  if (!is_object(v)) lisp_error(l, "argument %d is not an object", (int)i + 1);
  return v;
}

/* None of these returns without its object. */
static value made(struct lisp *l, value v) {
  if (v == NULL) lisp_error(l, "%s", gch_last_error(l->m)->message);
  return v;
}

value make_weak(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return made(l, gch_weak_new(l->m, object(l, a, 0)));
}

value weak_value(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return gch_weak_get(l->m, argument(a, 0)); /* alive from here on, or null: it is gone for good */
}

value make_ephemeron(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  value key = object(l, a, 0), item = object(l, a, 1);
  return made(l, gch_ephemeron_new(l->m, key, item));
}

value ephemeron_value(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return gch_ephemeron_value(l->m, argument(a, 0));
}

/* The token is ours: a number that the program gave. */
value finalize(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  value v = object(l, a, 0), n = argument(a, 1);
  if (!is_fixnum(n)) lisp_error(l, "argument 2 is not a number");
  if (gch_finalize(l->m, v, bits_of(n)) != GCH_OK) lisp_error(l, "%s", gch_last_error(l->m)->message);
  return constant(UNSPECIFIED);
}

/* The next object that is gone, with its number, or null. Nothing runs by itself: the program asks when it likes. */
value next_finalized(struct lisp *l, value *a, uint64_t count) {
  (void)a, (void)count;
  gch_ref v;
  uint64_t token;
  if (!gch_finalizer_next(l->m, &v, &token)) return NULL;
  return cons(l, v, value_of(token)); /* out of the queue it is an object like others: cons keeps it in a root */
}
