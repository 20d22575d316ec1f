/* A heap of clusters of nodes, one after the other, whose references stay within a cluster, for tests of what knows that. */
#ifndef TESTS_CLUSTERS_H
#define TESTS_CLUSTERS_H

#include "hold.h"

enum { CLUSTERS = 12, NODES = 60000 }; /* 40 bytes each: a cluster fills more than an arena */
static struct kit kit;

static inline bool open_kit(gch_mover mover, gch_summaries summaries, gch_huge huge) {
  gch_config c = kit_config(mover, 256, 1024);
  c.summaries = summaries;
  c.huge = huge;
  c.gc_threads = 2;
  return kit_open(&kit, &c);
}

/* Clusters of nodes, made one after the other, so each has arenas of its own; references stay within a cluster. A table (of
 * which nobody moves) holds all of them. */
static inline void make_clusters(gch_ref *root) {
  uint64_t random = 5;
  root[0] = kit_refs(&kit, CLUSTERS * NODES);
  for (uint64_t c = 0; c < CLUSTERS; c++) {
    for (uint64_t i = 0; i < NODES; i++) kit_put_node(&kit, &root[0], c * NODES + i, c * NODES + i);
    kit_minor(&kit, true);
    for (uint64_t i = 0; i < NODES; i++) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      gch_set(kit.m, kit_at(root[0], c * NODES + i), KIT_A, kit_at(root[0], c * NODES + (random >> 33) % NODES));
    }
  }
  kit_major(&kit, GCH_POLICY_ALL, false, true); /* one region */
}

/* Three of four nodes of one cluster die. */
static inline void thin_out(gch_ref table, uint64_t cluster) {
  for (uint64_t i = 0; i < NODES; i++) {
    gch_ref node = kit_at(table, cluster * NODES + i);
    if (i % 4 == 0) gch_set(kit.m, node, KIT_A, node);
    if (i % 4 != 0) kit_put(&kit, table, cluster * NODES + i, NULL);
  }
}

static inline void check_clusters(gch_ref table, uint64_t thinned) {
  for (uint64_t i = 0; i < (uint64_t)CLUSTERS * NODES; i++) {
    gch_ref node = kit_at(table, i);
    if (i / NODES == thinned && i % 4 != 0) {
      if (!CHECK(node == NULL)) return;
      continue;
    }
    if (!CHECK_EQ(*kit_number(node), i)) return;
    if (!CHECK_EQ(*kit_number(gch_load(node, KIT_A)) / NODES, i / NODES)) return;
  }
}

#endif
