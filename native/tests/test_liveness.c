/* The liveness of arenas handed over with their pages (mover/liveness.h): whatever the kernel answers, every bit arrives,
 * none stays. */
#include "mover/liveness.h"

#include <sys/wait.h>

#include "base/bits.h"
#include "heap/small.h"
#include "kit.h"

/* Children start their heap's threads. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0"; }

enum { ARENAS = 3, ARENA_BITS = ARENA_BYTES / GRANULE_BYTES, WORDS = ARENA_BITS / 64 };

/* Two ranges of arenas that nothing uses, in two maps. */
struct hand_over {
  struct kit kit;
  uint64_t *source, *map;
  size_t from, to;
};

static uint64_t pattern(size_t word) {
  return word / 512 % 3 == 1 ? 0 : word * 0x9e3779b97f4a7c15u;
} /* empty pages, too */

static bool open_one(struct hand_over *x, gch_mover mover) {
  gch_config c = kit_config(mover, 64, 1024);
  if (!kit_open(&x->kit, &c)) return false;
  gch_heap *h = x->kit.heap;
  x->from = region_first_arena(h, layout_first_region(&h->layout, SPACE_LEAF)) + 8;
  x->to = region_first_arena(h, layout_first_region(&h->layout, SPACE_OLD)) + 9;
  x->source = h->tables.mark;
  x->map = h->tables.live;
  return true;
}

static void close_one(struct hand_over *x) {
  bits_clear_range(x->map, x->to * (uint64_t)ARENA_BITS, (x->to + ARENAS) * (uint64_t)ARENA_BITS);
  kit_close(&x->kit);
}

static void fill(struct hand_over *x) {
  for (size_t i = 0; i < (size_t)ARENAS * WORDS; i++)
    if (pattern(i) != 0) x->source[x->from * WORDS + i] = pattern(i);
  bits_clear_range(x->map, x->to * (uint64_t)ARENA_BITS, (x->to + ARENAS) * (uint64_t)ARENA_BITS);
}

static bool arrived(const struct hand_over *x) {
  for (size_t i = 0; i < (size_t)ARENAS * WORDS; i++)
    if (!CHECK_EQ(x->map[x->to * WORDS + i], pattern(i)) || !CHECK_EQ(x->source[x->from * WORDS + i], 0)) return false;
  return true;
}

static void hand_over(struct hand_over *x) {
  liveness_hand_over(x->kit.heap, x->map, x->to, x->source, x->from, ARENAS);
}

static uint64_t moves(const struct hand_over *x) { return at_load(&x->kit.heap->kernel.counters[KERNEL_MOVE].calls); }

/* In one call, and the source has no memory afterwards. */
static void moved(void) {
  struct hand_over x;
  if (!open_one(&x, GCH_MOVER_MOVE)) return;
  CHECK_EQ(x.kit.heap->liveness_moves, ARENA_BITS / 8 % pages_size() == 0);
  for (int i = 0; i < 3; i++) {
    fill(&x); /* the second time there are pages of zeros in the way */
    uint64_t before = moves(&x);
    for (size_t w = 0; w < (size_t)ARENAS * WORDS; w += 512) x.source[x.from * WORDS + w] |= 1; /* no holes */
    hand_over(&x);
    if (x.kit.heap->liveness_moves) {
      CHECK_EQ(moves(&x) - before, 1);
      CHECK_EQ(kernel_pagemap_present(&x.kit.heap->kernel, &x.source[x.from * WORDS]), 0);
    }
    for (size_t w = 0; w < (size_t)ARENAS * WORDS; w++)
      if (!CHECK_EQ(x.map[x.to * WORDS + w], w % 512 == 0 ? pattern(w) | 1 : pattern(w))) return;
  }
  close_one(&x);
}

/* Movers that do not hand pages over. */
static void copied(void) {
  static const gch_mover movers[] = {GCH_MOVER_MEMCPY, GCH_MOVER_SIMULATED};
  for (int i = 0; i < 2; i++) {
    struct hand_over x;
    if (!open_one(&x, movers[i])) return;
    CHECK(!x.kit.heap->liveness_moves);
    fill(&x);
    hand_over(&x);
    arrived(&x);
    close_one(&x);
  }
}

static void refused(void) {
  static const char *const specs[] = {"move:EEXIST",
                                      "move:EEXIST-after",
                                      "move:EBUSY@every=2",
                                      "move:EAGAIN@partial=4096",
                                      "move:EAGAIN@every=3",
                                      "move:ENOENT-after@every=2",
                                      "move:ENOMEM@nth=2",
                                      "move:EINVAL-after@nth=1",
                                      "move:EFAULT",
                                      "drop:ENOMEM;move:EEXIST",
                                      "drop:EINVAL",
                                      "move:EBUSY@partial=8192;drop:EAGAIN",
                                      "*:EINTR",
                                      "move:ENOSPC-after@p=0.5,seed=3"};
  for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
    struct hand_over x;
    if (!open_one(&x, GCH_MOVER_MOVE)) return;
    for (int round = 0; round < 3; round++) {
      fill(&x);
      CHECK_EQ(gch_inject(x.kit.heap, specs[i], NULL), GCH_OK);
      hand_over(&x);
      gch_inject(x.kit.heap, "", NULL);
      if (!arrived(&x)) printf("    %s, round %d\n", specs[i], round);
    }
    close_one(&x);
  }
}

/* Shared since fork the pages cannot be moved (EBUSY); either process keeps what it had. */
static void shared(void) {
  struct hand_over x;
  int gate[2];
  char byte = 0;
  if (!open_one(&x, GCH_MOVER_MOVE) || !CHECK_EQ(pipe(gate), 0)) return;
  fill(&x);
  pid_t child = fork();
  if (child == 0) {
    close(gate[1]);
    bool good = read(gate[0], &byte, 1) == 0;
    for (size_t i = 0; i < (size_t)ARENAS * WORDS && good; i++) good = x.source[x.from * WORDS + i] == pattern(i);
    _exit(good ? 0 : 1);
  }
  close(gate[0]);
  hand_over(&x);
  arrived(&x);
  close(gate[1]);
  int status = -1;
  waitpid(child, &status, 0);
  CHECK_EQ(status, 0);
  close_one(&x);
}

/* Maps that the kernel will not register are copied: the heap is there all the same. */
static void unregistered(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MOVE, 64, 1024);
  struct hand_over x;
  char spec[64];
  unsigned registered = 0;
  if (!open_one(&x, GCH_MOVER_MOVE)) return;
  for (uint32_t r = 0; r < x.kit.heap->layout.region_count; r++)
    registered += x.kit.heap->layout.regions[r].space != SPACE_YOUNG;
  close_one(&x);
  (void)snprintf(spec, sizeof spec, "register:ENOMEM@nth=%u", registered + 1);
  c.inject = spec;
  if (!kit_open(&k, &c)) return;
  CHECK(!k.heap->liveness_moves);
  kit_close(&k);
}

int main(void) {
  RUN(moved);
  RUN(copied);
  RUN(refused);
  RUN(shared);
  RUN(unregistered);
  return CHECK_SUMMARY();
}
