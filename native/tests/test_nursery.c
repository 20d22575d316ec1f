/* How large eden is (heap/nursery.h), simulated: programs of which a part survives, machines that copy at various speeds; and that a
 * heap does as the policy says. */
#include "heap/nursery.h"

#include "base/units.h"
#include "kit.h"

enum { LEAST = 256 << 10, MOST = 4 << 20 };

struct program {
  double survives; /* of what eden holds */
  double byte_ns; /* for a survivor */
  double fixed_ns;
  double noise; /* the time is so much more or less, as a part */
};

struct outcome {
  double longest_ns, late; /* after the first 16 minors: the longest; how many were beyond the target, as a part */
  double mean_bytes, least_bytes;
};

static double chance(void) {
  static uint64_t random = 1;
  random = random * 6364136223846793005u + 1442695040888963407u;
  return (double)(random >> 40) / (1 << 24);
}

static struct outcome simulate(struct nursery *n, const struct program *p, int minors) {
  struct outcome o = {.least_bytes = MOST};
  int settled = 0;
  for (int i = 0; i < minors; i++) {
    double live = p->survives * (double)n->bytes;
    double ns = (p->fixed_ns + live * p->byte_ns) * (1 + p->noise * (2 * chance() - 1));
    struct nursery_minor m = {n->bytes, (uint64_t)live, (uint64_t)ns};
    nursery_note(n, &m);
    CHECK(n->bytes >= n->least && n->bytes <= n->most);
    if (i < 16) continue;
    settled++;
    if (ns > o.longest_ns) o.longest_ns = ns;
    o.late += ns > (double)n->target_ns;
    o.mean_bytes += (double)n->bytes;
    if ((double)n->bytes < o.least_bytes) o.least_bytes = (double)n->bytes;
  }
  o.late /= settled;
  o.mean_bytes /= settled;
  return o;
}

static struct nursery fresh(void) {
  struct nursery n;
  nursery_init(&n, LEAST, MOST, 2 * NS_PER_MS);
  return n;
}

/* What is short enough stays as it is. */
static void little_survives(void) {
  struct nursery n = fresh();
  struct program p = {0.02, 2, 100000, 0.3};
  CHECK(simulate(&n, &p, 500).least_bytes >= MOST);
}

static void much_survives(void) {
  for (double survives = 0.1; survives <= 1; survives += 0.1)
    for (double ns = 0.5; ns <= 4; ns *= 2) {
      struct nursery n = fresh();
      struct program p = {survives, ns, 100000, 0};
      struct outcome o = simulate(&n, &p, 500);
      CHECK(o.longest_ns <= 2e6);
      double most = 1.4e6 / (survives * ns); /* no smaller than it has to be */
      CHECK(o.mean_bytes >= 0.6 * (most > MOST ? MOST : most) || o.mean_bytes <= 1.01 * LEAST);
      p.noise = 0.25;
      CHECK(simulate(&n, &p, 500).late < 0.05);
    }
}

/* It comes down with the first few, and up again when less survives. */
static void changes(void) {
  struct nursery n = fresh();
  struct program heavy = {1, 2, 100000, 0}, light = {0.01, 2, 100000, 0};
  simulate(&n, &heavy, 4);
  CHECK(n.bytes <= 1000 * KIB);
  simulate(&n, &light, 80);
  CHECK_EQ(n.bytes, MOST);
  simulate(&n, &heavy, 4);
  CHECK(n.bytes <= 1000 * KIB);
}

/* Roots that take longer than the target: a small eden would make more of the same pauses. */
static void not_due_to_survivors(void) {
  struct nursery n = fresh();
  struct program p = {0.05, 1, 4e6, 0.02};
  struct outcome o = simulate(&n, &p, 2000);
  CHECK(o.mean_bytes > 0.5 * MOST);
}

static void fixed(void) {
  struct nursery n;
  struct program p = {1, 10, 0, 0};
  nursery_init(&n, MOST, MOST, 1);
  CHECK_EQ((uint64_t)simulate(&n, &p, 100).least_bytes, MOST);
}

static void extremes(void) {
  struct nursery n = fresh();
  static const uint64_t values[] = {0, 1, MOST, UINT64_MAX};
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++)
      for (int k = 0; k < 4; k++) {
        struct nursery_minor m = {values[i], values[j], values[k]};
        nursery_note(&n, &m);
        CHECK(n.bytes >= LEAST && n.bytes <= MOST);
      }
  CHECK_EQ(nursery_for_cache(0, LEAST, MOST), MOST);
  CHECK_EQ(nursery_for_cache(1 << 10, LEAST, MOST), LEAST);
  CHECK_EQ(nursery_for_cache(4 * MIB, LEAST, MOST), 2 * MIB);
  CHECK_EQ(nursery_for_cache(320 * MIB, LEAST, MOST), MOST);
}

/* --- a heap ----------------------------------------------------------------------------------------------------- */

/* All that is young survives, again and again. */
static uint64_t nursery_after(uint64_t nursery_kib, uint64_t target_ns) {
  struct kit k;
  gch_stats s;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 128, nursery_kib);
  c.pause_target_ns = target_ns;
  if (!kit_open(&k, &c)) return 0;
  gch_stats_get(k.heap, &s, sizeof s);
  CHECK(nursery_kib == 0 ? s.nursery_bytes <= 4 * MIB : s.nursery_bytes == nursery_kib * KIB);
  CHECK_EQ(s.pause_target_ns, target_ns != 0 ? target_ns : 2 * NS_PER_MS);
  GCH_FRAME(k.m, root, 1);
  root[0] = kit_refs(&k, 400000);
  for (uint64_t i = 0; i < 400000; i++) kit_put_node(&k, &root[0], i, i);
  gch_stats_get(k.heap, &s, sizeof s);
  const struct nursery *n =
      &k.heap->nursery; /* what minors took depends on the machine; that the policy was told of them does not */
  if (nursery_kib == 0) CHECK(n->ns > 0 && n->size > 0 && n->survival * 1024 > 0.5);
  CHECK(s.nursery_bytes >= n->least && s.nursery_bytes <= n->most);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
  return s.nursery_bytes;
}

static void of_a_heap(void) {
  CHECK(nursery_after(0, 500000) >= LEAST);
  CHECK(nursery_after(0, 10 * NS_PER_S) >= 512 * KIB); /* (what the cache allows) */
  CHECK_EQ(nursery_after(2048, 500000), 2 * MIB); /* as it was asked for */
}

int main(void) {
  RUN(little_survives);
  RUN(much_survives);
  RUN(changes);
  RUN(not_due_to_survivors);
  RUN(fixed);
  RUN(extremes);
  RUN(of_a_heap);
  return CHECK_SUMMARY();
}
