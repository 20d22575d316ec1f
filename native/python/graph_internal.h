/* Shared by load and extraction: what an object of a graph looks like. */
#ifndef PYTHON_GRAPH_INTERNAL_H
#define PYTHON_GRAPH_INTERNAL_H

#include <string.h>

#include "python/bulk_internal.h"
#include "python/graph.h"

enum {
  GRAPH_FIXED_MAX = 62,   /* references of a fixed layout: all in the type's first 64 words */
  GRAPH_LABEL_BYTES = 8,
  GRAPH_KIND_SHIFT = 56,  /* of a type's `user` word: kind, then the name's number */
};

static inline uint64_t graph_user(bulk_kind kind, uint32_t name) { return (uint64_t)kind << GRAPH_KIND_SHIFT | name; }
static inline uint64_t graph_kind(const struct type_info *type) { return type->user >> GRAPH_KIND_SHIFT; }

/* Reference slots of the object that the graph knows of; *first is the offset of the first. */
static inline uint64_t graph_degree(const gch_heap *h, gch_ref object, const struct type_info *type, uint64_t *first) {
  *first = GCH_HEADER_BYTES;
  if (graph_kind(type) == BULK_KIND_GRAPH) return popcount64(type->ref_bits);
  if (graph_kind(type) != BULK_KIND_GRAPH_WIDE) return gch_length(h, object);
  *first = 2 * GCH_HEADER_BYTES;
  return *(const uint64_t *)gch_payload(object);
}

/* --- bytes ---------------------------------------------------------------------------------------------------- */

static inline uint64_t graph_word(uint64_t label, uint64_t i) {
  return i == 0 ? label : (label + i) * 0x9e3779b97f4a7c15u;
}

static inline void graph_fill(void *bytes, uint64_t count, uint64_t label) {
  uint8_t *to = bytes;
  uint64_t words = count / 8;
  for (uint64_t i = 0; i < words; i++) {
    uint64_t word = graph_word(label, i);
    memcpy(to + 8 * i, &word, 8);
  }
  uint64_t last = words == 0 ? UINT64_MAX : graph_word(label, words);
  memcpy(to + 8 * words, &last, count % 8);
}

/* Whether the bytes are those of the label in them; *label -1 if there is none. */
static inline bool graph_check(const void *bytes, uint64_t count, int64_t *label) {
  const uint8_t *from = bytes;
  uint64_t words = count / 8, differ = 0, first = 0, word, last = UINT64_MAX;
  if (words != 0) memcpy(&first, from, 8);
  *label = words != 0 ? (int64_t)first : -1;
  for (uint64_t i = 1; i < words; i++) {
    memcpy(&word, from + 8 * i, 8);
    differ |= word ^ graph_word(first, i);
  }
  if (words != 0) last = graph_word(first, words);
  return differ == 0 && memcmp(from + 8 * words, &last, count % 8) == 0;
}

#endif
