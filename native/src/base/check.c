/* The end of a process whose invariants are broken, and the hook points of the tests. See check.h. */
#include "base/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic.h"

gch_hook *gch_hook_fn;

#ifdef GCH_TSAN
uint32_t at_fence_word;
#endif

void gch_hook_run(const char *name) {
  gch_hook *hook = at_load(&gch_hook_fn);
  if (hook != NULL) hook(name);
}

/* Standard error may be closed; there is nothing else to tell. */
static void write_all(const char *text, size_t bytes) {
  while (bytes > 0) {
    ssize_t n = write(STDERR_FILENO, text, bytes);
    if (n <= 0) return;
    text += n;
    bytes -= (size_t)n;
  }
}

static size_t clip(int printed, size_t room) {
  if (printed < 0) return 0;
  return (size_t)printed < room ? (size_t)printed : room - 1;
}

void gch_check_failed(const char *file, int line, const char *condition, const char *format, ...) {
  char text[1024];
  size_t used =
      clip(snprintf(text, sizeof text, "gcheap: %s:%d: check failed: %s: ", file, line, condition), sizeof text);
  va_list args;
  va_start(args, format);
  used += clip(vsnprintf(text + used, sizeof text - used, format, args), sizeof text - used);
  va_end(args);
  if (used > sizeof text - 2) used = sizeof text - 2;
  text[used++] = '\n';
  write_all(text, used);
  abort();
}
