/* What tests of marking have in common: chains of nodes that are whole or not, dead memory that is used again so that what was
 * lost would be seen, and each kind of collection. */
#ifndef TESTS_CHAINS_H
#define TESTS_CHAINS_H

#include "hold.h"
#include "mover/mover.h"

static struct kit kit;

static inline bool open_as(gch_mover mover, uint64_t max_mib) {
  gch_config c = kit_config(mover, max_mib, 512);
  c.gc_threads = 2;
  return kit_open(&kit, &c);
}

/* Each mover that works here, in the pause and (if it can) beside the program. */
static inline void each_kind(void (*body)(bool concurrent)) {
  for (size_t i = 0; i < 2 * KIT_MOVER_COUNT; i++) {
    gch_mover mover = KIT_MOVERS[i / 2];
    if (!kit_available(mover) || !open_as(mover, 64)) continue;
    if (i % 2 == 0 || kit.heap->mover->concurrent) body(i % 2);
    kit_verify(&kit);
    kit_close(&kit);
  }
}

/* Fills what is free with something else, old and young. */
static inline void use_again(void) {
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 40000; i++)
      if (!CHECK(kit_node(&kit, 0xdeaddeaddeaddeadu) != NULL)) return;
    kit_minor(&kit, true);
  }
}

/* The collection that is held goes on to its end. */
static inline void end(struct kit_request *request) {
  hold_off(&kit, request);
  CHECK_EQ(kit.heap->measures.last_major.degraded, 0);
  use_again();
  kit_verify(&kit);
}

/* A chain through KIT_A whose numbers are those from `first` on; in *root. */
static inline void make_chain(gch_ref *root, uint64_t first, uint64_t count) {
  *root = NULL;
  for (uint64_t i = count; i-- > 0;) {
    gch_ref node = kit_node(&kit, first + i);
    gch_set(kit.m, node, KIT_A, *root);
    *root = node;
  }
}

static inline void check_chain(gch_ref node, uint64_t first, uint64_t count) {
  uint64_t i = 0;
  for (; node != NULL && i < count; node = gch_load(node, KIT_A), i++)
    if (!CHECK_EQ(*kit_number(node), first + i)) return;
  CHECK(node == NULL);
  CHECK_EQ(i, count);
}

#endif
