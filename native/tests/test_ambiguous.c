/* Ambiguous roots: what a word may refer to lives and stays, wherever in the object it points, young, old or large, under every mover,
 * found at any pause; words that refer to nothing do no harm. */
#include "heap/small.h"
#include "hold.h"
#include "mover/mover.h"

enum { WORDS = 64 };
static uintptr_t words[WORDS]; /* [stw, the test's thread] */
static uint32_t calls;

static void enumerate(gch_visit_ambiguous visit, void *closure, void *data) {
  (void)data;
  calls++;
  for (int i = 0; i < WORDS; i++) visit(words[i], closure);
}

static gch_mover movers[] = {GCH_MOVER_MOVE, GCH_MOVER_COPY, GCH_MOVER_SIMULATED, GCH_MOVER_MEMCPY, GCH_MOVER_SLIDE};

static void each_mover(void (*test)(struct kit *k)) {
  for (size_t i = 0; i < 2 * sizeof movers / sizeof movers[0]; i++) {
    struct kit k;
    gch_config c = kit_config(movers[i / 2], 128, 1024);
    c.gc_threads = 2;
    c.huge = i % 2 ? GCH_HUGE_ON : GCH_HUGE_OFF;
    if (!kit_available(movers[i / 2]) || !kit_open(&k, &c)) continue;
    memset(words, 0, sizeof words);
    CHECK_EQ(gch_ambiguous_fn_set(k.heap, enumerate, NULL), GCH_OK);
    test(&k);
    kit_verify(&k);
    memset(words, 0, sizeof words);
    kit_major(&k, GCH_POLICY_ALL, false, true);
    kit_verify(&k);
    kit_close(&k);
  }
}

/* A node that refers to another, which nothing else does. */
static gch_ref pair(struct kit *k, uint64_t number) {
  GCH_FRAME(k->m, r, 2);
  r[0] = kit_node(k, number);
  r[1] = kit_node(k, number + 1);
  gch_set(k->m, r[0], KIT_B, r[1]);
  gch_ref made = r[0];
  GCH_FRAME_END(k->m);
  return made;
}

static bool is_pair(uintptr_t at, uint64_t number) {
  gch_ref node = (gch_ref)at, other = gch_load(node, KIT_B);
  return *kit_number(node) == number && other != NULL && *kit_number(other) == number + 1;
}

/* --- young ------------------------------------------------------------------------------------------------------ */

static void young(struct kit *k) {
  gch_ref first = pair(k, 10), garbage = pair(k, 20), last = pair(k, 30);
  uintptr_t at[] = {(uintptr_t)first, (uintptr_t)garbage, (uintptr_t)last};
  words[3] = at[2] + 39; /* the last byte of an object of 40 */
  kit_minor(k, false);
  CHECK(!heap_is_young(k->heap, at[2]) && heap_in_young(k->heap, at[2])); /* old where it stands, */
  for (uint64_t i = 0; i < 3; i++) CHECK(is_pair(at[i], 10 + 10 * i)); /* with all that was in its block */
  kit_verify(k);
  kit_minor(k, true);
  CHECK(is_pair(at[2], 30));
  kit_major(k, GCH_POLICY_ALL, false, true);
  CHECK(is_pair(at[2], 30));
  CHECK(heap_is_live(k->heap, at[2]) && !heap_is_live(k->heap, at[0]) && !heap_is_live(k->heap, at[1]));
  words[3] = 0;
  kit_major(k, GCH_POLICY_ALL, false, true);
  CHECK(!heap_is_live(k->heap, at[2]));
}
static void young_objects_stay(void) { each_mover(young); }

/* --- old -------------------------------------------------------------------------------------------------------- */

/* Among many that are garbage, some are held by words alone; every kind and place. */
static void make_old(struct kit *k, gch_ref *r, uintptr_t at[4]) {
  r[0] = kit_refs(k, 5000);
  for (uint64_t i = 0; i < 5000; i++) {
    gch_ref made = i % 2 ? pair(k, 2 * i) : kit_bytes(k, 24);
    kit_put(k, r[0], i, made);
  }
  r[1] = kit_refs(k, 60000);
  for (uint64_t i = 0; i < 60000; i += 100) kit_put_node(k, &r[1], i, i);
  r[2] = kit_bytes(k, 300000);
  kit_minor(k, true);
  kit_minor(k, true);
  gch_ref leaf = kit_at(r[0], 2000);
  memset(gch_slot(leaf, KIT_BYTES), 7, 24);
  memset(gch_slot(r[2], KIT_BYTES), 9, 300000);
  at[0] = (uintptr_t)kit_at(r[0], 2001), at[1] = (uintptr_t)leaf, at[2] = (uintptr_t)r[1], at[3] = (uintptr_t)r[2];
}

static void check_old(struct kit *k, const uintptr_t at[4]) {
  CHECK(is_pair(at[0], 4002));
  for (uint64_t i = 0; i < 24; i++) CHECK_EQ(((uint8_t *)at[1])[KIT_BYTES + i], 7);
  CHECK_EQ(gch_length(k->heap, (gch_ref)at[2]), 60000);
  for (uint64_t i = 0; i < 60000; i += 100) CHECK_EQ(*kit_number(kit_at((gch_ref)at[2], i)), i);
  CHECK_EQ(gch_length(k->heap, (gch_ref)at[3]), 300000);
  for (uint64_t i = 0; i < 300000; i += 999) CHECK_EQ(((uint8_t *)at[3])[KIT_BYTES + i], 9);
}

static void hold_old(const uintptr_t at[4]) {
  words[0] = at[0] + 8, words[1] = at[1] + 25, words[2] = at[2] + 400001, words[9] = at[3] + 300015;
}

static void old(struct kit *k) {
  uintptr_t at[4];
  GCH_FRAME(k->m, r, 3);
  make_old(k, r, at);
  hold_old(at);
  r[0] = r[1] = r[2] = NULL;
  for (int i = 0; i < 4; i++) {
    kit_major(k, i == 2 ? GCH_POLICY_NEEDED : GCH_POLICY_ALL, i % 2, true);
    gch_collect_wait(k->m, NULL);
    check_old(k, at);
    kit_verify(k);
    if (i == 1) kit_minor(k, false);
  }
  GCH_FRAME_END(k->m);
}
static void old_objects_stay(void) { each_mover(old); }

/* When no word is there any more, they move again. */
static void let_go(struct kit *k) {
  uintptr_t at[4];
  GCH_FRAME(k->m, r, 3);
  make_old(k, r, at);
  hold_old(at);
  r[0] = r[1] = r[2] = NULL;
  kit_major(k, GCH_POLICY_ALL, false, true);
  r[0] = (gch_ref)at[0], r[1] = (gch_ref)at[2], r[2] = (gch_ref)at[3];
  memset(words, 0, sizeof words);
  kit_major(k, GCH_POLICY_ALL, false, true);
  bool slides = k->heap->mover->slides; /* what is low enough stays there */
  CHECK(slides || (uintptr_t)r[0] != at[0]);
  CHECK(slides || ((uintptr_t)r[1] != at[2] && (uintptr_t)r[2] != at[3]));
  CHECK(is_pair((uintptr_t)r[0], 4002));
  GCH_FRAME_END(k->m);
}
static void they_move_again(void) { each_mover(let_go); }

/* Taken from a root between plan and flip: their blocks, and they, are in the plan. The root is there still: it must say the same. */
static void late(struct kit *k) {
  struct kit_request request;
  uintptr_t at[4];
  if (!k->heap->mover->concurrent) return;
  GCH_FRAME(k->m, r, 3);
  make_old(k, r, at);
  hold_before_flip(k, &request, GCH_POLICY_ALL);
  hold_old(at);
  gch_ref born = pair(k, 500);
  words[20] = (uintptr_t)born + 4;
  hold_off(k, &request);
  CHECK((uintptr_t)r[1] == at[2] && (uintptr_t)r[2] == at[3]);
  CHECK((uintptr_t)kit_at(r[0], 2001) == at[0] && (uintptr_t)kit_at(r[0], 2000) == at[1]);
  check_old(k, at);
  CHECK(is_pair((uintptr_t)born, 500));
  for (uint64_t i = 1; i < 5000; i += 2) CHECK(is_pair((uintptr_t)kit_at(r[0], i), 2 * i));
  GCH_FRAME_END(k->m);
}
static void found_at_the_flip(void) { each_mover(late); }

/* --- nothing ---------------------------------------------------------------------------------------------------- */

/* Any word at all: places where something was, or will be, or is not; of the heap or not. */
static void nonsense(struct kit *k) {
  uint64_t x = 88172645463325252u;
  GCH_FRAME(k->m, r, 2);
  for (int round = 0; round < 12; round++) {
    const struct layout *l = &k->heap->layout;
    r[round % 2] = kit_refs(k, 3000);
    for (uint64_t i = 0; i < 3000; i++) kit_put_node(k, &r[round % 2], i, i);
    for (int i = 0; i < WORDS; i++) {
      x ^= x << 13, x ^= x >> 7, x ^= x << 17;
      const struct region *region = &l->regions[x % l->region_count];
      words[i] = i % 8 == 0 ? x : i % 8 == 1 ? l->base + x % l->span : region->start + (x >> 20) % (3 << 20);
    }
    if (round % 3 == 0) kit_minor(k, round % 2);
    if (round % 3 == 1) kit_major(k, GCH_POLICY_ALL, round % 2, true);
    if (round % 3 == 2) kit_major(k, GCH_POLICY_NEEDED, round % 2, round % 4 == 0);
    gch_collect_wait(k->m, NULL);
    kit_verify(k);
    for (int a = 0; a < 2 && r[a] != NULL; a++)
      for (uint64_t i = 0; i < 3000; i++) CHECK_EQ(*kit_number(kit_at(r[a], i)), i);
  }
  GCH_FRAME_END(k->m);
}
static void words_that_refer_to_nothing(void) { each_mover(nonsense); }

static void removed(struct kit *k) {
  uint32_t before = calls;
  kit_minor(k, false);
  CHECK(calls > before);
  gch_ref node = pair(k, 3);
  words[0] = (uintptr_t)node;
  kit_minor(k, false);
  CHECK_EQ(gch_ambiguous_fn_set(k->heap, NULL, NULL), GCH_OK);
  before = calls;
  kit_major(k, GCH_POLICY_ALL, false, true);
  CHECK_EQ(calls, before);
  CHECK(!heap_is_live(k->heap, (uintptr_t)node));
}
static void the_function_is_removed(void) { each_mover(removed); }

int main(void) {
  kit_watchdog(60);
  RUN(young_objects_stay);
  RUN(old_objects_stay);
  RUN(they_move_again);
  RUN(found_at_the_flip);
  RUN(words_that_refer_to_nothing);
  RUN(the_function_is_removed);
  return CHECK_SUMMARY();
}
