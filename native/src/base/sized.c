#include "base/sized.h"

#include <string.h>

#include "base/error.h"

enum { BYTES_MAX = 4096 }; /* no struct of a caller: a field that was never written */

static bool is_zero(const char *at, size_t bytes) {
  for (size_t i = 0; i < bytes; i++)
    if (at[i] != 0) return false;
  return true;
}

gch_status sized_take(const struct sized *s, void *to, const void *from, gch_error *error) {
  uint32_t bytes, known = (uint32_t)s->known;
  memcpy(&bytes, from, sizeof bytes);
  if (bytes < s->least || bytes % s->align != 0 || bytes > BYTES_MAX)
    return error_set(error, GCH_BAD_VALUE, "%s.struct_bytes is %u, expected %u: its sizeof", s->name, bytes, known);
  if (bytes > known && !is_zero((const char *)from + known, bytes - known))
    return error_set(error, GCH_BAD_VALUE,
                     "%s has a field that this library (%u bytes of it) does not know, and that is not zero", s->name,
                     known);
  memcpy(to, from, bytes < known ? bytes : known);
  memcpy(to, &known, sizeof known);
  return GCH_OK;
}

void sized_give(void *to, size_t bytes, const void *defaults, size_t known) {
  uint32_t own = (uint32_t)bytes;
  memset(to, 0, bytes);
  memcpy(to, defaults, bytes < known ? bytes : known);
  memcpy(to, &own, sizeof own);
}
