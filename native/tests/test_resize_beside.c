/* gch_resize and cycles: what is planned and armed, what is flipped, a collection at every poll; majors and fork() that wait while pages
 * are on their way. */
#include <sys/wait.h>

#include "resizing.h"

/* See tests/test_fork.c. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0:detect_deadlocks=0"; }

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

int main(void) {
  kit_watchdog(100);
  RUN(before_a_flip);
  RUN(after_a_flip);
  RUN(born_before_a_flip);
  RUN(collections_at_every_poll);
  RUN(majors_wait_for_pages);
  RUN(fork_waits_for_pages);
  return CHECK_SUMMARY();
}
