/* gch_resize under every mover: what stays, what comes is zero, who is the same object; where pages come from and go to; what a
 * cycle in between does; no memory. */
#include <sys/wait.h>
#include "heap/small.h"

#include "hold.h"
#include "mover/mover.h"

enum { MIB = 1 << 20 };

static bool open_with(struct kit *k, gch_mover mover, gch_huge huge) {
  gch_config c = kit_config(mover, 256, 1024);
  c.gc_threads = 2;
  c.huge = huge;
  return kit_available(mover) && kit_open(k, &c);
}

static gch_mover movers[] = {GCH_MOVER_MOVE, GCH_MOVER_COPY, GCH_MOVER_SIMULATED, GCH_MOVER_MEMCPY, GCH_MOVER_SLIDE};

static void each_mover(void (*test)(struct kit *k)) {
  for (size_t i = 0; i < 2 * sizeof movers / sizeof movers[0]; i++) {
    struct kit k;
    if (!open_with(&k, movers[i / 2], i % 2 ? GCH_HUGE_ON : GCH_HUGE_OFF)) continue;
    test(&k);
    kit_verify(&k);
    kit_close(&k);
  }
}

/* --- contents ------------------------------------------------------------------------------------------------- */

/* Element i is a node of number i, or null, if i % 3 is 0. */
static void number(struct kit *k, gch_ref *array, uint64_t from, uint64_t to) {
  for (uint64_t i = from; i < to; i++)
    if (i % 3 != 0) kit_put_node(k, array, i, i);
}

static bool numbered(struct kit *k, gch_ref array, uint64_t count, uint64_t length) {
  if (!CHECK_EQ(gch_length(k->heap, array), length)) return false;
  for (uint64_t i = 0; i < length; i++) {
    gch_ref node = kit_at(array, i);
    if (i < count && i % 3 != 0 ? node == NULL || *kit_number(node) != i : node != NULL) return CHECK_EQ(i, UINT64_MAX);
  }
  return true;
}

static void fill_bytes(gch_ref o, uint64_t from, uint64_t to) {
  for (uint64_t i = from; i < to; i++) ((uint8_t *)(void *)o)[KIT_BYTES + i] = (uint8_t)(i * 7 + (i >> 9) + 1);
}

static bool has_bytes(struct kit *k, gch_ref o, uint64_t count, uint64_t length) {
  if (!CHECK_EQ(gch_length(k->heap, o), length)) return false;
  for (uint64_t i = 0; i < length; i++)
    if (((uint8_t *)(void *)o)[KIT_BYTES + i] != (i < count ? (uint8_t)(i * 7 + (i >> 9) + 1) : 0))
      return CHECK_EQ(i, UINT64_MAX);
  return true;
}

/* --- small ---------------------------------------------------------------------------------------------------- */

static void small(struct kit *k) {
  GCH_FRAME(k->m, r, 3);
  for (uint64_t from = 0; from < 40; from += 3)
    for (uint64_t to = 0; to < 40; to += 3) {
      r[0] = kit_refs(k, from);
      *kit_number(r[0]) = 77;
      number(k, &r[0], 0, from);
      uint32_t hash = gch_identity_hash(k->m, r[0]);
      r[1] = gch_resize(k->m, r[0], to);
      bool same = align_up(16 + 8 * from, 16) == align_up(16 + 8 * to, 16);
      CHECK_EQ(r[1] == r[0], same);
      CHECK_EQ(*kit_number(r[1]), 77);
      CHECK_EQ(gch_identity_hash(k->m, r[1]), hash);
      numbered(k, r[1], from < to ? from : to, to);
      if (!same) numbered(k, r[0], from, from); /* as it was */
      r[2] = gch_resize(k->m, r[1], 41);
      numbered(k, r[2], from < to ? from : to, 41);
    }
  r[0] = kit_bytes(k, 100);
  fill_bytes(r[0], 0, 100);
  r[1] = gch_resize(k->m, r[0], 97); /* the same granules: 16 + 100 and 16 + 97 */
  CHECK(r[1] == r[0]);
  r[1] = gch_resize(k->m, r[0], 110);
  CHECK(r[1] == r[0]);
  has_bytes(k, r[1], 97, 110);
  GCH_FRAME_END(k->m);
}

static void small_objects(void) { each_mover(small); }

/* From small to large, and back to what is shorter but stays large. */
static void across(struct kit *k) {
  GCH_FRAME(k->m, r, 2);
  r[0] = kit_refs(k, 900);
  *kit_number(r[0]) = 5;
  number(k, &r[0], 0, 900);
  r[0] = gch_resize(k->m, r[0], 5000);
  CHECK(header_is_large(header_load((uintptr_t)r[0])) && *kit_number(r[0]) == 5);
  numbered(k, r[0], 900, 5000);
  number(k, &r[0], 900, 5000);
  r[1] = gch_resize(k->m, r[0], 10);
  CHECK(r[1] == r[0]);
  numbered(k, r[1], 10, 10);
  CHECK_EQ(gch_object_bytes(k->heap, r[1]), 96);
  CHECK_EQ(k->heap->large.entries[large_id(k->heap, (uintptr_t)r[1])].bytes, 96);
  kit_major(k, GCH_POLICY_ALL, false, true);
  numbered(k, r[0], 10, 10);
  r[0] = gch_resize(k->m, r[0], 0);
  r[0] = gch_resize(k->m, r[0], 3000);
  numbered(k, r[0], 0, 3000);
  GCH_FRAME_END(k->m);
}

static void across_the_border(void) { each_mover(across); }

/* --- in place --------------------------------------------------------------------------------------------------- */

static uint64_t used(struct kit *k) { return at_load_relaxed(&k->heap->used_bytes); }

/* Once it has grown, there is room behind it: a hundred times it stays the same object, with an identity; nobody else's contents
 * come into sight. */
static void append(struct kit *k) {
  GCH_FRAME(k->m, r, 3);
  r[2] = kit_bytes(k, 3 * MIB); /* garbage, where pages are not given back one by one */
  memset(gch_payload(r[2]), 0xaa, 3 * MIB);
  r[2] = NULL;
  kit_major(k, GCH_POLICY_NEEDED, false, true);
  r[0] = kit_bytes(k, 3 * MIB);
  fill_bytes(r[0], 0, 3 * MIB);
  r[1] = kit_bytes(k, 20000); /* in its way */
  r[0] = gch_resize(k->m, r[0], 3 * MIB + 200000);
  has_bytes(k, r[0], 3 * MIB, 3 * MIB + 200000);
  fill_bytes(r[0], 3 * MIB, 3 * MIB + 200000);
  r[1] = kit_bytes(k, 20000); /* not in its way any more */
  uint64_t before = used(k), length = 3 * MIB + 200000;
  uint32_t hash = gch_identity_hash(k->m, r[0]);
  for (int i = 0; i < 100; i++, length += 3000) {
    gch_ref grown = gch_resize(k->m, r[0], length + 3000);
    if (!CHECK(grown == r[0])) break;
    for (int b = 0; b < 3000; b++) CHECK_EQ(((uint8_t *)(void *)r[0])[KIT_BYTES + length + (uint64_t)b], 0);
    fill_bytes(r[0], length, length + 3000);
  }
  CHECK_EQ(gch_identity_hash(k->m, r[0]), hash);
  CHECK(used(k) - before >= 300000 - k->heap->layout.page_bytes &&
        used(k) - before <= 300000 + k->heap->layout.page_bytes);
  has_bytes(k, r[0], length, length);
  kit_verify(k);
  kit_major(k, GCH_POLICY_ALL, k->heap->mover->concurrent, true);
  gch_collect_wait(k->m, NULL);
  has_bytes(k, r[0], length, length);
  GCH_FRAME_END(k->m);
}

static void appending_stays_in_place(void) { each_mover(append); }

/* Of references: those that come are found by minors. */
static void append_refs(struct kit *k) {
  GCH_FRAME(k->m, r, 2);
  r[0] = kit_refs(k, 20000);
  number(k, &r[0], 0, 20000);
  r[0] = gch_resize(k->m, r[0], 30000);
  numbered(k, r[0], 20000, 30000);
  for (uint64_t n = 30000; n < 60000; n += 1500) {
    gch_ref grown = gch_resize(k->m, r[0], n + 1500);
    CHECK(grown == r[0]);
    r[0] = grown;
    number(k, &r[0], n, n + 1500);
    kit_minor(k, n % 4500 == 0);
  }
  number(k, &r[0], 20000, 30000);
  numbered(k, r[0], 61500, 60000 + 0);
  GCH_FRAME_END(k->m);
}
static void references_are_appended(void) { each_mover(append_refs); }

/* --- elsewhere -------------------------------------------------------------------------------------------------- */

/* Something behind it: a new object has what it had, young references too, and the old one nothing; memory is not there twice. */
static void elsewhere(struct kit *k) {
  GCH_FRAME(k->m, r, 5);
  uint64_t count = 400000;
  r[0] = kit_refs(k, count);
  r[4] = kit_refs(k, 2000);
  r[1] = kit_bytes(k, 5 * MIB);
  r[2] = kit_bytes(k, 9000);
  *kit_number(r[0]) = 31;
  number(k, &r[0], 0, count);
  kit_minor(k, true);
  for (uint64_t i = 1; i < count; i += 9999) kit_put_node(k, &r[0], i, i);
  fill_bytes(r[1], 0, 5 * MIB);
  for (int leaf = 0; leaf < 2; leaf++) {
    gch_ref old = r[leaf];
    uint32_t hash = gch_identity_hash(k->m, old);
    uint64_t before = used(k), moved = at_load(&k->heap->moved.pages), length = leaf ? 5 * MIB : count;
    r[3] = gch_resize(k->m, r[leaf], length + length / 4);
    uint64_t extra = (leaf ? 1 : 8) * length / 4, page = k->heap->layout.page_bytes;
    CHECK(r[3] != NULL && r[3] != old && r[leaf] == old);
    CHECK(used(k) - before >= extra && used(k) - before <= extra + 3 * page + 2 * BLOCK_BYTES);
    CHECK(gch_identity_hash(k->m, old) == hash && gch_identity_hash(k->m, r[3]) == hash);
    CHECK_EQ(gch_length(k->heap, old), 0);
    CHECK_EQ(gch_object_bytes(k->heap, old), 16);
    bool moves = k->heap->mover->moves_pages && !k->heap->huge;
    CHECK_EQ(at_load(&k->heap->moved.pages) - moved >= extra * 4 / page - 4, moves);
    kit_verify(k);
    if (leaf)
      has_bytes(k, r[3], length, length + length / 4);
    else
      numbered(k, r[3], length, length + length / 4);
    if (!leaf) CHECK_EQ(*kit_number(r[3]), 31);
    CHECK_EQ(*kit_number(old), leaf ? 0 : 31);
    r[leaf] = r[3];
  }
  kit_minor(k, false);
  kit_major(k, GCH_POLICY_ALL, k->heap->mover->concurrent, true);
  gch_collect_wait(k->m, NULL);
  numbered(k, r[0], count, count + count / 4);
  has_bytes(k, r[1], 5 * MIB, 5 * MIB + 5 * MIB / 4);
  GCH_FRAME_END(k->m);
}

static void a_new_object_takes_the_pages(void) { each_mover(elsewhere); }

/* --- shorter ---------------------------------------------------------------------------------------------------- */

static void cut(struct kit *k) {
  GCH_FRAME(k->m, r, 3);
  r[0] = kit_refs(k, 800000);
  r[1] = kit_bytes(k, 6 * MIB);
  number(k, &r[0], 0, 800000);
  fill_bytes(r[1], 0, 6 * MIB);
  uint64_t before = used(k);
  CHECK(gch_resize(k->m, r[0], 1001) == r[0] && gch_resize(k->m, r[1], 70001) == r[1]);
  CHECK(before - used(k) > 6 * MIB + 6 * MIB - 200000);
  kit_verify(k);
  numbered(k, r[0], 1001, 1001);
  has_bytes(k, r[1], 70001, 70001);
  CHECK(kit_major(k, GCH_POLICY_NEEDED, false, true).live_objects < 2000); /* what it held is garbage */
  r[0] = gch_resize(k->m, r[0], 500000);
  r[1] = gch_resize(k->m, r[1], 2 * MIB);
  numbered(k, r[0], 1001, 500000);
  has_bytes(k, r[1], 70001, 2 * MIB);
  GCH_FRAME_END(k->m);
}

static void what_is_cut_off_is_given_back(void) { each_mover(cut); }

/* --- beside a cycle --------------------------------------------------------------------------------------------- */

/* What it has pages for. */
static uint64_t pages_of(struct kit *k, gch_ref o) {
  return k->heap->large.entries[large_id(k->heap, (uintptr_t)o)].bytes;
}

/* Before the flip (planned and armed) and while nothing has been made yet: longer, shorter, and longer what was born meanwhile. */
static void beside(struct kit *k, bool flipped) {
  struct kit_request request;
  if (!k->heap->mover->concurrent) return;
  GCH_FRAME(k->m, r, 12);
  r[0] = kit_refs(k, 300000);
  r[1] = kit_bytes(k, 5 * MIB);
  r[2] = kit_refs(k, 300000);
  r[3] = kit_bytes(k, 5 * MIB);
  r[8] = kit_refs(k, 30000); /* nothing is behind these */
  r[9] = kit_bytes(k, 300000);
  number(k, &r[8], 0, 30000);
  fill_bytes(r[9], 0, 300000);
  number(k, &r[0], 0, 300000);
  number(k, &r[2], 0, 300000);
  fill_bytes(r[1], 0, 5 * MIB);
  fill_bytes(r[3], 0, 5 * MIB);
  if (flipped) {
    hold_on(true);
    kit_begin(k, &request, GCH_POLICY_ALL);
    while (at_load(&k->heap->phase) != GCH_PHASE_MOVE) gch_safepoint(k->m);
  } else {
    hold_before_flip(k, &request, GCH_POLICY_ALL);
  }
  CHECK_EQ(at_load(&k->heap->phase), flipped ? GCH_PHASE_MOVE : GCH_PHASE_PLAN);
  r[4] = gch_resize(k->m, r[0], 400000);
  r[5] = gch_resize(k->m, r[1], 7 * MIB);
  CHECK(r[4] != r[0] && r[5] != r[1] && gch_length(k->heap, r[0]) == 0 && gch_length(k->heap, r[1]) == 0);
  numbered(k, r[4], 300000, 400000);
  has_bytes(k, r[5], 5 * MIB, 7 * MIB);
  CHECK(gch_resize(k->m, r[2], 777) == r[2] && gch_resize(k->m, r[3], 12345) == r[3]);
  CHECK(gch_resize(k->m, r[2], 900) == r[2] && gch_resize(k->m, r[3], 20000) == r[3]); /* they have those pages still */
  numbered(k, r[2], 777, 900);
  has_bytes(k, r[3], 12345, 20000);
  r[10] = gch_resize(k->m, r[8], 40000); /* the plan knows their pages */
  r[11] = gch_resize(k->m, r[9], 400000);
  CHECK(r[10] != r[8] && r[11] != r[9]);
  r[6] = gch_resize(k->m, r[4], 420000); /* born since the mark */
  r[7] = gch_resize(k->m, r[5], 7 * MIB + 300000);
  CHECK(r[6] == r[4] && r[7] == r[5]);
  number(k, &r[6], 300000, 420000);
  fill_bytes(r[7], 5 * MIB, 7 * MIB + 300000);
  kit_minor(k, false);
  if (flipped) {
    at_store(&hold, 0);
    kit_end(k, &request);
    hold_on(false);
  } else {
    hold_off(k, &request);
  }
  numbered(k, r[6], 420000, 420000);
  numbered(k, r[2], 777, 900);
  has_bytes(k, r[7], 7 * MIB + 300000, 7 * MIB + 300000);
  has_bytes(k, r[3], 12345, 20000);
  kit_verify(k);
  numbered(k, r[10], 30000, 40000);
  has_bytes(k, r[11], 300000, 400000);
  for (int i = 0; i < 4; i++) CHECK(pages_of(k, r[i]) > 2 * MIB);
  kit_major(k, GCH_POLICY_NEEDED, true, true); /* its sweep gives back what they do not need */
  gch_collect_wait(k->m, NULL);
  for (int i = 0; i < 4; i++) CHECK_EQ(pages_of(k, r[i]), gch_object_bytes(k->heap, r[i]));
  numbered(k, r[6], 420000, 420000);
  numbered(k, r[2], 777, 900);
  has_bytes(k, r[3], 12345, 20000);
  GCH_FRAME_END(k->m);
}

static void beside_a_plan(struct kit *k) { beside(k, false); }
static void beside_a_move(struct kit *k) { beside(k, true); }
static void before_a_flip(void) { each_mover(beside_a_plan); }
static void after_a_flip(void) { each_mover(beside_a_move); }

/* Born before the flip, in a region that is flipped: after it no pages can be added to it there. */
static uint32_t let_go, arrived; /* [atomic] holds that are over, that have been come to */
static void hold_twice(const char *name) {
  uint32_t which = strcmp(name, "flip_prepared") == 0 ? 1 : strcmp(name, "move_begins") == 0 ? 2 : 0;
  char thread[16] = "";
  pthread_getname_np(pthread_self(), thread, sizeof thread);
  if (which == 0 || strcmp(thread, "gcheap-control") != 0) return;
  at_store(&arrived, which);
  while (at_load(&let_go) < which) usleep(100);
}

static void wait_for(struct kit *k, uint32_t which) {
  at_store(&let_go, which - 1);
  while (at_load(&arrived) != which) gch_safepoint(k->m);
}

static void born_and_flipped(struct kit *k) {
  struct kit_request request;
  if (!k->heap->mover->concurrent) return;
  GCH_FRAME(k->m, r, 6);
  r[0] = kit_refs(k, 30000);
  r[1] = kit_bytes(k, 300000);
  number(k, &r[0], 0, 30000);
  fill_bytes(r[1], 0, 300000);
  at_store(&let_go, 0);
  at_store(&arrived, 0);
  at_store(&gch_hook_fn, hold_twice);
  kit_begin(k, &request, GCH_POLICY_ALL);
  wait_for(k, 1);
  r[2] = gch_resize(k->m, r[0], 40000);
  r[3] = gch_resize(k->m, r[1], 400000);
  r[2] = gch_resize(k->m, r[2], 44000);
  r[3] = gch_resize(k->m, r[3], 440000);
  wait_for(k, 2);
  CHECK_EQ(at_load(&k->heap->phase), GCH_PHASE_MOVE);
  r[4] = gch_resize(k->m, r[2], 50000);
  r[5] = gch_resize(k->m, r[3], 500000);
  CHECK(r[4] != r[2]);
  at_store(&let_go, 2);
  kit_end(k, &request);
  at_store(&gch_hook_fn, NULL);
  numbered(k, r[4], 30000, 50000);
  has_bytes(k, r[5], 300000, 500000);
  kit_verify(k);
  GCH_FRAME_END(k->m);
}
static void born_before_a_flip(void) { each_mover(born_and_flipped); }

/* --- a collection at every poll --------------------------------------------------------------------------------- */

static pthread_t resizer;
static uint32_t wanted, over, rounds; /* [atomic] */
static void collect_at_poll(const char *name) {
  if (strcmp(name, "mutator_native") != 0 || !pthread_equal(pthread_self(), resizer)) return;
  at_store(&wanted, 1);
  while (at_load(&wanted)) usleep(20);
}

/* Kinds in turn. While pages are on their way no major begins, so only minors then. */
static void *collect_when_wanted(void *arg) {
  struct kit k = {.heap = arg};
  if (gch_attach(k.heap, &k.m, NULL) != GCH_OK) return NULL;
  while (!at_load(&over)) {
    bool concurrent = k.heap->mover->concurrent;
    uint32_t kind = at_load(&wanted) ? at_add(&rounds, 1) % 4 : 4;
    if (kind < 4 && at_load(&k.heap->large.transfers) != 0) kind = 0;
    if (kind == 0) kit_minor(&k, false);
    if (kind == 1) kit_major(&k, GCH_POLICY_ALL, false, true);
    if (kind == 2) kit_major(&k, GCH_POLICY_ALL, concurrent, true);
    if (kind == 3) kit_major(&k, GCH_POLICY_NEEDED, concurrent, false);
    at_store(&wanted, 0);
    gch_native_enter(k.m);
    usleep(20);
    gch_native_leave(k.m);
  }
  gch_detach(k.m);
  return NULL;
}

static void disturbed(struct kit *k) {
  pthread_t thread;
  GCH_FRAME(k->m, r, 3);
  uint64_t sizes[] = {200000, 260000, 100, 270000, 300000, 150000, 400000, 500000, 0, 300000}, refs = 0, bytes = 0;
  r[0] = kit_refs(k, 150000);
  r[1] = kit_bytes(k, 8 * 150000);
  number(k, &r[0], 0, refs = 150000);
  fill_bytes(r[1], 0, bytes = 8 * 150000);
  at_store(&over, 0);
  resizer = pthread_self();
  pthread_create(&thread, NULL, collect_when_wanted, k->heap);
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    r[2] = i % 2 ? kit_bytes(k, 20000) : NULL;
    r[2] = i % 3 ? kit_refs(k, 2000) : NULL;
    at_store(&gch_hook_fn, collect_at_poll);
    k->m->poll = 1;
    r[0] = gch_resize(k->m, r[0], sizes[i]);
    k->m->poll = 1;
    r[1] = gch_resize(k->m, r[1], 8 * sizes[i]);
    at_store(&gch_hook_fn, NULL);
    if (!CHECK(r[0] != NULL && r[1] != NULL)) break;
    if (!numbered(k, r[0], refs < sizes[i] ? refs : sizes[i], sizes[i])) break;
    if (!has_bytes(k, r[1], bytes < 8 * sizes[i] ? bytes : 8 * sizes[i], 8 * sizes[i])) break;
    if (i % 3 == 2) number(k, &r[0], refs < sizes[i] ? refs : sizes[i], sizes[i]);
    if (i % 3 == 2) fill_bytes(r[1], bytes < 8 * sizes[i] ? bytes : 8 * sizes[i], 8 * sizes[i]);
    refs = i % 3 == 2 || refs > sizes[i] ? sizes[i] : refs;
    bytes = i % 3 == 2 || bytes > 8 * sizes[i] ? 8 * sizes[i] : bytes;
  }
  at_store(&over, 1);
  kit_join(k, thread);
  gch_collect_wait(k->m, NULL);
  GCH_FRAME_END(k->m);
}

static void collections_at_every_poll(void) { each_mover(disturbed); }

/* --- while pages are on their way ------------------------------------------------------------------------------- */

static uint32_t seen_phase, steps; /* [atomic] */
static gch_heap *watched;
static void look_at_step(const char *name) {
  if (strcmp(name, "pages_taken") != 0) return;
  at_add(&steps, 1);
  at_or(&seen_phase, 1u << at_load(&watched->phase));
  usleep(500);
}

/* A major that is asked for meanwhile begins when the pages are over; a minor need not wait. */
static void held_off(struct kit *k) {
  struct kit_request request;
  GCH_FRAME(k->m, r, 2);
  r[0] = kit_bytes(k, 20 * MIB);
  r[1] = kit_bytes(k, 9000);
  fill_bytes(r[0], 0, 20 * MIB);
  watched = k->heap;
  at_store(&steps, 0);
  at_store(&seen_phase, 0);
  uint64_t majors = at_load(&k->heap->measures.major_count);
  at_store(&gch_hook_fn, look_at_step);
  kit_begin(k, &request, GCH_POLICY_ALL);
  if (k->heap->mover->concurrent) gch_safepoint(k->m);
  r[0] = gch_resize(k->m, r[0], 24 * MIB);
  at_store(&gch_hook_fn, NULL);
  CHECK(at_load(&steps) == 0 || at_load(&seen_phase) == 1u << GCH_PHASE_IDLE);
  kit_end(k, &request);
  CHECK_EQ(at_load(&k->heap->measures.major_count), majors + 1);
  CHECK_EQ(at_load(&k->heap->large.transfers), 0);
  has_bytes(k, r[0], 20 * MIB, 24 * MIB);
  GCH_FRAME_END(k->m);
}
static void majors_wait_for_pages(void) { each_mover(held_off); }

/* fork() waits until all pages are over: the child has not the thread that would go on. */
static void *grow_slowly(void *arg) {
  struct kit *of = arg, k = *of;
  if (gch_attach(k.heap, &k.m, NULL) != GCH_OK) return NULL;
  GCH_FRAME(k.m, r, 2);
  r[0] = kit_bytes(&k, 8 * MIB);
  r[1] = kit_bytes(&k, 9000);
  fill_bytes(r[0], 0, 8 * MIB);
  r[0] = gch_resize(k.m, r[0], 10 * MIB);
  has_bytes(&k, r[0], 8 * MIB, 10 * MIB);
  GCH_FRAME_END(k.m);
  gch_detach(k.m);
  return NULL;
}

static void forked(struct kit *k) {
  pthread_t thread;
  if (k->heap->huge) return; /* copied there */
  watched = k->heap;
  at_store(&steps, 0);
  at_store(&gch_hook_fn, look_at_step);
  pthread_create(&thread, NULL, grow_slowly, k);
  while (at_load(&steps) == 0) gch_safepoint(k->m);
  pid_t child = fork();
  if (child == 0) _exit(at_load(&k->heap->large.transfers) == 0 && gch_verify(k->m, NULL) == GCH_OK ? 0 : 1);
  at_store(&gch_hook_fn, NULL);
  int status = -1;
  gch_native_enter(k->m);
  waitpid(child, &status, 0);
  gch_native_leave(k->m);
  CHECK_EQ(status, 0);
  kit_join(k, thread);
}
static void fork_waits_for_pages(void) { each_mover(forked); }

/* --- refusals --------------------------------------------------------------------------------------------------- */

static void refuses(struct kit *k, gch_ref object, uint64_t count, gch_status status, const char *words) {
  CHECK(gch_resize(k->m, object, count) == NULL);
  CHECK_EQ(gch_last_error(k->m)->status, status);
  if (!CHECK(strstr(gch_last_error(k->m)->message, words) != NULL)) printf("    %s\n", gch_last_error(k->m)->message);
}

static void full(struct kit *k) {
  GCH_FRAME(k->m, r, 3);
  r[0] = kit_bytes(k, 100 * MIB);
  r[1] = kit_bytes(k, 4 * MIB);
  r[2] = kit_refs(k, 9000);
  fill_bytes(r[0], 0, 1000);
  uint64_t before = used(k);
  refuses(k, r[0], 300 * (uint64_t)MIB, GCH_NO_MEMORY, "more than the heap's limit");
  refuses(k, r[0], 255 * (uint64_t)MIB, GCH_NO_MEMORY, "no room for an object of 267386896 bytes");
  refuses(k, r[2], 32 * MIB, GCH_NO_MEMORY, "limit");
  CHECK(before - used(k) < MIB); /* young blocks may have gone */
  has_bytes(k, r[0], 1000, 100 * MIB);
  kit_verify(k);
  r[1] = NULL;
  if (!k->heap->huge) { /* it is not there twice: 100 and 130 MiB are within 256, and so are 200 and 230 */
    r[0] = gch_resize(k->m, r[0], 200 * MIB);
    r[1] = kit_bytes(k, 9000);
    gch_ref grown = gch_resize(k->m, r[0], 230 * MIB);
    CHECK(grown != NULL);
    has_bytes(k, grown, 1000, 230 * MIB);
  }
  GCH_FRAME_END(k->m);
}
static void a_full_heap(void) { each_mover(full); }

static void mistakes(struct kit *k) {
  GCH_FRAME(k->m, r, 2);
  r[0] = kit_node(k, 1);
  r[1] = kit_bytes(k, 100000);
  refuses(k, NULL, 3, GCH_BAD_VALUE, "is not a reference of this heap: it cannot be resized");
  refuses(k, (gch_ref)16, 3, GCH_BAD_VALUE, "0x10 is not a reference");
  refuses(k, r[0], 3, GCH_BAD_VALUE, "type node has no tail, but 3 elements");
  CHECK(gch_resize(k->m, r[0], 0) == r[0]);
  CHECK_EQ(gch_pin(k->m, r[1], NULL), GCH_OK);
  refuses(k, r[1], 10, GCH_BAD_STATE, "is pinned: it cannot be resized to 10 elements");
  refuses(k, r[1], 200000, GCH_BAD_STATE, "is pinned: it cannot be resized to 200000 elements");
  CHECK(gch_resize(k->m, r[1], 100000) == r[1]);
  CHECK_EQ(gch_unpin(k->heap, r[1]), GCH_OK);
  CHECK(gch_resize(k->m, r[1], 10) == r[1]);
  GCH_FRAME_END(k->m);
}
static void mistakes_are_named(void) { each_mover(mistakes); }

/* The kernel refuses this and that: either it goes well or nothing has changed. */
static void injected(struct kit *k) {
  static const char *const specs[] = {"move:EEXIST@p=0.2",     "move:EBUSY@p=0.2",  "move:EAGAIN@p=0.3",
                                      "move:ENOMEM@p=0.2",     "move:ENOENT@p=0.1", "copy:EAGAIN@p=0.3",
                                      "drop:EAGAIN@p=0.5",     "drop:ENOMEM",       "populate:ENOMEM@nth=2",
                                      "populate:ENOMEM@p=0.3", "populate:ENOMEM"};
  GCH_FRAME(k->m, r, 3);
  gch_error error = {0};
  r[0] = kit_refs(k, 200000);
  r[1] = kit_bytes(k, 2 * MIB);
  number(k, &r[0], 0, 200000);
  fill_bytes(r[1], 0, 2 * MIB);
  for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
    r[2] = kit_bytes(k, 9000);
    r[2] = kit_refs(k, 2000);
    if (gch_inject(k->heap, specs[i], &error) != GCH_OK) printf("    %s: %s\n", specs[i], error.message);
    gch_ref grown = gch_resize(k->m, r[0], 250000);
    if (grown != NULL) r[0] = grown;
    numbered(k, r[0], 200000, grown != NULL ? 250000 : 200000);
    grown = gch_resize(k->m, r[1], 3 * MIB);
    if (grown != NULL) r[1] = grown;
    has_bytes(k, r[1], 2 * MIB, grown != NULL ? 3 * MIB : 2 * MIB);
    r[0] = gch_resize(k->m, r[0], 200000);
    r[1] = gch_resize(k->m, r[1], 2 * MIB);
    CHECK(r[0] != NULL && r[1] != NULL);
    gch_inject(k->heap, "", NULL);
    kit_verify(k);
    numbered(k, r[0], 200000, 200000);
    has_bytes(k, r[1], 2 * MIB, 2 * MIB);
  }
  GCH_FRAME_END(k->m);
}
static void refusals_of_the_kernel(void) { each_mover(injected); }

int main(int argc, char **argv) {
  if (argc <= 1) kit_watchdog(100);
  RUN(small_objects);
  RUN(across_the_border);
  RUN(appending_stays_in_place);
  RUN(references_are_appended);
  RUN(a_new_object_takes_the_pages);
  RUN(what_is_cut_off_is_given_back);
  RUN(before_a_flip);
  RUN(after_a_flip);
  RUN(born_before_a_flip);
  RUN(collections_at_every_poll);
  RUN(majors_wait_for_pages);
  RUN(fork_waits_for_pages);
  RUN(a_full_heap);
  RUN(mistakes_are_named);
  RUN(refusals_of_the_kernel);
  (void)argv;
  return CHECK_SUMMARY();
}
