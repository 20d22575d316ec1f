/* A long run: four mutators on a large heap, everything on, faults injected, the verifier now and then; and afterwards the process
 * holds no more than before: threads, descriptors, mappings, memory.
 *
 *   soak SECONDS STATE [HEAP_MIB [SEED [ROUND_SECONDS [PLANT]]]]
 *
 * In rounds, a heap each, the configurations of the list in turns. A line a minute. STATE is a file with the rounds that are done
 * ("-": none): a run that was killed goes on with the round that it was in; one that has failed does not go on. The exit status is 0
 * once SECONDS are done in all. PLANT (memory, thread, descriptor, mapping) leaks one a round: to see that it is seen. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "ballast.h"
#include "base/clock.h"
#include "soak_state.h"

enum {
  MUTATORS = 4,
  LENT_BYTES = 200000,
  REPORT_S = 60,
  HANG_S = 150, /* a mutator that has done nothing for so long hangs (a verification of a large heap takes a while) */
  CHILD_S = 100,
  LIVE_PERCENT = 40, /* of the heap, ballast of all threads */
  MODEL_OBJECTS = 200000, /* of a model, ever, then a new one takes its place */
  COLLECT_NS = 1500000000,
  VERIFY_EVERY = 4, /* majors */
  PLANTED_BYTES = 2 << 20,
};

struct configuration {
  gch_mover mover;
  gch_fault_mode faults;
  gch_huge huge;
  gch_huge_faults huge_faults;
  gch_summaries summaries;
  const char *inject;
};

static const struct configuration LIST[] = {
    {GCH_MOVER_MOVE, GCH_FAULT_THREAD, GCH_HUGE_OFF, GCH_HUGE_LATENCY, GCH_SUMMARIES_AUTO,
     "move:EEXIST-after@p=0.002,seed=2;move:EAGAIN@partial=4096,p=0.01,seed=3"},
    {GCH_MOVER_MOVE, GCH_FAULT_SIGNAL, GCH_HUGE_OFF, GCH_HUGE_LATENCY, GCH_SUMMARIES_ON, "move:EBUSY@p=0.01,seed=1"},
    {GCH_MOVER_MOVE, GCH_FAULT_THREAD, GCH_HUGE_ON, GCH_HUGE_LATENCY, GCH_SUMMARIES_AUTO,
     "collapse:EBUSY@p=0.2,seed=6;move:EAGAIN@p=0.01,seed=4"},
    {GCH_MOVER_MOVE, GCH_FAULT_SIGNAL, GCH_HUGE_ON, GCH_HUGE_THROUGHPUT, GCH_SUMMARIES_ON, NULL},
    {GCH_MOVER_MOVE, GCH_FAULT_THREAD, GCH_HUGE_OFF, GCH_HUGE_LATENCY, GCH_SUMMARIES_ON,
     "mremap:ENOMEM@p=0.3,seed=5;unregister:ENOMEM@p=0.2,seed=6;drop:ENOMEM@p=0.05,seed=7"},
    {GCH_MOVER_COPY, GCH_FAULT_THREAD, GCH_HUGE_OFF, GCH_HUGE_LATENCY, GCH_SUMMARIES_AUTO,
     "copy:EAGAIN@partial=8192,p=0.01,seed=4"},
    {GCH_MOVER_MOVE, GCH_FAULT_SIGNAL, GCH_HUGE_OFF, GCH_HUGE_LATENCY, GCH_SUMMARIES_OFF, "move:delay=200us@every=50"},
};
enum { CONFIGURATIONS = sizeof LIST / sizeof LIST[0] };

struct round {
  const struct configuration *configuration;
  gch_heap *heap;
  const gch_type *types[MODEL_KINDS];
  uint64_t seed, end_ns, heap_mib;
  void *lent; /* pinned leaf memory for a thread that is no mutator */
  uint32_t done, failed; /* [atomic] */
  uint64_t steps[MUTATORS], seen[MUTATORS],
      moved_ns[MUTATORS]; /* [atomic]; the watcher's: what it saw, when that changed */
  uint64_t checks, forks, full; /* [atomic] */
};

struct mutator_run {
  struct round *round;
  uint32_t number;
  struct model *model;
  struct ballast ballast;
  uint64_t collect_ns, majors;
};

static void fail(struct round *r, const char *what, const char *detail) {
  at_store(&r->failed, 1);
  at_store(&r->done, 1);
  printf("SOAK FAILED: seed %llu: %s: %s\n", (unsigned long long)r->seed, what, detail);
  fflush(stdout);
}

static void fail_at(struct round *r, const char *what, uint64_t number) {
  char text[32];
  snprintf(text, sizeof text, "%llu", (unsigned long long)number);
  fail(r, what, text);
}

/* --- mutators ---------------------------------------------------------------------------------------------------------- */

static bool join_model(struct mutator_run *run, uint64_t seed) {
  struct model other = {.heap = run->round->heap};
  gch_error error = {0};
  memcpy(other.types, run->round->types, sizeof other.types);
  run->model = calloc(1, sizeof *run->model);
  if (run->model == NULL || !model_join(run->model, &other, seed, &error)) {
    fail(run->round, "attach", error.message);
    return false;
  }
  if (run->number == 0) model_use_words(run->model);
  run->model->pinning = true;
  model_table(run->model, 2000 + model_below(run->model, 8000));
  return true;
}

static void leave_model(struct mutator_run *run) {
  if (run->number == 0) gch_ambiguous_fn_set(run->round->heap, NULL, NULL);
  model_leave(run->model);
  free(run->model);
}

/* The thread detaches and attaches again, with a new model; its ballast waits behind a handle. */
static bool renew_model(struct mutator_run *run) {
  gch_heap *heap = run->round->heap;
  gch_handle kept = gch_handle_new(run->model->m, run->ballast.table[0]);
  gch_frame_pop(run->model->m);
  uint64_t seed = model_random(run->model);
  leave_model(run);
  if (!join_model(run, seed)) return false;
  run->ballast.model = run->model;
  run->ballast.table[0] = NULL;
  gch_frame_push(run->model->m, &run->ballast.frame, run->ballast.table, 1);
  bool found = gch_handle_get(run->model->m, kept, &run->ballast.table[0]) == GCH_OK;
  if (!found) fail(run->round, "handle", "it is gone");
  gch_handle_free(heap, kept);
  return found;
}

static void collect(struct mutator_run *run) {
  struct model *model = run->model;
  gch_collect_options o;
  gch_collect_options_init(&o);
  o.minor = model_below(model, 4) == 0;
  o.promote = o.minor && model_below(model, 2);
  o.policy = o.minor ? GCH_POLICY_NEEDED : (gch_policy)model_below(model, GCH_POLICY_COUNT);
  o.concurrent = !o.minor && model_below(model, 8) != 0;
  o.wait = model_below(model, 2);
  o.background = o.concurrent && model_below(model, 2);
  if (gch_collect(model->m, &o, NULL) != GCH_OK) fail(run->round, "collect", gch_last_error(model->m)->message);
}

static void verify(struct mutator_run *run) {
  gch_error error = {0};
  if (gch_verify(run->model->m, &error) != GCH_OK) fail(run->round, "verify", error.message);
  at_add(&run->round->checks, 1);
}

static void look(struct mutator_run *run, uint64_t step) {
  uint32_t bad = model_check(run->model);
  if (bad != 0) fail_at(run->round, "an object of a model differs", bad);
  uint64_t slot = ballast_check(&run->ballast, step);
  if (slot != run->ballast.count) fail_at(run->round, "ballast differs", slot);
}

/* A child looks at what its one thread knows of. */
static void fork_once(struct mutator_run *run) {
  int status = -1;
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    alarm(CHILD_S);
    look(run, 100);
    for (int i = 0; i < 2000; i++) model_step(run->model);
    look(run, 1000);
    fflush(NULL);
    _exit(at_load(&run->round->failed) ? 1 : 0);
  }
  gch_native_enter(run->model->m);
  if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
    fail_at(run->round, "a child of fork()", (uint64_t)status);
  gch_native_leave(run->model->m);
  at_add(&run->round->forks, 1);
}

/* The first mutator asks for collections and looks at the heap as a whole. */
static void lead(struct mutator_run *run) {
  uint64_t now = clock_ns(), majors = model_majors(run->model);
  if (now < run->collect_ns) return;
  run->collect_ns = now + COLLECT_NS / 2 + model_random(run->model) % COLLECT_NS;
  collect(run);
  if (majors >= run->majors + VERIFY_EVERY) {
    run->majors = majors;
    verify(run);
    fork_once(run);
  }
}

static void play(struct mutator_run *run) {
  struct round *r = run->round;
  for (uint64_t slot = 0; slot < run->ballast.count && !at_load(&r->done); slot++) {
    ballast_put(&run->ballast, slot);
    gch_safepoint(run->model->m);
    at_store_relaxed(&r->steps[run->number], slot + 1); /* for the watcher */
  }
  for (uint64_t i = 1; !at_load(&r->done); i++) {
    model_step(run->model);
    for (int k = 0; k < 4; k++)
      if (!ballast_step(&run->ballast)) fail(r, "ballast", "an object is not what it was");
    if (run->number == 0 && i % 256 == 0) lead(run);
    if (i % 20000 == 0) look(run, 1009);
    if (run->model->count > MODEL_OBJECTS && !renew_model(run)) return;
    at_add_relaxed(&r->steps[run->number], 1); /* for the watcher */
  }
  look(run, 1);
  at_add(&r->full, run->ballast.full);
}

static void *mutate(void *arg) {
  struct mutator_run *run = arg;
  struct round *r = run->round;
  uint64_t bytes = (r->heap_mib << 20) / 100 * LIVE_PERCENT / MUTATORS;
  if (!join_model(run, r->seed * MUTATORS + run->number)) return NULL;
  if (ballast_open(&run->ballast, run->model, bytes))
    play(run);
  else
    fail(r, "ballast", "no room for its table");
  if (run->number == 0 && !at_load(&r->failed)) {
    gch_collect_wait(run->model->m, NULL);
    verify(run);
  }
  if (at_load(&r->failed)) return NULL; /* what is wrong is left as it is */
  ballast_close(&run->ballast);
  leave_model(run);
  return NULL;
}

/* Not a mutator: writes a pattern, reads it back, for ever. */
static void *borrow(void *arg) {
  struct round *r = arg;
  uint32_t *words = r->lent;
  for (uint32_t round = 1; !at_load(&r->done); round++) {
    for (uint32_t i = 0; i < LENT_BYTES / 4; i += 64) words[i] = round + i;
    usleep(100);
    for (uint32_t i = 0; i < LENT_BYTES / 4; i += 64)
      if (words[i] != round + i) fail(r, "pinned memory", "changed under a native thread");
  }
  return NULL;
}

/* --- a round ----------------------------------------------------------------------------------------------------------- */

static struct soak_state state;
static const char *state_path;
static uint64_t goal_s;

static void report(struct round *r, uint64_t seconds) {
  gch_stats s;
  struct pages_memory memory = {0};
  gch_stats_get(r->heap, &s, sizeof s);
  (void)pages_memory_read(&memory);
  printf(
      "soak %llu of %llu s, round %llu: %s %s%s%s: %llu majors, %llu minors, %llu MiB live, %llu MiB in use, %llu MiB "
      "of memory, "
      "%llu faults, %llu verified, %llu forks, longest pause %llu us\n",
      (unsigned long long)(state.seconds + seconds), (unsigned long long)goal_s, (unsigned long long)state.rounds,
      gch_mover_name(r->configuration->mover), r->configuration->faults ? "signal" : "thread",
      r->configuration->huge == GCH_HUGE_ON ? " huge" : "", r->configuration->inject ? " injected" : "",
      (unsigned long long)s.major_count, (unsigned long long)s.minor_count, (unsigned long long)s.live_bytes >> 20,
      (unsigned long long)s.heap_bytes >> 20, (unsigned long long)memory.rss_anon_bytes >> 20,
      (unsigned long long)s.faults, (unsigned long long)at_load(&r->checks), (unsigned long long)at_load(&r->forks),
      (unsigned long long)s.pause.max / 1000);
  fflush(stdout);
}

/* All mutators must go on; one that does not is not waited for. */
static void look_for_hangs(struct round *r) {
  uint64_t now = clock_ns();
  for (uint32_t i = 0; i < MUTATORS; i++) {
    uint64_t steps = at_load_relaxed(&r->steps[i]); /* a hint */
    if (steps != r->seen[i] || r->moved_ns[i] == 0) r->seen[i] = steps, r->moved_ns[i] = now;
    if (now - r->moved_ns[i] < (uint64_t)HANG_S * 1000000000u) continue;
    fail_at(r, "a mutator hangs, of number", i);
    snprintf(state.status, sizeof state.status, "failed");
    (void)soak_state_write(&state, state_path);
    abort(); /* for a core file */
  }
}

static void watch(struct round *r) {
  static uint64_t said_ns; /* a line a minute, whatever the rounds are */
  uint64_t began = clock_ns();
  if (said_ns == 0) said_ns = began;
  while (!at_load(&r->done)) {
    uint64_t now = clock_ns();
    usleep(100000);
    look_for_hangs(r);
    if (now - said_ns >= (uint64_t)REPORT_S * 1000000000u) {
      said_ns = now;
      report(r, (now - began) / 1000000000u);
    }
    if (now >= r->end_ns) at_store(&r->done, 1);
  }
}

static bool open_heap(struct round *r) {
  struct model types = {0};
  gch_config c = kit_config(r->configuration->mover, r->heap_mib, 0);
  gch_error error = {0};
  c.fault_mode = r->configuration->faults;
  c.huge = r->configuration->huge;
  c.huge_faults = r->configuration->huge_faults;
  c.summaries = r->configuration->summaries;
  c.inject = r->configuration->inject;
  if (gch_heap_create(&c, &types.heap, &error) != GCH_OK || !model_types(&types, &error)) {
    fail(r, "no heap", error.message);
    return false;
  }
  r->heap = types.heap;
  memcpy(r->types, types.types, sizeof r->types);
  return true;
}

static bool close_heap(struct round *r) {
  gch_error error = {0};
  gch_stats s;
  gch_stats_get(r->heap, &s, sizeof s);
  state.majors += s.major_count, state.minors += s.minor_count;
  state.checks += r->checks, state.forks += r->forks;
  if (s.handles != 0 || s.pins != 0) fail_at(r, "handles and pins that nobody has", s.handles + s.pins);
  if (gch_heap_destroy(r->heap, &error) != GCH_OK) fail(r, "destroy", error.message);
  return !r->failed;
}

/* Memory for the thread that is no mutator, pinned by a mutator that leaves at once; a handle keeps nothing else. */
static bool lend(struct round *r, gch_handle *handle) {
  gch_mutator *m;
  if (gch_attach(r->heap, &m, NULL) != GCH_OK) return false;
  gch_ref lent = gch_alloc_array(m, r->types[MODEL_BYTES], LENT_BYTES + 64);
  bool pinned = lent != NULL && gch_pin(m, lent, &r->lent) == GCH_OK;
  *handle = pinned ? gch_handle_new(m, lent) : 0;
  r->lent = (char *)r->lent + 8; /* behind the id */
  gch_detach(m);
  return *handle != 0;
}

static void take_back(struct round *r, gch_handle handle) {
  gch_mutator *m;
  gch_ref lent = NULL;
  if (gch_attach(r->heap, &m, NULL) != GCH_OK) return;
  gch_handle_get(m, handle, &lent);
  gch_unpin(r->heap, lent);
  gch_handle_free(r->heap, handle);
  gch_detach(m);
}

static bool run_round(uint64_t number, uint64_t seconds) {
  struct round r = {.configuration = &LIST[number % CONFIGURATIONS], .heap_mib = state.heap_mib};
  struct mutator_run runs[MUTATORS] = {{0}};
  pthread_t threads[MUTATORS], borrower;
  gch_handle lent;
  r.seed = state.seed * 1000003 + number * 1009;
  if (!kit_available(r.configuration->mover)) return true; /* which has said why */
  if (!open_heap(&r) || !lend(&r, &lent)) return false;
  r.end_ns = clock_ns() + seconds * 1000000000u;
  pthread_create(&borrower, NULL, borrow, &r);
  for (uint32_t i = 0; i < MUTATORS; i++) {
    runs[i] = (struct mutator_run){.round = &r, .number = i};
    pthread_create(&threads[i], NULL, mutate, &runs[i]);
  }
  watch(&r);
  for (uint32_t i = 0; i < MUTATORS; i++) pthread_join(threads[i], NULL);
  pthread_join(borrower, NULL);
  if (r.failed) return false;
  take_back(&r, lent);
  return close_heap(&r);
}

/* --- all of it --------------------------------------------------------------------------------------------------------- */

static void *sleep_for_ever(void *arg) {
  for (;;) pause();
  return arg;
}

static void plant(const char *what) {
  static char *volatile kept;
  pthread_t thread;
  if (strcmp(what, "memory") == 0 && (kept = malloc(PLANTED_BYTES)) != NULL) memset(kept, 1, PLANTED_BYTES);
  if (strcmp(what, "descriptor") == 0) (void)!dup(1);
  if (strcmp(what, "thread") == 0) pthread_create(&thread, NULL, sleep_for_ever, NULL);
  if (strcmp(what, "mapping") == 0) (void)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static int finish(const char *status) {
  snprintf(state.status, sizeof state.status, "%s", status);
  if (!soak_state_write(&state, state_path)) perror(state_path);
  printf("soak %s: %llu s in %llu rounds, %llu majors, %llu minors, %llu verifications, %llu forks\n", status,
         (unsigned long long)state.seconds, (unsigned long long)state.rounds, (unsigned long long)state.majors,
         (unsigned long long)state.minors, (unsigned long long)state.checks, (unsigned long long)state.forks);
  return strcmp(status, "done") != 0;
}

static bool begin(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "soak SECONDS STATE [HEAP_MIB [SEED [ROUND_SECONDS [PLANT]]]]\n");
    return false;
  }
  goal_s = strtoull(argv[1], NULL, 10);
  state_path = argv[2];
  state = (struct soak_state){.seed = argc > 4 ? strtoull(argv[4], NULL, 10) : 1,
                              .heap_mib = argc > 3 ? strtoull(argv[3], NULL, 10) : 4096,
                              .status = "running"};
  if (soak_state_read(&state, state_path))
    printf("soak goes on after %llu s, with %llu MiB and seed %llu\n", (unsigned long long)state.seconds,
           (unsigned long long)state.heap_mib, (unsigned long long)state.seed);
  if (strcmp(state.status, "failed") != 0) return true;
  printf("SOAK FAILED earlier: see the log; without %s it begins anew\n", state_path);
  return false;
}

int main(int argc, char **argv) {
  check_test = "soak";
  setvbuf(stdout, NULL, _IOLBF, 0);
  mallopt(M_ARENA_MAX, 1); /* what threads have freed is given back */
  if (!begin(argc, argv)) return 1;
  if (state.seconds >= goal_s) return finish("done");
  uint64_t round_s = argc > 5 ? strtoull(argv[5], NULL, 10) : 60;
  printf("soak of %llu s, %llu MiB, seed %llu, %d configurations\n", (unsigned long long)goal_s,
         (unsigned long long)state.heap_mib, (unsigned long long)state.seed, CONFIGURATIONS);
  if (!run_round(state.rounds, round_s < 5 ? round_s : 5))
    return finish("failed"); /* what libraries keep, they have now */
  struct kit_holdings nothing = {1, 0, 0};
  struct soak_holdings base = soak_holdings(nothing);
  while (state.seconds < goal_s) {
    uint64_t left = goal_s - state.seconds;
    uint64_t seconds = left < round_s ? left : round_s;
    if (!run_round(state.rounds, seconds)) return finish("failed");
    if (argc > 6) plant(argv[6]);
    struct soak_holdings now = soak_holdings(base.counts);
    if (!soak_compare(&base, &now)) return finish("failed");
    state.seconds += seconds;
    state.rounds++;
    if (!soak_state_write(&state, state_path)) perror(state_path);
  }
  printf("soak: %d threads, %d descriptors, %d mappings, %llu KiB, as before the first heap\n", base.counts.tasks,
         base.counts.fds, base.counts.maps, (unsigned long long)base.anon_bytes >> 10);
  return finish("done");
}
