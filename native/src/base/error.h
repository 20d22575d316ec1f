/* Filling in a caller's gch_error. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <gcheap/types.h>

/* Formats into `error` (may be NULL) and returns `status`, so that failures read `return error_set(...)`. */
__attribute__((format(printf, 3, 4))) gch_status error_set(gch_error *error, gch_status status, const char *format,
                                                           ...);

#endif
