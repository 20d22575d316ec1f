/* How large batches are (heap/batching.h), simulated: what calls cost on machines that idle, are busy, or change; and that units are
 * published in batches of any size. */
#include "heap/batching.h"

#include "kit.h"
#include "mover/mover.h"

struct machine {
  uint64_t fixed_ns, unit_ns, make_ns;
};

static uint64_t random_below(uint64_t n) {
  static uint64_t random = 1;
  random = random * 6364136223846793005u + 1442695040888963407u;
  return (random >> 33) % n;
}

/* Batches as large as they may be, some of them cut short; one call in 50 is put off its CPU for milliseconds. */
static uint32_t run(struct batching *b, const struct machine *m, int calls) {
  for (int i = 0; i < calls; i++) {
    uint32_t most = batching_units(b), units = random_below(3) ? most : 1 + (uint32_t)random_below(most);
    uint64_t publish = m->fixed_ns + units * m->unit_ns;
    publish += random_below(publish / 4 + 1);
    if (random_below(50) == 0) publish += 3000000;
    batching_note(b, units, units * m->make_ns, publish);
  }
  return batching_units(b);
}

static uint32_t best(const struct machine *m) {
  uint64_t each = m->unit_ns + m->make_ns, units = (m->fixed_ns * 20 + each - 1) / each;
  return units < 1 ? 1 : units > BATCH_UNITS ? BATCH_UNITS : (uint32_t)units;
}

static void machines(void) {
  static const struct machine all[] = {
      {10000, 5000, 15000}, /* beside a busy CPU */
      {1000, 5000, 15000}, /* all others idle */
      {1000, 5000, 1000}, /* pages without references */
      {100, 20000, 100},    {30000, 10, 10}, {2500, 4000, 12000},
  };
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    struct batching b = {0};
    CHECK_EQ(batching_units(&b), BATCH_UNITS);
    uint32_t got = run(&b, &all[i], 2000), want = best(&all[i]);
    CHECK(got + 1 >= want && got <= want + 1);
  }
}

/* The program stops, and goes on again: so do the other CPUs. */
static void changes(void) {
  static const struct machine busy = {10000, 5000, 15000}, idle = {1000, 5000, 15000};
  struct batching b = {0};
  for (int i = 0; i < 3; i++) {
    CHECK(run(&b, &busy, 6000) >= BATCH_UNITS - 1);
    CHECK(run(&b, &idle, 6000) <= 3);
  }
}

static void extremes(void) {
  static const uint64_t values[] = {0, 1, 1000000000, UINT64_MAX / 2};
  struct batching b = {0};
  for (int i = 0; i < 64; i++) {
    batching_note(&b, 1 + (uint32_t)random_below(BATCH_UNITS), values[i % 4], values[i / 4 % 4]);
    uint32_t units = batching_units(&b);
    CHECK(units >= 1 && units <= BATCH_UNITS);
  }
}

/* A heap measures, and moves rightly with whatever size comes of it. */
static void of_a_heap(void) {
  static const struct batching set[] = {{100, 1000000, 1000000}, {1000000, 1, 1}, {4000, 1000, 19000}};
  for (size_t i = 0; i < KIT_MOVER_COUNT; i++) {
    struct kit k;
    gch_config c = kit_config(KIT_MOVERS[i], 64, 512);
    if (!kit_available(KIT_MOVERS[i]) || !kit_open(&k, &c)) continue;
    if (!k.heap->mover->concurrent) {
      kit_close(&k);
      continue;
    }
    GCH_FRAME(k.m, root, 1);
    root[0] = kit_refs(&k, 40000);
    for (uint64_t n = 0; n < 40000; n++) kit_put_node(&k, &root[0], n, n);
    for (size_t s = 0; s < 3; s++) {
      k.heap->batching = set[s];
      gch_cycle r = kit_major(&k, GCH_POLICY_ALL, true, true);
      CHECK(r.units > 0 && !r.degraded);
      CHECK(k.heap->batching.make_ns != set[s].make_ns);
      kit_verify(&k);
    }
    for (uint64_t n = 0; n < 40000; n++)
      if (!CHECK_EQ(*kit_number(kit_at(root[0], n)), n)) break;
    GCH_FRAME_END(k.m);
    kit_close(&k);
  }
}

int main(void) {
  kit_watchdog(60);
  RUN(machines);
  RUN(changes);
  RUN(extremes);
  RUN(of_a_heap);
  return CHECK_SUMMARY();
}
