/* What the tests of gch_resize share: every mover with and without huge pages, arrays that are numbered. */
#ifndef TESTS_RESIZING_H
#define TESTS_RESIZING_H

#include "heap/small.h"
#include "hold.h"
#include "mover/mover.h"

enum { MIB = 1 << 20 };

static inline bool open_with(struct kit *k, gch_mover mover, gch_huge huge) {
  gch_config c = kit_config(mover, 256, 1024);
  c.gc_threads = 2;
  c.huge = huge;
  return kit_available(mover) && kit_open(k, &c);
}

static gch_mover movers[] = {GCH_MOVER_MOVE, GCH_MOVER_COPY, GCH_MOVER_SIMULATED, GCH_MOVER_MEMCPY, GCH_MOVER_SLIDE};

static inline void each_mover(void (*test)(struct kit *k)) {
  for (size_t i = 0; i < 2 * sizeof movers / sizeof movers[0]; i++) {
    struct kit k;
    if (!open_with(&k, movers[i / 2], i % 2 ? GCH_HUGE_ON : GCH_HUGE_OFF)) continue;
    test(&k);
    kit_verify(&k);
    kit_close(&k);
  }
}

/* --- contents ------------------------------------------------------------------------------------------------- */

/* Element i is a node of number i, or null, if i % 3 is 0. */
static inline void number(struct kit *k, gch_ref *array, uint64_t from, uint64_t to) {
  for (uint64_t i = from; i < to; i++)
    if (i % 3 != 0) kit_put_node(k, array, i, i);
}

static inline bool numbered(struct kit *k, gch_ref array, uint64_t count, uint64_t length) {
  if (!CHECK_EQ(gch_length(k->heap, array), length)) return false;
  for (uint64_t i = 0; i < length; i++) {
    gch_ref node = kit_at(array, i);
    if (i < count && i % 3 != 0 ? node == NULL || *kit_number(node) != i : node != NULL) return CHECK_EQ(i, UINT64_MAX);
  }
  return true;
}

static inline void fill_bytes(gch_ref o, uint64_t from, uint64_t to) {
  for (uint64_t i = from; i < to; i++) ((uint8_t *)(void *)o)[KIT_BYTES + i] = (uint8_t)(i * 7 + (i >> 9) + 1);
}

static inline bool has_bytes(struct kit *k, gch_ref o, uint64_t count, uint64_t length) {
  if (!CHECK_EQ(gch_length(k->heap, o), length)) return false;
  for (uint64_t i = 0; i < length; i += KIT_SANITIZED ? 251 : 1) /* some in each page */
    if (((uint8_t *)(void *)o)[KIT_BYTES + i] != (i < count ? (uint8_t)(i * 7 + (i >> 9) + 1) : 0))
      return CHECK_EQ(i, UINT64_MAX);
  return true;
}

static inline uint64_t used(struct kit *k) { return at_load_relaxed(&k->heap->used_bytes); }

#endif
