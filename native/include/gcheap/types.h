/* Basic types: references, status, errors.
 *
 * With GCHEAP_CDEF defined (and `gcc -E -P`) the public headers reduce to what cffi's cdef() reads:
 * no includes, no inline functions, GCH_API empty. */
#ifndef GCHEAP_TYPES_H
#define GCHEAP_TYPES_H

#ifndef GCHEAP_CDEF
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#endif

#ifdef __cplusplus
#define GCH_LINKAGE extern "C"
#else
#define GCH_LINKAGE
#endif
#ifndef GCH_API
#if defined(GCHEAP_CDEF) || defined(GCHEAP_STATIC)
#define GCH_API GCH_LINKAGE
#else
#define GCH_API GCH_LINKAGE __attribute__((visibility("default")))
#endif
#endif

/* A reference: the address of an object's 8-byte header, 16-byte aligned; NULL is the null reference. */
typedef struct gch_object gch_object;
typedef gch_object *gch_ref;

typedef struct gch_heap gch_heap;
typedef struct gch_mutator gch_mutator;
typedef struct gch_type gch_type;

/* Recoverable outcomes. A broken invariant of the heap itself prints a report and aborts instead. */
typedef enum gch_status {
  GCH_OK = 0,
  GCH_NO_MEMORY,   /* the heap's limit, the address space or the machine's memory is used up */
  GCH_BAD_VALUE,   /* an argument is out of range; the message names it and what was expected */
  GCH_BAD_STATE,   /* the call is not legal now (heap closed, mutators attached, a view exported) */
  GCH_UNSUPPORTED, /* this kernel, these permissions or this build cannot; the message says why */
  GCH_CORRUPT,     /* the verifier found a broken invariant; the message says which and where */
  GCH_STATUS_COUNT
} gch_status;

/* Details of a failure, owned by the caller. `message` is a sentence that names the value and what
 * was expected; it never consists of an errno alone. */
typedef struct gch_error {
  gch_status status;
  char message[252];
} gch_error;

/* The status's name ("no memory"); static storage. */
GCH_API const char *gch_status_name(gch_status status);

/* The version of these headers, with which a host is compiled. */
#define GCH_VERSION_MAJOR 0
#define GCH_VERSION_MINOR 1
#define GCH_VERSION_PATCH 0
/* The library's version at run time, "major.minor.patch"; static storage. */
GCH_API const char *gch_version(void);

#endif
