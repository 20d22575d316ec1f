#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lisp.h"

enum { ANY = 1 << 20, STRING_LIMIT = 1 << 30 };

static value argument(const value *a, uint64_t i) { return gch_load(*a, variable(i)); }

static int64_t number(struct lisp *l, const value *a, uint64_t i) {
  value v = argument(a, i);
  if (!is_fixnum(v)) lisp_error(l, "argument %" PRIu64 " is not a number", i + 1);
  return fixnum_of(v);
}

static value object(struct lisp *l, const value *a, uint64_t i, enum kind kind) {
  static const char *const names[KINDS] = {"pair", "symbol", "string", "vector", "closure", "environment"};
  value v = argument(a, i);
  if (!is_kind(l, v, kind)) lisp_error(l, "argument %" PRIu64 " is not a %s", i + 1, names[kind]);
  return v;
}

/* A number in [0, end). */
static uint64_t index_in(struct lisp *l, const value *a, uint64_t i, uint64_t end) {
  int64_t n = number(l, a, i);
  if (n < 0 || (uint64_t)n >= end) lisp_error(l, "index %" PRId64 " is not in 0 to %" PRIu64, n, end);
  return (uint64_t)n;
}

/* --- numbers --------------------------------------------------------------------------------------------------- */

static value checked(struct lisp *l, bool overflow, int64_t n) {
  if (overflow || n > FIXNUM_MAX || n < FIXNUM_MIN) lisp_error(l, "a number is beyond 61 bits");
  return fixnum(n);
}

static value add(struct lisp *l, value *a, uint64_t count) {
  int64_t sum = 0;
  bool overflow = false;
  for (uint64_t i = 0; i < count; i++) overflow |= __builtin_add_overflow(sum, number(l, a, i), &sum);
  return checked(l, overflow, sum);
}

static value multiply(struct lisp *l, value *a, uint64_t count) {
  int64_t product = 1;
  bool overflow = false;
  for (uint64_t i = 0; i < count; i++) overflow |= __builtin_mul_overflow(product, number(l, a, i), &product);
  return checked(l, overflow, product);
}

static value subtract(struct lisp *l, value *a, uint64_t count) {
  int64_t rest = number(l, a, 0);
  bool overflow = false;
  if (count == 1) return checked(l, false, -rest);
  for (uint64_t i = 1; i < count; i++) overflow |= __builtin_sub_overflow(rest, number(l, a, i), &rest);
  return checked(l, overflow, rest);
}

static int64_t divisor(struct lisp *l, const value *a) {
  int64_t d = number(l, a, 1);
  if (d == 0) lisp_error(l, "division by zero");
  return d;
}

static value quotient(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return checked(l, false, number(l, a, 0) / divisor(l, a));
}

static value remainder_of(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return fixnum(number(l, a, 0) % divisor(l, a));
}

static value modulo(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  int64_t d = divisor(l, a), rest = number(l, a, 0) % d;
  return fixnum(rest != 0 && (rest < 0) != (d < 0) ? rest + d : rest);
}

enum relation { LESS = 1, EQUAL = 2, GREATER = 4 };

static value compare(struct lisp *l, value *a, uint64_t count, unsigned relations) {
  bool holds = true;
  for (uint64_t i = 0; i + 1 < count; i++) {
    int64_t x = number(l, a, i), y = number(l, a, i + 1);
    holds &= (relations & (x < y ? LESS : x == y ? EQUAL : GREATER)) != 0;
  }
  return boolean(holds);
}
static value less(struct lisp *l, value *a, uint64_t count) { return compare(l, a, count, LESS); }
static value greater(struct lisp *l, value *a, uint64_t count) { return compare(l, a, count, GREATER); }
static value at_most(struct lisp *l, value *a, uint64_t count) { return compare(l, a, count, LESS | EQUAL); }
static value at_least(struct lisp *l, value *a, uint64_t count) { return compare(l, a, count, GREATER | EQUAL); }
static value equal_numbers(struct lisp *l, value *a, uint64_t count) { return compare(l, a, count, EQUAL); }

/* --- pairs and lists ------------------------------------------------------------------------------------------- */

static value do_cons(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return cons(l, argument(a, 0), argument(a, 1));
}
static value do_car(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return checked_car(l, argument(a, 0));
}
static value do_cdr(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return checked_cdr(l, argument(a, 0));
}
static value set_car(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  gch_set(l->m, object(l, a, 0, PAIR), CAR, argument(a, 1));
  return constant(UNSPECIFIED);
}
static value set_cdr(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  gch_set(l->m, object(l, a, 0, PAIR), CDR, argument(a, 1));
  return constant(UNSPECIFIED);
}

static value list(struct lisp *l, value *a, uint64_t count) {
  GCH_FRAME(l->m, roots, 1);
  for (uint64_t i = count; i > 0; i--) roots[0] = cons(l, argument(a, i - 1), roots[0]);
  value made = roots[0];
  GCH_FRAME_END(l->m);
  return made;
}

static value length(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  int64_t n = 0;
  for (value v = argument(a, 0); is_kind(l, v, PAIR); v = cdr(v)) n++; /* nothing in this loop collects */
  return fixnum(n);
}

/* Takes the list apart as it goes: argument 0 is the rest of it. */
static value reverse(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  GCH_FRAME(l->m, roots, 1);
  for (; is_kind(l, argument(a, 0), PAIR); gch_set(l->m, *a, variable(0), cdr(argument(a, 0))))
    roots[0] = cons(l, car(argument(a, 0)), roots[0]);
  value made = roots[0];
  GCH_FRAME_END(l->m);
  return made;
}

/* --- predicates ------------------------------------------------------------------------------------------------ */

static value eq(struct lisp *l, value *a, uint64_t count) {
  (void)l, (void)count;
  return boolean(argument(a, 0) == argument(a, 1)); /* identity is equality of references, wherever objects are */
}

static bool equal_strings(struct lisp *l, value x, value y) {
  return length_of(l, x) == length_of(l, y) && memcmp(string_bytes(x), string_bytes(y), length_of(l, x)) == 0;
}

/* Nothing below collects, so plain local variables hold references. */
static bool equal_values(struct lisp *l, value x, value y) {
  check_stack(l);
  for (; is_kind(l, x, PAIR) && is_kind(l, y, PAIR); x = cdr(x), y = cdr(y))
    if (!equal_values(l, car(x), car(y))) return false;
  if (is_kind(l, x, STRING) && is_kind(l, y, STRING)) return equal_strings(l, x, y);
  if (!is_kind(l, x, VECTOR) || !is_kind(l, y, VECTOR)) return x == y;
  bool same = length_of(l, x) == length_of(l, y);
  for (uint64_t i = 0; same && i < length_of(l, x); i++)
    same = equal_values(l, gch_load(x, element(i)), gch_load(y, element(i)));
  return same;
}

static value equal(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return boolean(equal_values(l, argument(a, 0), argument(a, 1)));
}
static value is_null(struct lisp *l, value *a, uint64_t count) {
  (void)l, (void)count;
  return boolean(argument(a, 0) == NULL);
}
static value is_pair(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return boolean(is_kind(l, argument(a, 0), PAIR));
}
static value is_number(struct lisp *l, value *a, uint64_t count) {
  (void)l, (void)count;
  return boolean(is_fixnum(argument(a, 0)));
}
static value is_string(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return boolean(is_kind(l, argument(a, 0), STRING));
}
static value is_symbol(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return boolean(is_kind(l, argument(a, 0), SYMBOL));
}
static value is_vector(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return boolean(is_kind(l, argument(a, 0), VECTOR));
}
static value not(struct lisp * l, value *a, uint64_t count) {
  (void)l, (void)count;
  return boolean(!is_true(argument(a, 0)));
}

/* --- vectors --------------------------------------------------------------------------------------------------- */

static value vector(struct lisp *l, value *a, uint64_t count) {
  value made = make_vector(l, VECTOR, count);
  for (uint64_t i = 0; i < count; i++) gch_set(l->m, made, element(i), argument(a, i));
  return made;
}

static value make_vector_of(struct lisp *l, value *a, uint64_t count) {
  uint64_t n = index_in(l, a, 0, STRING_LIMIT);
  GCH_FRAME(l->m, roots, 1);
  roots[0] = make_vector(l, VECTOR, n);
  if (count == 2) gch_fill_refs(l->m, roots[0], 0, n, argument(a, 1)); /* may collect: the vector is in a root */
  value made = roots[0];
  GCH_FRAME_END(l->m);
  return made;
}

static value vector_length(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return fixnum((int64_t)length_of(l, object(l, a, 0, VECTOR)));
}

static value vector_ref(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  value v = object(l, a, 0, VECTOR);
  return gch_load(v, element(index_in(l, a, 1, length_of(l, v))));
}

static value vector_set(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  value v = object(l, a, 0, VECTOR);
  gch_set(l->m, v, element(index_in(l, a, 1, length_of(l, v))), argument(a, 2));
  return constant(UNSPECIFIED);
}

/* --- searching: a C function that calls back into Lisp ---------------------------------------------------------- */

struct search {
  struct lisp *l;
  value *arguments; /* vector, key, compare */
};

/* Runs Lisp, which may collect: the element is stale afterwards, but its slot is where it was. */
static int compare_with(const void *data, const void *slot) {
  const struct search *s = data;
  value order = call(s->l, argument(s->arguments, 2), argument(s->arguments, 1), *(const value *)slot);
  if (!is_fixnum(order)) lisp_error(s->l, "vector-search: what compares returned no number");
  return fixnum_of(order) < 0 ? -1 : fixnum_of(order) > 0;
}

/* (vector-search vector key compare): the index of an element for which (compare key element) is 0, or #f. The elements are in
 * the order of compare, which is negative before the key and positive behind it. */
static value vector_search(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  value v = object(l, a, 0, VECTOR);
  struct search search = {l, a};
  pin(l, v); /* bsearch keeps addresses inside the vector; only we, a managed thread, follow them */
  const value *first = gch_slot(v, element(0));
  const value *found = bsearch(&search, first, length_of(l, v), sizeof *first, compare_with);
  unpin_last(l);
  return found == NULL ? constant(FALSE) : fixnum(found - first);
}

/* --- strings and symbols --------------------------------------------------------------------------------------- */

static value make_string_of(struct lisp *l, value *a, uint64_t count) {
  uint64_t n = index_in(l, a, 0, STRING_LIMIT), c = count == 2 ? index_in(l, a, 1, 256) : ' ';
  value made = make_string(l, n);
  memset(string_bytes(made), (int)c, n);
  return made;
}

static value string_length(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return fixnum((int64_t)length_of(l, object(l, a, 0, STRING)));
}

static value string_ref(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  value s = object(l, a, 0, STRING);
  return fixnum((unsigned char)string_bytes(s)[index_in(l, a, 1, length_of(l, s))]);
}

static value string_set(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  value s = object(l, a, 0, STRING);
  uint64_t at = index_in(l, a, 1, length_of(l, s));
  string_bytes(s)[at] = (char)index_in(l, a, 2, 256);
  return constant(UNSPECIFIED);
}

static value string_append(struct lisp *l, value *a, uint64_t count) {
  uint64_t total = 0;
  for (uint64_t i = 0; i < count; i++) total += length_of(l, object(l, a, i, STRING));
  value made = make_string(l, total);
  char *to = string_bytes(made); /* an address inside an object is as short-lived as a reference */
  for (uint64_t i = 0; i < count; i++) {
    value part = argument(a, i); /* read after the allocation */
    memcpy(to, string_bytes(part), length_of(l, part));
    to += length_of(l, part);
  }
  return made;
}

static value substring(struct lisp *l, value *a, uint64_t count) {
  uint64_t n = length_of(l, object(l, a, 0, STRING));
  uint64_t from = index_in(l, a, 1, n + 1), to = count == 3 ? index_in(l, a, 2, n + 1) : n;
  if (from > to) lisp_error(l, "substring: start %" PRIu64 " is after end %" PRIu64, from, to);
  value made = make_string(l, to - from);
  memcpy(string_bytes(made), string_bytes(argument(a, 0)) + from, to - from);
  return made;
}

static value string_equal(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return boolean(equal_strings(l, object(l, a, 0, STRING), object(l, a, 1, STRING)));
}

static value number_to_string(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  char text[32];
  int n = snprintf(text, sizeof text, "%" PRId64, number(l, a, 0));
  return make_string_from(l, text, (uint64_t)n);
}

static value string_to_symbol(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  char name[256]; /* intern allocates, so it is given no address in the heap */
  value s = object(l, a, 0, STRING);
  uint64_t n = length_of(l, s);
  if (n == 0 || n > sizeof name) lisp_error(l, "string->symbol: a name has 1 to 256 characters");
  memcpy(name, string_bytes(s), n);
  return intern(l, name, n);
}

static value symbol_to_string(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  return gch_load(object(l, a, 0, SYMBOL), SYMBOL_NAME);
}

/* --- output, errors -------------------------------------------------------------------------------------------- */

static value display(struct lisp *l, value *a, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) print(l, argument(a, i), false);
  return constant(UNSPECIFIED);
}
static value write_value(struct lisp *l, value *a, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) print(l, argument(a, i), true);
  return constant(UNSPECIFIED);
}
static value newline(struct lisp *l, value *a, uint64_t count) {
  (void)a, (void)count;
  put_char(l, '\n');
  return constant(UNSPECIFIED);
}
static value print_line(struct lisp *l, value *a, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    if (i > 0) put_char(l, ' ');
    print(l, argument(a, i), true);
  }
  return newline(l, a, 0);
}
static value error(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  value s = object(l, a, 0, STRING);
  lisp_error(l, "%.*s", (int)(length_of(l, s) < 200 ? length_of(l, s) : 200), string_bytes(s));
}

/* --- the heap -------------------------------------------------------------------------------------------------- */

/* (gc) a minor collection; (gc 'needed), (gc 'all), (gc 'release) major ones; 'major is 'needed. */
static value gc(struct lisp *l, value *a, uint64_t count) {
  static const struct {
    const char *name;
    gch_policy policy;
  } policies[] = {{"major", GCH_POLICY_NEEDED},
                  {"needed", GCH_POLICY_NEEDED},
                  {"all", GCH_POLICY_ALL},
                  {"release", GCH_POLICY_RELEASE}};
  gch_collect_options options;
  gch_collect_options_init(&options);
  options.minor = count == 0;
  options.concurrent = l->concurrent && !options.minor;
  size_t i = 0, kinds = sizeof policies / sizeof policies[0];
  if (count == 1) {
    value name = gch_load(object(l, a, 0, SYMBOL), SYMBOL_NAME);
    while (i < kinds && !(strlen(policies[i].name) == length_of(l, name) &&
                          memcmp(policies[i].name, string_bytes(name), length_of(l, name)) == 0))
      i++;
    if (i == kinds) lisp_error(l, "gc: expected major, needed, all or release");
    options.policy = policies[i].policy;
  }
  if (gch_collect(l->m, &options, NULL) != GCH_OK) lisp_error(l, "gc: %.200s", gch_last_error(l->m)->message);
  return constant(UNSPECIFIED);
}

/* A list of (name . number). */
static value heap_stats(struct lisp *l, value *a, uint64_t count) {
  enum { LIST, ROW, COUNT };
  (void)a, (void)count;
  gch_stats s;
  gch_stats_get(l->heap, &s, sizeof s);
  const struct {
    const char *name;
    uint64_t n;
  } rows[] = {{"pause-longest-us", s.pause.max / 1000},
              {"heap-max-bytes", s.max_bytes},
              {"heap-bytes", s.heap_bytes},
              {"live-bytes", s.live_bytes},
              {"allocated-bytes", s.allocated_bytes},
              {"pins", s.pins},
              {"major", s.major_count},
              {"minor", s.minor_count}};
  GCH_FRAME(l->m, roots, COUNT);
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    roots[ROW] = intern(l, rows[i].name, strlen(rows[i].name));
    roots[ROW] = cons(l, roots[ROW], fixnum((int64_t)rows[i].n));
    roots[LIST] = cons(l, roots[ROW], roots[LIST]);
  }
  value made = roots[LIST];
  GCH_FRAME_END(l->m);
  return made;
}

static value verify(struct lisp *l, value *a, uint64_t count) {
  (void)a, (void)count;
  gch_error problem = {0};
  if (gch_verify(l->m, &problem) != GCH_OK) lisp_error(l, "the heap is broken: %.200s", problem.message);
  return constant(TRUE);
}

/* A number that stays with the object, wherever it moves. */
static value identity_hash(struct lisp *l, value *a, uint64_t count) {
  (void)count;
  value v = argument(a, 0);
  return fixnum(is_object(v) ? (int64_t)gch_identity_hash(l->m, v) : 0);
}

/* --- table ------------------------------------------------------------------------------------------------------ */

static const struct builtin builtins[] = {
    {"apply", NULL, 2, 2},
    {"+", add, 0, ANY},
    {"-", subtract, 1, ANY},
    {"*", multiply, 0, ANY},
    {"quotient", quotient, 2, 2},
    {"remainder", remainder_of, 2, 2},
    {"modulo", modulo, 2, 2},
    {"<", less, 1, ANY},
    {">", greater, 1, ANY},
    {"<=", at_most, 1, ANY},
    {">=", at_least, 1, ANY},
    {"=", equal_numbers, 1, ANY},
    {"cons", do_cons, 2, 2},
    {"car", do_car, 1, 1},
    {"cdr", do_cdr, 1, 1},
    {"set-car!", set_car, 2, 2},
    {"set-cdr!", set_cdr, 2, 2},
    {"list", list, 0, ANY},
    {"length", length, 1, 1},
    {"reverse", reverse, 1, 1},
    {"eq?", eq, 2, 2},
    {"equal?", equal, 2, 2},
    {"null?", is_null, 1, 1},
    {"pair?", is_pair, 1, 1},
    {"number?", is_number, 1, 1},
    {"string?", is_string, 1, 1},
    {"symbol?", is_symbol, 1, 1},
    {"vector?", is_vector, 1, 1},
    {"not", not, 1, 1},
    {"vector", vector, 0, ANY},
    {"make-vector", make_vector_of, 1, 2},
    {"vector-length", vector_length, 1, 1},
    {"vector-ref", vector_ref, 2, 2},
    {"vector-set!", vector_set, 3, 3},
    {"vector-search", vector_search, 3, 3},
    {"make-string", make_string_of, 1, 2},
    {"string-length", string_length, 1, 1},
    {"string-ref", string_ref, 2, 2},
    {"string-set!", string_set, 3, 3},
    {"string-append", string_append, 0, ANY},
    {"substring", substring, 2, 3},
    {"string=?", string_equal, 2, 2},
    {"number->string", number_to_string, 1, 1},
    {"string->symbol", string_to_symbol, 1, 1},
    {"symbol->string", symbol_to_string, 1, 1},
    {"display", display, 0, ANY},
    {"write", write_value, 0, ANY},
    {"newline", newline, 0, 0},
    {"print", print_line, 0, ANY},
    {"error", error, 1, 1},
    {"gc", gc, 0, 1},
    {"heap-stats", heap_stats, 0, 0},
    {"heap-verify", verify, 0, 0},
    {"identity-hash", identity_hash, 1, 1},
    {"make-weak", make_weak, 1, 1},
    {"weak-value", weak_value, 1, 1},
    {"make-ephemeron", make_ephemeron, 2, 2},
    {"ephemeron-value", ephemeron_value, 1, 1},
    {"finalize!", finalize, 2, 2},
    {"next-finalized", next_finalized, 0, 0},
};

const struct builtin *builtin_get(value v) { return &builtins[builtin_of(v)]; }

void builtins_define(struct lisp *l) {
  for (size_t i = 0; i < sizeof builtins / sizeof builtins[0]; i++) {
    value symbol = intern(l, builtins[i].name, strlen(builtins[i].name));
    gch_set(l->m, symbol, SYMBOL_VALUE, builtin(i));
  }
}
