/* Types as data: where an object's references are. Layouts live outside the heap and are never callbacks.
 *
 * An object is an 8-byte header, then `fixed_bytes` of fields, then an optional tail of `count` elements.
 * Offsets count from the object's first byte, so the first field is at 8. Objects are rounded up to
 * 16 bytes. Objects above 8 KiB are "large" and live on pages of their own. */
#ifndef GCHEAP_TYPE_H
#define GCHEAP_TYPE_H

#include "gcheap/types.h"

#define GCH_HEADER_BYTES 8
#define GCH_SMALL_MAX 8192 /* the largest small object, header included */

typedef enum gch_tail {
  GCH_TAIL_NONE = 0, /* fixed size */
  GCH_TAIL_BYTES,    /* elements without references, `tail_bytes` each */
  GCH_TAIL_REFS,     /* references, 8 bytes each */
} gch_tail;

/* Description of a type, read once by gch_type_new; `struct_bytes` is its sizeof, and it grows as gch_config does. A word at a reference offset (or in a tail of
 * references) is a reference if (word & tag_mask) == tag_value and word & ~tag_mask is not 0; tag_mask 0:
 * every word is. References must be 8-byte aligned words. */
typedef struct gch_type_desc {
  uint32_t struct_bytes;
  uint32_t fixed_bytes; /* bytes of fields after the header; a multiple of 8 if a tail of references follows */
  const uint32_t *ref_offsets; /* `ref_count` offsets from the object's first byte, ascending */
  uint32_t ref_count;
  gch_tail tail;
  uint32_t tail_bytes; /* bytes of one element of a GCH_TAIL_BYTES tail */
  uint64_t tag_mask; /* 0..7 */
  uint64_t tag_value;
  const char *name; /* copied */
  uint64_t user; /* yours; see gch_type_user */
} gch_type_desc;

/* A type of one heap; lives as long as the heap. The fields are read by the inlined fast paths. */
struct gch_type {
  uint64_t header; /* what a fixed-size object of this type starts with */
  uint32_t bytes; /* object size without a tail, header included, rounded to 16 */
  uint32_t tail_offset; /* of the first tail element */
  uint32_t tail_bytes; /* of an element; 0: no tail */
  uint32_t leaf; /* 1: no references anywhere */
  uint32_t small_count; /* the most tail elements with which it is a small object; 0 without a tail */
  uint32_t reserved;
};

/* Registers a type. Thread-safe, never collects. GCH_BAD_VALUE names the field that is wrong;
 * GCH_NO_MEMORY after 65,535 types. */
GCH_API gch_status gch_type_new(gch_heap *heap, const gch_type_desc *desc, const gch_type **out, gch_error *error);
GCH_API const char *gch_type_name(const gch_heap *heap, const gch_type *type);
GCH_API uint64_t gch_type_user(const gch_heap *heap, const gch_type *type);

/* Type, elements in the tail and bytes (header and rounding included) of an object. Managed state. */
GCH_API const gch_type *gch_type_of(const gch_heap *heap, gch_ref object);
GCH_API uint64_t gch_length(const gch_heap *heap, gch_ref object);
GCH_API uint64_t gch_object_bytes(const gch_heap *heap, gch_ref object);

#endif
