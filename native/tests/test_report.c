/* The report of a major: who answered faults, who waited for whom, how little of its time a thread had to itself. Each case is
 * forced: workers, the handler thread and a second toucher are held up with or without a unit in their hands. The oracle is the
 * test's own clock around its touches. */
#include <gcheap/report.h>

#include "heap/stall_log.h"
#include "heap/unit.h"
#include "hold.h"
#include "os/thread.h"

enum { UNITS = 16, DELAY_MS = 5 };
static const uint64_t MS = 1000000;
static const uint64_t OFF_CPU = 200000000; /* who has answered may lose its CPU to us before it looks at the clock */

static struct kit kit;
static gch_ref *array; /* of a root: 1 MiB of references, UNITS units */

/* --- holding threads up ----------------------------------------------------------------------------------------- */

struct held {
  const char *thread, *point; /* [const while hooked] the first of these threads at this point */
  uint32_t inside; /* [atomic] it is there */
  uint32_t let; /* [atomic] it may go on */
};
static struct held holds[2]; /* a thread of NULL: this one, by number */
static uint32_t hold_thread; /* [atomic] */

static void hold_up(const char *name) {
  char thread[16] = "";
  pthread_getname_np(pthread_self(), thread, sizeof thread);
  for (int i = 0; i < 2; i++) {
    struct held *h = &holds[i];
    if (h->point == NULL || strcmp(name, h->point) != 0) continue;
    bool named = h->thread != NULL && strcmp(thread, h->thread) == 0;
    if (!named && !(h->thread == NULL && thread_id() == at_load(&hold_thread))) continue;
    if (at_add(&h->inside, 1) > 0) continue;
    while (!at_load(&h->let)) usleep(100);
  }
}

static void hold_these(const char *thread_a, const char *point_a, const char *thread_b, const char *point_b) {
  at_store(&gch_hook_fn, NULL);
  holds[0] = (struct held){.thread = thread_a, .point = point_a};
  holds[1] = (struct held){.thread = thread_b, .point = point_b};
  at_store(&gch_hook_fn, hold_up);
}

static void wait_inside(int i) {
  while (!at_load(&holds[i].inside)) gch_safepoint(kit.m);
}

static uint32_t touching; /* [atomic] we are about to touch */

/* The kernel holds our thread, which has touched. */
static bool is_asleep(void) {
  char text[512] = "";
  FILE *f = fopen("/proc/self/stat", "r"); /* of the first thread: ours */
  size_t n = fread(text, 1, sizeof text - 1, f);
  fclose(f);
  const char *state = n > 0 ? strrchr(text, ')') : NULL;
  return state != NULL && state[2] == 'S';
}

/* Lets threads go on: the first some time after we wait for a page (or a unit in somebody's hands is waited for), the second some time after
 * every other unit is made. */
struct later {
  bool in_hands, both;
  uint64_t impatient;
  pthread_t thread;
};
static void wait_others_mapped(void);
static void *let_later(void *arg) {
  const struct later *l = arg;
  if (l->in_hands)
    while (at_load(&kit.heap->impatient) == l->impatient) usleep(100);
  else
    while (!at_load(&touching) || !is_asleep()) usleep(100);
  usleep(DELAY_MS * 1000);
  at_store(&holds[0].let, 1);
  if (!l->both) return NULL;
  wait_others_mapped();
  usleep(4 * DELAY_MS * 1000);
  at_store(&holds[1].let, 1);
  return NULL;
}
static void begin_later(struct later *l, bool in_hands, bool both) {
  *l = (struct later){.in_hands = in_hands, .both = both, .impatient = at_load(&kit.heap->impatient)};
  at_store(&touching, 0);
  pthread_create(&l->thread, NULL, let_later, l);
}

/* --- heaps, touches --------------------------------------------------------------------------------------------- */

static gch_stats before;

static bool open_heap(gch_fault_mode faults) {
  gch_config c = kit_config(GCH_MOVER_MOVE, 128, 1024);
  c.fault_mode = faults;
  c.gc_threads = 1;
  c.huge = GCH_HUGE_OFF;
  return kit_available(GCH_MOVER_MOVE) && kit_open(&kit, &c);
}

static void fill(gch_ref *root) {
  array = root;
  *root = kit_refs(&kit, (uint64_t)UNITS * BLOCK_BYTES / 8);
  kit_major(&kit, GCH_POLICY_ALL, false, true);
}

/* A major comes to where a thread is held. */
static void begin_major(void) {
  gch_stats_get(kit.heap, &before, sizeof before);
  kit_major(&kit, GCH_POLICY_ALL, true, false);
}

static gch_report end_major(void) {
  gch_report r;
  gch_collect_wait(kit.m, NULL);
  at_store(&gch_hook_fn, NULL);
  gch_report_get(kit.heap, &r, sizeof r);
  return r;
}

static size_t unit_of(uint64_t i) { return block_index(&kit.heap->layout, (uintptr_t)*array + i * BLOCK_BYTES); }

/* The time that a touch takes, by our own clock. */
static uint64_t touch(size_t unit) {
  uint64_t start = clock_ns();
  at_store(&touching, 1);
  (void)*(volatile uint64_t *)(block_address(&kit.heap->layout, unit) + BLOCK_BYTES / 2);
  return clock_ns() - start;
}

/* Of all units but the last that are armed. */
static uint32_t touch_all(uint64_t *sum, uint64_t *longest) {
  uint32_t count = 0;
  *sum = *longest = 0;
  for (uint64_t i = 0; i + 1 < UNITS; i++) {
    if (unit_state(kit.heap, unit_of(i)) != UNIT_ARMED) continue;
    uint64_t ns = touch(unit_of(i));
    *sum += ns;
    if (ns > *longest) *longest = ns;
    count++;
  }
  return count;
}

static void wait_others_mapped(void) {
  for (uint64_t i = 0; i < UNITS; i++)
    while (i != 8 && unit_state(kit.heap, unit_of(i)) != UNIT_MAPPED) usleep(100);
}

static size_t busy_unit(void) {
  for (uint64_t i = 0; i < UNITS; i++)
    if (unit_state(kit.heap, unit_of(i)) == UNIT_BUSY) return unit_of(i);
  return 0;
}

/* What holds of every report of a move. */
static void check_sums(const gch_report *r) {
  gch_stats after;
  uint64_t faults = 0, fault_ns = 0, waits = 0;
  gch_stats_get(kit.heap, &after, sizeof after);
  CHECK_EQ(r->number, after.last_major.number);
  CHECK(r->begin_ns < r->move_begin_ns && r->move_begin_ns < r->move_end_ns && r->move_end_ns < r->end_ns);
  CHECK(r->move_end_ns - r->move_begin_ns >= after.last_major.move_ns);
  for (int i = 0; i < GCH_ANSWER_BUSY; i++) faults += r->answers[i].count, fault_ns += r->answers[i].sum;
  CHECK_EQ(faults, after.stall_count[GCH_STALL_FAULT] - before.stall_count[GCH_STALL_FAULT]);
  CHECK_EQ(fault_ns, after.stall_ns[GCH_STALL_FAULT] - before.stall_ns[GCH_STALL_FAULT]);
  CHECK_EQ(r->answers[GCH_ANSWER_BUSY].count, after.stall_count[GCH_STALL_UNIT] - before.stall_count[GCH_STALL_UNIT]);
  CHECK_EQ(r->answers[GCH_ANSWER_BUSY].sum, after.stall_ns[GCH_STALL_UNIT] - before.stall_ns[GCH_STALL_UNIT]);
  CHECK_EQ(r->touches.count, faults + r->answers[GCH_ANSWER_BUSY].count);
  CHECK_EQ(r->touches.sum, fault_ns + r->answers[GCH_ANSWER_BUSY].sum);
  for (int i = 0; i < GCH_ACTOR_COUNT; i++) waits += r->wait_count[GCH_ACTOR_MUTATOR][i];
  CHECK_EQ(waits + r->answers[GCH_ANSWER_SELF].count, r->touches.count);
  for (int i = 0; i < GCH_ACTOR_COUNT; i++) CHECK_EQ(r->wait_count[GCH_ACTOR_HANDLER][i], 0);
  CHECK_EQ(r->unlogged + r->unlogged_ns, 0);
}

/* --- one kind of answer each -------------------------------------------------------------------------------------- */

/* Whether no stall was longer than by our own clock: who has woken us may lose its CPU before it looks at the clock. */
static bool touches_counted(gch_answer answer, gch_actor by) {
  uint64_t sum, longest;
  hold_these("gcheap-control", "move_begins", NULL, NULL);
  begin_major();
  wait_inside(0);
  uint32_t count = touch_all(&sum, &longest);
  at_store(&holds[0].let, 1);
  gch_report r = end_major();
  CHECK(count > UNITS / 2);
  CHECK_EQ(r.answers[answer].count, count);
  CHECK_EQ(r.touches.count, count);
  CHECK(r.touches.sum > 0);
  CHECK(r.touches.p50 <= r.touches.p99 && r.touches.p99 <= r.touches.max);
  if (by != GCH_ACTOR_MUTATOR) CHECK_EQ(r.wait_count[GCH_ACTOR_MUTATOR][by], count);
  check_sums(&r);
  CHECK(r.move[0].least < 1 && r.move[0].thread == thread_id());
  CHECK(r.move[0].lost_ns[GCH_STALL_FAULT] > 0 && r.move[0].lost_ns[GCH_STALL_FAULT] <= r.touches.sum + UNITS * 16);
  return r.touches.sum <= sum && r.touches.max <= longest;
}

static void answered_by(gch_fault_mode faults, gch_answer answer, gch_actor by) {
  if (!open_heap(faults)) return;
  GCH_FRAME(kit.m, root, 1);
  fill(&root[0]);
  bool within = false;
  for (int round = 0; round < 20 && (round < 2 || !within); round++) within |= touches_counted(answer, by);
  CHECK(within);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void answered_by_the_handler(void) { answered_by(GCH_FAULT_THREAD, GCH_ANSWER_HANDLER, GCH_ACTOR_HANDLER); }
static void answered_by_the_thread(void) { answered_by(GCH_FAULT_SIGNAL, GCH_ANSWER_SELF, GCH_ACTOR_MUTATOR); }

static uint32_t second_ready; /* [atomic] */

/* Another mutator, which touches one unit. */
static void *second_touch(void *arg) {
  struct kit k = {.heap = kit.heap};
  if (!CHECK_EQ(gch_attach(k.heap, &k.m, NULL), GCH_OK)) return NULL;
  at_store(&hold_thread, thread_id());
  at_store(&second_ready, 1);
  touch((size_t)(uintptr_t)arg);
  gch_detach(k.m);
  return NULL;
}

/* The handler has read one message, and is held before it answers; the next one is read by the worker. */
static void answered_by_a_worker(void) {
  pthread_t thread;
  struct later later;
  if (!open_heap(GCH_FAULT_THREAD)) return;
  GCH_FRAME(kit.m, root, 1);
  fill(&root[0]);
  hold_these("gcheap-control", "move_begins", "gcheap-faults", "fault_read");
  begin_major();
  wait_inside(0);
  pthread_create(&thread, NULL, second_touch, (void *)unit_of(12));
  wait_inside(1);
  begin_later(&later, false, false);
  uint64_t own = touch(unit_of(8));
  CHECK(own > 1 * MS);
  while (unit_state(kit.heap, unit_of(12)) != UNIT_MAPPED) gch_safepoint(kit.m);
  at_store(&holds[1].let, 1);
  pthread_join(later.thread, NULL);
  kit_join(&kit, thread);
  gch_report r = end_major();
  CHECK_EQ(r.answers[GCH_ANSWER_WORKER].count, 1);
  CHECK(r.answers[GCH_ANSWER_WORKER].sum > 0 && r.answers[GCH_ANSWER_WORKER].sum < own + OFF_CPU);
  CHECK_EQ(r.wait_count[GCH_ACTOR_MUTATOR][GCH_ACTOR_WORKER], 1);
  CHECK_EQ(r.wait_ns[GCH_ACTOR_MUTATOR][GCH_ACTOR_WORKER], r.answers[GCH_ANSWER_WORKER].sum);
  check_sums(&r);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* --- units in somebody's hands ------------------------------------------------------------------------------------ */

/* The maker holds a unit for a while longer; we touch it. */
static void wait_for_busy(gch_fault_mode faults) {
  struct later later;
  if (!open_heap(faults)) return;
  GCH_FRAME(kit.m, root, 1);
  fill(&root[0]);
  hold_these("gcheap-control", "unit_claimed", NULL, NULL);
  begin_major();
  wait_inside(0);
  size_t unit = busy_unit();
  CHECK(unit != 0);
  begin_later(&later, true, false);
  uint64_t own = touch(unit);
  pthread_join(later.thread, NULL);
  gch_report r = end_major();
  CHECK_EQ(r.answers[GCH_ANSWER_BUSY].count, 1);
  CHECK(r.answers[GCH_ANSWER_BUSY].max <= own + OFF_CPU);
  CHECK_EQ(r.wait_count[GCH_ACTOR_MUTATOR][GCH_ACTOR_WORKER], 1);
  CHECK_EQ(r.wait_ns[GCH_ACTOR_MUTATOR][GCH_ACTOR_WORKER], r.answers[GCH_ANSWER_BUSY].sum);
  check_sums(&r);
  CHECK(r.answers[GCH_ANSWER_BUSY].max >= (DELAY_MS - 1) * MS);
  /* It has waited for more than a millisecond: all of one was lost. */
  CHECK(r.move[0].least == 0 && r.cycle[0].least == 0);
  CHECK_EQ(r.move[0].lost_ns[GCH_STALL_UNIT], 1 * MS);
  CHECK_EQ(r.move[0].thread, thread_id());
  for (int i = 0; i < 3; i++) { /* the share of the rest by what it lost, which was one stall */
    double lost = (double)r.move[i].lost_ns[GCH_STALL_UNIT] / (double)r.move[i].window_ns;
    CHECK(r.move[i].least > 1 - lost - 0.001 && r.move[i].least < 1 - lost + 0.001);
    CHECK(r.move[i].lost_ns[GCH_STALL_UNIT] <= own + OFF_CPU);
  }
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void busy_by_thread(void) { wait_for_busy(GCH_FAULT_THREAD); }
static void busy_by_signal(void) { wait_for_busy(GCH_FAULT_SIGNAL); }

/* Another thread of the program holds a unit: we wait for it, and so does the worker, which has made all others. */
static void waits_for_a_mutator(void) {
  pthread_t thread;
  struct later later;
  if (!open_heap(GCH_FAULT_SIGNAL)) return;
  GCH_FRAME(kit.m, root, 1);
  fill(&root[0]);
  hold_these("gcheap-control", "move_begins", NULL, "unit_claimed");
  begin_major();
  wait_inside(0);
  pthread_create(&thread, NULL, second_touch, (void *)unit_of(8));
  wait_inside(1);
  CHECK_EQ(busy_unit(), unit_of(8));
  begin_later(&later, true, true);
  uint64_t own = touch(unit_of(8));
  pthread_join(later.thread, NULL);
  kit_join(&kit, thread);
  gch_report r = end_major();
  CHECK_EQ(r.answers[GCH_ANSWER_SELF].count, 1);
  CHECK_EQ(r.answers[GCH_ANSWER_BUSY].count, 1);
  CHECK_EQ(r.wait_count[GCH_ACTOR_MUTATOR][GCH_ACTOR_MUTATOR], 1);
  CHECK(r.wait_ns[GCH_ACTOR_MUTATOR][GCH_ACTOR_MUTATOR] <= own);
  CHECK_EQ(r.wait_count[GCH_ACTOR_WORKER][GCH_ACTOR_MUTATOR], 1);
  CHECK(r.wait_ns[GCH_ACTOR_WORKER][GCH_ACTOR_MUTATOR] > 0);
  CHECK_EQ(r.threads, 2);
  check_sums(&r);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* The handler makes a unit for one thread, and is held with it; another touches it, whose message the worker reads. */
static void waits_for_the_handler(void) {
  pthread_t thread;
  struct later later;
  if (!open_heap(GCH_FAULT_THREAD)) return;
  GCH_FRAME(kit.m, root, 1);
  fill(&root[0]);
  hold_these("gcheap-control", "move_begins", "gcheap-faults", "unit_claimed");
  begin_major();
  wait_inside(0);
  pthread_create(&thread, NULL, second_touch, (void *)unit_of(8));
  wait_inside(1);
  begin_later(&later, false, true);
  uint64_t own = touch(unit_of(8));
  pthread_join(later.thread, NULL);
  kit_join(&kit, thread);
  gch_report r = end_major();
  CHECK_EQ(r.answers[GCH_ANSWER_HANDLER].count, 1);
  CHECK_EQ(r.answers[GCH_ANSWER_BUSY].count, 1);
  CHECK(r.answers[GCH_ANSWER_BUSY].max <= own + OFF_CPU);
  CHECK_EQ(r.wait_count[GCH_ACTOR_MUTATOR][GCH_ACTOR_HANDLER], 2);
  CHECK_EQ(r.wait_ns[GCH_ACTOR_MUTATOR][GCH_ACTOR_HANDLER], r.touches.sum);
  CHECK_EQ(r.wait_count[GCH_ACTOR_WORKER][GCH_ACTOR_HANDLER], 1);
  check_sums(&r);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* A pin makes, or waits for, all units of its object: a stall like a touch. */
static void pins_are_touches(void) {
  if (!open_heap(GCH_FAULT_THREAD)) return;
  GCH_FRAME(kit.m, root, 1);
  fill(&root[0]);
  hold_these("gcheap-control", "move_begins", NULL, NULL);
  begin_major();
  wait_inside(0);
  uint64_t start = clock_ns();
  CHECK_EQ(gch_pin(kit.m, root[0], NULL), GCH_OK);
  uint64_t own = clock_ns() - start;
  at_store(&holds[0].let, 1);
  gch_report r = end_major();
  CHECK(r.answers[GCH_ANSWER_SELF].count >= UNITS);
  CHECK(r.answers[GCH_ANSWER_SELF].sum <= own);
  check_sums(&r);
  gch_unpin(kit.heap, root[0]);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* --- pauses ------------------------------------------------------------------------------------------------------- */

static uint32_t stop, poller; /* [atomic] */

/* What a cycle took is given back, and is zero when another takes it. */
static void check_log_is_empty(void) {
  const struct stall_log *l = &kit.heap->stall_log;
  for (size_t i = 0; i < (size_t)l->chunks * STALL_CHUNK; i++)
    if (!CHECK_EQ(at_load(&l->words[i]), 0)) break;
}

static void *poll(void *arg) {
  struct kit k = {.heap = arg};
  if (!CHECK_EQ(gch_attach(k.heap, &k.m, NULL), GCH_OK)) return NULL;
  at_store(&poller, thread_id());
  while (!at_load(&stop)) gch_safepoint(k.m);
  gch_detach(k.m);
  return NULL;
}

static void lengthen(const char *name) {
  if (strcmp(name, "world_stopped") == 0) usleep(DELAY_MS * 1000);
}

/* The pause is not over for who waits for it when the major has ended: the report has it all the same. */
static void pauses_that_last(void) {
  pthread_t thread;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
  gch_report r;
  if (!kit_open(&kit, &c)) return;
  gch_report_get(kit.heap, &r, sizeof r);
  CHECK_EQ(r.number, 0);
  pthread_create(&thread, NULL, poll, kit.heap);
  while (!at_load(&poller)) gch_safepoint(kit.m);
  for (int round = 0; round < 10; round++) {
    at_store(&gch_hook_fn, lengthen);
    gch_cycle cycle = kit_major(&kit, GCH_POLICY_ALL, false, true);
    at_store(&gch_hook_fn, NULL);
    gch_report_get(kit.heap, &r, sizeof r);
    CHECK_EQ(r.number, cycle.number);
    CHECK_EQ(r.threads, 1); /* we have asked for it */
    CHECK_EQ(r.cycle[0].thread, at_load(&poller));
    CHECK(r.cycle[0].least == 0);
    CHECK_EQ(r.cycle[0].window_ns, 1 * MS);
    CHECK_EQ(r.cycle[0].lost_ns[GCH_STALL_PAUSE], 1 * MS);
    CHECK_EQ(r.cycle[2].window_ns, r.end_ns - r.begin_ns < 100 * MS ? r.end_ns - r.begin_ns : 100 * MS);
    CHECK(r.cycle[2].lost_ns[GCH_STALL_PAUSE] >= (DELAY_MS - 1) * MS);
    CHECK_EQ(r.move_begin_ns + r.move_end_ns + r.move[0].window_ns + r.touches.count, 0);
    CHECK(r.move[0].least == 1);
    gch_safepoint(kit.m);
  }
  at_store(&stop, 1);
  kit_join(&kit, thread);
  check_log_is_empty();
  kit_close(&kit);
}

/* The same for what an allocation waits for, within which its thread stops the others. */
static void allocation_is_a_stall(void) {
  if (!open_heap(GCH_FAULT_THREAD)) return;
  GCH_FRAME(kit.m, root, 1);
  fill(&root[0]);
  hold_these("gcheap-control", "move_begins", NULL, NULL);
  begin_major();
  wait_inside(0);
  uint64_t minors = at_load_relaxed(&kit.heap->measures.minor_count);
  uint64_t stalls = at_load_relaxed(&mutator_of(kit.m)->stalls.count[GCH_STALL_ALLOC]);
  while (at_load_relaxed(&kit.heap->measures.minor_count) == minors) kit_node(&kit, 1);
  CHECK(at_load_relaxed(&mutator_of(kit.m)->stalls.count[GCH_STALL_ALLOC]) > stalls);
  CHECK_EQ(mutator_of(kit.m)->stalled_since, 0);
  at_store(&holds[0].let, 1);
  gch_report r = end_major();
  CHECK_EQ(r.touches.count, 0);
  for (int i = 0; i < 3; i++) {
    CHECK(r.move[i].lost_ns[GCH_STALL_ALLOC] > 0 && r.move[i].least < 1);
    CHECK_EQ(r.move[i].thread, thread_id());
  }
  check_sums(&r);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* --- the log ------------------------------------------------------------------------------------------------------ */

enum { THREADS = 3, EACH = 30000 };

static void *append(void *arg) {
  struct mutator *m = mutator_of(kit.m);
  uint64_t origin = kit.heap->stall_log.origin;
  for (uint64_t i = (uintptr_t)arg; i < EACH; i += THREADS)
    stall_log_add(kit.heap, m, i % 2 ? GCH_STALL_FAULT : GCH_STALL_UNIT, origin + 4096 * i, origin + 4096 * i + 1600);
  return NULL;
}

/* Many append for one mutator at a time, as others do for one that waits: each stall is there once. */
static void appended_by_many(void) {
  pthread_t threads[THREADS];
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 8192, 1024); /* room: who is second with a new chunk leaves it */
  uint32_t thread;
  if (!kit_open(&kit, &c)) return;
  struct stall_log *l = &kit.heap->stall_log;
  for (uint64_t round = 1; round < 20; round++) {
    uint64_t origin = clock_ns();
    stall_log_begin(kit.heap, round, origin);
    for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, append, (void *)i);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    stall_log_end(kit.heap, origin + 4096 * EACH);
    stall_log_add(kit.heap, mutator_of(kit.m), GCH_STALL_ALLOC, origin + 2000, origin + 3000); /* too late */
    size_t count = stall_log_next(kit.heap, &thread);
    CHECK_EQ(thread, thread_id());
    if (!CHECK_EQ(count, EACH)) break;
    for (uint64_t i = 0; i < EACH; i++)
      if (!CHECK(l->spans[i].start - origin == 4096 * i && l->spans[i].end - origin == 4096 * i + 1600 &&
                 l->spans[i].what == (i % 2 ? GCH_STALL_FAULT : GCH_STALL_UNIT)))
        break;
    CHECK_EQ(stall_log_next(kit.heap, &thread), 0);
    CHECK_EQ(thread, 0);
    CHECK_EQ(l->lost, 0);
    stall_log_forget(kit.heap);
  }
  kit_close(&kit);
}

/* What finds no room is counted; what is longer than a word can say is several; what began before, or is shorter than a tick. */
static void edges_of_the_log(void) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
  uint32_t thread;
  if (!kit_open(&kit, &c)) return;
  struct stall_log *l = &kit.heap->stall_log;
  struct mutator *m = mutator_of(kit.m);
  uint64_t origin = (uint64_t)1 << 40, second = 1000000000;
  stall_log_begin(kit.heap, 1, origin);
  stall_log_add(kit.heap, m, GCH_STALL_ALLOC, origin - 50, origin + 160);
  stall_log_add(kit.heap, m, GCH_STALL_FAULT, origin - 50, origin - 10);
  stall_log_add(kit.heap, m, GCH_STALL_FAULT, origin + 1600, origin + 1601);
  stall_log_add(kit.heap, m, GCH_STALL_FORK, origin + second, origin + 5 * second);
  stall_log_add(kit.heap, m, GCH_STALL_FORK, origin + 1000 * second, origin + 1001 * second);
  stall_log_end(kit.heap, origin + 6 * second);
  CHECK_EQ(stall_log_next(kit.heap, &thread), 2 + 4);
  CHECK(l->spans[0].start == origin && l->spans[0].end == origin + 160 && l->spans[0].what == GCH_STALL_ALLOC);
  CHECK(l->spans[1].start == origin + 1600 && l->spans[1].end == origin + 1616);
  CHECK(l->spans[2].start == origin + second && l->spans[5].end == origin + 5 * second);
  for (int i = 3; i < 6; i++) CHECK_EQ(l->spans[i].start, l->spans[i - 1].end);
  CHECK_EQ(l->lost, 1);
  CHECK_EQ(l->lost_ns, second);
  stall_log_forget(kit.heap);
  uint64_t room = (uint64_t)l->chunks * (STALL_CHUNK - 1);
  stall_log_begin(kit.heap, 2, origin);
  for (uint64_t i = 0; i < room + 7; i++)
    stall_log_add(kit.heap, m, GCH_STALL_FAULT, origin + 64 * i, origin + 64 * i + 32);
  stall_log_end(kit.heap, origin + 64 * room);
  CHECK_EQ(l->lost, 7);
  CHECK_EQ(l->lost_ns, 7 * 32);
  CHECK_EQ(stall_log_next(kit.heap, &thread), room);
  stall_log_forget(kit.heap);
  check_log_is_empty();
  kit_close(&kit);
}

/* A caller with a shorter struct gets as much of it; one with a longer one zeros. */
static void other_sizes(void) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
  struct {
    gch_report report;
    uint64_t more;
  } longer = {.more = 1};
  gch_report r = {.end_ns = 7};
  if (!kit_open(&kit, &c)) return;
  gch_cycle cycle = kit_major(&kit, GCH_POLICY_ALL, false, true);
  gch_report_get(kit.heap, &r, offsetof(gch_report, end_ns));
  CHECK(r.number == cycle.number && r.begin_ns > 0 && r.end_ns == 7);
  CHECK_EQ(r.struct_bytes, sizeof r);
  gch_report_get(kit.heap, &longer.report, sizeof longer);
  CHECK(longer.report.number == cycle.number && longer.more == 0);
  CHECK_STR(gch_actor_name(GCH_ACTOR_MINOR), "minor");
  CHECK_STR(gch_answer_name(GCH_ANSWER_BUSY), "busy");
  CHECK_STR(gch_actor_name(GCH_ACTOR_COUNT), "?");
  CHECK_STR(gch_answer_name(GCH_ANSWER_COUNT), "?");
  kit_close(&kit);
}

int main(void) {
  kit_growth = GCH_GROWTH_NEVER;
  kit_watchdog(60);
  RUN(answered_by_the_handler);
  RUN(answered_by_the_thread);
  RUN(answered_by_a_worker);
  RUN(busy_by_thread);
  RUN(busy_by_signal);
  RUN(waits_for_a_mutator);
  RUN(waits_for_the_handler);
  RUN(pins_are_touches);
  RUN(pauses_that_last);
  RUN(allocation_is_a_stall);
  RUN(appended_by_many);
  RUN(edges_of_the_log);
  RUN(other_sizes);
  return CHECK_SUMMARY();
}
