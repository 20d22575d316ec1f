/* Structs of a caller that say how large they are, in their first field: a host that was compiled with an older header has
 * fewer fields, one that was compiled with a newer header has more. */
#ifndef BASE_SIZED_H
#define BASE_SIZED_H

#include <gcheap/types.h>

struct sized {
  const char *name;
  size_t known; /* bytes that this library knows of it */
  size_t least; /* without fewer it says nothing: its first optional field */
  size_t align;
};

/* Copies what the caller's struct has over `to`, which holds the defaults. GCH_BAD_VALUE: it is too small, or a field that is
 * not known here is not zero, so that it asks for what nobody will do. */
gch_status sized_take(const struct sized *sized, void *to, const void *from, gch_error *error);

/* The other way: defaults into a struct of so many bytes; what is not known here is zero. */
void sized_give(void *to, size_t bytes, const void *defaults, size_t known);

#endif
