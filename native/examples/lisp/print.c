#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lisp.h"

/* --- output ---------------------------------------------------------------------------------------------------- */

void flush_output(struct lisp *l) {
  size_t done = 0;
  if (l->out_count == 0) return;
  gch_native_enter(l->m); /* a pipe may be full */
  while (done < l->out_count) {
    ssize_t put = write(l->out, l->out_buffer + done, l->out_count - done);
    if (put < 0 && errno != EINTR) break;
    done += put < 0 ? 0 : (size_t)put;
  }
  gch_native_leave(l->m);
  l->out_count = 0;
}

void put_char(struct lisp *l, char c) {
  if (l->out_count == sizeof l->out_buffer) flush_output(l);
  l->out_buffer[l->out_count++] = c;
}

void put_text(struct lisp *l, const char *text) {
  for (; *text != 0; text++) put_char(l, *text);
}

/* --- values ---------------------------------------------------------------------------------------------------- */

static void put_string(struct lisp *l, value string, bool quoted) {
  GCH_FRAME(l->m, roots, 1);
  roots[0] = string;
  uint64_t count = length_of(l, string);
  if (quoted) put_char(l, '"');
  for (uint64_t i = 0; i < count; i++) {
    char c = string_bytes(roots[0])[i]; /* read anew: put_char may collect, and the string may move */
    if (quoted && (c == '"' || c == '\\')) put_char(l, '\\');
    if (quoted && c == '\n') {
      put_text(l, "\\n");
      continue;
    }
    put_char(l, c);
  }
  if (quoted) put_char(l, '"');
  GCH_FRAME_END(l->m);
}

static void put_list(struct lisp *l, value list, bool quoted) {
  GCH_FRAME(l->m, roots, 1);
  roots[0] = list;
  for (put_char(l, '(');; put_char(l, ' ')) {
    print(l, car(roots[0]), quoted);
    roots[0] = cdr(roots[0]);
    if (!is_kind(l, roots[0], PAIR)) break;
  }
  if (roots[0] != NULL) {
    put_text(l, " . ");
    print(l, roots[0], quoted);
  }
  put_char(l, ')');
  GCH_FRAME_END(l->m);
}

static void put_vector(struct lisp *l, value vector, bool quoted) {
  GCH_FRAME(l->m, roots, 1);
  roots[0] = vector;
  uint64_t count = length_of(l, vector);
  put_text(l, "#(");
  for (uint64_t i = 0; i < count; i++) {
    if (i > 0) put_char(l, ' ');
    print(l, gch_load(roots[0], element(i)), quoted);
  }
  put_char(l, ')');
  GCH_FRAME_END(l->m);
}

static void put_closure(struct lisp *l, value closure) {
  value name = gch_load(closure, CLOSURE_NAME);
  GCH_FRAME(l->m, roots, 1);
  roots[0] = name;
  put_text(l, roots[0] == NULL ? "#<closure" : "#<closure ");
  if (roots[0] != NULL) print(l, roots[0], false);
  put_char(l, '>');
  GCH_FRAME_END(l->m);
}

static void put_immediate(struct lisp *l, value v) {
  static const char *const names[] = {[UNSPECIFIED] = "#<unspecified>",
                                      [FALSE] = "#f",
                                      [TRUE] = "#t",
                                      [UNBOUND] = "#<unbound>",
                                      [END_OF_INPUT] = "#<end>"};
  char text[32];
  if (is_fixnum(v)) {
    snprintf(text, sizeof text, "%lld", (long long)fixnum_of(v));
    put_text(l, text);
  } else if (is_builtin(v)) {
    put_text(l, "#<builtin ");
    put_text(l, builtin_get(v)->name);
    put_char(l, '>');
  } else {
    put_text(l, names[builtin_of(v)]);
  }
}

void print(struct lisp *l, value v, bool quoted) {
  check_stack(l);
  if (v == NULL)
    put_text(l, "()");
  else if (!is_object(v))
    put_immediate(l, v);
  else if (is_kind(l, v, PAIR))
    put_list(l, v, quoted);
  else if (is_kind(l, v, STRING))
    put_string(l, v, quoted);
  else if (is_kind(l, v, VECTOR))
    put_vector(l, v, quoted);
  else if (is_kind(l, v, SYMBOL))
    put_string(l, gch_load(v, SYMBOL_NAME), false);
  else if (is_kind(l, v, CLOSURE))
    put_closure(l, v);
  else
    put_text(l, "#<environment>");
}
