#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lisp.h"

enum { NO_CHAR = -1, TOKEN_MAX = 255, STRING_MAX = 1 << 16 };

/* --- characters ------------------------------------------------------------------------------------------------ */

static bool fill(struct lisp *l, struct reader *r) {
  if (r->ended) return false;
  if (r->prompt) put_text(l, "> ");
  flush_output(l);
  gch_native_enter(l->m); /* input may be long in coming; collections need not wait for it */
  ssize_t got;
  do got = read(r->in, r->buffer, sizeof r->buffer);
  while (got < 0 && errno == EINTR);
  gch_native_leave(l->m);
  r->start = 0;
  r->end = got > 0 ? (size_t)got : 0;
  r->ended = got <= 0;
  return !r->ended;
}

static int peek(struct lisp *l, struct reader *r) {
  if (r->start == r->end && !fill(l, r)) return NO_CHAR;
  return (unsigned char)r->buffer[r->start];
}

static int next(struct lisp *l, struct reader *r) {
  int c = peek(l, r);
  if (c != NO_CHAR) r->start++;
  if (c == '\n') r->line++;
  return c;
}

static int skip_space(struct lisp *l, struct reader *r) {
  for (;;) {
    int c = peek(l, r);
    if (c == ';')
      while (c != '\n' && c != NO_CHAR) c = next(l, r);
    else if (c != NO_CHAR && isspace(c))
      next(l, r);
    else
      return c;
  }
}

_Noreturn static void syntax_error(struct lisp *l, struct reader *r, const char *what) {
  r->ended = true;
  r->start = r->end = 0;
  lisp_error(l, "line %llu: %s", (unsigned long long)r->line, what);
}

/* --- data ------------------------------------------------------------------------------------------------------ */

static bool is_delimiter(int c) { return c == NO_CHAR || isspace(c) || strchr("();\"'", c) != NULL; }

static value read_atom(struct lisp *l, struct reader *r) {
  char token[TOKEN_MAX + 1], *end = NULL;
  size_t count = 0;
  while (!is_delimiter(peek(l, r))) {
    if (count == TOKEN_MAX) syntax_error(l, r, "a name is longer than 255 characters");
    token[count++] = (char)next(l, r);
  }
  token[count] = 0;
  if (strcmp(token, "#t") == 0) return constant(TRUE);
  if (strcmp(token, "#f") == 0) return constant(FALSE);
  errno = 0;
  long long n = strtoll(token, &end, 10);
  if (*end != 0 || isspace((unsigned char)token[0])) return intern(l, token, count);
  if (errno != 0 || n > FIXNUM_MAX || n < FIXNUM_MIN) syntax_error(l, r, "a number is beyond 61 bits");
  return fixnum(n);
}

static value read_string(struct lisp *l, struct reader *r) {
  char *bytes = malloc(STRING_MAX);
  uint64_t count = 0;
  int c;
  if (bytes == NULL) lisp_error(l, "out of memory");
  next(l, r);
  while ((c = next(l, r)) != '"' && c != NO_CHAR && count < STRING_MAX) {
    if (c == '\\') c = next(l, r) == 'n' ? '\n' : r->buffer[r->start - 1];
    bytes[count++] = (char)c;
  }
  if (c != '"') {
    free(bytes);
    syntax_error(l, r, c == NO_CHAR ? "a string is not closed" : "a string is longer than 65536 characters");
  }
  value string = gch_alloc_array(l->m, l->types[STRING], count);
  if (string != NULL) memcpy(string_bytes(string), bytes, count);
  free(bytes);
  if (string == NULL) lisp_error(l, "out of memory");
  return string;
}

static value read_some(struct lisp *l, struct reader *r);

/* After the opening parenthesis. */
static value read_list(struct lisp *l, struct reader *r) {
  enum { HEAD, LAST, ITEM, COUNT };
  GCH_FRAME(l->m, roots, COUNT);
  for (int c; (c = skip_space(l, r)) != ')';) {
    if (c == NO_CHAR) syntax_error(l, r, "a list is not closed");
    roots[ITEM] = read_some(l, r);
    if (roots[ITEM] == NULL || !is_kind(l, roots[ITEM], SYMBOL) ||
        !(length_of(l, gch_load(roots[ITEM], SYMBOL_NAME)) == 1 &&
          string_bytes(gch_load(roots[ITEM], SYMBOL_NAME))[0] == '.')) {
      roots[ITEM] = cons(l, roots[ITEM], NULL);
      if (roots[HEAD] == NULL)
        roots[HEAD] = roots[ITEM];
      else
        gch_set(l->m, roots[LAST], CDR, roots[ITEM]);
      roots[LAST] = roots[ITEM];
      continue;
    }
    if (roots[HEAD] == NULL) syntax_error(l, r, "a dot without anything before it");
    roots[ITEM] = read_some(l, r);
    gch_set(l->m, roots[LAST], CDR, roots[ITEM]);
    if (skip_space(l, r) != ')') syntax_error(l, r, "more than one datum after a dot");
  }
  next(l, r);
  value list = roots[HEAD];
  GCH_FRAME_END(l->m);
  return list;
}

static value read_quote(struct lisp *l, struct reader *r) {
  GCH_FRAME(l->m, roots, 1);
  next(l, r);
  roots[0] = read_some(l, r);
  roots[0] = cons(l, roots[0], NULL);
  value quoted = cons(l, l->forms[FORM_QUOTE], roots[0]);
  GCH_FRAME_END(l->m);
  return quoted;
}

static value read_some(struct lisp *l, struct reader *r) {
  check_stack(l);
  int c = skip_space(l, r);
  if (c == NO_CHAR) syntax_error(l, r, "the input ends where a datum is expected");
  if (c == ')') syntax_error(l, r, "a closing parenthesis without an opening one");
  if (c == '\'') return read_quote(l, r);
  if (c == '"') return read_string(l, r);
  if (c != '(') return read_atom(l, r);
  next(l, r);
  return read_list(l, r);
}

value read_datum(struct lisp *l, struct reader *r) {
  return skip_space(l, r) == NO_CHAR ? constant(END_OF_INPUT) : read_some(l, r);
}
