/* Memory that is free goes back some time after it was last used: the policy (heap/decay.h), simulated, and in heaps. */
#include "heap/decay.h"

#include "base/units.h"
#include "gc/release.h"
#include "heap/small.h"
#include "kit.h"

/* --- policy ----------------------------------------------------------------------------------------------------- */

/* Nothing within the time, then a part with each tick, all of it within the same time again. */
static void unused(void) {
  for (uint64_t bytes = 1; bytes <= 1 << 30; bytes *= 5) {
    struct decay d = {0};
    uint64_t left = bytes;
    for (int i = 0; i < DECAY_TICKS - 1; i++) CHECK_EQ(decay_tick(&d, left), 0);
    for (int i = 0; i < DECAY_TICKS; i++) {
      uint64_t now = decay_tick(&d, left);
      CHECK(now <= bytes / DECAY_TICKS + 1 && now <= left);
      left -= now;
    }
    CHECK_EQ(left, 0);
    CHECK_EQ(decay_tick(&d, 0), 0);
  }
}

/* What is taken and given back in turns stays, as far as it is taken. */
static void used_again_and_again(void) {
  struct decay d = {0};
  uint64_t here = 100;
  for (int i = 0; i < 200; i++) {
    uint64_t free = i % 5 == 4 ? here - 70 : here; /* 70 of them are needed now and then */
    here -= decay_tick(&d, free);
    CHECK(here >= 70);
  }
  CHECK_EQ(here, 70);
}

/* Somebody needs all of it: it begins anew. */
static void needed_after_all(void) {
  struct decay d = {0};
  uint64_t left = 800;
  for (int i = 0; i < DECAY_TICKS + 2; i++) left -= decay_tick(&d, left);
  CHECK(left > 0 && left < 800);
  CHECK_EQ(decay_tick(&d, 0), 0);
  for (int i = 0; i < DECAY_TICKS - 1; i++) CHECK_EQ(decay_tick(&d, 500), 0);
  CHECK(decay_tick(&d, 500) > 0);
}

/* --- heaps ------------------------------------------------------------------------------------------------------ */

static struct kit kit;

static uint64_t idle_blocks(enum space_id space) {
  const gch_heap *h = kit.heap;
  uint64_t blocks = 0;
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    uint32_t first, count = h->layout.regions[r].space == space ? region_arenas(h, r, &first) : 0;
    for (uint32_t a = first; count > 0 && a < first + count; a++)
      blocks +=
          (uint64_t)__builtin_popcount(at_load(&h->tables.arenas[a].populated) & ~at_load(&h->tables.arenas[a].used));
  }
  return blocks;
}

static uint64_t idle(void) { return idle_blocks(SPACE_OLD) + idle_blocks(SPACE_LEAF); }

static bool open_with(uint32_t decay_ms) {
  gch_config c = kit_config(GCH_MOVER_AUTO, 64, 8192);
  c.decay_ms = decay_ms;
  c.huge = GCH_HUGE_OFF;
  return kit_open(&kit, &c);
}

/* A flip for which more was populated than it came to need: all that is young lives until the mark has begun. */
static void major_with_leftovers(void) {
  GCH_FRAME(kit.m, root, 1);
  root[0] = kit_refs(&kit, 100000);
  for (uint64_t i = 0; i < 60000; i++) kit_put_node(&kit, &root[0], i, i);
  kit.heap->pacing.steady = GIB; /* it is expected to take all that may be kept */
  kit_major(&kit, GCH_POLICY_NEEDED, true, true);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
}

static void wait_ms(uint64_t ms) {
  gch_native_enter(kit.m);
  usleep((useconds_t)(ms * 1000));
  gch_native_leave(kit.m);
}

static void goes_gradually(void) {
  if (!open_with(400)) return;
  major_with_leftovers();
  uint64_t before = idle(), last = before, steps = 0, released = at_load(&kit.heap->moved.released);
  CHECK(before >= 8 && before * BLOCK_BYTES <= kit.heap->config.staging_bytes);
  wait_ms(200);
  CHECK_EQ(idle(), before); /* not yet */
  for (int i = 0; i < 1000 && (last > 0 || frames_bytes(kit.heap) > 0); i++) {
    wait_ms(5);
    uint64_t now = idle();
    CHECK(now <= last);
    steps += now < last;
    last = now;
  }
  CHECK(last == 0 && steps >= 3);
  CHECK_EQ(frames_bytes(kit.heap), 0);
  CHECK(at_load(&kit.heap->moved.released) >= released + before * BLOCK_BYTES);
  kit_verify(&kit);
  major_with_leftovers(); /* and again */
  CHECK(idle() >= 8);
  kit_verify(&kit);
  kit_close(&kit);
}

/* Young memory that eden does not come to any more. */
static void goes_from_the_young_region(void) {
  if (!open_with(100)) return;
  for (uint64_t i = 0; i < 500000; i++) kit_node(&kit, i); /* twice eden */
  kit_minor(&kit, false);
  CHECK(idle_blocks(SPACE_YOUNG) >= 120);
  kit.heap->nursery.bytes = MIB; /* as the policy of the nursery would have it, from the next minor on */
  kit_major(&kit, GCH_POLICY_NEEDED, true, true);
  for (int i = 0; i < 1000 && idle_blocks(SPACE_YOUNG) > 24; i++) wait_ms(5);
  CHECK(idle_blocks(SPACE_YOUNG) <= 24 && idle_blocks(SPACE_YOUNG) >= 16);
  kit_verify(&kit);
  for (uint64_t i = 0; i < 500000; i++) kit_node(&kit, i);
  kit_verify(&kit);
  kit_close(&kit);
}

static void now_and_never(void) {
  if (!open_with(GCH_DECAY_NOW)) return;
  major_with_leftovers();
  CHECK_EQ(idle(), 0);
  CHECK_EQ(release_keeps(kit.heap), 0);
  kit_close(&kit);
  if (!open_with(GCH_DECAY_NEVER)) return;
  major_with_leftovers();
  uint64_t before = idle();
  CHECK(before >= 8);
  CHECK_EQ(release_keeps(kit.heap), kit.heap->config.staging_bytes);
  wait_ms(300);
  CHECK_EQ(idle(), before);
  kit_close(&kit);
}

/* What is kept is what allocation takes: no memory is asked for again. And who allocates meanwhile is not in the way. */
static void used_meanwhile(void) {
  if (!open_with(8)) return; /* a tick a millisecond */
  for (int i = 0; i < 20; i++) {
    major_with_leftovers();
    GCH_FRAME(kit.m, root, 1);
    root[0] = kit_refs(&kit, 50000);
    for (uint64_t n = 0; n < 50000; n++) {
      kit_put_node(&kit, &root[0], n, n);
      if (n % 5000 == 0) kit_minor(&kit, true);
    }
    for (uint64_t n = 0; n < 50000; n += 7)
      if (!CHECK_EQ(*kit_number(kit_at(root[0], n)), n)) break;
    GCH_FRAME_END(kit.m);
  }
  kit_verify(&kit);
  kit_close(&kit);
}

/* A fork() in the middle of a tick: what the controller has in hand there is free in the child, too. */
static uint32_t free_frames(void) {
  struct frames *f = &kit.heap->frames;
  lock_lock(&f->lock);
  uint32_t count = f->free_count;
  lock_unlock(&f->lock);
  return count;
}

static void fork_amidst(void) {
#ifdef __SANITIZE_THREAD__
  return; /* it has no children of processes with threads (but see test_fork.c) */
#endif
  gch_config c = kit_config(GCH_MOVER_MOVE, 8, 256);
  c.gc_threads = 2;
  c.decay_ms = 80;
  c.growth_percent = GCH_GROWTH_NEVER;
  if (!kit_open(&kit, &c)) return;
  GCH_FRAME(kit.m, root, 1);
  root[0] = kit_refs(&kit, 20000);
  for (uint64_t n = 0; n < 20000; n++) kit_put_node(&kit, &root[0], n, n);
  kit_minor(&kit, true);
  for (uint64_t n = 0; n < 20000; n++)
    if (n % 4 != 0) kit_put(&kit, root[0], n, NULL);
  kit_major(&kit, GCH_POLICY_ALL, true, true);
  uint32_t all = free_frames();
  CHECK(all > 0);
  gch_inject(kit.heap, "drop:delay=200ms", NULL);
  for (int i = 0; i < 100000 && free_frames() == all; i++) usleep(100);
  CHECK(free_frames() < all);
  pid_t child = fork();
  if (child == 0) _exit(free_frames() == all ? 0 : 1);
  gch_inject(kit.heap, "", NULL);
  CHECK_EQ(kit_wait_child(&kit, child), 0);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

int main(void) {
  kit_growth = GCH_GROWTH_NEVER;
  kit_watchdog(60);
  RUN(unused);
  RUN(used_again_and_again);
  RUN(needed_after_all);
  if (kit_available(GCH_MOVER_MOVE) || kit_available(GCH_MOVER_COPY) || kit_available(GCH_MOVER_SIMULATED)) {
    RUN(goes_gradually);
    RUN(goes_from_the_young_region);
    RUN(now_and_never);
    RUN(used_meanwhile);
    RUN(fork_amidst);
  }
  return CHECK_SUMMARY();
}
