#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

gch_status error_set(gch_error *error, gch_status status, const char *format, ...) {
  if (error == NULL) return status;
  va_list args;
  va_start(args, format);
  error->status = status;
  vsnprintf(error->message, sizeof error->message, format, args);
  va_end(args);
  return status;
}
