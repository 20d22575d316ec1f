/* Majors that begin by themselves, beside the program: when they do, whether they flip, and what they leave. */
#include "hold.h"

static struct kit kit;

/* MiB: room enough for nobody to wait for it, however slowly the marking beside goes. Who waits for a major that is held up waits for
 * ever, and who finds none collects in a pause. */
enum { AMPLE = 768 };

static bool open_as(gch_mover mover, uint64_t max_mib) {
  gch_config c = kit_config(mover, max_mib, 512);
  c.gc_threads = 2;
  if (!kit_open(&kit, &c)) return false;
  kit.heap->config.pause_target_ns = 0; /* nothing fits into a pause */
  return true;
}

/* A program that keeps some and drops some makes majors begin by themselves, beside it; its memory stays within bounds. */
static void by_itself(void) {
  for (int i = 0; i < 3; i++) {
    if (!kit_available(KIT_MOVERS[i]) || !open_as(KIT_MOVERS[i], 64)) continue;
    GCH_FRAME(kit.m, root, 1);
    root[0] = kit_refs(&kit, 20000);
    uint64_t most = 0, random = 1;
    for (uint64_t n = 0; n < kit_scaled(1500000, 3); n++) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      gch_ref o = random >> 60 == 0 ? kit_refs(&kit, 600) : kit_node(&kit, n);
      if (!CHECK(o != NULL)) break;
      kit_put(&kit, root[0], random >> 33 & 0x3fff, o);
      uint64_t used = at_load(&kit.heap->used_bytes);
      if (used > most) most = used;
    }
    gch_collect_wait(kit.m, NULL);
    gch_stats s;
    gch_stats_get(kit.heap, &s, sizeof s);
    CHECK(s.major_count > 0 && s.last_major.concurrent == 1 && s.last_major.degraded == 0);
    CHECK(s.trigger_bytes <= s.goal_bytes && s.goal_bytes <= s.max_bytes);
    CHECK(most < s.max_bytes);
    kit_verify(&kit);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

/* Garbage until a major has begun by itself, and ended. */
static void wait_for_a_major(void) {
  uint64_t before = at_load(&kit.heap->measures.major_count);
  for (uint64_t n = 0; at_load(&kit.heap->measures.major_count) == before; n++)
    if (!CHECK(kit_refs(&kit, 4000) != NULL)) return;
  gch_collect_wait(kit.m, NULL);
}

/* What begins by itself flips if there is something to win: not where dense data lives among dead blocks and dead large objects,
 * but where three of four objects have died. */
static void weighs_the_flip(void) {
  enum { COUNT = 100000 };
  for (int sparse = 0; sparse < 2; sparse++) {
    if (!open_as(GCH_MOVER_MOVE, 96)) return;
    GCH_FRAME(kit.m, root, 1);
    root[0] = kit_refs(&kit, COUNT);
    for (uint64_t i = 0; i < COUNT; i++) kit_put_node(&kit, &root[0], i, i);
    kit_minor(&kit, true);
    kit_major(&kit, GCH_POLICY_ALL, false, true);
    for (uint64_t i = 0; i < COUNT && sparse; i++)
      if (i % 4 != 0) kit_put(&kit, root[0], i, NULL);
    wait_for_a_major();
    const gch_cycle *r = &kit.heap->measures.last_major;
    CHECK_EQ(r->concurrent, 1);
    CHECK_EQ(r->flip_ns != 0, sparse);
    CHECK_EQ(r->units != 0, sparse);
    CHECK_EQ(r->blocks_evacuated != 0, sparse);
    CHECK(r->bytes_released > 0);
    kit_verify(&kit);
    for (uint64_t i = 0; i < COUNT; i += 4)
      if (!CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) break;
    for (int i = 0; i < 5; i++) wait_for_a_major(); /* again and again: no region is used up */
    CHECK_EQ(kit.heap->measures.last_major.degraded, 0);
    kit_verify(&kit);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

/* The same, and minors and births in each of its phases. */
static void sweeps_beside_births(void) {
  enum { COUNT = 20000 };
  if (!open_as(GCH_MOVER_MOVE, 96)) return;
  GCH_FRAME(kit.m, root, 2);
  root[0] = kit_refs(&kit, COUNT);
  uint64_t random = 7, majors = at_load(&kit.heap->measures.major_count);
  for (uint64_t n = 0; n < kit_scaled(2000000, 10); n++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    uint64_t i = random >> 33 & 0x3fff;
    gch_ref o = random >> 61 == 0 ? kit_refs(&kit, 1500) : kit_bytes(&kit, 16 + (random >> 50 & 255));
    kit_put(&kit, root[0], i, o);
    if (random >> 58 == 1) {
      gch_ref pinned = kit_at(root[0], i);
      gch_pin(kit.m, pinned, NULL);
      kit_node(&kit, 1);
      if (random >> 52 & 1) kit_minor(&kit, random >> 51 & 1);
      gch_unpin(kit.heap, pinned);
    }
  }
  gch_collect_wait(kit.m, NULL);
  CHECK(at_load(&kit.heap->measures.major_count) > majors + 2);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* Where little has to be moved, and as little fixed, a pause is shorter than the brown-out. What was stored, born and pinned beside
 * the plan is right, too. */
static void fits_into_a_pause(void) {
  enum { COUNT = 100000 };
  for (size_t i = 0; i < (KIT_SANITIZED ? 1 : 3); i++) {
    if (!kit_available(KIT_MOVERS[i]) || !open_as(KIT_MOVERS[i], AMPLE)) continue;
    kit.heap->config.pause_target_ns = 1000000000;
    GCH_FRAME(kit.m, root, 2);
    root[0] = kit_refs(&kit, COUNT);
    for (uint64_t n = 0; n < COUNT; n++) kit_put_node(&kit, &root[0], n, n);
    kit_minor(&kit, true);
    kit_major(&kit, GCH_POLICY_ALL, false, true);
    for (uint64_t n = 0; n < COUNT; n++)
      if (n % 4 != 0) kit_put(&kit, root[0], n, NULL);
    hold_on(true);
    at_store(&hold_point, "flip_prepared");
    uint64_t majors = at_load(&kit.heap->measures.major_count);
    for (uint64_t n = 0; !at_load(&held) && n < 100000; n++) {
      kit_refs(&kit, 4000);
      gch_safepoint(kit.m);
    }
    CHECK(at_load(&held));
    gch_ref pinned = kit_at(root[0], 400);
    gch_pin(kit.m, pinned, NULL);
    for (uint64_t n = 0; n < COUNT; n += 8) { /* promoted before the pause, and by it */
      if (n == COUNT / 2) kit_minor(&kit, true);
      root[1] = kit_node(&kit, n);
      gch_set(kit.m, root[1], KIT_A, kit_at(root[0], n));
      gch_set(kit.m, kit_at(root[0], n), KIT_B, root[1]);
    }
    root[1] = kit_refs(&kit, 3000);
    for (uint64_t n = 0; n < 3000; n++) kit_put(&kit, root[1], n, kit_at(root[0], 4 * n));
    hold_end(&kit);
    const gch_cycle *r = &kit.heap->measures.last_major;
    CHECK_EQ(at_load(&kit.heap->measures.major_count), majors + 1);
    CHECK(r->concurrent == 0 && r->degraded == 0 && r->flip_ns == 0 && r->blocks_evacuated > 0);
    CHECK(kit_at(root[0], 400) == pinned);
    gch_unpin(kit.heap, pinned);
    kit_verify(&kit);
    for (uint64_t n = 0; n < COUNT; n += 4) {
      gch_ref o = kit_at(root[0], n), other = n % 8 == 0 ? gch_load(o, KIT_B) : NULL;
      if (!CHECK_EQ(*kit_number(o), n)) break;
      if (n % 8 == 0 && !CHECK(*kit_number(other) == n && gch_load(other, KIT_A) == o)) break;
      if (n < 12000 && !CHECK(kit_at(root[1], n / 4) == o)) break;
    }
    kit_major(&kit, GCH_POLICY_ALL, true, true);
    kit_verify(&kit);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

/* Large arrays of references have to be fixed, too: that does not fit, and what did not leaves no mark for ever. */
static void large_ones_do_not_fit(void) {
  enum { COUNT = 100000, ARRAYS = 24, LENGTH = 1 << 18 };
  if (!open_as(GCH_MOVER_MOVE, AMPLE)) return;
  kit.heap->config.pause_target_ns = 2000000;
  GCH_FRAME(kit.m, root, 2);
  root[0] = kit_refs(&kit, COUNT);
  for (uint64_t n = 0; n < COUNT; n++) kit_put_node(&kit, &root[0], n, n);
  kit_minor(&kit, true);
  kit_major(&kit, GCH_POLICY_ALL, true, true);
  root[1] = kit_refs(&kit, ARRAYS);
  for (uint64_t a = 0; a < ARRAYS; a++) {
    gch_ref o = kit_refs(&kit, LENGTH);
    kit_put(&kit, root[1], a, o);
    kit_put(&kit, o, a, kit_at(root[0], 4 * a));
  }
  for (uint64_t n = 0; n < COUNT; n++)
    if (n % 4 != 0) kit_put(&kit, root[0], n, NULL);
  gch_collect_wait(kit.m, NULL); /* what the arrays have begun */
  kit.heap->unit_pause_ns = 4 * UNIT_PAUSE_NS;
  do wait_for_a_major();
  while (kit.heap->measures.last_major.blocks_evacuated == 0 && at_load(&kit.heap->measures.major_count) < 20);
  const gch_cycle *r = &kit.heap->measures.last_major;
  CHECK(r->concurrent == 1 && r->flip_ns != 0 && r->blocks_evacuated > 0);
  CHECK(kit.heap->unit_pause_ns < 4 * UNIT_PAUSE_NS);
  kit_verify(&kit);
  for (uint64_t a = 0; a < ARRAYS; a++) CHECK(kit_at(kit_at(root[1], a), a) == kit_at(root[0], 4 * a));
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

int main(void) {
  kit_watchdog(60);
  if (!kit_available(GCH_MOVER_MOVE)) return 77;
  RUN(by_itself);
  RUN(weighs_the_flip);
  RUN(sweeps_beside_births);
  RUN(fits_into_a_pause);
  RUN(large_ones_do_not_fit);
  return CHECK_SUMMARY();
}
