/* What was touched first in the last move is made first in the next, wherever it is by then. */
#include "gc/hot.h"

#include "heap/large.h"
#include "heap/unit.h"
#include "huge.h"

enum { COUNT = 240000, HOT = 12 };
static struct kit kit;

static bool open_as(gch_mover mover, bool huge, gch_fault_mode mode) {
  gch_config c = kit_config(mover, 256, 1024);
  c.gc_threads = 1; /* the controller makes what nobody touches, when it is let go on */
  c.fault_mode = mode;
  c.huge = huge ? GCH_HUGE_ON : GCH_HUGE_OFF;
  c.summaries = GCH_SUMMARIES_OFF; /* nothing stays at home */
  return kit_open(&kit, &c);
}

/* In root[0] nodes, in root[1] a large array of references; every fourth node stays alive in the `sparse` half. */
static void populate(gch_ref *root, bool sparse) {
  root[0] = kit_refs(&kit, COUNT);
  for (uint64_t i = 0; i < COUNT; i++) kit_put_node(&kit, &root[0], i, i);
  root[1] = kit_refs(&kit, 400000);
  kit_put(&kit, root[1], 300000, kit_at(root[0], 0));
  kit_minor(&kit, true);
  kit_major(&kit, GCH_POLICY_ALL, false, true);
  for (uint64_t i = 0; i < COUNT && sparse; i++)
    if (i % 4 != 0) kit_put(&kit, root[0], i, NULL);
}

/* The nodes that the program touches, one after the other, far apart. */
static uint64_t hot; /* how many: where arenas are huge one each, as a fault may make all of one */
static uint64_t hot_index(uint64_t i) { return (i * 7 % hot) * (COUNT / hot) / 4 * 4; }

static void begin(gch_policy policy) {
  hold_on(true);
  kit_major(&kit, policy, true, false);
}

/* Waits until whoever answered has noted, too: it does so when it has woken us. */
static uint64_t noted(void) {
  const struct hot *places = &kit.heap->hot;
  return at_load(&places->places[at_load(&places->now)].count);
}

static size_t block_of(gch_ref o) { return block_index(&kit.heap->layout, (uintptr_t)o); }

static bool is_made(gch_ref o) { return unit_state(kit.heap, block_of(o)) >= UNIT_BUSY; }

static gch_ref *watched;   /* what was hot */
static uint32_t published; /* [atomic] units */
static uint32_t made_by;   /* [atomic] so many had been when all that was hot was made; 0: not yet */

static void watch(const char *name) {
  bool all = true;
  if (strcmp(name, "unit_published") != 0 || at_load(&made_by) != 0) return;
  uint32_t now = at_add_relaxed(&published, 1) + 1;
  for (uint64_t i = 0; i < hot; i++) all = all && is_made(watched[i]);
  if (all) at_store(&made_by, now);
}

/* The first move is held up, and nodes touched; the second begins with them. */
static void touched_first(gch_mover mover, bool huge, gch_fault_mode mode, gch_policy second) {
  if (!kit_available(mover) || !open_as(mover, huge, mode)) return;
  hot = huge ? 4 : HOT;
  GCH_FRAME(kit.m, root, HOT + 3);
  populate(root, second == GCH_POLICY_NEEDED);
  for (uint64_t i = 0; i < hot; i++) root[3 + i] = kit_at(root[0], hot_index(i));
  begin(GCH_POLICY_ALL);
  for (uint64_t i = 0; i < hot; i++) {
    CHECK_EQ(*kit_number(root[3 + i]), hot_index(i));
    while (noted() < i + 1) usleep(100);
  }
  hold_end(&kit);
  begin(second);
  CHECK_EQ(at_load(&kit.heap->hot.places[at_load(&kit.heap->hot.now) ^ 1].count), hot);
  watched = &root[3];
  at_store(&published, 0);
  at_store(&made_by, 0);
  at_store(&gch_hook_fn, watch); /* lets it go on */
  hold_end(&kit);
  CHECK(at_load(&made_by) > 0 && at_load(&made_by) <= hot * (huge ? ARENA_BLOCKS : 1));
  CHECK_EQ(noted(), hot); /* kept for another move: that they are cold nobody knows */
  for (int i = 0; i < 2; i++) kit_major(&kit, GCH_POLICY_ALL, true, true);
  CHECK_EQ(noted(), 0); /* but not for ever */
  kit_verify(&kit);
  for (uint64_t i = 0; i < hot; i++) CHECK_EQ(*kit_number(kit_at(root[0], hot_index(i))), hot_index(i));
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static void relocated(void) {
  touched_first(GCH_MOVER_MOVE, false, GCH_FAULT_THREAD, GCH_POLICY_ALL);
  touched_first(GCH_MOVER_MOVE, false, GCH_FAULT_SIGNAL, GCH_POLICY_ALL);
  touched_first(GCH_MOVER_COPY, false, GCH_FAULT_THREAD, GCH_POLICY_ALL);
  touched_first(GCH_MOVER_SIMULATED, false, GCH_FAULT_THREAD, GCH_POLICY_ALL);
}
static void evacuated(void) { touched_first(GCH_MOVER_MOVE, false, GCH_FAULT_THREAD, GCH_POLICY_NEEDED); }
static void in_huge_arenas(void) {
  if (huge_available("test_hot")) touched_first(GCH_MOVER_MOVE, true, GCH_FAULT_THREAD, GCH_POLICY_ALL);
}

/* Places in what has died, in large objects that have moved, been made shorter, or been taken apart, and more than there is room for. */
static void strange_places(void) {
  if (!kit_available(GCH_MOVER_MOVE) || !open_as(GCH_MOVER_MOVE, false, GCH_FAULT_THREAD)) return;
  GCH_FRAME(kit.m, root, 3);
  populate(root, false);
  gch_heap *h = kit.heap;
  uint64_t random = 1;
  for (int round = 0; round < 12; round++) {
    struct hot_places *p = &h->hot.places[at_load(&h->hot.now)];
    for (uint64_t i = 0; i < HOT_MAX; i++) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      gch_ref o = random >> 60 ? kit_at(root[0], (random >> 30) % COUNT) : root[1];
      uintptr_t a = (uintptr_t)o + (o == root[1] ? (random >> 20) % 3200000 / GRANULE_BYTES * GRANULE_BYTES : 0);
      if (o == NULL || random >> 58 == 5)
        a = h->layout.base + (random >> 20) % (h->layout.regions[1].start - h->layout.base);
      at_store(&p->at[i], (uint64_t)(a & ~(uintptr_t)(GRANULE_BYTES - 1)));
    }
    at_store(&p->count, (uint64_t)HOT_MAX + 7);
    if (round % 4 == 1)
      for (uint64_t i = 0; i < COUNT; i++)
        if ((i >> (round / 4)) % 3 == 0) kit_put(&kit, root[0], i, NULL);
    if (round % 4 == 2) {
      gch_ref shorter = gch_resize(kit.m, root[1], round % 8 == 2 ? 40000 : 400000);
      if (CHECK(shorter != NULL)) root[1] = shorter;
    }
    kit_major(&kit, round % 2 ? GCH_POLICY_ALL : GCH_POLICY_NEEDED, true, true);
    CHECK_EQ(h->measures.last_major.degraded, 0);
    kit_verify(&kit);
  }
  for (uint64_t i = 0; i < COUNT; i++) {
    gch_ref o = kit_at(root[0], i);
    if (o != NULL && !CHECK_EQ(*kit_number(o), i)) break;
  }
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

int main(void) {
  kit_watchdog(60);
  RUN(relocated);
  RUN(evacuated);
  RUN(in_huge_arenas);
  RUN(strange_places);
  return CHECK_SUMMARY();
}
