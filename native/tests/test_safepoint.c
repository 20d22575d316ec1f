/* Mutators: many of them, native and managed, attaching while the world is stopped, ending while attached; and every
 * call that is legal in managed state beside a mutator that collects. */
#include "gc/safepoint.h"

#include "base/clock.h"
#include "gc/safepoint.h"
#include "kit.h"

enum { MANY = 70 };
static struct kit kit;
static uint32_t stop, failed, ready;
static uint64_t counted;

static bool open_small(uint64_t max_mib, uint64_t nursery_kib) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, max_mib, nursery_kib);
  stop = failed = ready = 0;
  counted = 0;
  return kit_open(&kit, &c);
}

static void join_all(pthread_t *threads, int count) {
  gch_native_enter(kit.m);
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
  gch_native_leave(kit.m);
}

/* --- many ----------------------------------------------------------------------------------------------------- */

static void *allocator(void *arg) {
  struct kit k = kit;
  uint64_t rounds = kit_scaled(2000, 4);
  if (gch_attach(k.heap, &k.m, NULL) != GCH_OK) return NULL;
  GCH_FRAME(k.m, root, 2);
  root[0] = kit_node(&k, (uintptr_t)arg);
  for (uint64_t i = 0; i < rounds; i++) {
    root[1] = kit_node(&k, i);
    if (root[1] == NULL || kit_bytes(&k, 8) == NULL) at_add(&failed, 1);
    if (root[1] != NULL) gch_set(k.m, root[0], KIT_A, root[1]);
    if (*kit_number(root[0]) != (uintptr_t)arg) at_add(&failed, 1);
    gch_safepoint(k.m);
  }
  GCH_FRAME_END(k.m);
  gch_detach(k.m);
  return NULL;
}

/* More than a nursery has blocks: slow, but nothing fails while memory is free. */
static void seventy_mutators_in_a_small_nursery(void) {
  pthread_t threads[MANY];
  if (!open_small(256, 256)) return;
  for (uintptr_t i = 0; i < MANY; i++) pthread_create(&threads[i], NULL, allocator, (void *)i);
  join_all(threads, MANY);
  CHECK_EQ(failed, 0);
  kit_verify(&kit);
  kit_close(&kit);
}

/* --- states --------------------------------------------------------------------------------------------------- */

static void *sleeper(void *arg) {
  gch_mutator *m;
  (void)arg;
  if (gch_attach(kit.heap, &m, NULL) != GCH_OK) return NULL;
  gch_native_enter(m);
  at_add(&ready, 1);
  while (!at_load(&stop)) usleep(500);
  gch_native_leave(m);
  gch_detach(m);
  return NULL;
}

/* Who is native counts as stopped: nobody waits for it. */
static void native_threads_hold_up_nothing(void) {
  pthread_t threads[8];
  if (!open_small(64, 1024)) return;
  for (int i = 0; i < 8; i++) pthread_create(&threads[i], NULL, sleeper, NULL);
  while (at_load(&ready) < 8) gch_safepoint(kit.m);
  uint64_t start = clock_ns();
  for (int i = 0; i < 50; i++) kit_minor(&kit, false);
  CHECK(clock_ns() - start < (KIT_SANITIZED ? 30000000000u : 3000000000u));
  at_store(&stop, 1);
  join_all(threads, 8);
  kit_close(&kit);
}

static void *poller(void *arg) {
  gch_mutator *m;
  uint64_t n = 0;
  (void)arg;
  if (gch_attach(kit.heap, &m, NULL) != GCH_OK) return NULL;
  at_add(&ready, 1);
  for (; !at_load(&stop); n++) gch_safepoint(m);
  gch_detach(m);
  at_add(&counted, n);
  return NULL;
}

static void time_to_safepoint(void) {
  pthread_t threads[3];
  gch_stats s;
  if (!open_small(64, 1024)) return;
  for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, poller, NULL);
  while (at_load(&ready) < 3) gch_safepoint(kit.m);
  for (int i = 0; i < 200; i++) {
    gch_cycle r = kit_minor(&kit, false);
    CHECK_EQ(r.pauses, 1);
    CHECK(r.safepoint_longest_ns <= r.pause_longest_ns);
  }
  at_store(&stop, 1);
  join_all(threads, 3);
  gch_stats_get(kit.heap, &s, sizeof s);
  CHECK_EQ(s.minor_pause.count, 200);
  CHECK_EQ(s.safepoint.count, s.pause.count);
  CHECK(s.safepoint.p50 < 50000000);
  CHECK(counted > 0);
  CHECK(s.stall_count[GCH_STALL_PAUSE] > 0);
  kit_close(&kit);
}

/* Who has not noticed yet that a pause is over counts as one that runs: there is a CPU less for workers (gc/concurrent.c). */
static void pauses_in_a_row(void) {
  pthread_t threads[3];
  if (!open_small(64, 1024)) return;
  for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, poller, NULL);
  while (at_load(&ready) < 3) gch_safepoint(kit.m);
  for (int i = 0; i < 300; i++) {
    struct pause pause;
    mutators_enter_native();
    world_stop(kit.heap, GCH_PAUSE_OTHER, &pause);
    world_resume(kit.heap, &pause);
    mutators_leave_native();
    if (!CHECK_EQ(pause.managed, 3)) break;
  }
  at_store(&stop, 1);
  join_all(threads, 3);
  kit_close(&kit);
}

/* --- coming and going ----------------------------------------------------------------------------------------- */

static void *comer(void *arg) {
  (void)arg;
  while (!at_load(&stop)) {
    struct kit k = kit;
    if (gch_attach(k.heap, &k.m, NULL) != GCH_OK) {
      at_add(&failed, 1);
      break;
    }
    if (kit_node(&k, 1) == NULL) at_add(&failed, 1);
    gch_detach(k.m);
  }
  return NULL;
}

static void attach_and_detach_beside_pauses(void) {
  pthread_t threads[4];
  gch_stats s;
  if (!open_small(64, 1024)) return;
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, comer, NULL);
  for (uint64_t i = 0; i < kit_scaled(300, 4); i++) {
    kit_minor(&kit, i & 1);
    if (i % 20 == 0) kit_verify(&kit);
  }
  at_store(&stop, 1);
  join_all(threads, 4);
  CHECK_EQ(failed, 0);
  gch_stats_get(kit.heap, &s, sizeof s);
  CHECK_EQ(s.mutators, 1);
  kit_close(&kit);
}

static void *leaver(void *arg) {
  gch_mutator *m;
  (void)arg;
  gch_attach(kit.heap, &m, NULL);
  return NULL;
}

static void thread_ends_attached(void) {
  pthread_t thread;
  gch_stats s;
  if (!open_small(64, 1024)) return;
  pthread_create(&thread, NULL, leaver, NULL);
  pthread_join(thread, NULL);
  gch_stats_get(kit.heap, &s, sizeof s);
  CHECK_EQ(s.mutators, 1);
  kit_minor(&kit, false); /* waits for nobody who is gone */
  kit_close(&kit);
}

static void attached_twice(void) {
  gch_mutator *second = kit.m;
  gch_error error = {0};
  if (!open_small(64, 1024)) return;
  CHECK_EQ(gch_attach(kit.heap, &second, &error), GCH_BAD_STATE);
  CHECK(second == NULL && strstr(error.message, "attached") != NULL);
  CHECK_EQ(gch_heap_destroy(kit.heap, &error), GCH_BAD_STATE);
  CHECK(strstr(error.message, "1 mutators") != NULL);
  CHECK(kit_node(&kit, 1) != NULL); /* untouched */
  kit_close(&kit);
}

/* --- legal calls beside pauses -------------------------------------------------------------------------------- */

enum legal { STATS, ROOTS, SECOND_ATTACH, ROOTS_FN, TYPES, EVENTS, LEGAL_COUNT };
static enum legal legal;

static void *caller(void *arg) {
  static gch_ref slot;
  gch_mutator *m, *second;
  gch_stats stats;
  gch_event events[4];
  uint64_t sequence = 0;
  (void)arg;
  if (gch_attach(kit.heap, &m, NULL) != GCH_OK) return NULL;
  for (at_store(&ready, 1); !at_load(&stop); gch_safepoint(m)) {
    const gch_type *type;
    gch_type_desc d = {sizeof d, 16, NULL, 0, GCH_TAIL_NONE, 0, 0, 0, "leaf", 0};
    if (legal == STATS) gch_stats_get(kit.heap, &stats, sizeof stats);
    if (legal == ROOTS && (gch_root_add(kit.heap, &slot) != GCH_OK || gch_root_remove(kit.heap, &slot) != GCH_OK))
      at_add(&failed, 1);
    if (legal == SECOND_ATTACH && gch_attach(kit.heap, &second, NULL) != GCH_BAD_STATE) at_add(&failed, 1);
    if (legal == ROOTS_FN) gch_roots_fn_set(kit.heap, NULL, NULL);
    if (legal == TYPES) gch_type_new(kit.heap, &d, &type, NULL);
    if (legal == EVENTS) gch_events_read(kit.heap, &sequence, events, 4, NULL);
  }
  gch_detach(m);
  return NULL;
}

static void managed_calls_beside_pauses(void) {
  for (legal = STATS; legal < LEGAL_COUNT; legal++) {
    pthread_t thread;
    if (!open_small(64, 256)) return;
    pthread_create(&thread, NULL, caller, NULL);
    while (!at_load(&ready)) gch_safepoint(kit.m);
    for (int i = 0; i < 150; i++) kit_minor(&kit, false);
    at_store(&stop, 1);
    join_all(&thread, 1);
    CHECK_EQ(failed, 0);
    kit_close(&kit);
  }
}

int main(void) {
  kit_watchdog(60);
  RUN(seventy_mutators_in_a_small_nursery);
  RUN(native_threads_hold_up_nothing);
  RUN(time_to_safepoint);
  RUN(pauses_in_a_row);
  RUN(attach_and_detach_beside_pauses);
  RUN(thread_ends_attached);
  RUN(attached_twice);
  RUN(managed_calls_beside_pauses);
  return CHECK_SUMMARY();
}
