/* The evaluator: one step at a time, so that a tail call is a step and no recursion.
 *
 * A step finds the expression and its environment in the slots EXPRESSION and ENVIRONMENT of its caller's frame. Either it leaves
 * a value in EXPRESSION and returns true, or it leaves what is to be evaluated next in both and returns false. Whatever
 * a step keeps across a call that may collect is in the other slots. */
#include <string.h>

#include "lisp.h"

enum slot { EXPRESSION, SCOPE, FUNCTION, ARGUMENTS, REST, SLOTS };

typedef bool (*step_fn)(struct lisp *l, value *r);

static bool done(value *r, value result) {
  r[EXPRESSION] = result;
  return true;
}

/* The n-th item of a form, n >= 1; an error if there is none. */
static value item(struct lisp *l, value form, int n) {
  for (; n > 0; n--) {
    form = cdr(form);
    if (!is_kind(l, form, PAIR)) lisp_error(l, "a special form is too short");
  }
  return car(form);
}

/* What follows the n-th item. */
static value after(struct lisp *l, value form, int n) {
  for (; n >= 0; n--) form = checked_cdr(l, form);
  return form;
}

/* --- variables -------------------------------------------------------------------------------------------------- */

/* Where a symbol's value is: a slot of `holder`. Nothing here collects. */
struct place {
  value holder;
  size_t offset;
};

static bool find_here(struct lisp *l, value environment, value symbol, struct place *place) {
  uint64_t i = 0;
  value names = gch_load(environment, ENVIRONMENT_NAMES);
  for (; is_kind(l, names, PAIR) && car(names) != symbol; i++) names = cdr(names);
  if (is_kind(l, names, PAIR) || names == symbol) { /* a list of names, or the last of one that takes the rest */
    *place = (struct place){environment, variable(i)};
    return true;
  }
  for (value extra = gch_load(environment, ENVIRONMENT_EXTRA); extra != NULL; extra = cdr(extra))
    if (car(car(extra)) == symbol) {
      *place = (struct place){car(extra), CDR};
      return true;
    }
  return false;
}

static struct place find_variable(struct lisp *l, value environment, value symbol) {
  struct place place = {symbol, SYMBOL_VALUE};
  while (environment != NULL && !find_here(l, environment, symbol, &place))
    environment = gch_load(environment, ENVIRONMENT_PARENT);
  return place;
}

_Noreturn static void unbound(struct lisp *l, value symbol) {
  value name = gch_load(symbol, SYMBOL_NAME);
  lisp_error(l, "unbound variable: %.*s", (int)length_of(l, name), string_bytes(name));
}

static bool step_symbol(struct lisp *l, value *r) {
  struct place place = find_variable(l, r[SCOPE], r[EXPRESSION]);
  value found = gch_load(place.holder, place.offset);
  if (is_constant(found, UNBOUND)) unbound(l, r[EXPRESSION]);
  return done(r, found);
}

static void define(struct lisp *l, value environment, value symbol, value v) {
  enum { DEFINED_IN, ENTRY, COUNT };
  struct place place = {symbol, SYMBOL_VALUE};
  if (environment == NULL || find_here(l, environment, symbol, &place)) {
    gch_set(l->m, place.holder, place.offset, v);
    return;
  }
  GCH_FRAME(l->m, roots, COUNT);
  roots[DEFINED_IN] = environment;
  roots[ENTRY] = cons(l, symbol, v);
  roots[ENTRY] = cons(l, roots[ENTRY], gch_load(roots[DEFINED_IN], ENVIRONMENT_EXTRA));
  gch_set(l->m, roots[DEFINED_IN], ENVIRONMENT_EXTRA, roots[ENTRY]);
  GCH_FRAME_END(l->m);
}

/* --- special forms ---------------------------------------------------------------------------------------------- */

/* Evaluates the list in REST but its last expression, which is next. */
static bool sequence(struct lisp *l, value *r) {
  if (!is_kind(l, r[REST], PAIR)) return done(r, constant(UNSPECIFIED));
  while (is_kind(l, cdr(r[REST]), PAIR)) {
    eval(l, car(r[REST]), r[SCOPE]);
    r[REST] = cdr(r[REST]);
  }
  r[EXPRESSION] = car(r[REST]);
  return false;
}

static bool step_quote(struct lisp *l, value *r) { return done(r, item(l, r[EXPRESSION], 1)); }

static bool step_begin(struct lisp *l, value *r) {
  r[REST] = cdr(r[EXPRESSION]);
  return sequence(l, r);
}

static bool step_if(struct lisp *l, value *r) {
  value test = eval(l, item(l, r[EXPRESSION], 1), r[SCOPE]);
  value branches = after(l, r[EXPRESSION], 1); /* read after the evaluation: the expression may have moved */
  if (!is_kind(l, branches, PAIR)) lisp_error(l, "if: no branch");
  if (!is_true(test)) branches = cdr(branches);
  if (!is_kind(l, branches, PAIR)) return done(r, constant(UNSPECIFIED));
  r[EXPRESSION] = car(branches);
  return false;
}

static void name_closure(struct lisp *l, value v, value symbol) {
  if (is_kind(l, v, CLOSURE) && gch_load(v, CLOSURE_NAME) == NULL) gch_set(l->m, v, CLOSURE_NAME, symbol);
}

/* (define name expression) or (define (name parameter ...) body ...) */
static bool step_define(struct lisp *l, value *r) {
  value target = item(l, r[EXPRESSION], 1);
  if (is_kind(l, target, PAIR))
    r[FUNCTION] = make_closure(l, cdr(target), after(l, r[EXPRESSION], 1), r[SCOPE]);
  else
    r[FUNCTION] = eval(l, item(l, r[EXPRESSION], 2), r[SCOPE]);
  target = item(l, r[EXPRESSION], 1);
  value symbol = is_kind(l, target, PAIR) ? car(target) : target;
  if (!is_kind(l, symbol, SYMBOL)) lisp_error(l, "define: not a name");
  name_closure(l, r[FUNCTION], symbol);
  define(l, r[SCOPE], symbol, r[FUNCTION]);
  return done(r, constant(UNSPECIFIED));
}

static bool step_set(struct lisp *l, value *r) {
  if (!is_kind(l, item(l, r[EXPRESSION], 1), SYMBOL)) lisp_error(l, "set!: not a name");
  value v = eval(l, item(l, r[EXPRESSION], 2), r[SCOPE]);
  value symbol = item(l, r[EXPRESSION], 1);
  struct place place = find_variable(l, r[SCOPE], symbol);
  if (is_constant(gch_load(place.holder, place.offset), UNBOUND)) unbound(l, symbol);
  gch_set(l->m, place.holder, place.offset, v);
  return done(r, constant(UNSPECIFIED));
}

static bool step_lambda(struct lisp *l, value *r) {
  return done(r, make_closure(l, item(l, r[EXPRESSION], 1), after(l, r[EXPRESSION], 1), r[SCOPE]));
}

static bool step_while(struct lisp *l, value *r) {
  while (is_true(eval(l, item(l, r[EXPRESSION], 1), r[SCOPE])))
    for (r[REST] = after(l, r[EXPRESSION], 1); is_kind(l, r[REST], PAIR); r[REST] = cdr(r[REST]))
      eval(l, car(r[REST]), r[SCOPE]);
  return done(r, constant(UNSPECIFIED));
}

static bool step_cond(struct lisp *l, value *r) {
  for (r[REST] = cdr(r[EXPRESSION]); is_kind(l, r[REST], PAIR); r[REST] = cdr(r[REST])) {
    value test = checked_car(l, car(r[REST]));
    value result = test == l->forms[FORM_ELSE] ? constant(TRUE) : eval(l, test, r[SCOPE]);
    if (!is_true(result)) continue;
    r[REST] = cdr(car(r[REST]));
    return r[REST] == NULL ? done(r, result) : sequence(l, r);
  }
  return done(r, constant(UNSPECIFIED));
}

/* `and` stops at the first false value, `or` at the first true one; the last is a tail call. */
static bool junction(struct lisp *l, value *r, bool stop_at, value nothing) {
  r[REST] = cdr(r[EXPRESSION]);
  if (!is_kind(l, r[REST], PAIR)) return done(r, nothing);
  for (; is_kind(l, cdr(r[REST]), PAIR); r[REST] = cdr(r[REST])) {
    value v = eval(l, car(r[REST]), r[SCOPE]);
    if (is_true(v) == stop_at) return done(r, v);
  }
  r[EXPRESSION] = car(r[REST]);
  return false;
}
static bool step_and(struct lisp *l, value *r) { return junction(l, r, false, constant(TRUE)); }
static bool step_or(struct lisp *l, value *r) { return junction(l, r, true, constant(FALSE)); }

/* --- let and its relatives: rewritten in place, once, into lambda ------------------------------------------------- */

/* Names (which == 0) or expressions (1) of a list of bindings. */
static value unzip(struct lisp *l, value bindings, int which) {
  enum { BINDINGS, HEAD, LAST, MADE, COUNT };
  GCH_FRAME(l->m, roots, COUNT);
  for (roots[BINDINGS] = bindings; is_kind(l, roots[BINDINGS], PAIR); roots[BINDINGS] = cdr(roots[BINDINGS])) {
    value binding = car(roots[BINDINGS]);
    if (!is_kind(l, binding, PAIR) || !is_kind(l, cdr(binding), PAIR))
      lisp_error(l, "let: a binding is (name expression)");
    roots[MADE] = cons(l, which == 0 ? car(binding) : car(cdr(binding)), NULL);
    if (roots[HEAD] == NULL)
      roots[HEAD] = roots[MADE];
    else
      gch_set(l->m, roots[LAST], CDR, roots[MADE]);
    roots[LAST] = roots[MADE];
  }
  value list = roots[HEAD];
  GCH_FRAME_END(l->m);
  return list;
}

/* (define name (lambda parameters . body)) */
static value make_definition(struct lisp *l, value name, value parameters, value body) {
  enum { NAME, MADE, COUNT };
  GCH_FRAME(l->m, roots, COUNT);
  roots[NAME] = name;
  roots[MADE] = cons(l, parameters, body);
  roots[MADE] = cons(l, l->forms[FORM_LAMBDA], roots[MADE]);
  roots[MADE] = cons(l, roots[MADE], NULL);
  roots[MADE] = cons(l, roots[NAME], roots[MADE]);
  value made = cons(l, l->forms[FORM_DEFINE], roots[MADE]);
  GCH_FRAME_END(l->m);
  return made;
}

/* Makes the expression at hand ((lambda parameters . body) . arguments). */
static bool become_call(struct lisp *l, value *r, value parameters, value body, value arguments) {
  enum { ARGUMENTS_HERE, MADE, COUNT };
  GCH_FRAME(l->m, roots, COUNT);
  roots[ARGUMENTS_HERE] = arguments;
  roots[MADE] = cons(l, parameters, body);
  roots[MADE] = cons(l, l->forms[FORM_LAMBDA], roots[MADE]);
  gch_set(l->m, r[EXPRESSION], CAR, roots[MADE]);
  gch_set(l->m, r[EXPRESSION], CDR, roots[ARGUMENTS_HERE]);
  GCH_FRAME_END(l->m);
  return false;
}

/* (let name ((a x) ...) body ...) is ((lambda () (define name (lambda (a ...) body ...)) (name x ...))) */
static bool step_named_let(struct lisp *l, value *r) {
  r[FUNCTION] = unzip(l, item(l, r[EXPRESSION], 2), 0);
  r[FUNCTION] = make_definition(l, item(l, r[EXPRESSION], 1), r[FUNCTION], after(l, r[EXPRESSION], 2));
  r[ARGUMENTS] = unzip(l, item(l, r[EXPRESSION], 2), 1);
  r[ARGUMENTS] = cons(l, item(l, r[EXPRESSION], 1), r[ARGUMENTS]);
  r[ARGUMENTS] = cons(l, r[ARGUMENTS], NULL);
  r[REST] = cons(l, r[FUNCTION], r[ARGUMENTS]);
  return become_call(l, r, NULL, r[REST], NULL);
}

static bool step_let(struct lisp *l, value *r) {
  if (is_kind(l, item(l, r[EXPRESSION], 1), SYMBOL)) return step_named_let(l, r);
  r[FUNCTION] = unzip(l, item(l, r[EXPRESSION], 1), 0);
  r[ARGUMENTS] = unzip(l, item(l, r[EXPRESSION], 1), 1);
  return become_call(l, r, r[FUNCTION], after(l, r[EXPRESSION], 1), r[ARGUMENTS]);
}

/* (let* (first rest ...) body ...) is (let (first) (let* (rest ...) body ...)) */
static bool step_let_star(struct lisp *l, value *r) {
  value bindings = item(l, r[EXPRESSION], 1);
  if (!is_kind(l, bindings, PAIR) || cdr(bindings) == NULL) {
    gch_set(l->m, r[EXPRESSION], CAR, l->forms[FORM_LET]);
    return false;
  }
  r[REST] = cons(l, cdr(bindings), after(l, r[EXPRESSION], 1));
  r[REST] = cons(l, l->forms[FORM_LET_STAR], r[REST]);
  r[REST] = cons(l, r[REST], NULL);
  r[FUNCTION] = cons(l, car(item(l, r[EXPRESSION], 1)), NULL);
  r[REST] = cons(l, r[FUNCTION], r[REST]);
  gch_set(l->m, r[EXPRESSION], CAR, l->forms[FORM_LET]);
  gch_set(l->m, r[EXPRESSION], CDR, r[REST]);
  return false;
}

/* (letrec ((a x) ...) body ...) is ((lambda () (define a x) ... body ...)) */
static bool step_letrec(struct lisp *l, value *r) {
  enum { LEFT = FUNCTION, MADE = ARGUMENTS };
  r[REST] = NULL;
  for (r[LEFT] = item(l, r[EXPRESSION], 1); is_kind(l, r[LEFT], PAIR); r[LEFT] = cdr(r[LEFT])) {
    r[MADE] = cons(l, l->forms[FORM_DEFINE], car(r[LEFT]));
    r[REST] = cons(l, r[MADE], r[REST]);
  }
  r[MADE] = after(l, r[EXPRESSION], 1);
  for (; r[REST] != NULL; r[REST] = cdr(r[REST])) r[MADE] = cons(l, car(r[REST]), r[MADE]);
  return become_call(l, r, NULL, r[MADE], NULL);
}

static const struct {
  const char *name;
  step_fn step;
} forms[FORMS] = {
    [FORM_NONE] = {"", NULL},
    [FORM_QUOTE] = {"quote", step_quote},
    [FORM_IF] = {"if", step_if},
    [FORM_DEFINE] = {"define", step_define},
    [FORM_SET] = {"set!", step_set},
    [FORM_LAMBDA] = {"lambda", step_lambda},
    [FORM_BEGIN] = {"begin", step_begin},
    [FORM_LET] = {"let", step_let},
    [FORM_LET_STAR] = {"let*", step_let_star},
    [FORM_LETREC] = {"letrec", step_letrec},
    [FORM_WHILE] = {"while", step_while},
    [FORM_COND] = {"cond", step_cond},
    [FORM_ELSE] = {"else", NULL},
    [FORM_AND] = {"and", step_and},
    [FORM_OR] = {"or", step_or},
};

const char *form_name(enum form form) { return forms[form].name; }

/* --- calls ------------------------------------------------------------------------------------------------------ */

/* Evaluates the operands into a new environment in ARGUMENTS; returns how many there are. */
static uint64_t evaluate_operands(struct lisp *l, value *r) {
  uint64_t count = 0, i = 0;
  for (value operands = cdr(r[EXPRESSION]); is_kind(l, operands, PAIR); operands = cdr(operands)) count++;
  r[ARGUMENTS] = make_vector(l, ENVIRONMENT, count);
  for (r[REST] = cdr(r[EXPRESSION]); is_kind(l, r[REST], PAIR); r[REST] = cdr(r[REST])) {
    value v = eval(l, car(r[REST]), r[SCOPE]); /* a statement of its own: r[ARGUMENTS] must be read after it */
    gch_set(l->m, r[ARGUMENTS], variable(i++), v);
  }
  return count;
}

/* Replaces the arguments by an environment whose last variable is the list of those beyond `fixed`. */
static void gather_rest(struct lisp *l, value *r, uint64_t fixed, uint64_t count) {
  for (r[REST] = NULL; count > fixed; count--) r[REST] = cons(l, gch_load(r[ARGUMENTS], variable(count - 1)), r[REST]);
  value gathered = make_vector(l, ENVIRONMENT, fixed + 1);
  for (uint64_t i = 0; i < fixed; i++) gch_set(l->m, gathered, variable(i), gch_load(r[ARGUMENTS], variable(i)));
  gch_set(l->m, gathered, variable(fixed), r[REST]);
  r[ARGUMENTS] = gathered;
}

static bool enter_closure(struct lisp *l, value *r, uint64_t count) {
  uint64_t fixed = 0;
  value names = gch_load(r[FUNCTION], CLOSURE_PARAMETERS);
  for (; is_kind(l, names, PAIR); names = cdr(names)) fixed++;
  bool takes_rest = names != NULL;
  if (count < fixed || (count > fixed && !takes_rest))
    lisp_error(l, "a closure got %llu arguments, expected %s%llu", (unsigned long long)count,
               takes_rest ? "at least " : "", (unsigned long long)fixed);
  if (takes_rest) gather_rest(l, r, fixed, count);
  gch_set(l->m, r[ARGUMENTS], ENVIRONMENT_PARENT, gch_load(r[FUNCTION], CLOSURE_ENVIRONMENT));
  gch_set(l->m, r[ARGUMENTS], ENVIRONMENT_NAMES, gch_load(r[FUNCTION], CLOSURE_PARAMETERS));
  r[SCOPE] = r[ARGUMENTS];
  r[REST] = gch_load(r[FUNCTION], CLOSURE_BODY);
  return sequence(l, r);
}

/* (apply function list): FUNCTION and ARGUMENTS become those of the call. Returns how many there are. */
static uint64_t spread(struct lisp *l, value *r) {
  uint64_t count = 0, i = 0;
  r[FUNCTION] = gch_load(r[ARGUMENTS], variable(0));
  r[REST] = gch_load(r[ARGUMENTS], variable(1));
  for (value list = r[REST]; is_kind(l, list, PAIR); list = cdr(list)) count++;
  r[ARGUMENTS] = make_vector(l, ENVIRONMENT, count);
  for (; is_kind(l, r[REST], PAIR); r[REST] = cdr(r[REST])) gch_set(l->m, r[ARGUMENTS], variable(i++), car(r[REST]));
  return count;
}

static bool call_builtin(struct lisp *l, value *r, uint64_t count) {
  const struct builtin *b = builtin_get(r[FUNCTION]);
  if (count < b->least || count > b->most)
    lisp_error(l, "%s got %llu arguments, expected %llu to %llu", b->name, (unsigned long long)count,
               (unsigned long long)b->least, (unsigned long long)b->most);
  return done(r, b->fn(l, &r[ARGUMENTS], count));
}

static bool is_apply(value f) { return is_builtin(f) && builtin_get(f)->fn == NULL; }

/* FUNCTION gets ARGUMENTS. */
static bool step_apply(struct lisp *l, value *r, uint64_t count) {
  while (is_apply(r[FUNCTION])) {
    if (count != 2) lisp_error(l, "apply got %llu arguments, expected 2", (unsigned long long)count);
    count = spread(l, r);
  }
  if (is_builtin(r[FUNCTION])) return call_builtin(l, r, count);
  if (!is_kind(l, r[FUNCTION], CLOSURE)) lisp_error(l, "what is called is no function");
  return enter_closure(l, r, count);
}

static bool step_call(struct lisp *l, value *r) {
  r[FUNCTION] = eval(l, car(r[EXPRESSION]), r[SCOPE]);
  uint64_t count = evaluate_operands(l, r);
  return step_apply(l, r, count);
}

/* --- the loop --------------------------------------------------------------------------------------------------- */

static bool step(struct lisp *l, value *r) {
  value expression = r[EXPRESSION];
  if (is_kind(l, expression, SYMBOL)) return step_symbol(l, r);
  if (!is_kind(l, expression, PAIR)) return true; /* evaluates to itself */
  value head = car(expression);
  uint64_t form = is_kind(l, head, SYMBOL) ? *(uint64_t *)(void *)gch_slot(head, SYMBOL_FORM) : FORM_NONE;
  return form != FORM_NONE && forms[form].step != NULL ? forms[form].step(l, r) : step_call(l, r);
}

value eval(struct lisp *l, value expression, value environment) {
  GCH_FRAME(l->m, roots, SLOTS); /* visible to collections until GCH_FRAME_END */
  check_stack(l);
  roots[EXPRESSION] = expression;
  roots[SCOPE] = environment;
  while (!step(l, roots)) gch_safepoint(l->m); /* a loop of tail calls need not allocate: it must poll */
  value result = roots[EXPRESSION];
  GCH_FRAME_END(l->m);
  return result;
}

value call(struct lisp *l, value function, value first, value second) {
  GCH_FRAME(l->m, roots, SLOTS);
  check_stack(l);
  roots[FUNCTION] = function;
  roots[EXPRESSION] = first;
  roots[REST] = second;
  roots[ARGUMENTS] = make_vector(l, ENVIRONMENT, 2);
  gch_set(l->m, roots[ARGUMENTS], variable(0), roots[EXPRESSION]);
  gch_set(l->m, roots[ARGUMENTS], variable(1), roots[REST]);
  for (bool finished = step_apply(l, roots, 2); !finished; finished = step(l, roots)) gch_safepoint(l->m);
  value result = roots[EXPRESSION];
  GCH_FRAME_END(l->m);
  return result;
}
