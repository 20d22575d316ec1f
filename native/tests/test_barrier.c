/* The barrier in its other forms: compare-and-swap, exchange, copies that overlap, fill. What they store is found by minor
 * collections (cards), what they overwrite is logged while marking, and what they refuse they name.
 *
 * gc/barrier.c is compiled into this file with a snapshot log of its own, so that the log can be read here. */
#define gch_log_slow log_value
#include "gc/barrier.c"

#include "kit.h"
#include "mover/mover.h"

enum { LOG_MAX = 100000, LARGE = 20000 };
static gch_ref logged[LOG_MAX];
static uint64_t logged_count;

/* What is really being marked is told, too. */
#undef gch_log_slow
void gch_log_slow(gch_mutator *m, gch_ref previous);

void log_value(gch_mutator *m, gch_ref previous) {
  logged[at_add_relaxed(&logged_count, 1) % LOG_MAX] = previous;
  if (at_load(&m->heap->phase) != GCH_PHASE_IDLE) gch_log_slow(m, previous);
}

static bool open_kit(struct kit *k) {
  gch_config c = kit_config(GCH_MOVER_AUTO, 128, 512);
  c.gc_threads = 1;
  return kit_open(k, &c);
}

static uint64_t random_state = 88172645463325252u;
static uint64_t draw(uint64_t n) {
  uint64_t x = random_state;
  x ^= x << 13, x ^= x >> 7, x ^= x << 17;
  random_state = x;
  return x % n;
}

/* --- one slot ------------------------------------------------------------------------------------------------- */

static void a_swap_stores_what_was_expected_or_tells(void) {
  struct kit k;
  if (!open_kit(&k)) return;
  GCH_FRAME(k.m, r, 4);
  r[0] = kit_refs(&k, 3);
  r[1] = kit_node(&k, 1);
  r[2] = kit_node(&k, 2);
  gch_ref *slot = gch_slot(r[0], KIT_REFS + 8), expected = NULL;
  CHECK(gch_compare_and_swap(k.m, slot, &expected, r[1]));
  CHECK(kit_at(r[0], 1) == r[1] && expected == NULL);
  expected = r[2];
  CHECK(!gch_compare_and_swap(k.m, slot, &expected, NULL));
  CHECK(kit_at(r[0], 1) == r[1] && expected == r[1]);
  CHECK(gch_compare_and_swap(k.m, slot, &expected, r[2]));
  CHECK(gch_exchange(k.m, slot, NULL) == r[2] && kit_at(r[0], 1) == NULL);
  CHECK(gch_exchange(k.m, slot, r[1]) == NULL && kit_at(r[0], 1) == r[1]);
  CHECK(kit_at(r[0], 0) == NULL && kit_at(r[0], 2) == NULL);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* Nothing but an old object refers to them. */
static void what_is_swapped_in_is_found_by_a_minor(void) {
  struct kit k;
  if (!open_kit(&k)) return;
  GCH_FRAME(k.m, r, 1);
  r[0] = kit_refs(&k, 1000);
  kit_minor(&k, true);
  CHECK(!heap_is_young(k.heap, (uintptr_t)r[0]));
  gch_ref expected = NULL, node = kit_node(&k, 70);
  CHECK(gch_compare_and_swap(k.m, gch_slot(r[0], KIT_REFS + 8 * 7), &expected, node));
  node = kit_node(&k, 990);
  CHECK(gch_exchange(k.m, gch_slot(r[0], KIT_REFS + 8 * 990), node) == NULL);
  kit_verify(&k);
  kit_minor(&k, true);
  CHECK_EQ(*kit_number(kit_at(r[0], 7)), 70);
  CHECK_EQ(*kit_number(kit_at(r[0], 990)), 990);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

enum { PUSHERS = 3, PUSHES = 20000 };
struct pusher {
  gch_heap *heap;
  const gch_type *node;
  gch_handle box;
  uint64_t number;
};

/* Treiber's stack; its head is a slot of an object. Each allocation may collect, so the box is taken from its handle anew. */
static void *push_all(void *arg) {
  struct pusher *p = arg;
  struct kit k = {.heap = p->heap, .node = p->node};
  if (gch_attach(p->heap, &k.m, NULL) != GCH_OK) return NULL;
  for (uint64_t i = 0; i < kit_scaled(PUSHES, 10); i++) {
    gch_ref node = kit_node(&k, p->number * PUSHES + i), box;
    if (node == NULL || gch_handle_get(k.m, p->box, &box) != GCH_OK) break;
    gch_ref head = gch_load(box, KIT_REFS);
    do gch_set(k.m, node, KIT_A, head);
    while (!gch_compare_and_swap(k.m, gch_slot(box, KIT_REFS), &head, node));
  }
  gch_detach(k.m);
  return NULL;
}

static void threads_swap_and_lose_nothing(void) {
  struct kit k;
  pthread_t threads[PUSHERS];
  struct pusher pushers[PUSHERS];
  uint64_t each = kit_scaled(PUSHES, 10), last[PUSHERS], counts[PUSHERS] = {0};
  if (!open_kit(&k)) return;
  gch_handle box = gch_handle_new(k.m, kit_refs(&k, 1));
  for (uint64_t i = 0; i < PUSHERS; i++) {
    pushers[i] = (struct pusher){k.heap, k.node, box, i};
    last[i] = UINT64_MAX;
    pthread_create(&threads[i], NULL, push_all, &pushers[i]);
  }
  for (int i = 0; i < 3; i++) kit_major(&k, GCH_POLICY_ALL, k.heap->mover->concurrent, true);
  for (int i = 0; i < PUSHERS; i++) kit_join(&k, threads[i]);
  gch_ref node;
  CHECK_EQ(gch_handle_get(k.m, box, &node), GCH_OK);
  for (node = gch_load(node, KIT_REFS); node != NULL; node = gch_load(node, KIT_A)) {
    uint64_t who = *kit_number(node) / PUSHES, i = *kit_number(node) % PUSHES;
    if (!CHECK(who < PUSHERS && (i < last[who]))) break;
    last[who] = i;
    counts[who]++;
  }
  for (int i = 0; i < PUSHERS; i++) CHECK_EQ(counts[i], each);
  kit_verify(&k);
  gch_handle_free(k.heap, box);
  kit_close(&k);
}

/* --- runs ----------------------------------------------------------------------------------------------------- */

/* An array whose element i is a node of number i, and its shadow. */
static void number_all(struct kit *k, gch_ref *array, uint64_t *shadow, uint64_t count, uint64_t first) {
  for (uint64_t i = 0; i < count; i++) {
    kit_put_node(k, array, i, first + i);
    shadow[i] = first + i;
  }
}

static bool equals(gch_ref array, const uint64_t *shadow, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    gch_ref node = kit_at(array, i);
    if (shadow[i] == UINT64_MAX ? node != NULL : node == NULL || *kit_number(node) != shadow[i]) return false;
  }
  return true;
}

static uint64_t shadows[2][LARGE];

/* Random copies in and between two arrays, and fills, against memmove; another thread collects meanwhile. */
static void copies_are_those_of_memmove(uint64_t length, int rounds) {
  struct kit k;
  struct kit_request request;
  if (!open_kit(&k)) return;
  GCH_FRAME(k.m, r, 3);
  for (int i = 0; i < 2; i++) {
    r[i] = kit_refs(&k, length);
    number_all(&k, &r[i], shadows[i], length, 100000u * (uint64_t)i);
  }
  for (int round = 0; round < rounds; round++) {
    uint64_t a = draw(2), b = draw(2), count = draw(length + 1);
    uint64_t to = draw(length - count + 1), from = draw(length - count + 1);
    if (round % 16 == 0) kit_begin(&k, &request, (gch_policy)draw(2));
    if (draw(8) == 0) {
      r[2] = draw(2) ? kit_node(&k, 5000000 + (uint64_t)round) : NULL;
      CHECK_EQ(gch_fill_refs(k.m, r[a], to, count, r[2]), GCH_OK);
      for (uint64_t i = to; i < to + count; i++) shadows[a][i] = r[2] == NULL ? UINT64_MAX : *kit_number(r[2]);
      r[2] = NULL;
    } else {
      CHECK_EQ(gch_copy_refs(k.m, r[a], to, r[b], from, count), GCH_OK);
      memmove(shadows[a] + to, shadows[b] + from, count * sizeof(uint64_t));
    }
    if (round % 16 == 15) kit_end(&k, &request);
    if (!CHECK(equals(r[0], shadows[0], length) && equals(r[1], shadows[1], length))) break;
  }
  if (rounds % 16 != 0) kit_end(&k, &request);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void small_copies(void) { copies_are_those_of_memmove(300, 800); }
static void large_copies(void) { copies_are_those_of_memmove(LARGE, (int)kit_scaled(160, 10)); }

/* Only cards lead to what is copied into an old array, or filled in. */
static void what_is_copied_is_found_by_a_minor(void) {
  struct kit k;
  static uint64_t shadow[LARGE];
  if (!open_kit(&k)) return;
  GCH_FRAME(k.m, r, 2);
  r[0] = kit_refs(&k, LARGE);
  kit_minor(&k, true);
  r[1] = kit_refs(&k, 900);
  number_all(&k, &r[1], shadow, 900, 0);
  CHECK(heap_is_young(k.heap, (uintptr_t)kit_at(r[1], 899)));
  CHECK_EQ(gch_copy_refs(k.m, r[0], 11003, r[1], 0, 900), GCH_OK);
  r[1] = NULL;
  kit_verify(&k);
  kit_minor(&k, false);
  kit_verify(&k);
  CHECK(heap_is_young(k.heap, (uintptr_t)kit_at(r[0], 11003))); /* once: they have a card again */
  CHECK_EQ(gch_copy_refs(k.m, r[0], 10950, r[0], 11003, 900), GCH_OK); /* up, */
  CHECK_EQ(gch_copy_refs(k.m, r[0], 11500, r[0], 10950, 900), GCH_OK); /* and down */
  CHECK_EQ(gch_fill_refs(k.m, r[0], 10900, 100, kit_at(r[0], 11500)), GCH_OK);
  kit_verify(&k);
  kit_minor(&k, true);
  for (uint64_t i = 0; i < 900; i++) CHECK_EQ(*kit_number(kit_at(r[0], 11500 + i)), i);
  for (uint64_t i = 0; i < 100; i++) CHECK_EQ(*kit_number(kit_at(r[0], 10900 + i)), 0);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* Outside a cycle, copies of old references leave cards clean: the next minor has nothing to read. */
static void old_references_dirty_nothing(void) {
  struct kit k;
  if (!open_kit(&k)) return;
  GCH_FRAME(k.m, r, 2);
  r[0] = kit_refs(&k, LARGE);
  r[1] = kit_node(&k, 1);
  kit_minor(&k, true);
  kit_minor(&k, true);
  uint8_t *dirty = &k.heap->tables.dirty[arena_index(&k.heap->layout, (uintptr_t)r[0])];
  CHECK_EQ(*dirty, 0);
  CHECK_EQ(gch_fill_refs(k.m, r[0], 0, LARGE, r[1]), GCH_OK);
  CHECK_EQ(gch_copy_refs(k.m, r[0], 0, r[0], 10, 1000), GCH_OK);
  CHECK_EQ(*dirty, 0);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* A thread that waits for the world to stop does not wait for a whole copy. */
static uint64_t polls;
static void count_polls(const char *name) {
  if (strcmp(name, "mutator_native") == 0) at_add(&polls, 1);
}
static void a_long_copy_polls(void) {
  struct kit k;
  if (!open_kit(&k)) return;
  GCH_FRAME(k.m, r, 1);
  r[0] = kit_refs(&k, LARGE);
  at_store(&gch_hook_fn, count_polls);
  k.m->poll = 1; /* as if somebody asked all the time */
  CHECK_EQ(gch_copy_refs(k.m, r[0], 0, r[0], 1, LARGE - 1), GCH_OK);
  CHECK_EQ(at_load(&polls), (LARGE - 2) / CHUNK);
  CHECK_EQ(gch_fill_refs(k.m, r[0], 0, LARGE, NULL), GCH_OK);
  CHECK_EQ(at_load(&polls), (LARGE - 2) / CHUNK + (LARGE - 1) / CHUNK);
  k.m->poll = 0;
  at_store(&gch_hook_fn, NULL);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* At each poll of the main thread another one moves everything. */
static pthread_t poller;
static uint32_t wanted, over; /* [atomic] */
static void collect_at_poll(const char *name) {
  if (strcmp(name, "mutator_native") != 0 || !pthread_equal(pthread_self(), poller)) return;
  at_store(&wanted, 1);
  while (at_load(&wanted)) usleep(20);
}

static void *collect_when_wanted(void *arg) {
  struct kit k = {.heap = arg};
  if (gch_attach(k.heap, &k.m, NULL) != GCH_OK) return NULL;
  while (!at_load(&over)) {
    if (at_load(&wanted)) kit_major(&k, GCH_POLICY_ALL, false, true), at_store(&wanted, 0);
    gch_native_enter(k.m);
    usleep(20);
    gch_native_leave(k.m);
  }
  gch_detach(k.m);
  return NULL;
}

static void what_moves_meanwhile_is_found_again(void) {
  struct kit k;
  pthread_t thread;
  if (!open_kit(&k)) return;
  GCH_FRAME(k.m, r, 3);
  for (int i = 0; i < 2; i++) {
    r[i] = kit_refs(&k, LARGE);
    number_all(&k, &r[i], shadows[i], LARGE, 100000u * (uint64_t)i);
  }
  r[2] = kit_node(&k, 5);
  gch_ref was[3] = {r[0], r[1], r[2]};
  poller = pthread_self();
  pthread_create(&thread, NULL, collect_when_wanted, k.heap);
  at_store(&gch_hook_fn, collect_at_poll);
  k.m->poll = 1;
  CHECK_EQ(gch_copy_refs(k.m, r[0], 1, r[1], 0, LARGE - 1), GCH_OK);
  k.m->poll = 1;
  CHECK_EQ(gch_copy_refs(k.m, r[0], 9, r[0], 0, LARGE - 9), GCH_OK);
  k.m->poll = 1;
  CHECK_EQ(gch_fill_refs(k.m, r[1], 0, LARGE, r[2]), GCH_OK);
  at_store(&gch_hook_fn, NULL);
  at_store(&over, 1);
  kit_join(&k, thread);
  for (int i = 0; i < 3; i++) CHECK(r[i] != was[i]);
  memmove(shadows[0] + 1, shadows[1], (LARGE - 1) * sizeof(uint64_t));
  memmove(shadows[0] + 9, shadows[0], (LARGE - 9) * sizeof(uint64_t));
  CHECK(equals(r[0], shadows[0], LARGE));
  for (uint64_t i = 0; i < LARGE; i++) shadows[1][i] = 5;
  CHECK(equals(r[1], shadows[1], LARGE));
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* --- the log -------------------------------------------------------------------------------------------------- */

/* While marking, each value is in the log once when it has been overwritten, whatever was done; at rest nothing is. */
static void what_is_overwritten_is_logged(void) {
  struct kit k;
  if (!open_kit(&k)) return;
  GCH_FRAME(k.m, r, 3);
  static uint64_t shadow[1500];
  r[0] = kit_refs(&k, 1500);
  number_all(&k, &r[0], shadow, 1500, 0);
  r[1] = kit_node(&k, 7777);
  kit_minor(&k, true);
  gch_collect_wait(k.m, NULL);
  logged_count = 0;
  CHECK_EQ(gch_copy_refs(k.m, r[0], 0, r[0], 0, 10), GCH_OK);
  CHECK_EQ(logged_count, 0);
  k.m->snapshot = 1;
  gch_ref *slot = gch_slot(r[0], KIT_REFS), first = kit_at(r[0], 0), expected = r[1];
  CHECK(!gch_compare_and_swap(k.m, slot, &expected, NULL));
  CHECK_EQ(logged_count, 0);
  CHECK(gch_compare_and_swap(k.m, slot, &expected, r[1]) && logged_count == 1 && logged[0] == first);
  CHECK(gch_exchange(k.m, slot, first) == r[1] && logged_count == 2 && logged[1] == r[1]);
  logged_count = 0;
  gch_set(k.m, r[0], KIT_REFS, first);
  CHECK(logged_count == 1 && logged[0] == first);
  for (int down = 0; down < 2; down++) {
    uint64_t from = down ? 3 : 10, to = down ? 10 : 3, count = 1400;
    for (uint64_t i = 0; i < 1500; i++) shadow[i] = *kit_number(kit_at(r[0], i));
    logged_count = 0;
    CHECK_EQ(gch_copy_refs(k.m, r[0], to, r[0], from, count), GCH_OK);
    if (!CHECK_EQ(logged_count, count)) break;
    for (uint64_t i = 0; i < count; i++)
      if (!CHECK_EQ(*kit_number(logged[i]), shadow[down ? to + count - 1 - i : to + i])) break;
  }
  for (uint64_t i = 0; i < 1500; i++) shadow[i] = *kit_number(kit_at(r[0], i));
  logged_count = 0;
  CHECK_EQ(gch_fill_refs(k.m, r[0], 100, 1300, NULL), GCH_OK);
  CHECK_EQ(logged_count, 1300);
  for (uint64_t i = 0; i < 1300; i++)
    if (!CHECK_EQ(*kit_number(logged[i]), shadow[100 + i])) break;
  k.m->snapshot = 0;
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* --- tags and mistakes ---------------------------------------------------------------------------------------- */

/* A word that the type says is none goes in as it is, though it looks like the address of an object that moves. */
static void immediates_are_no_roots(void) {
  struct kit k;
  const gch_type_desc desc = {sizeof desc, 8, NULL, 0, GCH_TAIL_REFS, 0, 1, 0, "tagged", 0};
  const gch_type *tagged;
  if (!open_kit(&k)) return;
  CHECK_EQ(gch_type_new(k.heap, &desc, &tagged, NULL), GCH_OK);
  GCH_FRAME(k.m, r, 2);
  r[0] = gch_alloc_array(k.m, tagged, LARGE);
  r[1] = kit_node(&k, 1);
  gch_ref immediate = (gch_ref)((uintptr_t)r[1] | 1);
  k.m->poll = 1; /* each chunk visits roots, if the world stops */
  struct kit_request request;
  kit_begin(&k, &request, GCH_POLICY_ALL);
  CHECK_EQ(gch_fill_refs(k.m, r[0], 0, LARGE, immediate), GCH_OK);
  kit_end(&k, &request);
  for (uint64_t i = 0; i < LARGE; i++)
    if (!CHECK(kit_at(r[0], i) == immediate)) break;
  gch_ref plain = kit_refs(&k, 10);
  CHECK_EQ(gch_copy_refs(k.m, plain, 0, r[0], 0, 3), GCH_BAD_VALUE);
  CHECK_STR(gch_last_error(k.m)->message,
            "type refs tags words by mask 0 and value 0, type tagged by 1 and 0; expected the same");
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void refuses(struct kit *k, gch_status status, const char *message) {
  CHECK_EQ(status, GCH_BAD_VALUE);
  CHECK_STR(gch_last_error(k->m)->message, message);
}

static void mistakes_are_named(void) {
  struct kit k;
  if (!open_kit(&k)) return;
  GCH_FRAME(k.m, r, 3);
  r[0] = kit_refs(&k, 10);
  r[1] = kit_node(&k, 1);
  r[2] = kit_bytes(&k, 100);
  gch_ref out = NULL, foreign = (gch_ref)16;
  bool swapped = true;
  refuses(&k, gch_copy_refs(k.m, NULL, 0, r[0], 0, 1),
          "the destination is null, expected an object with a tail of references");
  refuses(&k, gch_copy_refs(k.m, r[0], 0, foreign, 0, 1), "the source, 0x10, is not a reference of this heap");
  refuses(&k, gch_copy_refs(k.m, r[0], 0, r[1], 0, 1),
          "the source is of type node, expected one with a tail of references");
  refuses(&k, gch_copy_refs(k.m, r[2], 0, r[0], 0, 1),
          "the destination is of type bytes, expected one with a tail of references");
  refuses(&k, gch_copy_refs(k.m, r[0], 8, r[0], 0, 3), "3 elements from 8 on of the destination, which has 10");
  refuses(&k, gch_copy_refs(k.m, r[0], 0, r[0], UINT64_MAX, 2),
          "2 elements from 18446744073709551615 on of the source, which has 10");
  refuses(&k, gch_fill_refs(k.m, r[0], 1, UINT64_MAX, NULL),
          "18446744073709551615 elements from 1 on of the object, which has 10");
  refuses(&k, gch_fill_refs(k.m, r[0], 1, 1, foreign), "the value, 0x10, is not a reference of this heap");
  refuses(&k, gch_field_exchange(k.m, r[1], 8, NULL, &out), "offset 8 of an object of type node is not a reference");
  refuses(&k, gch_field_exchange(k.m, r[1], KIT_A, foreign, &out), "0x10 is not a reference of this heap");
  refuses(&k, gch_field_compare_and_swap(k.m, r[0], KIT_REFS + 80, &out, NULL, &swapped),
          "offset 96 of an object of type refs is not a reference");
  CHECK(!swapped);
  CHECK_EQ(gch_field_exchange(k.m, r[1], KIT_A, r[0], &out), GCH_OK);
  CHECK(out == NULL);
  CHECK_EQ(gch_field_compare_and_swap(k.m, r[1], KIT_A, &out, r[2], &swapped), GCH_OK);
  CHECK(!swapped && out == r[0]);
  CHECK_EQ(gch_field_compare_and_swap(k.m, r[1], KIT_A, &out, r[2], &swapped), GCH_OK);
  CHECK(swapped && gch_load(r[1], KIT_A) == r[2]);
  CHECK_EQ(gch_copy_refs(k.m, r[0], 10, r[0], 10, 0), GCH_OK);
  CHECK_EQ(gch_fill_refs(k.m, r[0], 0, 0, NULL), GCH_OK);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

int main(void) {
  kit_watchdog(60);
  RUN(a_swap_stores_what_was_expected_or_tells);
  RUN(what_is_swapped_in_is_found_by_a_minor);
  RUN(threads_swap_and_lose_nothing);
  RUN(small_copies);
  RUN(large_copies);
  RUN(what_is_copied_is_found_by_a_minor);
  RUN(old_references_dirty_nothing);
  RUN(a_long_copy_polls);
  RUN(what_moves_meanwhile_is_found_again);
  RUN(what_is_overwritten_is_logged);
  RUN(immediates_are_no_roots);
  RUN(mistakes_are_named);
  return CHECK_SUMMARY();
}
