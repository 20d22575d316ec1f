/* fork(): parent and child each go on with a heap of their own, whatever was going on. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kit.h"
#include "model.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { SLOWER = 6 };
#else
enum { SLOWER = 1 };
#endif

/* ThreadSanitizer ends a child that starts threads, unless told otherwise; and takes the locks of several heaps, of which fork()
 * takes the first with patience and the others with a deadline, for a cycle. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0:detect_deadlocks=0"; }

struct kind {
  gch_mover mover;
  gch_fault_mode faults;
  gch_huge huge;
  bool during; /* fork while a concurrent major runs */
};

static gch_config config_of(struct kind kind) {
  gch_config c;
  gch_config_init(&c);
  c.mover = kind.mover;
  c.fault_mode = kind.faults;
  c.huge = kind.huge;
  c.max_bytes = (uint64_t)128 << 20;
  c.nursery_bytes = (uint64_t)1 << 20;
  c.gc_threads = 2;
  return c;
}

/* A model full of objects; false: the mover does not work here, or a check has failed. */
static bool open_model(struct model *model, struct kind kind, uint64_t seed) {
  gch_error error = {0};
  gch_config c = config_of(kind);
  if (!kit_available(kind.mover)) return false;
  if (!CHECK(model_open(model, &c, seed, &error))) {
    fprintf(stderr, "    %s: %s\n", gch_mover_name(kind.mover), error.message);
    return false;
  }
  model_table(model, 6000);
  for (int i = 0; i < 12000 / SLOWER; i++) model_step(model);
  return true;
}

static void close_model(struct model *model) {
  gch_error error = {0};
  if (!CHECK(model_close(model, &error))) fprintf(stderr, "%s\n", error.message);
}

static gch_status collect(struct model *model, bool minor, bool concurrent, bool wait) {
  gch_collect_options o;
  gch_collect_options_init(&o);
  o.minor = minor;
  o.concurrent = concurrent && !minor;
  o.wait = wait;
  o.policy = minor || model_below(model, 2) ? GCH_POLICY_NEEDED : GCH_POLICY_ALL;
  return gch_collect(model->m, &o, NULL);
}

static bool whole(struct model *model) {
  gch_error error = {0};
  if (!CHECK_EQ(gch_verify(model->m, &error), GCH_OK)) {
    fprintf(stderr, "%d: verify: %s\n", (int)getpid(), error.message);
    return false;
  }
  return CHECK_EQ(model_check(model), 0);
}

/* Operations, then every kind of collection, each followed by a comparison. */
static bool exercise(struct model *model) {
  for (int kind = 0; kind < 4; kind++) {
    for (int i = 0; i < 1500 / SLOWER; i++) model_step(model);
    if (!CHECK_EQ(collect(model, kind == 0, kind >= 2, kind != 3), GCH_OK)) return false;
    for (int i = 0; i < 500 / SLOWER; i++) model_step(model);
    if (!CHECK_EQ(gch_collect_wait(model->m, NULL), GCH_OK) || !whole(model)) return false;
  }
  return true;
}

/* Runs `body` in a child; the parent goes on at once. */
static pid_t start_child(struct model *model, bool (*body)(struct model *)) {
  fflush(NULL);
  pid_t pid = fork();
  if (pid != 0) return pid;
  alarm(100);
  int before = check_failures;
  bool good = body(model);
  fflush(NULL);
  _exit(good && check_failures == before ? 0 : 1);
}

static bool end_child(pid_t pid) {
  int status = -1;
  if (!CHECK(pid > 0) || !CHECK_EQ(waitpid(pid, &status, 0), pid)) return false;
  return CHECK_EQ(status, 0);
}

static const struct kind KINDS[] = {
    {GCH_MOVER_MOVE, GCH_FAULT_THREAD, GCH_HUGE_OFF, false},
    {GCH_MOVER_MOVE, GCH_FAULT_SIGNAL, GCH_HUGE_OFF, false},
    {GCH_MOVER_MOVE, GCH_FAULT_THREAD, GCH_HUGE_ON, false},
    {GCH_MOVER_COPY, GCH_FAULT_THREAD, GCH_HUGE_OFF, false},
    {GCH_MOVER_COPY, GCH_FAULT_SIGNAL, GCH_HUGE_OFF, false},
    {GCH_MOVER_SIMULATED, GCH_FAULT_THREAD, GCH_HUGE_OFF, false},
    {GCH_MOVER_MEMCPY, GCH_FAULT_THREAD, GCH_HUGE_OFF, false},
    {GCH_MOVER_SLIDE, GCH_FAULT_THREAD, GCH_HUGE_OFF, false},
    {GCH_MOVER_MOVE, GCH_FAULT_THREAD, GCH_HUGE_OFF, true},
    {GCH_MOVER_MOVE, GCH_FAULT_SIGNAL, GCH_HUGE_OFF, true},
    {GCH_MOVER_MOVE, GCH_FAULT_THREAD, GCH_HUGE_ON, true},
    {GCH_MOVER_COPY, GCH_FAULT_THREAD, GCH_HUGE_OFF, true},
    {GCH_MOVER_COPY, GCH_FAULT_SIGNAL, GCH_HUGE_OFF, true},
    {GCH_MOVER_SIMULATED, GCH_FAULT_THREAD, GCH_HUGE_OFF, true},
};
enum { KIND_COUNT = sizeof KINDS / sizeof KINDS[0] };

static const char *describe(struct kind kind) {
  static char text[80];
  snprintf(text, sizeof text, "%s%s%s%s", gch_mover_name(kind.mover), kind.faults ? " signal" : "",
           kind.huge == GCH_HUGE_ON ? " huge" : "", kind.during ? " during a major" : "");
  return text;
}

static void play(struct kind kind, uint64_t seed, bool beside(struct model *)) {
  struct model model;
  if (!open_model(&model, kind, seed)) return;
  bool good = true;
  for (int i = 0; i < 3 && good; i++) {
    if (kind.during) good = CHECK_EQ(collect(&model, false, true, false), GCH_OK);
    pid_t pid = start_child(&model, exercise);
    good = beside(&model) && good;
    good = end_child(pid) && good;
    good = whole(&model) && good;
  }
  if (!good) fprintf(stderr, "    with %s\n", describe(kind));
  close_model(&model);
}

static bool nothing(struct model *model) {
  (void)model;
  return true;
}

static void every_kind_child_first(void) {
  for (int i = 0; i < KIND_COUNT; i++) play(KINDS[i], 1, nothing);
}
static void every_kind_both_at_once(void) {
  for (int i = 0; i < KIND_COUNT; i++) play(KINDS[i], 2, exercise);
}

/* --- other threads -------------------------------------------------------------------------------------------- */

struct beside {
  const struct model *other;
  uint64_t seed;
  gch_mutator *m; /* [atomic] */
  int quit;       /* [atomic] */
  bool good;
};

static void *run_beside(void *arg) {
  struct beside *b = arg;
  struct model model;
  gch_error error;
  b->good = model_join(&model, b->other, b->seed, &error);
  __atomic_store_n(&b->m, model.m, __ATOMIC_RELEASE);
  while (!__atomic_load_n(&b->quit, __ATOMIC_ACQUIRE)) {
    for (int i = 0; i < 300; i++) model_step(&model);
    if (model_below(&model, 20) == 0)
      collect(&model, model_below(&model, 2), model_below(&model, 2), model_below(&model, 2));
    if (model_below(&model, 10) == 0 && model_check(&model) != 0) b->good = false;
  }
  model_leave(&model);
  return NULL;
}

static gch_mutator *lost; /* of a thread that the child does not have */

static bool child_of_threads(struct model *model) {
  gch_detach(lost);
  return exercise(model);
}

static void beside_a_mutator(void) {
  for (int i = 0; i < KIND_COUNT; i++) {
    struct model model;
    if (!open_model(&model, KINDS[i], 3)) continue;
    struct beside b = {.other = &model, .seed = 9};
    pthread_t thread;
    pthread_create(&thread, NULL, run_beside, &b);
    while (__atomic_load_n(&b.m, __ATOMIC_ACQUIRE) == NULL) gch_safepoint(model.m);
    lost = b.m;
    bool good = true;
    for (int round = 0; round < 3; round++) {
      if (KINDS[i].during) collect(&model, false, true, false);
      pid_t pid = start_child(&model, child_of_threads);
      good = exercise(&model) && end_child(pid) && good;
    }
    __atomic_store_n(&b.quit, 1, __ATOMIC_RELEASE);
    gch_native_enter(model.m);
    pthread_join(thread, NULL);
    gch_native_leave(model.m);
    if (!CHECK(b.good) || !good) fprintf(stderr, "    with %s\n", describe(KINDS[i]));
    close_model(&model);
  }
}

/* A thread that is not attached yet is not stopped for a fork(). What it does may hold locks: the allocator's, in the C library
 * and its start-up code. Theirs are renewed in the child; AddressSanitizer's is not, and the child would wait for ever. So nobody
 * forks before all have come. (Reproduced: two_heaps hung in two of three runs.) */
static pthread_barrier_t all_here;

/* Two threads fork at once; each has a heap of its own and a share of the other's. */
static void *fork_often(void *arg) {
  struct model *model = arg, mine;
  gch_error error;
  bool joined = CHECK(model_join(&mine, model, 5, &error));
  if (joined) gch_native_enter(mine.m);
  pthread_barrier_wait(&all_here);
  if (!joined) return NULL;
  gch_native_leave(mine.m);
  for (int i = 0; i < 8; i++) {
    for (int k = 0; k < 500; k++) model_step(&mine);
    pid_t pid = start_child(&mine, i % 4 == 0 ? exercise : whole);
    for (int k = 0; k < 500; k++) model_step(&mine);
    gch_native_enter(mine.m);
    end_child(pid);
    gch_native_leave(mine.m);
  }
  CHECK_EQ(model_check(&mine), 0);
  model_leave(&mine);
  return NULL;
}

static void two_threads_fork(void) {
  struct model model;
  if (!open_model(&model, (struct kind){.mover = GCH_MOVER_SIMULATED}, 4)) SKIP("simulated", "not available");
  pthread_t threads[2];
  pthread_barrier_init(&all_here, NULL, 2);
  for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, fork_often, &model);
  gch_native_enter(model.m);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  pthread_barrier_destroy(&all_here);
  gch_native_leave(model.m);
  exercise(&model);
  close_model(&model);
}

/* A thread that is a mutator of two heaps. Managed in both at once (`greedy`) it cannot be stopped by both. */
struct pair {
  struct model *a, *b;
  int *quit;
  bool greedy;
};

static void *use_both(void *arg) {
  struct pair *pair = arg;
  struct model a, b;
  gch_error error;
  bool joined = CHECK(model_join(&a, pair->a, 11, &error)) && CHECK(model_join(&b, pair->b, 12, &error));
  pthread_barrier_wait(&all_here);
  if (!joined) return NULL;
  while (!__atomic_load_n(pair->quit, __ATOMIC_ACQUIRE)) {
    if (!pair->greedy) gch_native_enter(b.m);
    for (int i = 0; i < 100; i++) model_step(&a);
    if (!pair->greedy) {
      gch_native_enter(a.m);
      gch_native_leave(b.m);
    }
    for (int i = 0; i < 100; i++) model_step(&b);
    if (!pair->greedy) gch_native_leave(a.m);
  }
  CHECK_EQ(model_check(&a), 0);
  CHECK_EQ(model_check(&b), 0);
  model_leave(&b);
  model_leave(&a);
  return NULL;
}

static struct model *second;

static bool both_from_native(struct model *first) {
  gch_native_leave(first->m);
  gch_native_leave(second->m);
  return exercise(first) && exercise(second);
}

static bool one_may_be_unusable(struct model *first) {
  gch_native_leave(first->m);
  gch_native_leave(second->m);
  int usable = 0;
  for (int i = 0; i < 2; i++) {
    struct model *model = i == 0 ? first : second;
    gch_status status = collect(model, true, false, true);
    if (status == GCH_OK) usable += exercise(model);
    if (status != GCH_OK) CHECK_EQ(status, GCH_BAD_STATE);
  }
  return CHECK(usable >= 1); /* both, if it was stopped by both by chance */
}

static void play_two_heaps(bool greedy) {
  struct model a, b;
  second = &b;
  int quit = 0;
  if (!open_model(&a, (struct kind){.mover = GCH_MOVER_SIMULATED}, 6)) SKIP("simulated", "not available");
  if (!CHECK(open_model(&b, (struct kind){.mover = GCH_MOVER_MEMCPY}, 7))) return;
  struct pair pair = {&a, &b, &quit, greedy};
  pthread_t thread;
  pthread_barrier_init(&all_here, NULL, 2);
  pthread_create(&thread, NULL, use_both, &pair);
  gch_native_enter(a.m);
  gch_native_enter(b.m);
  pthread_barrier_wait(&all_here);
  for (int i = 0; i < (greedy ? 1 : 10); i++)
    end_child(start_child(&a, greedy ? one_may_be_unusable : both_from_native));
  __atomic_store_n(&quit, 1, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
  pthread_barrier_destroy(&all_here);
  gch_native_leave(b.m);
  gch_native_leave(a.m);
  exercise(&a);
  exercise(&b);
  close_model(&b);
  close_model(&a);
}

static void two_heaps(void) { play_two_heaps(false); }
static void a_thread_managed_in_two(void) { play_two_heaps(true); }

/* --- generations, counts -------------------------------------------------------------------------------------- */

static int count_entries(const char *path) {
  int count = 0;
  DIR *dir = opendir(path);
  while (dir != NULL && readdir(dir) != NULL) count++;
  if (dir != NULL) closedir(dir);
  return count;
}

static void twenty_forks(void) {
  for (int i = 0; i < KIND_COUNT; i++) {
    struct model model;
    if (!KINDS[i].during && KINDS[i].mover != GCH_MOVER_MEMCPY) continue;
    if (!open_model(&model, KINDS[i], 8)) continue;
    int fds = count_entries("/proc/self/fd"), tasks = count_entries("/proc/self/task");
    for (int k = 0; k < 20; k++) {
      if (KINDS[i].during) CHECK_EQ(collect(&model, false, true, false), GCH_OK);
      if (!end_child(start_child(&model, whole))) break;
      for (int s = 0; s < 200; s++) model_step(&model);
    }
    CHECK_EQ(count_entries("/proc/self/fd"), fds);
    CHECK_EQ(count_entries("/proc/self/task"), tasks);
    gch_stats stats;
    gch_stats_get(model.heap, &stats, sizeof stats);
    CHECK_EQ(stats.stall_count[GCH_STALL_FORK], 20);
    exercise(&model);
    close_model(&model);
  }
}

static int depth;

/* A child has the descriptors and threads of a heap, no more than its parent has. */
static bool descend(struct model *model) {
  int fds = count_entries("/proc/self/fd"), tasks = count_entries("/proc/self/task");
  if (--depth > 0) {
    pid_t pid = start_child(model, descend);
    if (!exercise(model) || !end_child(pid)) return false;
  }
  CHECK_EQ(count_entries("/proc/self/fd"), fds);
  CHECK_EQ(count_entries("/proc/self/task"), tasks);
  if (!exercise(model)) return false;
  close_model(model);
  return true;
}

static void child_of_a_child(void) {
  for (int i = 0; i < KIND_COUNT; i++) {
    struct model model;
    depth = 3;
    if (!open_model(&model, KINDS[i], 10)) continue;
    int fds = count_entries("/proc/self/fd");
    pid_t pid = start_child(&model, descend);
    if (!end_child(pid)) fprintf(stderr, "    with %s\n", describe(KINDS[i]));
    CHECK_EQ(count_entries("/proc/self/fd"), fds);
    exercise(&model);
    close_model(&model);
  }
}

/* --- who forks ------------------------------------------------------------------------------------------------ */

static bool from_native(struct model *model) {
  gch_native_leave(model->m);
  return exercise(model);
}

static void native_caller(void) {
  struct model model;
  if (!open_model(&model, (struct kind){.mover = GCH_MOVER_AUTO}, 13)) return;
  gch_native_enter(model.m);
  end_child(start_child(&model, from_native));
  gch_native_leave(model.m);
  exercise(&model);
  close_model(&model);
}

/* In its child the objects of the parent's main thread are garbage, but for handles. */
static bool new_mutator(struct model *model) {
  struct model own;
  gch_error error = {0};
  if (!CHECK(model_join(&own, model, 14, &error))) return false;
  model_table(&own, 3000);
  for (int i = 0; i < 2000; i++) model_step(&own);
  bool good = exercise(&own);
  gch_detach(model->m);
  return good && CHECK(model_close(&own, &error));
}

static void *fork_unattached(void *arg) {
  end_child(start_child(arg, new_mutator));
  return NULL;
}

static void unattached_caller(void) {
  for (int i = 0; i < KIND_COUNT; i++) {
    struct model model;
    pthread_t thread;
    if (!open_model(&model, KINDS[i], 15)) continue;
    if (KINDS[i].during) collect(&model, false, true, false);
    model_pop_frames(&model); /* the child detaches this mutator */
    gch_native_enter(model.m);
    pthread_create(&thread, NULL, fork_unattached, &model);
    pthread_join(thread, NULL);
    gch_native_leave(model.m);
    model_push_frames(&model);
    close_model(&model);
  }
}

/* --- what cannot be made anew --------------------------------------------------------------------------------- */

static bool unusable(struct model *model) {
  gch_error error = {0};
  gch_mutator *other;
  CHECK_EQ(collect(model, true, false, true), GCH_BAD_STATE);
  CHECK(strstr(gch_last_error(model->m)->message, "fork") != NULL);
  CHECK_EQ(collect(model, false, true, false), GCH_BAD_STATE);
  CHECK_EQ(gch_collect_wait(model->m, NULL), GCH_BAD_STATE);
  CHECK_EQ(gch_verify(model->m, &error), GCH_BAD_STATE);
  CHECK_EQ(gch_attach(model->heap, &other, &error), GCH_BAD_STATE);
  CHECK(gch_alloc_array(model->m, model->types[MODEL_BYTES], 100) == NULL);
  CHECK_EQ(gch_last_error(model->m)->status, GCH_BAD_STATE);
  return true;
}

static bool unusable_then_closed(struct model *model) {
  unusable(model);
  pid_t pid = start_child(model, unusable);
  end_child(pid);
  close_model(model);
  return true;
}

static void broken_child(void) {
  static const struct {
    struct kind kind;
    const char *rule;
  } all[] = {{{.mover = GCH_MOVER_SIMULATED}, "memfd:ENOMEM"},
             {{.mover = GCH_MOVER_SIMULATED}, "mmap:ENOMEM"},
             {{.mover = GCH_MOVER_MOVE}, "uffd_open:EMFILE"},
             {{.mover = GCH_MOVER_COPY}, "uffd_open:EMFILE"}};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    struct model model;
    gch_error error = {0};
    if (!open_model(&model, all[i].kind, 16)) continue;
    if (!CHECK_EQ(gch_inject(model.heap, all[i].rule, &error), GCH_OK)) fprintf(stderr, "%s\n", error.message);
    end_child(start_child(&model, unusable_then_closed));
    gch_inject(model.heap, "", NULL);
    exercise(&model);
    end_child(start_child(&model, exercise));
    close_model(&model);
  }
}

/* A bare clone runs no handlers. */
static void bare_clone(void) {
  struct model model;
  if (!open_model(&model, (struct kind){.mover = GCH_MOVER_MEMCPY}, 17)) return;
  fflush(NULL);
  long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) {
    bool good =
        collect(&model, true, false, true) == GCH_BAD_STATE && gch_heap_destroy(model.heap, NULL) == GCH_BAD_STATE;
    _exit(good ? 0 : 1);
  }
  end_child((pid_t)pid);
  CHECK_EQ(system("exit 0"), 0);
  exercise(&model);
  close_model(&model);
}

/* Another program (system(3) is posix_spawn) stops nobody, and gets nothing of a heap: neither while it rests nor while it moves. */
static void another_program(void) {
  for (int i = 0; i < KIND_COUNT; i++) {
    struct model model;
    gch_stats stats;
    if (!open_model(&model, KINDS[i], 18)) continue;
    if (KINDS[i].during) CHECK_EQ(collect(&model, false, true, false), GCH_OK);
    CHECK_EQ(system("! ls -l /proc/self/fd | grep -q -e userfaultfd -e memfd"), 0);
    gch_stats_get(model.heap, &stats, sizeof stats);
    if (!CHECK_EQ(stats.stall_count[GCH_STALL_FORK], 0)) fprintf(stderr, "    with %s\n", describe(KINDS[i]));
    exercise(&model);
    close_model(&model);
  }
}

int main(void) {
  alarm(110 * (unsigned)SLOWER);
  pthread_atfork(NULL, NULL, kit_larger_stacks); /* before the library's */
  RUN(every_kind_child_first);
  RUN(every_kind_both_at_once);
  RUN(beside_a_mutator);
  RUN(two_threads_fork);
  RUN(two_heaps);
  RUN(a_thread_managed_in_two);
  RUN(twenty_forks);
  RUN(child_of_a_child);
  RUN(native_caller);
  RUN(unattached_caller);
  RUN(broken_child);
  RUN(bare_clone);
  RUN(another_program);
  return CHECK_SUMMARY();
}
