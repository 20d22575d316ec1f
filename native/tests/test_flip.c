/* Concurrent majors, their edges: what happens between mark, plan, flip and end beside mutators. */
#include "gc/flip.h"

#include <signal.h>

#include "gc/batch.h"
#include "heap/small.h"
#include "heap/unit.h"
#include "hold.h"
#include "lent.h"
#include "mover/mover.h"

enum { COUNT = 4000 };
static uint32_t stop;
static struct kit kit;

static bool open_concurrent_huge(struct kit *k, gch_fault_mode faults, gch_huge huge) {
  gch_config c = kit_config(GCH_MOVER_MOVE, 256, 1024);
  c.gc_threads = 1;
  c.fault_mode = faults;
  c.huge = huge;
  return kit_open(k, &c) && CHECK(k->heap->mover->concurrent);
}
static bool open_concurrent(struct kit *k, gch_fault_mode faults) {
  return open_concurrent_huge(k, faults, GCH_HUGE_OFF);
}

static enum unit_state state_at(struct kit *k, gch_ref o) {
  return unit_state(k->heap, block_index(&k->heap->layout, (uintptr_t)o));
}

/* A young reference stored into a later unit of a moved array before its first unit is mapped, then a minor. */
static void minor_beside_a_half_mapped_array(void) {
  struct kit k;
  const uint64_t count = 1 << 17, step = 8192; /* 1 MiB: 16 units of 8192 references */
  if (!open_concurrent(&k, GCH_FAULT_THREAD)) return;
  GCH_FRAME(k.m, root, 2);
  root[0] = kit_refs(&k, count);
  kit_major(&k, GCH_POLICY_ALL, false, true);
  hold_on(true);
  kit_major(&k, GCH_POLICY_ALL, true, false);
  for (uint64_t i = 2 * step; i < count; i += step) kit_put_node(&k, &root[0], i, i);
  CHECK(state_at(&k, root[0]) != UNIT_MAPPED);
  kit_minor(&k, false);
  hold_end(&k);
  for (int i = 0; i < 20000; i++) kit_node(&k, 7); /* reuses young memory */
  kit_verify(&k);
  for (uint64_t i = 2 * step; i < count; i += step)
    if (!CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) break;
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* The first large object with references of all, between flip_prepare and the flip: its region is used since. */
static void region_first_used_before_the(bool refused) {
  struct kit k;
  struct kit_request request;
  if (!open_concurrent(&k, GCH_FAULT_THREAD)) return;
  GCH_FRAME(k.m, root, 2);
  root[0] = kit_node(&k, 1);
  hold_before_flip(&k, &request, GCH_POLICY_ALL);
  if (refused) gch_inject(k.heap, "mremap:ENOMEM", NULL);
  root[1] = kit_refs(&k, 5000);
  CHECK(root[1] != NULL);
  kit_put(&k, root[1], 4000, root[0]);
  hold_off(&k, &request);
  CHECK(kit_at(root[1], 4000) == root[0]);
  CHECK_EQ(k.heap->measures.last_major.degraded, refused);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}
static void region_first_used_before_the_flip(void) { region_first_used_before_the(false); }
static void region_first_used_before_no_flip(void) { region_first_used_before_the(true); }

/* Keeps storing fresh objects that refer to old ones, in a table of its own. */
static void *storer(void *arg) {
  struct kit k = kit;
  (void)arg;
  if (gch_attach(k.heap, &k.m, NULL) != GCH_OK) return NULL;
  GCH_FRAME(k.m, root, 3);
  root[0] = kit_refs(&k, COUNT); /* what is referred to */
  root[1] = kit_refs(&k, COUNT); /* what refers */
  for (uint64_t i = 0; i < COUNT; i++) kit_put_node(&k, &root[0], i, i);
  for (uint64_t i = 0; !at_load(&stop); i++) {
    root[2] = kit_node(&k, i % COUNT);
    gch_set(k.m, root[2], KIT_A, kit_at(root[0], i % COUNT));
    kit_put(&k, root[1], i % COUNT, root[2]);
    gch_safepoint(k.m);
  }
  GCH_FRAME_END(k.m);
  gch_detach(k.m);
  return NULL;
}

/* A cycle that finishes in the pause: what was born since its mark has its references forwarded too. */
static void handler_replaced(void) {
  pthread_t thread;
  if (!open_concurrent(&kit, GCH_FAULT_SIGNAL)) return;
  at_store(&stop, 0);
  signal(SIGBUS, SIG_DFL); /* replaces the heap's */
  pthread_create(&thread, NULL, storer, NULL);
  for (int i = 0; i < 60; i++) {
    gch_cycle r = kit_major(&kit, GCH_POLICY_ALL, true, true);
    CHECK(r.degraded && strstr(r.reason, "handler") != NULL);
    if (!kit_verify(&kit)) break;
  }
  at_store(&stop, 1);
  kit_join(&kit, thread);
  kit_close(&kit);
}

/* Flips that the kernel refuses, before or in their pause, beside a thread that stores all the time. */
static void flips_refused(void) {
  static const char *const specs[] = {"mremap:ENOMEM", "register:ENOMEM", "mremap:ENOMEM@p=0.97",
                                      "unregister:ENOMEM@p=0.9"};
  pthread_t thread;
  for (int s = 0; s < 4; s++) {
    if (!open_concurrent(&kit, GCH_FAULT_THREAD)) return;
    at_store(&stop, 0);
    pthread_create(&thread, NULL, storer, NULL);
    gch_inject(kit.heap, specs[s], NULL);
    for (int i = 0; i < 12; i++) {
      gch_cycle r = kit_major(&kit, i & 1 ? GCH_POLICY_NEEDED : GCH_POLICY_ALL, true, true);
      CHECK(r.degraded || s > 1);
      if (!kit_verify(&kit)) break;
    }
    at_store(&stop, 1);
    kit_join(&kit, thread);
    kit_close(&kit);
  }
}

static void wait_for_what_was_asked(void) {
  struct kit k;
  if (!open_concurrent(&k, GCH_FAULT_THREAD)) return;
  for (uint64_t i = 1; i <= 20; i++) {
    kit_major(&k, GCH_POLICY_ALL, true, false);
    gch_collect_wait(k.m, NULL);
    if (!CHECK_EQ(at_load(&k.heap->measures.major_count), i)) break;
  }
  kit_close(&k);
}

/* I6: pinned after the flip, before its unit is mapped; a system call of native code sees it, in signal mode too. */
static void pinned_in_an_armed_unit(void) {
  struct kit k;
  int fds[2];
  char got[64];
  void *payload[40];
  uint32_t armed = 0;
  if (!open_concurrent(&k, GCH_FAULT_SIGNAL)) return;
  GCH_FRAME(k.m, root, 40);
  CHECK_EQ(pipe(fds), 0);
  for (int i = 0; i < 40; i++) root[i] = kit_bytes(&k, 100000);
  kit_major(&k, GCH_POLICY_ALL, false, true);
  hold_on(true);
  kit_major(&k, GCH_POLICY_ALL, true, false);
  for (int i = 1; i < 40; i++) {
    armed += state_at(&k, root[i]) == UNIT_ARMED;
    if (!CHECK_EQ(gch_pin(k.m, root[i], &payload[i]), GCH_OK)) continue;
    if (!CHECK_EQ(write(fds[1], (char *)payload[i] + 70000, sizeof got), (ssize_t)sizeof got)) break;
    CHECK_EQ(read(fds[0], got, sizeof got), (ssize_t)sizeof got);
  }
  CHECK(armed > 0);
  hold_end(&k);
  for (int i = 1; i < 40; i++) CHECK_EQ(gch_unpin(k.heap, root[i]), GCH_OK);
  close(fds[0]), close(fds[1]);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* Pinned between plan and flip, by a mutator whose young object refers to it: the flip's minor must not send that
 * reference to the destination that stays empty. */
static void pinned_since(gch_policy policy, bool refused, gch_huge huge) {
  struct kit k;
  struct kit_request request;
  if (!open_concurrent_huge(&k, GCH_FAULT_THREAD, huge)) return;
  GCH_FRAME(k.m, root, 5);
  root[2] = kit_refs(&k, 2000);
  root[3] = kit_bytes(&k, 50000);
  root[0] = kit_refs(&k, COUNT);
  for (uint64_t i = 0; i < 3 * COUNT; i++) { /* two of three die: sparse blocks, to be evacuated */
    gch_ref o = kit_node(&k, i / 3);
    if (i % 3 == 0) kit_put(&k, root[0], i / 3, o);
  }
  kit_minor(&k, true);
  kit_put(&k, root[2], 1900, kit_at(root[0], 5));
  root[4] = kit_node(&k, 2); /* young and pinned: kept where it is, its reference followed */
  gch_ref kept = root[4];
  gch_set(k.m, kept, KIT_A, kit_at(root[0], 6));
  CHECK_EQ(gch_pin(k.m, kept, NULL), GCH_OK);
  hold_before_flip(&k, &request, policy);
  if (refused) gch_inject(k.heap, "mremap:ENOMEM", NULL);
  gch_ref pinned = kit_at(root[0], COUNT / 2), large[] = {root[2], root[3]};
  for (int i = 0; i < 2; i++) CHECK_EQ(gch_pin(k.m, large[i], NULL), GCH_OK);
  CHECK_EQ(gch_pin(k.m, pinned, NULL), GCH_OK);
  root[1] = kit_node(&k, 1);
  gch_set(k.m, root[1], KIT_A, pinned);
  hold_off(&k, &request);
  CHECK(gch_load(root[1], KIT_A) == pinned && kit_at(root[0], COUNT / 2) == pinned);
  CHECK(root[2] == large[0] && root[3] == large[1] && kit_at(root[2], 1900) == kit_at(root[0], 5));
  CHECK(root[4] == kept && gch_load(kept, KIT_A) == kit_at(root[0], 6));
  CHECK_EQ(k.heap->measures.last_major.degraded, refused);
  for (uint64_t i = 0; i < COUNT; i++)
    if (!CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) break;
  kit_verify(&k);
  CHECK_EQ(gch_unpin(k.heap, pinned), GCH_OK);
  CHECK_EQ(gch_unpin(k.heap, kept), GCH_OK);
  for (int i = 0; i < 2; i++) CHECK_EQ(gch_unpin(k.heap, large[i]), GCH_OK);
  gch_inject(k.heap, "", NULL);
  CHECK(!kit_major(&k, GCH_POLICY_ALL, true, true).degraded);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}
static void pinned_since_the_plan(void) {
  for (int huge = GCH_HUGE_ON; huge <= GCH_HUGE_OFF; huge++) {
    pinned_since(GCH_POLICY_NEEDED, false, (gch_huge)huge);
    pinned_since(GCH_POLICY_ALL, false, (gch_huge)huge);
  }
}
static void pinned_since_a_plan_that_is_not_flipped(void) {
  for (int huge = GCH_HUGE_ON; huge <= GCH_HUGE_OFF; huge++) {
    pinned_since(GCH_POLICY_NEEDED, true, (gch_huge)huge);
    pinned_since(GCH_POLICY_ALL, true, (gch_huge)huge);
  }
}

/* What is born after everything was reset at the end of a cycle must not count as born in the next. */
static void born_at_the_end(void) {
  struct kit k;
  pthread_t thread;
  if (!open_concurrent(&kit, GCH_FAULT_THREAD)) return;
  k = kit;
  at_store(&stop, 0);
  pthread_create(&thread, NULL, storer, NULL);
  GCH_FRAME(k.m, root, 64);
  for (uint64_t i = 0; i < 40; i++) {
    kit_major(&k, GCH_POLICY_ALL, true, false);
    while (at_load(&k.heap->phase) != GCH_PHASE_IDLE) {
      uint64_t j = (uint64_t)rand() % 64;
      root[j] = kit_refs(&k, 1200 + j);
      if (root[j] != NULL) kit_put(&k, root[j], j, root[(j + 1) % 64]);
      gch_safepoint(k.m);
    }
    kit_major(&k, GCH_POLICY_ALL, i & 1, true);
    if (!kit_verify(&k)) break;
    for (uint64_t j = 0; j < 64; j++) root[j] = NULL;
  }
  at_store(&stop, 1);
  kit_join(&k, thread);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* Minors, one after the other, while the collector gets ready for a flip: it looks at nothing that a minor writes. */
static void minors_while_preparing(void) {
  gch_config c = kit_config(GCH_MOVER_MOVE, 64, 256);
  pthread_t thread;
  if (!kit_open(&kit, &c)) return;
  GCH_FRAME(kit.m, root, 1);
  root[0] = kit_refs(&kit, COUNT);
  for (uint64_t i = 0; i < COUNT; i++) kit_put_node(&kit, &root[0], i, i);
  at_store(&stop, 0);
  pthread_create(&thread, NULL, storer, NULL);
  for (int i = 0; i < 30; i++) kit_major(&kit, GCH_POLICY_ALL, true, true);
  at_store(&stop, 1);
  kit_join(&kit, thread);
  for (uint64_t i = 0; i < COUNT; i++)
    if (!CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) break;
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static uint32_t populated[2]; /* blocks of the regions that promotion uses, when the flip begins */

static void count_populated(const char *name) {
  gch_heap *h = kit.heap;
  if (strcmp(name, "phase_entered") != 0 || at_load(&h->phase) != GCH_PHASE_FLIP) return;
  for (int leaf = 0; leaf < 2; leaf++) {
    uint32_t region = leaf ? h->leaf.alloc_region : h->held_out[0], first, count = region_arenas(h, region, &first);
    populated[leaf] = 0;
    for (uint32_t a = first; a < first + count; a++)
      populated[leaf] += (uint32_t)__builtin_popcount(h->tables.arenas[a].populated);
  }
}

/* What is populated for promotion before the flip: what lives in the young space, never more than the staging budget, and
 * nothing where the kernel has no memory: promotion takes it on demand. */
static void memory_for_promotion(void) {
  static const uint64_t nodes[] = {0, 3000, 40000};
  for (int c = 0; c < 6; c++) {
    gch_config config = kit_config(GCH_MOVER_MOVE, 256, 4096);
    config.staging_bytes = 1 << 20;
    config.huge = c < 3 ? GCH_HUGE_OFF : GCH_HUGE_ON;
    if (!kit_open(&kit, &config)) return;
    GCH_FRAME(kit.m, root, 1);
    root[0] = kit_refs(&kit, nodes[2]);
    for (uint64_t i = 0; i < nodes[c % 3]; i++) kit_put_node(&kit, &root[0], i, i);
    at_store(&gch_hook_fn, count_populated);
    kit_major(&kit, GCH_POLICY_ALL, true, true);
    uint64_t live = div_ceil(nodes[c % 3] * 40, BLOCK_BYTES), budget = config.huge == GCH_HUGE_ON ? 0 : 16;
    CHECK(populated[0] >= (live < budget ? live : budget));
    CHECK(populated[0] + populated[1] <= (live + 8 < budget ? live + 8 : budget));
    CHECK_EQ(gch_inject(kit.heap, "populate:ENOMEM@every=2", NULL), GCH_OK);
    for (int i = 0; i < 4; i++) kit_major(&kit, GCH_POLICY_ALL, true, true);
    gch_inject(kit.heap, "", NULL);
    at_store(&gch_hook_fn, NULL);
    for (uint64_t i = 0; i < nodes[c % 3]; i++)
      if (!CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) break;
    kit_verify(&kit);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

/* Free pages of the leaf region that the kernel would not take back are no destinations: they would not be missing. */
static void leaf_destinations_kept(void) {
  enum { LEAVES = 24, BYTES = 200000 };
  gch_config c = kit_config(GCH_MOVER_MOVE, 256, 1024);
  c.huge = GCH_HUGE_OFF;
  if (!kit_open(&kit, &c)) return;
  GCH_FRAME(kit.m, root, LEAVES);
  for (int cycle = 0; cycle < 6; cycle++) {
    for (int i = 0; i < LEAVES; i++) {
      root[i] = kit_bytes(&kit, BYTES);
      memset(gch_payload(root[i]), i + 1, BYTES);
    }
    CHECK_EQ(gch_inject(kit.heap, cycle % 2 ? "drop:ENOMEM" : "drop:ENOMEM@every=3", NULL), GCH_OK);
    for (int i = 0; i < LEAVES; i += 2) root[i] = NULL;
    kit_major(&kit, GCH_POLICY_ALL, true, false);
    for (int i = 1; i < LEAVES; i += 2) {
      const uint8_t *bytes = gch_payload(root[i]);
      for (uint64_t b = 0; b < BYTES; b += 1000)
        if (!CHECK_EQ(bytes[b], i + 1)) break;
      gch_safepoint(kit.m);
    }
    gch_collect_wait(kit.m, NULL);
    gch_inject(kit.heap, "", NULL);
    if (!kit_verify(&kit)) break;
  }
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* Evacuated destinations are touched in the worst order, every other one first, so that none of them leaves a source that
 * nobody reads any more, while the collector is held up: memory stays within the budget all the same (I4). */
static void worst_order_within_the_budget(void) {
  enum { NODES = 600000 };
  gch_config c = kit_config(GCH_MOVER_MOVE, 256, 1024);
  c.gc_threads = 1;
  c.fault_mode = GCH_FAULT_SIGNAL;
  c.staging_bytes = 1 << 20;
  c.huge = GCH_HUGE_OFF;
  if (!kit_open(&kit, &c)) return;
  GCH_FRAME(kit.m, root, 1);
  root[0] = kit_refs(&kit, NODES);
  for (uint64_t i = 0; i < NODES; i++) kit_put_node(&kit, &root[0], i, i);
  kit_minor(&kit, true);
  for (uint64_t i = 0; i < NODES; i += 8) kit_put(&kit, root[0], i, NULL); /* seven of eight live, in every block */
  hold_on(true);
  kit_major(&kit, GCH_POLICY_ALL, true, false);
  int64_t most = 0, limit = (int64_t)kit.heap->frames.slots * BLOCK_BYTES;
  uint64_t dests = kit.heap->plan->dest_count, left = 0, last = UINT64_MAX;
  for (uint64_t i = 1; i < NODES; i++) {
    gch_ref o = i % 8 == 0 ? NULL : kit_at(root[0], i);
    uint64_t block = (uintptr_t)o >> BLOCK_SHIFT;
    if (o == NULL || block == last || block % 2 != 0) continue;
    last = block;
    if (state_at(&kit, o) != UNIT_ARMED) continue; /* made in order meanwhile, or BUSY: the one that is held up */
    left++;
    if (!CHECK_EQ(*kit_number(o), i)) break;
    int64_t extra = at_load(&kit.heap->frames.extra);
    if (extra > most) most = extra;
  }
  CHECK(dests > 8 * kit.heap->frames.slots); /* else this shows nothing */
  CHECK(left > kit.heap->frames.slots);
  CHECK(most > limit / 2);
  CHECK(most <= limit + 2 * BATCH_UNITS * BLOCK_BYTES);
  hold_end(&kit);
  for (uint64_t i = 1; i < NODES; i += 5)
    if (i % 8 != 0 && !CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) break;
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* I6, through as many flips as a test has time for; stress_lent makes 10,000. */
static void lent_memory(void) {
  const uint64_t flips = kit_scaled(150, 10);
  const gch_mover movers[] = {GCH_MOVER_MOVE, GCH_MOVER_COPY, GCH_MOVER_SIMULATED};
  for (int i = 0; i < 3; i++)
    for (int mode = 0; mode < GCH_FAULT_COUNT && kit_available(movers[i]); mode++) {
      gch_config c = kit_config(movers[i], 64, 512);
      c.fault_mode = movers[i] == GCH_MOVER_SIMULATED ? GCH_FAULT_THREAD : (gch_fault_mode)mode;
      c.gc_threads = 2;
      CHECK(lent_run(&c, flips, 0) >= flips);
    }
}

int main(void) {
  kit_growth = GCH_GROWTH_NEVER;
  if (!kit_available(GCH_MOVER_MOVE)) {
    printf("  SKIP test_flip: move: not available here\n");
    return CHECK_EXIT_SKIPPED;
  }
  kit_watchdog(60);
  RUN(minor_beside_a_half_mapped_array);
  RUN(region_first_used_before_the_flip);
  RUN(region_first_used_before_no_flip);
  RUN(handler_replaced);
  RUN(flips_refused);
  RUN(wait_for_what_was_asked);
  RUN(pinned_in_an_armed_unit);
  RUN(pinned_since_the_plan);
  RUN(pinned_since_a_plan_that_is_not_flipped);
  RUN(born_at_the_end);
  RUN(minors_while_preparing);
  RUN(memory_for_promotion);
  RUN(leaf_destinations_kept);
  RUN(lent_memory);
  RUN(worst_order_within_the_budget);
  return CHECK_SUMMARY();
}
