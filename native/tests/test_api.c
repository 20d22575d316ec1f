/* The public interface at its edges: which cycle a figure belongs to, what a fast path may not accept. */
#include <string.h>

#include "hold.h"
#include "mover/mover.h"

enum { EVENTS = 4096 };
static uint32_t asked;
static gch_event events[EVENTS];

static void count_and_hold(const char *name) {
  if (strcmp(name, "cycle_asked") == 0) at_add(&asked, 1);
  hold_worker(name);
}

static void hold_and_count(bool on) {
  hold_on(on);
  if (on) at_store(&gch_hook_fn, count_and_hold);
}

static bool open_concurrent(struct kit *k) {
  gch_config c = kit_config(GCH_MOVER_AUTO, 128, 1024);
  c.gc_threads = 1;
  if (!kit_open(k, &c)) return false;
  if (k->heap->mover->concurrent) return true;
  kit_close(k);
  return false;
}

static gch_ref with_garbage(struct kit *k) {
  gch_ref table = kit_refs(k, 20000);
  GCH_FRAME(k->m, root, 1);
  root[0] = table;
  for (uint64_t i = 0; i < 20000; i++) kit_put_node(k, &root[0], i, i);
  table = root[0];
  GCH_FRAME_END(k->m);
  return table;
}

/* --- numbers -------------------------------------------------------------------------------------------------- */

static uint64_t find(const gch_event *from, size_t count, uint32_t kind, uint64_t a, uint64_t b) {
  uint64_t found = 0;
  for (size_t i = 0; i < count; i++) {
    bool cause = kind == GCH_EVENT_PAUSE ? from[i].b == b : from[i].a == a;
    found += from[i].kind == kind && cause;
  }
  return found;
}

static void check_numbers(const gch_event *e, size_t count, uint64_t major, uint64_t minor) {
  for (size_t i = 0; i < count; i++) {
    if (e[i].kind == GCH_EVENT_PHASE) CHECK_EQ(e[i].c, major);
    if (e[i].kind == GCH_EVENT_MOVED) CHECK_EQ(e[i].d, major);
    if (e[i].kind != GCH_EVENT_PAUSE) continue;
    if (e[i].b == GCH_PAUSE_MINOR) /* the collector's own before the flip, and ours */
      CHECK(e[i].d > major && e[i].d <= minor);
    else
      CHECK_EQ(e[i].d, e[i].b == GCH_PAUSE_OTHER ? 0 : major);
  }
}

/* A minor beside a major has a number of its own; the major keeps one from begin to end. */
static void a_cycle_has_one_number(void) {
  struct kit k;
  uint64_t sequence = 0, lost = 0;
  if (!open_concurrent(&k)) SKIP("a_cycle_has_one_number", "no concurrent mover");
  GCH_FRAME(k.m, root, 1);
  root[0] = with_garbage(&k);
  kit_minor(&k, true);
  while (gch_events_read(k.heap, &sequence, events, EVENTS, &lost) == EVENTS) {
  }
  hold_and_count(true);
  gch_cycle running = kit_major(&k, GCH_POLICY_ALL, true, false);
  gch_cycle minor = kit_minor(&k, false);
  hold_and_count(false);
  gch_cycle major = {0};
  CHECK_EQ(gch_collect_wait(k.m, &major), GCH_OK);
  kit_verify(&k); /* a pause of no cycle */
  CHECK_EQ(running.number, major.number);
  CHECK_EQ(minor.number, major.number + 2); /* the flip has one just before it */
  size_t count = gch_events_read(k.heap, &sequence, events, EVENTS, &lost);
  check_numbers(events, count, major.number, minor.number);
  CHECK_EQ(find(events, count, GCH_EVENT_PHASE, GCH_PHASE_IDLE, 0), 1);
  CHECK_EQ(find(events, count, GCH_EVENT_PAUSE, 0, GCH_PAUSE_FLIP), 1);
  CHECK_EQ(find(events, count, GCH_EVENT_PAUSE, 0, GCH_PAUSE_MINOR), 2);
  CHECK_EQ(find(events, count, GCH_EVENT_PAUSE, 0, GCH_PAUSE_OTHER), 1);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* --- reports -------------------------------------------------------------------------------------------------- */

struct asker {
  gch_heap *heap;
  gch_policy policy;
  pthread_t thread;
  gch_cycle report;
};

static void *ask(void *arg) {
  struct asker *a = arg;
  struct kit k = {.heap = a->heap};
  if (gch_attach(k.heap, &k.m, NULL) != GCH_OK) return NULL;
  a->report = kit_major(&k, a->policy, true, true);
  gch_detach(k.m);
  return NULL;
}

/* Returns when the request stands in the queue. */
static void start(struct asker *a, struct kit *k, gch_policy policy) {
  uint32_t before = at_load(&asked);
  *a = (struct asker){.heap = k->heap, .policy = policy};
  pthread_create(&a->thread, NULL, ask, a);
  while (at_load(&asked) == before) gch_safepoint(k->m);
}

/* Requests that come while a cycle runs are answered by later ones, each by one of its kind. */
static void a_request_gets_its_own_report(void) {
  struct kit k;
  struct asker all, needed, more;
  if (!open_concurrent(&k)) SKIP("a_request_gets_its_own_report", "no concurrent mover");
  GCH_FRAME(k.m, root, 1);
  root[0] = with_garbage(&k);
  for (int i = 0; i < 5; i++) {
    hold_and_count(true);
    gch_cycle first = kit_major(&k, GCH_POLICY_ALL, true, false);
    start(&all, &k, GCH_POLICY_ALL);
    start(&needed, &k, GCH_POLICY_NEEDED);
    start(&more, &k, GCH_POLICY_ALL);
    hold_and_count(false);
    kit_join(&k, all.thread);
    kit_join(&k, needed.thread);
    kit_join(&k, more.thread);
    CHECK_EQ(all.report.policy, GCH_POLICY_ALL);
    CHECK_EQ(needed.report.policy, GCH_POLICY_NEEDED);
    CHECK(all.report.concurrent && needed.report.concurrent && all.report.cycle_ns > 0);
    CHECK(all.report.number > first.number && needed.report.number > all.report.number);
    CHECK_EQ(more.report.number, all.report.number);
  }
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void check_physical(const gch_cycle *r, bool flip, bool after) {
  CHECK_EQ(r->physical_at_flip != 0, flip);
  CHECK_EQ(r->physical_after != 0, after);
  if (flip) CHECK(r->physical_at_flip >= r->live_bytes && r->physical_at_flip < (uint64_t)1 << 40);
  if (after) CHECK(r->physical_after >= r->live_bytes && r->physical_after < (uint64_t)1 << 40);
}

static void resident_memory(void) {
  struct kit k;
  gch_cycle r;
  if (!open_concurrent(&k)) SKIP("resident_memory", "no concurrent mover");
  GCH_FRAME(k.m, root, 1);
  root[0] = with_garbage(&k);
  r = kit_minor(&k, true);
  check_physical(&r, false, false);
  r = kit_major(&k, GCH_POLICY_ALL, false, true);
  check_physical(&r, false, true);
  r = kit_major(&k, GCH_POLICY_ALL, true, true);
  check_physical(&r, true, true);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* The collector stands still; whoever answers faults makes every unit that is touched, and each call that publishes one takes
 * 90 us of its CPU. */
static void cpu_of_faults(gch_mover mover, gch_fault_mode faults) {
  struct kit k;
  struct kit_request request;
  gch_cycle r = {0};
  gch_config c = kit_config(mover, 128, 1024);
  c.fault_mode = faults;
  c.huge = GCH_HUGE_OFF;
  c.gc_threads = 1;
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  root[0] = with_garbage(&k);
  for (uint64_t i = 0; i < 10; i++) { /* many blocks */
    gch_ref more = kit_refs(&k, 20000);
    kit_put(&k, more, 0, root[0]);
    root[0] = more;
    for (uint64_t n = 1; n < 20000; n++) kit_put_node(&k, &root[0], n, n);
  }
  hold_on(true);
  kit_begin(&k, &request, GCH_POLICY_ALL);
  while (!at_load(&held)) gch_safepoint(k.m);
  gch_inject(k.heap, "move:delay=90us;copy:delay=90us;mprotect:delay=90us", NULL);
  gch_ref at = root[0];
  for (uint64_t i = 0; i < 10; i++, at = kit_at(at, 0))
    for (uint64_t n = 1; n < 20000; n++)
      if (!CHECK_EQ(*kit_number(kit_at(at, n)), n)) break;
  gch_inject(k.heap, "", NULL);
  hold_off(&k, &request);
  CHECK_EQ(gch_collect_wait(k.m, &r), GCH_OK);
  if (!CHECK(r.faults_served > 100 && r.collector_cpu_ns > r.faults_served * 90000))
    printf("    %s %d: %llu us of CPU, %llu faults\n", gch_mover_name(mover), (int)faults,
           (unsigned long long)r.collector_cpu_ns / 1000, (unsigned long long)r.faults_served);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void cpu_time_of_whoever_makes_units(void) {
  for (int signal = 0; signal < 2; signal++) {
    if (kit_available(GCH_MOVER_MOVE)) cpu_of_faults(GCH_MOVER_MOVE, (gch_fault_mode)signal);
    if (kit_available(GCH_MOVER_COPY)) cpu_of_faults(GCH_MOVER_COPY, (gch_fault_mode)signal);
  }
  if (kit_available(GCH_MOVER_SIMULATED)) cpu_of_faults(GCH_MOVER_SIMULATED, GCH_FAULT_THREAD);
}

/* What is reported when the flip is done are figures so far, of this cycle. */
static void report_at_the_flip(void) {
  struct kit k;
  if (!open_concurrent(&k)) SKIP("report_at_the_flip", "no concurrent mover");
  GCH_FRAME(k.m, root, 1);
  root[0] = with_garbage(&k);
  for (int i = 0; i < 3; i++) {
    gch_cycle all;
    gch_cycle so_far = kit_major(&k, GCH_POLICY_ALL, true, false);
    CHECK_EQ(gch_collect_wait(k.m, &all), GCH_OK);
    CHECK_EQ(so_far.number, all.number);
    CHECK(so_far.cycle_ns > 0 && so_far.cycle_ns <= all.cycle_ns);
    CHECK(so_far.collector_cpu_ns <= all.collector_cpu_ns && so_far.collector_cpu_ns < so_far.cycle_ns * 8);
    CHECK(so_far.pages_moved <= all.pages_moved && so_far.bytes_copied <= all.bytes_copied);
    CHECK_EQ(so_far.move_ns, 0);
    CHECK(so_far.flip_ns > 0 && so_far.heap_bytes_after > 0);
  }
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* The code of the last event DEGRADED of that cycle, 0: there is none. */
static uint64_t degraded_code(gch_heap *h, uint64_t number) {
  uint64_t sequence = 0, code = 0;
  size_t count;
  while ((count = gch_events_read(h, &sequence, events, EVENTS, NULL)) > 0)
    for (size_t i = 0; i < count; i++)
      if (events[i].kind == GCH_EVENT_DEGRADED && events[i].a == number) code = events[i].b;
  return code;
}

static void degraded_as(struct kit *k, const gch_cycle *r, gch_degraded why) {
  CHECK_EQ(r->degraded, why != GCH_DEGRADED_NOT);
  CHECK_EQ(r->reason[0] != 0, why != GCH_DEGRADED_NOT);
  CHECK_EQ(degraded_code(k->heap, r->number), why);
}

/* Less than was asked for, and why: the report and the event agree. `release` moves nothing, so nothing is missing from it. */
static void degraded_collections(void) {
  for (size_t i = 0; i < KIT_MOVER_COUNT; i++) {
    struct kit k;
    gch_config c = kit_config(KIT_MOVERS[i], 64, 1024);
    c.gc_threads = 1;
    if (!kit_available(KIT_MOVERS[i]) || !kit_open(&k, &c)) continue;
    GCH_FRAME(k.m, root, 1);
    root[0] = with_garbage(&k);
    bool able = k.heap->mover->concurrent;
    gch_cycle r = kit_major(&k, GCH_POLICY_RELEASE, true, true);
    degraded_as(&k, &r, GCH_DEGRADED_NOT);
    CHECK(!r.concurrent);
    r = kit_major(&k, GCH_POLICY_ALL, true, true);
    degraded_as(&k, &r, able ? GCH_DEGRADED_NOT : GCH_DEGRADED_MOVER);
    if (able) {
      gch_inject(k.heap, KIT_MOVERS[i] == GCH_MOVER_SIMULATED ? "mprotect:ENOMEM@times=24" : "mremap:ENOMEM@times=20",
                 NULL);
      r = kit_major(&k, GCH_POLICY_ALL, true, true);
      degraded_as(&k, &r, GCH_DEGRADED_FLIP);
      gch_inject(k.heap, "", NULL);
    }
    if (k.heap->quiet.fd >= 0) {
      gch_inject(k.heap, "unregister:ENOMEM@times=20", NULL);
      r = kit_major(&k, GCH_POLICY_ALL, true, true);
      degraded_as(&k, &r, GCH_DEGRADED_PREPARE);
      gch_inject(k.heap, "", NULL);
    }
    kit_verify(&k);
    GCH_FRAME_END(k.m);
    kit_close(&k);
  }
}

/* --- stress --------------------------------------------------------------------------------------------------- */

static void stress_moves(gch_mover mover, uint32_t full_moves) {
  struct kit k;
  gch_config c = kit_config(mover, 128, 512);
  c.gc_threads = 1;
  c.stress_interval = 5;
  c.full_moves = full_moves;
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  root[0] = kit_refs(&k, 1000);
  for (uint64_t i = 0; i < 30000; i++) kit_put_node(&k, &root[0], i % 1000, i);
  for (uint64_t i = 0; i < 1000; i++) CHECK_EQ(*kit_number(kit_at(root[0], i)), 29000 + i);
  gch_cycle last = {0};
  CHECK_EQ(gch_collect_wait(k.m, &last), GCH_OK);
  CHECK(last.number > 2);
  CHECK_EQ(last.policy, full_moves ? GCH_POLICY_ALL : GCH_POLICY_NEEDED);
  CHECK_EQ(last.concurrent, full_moves && k.heap->mover->concurrent);
  CHECK_EQ(last.degraded, 0);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void stress_arms_everything(void) {
  for (size_t i = 0; i < KIT_MOVER_COUNT; i++)
    for (uint32_t full = 0; full < 2 && kit_available(KIT_MOVERS[i]); full++) stress_moves(KIT_MOVERS[i], full);
}

/* --- allocation ----------------------------------------------------------------------------------------------- */

static void elements_without_a_tail(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
  if (!kit_open(&k, &c)) return;
  CHECK(gch_alloc(k.m, k.node) != NULL); /* there is a buffer: the fast path would be taken */
  CHECK(gch_alloc_array(k.m, k.node, 3) == NULL);
  CHECK_EQ(gch_last_error(k.m)->status, GCH_BAD_VALUE);
  CHECK(strstr(gch_last_error(k.m)->message, "has no tail") != NULL);
  CHECK(gch_alloc_array(k.m, k.node, 0) != NULL);
  kit_close(&k);
}

/* The border between small and large is where it was, for every size of an element. */
static void largest_small_array(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
  if (!kit_open(&k, &c)) return;
  for (uint32_t bytes = 1; bytes <= 16384; bytes = bytes * 2 + 1) {
    const gch_type *type;
    const gch_type_desc d = {sizeof d, 3, NULL, 0, GCH_TAIL_BYTES, bytes, 0, 0, "tail", 0};
    if (!CHECK_EQ(gch_type_new(k.heap, &d, &type, NULL), GCH_OK)) break;
    uint64_t most = (GCH_SMALL_MAX - 11) / bytes;
    for (uint64_t count = most > 1 ? most - 1 : 0; count <= most + 1; count++) {
      gch_ref o = gch_alloc_array(k.m, type, count);
      if (!CHECK(o != NULL)) break;
      CHECK_EQ(gch_length(k.heap, o), count);
      CHECK_EQ(gch_object_bytes(k.heap, o) <= GCH_SMALL_MAX, count <= most);
    }
  }
  kit_verify(&k);
  kit_close(&k);
}

static void headers_are_of_the_library(void) {
  char text[32];
  (void)snprintf(text, sizeof text, "%d.%d.%d", GCH_VERSION_MAJOR, GCH_VERSION_MINOR, GCH_VERSION_PATCH);
  CHECK_STR(gch_version(), text);
}

int main(void) {
  kit_growth = GCH_GROWTH_NEVER;
  kit_watchdog(60);
  RUN(headers_are_of_the_library);
  RUN(a_cycle_has_one_number);
  RUN(a_request_gets_its_own_report);
  RUN(resident_memory);
  RUN(cpu_time_of_whoever_makes_units);
  RUN(report_at_the_flip);
  RUN(degraded_collections);
  RUN(stress_arms_everything);
  RUN(elements_without_a_tail);
  RUN(largest_small_array);
  return CHECK_SUMMARY();
}
