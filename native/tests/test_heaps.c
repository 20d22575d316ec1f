/* Several heaps in a process, and several in one thread: whoever waits in one keeps nobody waiting in another. */
#include "gc/safepoint.h"
#include "kit.h"
#include "mover/mover.h"

enum { HEAPS = 3, OBJECTS = 500 };
static struct kit shared[HEAPS];
static uint32_t failed;

/* A chain through an array in each heap, which is looked at again after everything that may collect in any of them. */
struct both {
  struct kit k[HEAPS];
  gch_ref roots[HEAPS][2];
  gch_frame frames[HEAPS];
  int heaps;
};

static bool enter(struct both *b, int heaps) {
  *b = (struct both){.heaps = heaps};
  for (int i = 0; i < heaps; i++) {
    b->k[i] = shared[i];
    if (gch_attach(b->k[i].heap, &b->k[i].m, NULL) != GCH_OK) return false;
    gch_frame_push(b->k[i].m, &b->frames[i], b->roots[i], 2);
  }
  for (int i = 0; i < heaps; i++) b->roots[i][0] = kit_refs(&b->k[i], OBJECTS);
  for (int i = 0; i < heaps; i++)
    for (uint64_t n = 0; n < OBJECTS; n++) kit_put_node(&b->k[i], &b->roots[i][0], n, n * 3 + (uint64_t)i);
  return true;
}

static bool whole(struct both *b) {
  for (int i = 0; i < b->heaps; i++)
    for (uint64_t n = 0; n < OBJECTS; n++)
      if (*kit_number(kit_at(b->roots[i][0], n)) != n * 3 + (uint64_t)i) return false;
  return true;
}

static void leave(struct both *b) {
  for (int i = b->heaps - 1; i >= 0; i--) {
    gch_frame_pop(b->k[i].m);
    gch_detach(b->k[i].m);
  }
}

static gch_status collect(struct kit *k, bool minor, bool concurrent, bool wait) {
  gch_collect_options o;
  gch_collect_options_init(&o);
  o.minor = minor;
  o.concurrent = concurrent;
  o.wait = wait;
  o.policy = minor ? GCH_POLICY_NEEDED : GCH_POLICY_ALL;
  return gch_collect(k->m, &o, NULL);
}

/* Collects in one heap, allocates in all. */
static void *worker(void *arg) {
  uint64_t mine = (uintptr_t)arg;
  struct both b;
  if (!enter(&b, HEAPS)) return NULL;
  for (uint64_t i = 0; i < kit_scaled(60, 4); i++) {
    struct kit *k = &b.k[mine % HEAPS];
    if (collect(k, i % 3 == 0, i % 3 == 1, i % 2 == 0) != GCH_OK) at_add(&failed, 1);
    for (int j = 0; j < HEAPS; j++) {
      uint64_t n = (i * 7 + mine) % OBJECTS;
      kit_put_node(&b.k[j], &b.roots[j][0], n, n * 3 + (uint64_t)j);
      if (kit_bytes(&b.k[j], 3000) == NULL) at_add(&failed, 1);
      gch_safepoint(b.k[j].m);
    }
    gch_native_enter(k->m);
    gch_native_leave(k->m);
    if (!whole(&b)) at_add(&failed, 1);
  }
  leave(&b);
  return NULL;
}

static bool open_three(gch_mover first, gch_mover second, gch_mover third) {
  const gch_mover movers[] = {first, second, third};
  for (int i = 0; i < HEAPS; i++) {
    gch_config c = kit_config(movers[i], 64, 256);
    c.gc_threads = 2;
    if (!kit_open(&shared[i], &c)) return false;
    gch_detach(shared[i].m);
  }
  return true;
}

static void close_three(void) {
  for (int i = 0; i < HEAPS; i++) {
    CHECK_EQ(gch_attach(shared[i].heap, &shared[i].m, NULL), GCH_OK);
    kit_verify(&shared[i]);
    kit_close(&shared[i]);
  }
}

/* Each thread waits in a heap of its own for threads that wait in others. */
static void play(gch_mover first, gch_mover second, gch_mover third) {
  pthread_t threads[HEAPS + 1];
  failed = 0;
  if (!open_three(first, second, third)) return;
  for (uintptr_t i = 0; i <= HEAPS; i++) pthread_create(&threads[i], NULL, worker, (void *)i);
  for (int i = 0; i <= HEAPS; i++) pthread_join(threads[i], NULL);
  CHECK_EQ(failed, 0);
  close_three();
}

static void threads_managed_in_three(void) { play(GCH_MOVER_AUTO, GCH_MOVER_AUTO, GCH_MOVER_AUTO); }
static void different_movers_at_once(void) { play(GCH_MOVER_AUTO, GCH_MOVER_SIMULATED, GCH_MOVER_SLIDE); }

static void *stopper(void *arg) {
  struct kit k = shared[(uintptr_t)arg];
  if (gch_attach(k.heap, &k.m, NULL) != GCH_OK) return NULL;
  for (int i = 0; i < 200; i++) kit_minor(&k, false);
  gch_detach(k.m);
  return NULL;
}

static uint32_t end;

/* Attaches to one heap, and leaves it, while managed in another. */
static void *guest(void *arg) {
  uintptr_t mine = (uintptr_t)arg;
  gch_mutator *home, *visit;
  if (gch_attach(shared[mine].heap, &home, NULL) != GCH_OK) return NULL;
  while (!at_load(&end)) {
    static gch_ref slots[2];
    if (gch_attach(shared[1 - mine].heap, &visit, NULL) != GCH_OK) at_add(&failed, 1);
    if (gch_root_add(shared[1 - mine].heap, &slots[mine]) != GCH_OK) at_add(&failed, 1);
    if (gch_root_remove(shared[1 - mine].heap, &slots[mine]) != GCH_OK) at_add(&failed, 1);
    gch_detach(visit);
    gch_safepoint(home);
  }
  gch_detach(home);
  return NULL;
}

static void attach_while_managed_elsewhere(void) {
  pthread_t threads[4];
  failed = end = 0;
  if (!open_three(GCH_MOVER_MEMCPY, GCH_MOVER_MEMCPY, GCH_MOVER_MEMCPY)) return;
  for (uintptr_t i = 0; i < 2; i++) pthread_create(&threads[2 + i], NULL, guest, (void *)i);
  for (uintptr_t i = 0; i < 2; i++) pthread_create(&threads[i], NULL, stopper, (void *)i);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  at_store(&end, 1);
  for (int i = 2; i < 4; i++) pthread_join(threads[i], NULL);
  CHECK_EQ(failed, 0);
  close_three();
}

/* What is native by the caller's own wish in one heap stays so after a wait in another. */
static void native_stays_native(void) {
  struct both b;
  if (!open_three(GCH_MOVER_MEMCPY, GCH_MOVER_MEMCPY, GCH_MOVER_MEMCPY) || !enter(&b, 2)) return;
  gch_native_enter(b.k[1].m);
  CHECK_EQ(collect(&b.k[0], false, false, true), GCH_OK);
  gch_safepoint_slow(b.k[0].m);
  CHECK_EQ(mutator_of(b.k[0].m)->state, MUTATOR_MANAGED);
  CHECK_EQ(mutator_of(b.k[1].m)->state, MUTATOR_NATIVE);
  gch_native_leave(b.k[1].m);
  CHECK(whole(&b));
  leave(&b);
  close_three();
}

int main(void) {
  kit_watchdog(60);
  RUN(threads_managed_in_three);
  RUN(different_movers_at_once);
  RUN(attach_while_managed_elsewhere);
  RUN(native_stays_native);
  return CHECK_SUMMARY();
}
