/* Blocks of the small spaces, and frames: taking, freeing, memory behind them, accounting; nothing is handed out twice. */
#include "heap/small.h"

#include "gc/consume.h"
#include "heap/frames.h"
#include "kit.h"
#include "os/pages.h"

enum { BLOCKS = 300 };
static struct kit kit;

static bool is_present(uintptr_t block) {
  for (uint64_t at = 0; at < BLOCK_BYTES; at += pages_size())
    if (kernel_pagemap_present(&kit.heap->kernel, (void *)(block + at)) != 1) return false;
  return true;
}

static bool is_zero(uintptr_t block) {
  const uint64_t *words = (const uint64_t *)block;
  for (size_t i = 0; i < BLOCK_BYTES / 8; i++)
    if (words[i] != 0) return false;
  return true;
}

static void old_blocks(void) {
  gch_heap *h = kit.heap;
  uintptr_t taken[BLOCKS];
  uint64_t before = at_load(&h->used_bytes);
  for (int leaf = 0; leaf < 2; leaf++) {
    for (int i = 0; i < BLOCKS; i++) {
      taken[i] = small_take(h, leaf, true);
      const struct block *b = heap_block(h, taken[i]);
      CHECK(taken[i] != 0 && taken[i] % BLOCK_BYTES == 0);
      CHECK(heap_region(h, taken[i])->space == (leaf ? SPACE_LEAF : SPACE_OLD));
      CHECK(b->state == BLOCK_USED && b->leaf == leaf && b->live == 0 && !b->born && b->top == 0);
      for (int j = 0; j < i; j++)
        if (!CHECK(taken[j] != taken[i])) return;
    }
    CHECK(is_present(taken[0]) && is_present(taken[BLOCKS - 1]));
    CHECK_EQ(at_load(&h->used_bytes), before + BLOCKS * (uint64_t)BLOCK_BYTES);
    for (int i = 0; i < BLOCKS; i++) block_free(h, taken[i], true);
    CHECK_EQ(at_load(&h->used_bytes), before);
    CHECK_EQ(heap_block(h, taken[7])->state, BLOCK_FREE);
    CHECK_EQ(heap_arena(h, taken[7])->used, 0);
  }
}

/* A free block that still has its memory is taken before one that has not. */
static void memory_is_used_again(void) {
  gch_heap *h = kit.heap;
  uintptr_t a = small_take(h, false, true), b = small_take(h, false, true), c = small_take(h, false, true);
  block_free(h, b, true);
  CHECK(small_take(h, false, true) == b);
  block_free(h, a, true), block_free(h, b, true), block_free(h, c, true);
  uint32_t arena = (uint32_t)arena_index(&h->layout, a);
  CHECK(arena_release_free(h, arena) >= 3 * (uint64_t)BLOCK_BYTES);
  CHECK_EQ(h->tables.arenas[arena].populated, 0);
  CHECK(!is_present(a) && !is_present(c));
}

static void young_blocks(void) {
  gch_heap *h = kit.heap;
  uint64_t limit = h->young.limit_blocks;
  kit_minor(&kit, true); /* no buffers are out */
  uintptr_t taken[2 * BLOCKS];
  uint64_t count = 0;
  for (; count < limit + 1; count++) {
    taken[count] = young_take(h, count % 3 == 0, true);
    if (taken[count] == 0) break;
    CHECK(heap_in_young(h, taken[count]) && heap_is_young(h, taken[count]));
    if (count % 8 == 0) CHECK(is_zero(taken[count]));
    memset((void *)taken[count], 0xff, BLOCK_BYTES);
    /* an arena holds blocks of one kind */
    CHECK_EQ(heap_arena(h, taken[count])->kind, count % 3 == 0 ? ARENA_LEAF : ARENA_REFS);
  }
  CHECK_EQ(count, limit); /* the nursery is full; the collector may still have some for survivors */
  uintptr_t extra = young_take(h, false, false);
  CHECK(extra != 0);
  block_free(h, extra, true);
  for (uint64_t i = 0; i < count; i++) block_free(h, taken[i], true);
  at_store(&h->young.blocks, 0);
  uintptr_t again = young_take(h, false, true);
  CHECK(is_zero(again)); /* although it was full of ones */
  block_free(h, again, true);
  at_store(&h->young.blocks, 0);
}

static void *taker(void *arg) {
  uintptr_t *out = arg;
  for (int i = 0; i < BLOCKS; i++) out[i] = small_take(kit.heap, i & 1, true);
  return NULL;
}

static int order(const void *a, const void *b) {
  uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
  return x < y ? -1 : x > y;
}

static void taken_by_several_threads(void) {
  static uintptr_t taken[4][BLOCKS];
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, taker, taken[i]);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  qsort(taken, (size_t)4 * BLOCKS, sizeof taken[0][0], order);
  for (int i = 1; i < 4 * BLOCKS; i++)
    if (!CHECK((&taken[0][0])[i] != (&taken[0][0])[i - 1])) break;
  for (int i = 0; i < 4 * BLOCKS; i++) block_free(kit.heap, (&taken[0][0])[i], true);
}

static void limits_and_lack_of_memory(void) {
  gch_heap *h = kit.heap;
  uint64_t used = at_load(&h->used_bytes);
  at_store(&h->used_bytes, h->config.max_bytes);
  CHECK_EQ(small_take(h, false, false), 0); /* a mutator stops at the limit */
  uintptr_t block = small_take(h, false, true);
  CHECK(block != 0); /* the collector may go beyond */
  block_free(h, block, true);
  at_store(&h->used_bytes, used);
  gch_inject(h, "populate:ENOMEM", NULL);
  uint32_t failures = 0;
  for (int i = 0; i < BLOCKS; i++) { /* what has memory goes first, then it fails and leaves nothing behind */
    block = small_take(h, true, true);
    failures += block == 0;
    if (block == 0) break;
    block_free(h, block, true);
    arena_release_free(h, (uint32_t)arena_index(&h->layout, block));
  }
  CHECK_EQ(failures, 1);
  CHECK_EQ(at_load(&h->used_bytes), used);
  gch_inject(h, "", NULL);
}

/* --- frames --------------------------------------------------------------------------------------------------- */

static uintptr_t one_frame(gch_heap *h, bool must) {
  uintptr_t frame = 0;
  return frames_take(h, 1, must, &frame) == 1 ? frame : 0;
}

static void frames_within_the_budget(void) {
  gch_heap *h = kit.heap;
  uintptr_t taken[BLOCKS];
  uint32_t slots = h->frames.slots, count = 0;
  for (; count < slots + 1; count++)
    if ((taken[count] = one_frame(h, false)) == 0) break;
  CHECK_EQ(count, slots - h->frames.reserve);
  for (uint32_t i = 0; i < h->frames.reserve; i++) CHECK((taken[count++] = one_frame(h, true)) != 0);
  CHECK_EQ(one_frame(h, true), 0);
  for (uint32_t i = 0; i < count; i++) {
    CHECK(is_present(taken[i]) && heap_is_frame(h, taken[i]));
    for (uint32_t j = 0; j < i; j++)
      if (!CHECK(taken[i] != taken[j])) return;
  }
  frames_done(h, taken[3], 1, false); /* to be used again as it is */
  CHECK(one_frame(h, true) == taken[3]);
  pages_drop(&h->kernel, (void *)taken[5], BLOCK_BYTES);
  frames_done(h, taken[5], 1, true); /* its pages were moved away: it gets new ones */
  CHECK(one_frame(h, true) == taken[5] && is_present(taken[5]));
  for (uint32_t i = 0; i < count; i++) frames_done(h, taken[i], 1, false);
  CHECK_EQ(h->frames.free_count, slots);
  frames_settle(h);
}

static void frames_in_runs(void) {
  gch_heap *h = kit.heap;
  uintptr_t a, b, c;
  CHECK_EQ(frames_take(h, 8, false, &a), 8);
  for (uint32_t i = 0; i < 8; i++) CHECK(is_present(a + i * (uintptr_t)BLOCK_BYTES));
  CHECK_EQ(frames_take(h, 8, false, &b), 8);
  CHECK(b == a + 8 * (uintptr_t)BLOCK_BYTES);
  frames_done(h, a + BLOCK_BYTES, 2, false);
  CHECK_EQ(frames_take(h, 8, false, &c), 2); /* as much as there is in one piece */
  CHECK(c == a + BLOCK_BYTES);
  frames_done(h, a, 8, false);
  frames_done(h, b, 8, false);
  gch_inject(h, "populate:ENOMEM", NULL);
  CHECK_EQ(frames_take(h, 8, false, &a), 0); /* and nothing is lost by it */
  CHECK_EQ(h->frames.free_count, h->frames.slots);
  CHECK_EQ(frames_take(h, 8, true, &a), 8);
  gch_inject(h, "", NULL);
  frames_done(h, a, 8, false);
}

static void consumed_blocks_become_frames(void) {
  gch_heap *h = kit.heap;
  uintptr_t block = small_take(h, false, true), out;
  CHECK_EQ(frames_give(h, block, 1), 1);
  CHECK_EQ(frames_reuse(h, 8, &out), 1);
  CHECK(out == block);
  CHECK_EQ(frames_reuse(h, 1, &out), 0);
  CHECK_EQ(frames_give(h, block, 1), 1);
  CHECK(one_frame(h, false) == block); /* before memory of staging */
  CHECK_EQ(frames_give(h, block, 1), 1);
  CHECK_EQ(frames_settle(h), BLOCK_BYTES); /* what is not at home is dropped */
  CHECK(!is_present(block));
  block_free(h, block, false);
}

/* What the kernel will not take back is not counted as released, serves as a frame no more, and its block is populated. */
static void memory_that_is_not_taken_back(void) {
  gch_heap *h = kit.heap;
  uintptr_t block = small_take(h, false, true), arena = small_take(h, false, true) & ~(uintptr_t)(ARENA_BYTES - 1), out;
  struct arena *a = heap_arena(h, block);
  uint32_t bit = (uint32_t)1 << block_index(&h->layout, block) % ARENA_BLOCKS, used = a->used;
  CHECK(arena == (block & ~(uintptr_t)(ARENA_BYTES - 1)));
  uintptr_t home = one_frame(h, true);
  memset((void *)home, 0xff, BLOCK_BYTES);
  frames_done(h, home, 1, false);
  uint64_t held = frames_bytes(h);
  at_store(&h->frames.extra, 0);
  gch_inject(h, "drop:EAGAIN", NULL);
  CHECK_EQ(frames_give(h, block, 1), 1);
  a->populated &= ~bit; /* as who consumes it says */
  CHECK_EQ(frames_settle(h), 0);
  CHECK_EQ(at_load(&h->frames.extra), 0);
  CHECK_EQ(frames_reuse(h, 1, &out), 0);
  CHECK_EQ(frames_bytes(h), held);
  block_free(h, block, true);
  CHECK(a->populated & bit);
  CHECK(is_present(block));
  CHECK(frames_give_arena(h, arena));
  CHECK_EQ(frames_settle(h), 0);
  CHECK_EQ(a->kept, UINT32_MAX); /* populated at the end of the cycle */
  a->kept = 0;
  CHECK_EQ(frames_give(h, block, h->frames.slots), h->frames.slots);
  frames_done(h, block, 1, false); /* there is no room, and it will not go either */
  CHECK(a->kept & bit);
  a->kept = 0;
  struct drops drops = {.heap = h, .start = block, .end = block + BLOCK_BYTES};
  drops_flush(&drops);
  CHECK_EQ(at_load(&h->frames.extra), 0);
  CHECK(a->kept & bit);
  a->kept = 0;
  h->frames.run_count = h->frames.pooled = 0;
  gch_inject(h, "", NULL);
  CHECK(frames_give_arena(h, arena));
  CHECK_EQ(frames_settle(h), ARENA_BYTES);
  CHECK_EQ(at_load(&h->frames.extra), -ARENA_BYTES);
  CHECK_EQ(a->kept, 0);
  for (uint32_t b = 0; b < ARENA_BLOCKS; b++)
    if ((used & ~bit) >> b & 1) block_free(h, arena + b * (uintptr_t)BLOCK_BYTES, false);
}

static uint32_t settling; /* [atomic] */

static void *settle(void *arg) {
  frames_settle(arg);
  at_store(&settling, 0);
  return NULL;
}

/* While memory is given back, which may take the kernel long, frames are to be had, but none that is going. */
static void frames_beside_a_slow_kernel(void) {
  enum { KEPT = 16, IDLE = 32, SLOTS = 64 };
  gch_heap *h = kit.heap;
  uint64_t *drops = &h->kernel.counters[KERNEL_DROP].injected, before = at_load(drops);
  uintptr_t taken[SLOTS];
  pthread_t thread;
  CHECK_EQ(h->frames.slots, SLOTS);
  for (int i = 0; i < KEPT + IDLE; i++) {
    taken[i] = one_frame(h, true);
    memset((void *)taken[i], 0xff, BLOCK_BYTES);
  }
  for (int i = 0; i < KEPT + IDLE; i++) frames_done(h, taken[i], 1, false);
  CHECK_EQ(gch_inject(h, "drop:delay=500ms", NULL), GCH_OK);
  at_store(&settling, 1);
  pthread_create(&thread, NULL, settle, h);
  while (at_load(drops) == before) usleep(1000);
  uint32_t count = 0;
  while (count < SLOTS && (taken[count] = one_frame(h, true)) != 0) count++;
  CHECK_EQ(at_load(&settling), 1); /* nobody waited for it */
  CHECK_EQ(count, SLOTS - IDLE);
  pthread_join(thread, NULL);
  gch_inject(h, "", NULL);
  for (uint32_t i = 0; i < KEPT; i++) CHECK_EQ(*((uint8_t *)taken[i] + BLOCK_BYTES - 1), 0xff);
  CHECK_EQ(frames_bytes(h), count * (uint64_t)BLOCK_BYTES);
  for (uint32_t i = 0; i < IDLE; i++) {
    if (!CHECK((taken[count] = one_frame(h, true)) != 0)) return;
    CHECK_EQ(*(uint8_t *)taken[count++], 0); /* it went */
  }
  for (uint32_t i = 0; i < count; i++) frames_done(h, taken[i], 1, false);
  CHECK_EQ(h->frames.free_count, h->frames.slots);
  frames_settle(h);
}

static void runs_of_consumed_blocks(void) {
  gch_heap *h = kit.heap;
  uintptr_t region = h->layout.regions[0].start, out;
  uint32_t slots = h->frames.slots;
  CHECK_EQ(frames_give(h, region, 6), 6);
  CHECK_EQ(frames_give(h, region + ARENA_BYTES, 2), 2);
  CHECK_EQ(frames_reuse(h, 4, &out), 4); /* the one that is long enough, from its warm end */
  CHECK(out == region + 2 * (uintptr_t)BLOCK_BYTES);
  CHECK_EQ(frames_reuse(h, 4, &out), 2);
  CHECK(out == region + ARENA_BYTES);
  CHECK_EQ(frames_give(h, region + ARENA_BYTES, slots), slots - 2); /* the budget: the caller drops the rest */
  CHECK_EQ(frames_give(h, region + 4 * (uintptr_t)ARENA_BYTES, 1), 0);
  CHECK_EQ(h->frames.slack, slots / 4);
  CHECK(frames_want_trim(&h->frames));
  CHECK_EQ(frames_trim(h), h->frames.slack * (uint64_t)BLOCK_BYTES);
  CHECK_EQ(h->frames.pooled, slots - h->frames.slack);
  CHECK(!frames_want_trim(&h->frames));
  CHECK_EQ(frames_trim(h), 0);
  CHECK_EQ(frames_give(h, region + 4 * (uintptr_t)ARENA_BYTES, slots), h->frames.slack);
  h->frames.run_count = h->frames.pooled = 0;
}

int main(void) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 128, 4096);
  c.huge = GCH_HUGE_OFF;
  c.staging_bytes = 4 << 20;
  kit_watchdog(30);
  if (!kit_open(&kit, &c)) return 1;
  RUN(old_blocks);
  RUN(memory_is_used_again);
  RUN(young_blocks);
  RUN(taken_by_several_threads);
  RUN(limits_and_lack_of_memory);
  RUN(frames_within_the_budget);
  RUN(frames_in_runs);
  RUN(consumed_blocks_become_frames);
  RUN(memory_that_is_not_taken_back);
  RUN(frames_beside_a_slow_kernel);
  RUN(runs_of_consumed_blocks);
  kit_verify(&kit);
  kit_close(&kit);
  return CHECK_SUMMARY();
}
