/* fork() while a concurrent major runs: it waits for none of it but the step that its driver is at, and both processes go on with
 * what there is of the cycle. Each phase is forced: the driver is held up where hold.h says, and in the child its successor,
 * too, until the child has looked at its heap. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sys/wait.h>

#include "gc/claims.h"
#include "gc/drive.h"
#include "gc/evacuate.h"
#include "gc/mark_internal.h"
#include "heap/small.h"
#include "heap/unit.h"
#include "kit.h"
#include "model.h"

#include "hold.h"

/* As in test_fork.c. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0:detect_deadlocks=0"; }

/* --- what the library has stopped at ---------------------------------------------------------------------------- */

static gch_heap *watched; /* NULL: none */

/* Of the last fork(), when all handlers had run. */
static struct {
  uint32_t phase, armed, mapped;
  uint64_t stacked, listed; /* objects on stacks of markers, lists of cells that are not empty */
  uint32_t sources, moves; /* of the plan, if there is one and the mark is over */
  bool judging;
} seen;

static void count_units(const gch_heap *h) {
  uint32_t busy = 0;
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    uint32_t first, count = region_arenas(h, r, &first);
    for (size_t b = (size_t)first * ARENA_BLOCKS; b < (size_t)(first + count) * ARENA_BLOCKS; b++) {
      enum unit_state state = unit_state(h, b);
      busy += state == UNIT_BUSY;
      seen.armed += state == UNIT_ARMED;
      seen.mapped += state == UNIT_MAPPED;
    }
  }
  CHECK_EQ(busy, 0);
}

static void count_marks(const gch_heap *h) {
  for (uint32_t i = 0; i < h->marking[1]->count; i++) {
    const struct marker *m = &h->marking[1]->markers[i];
    seen.stacked += m->top + m->found_count + m->queue_count;
    seen.listed += m->cells.weak != 0 || m->cells.waiting != 0 || m->cells.looked != 0;
  }
}

/* Registered before the library's handlers, so it runs after them. */
static void inspect(void) {
  const gch_heap *h = watched;
  if (h == NULL) return;
  memset(&seen, 0, sizeof seen);
  seen.phase = at_load(&h->phase);
  seen.judging = at_load(&h->weak.judging) != 0;
  CHECK_EQ(at_load(&h->claims.inside), 0);
  CHECK_EQ(at_load(&h->world.markers), 0);
  CHECK_EQ(h->drive.busy, 0);
  for (uint32_t i = 0; i < OPEN_ARENAS; i++) CHECK(at_load(&h->open_arenas[i]) != PLACE_TAKEN);
  count_units(h);
  count_marks(h);
  if (seen.phase == GCH_PHASE_PLAN && h->drive.judged)
    seen.sources = h->plan->source_count, seen.moves = h->plan->move_count;
}

/* --- models ----------------------------------------------------------------------------------------------------- */

struct kind {
  gch_mover mover;
  gch_fault_mode faults;
  gch_huge huge;
  gch_huge_faults huge_faults;
};

static const struct kind KINDS[] = {
    {GCH_MOVER_MOVE, GCH_FAULT_THREAD, GCH_HUGE_OFF, GCH_HUGE_LATENCY},
    {GCH_MOVER_MOVE, GCH_FAULT_SIGNAL, GCH_HUGE_OFF, GCH_HUGE_LATENCY},
    {GCH_MOVER_MOVE, GCH_FAULT_THREAD, GCH_HUGE_ON, GCH_HUGE_LATENCY},
    {GCH_MOVER_MOVE, GCH_FAULT_SIGNAL, GCH_HUGE_ON, GCH_HUGE_THROUGHPUT},
    {GCH_MOVER_COPY, GCH_FAULT_THREAD, GCH_HUGE_OFF, GCH_HUGE_LATENCY},
    {GCH_MOVER_COPY, GCH_FAULT_SIGNAL, GCH_HUGE_ON, GCH_HUGE_LATENCY},
    {GCH_MOVER_SIMULATED, GCH_FAULT_THREAD, GCH_HUGE_OFF, GCH_HUGE_LATENCY},
};
enum { KIND_COUNT = sizeof KINDS / sizeof KINDS[0] };

static const char *describe(struct kind kind) {
  static char text[80];
  snprintf(text, sizeof text, "%s%s%s%s", gch_mover_name(kind.mover), kind.faults == GCH_FAULT_SIGNAL ? " signal" : "",
           kind.huge == GCH_HUGE_ON ? " huge" : "", kind.huge_faults == GCH_HUGE_THROUGHPUT ? " throughput" : "");
  return text;
}

static bool open_model(struct model *model, struct kind kind, uint64_t seed, uint32_t steps) {
  gch_error error = {0};
  gch_config c;
  if (!kit_available(kind.mover)) return false;
  gch_config_init(&c);
  c.mover = kind.mover;
  c.fault_mode = kind.faults;
  c.huge = kind.huge;
  c.huge_faults = kind.huge_faults;
  c.max_bytes = (uint64_t)128 << 20;
  c.nursery_bytes = (uint64_t)1 << 20;
  c.growth_percent = GCH_GROWTH_NEVER; /* or one of its own accord would be held up in the place of ours */
  c.gc_threads = 2;
  if (!CHECK(model_open(model, &c, seed, &error))) {
    fprintf(stderr, "    %s: %s\n", describe(kind), error.message);
    return false;
  }
  watched = model->heap;
  model->pinning = true;
  model_table(model, 6000);
  for (uint32_t i = 0; i < steps; i++) model_step(model);
  return true;
}

static void close_model(struct model *model) {
  gch_error error = {0};
  watched = NULL;
  if (!CHECK(model_close(model, &error))) fprintf(stderr, "%s\n", error.message);
}

static gch_status collect(struct model *model, gch_policy policy, bool concurrent, bool background) {
  gch_collect_options o;
  gch_collect_options_init(&o);
  o.concurrent = concurrent;
  o.background = background;
  o.policy = policy;
  return gch_collect(model->m, &o, NULL);
}

static bool whole(struct model *model) {
  gch_error error = {0};
  if (!CHECK_EQ(gch_verify(model->m, &error), GCH_OK))
    fprintf(stderr, "%d: verify: %s\n", (int)getpid(), error.message);
  return CHECK_EQ(model_check(model), 0) && error.status == GCH_OK;
}

static void steps(struct model *model, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) model_step(model);
}

/* Every kind of collection, each followed by a comparison. */
static bool exercise(struct model *model) {
  for (int kind = 0; kind < 3; kind++) {
    steps(model, (uint32_t)kit_scaled(800, 6));
    gch_policy policy = kind == 1 ? GCH_POLICY_ALL : GCH_POLICY_NEEDED;
    if (!CHECK_EQ(collect(model, policy, kind != 0, false), GCH_OK) || !whole(model)) return false;
  }
  return true;
}

/* --- processes ---------------------------------------------------------------------------------------------------- */

/* In a child: its heap is compared while what is left of the cycle is held up, then used as if nothing had been. */
static bool live_on(struct model *model) {
  bool good = CHECK_EQ(model_check(model), 0);
  steps(model, (uint32_t)kit_scaled(400, 6));
  good = CHECK_EQ(model_check(model), 0) && good;
  at_store(&hold, 0);
  hold_on(false);
  good = CHECK_EQ(gch_collect_wait(model->m, NULL), GCH_OK) && good;
  CHECK_EQ(at_load(&model->heap->phase), GCH_PHASE_IDLE);
  good = whole(model) && good && exercise(model);
  close_model(model);
  return good;
}

static uint32_t forking; /* [atomic] */

static pid_t start_child(struct model *model, bool (*body)(struct model *)) {
  fflush(NULL);
  at_store(&forking, 1);
  pid_t pid = fork();
  at_store(&forking, 0);
  if (pid != 0) return pid;
  alarm(100);
  watched = NULL;
  int before = check_failures;
  bool good = body(model);
  fflush(NULL);
  _exit(good && check_failures == before ? 0 : 1);
}

static bool end_child(struct model *model, pid_t pid) {
  int status = -1;
  gch_native_enter(model->m);
  bool good = CHECK(pid > 0) && CHECK_EQ(waitpid(pid, &status, 0), pid) && CHECK_EQ(status, 0);
  gch_native_leave(model->m);
  return good;
}

/* The driver, and whoever helps it to move. */
static void hold_drivers(const char *name) {
  char thread[16] = "";
  pthread_getname_np(pthread_self(), thread, sizeof thread);
  if (strcmp(thread, "gcheap-beside") == 0 && strcmp(name, "move_begins") == 0 && strcmp(hold_point, name) == 0)
    while (at_load(&hold)) usleep(100);
  hold_worker(name);
}

/* Begins a major and lets it come to the point. */
static void hold_at(struct model *model, gch_policy policy, const char *point) {
  hold_on(false);
  at_store(&hold_point, point);
  at_store(&hold, 1);
  at_store(&gch_hook_fn, hold_drivers);
  CHECK_EQ(collect(model, policy, true, true), GCH_OK);
  while (!at_load(&held)) gch_safepoint(model->m);
}

static void let_go(struct model *model) {
  at_store(&hold, 0);
  CHECK_EQ(gch_collect_wait(model->m, NULL), GCH_OK);
  hold_on(false);
}

/* --- each phase ----------------------------------------------------------------------------------------------------- */

static const struct {
  const char *point;
  uint32_t phase;
  bool judged; /* where it is PLAN */
} PLACES[] = {
    {"marking_beside", GCH_PHASE_MARK, false}, {"judging", GCH_PHASE_PLAN, false},
    {"cells_cleared", GCH_PHASE_PLAN, false},  {"finalizers_judged", GCH_PHASE_PLAN, false},
    {"sweep_begins", GCH_PHASE_PLAN, true},    {"flip_prepared", GCH_PHASE_PLAN, true},
    {"move_begins", GCH_PHASE_MOVE, true},     {"ended", GCH_PHASE_END, true},
};

/* Two forks at the place, with the program running before each; the parent goes on between them and after. */
static bool play(struct kind kind, size_t place, gch_policy policy, uint64_t seed) {
  struct model model;
  if (!open_model(&model, kind, seed, (uint32_t)kit_scaled(8000, 6))) return true;
  CHECK_EQ(collect(&model, GCH_POLICY_ALL, true, false), GCH_OK); /* there is an old plan */
  hold_at(&model, policy, PLACES[place].point);
  bool good = true;
  for (int i = 0; i < 2 && good; i++) {
    if (i > 0) steps(&model, (uint32_t)kit_scaled(300, 6));
    CHECK_EQ(model.heap->phase, PLACES[place].phase); /* the driver stands still */
    pid_t pid = start_child(&model, live_on);
    CHECK_EQ(seen.phase, PLACES[place].phase);
    if (seen.phase == GCH_PHASE_PLAN) CHECK_EQ(model.heap->drive.judged, PLACES[place].judged);
    if (seen.phase == GCH_PHASE_MOVE && i == 0) CHECK(seen.armed > 0);
    steps(&model, (uint32_t)kit_scaled(300, 6));
    good = CHECK_EQ(model_check(&model), 0);
    good = end_child(&model, pid) && good;
  }
  let_go(&model);
  good = whole(&model) && good && exercise(&model);
  if (!good) fprintf(stderr, "    with %s at %s\n", describe(kind), PLACES[place].point);
  close_model(&model);
  return good;
}

static void each_phase(void) {
  for (size_t place = 0; place < sizeof PLACES / sizeof PLACES[0]; place++)
    for (int i = 0; i < KIND_COUNT; i++)
      if (!play(KINDS[i], place, place % 2 == 0 ? GCH_POLICY_ALL : GCH_POLICY_NEEDED, 1 + (uint64_t)i)) return;
}

/* --- in the middle of something --------------------------------------------------------------------------------------- */

static const char *middle; /* the controller comes to this point, */
static uint32_t middle_left; /* [atomic] so many times, before it waits */
static uint32_t middle_reached, middle_over; /* [atomic] it waits; it has */
static gch_heap *middle_heap;

/* The driver waits until somebody is about to fork, and then until that wants it to rest, or its claims (or has had the time to:
 * the driver may hold the cycle lock, which fork() wants first): so it is in the middle of a step when fork() comes. */
static void wait_for_fork(const char *name) {
  char thread[16] = "";
  if (strcmp(name, middle) != 0 || at_load(&middle_over)) return;
  pthread_getname_np(pthread_self(), thread, sizeof thread);
  if (strcmp(thread, "gcheap-control") != 0 || at_sub(&middle_left, 1) != 1) return;
  at_store(&middle_reached, 1);
  while (!at_load(&forking)) usleep(100);
  for (int i = 0; i < 100 && !drive_wanted(middle_heap) && !claims_wanted(middle_heap); i++) usleep(100);
  at_store(&middle_over, 1);
}

static bool live_on_from_there(struct model *model) {
  at_store(&gch_hook_fn, NULL);
  return live_on(model);
}

static bool play_middle(struct kind kind, const char *point, uint32_t times, uint64_t seed) {
  struct model model;
  if (!open_model(&model, kind, seed, (uint32_t)kit_scaled(8000, 6))) return true;
  middle = point, middle_heap = model.heap;
  at_store(&middle_left, times);
  at_store(&middle_reached, 0), at_store(&middle_over, 0);
  at_store(&gch_hook_fn, wait_for_fork);
  CHECK_EQ(collect(&model, GCH_POLICY_ALL, true, true), GCH_OK);
  bool reached;
  while (!(reached = at_load(&middle_reached)) && at_load(&model.heap->phase) != GCH_PHASE_IDLE) gch_safepoint(model.m);
  pid_t pid = start_child(&model, live_on_from_there);
  at_store(&gch_hook_fn, NULL);
  bool good = !reached || strcmp(point, "ending") == 0 || CHECK(seen.phase != GCH_PHASE_IDLE);
  steps(&model, 100);
  good = CHECK_EQ(model_check(&model), 0) && good;
  good = end_child(&model, pid) && good;
  CHECK_EQ(gch_collect_wait(model.m, NULL), GCH_OK);
  good = whole(&model) && good && exercise(&model);
  if (!good) fprintf(stderr, "    with %s at %s, %u times\n", describe(kind), point, times);
  close_model(&model);
  return good;
}

/* The driver rests before it has read the extents of the first, or the second space's sources; with units armed in part. */
static void within_the_plan(void) {
  static const struct {
    const char *point;
    uint32_t times;
  } steps_of[] = {{"extents_wanted", 1},
                  {"extents_wanted", 2},
                  {"unit_armed", 3},
                  {"region_registered", 1},
                  {"region_registered", 3}};
  for (int i = 0; i < KIND_COUNT; i++)
    for (size_t k = 0; k < sizeof steps_of / sizeof steps_of[0]; k++)
      if (!play_middle(KINDS[i], steps_of[k].point, steps_of[k].times, 20 + k)) return;
}

/* Some units are made, one is BUSY when fork() comes; it is MAPPED when fork() goes. */
static void within_the_move(void) {
  uint32_t mixed = 0;
  for (int i = 0; i < KIND_COUNT; i++)
    for (uint32_t times = 1; times <= 40; times = 2 * times + 1) {
      if (!play_middle(KINDS[i], "unit_claimed", times, 30 + times)) return;
      mixed += seen.phase == GCH_PHASE_MOVE && seen.armed > 0 && seen.mapped > 0;
    }
  CHECK(mixed > KIND_COUNT);
}

/* fork() comes when the end has begun: it waits for that. */
static void within_the_end(void) {
  for (int i = 0; i < KIND_COUNT; i++)
    if (!play_middle(KINDS[i], "ending", 1, 40)) return;
}

/* Markers have some of the graph on their stacks. */
static void within_the_mark(void) {
  for (int i = 0; i < KIND_COUNT; i++) {
    struct model model;
    if (!open_model(&model, KINDS[i], 50, (uint32_t)kit_scaled(30000, 6))) continue;
    uint32_t found = 0;
    bool good = true;
    for (uint32_t try = 0; try < 200 && found < 3 && good; try ++) {
      CHECK_EQ(gch_collect_wait(model.m, NULL), GCH_OK);
      CHECK_EQ(collect(&model, GCH_POLICY_NEEDED, true, true), GCH_OK);
      for (uint32_t n = 0; n < try % 10; n++) model_step(&model);
      pid_t pid = start_child(&model, found < 2 ? live_on : whole);
      bool hit = seen.phase == GCH_PHASE_MARK && seen.stacked > 0;
      found += hit;
      good = end_child(&model, pid) && good;
    }
    CHECK(found > 0);
    if (!good) fprintf(stderr, "    with %s\n", describe(KINDS[i]));
    good = whole(&model) && good;
    close_model(&model);
    if (!good) return;
  }
}

/* --- again and again ---------------------------------------------------------------------------------------------- */

static int generations;

static bool descend(struct model *model) {
  bool good = CHECK_EQ(model_check(model), 0);
  if (--generations > 0) {
    pid_t pid = start_child(model, descend);
    steps(model, 100);
    good = end_child(model, pid) && good;
  }
  return live_on(model) && good;
}

/* A child of a child, while the cycle of the first parent moves. */
static void generations_of_one_cycle(void) {
  for (int i = 0; i < KIND_COUNT; i++) {
    struct model model;
    if (!open_model(&model, KINDS[i], 60, (uint32_t)kit_scaled(8000, 6))) continue;
    generations = 3;
    hold_at(&model, GCH_POLICY_ALL, "move_begins");
    pid_t pid = start_child(&model, descend);
    let_go(&model);
    if (!end_child(&model, pid) || !whole(&model)) fprintf(stderr, "    with %s\n", describe(KINDS[i]));
    close_model(&model);
  }
}

/* What cannot be made anew in the child is told, in the middle of a move, too; the parent goes on. */
static bool unusable_then_closed(struct model *model) {
  CHECK_EQ(gch_collect_wait(model->m, NULL), GCH_BAD_STATE);
  CHECK(gch_alloc_array(model->m, model->types[MODEL_BYTES], 100) == NULL);
  for (int i = 0; i < MODEL_PINS; i++)
    if (model->pin_ids[i] != 0) gch_unpin(model->heap, model->pins[i]);
  for (int i = 0; i < MODEL_HANDLES; i++)
    if (model->handle_ids[i] != 0) gch_handle_free(model->heap, model->handles[i]);
  model_pop_frames(model);
  gch_detach(model->m);
  return CHECK_EQ(gch_heap_destroy(model->heap, NULL), GCH_OK);
}

static void broken_while_it_moves(void) {
  for (int i = 0; i < KIND_COUNT; i++) {
    struct model model;
    if (!open_model(&model, KINDS[i], 70, 2000)) continue;
    hold_at(&model, GCH_POLICY_ALL, "move_begins");
    const char *rule = KINDS[i].mover == GCH_MOVER_SIMULATED ? "memfd:ENOMEM" : "uffd_open:EMFILE";
    CHECK_EQ(gch_inject(model.heap, rule, NULL), GCH_OK);
    end_child(&model, start_child(&model, unusable_then_closed));
    gch_inject(model.heap, "", NULL);
    let_go(&model);
    if (!whole(&model)) fprintf(stderr, "    with %s\n", describe(KINDS[i]));
    close_model(&model);
  }
}

int main(void) {
  alarm(KIT_SANITIZED ? 600 : 110);
  pthread_atfork(inspect, NULL, kit_larger_stacks); /* before the library's */
  RUN(each_phase);
  RUN(within_the_plan);
  RUN(within_the_move);
  RUN(within_the_end);
  RUN(within_the_mark);
  RUN(generations_of_one_cycle);
  RUN(broken_while_it_moves);
  return CHECK_SUMMARY();
}
