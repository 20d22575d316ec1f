/* The reserve (gc/reserve.h): promotion finds memory, in every phase in which it may be filled; whoever meets blocks that are just
 * being given memory, and what becomes of them if there is none. */
#include "gc/reserve.h"

#include "heap/small.h"
#include "kit.h"

static struct kit kit;
static uint64_t fills[GCH_PHASE_COUNT]; /* [atomic] steps, by phase */
static uint32_t hold, held; /* [atomic] the next step is held up; one is */

static void note_fill(const char *name) {
  if (strcmp(name, "reserve_filling") != 0) return;
  at_add_relaxed(&fills[at_load(&kit.heap->phase)], 1);
  if (at_load(&hold) == 0) return;
  at_store(&held, 1);
  while (at_load(&hold) != 0) usleep(100);
}

static bool open_as(gch_mover mover, gch_huge huge, uint32_t decay_ms) {
  gch_config c = kit_config(mover, 256, 512);
  c.huge = huge;
  c.gc_threads = 2;
  c.decay_ms = decay_ms;
  for (int i = 0; i < GCH_PHASE_COUNT; i++) at_store(&fills[i], 0);
  at_store(&hold, 0);
  at_store(&held, 0);
  return kit_open(&kit, &c);
}

/* What the program keeps: nodes `from` to `to` of the array in the root. */
static void keep(gch_ref *root, uint64_t from, uint64_t to) {
  for (uint64_t n = from; n < to; n++) kit_put_node(&kit, root, n, n);
}

static void check_kept(gch_ref array, uint64_t count) {
  for (uint64_t n = 0; n < count; n++)
    if (!CHECK_EQ(*kit_number(kit_at(array, n)), n)) return;
}

static uint64_t populated(bool free_only) {
  const gch_heap *h = kit.heap;
  uint64_t blocks = 0;
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    bool counts = h->layout.regions[r].space == SPACE_OLD || h->layout.regions[r].space == SPACE_LEAF;
    uint32_t first, count = counts ? region_arenas(h, r, &first) : 0;
    for (uint32_t a = 0; a < count; a++) {
      const struct arena *arena = &h->tables.arenas[first + a];
      blocks +=
          (uint64_t)__builtin_popcount(at_load(&arena->populated) & (free_only ? ~at_load(&arena->used) : UINT32_MAX));
    }
  }
  return blocks;
}

/* Minors that promote a good deal: after the first few none of them asks for memory, a major or not before it, and there is never
 * more than is allowed. */
static void promotion_finds_memory(void) {
  enum { EACH = 6000, MINORS = 40, FIRST = 6 };
  for (int huge = 0; huge < 2; huge++) {
    if (!open_as(GCH_MOVER_MOVE, huge ? GCH_HUGE_ON : GCH_HUGE_OFF, 0)) return;
    GCH_FRAME(kit.m, root, 1);
    at_store(&gch_hook_fn, note_fill);
    root[0] = kit_refs(&kit, EACH * MINORS);
    uint64_t asked = 0, taken = 0, most = kit.heap->config.staging_bytes / BLOCK_BYTES / 4;
    for (uint64_t i = 0; i < MINORS; i++) {
      keep(&root[0], i * EACH, (i + 1) * EACH);
      if (i % 10 == 8) kit_major(&kit, GCH_POLICY_ALL, i % 20 == 8, true), keep(&root[0], i * EACH, (i + 1) * EACH);
      kit_settle(&kit);
      uint64_t before = populated(false), promoted = at_load(&kit.heap->measures.promoted_bytes);
      if (i < 8) CHECK(populated(true) <= most); /* a major leaves what it was ready for */
      at_store(&hold, 1); /* nobody fills before we have looked */
      kit_minor(&kit, true);
      if (i >= FIRST) {
        asked += populated(false) > before;
        taken += at_load(&kit.heap->measures.promoted_bytes) - promoted;
      }
      at_store(&hold, 0);
    }
    CHECK_EQ(asked, 0);
    CHECK(taken > EACH * 40 * (MINORS - FIRST) / 2); /* and they did promote */
    CHECK(at_load(&fills[GCH_PHASE_IDLE]) > 0);
    kit_verify(&kit);
    check_kept(root[0], EACH * MINORS);
    at_store(&gch_hook_fn, NULL);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

/* Minors beside majors, until somebody has filled in each phase in which somebody should. */
static void filled_in_each_phase(void) {
  enum { COUNT = 400000, PART = 4000, ROUNDS = 400 };
  for (int huge = 0; huge < 2; huge++) {
    struct kit_request request;
    if (!open_as(GCH_MOVER_MOVE, huge ? GCH_HUGE_ON : GCH_HUGE_OFF, 0)) return;
    GCH_FRAME(kit.m, root, 1);
    root[0] = kit_refs(&kit, COUNT);
    keep(&root[0], 0, COUNT);
    at_store(&gch_hook_fn, note_fill);
    uint64_t at = 0;
    for (int i = 0; i < ROUNDS && (at_load(&fills[GCH_PHASE_MARK]) == 0 || at_load(&fills[GCH_PHASE_MOVE]) == 0); i++) {
      uint64_t majors = at_load(&kit.heap->measures.major_count);
      kit_begin(&kit, &request, GCH_POLICY_ALL);
      while (at_load(&kit.heap->measures.major_count) == majors) {
        keep(&root[0], at, at + PART);
        kit_minor(&kit, true);
        at = (at + PART) % COUNT;
      }
      kit_end(&kit, &request);
    }
    CHECK(at_load(&fills[GCH_PHASE_MARK]) > 0 && at_load(&fills[GCH_PHASE_MOVE]) > 0);
    CHECK_EQ(at_load(&fills[GCH_PHASE_FLIP]) + at_load(&fills[GCH_PHASE_END]), 0);
    at_store(&gch_hook_fn, NULL);
    kit_verify(&kit);
    check_kept(root[0], COUNT);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

enum { MOST = 1000000 };

/* Keeps more and more in a new array until a step is held up: how much, and of what blocks. */
static uint64_t hold_a_step(gch_ref *root, uint32_t *arena, uint32_t *blocks) {
  uint64_t from = 0;
  *root = kit_refs(&kit, MOST);
  at_store(&gch_hook_fn, note_fill);
  at_store(&hold, 1);
  for (int i = 0; i < 200 && !at_load(&held); i++, from += 4000) {
    keep(root, from, from + 4000);
    kit_minor(&kit, true);
    gch_native_enter(kit.m);
    usleep(1000);
    gch_native_leave(kit.m);
  }
  CHECK(at_load(&held) != 0);
  *arena = at_load(&kit.heap->reserve.arena);
  *blocks = kit.heap->reserve.blocks;
  CHECK(*arena != ARENA_NOWHERE && *blocks != 0);
  return from;
}

static void let_go(void) {
  at_store(&hold, 0);
  kit_settle(&kit);
  at_store(&gch_hook_fn, NULL);
}

/* Nobody takes what is being given memory, nobody waits for it, and promotion comes back to it. */
static void passed_by_minors(void) {
  uint32_t arena, blocks;
  for (int huge = 0; huge < 2; huge++) {
    if (!open_as(GCH_MOVER_MOVE, huge ? GCH_HUGE_ON : GCH_HUGE_OFF, 0)) return;
    GCH_FRAME(kit.m, root, 1);
    uint64_t kept = hold_a_step(&root[0], &arena, &blocks);
    for (int i = 0; i < 5; i++, kept += 20000) { /* more than an arena */
      keep(&root[0], kept, kept + 20000);
      kit_minor(&kit, true);
      CHECK_EQ(kit.heap->tables.arenas[arena].used & blocks, 0);
    }
    let_go();
    CHECK_EQ(kit.heap->reserve.arena, ARENA_NOWHERE);
    CHECK_EQ(kit.heap->tables.arenas[arena].populated & blocks, blocks);
    for (int i = 0; i < 3; i++, kept += 20000) {
      keep(&root[0], kept, kept + 20000);
      kit_minor(&kit, true);
    }
    CHECK((kit.heap->tables.arenas[arena].used & blocks) != 0);
    kit_verify(&kit);
    check_kept(root[0], kept);
    kit_major(&kit, GCH_POLICY_ALL, true, true);
    check_kept(root[0], kept);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

/* Lets the step go when somebody waits for it. */
static void *let_go_when_wanted(void *arg) {
  (void)arg;
  for (int i = 0; i < 100000 && at_load(&kit.heap->claims.closed) == 0; i++) usleep(100);
  CHECK(at_load(&kit.heap->claims.closed) != 0);
  usleep(2000);
  CHECK(at_load(&kit.heap->reserve.arena) != ARENA_NOWHERE); /* it still waits */
  at_store(&hold, 0);
  return NULL;
}

static void waited_for_by_a_pause(void) {
  uint32_t arena, blocks;
  pthread_t thread;
  for (int huge = 0; huge < 2; huge++) {
    if (!open_as(GCH_MOVER_MOVE, huge ? GCH_HUGE_ON : GCH_HUGE_OFF, 0)) return;
    GCH_FRAME(kit.m, root, 1);
    uint64_t kept = hold_a_step(&root[0], &arena, &blocks);
    pthread_create(&thread, NULL, let_go_when_wanted, NULL);
    kit_major(&kit, GCH_POLICY_ALL, false, true);
    kit_join(&kit, thread);
    let_go();
    kit_verify(&kit);
    check_kept(root[0], kept);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

static void waited_for_by_fork(void) {
  uint32_t arena, blocks;
#ifdef __SANITIZE_THREAD__
  return; /* it has no children of processes with threads (but see test_fork.c) */
#endif
  pthread_t thread;
  for (int huge = 0; huge < 2; huge++) {
    int failures = check_failures;
    if (!open_as(GCH_MOVER_MOVE, huge ? GCH_HUGE_ON : GCH_HUGE_OFF, 0)) return;
    GCH_FRAME(kit.m, root, 1);
    uint64_t kept = hold_a_step(&root[0], &arena, &blocks);
    pthread_create(&thread, NULL, let_go_when_wanted, NULL);
    pid_t child = fork();
    if (child == 0) {
      bool right = kit.heap->reserve.arena == ARENA_NOWHERE && kit.heap->reserve.busy == 0;
      for (int i = 0; i < 20; i++, kept += 4000) {
        keep(&root[0], kept, kept + 4000);
        kit_minor(&kit, true);
      }
      kit_major(&kit, GCH_POLICY_ALL, true, true);
      check_kept(root[0], kept);
      _exit(right && kit_verify(&kit) && check_failures == failures ? 0 : 1);
    }
    kit_join(&kit, thread);
    let_go();
    CHECK_EQ(kit_wait_child(&kit, child), 0);
    kit_verify(&kit);
    check_kept(root[0], kept);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

/* The kernel has no memory for it: nothing is lost, and it is tried again after a minor. */
static void refused(void) {
  uint32_t arena, blocks;
  for (int huge = 0; huge < 2; huge++) {
    if (!open_as(GCH_MOVER_MOVE, huge ? GCH_HUGE_ON : GCH_HUGE_OFF, 0)) return;
    GCH_FRAME(kit.m, root, 1);
    uint64_t kept = hold_a_step(&root[0], &arena, &blocks);
    CHECK_EQ(gch_inject(kit.heap, "populate:ENOMEM", NULL), GCH_OK);
    let_go();
    gch_inject(kit.heap, "", NULL);
    CHECK_EQ(kit.heap->reserve.arena, ARENA_NOWHERE);
    CHECK_EQ(kit.heap->tables.arenas[arena].populated & blocks, 0);
    kit_verify(&kit);
    for (int i = 0; i < 5; i++, kept += 4000) {
      keep(&root[0], kept, kept + 4000);
      kit_minor(&kit, true);
      kit_settle(&kit);
    }
    CHECK_EQ(kit.heap->tables.arenas[arena].populated & blocks, blocks);
    kit_verify(&kit);
    check_kept(root[0], kept);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

/* What nobody needs any more goes back, without any major; where it is to go at once, there is none. */
static void goes_back(void) {
  const uint32_t decays[] = {80, GCH_DECAY_NOW};
  for (int i = 0; i < 2; i++) {
    if (!open_as(GCH_MOVER_MOVE, GCH_HUGE_OFF, decays[i])) return;
    GCH_FRAME(kit.m, root, 1);
    root[0] = kit_refs(&kit, MOST);
    for (uint64_t n = 0; n < 10; n++) {
      keep(&root[0], 4000 * n, 4000 * n + 4000);
      kit_minor(&kit, true);
      kit_settle(&kit);
      if (i == 1) CHECK_EQ(populated(true), 0);
    }
    if (i == 0) CHECK(populated(true) >= 4);
    gch_native_enter(kit.m);
    for (int k = 0; k < 10000 && populated(true) > 0; k++) usleep(1000);
    gch_native_leave(kit.m);
    CHECK_EQ(populated(true), 0);
    kit_verify(&kit);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

int main(void) {
  kit_growth = GCH_GROWTH_NEVER;
  kit_watchdog(60);
  if (!kit_available(GCH_MOVER_MOVE)) return 77;
  RUN(promotion_finds_memory);
  RUN(filled_in_each_phase);
  RUN(passed_by_minors);
  RUN(waited_for_by_a_pause);
  RUN(waited_for_by_fork);
  RUN(refused);
  RUN(goes_back);
  return CHECK_SUMMARY();
}
