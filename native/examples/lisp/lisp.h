/* A tiny Lisp whose every object lives in a gcheap heap.
 *
 * A value is a word: null is the empty list; a word with bit 0 set is an immediate (a number, #t, a builtin ...), which
 * the types' tag rule tells apart from references inside objects; all else is a reference. Immediates also have bit 63
 * set: no address of a program has, so they may stand in root slots too.
 *
 * How roots are kept: a function that may collect (most do: whatever allocates, prints or evaluates) takes its arguments
 * into a frame of its own before anything else, and reads them from there afterwards. A result travels in a register:
 * between its return and its being stored in a root, nothing may collect. Never write f(roots[0], g()) where g may
 * collect: roots[0] may be read before. */
#ifndef EXAMPLES_LISP_H
#define EXAMPLES_LISP_H

#include <gcheap/gcheap.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

typedef gch_ref value;

enum { PINS_MAX = 64 };
enum kind { PAIR, SYMBOL, STRING, VECTOR, CLOSURE, ENVIRONMENT, KINDS };

/* Where the references of objects are: byte offsets. */
enum {
  CAR = 8,
  CDR = 16,
  SYMBOL_NAME = 8,
  SYMBOL_VALUE = 16,
  SYMBOL_FORM = 24, /* the last is a number, see enum form */
  CLOSURE_PARAMETERS = 8,
  CLOSURE_BODY = 16,
  CLOSURE_ENVIRONMENT = 24,
  CLOSURE_NAME = 32,
  ENVIRONMENT_PARENT = 8,
  ENVIRONMENT_NAMES = 16,
  ENVIRONMENT_EXTRA = 24,
  ENVIRONMENT_FIRST = 32,
  ELEMENT_FIRST = 8,
};

/* Symbols that the evaluator knows. */
enum form {
  FORM_NONE,
  FORM_QUOTE,
  FORM_IF,
  FORM_DEFINE,
  FORM_SET,
  FORM_LAMBDA,
  FORM_BEGIN,
  FORM_LET,
  FORM_LET_STAR,
  FORM_LETREC,
  FORM_WHILE,
  FORM_COND,
  FORM_ELSE,
  FORM_AND,
  FORM_OR,
  FORMS
};

struct lisp {
  gch_heap *heap;
  gch_mutator *m;
  const gch_type *types[KINDS];
  value symbols;            /* static root: a vector of chains of symbols */
  value forms[FORMS];       /* enumerated roots: the symbols of enum form */
  bool concurrent;
  char *stack_end;          /* deepest address that recursion may reach */
  jmp_buf catch;            /* where errors go */
  gch_frame *catch_frames;  /* the frames that stand there */
  value pinned[PINS_MAX]; /* what C functions on the stack know by address; no roots: pinned objects stay and live */
  unsigned pin_count;
  char error[256];
  uint64_t errors;
  int out;
  size_t out_count;
  char out_buffer[4096];
};

/* --- values --------------------------------------------------------------------------------------------------- */

#define IMMEDIATE_BIT ((uint64_t)1 << 63)
#define FIXNUM_MAX (((int64_t)1 << 60) - 1)
#define FIXNUM_MIN (-((int64_t)1 << 60))

enum constant { UNSPECIFIED, FALSE, TRUE, UNBOUND, END_OF_INPUT };

static inline uint64_t bits_of(value v) { return (uint64_t)(uintptr_t)v; }
static inline value value_of(uint64_t bits) { return (value)(uintptr_t)bits; }

/* Bits 0 and 1: 01 a number in bits 2..62; 11 a constant in bits 3.. (bit 2 clear) or a builtin's number (bit 2 set). */
static inline value fixnum(int64_t n) { return value_of((uint64_t)n << 2 | IMMEDIATE_BIT | 1); }
static inline bool is_fixnum(value v) { return (bits_of(v) & 3) == 1; }
static inline int64_t fixnum_of(value v) { return (int64_t)(bits_of(v) << 1) >> 3; }
static inline value constant(enum constant c) { return value_of(IMMEDIATE_BIT | (uint64_t)c << 3 | 3); }
static inline bool is_constant(value v, enum constant c) { return v == constant(c); }
static inline value builtin(uint64_t number) { return value_of(IMMEDIATE_BIT | number << 3 | 7); }
static inline bool is_builtin(value v) { return (bits_of(v) & 7) == 7; }
static inline uint64_t builtin_of(value v) { return (bits_of(v) & ~IMMEDIATE_BIT) >> 3; }
static inline value boolean(bool b) { return constant(b ? TRUE : FALSE); }
static inline bool is_true(value v) { return v != constant(FALSE); }
static inline bool is_object(value v) { return v != NULL && (bits_of(v) & 1) == 0; }

static inline bool is_kind(const struct lisp *l, value v, enum kind kind) {
  return is_object(v) && gch_type_of(l->heap, v) == l->types[kind];
}
static inline uint64_t length_of(const struct lisp *l, value v) { return gch_length(l->heap, v); }
static inline size_t element(uint64_t index) { return ELEMENT_FIRST + 8 * (size_t)index; }
static inline size_t variable(uint64_t index) { return ENVIRONMENT_FIRST + 8 * (size_t)index; }
static inline char *string_bytes(value v) { return gch_payload(v); }

/* Unchecked; see checked_car. */
static inline value car(value v) { return gch_load(v, CAR); }
static inline value cdr(value v) { return gch_load(v, CDR); }

/* --- value.c: making objects; all may collect, and none returns without its object ----------------------------- */

bool lisp_open(struct lisp *l, gch_heap *heap, gch_error *error);
void lisp_close(struct lisp *l);
value cons(struct lisp *l, value first, value rest);
value make_vector(struct lisp *l, enum kind kind, uint64_t count); /* VECTOR or ENVIRONMENT, elements null */
value make_string(struct lisp *l, uint64_t count);
value make_string_from(struct lisp *l, const char *bytes, uint64_t count); /* bytes not in the heap */
value make_closure(struct lisp *l, value parameters, value body, value environment);
value intern(struct lisp *l, const char *name, uint64_t count); /* name not in the heap */

/* Forgets the frames and pins above the catch point and goes there. The message never names an address. */
_Noreturn __attribute__((format(printf, 2, 3))) void lisp_error(struct lisp *l, const char *format, ...);
value checked_car(struct lisp *l, value v);
value checked_cdr(struct lisp *l, value v);
/* From pin to unpin_last the object lives and keeps its address, whatever collects. What it refers to may move: its fields are
 * loaded and stored as ever. An error unpins, too. */
void pin(struct lisp *l, value v);
void unpin_last(struct lisp *l);
/* Is there stack left for one more level of recursion? Else an error. */
void check_stack(struct lisp *l);

/* --- read.c --------------------------------------------------------------------------------------------------- */

struct reader {
  int in;
  uint64_t line;
  bool ended, prompt;
  size_t start, end;
  char buffer[4096];
};
/* The next datum, or END_OF_INPUT. May collect. */
value read_datum(struct lisp *l, struct reader *reader);

/* --- print.c: all may collect (output may block, which is done in native state) -------------------------------- */

void put_char(struct lisp *l, char c);
void put_text(struct lisp *l, const char *text);
void flush_output(struct lisp *l);
void print(struct lisp *l, value v, bool quoted);

/* --- eval.c --------------------------------------------------------------------------------------------------- */

value eval(struct lisp *l, value expression, value environment);
/* Calls a closure or a builtin with two arguments. */
value call(struct lisp *l, value function, value first, value second);
const char *form_name(enum form form);

/* --- builtins.c ----------------------------------------------------------------------------------------------- */

/* `arguments` points at a root that holds an environment object with `count` variables. */
typedef value (*builtin_fn)(struct lisp *l, value *arguments, uint64_t count);
struct builtin {
  const char *name;
  builtin_fn fn; /* NULL: apply, which the evaluator does itself */
  uint64_t least, most;
};
const struct builtin *builtin_get(value v);
void builtins_define(struct lisp *l);

/* --- weak.c ----------------------------------------------------------------------------------------------------- */

value make_weak(struct lisp *l, value *a, uint64_t count);
value weak_value(struct lisp *l, value *a, uint64_t count);
value make_ephemeron(struct lisp *l, value *a, uint64_t count);
value ephemeron_value(struct lisp *l, value *a, uint64_t count);
value finalize(struct lisp *l, value *a, uint64_t count);
value next_finalized(struct lisp *l, value *a, uint64_t count);

#endif
