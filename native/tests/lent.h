/* A thread that is no mutator works on pinned leaf memory, small and large, while everything else moves. */
#ifndef TESTS_LENT_H
#define TESTS_LENT_H

#include "base/clock.h"
#include "kit.h"

enum { LENT_LARGE = 300000, LENT_SMALL = 4000, LENT_NODES = 3000 };

struct lent {
  uint32_t *large, *small; /* payloads */
  uint32_t done, failures; /* [atomic] */
  uint32_t rounds; /* [atomic] of the native thread */
};

/* Writes a pattern and reads the one of the round before, for ever: a store that is lost, or a page that reads as zeros, is
 * seen a round later, flips or not. */
static inline void lent_round(struct lent *l, uint32_t *words, uint32_t count, uint32_t round) {
  for (uint32_t i = 0; i < count; i += 16) {
    if (round > 1 && words[i] != round - 1 + i) at_add(&l->failures, 1);
    words[i] = round + i;
  }
}

static inline void *lent_work(void *arg) {
  struct lent *l = (struct lent *)arg;
  for (uint32_t round = 1; !at_load(&l->done); round++) {
    lent_round(l, l->large, LENT_LARGE / 4, round);
    lent_round(l, l->small, LENT_SMALL / 4, round);
    at_store(&l->rounds, round);
  }
  return NULL;
}

/* Concurrent majors that move everything: `flips` of them at least, and more until the time is over. How many flips there were;
 * fewer than asked for: failed. */
static inline uint64_t lent_run(const gch_config *config, uint64_t flips, uint64_t until_ns) {
  struct kit k;
  struct lent l = {0};
  pthread_t thread;
  uint64_t done = 0;
  if (!kit_open(&k, config)) return 0;
  GCH_FRAME(k.m, root, 3);
  root[0] = kit_refs(&k, LENT_NODES);
  root[1] = kit_bytes(&k, LENT_LARGE);
  root[2] = kit_bytes(&k, LENT_SMALL);
  for (uint64_t i = 0; i < LENT_NODES; i++) kit_put_node(&k, &root[0], i, i);
  CHECK_EQ(gch_pin(k.m, root[1], (void **)&l.large), GCH_OK);
  CHECK_EQ(gch_pin(k.m, root[2], (void **)&l.small), GCH_OK);
  l.large += 2, l.small += 2; /* the tail begins at KIT_BYTES */
  pthread_create(&thread, NULL, lent_work, &l);
  for (; (done < flips || clock_ns() < until_ns || at_load(&l.rounds) < 2) && at_load(&l.failures) == 0; done++) {
    gch_cycle r = kit_major(&k, GCH_POLICY_ALL, true, true);
    if (!CHECK_EQ(r.concurrent, 1)) break;
    kit_put_node(&k, &root[0], done % LENT_NODES, done % LENT_NODES);
  }
  at_store(&l.done, 1);
  kit_join(&k, thread);
  for (uint64_t i = 0; i < LENT_NODES; i++)
    if (!CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) break;
  CHECK_EQ(gch_unpin(k.heap, root[1]), GCH_OK);
  CHECK_EQ(gch_unpin(k.heap, root[2]), GCH_OK);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
  return CHECK_EQ(l.failures, 0) && CHECK(l.rounds > 1) ? done : 0;
}

#endif
