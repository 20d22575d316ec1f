/* What the kernel may answer (uffd-move.md), injected into heaps that work: every answer to page moves and copies in the
 * pause and beside the mutator, and failures of the calls around them. Nothing is lost, the heap verifies, and the
 * refusals are counted as what they were. */
#include "kit.h"
#include "model.h"
#include "mover/mover.h"

struct answer {
  const char *spec;
  int refusal; /* counted as this; -1: any */
};

static gch_mover mover;
static gch_fault_mode faults;
static uint64_t fired; /* answers that were changed, in the last play */

/* Random operations with collections of every kind under the injected answers. */
static bool play(const char *spec, bool concurrent, gch_huge huge, gch_stats *stats) {
  struct model model;
  gch_error error = {0};
  gch_config c = kit_config(mover, 128, 512);
  c.fault_mode = faults;
  c.huge = huge;
  if (!CHECK(model_open(&model, &c, 77, &error))) return false;
  model_table(&model, 8000);
  for (uint64_t i = 0; i < kit_scaled(25000, 5); i++) model_step(&model);
  bool good = CHECK_EQ(gch_inject(model.heap, spec, &error), GCH_OK);
  for (int i = 1; i <= (int)kit_scaled(9000, 4) && good; i++) {
    gch_collect_options o;
    model_step(&model);
    if (i % 750 != 0) continue;
    gch_collect_options_init(&o);
    o.minor = i % 4 == 0;
    o.promote = o.minor;
    o.policy = o.minor || i % 5 == 0 ? GCH_POLICY_NEEDED : GCH_POLICY_ALL;
    o.concurrent = concurrent && !o.minor;
    o.wait = i % 1500 != 0;
    good = CHECK_EQ(gch_collect(model.m, &o, NULL), GCH_OK) && CHECK_EQ(model_check(&model), 0);
  }
  gch_collect_wait(model.m, NULL);
  gch_stats_get(model.heap, stats, sizeof *stats);
  fired = 0;
  for (int i = 0; i < KERNEL_CALL_COUNT; i++) fired += at_load(&model.heap->kernel.counters[i].injected);
  gch_inject(model.heap, "", NULL);
  good = good && CHECK_EQ(gch_verify(model.m, &error), GCH_OK) && CHECK_EQ(model_check(&model), 0);
  if (!good)
    printf("    %s %s %s: %s\n", gch_mover_name(mover), concurrent ? "concurrent" : "pause", spec, error.message);
  CHECK(model_close(&model, &error));
  return good;
}

static void play_all(const struct answer *answers, size_t count) {
  for (size_t i = 0; i < count; i++)
    for (int concurrent = 0; concurrent < 2; concurrent++) {
      gch_stats stats;
      if (!play(answers[i].spec, concurrent, GCH_HUGE_OFF, &stats)) return;
      if (getenv("V")) printf("    %s: %llu\n", answers[i].spec, (unsigned long long)fired);
      if (answers[i].refusal >= 0 && fired > 20 && !CHECK(stats.refusals[answers[i].refusal] > 0))
        printf("    %s: not counted as refusal %d\n", answers[i].spec, answers[i].refusal);
    }
}

static const struct answer MOVES[] = {
    {"move:EEXIST-after@every=7", GCH_REFUSAL_EXIST_MOVED}, /* B1 */
    {"move:EAGAIN@partial=4096,p=0.3,seed=1", GCH_REFUSAL_AGAIN},
    {"move:EAGAIN@p=0.3,seed=2", -1},
    {"move:EBUSY@p=0.1,seed=3", GCH_REFUSAL_BUSY},
    {"move:EBUSY", GCH_REFUSAL_COPIED}, /* for good: copied instead */
    {"move:EBUSY@partial=8192,p=0.2,seed=4", GCH_REFUSAL_BUSY},
    {"move:EINVAL@p=0.2,seed=5", GCH_REFUSAL_OTHER},
    {"move:ENOENT@p=0.05,seed=6", GCH_REFUSAL_OTHER},
    {"move:ENOMEM@p=0.2,seed=7", GCH_REFUSAL_NO_MEMORY},
    {"move:ENOMEM@partial=16384,p=0.2,seed=8", GCH_REFUSAL_NO_MEMORY},
    {"move:EFAULT@p=0.1,seed=9", GCH_REFUSAL_COPIED},
    {"move:EEXIST-after@p=0.1,seed=10;move:EAGAIN@partial=4096,p=0.2,seed=11", GCH_REFUSAL_EXIST_MOVED},
    {"move:delay=200us@every=3", -1},
    {"move:ESRCH@p=0.2,seed=12", GCH_REFUSAL_COPIED},
    {"move:ESRCH@partial=8192,p=0.2,seed=13", GCH_REFUSAL_COPIED},
};

static void answers_to_moves(void) {
  mover = GCH_MOVER_MOVE, faults = GCH_FAULT_THREAD;
  play_all(MOVES, sizeof MOVES / sizeof MOVES[0]);
}

static void answers_to_moves_in_signal_mode(void) {
  mover = GCH_MOVER_MOVE, faults = GCH_FAULT_SIGNAL;
  play_all(MOVES, KIT_SANITIZED ? 4 : sizeof MOVES / sizeof MOVES[0]);
}

static void answers_to_moves_of_huge_arenas(void) {
  mover = GCH_MOVER_MOVE, faults = GCH_FAULT_THREAD;
  for (size_t i = 0; i < sizeof MOVES / sizeof MOVES[0]; i++) {
    gch_stats stats;
    if (!play(MOVES[i].spec, false, GCH_HUGE_ON, &stats)) return;
  }
}

static void answers_to_copies(void) {
  static const struct answer copies[] = {
      {"copy:EAGAIN@partial=4096,p=0.3,seed=1", GCH_REFUSAL_AGAIN},
      {"copy:EAGAIN@p=0.3,seed=2", GCH_REFUSAL_AGAIN},
      {"copy:ENOENT@p=0.2,seed=3", GCH_REFUSAL_OTHER},
      {"copy:ENOMEM@p=0.2,seed=4", GCH_REFUSAL_NO_MEMORY},
      {"copy:EEXIST@partial=4096,p=0.1,seed=5", GCH_REFUSAL_EXIST},
      {"copy:EFAULT@p=0.2,seed=6", GCH_REFUSAL_OTHER},
      {"copy:EFAULT@partial=4096,p=0.2,seed=7", GCH_REFUSAL_OTHER},
      {"copy:ESRCH@p=0.2,seed=8", GCH_REFUSAL_OTHER},
  };
  mover = GCH_MOVER_COPY;
  for (int signal = 0; signal < 2; signal++) {
    faults = signal ? GCH_FAULT_SIGNAL : GCH_FAULT_THREAD;
    play_all(copies, sizeof copies / sizeof copies[0]);
  }
}

/* The calls around the moves, now and then: registration, flips, waking, looking. */
static void answers_to_other_calls(void) {
  static const struct answer others[] = {
      {"register:ENOMEM@p=0.3,seed=1", -1},
      {"unregister:ENOMEM@p=0.3,seed=2", -1},
      {"mremap:ENOMEM@p=0.3,seed=3", -1},
      {"mmap:ENOMEM@p=0.3,seed=4", -1},
      {"populate:ENOMEM@p=0.3,seed=5", -1},
      {"drop:ENOMEM@p=0.3,seed=6", -1},
      {"populate:EAGAIN@p=0.5,seed=7", -1},
      {"mprotect:ENOMEM@p=0.5,seed=8", -1},
      {"read:EAGAIN@p=0.5,seed=9;move:delay=300us;copy:delay=300us", -1},
      {"*:delay=20us@p=0.2,seed=11", -1},
      /* so often that it is taken for good now and then, half-way through (more of these: test_no_memory.c) */
      {"mremap:ENOMEM@p=0.97,seed=12", -1},
      {"register:ENOMEM@p=0.95,seed=13", -1},
      {"unregister:ENOMEM@p=0.95,seed=14", -1},
      {"mremap:ENOMEM@p=0.97,seed=15;unregister:ENOMEM@p=0.97,seed=16;register:ENOMEM@p=0.9,seed=17", -1},
      {"mmap:ENOMEM@p=0.95,seed=18;drop:ENOMEM@p=0.5,seed=19", -1},
  };
  faults = GCH_FAULT_THREAD;
  for (mover = GCH_MOVER_MOVE; mover <= GCH_MOVER_COPY; mover++) play_all(others, sizeof others / sizeof others[0]);
}

/* More of those that hardly ever happen: a descriptor that cannot be read or closed, flips refused for other reasons than
 * memory. A wake that fails has been done: one that has not would leave a thread asleep, and no kernel does that. */
static void rare_answers(void) {
  static const struct answer rare[] = {
      {"mremap:EINVAL@p=0.5,seed=1", -1},
      {"mremap:EFAULT@p=0.5,seed=2", -1},
      {"mremap:EAGAIN@p=0.97,seed=3", -1},
      {"wake:EINVAL-after@p=0.5,seed=4;move:EBUSY@p=0.2,seed=5;copy:EAGAIN@p=0.2,seed=6", -1},
      {"read:EIO@p=0.5,seed=7", -1},
  };
  for (mover = GCH_MOVER_MOVE; mover <= GCH_MOVER_COPY; mover++)
    for (int signal = 0; signal < 2; signal++) {
      faults = signal ? GCH_FAULT_SIGNAL : GCH_FAULT_THREAD;
      for (size_t i = 0; i < sizeof rare / sizeof rare[0]; i++) {
        gch_stats stats;
        bool read = strncmp(rare[i].spec, "read:", 5) == 0; /* by the thread that answers faults */
        if ((read && signal) || !play(rare[i].spec, false, GCH_HUGE_OFF, &stats)) continue;
        if (!play(rare[i].spec, true, GCH_HUGE_OFF, &stats) || !CHECK(fired > 0)) return;
      }
    }
}

/* A cycle closes the quiet descriptor where it can neither register with it nor unregister from it; that fails, too. */
static void refused_closes(void) {
  for (int concurrent = 1; concurrent >= 0; concurrent--) {
    struct model model;
    gch_error error = {0};
    gch_config c = kit_config(GCH_MOVER_MOVE, 64, 512);
    if (!CHECK(model_open(&model, &c, 9, &error))) return;
    model_table(&model, 1000);
    CHECK_EQ(gch_inject(model.heap, "close:EIO-after;register:ENOMEM@from=2;unregister:ENOMEM", &error), GCH_OK);
    for (int round = 0; round < 8; round++) {
      gch_collect_options o;
      gch_collect_options_init(&o);
      o.policy = GCH_POLICY_ALL;
      o.concurrent = concurrent != 0 || round < 4;
      for (int n = 0; n < 1000; n++) model_step(&model);
      if (round == 6) CHECK_EQ(gch_inject(model.heap, "", &error), GCH_OK);
      CHECK_EQ(gch_collect(model.m, &o, NULL), GCH_OK);
      CHECK_EQ(model_check(&model), 0);
      CHECK_EQ(gch_verify(model.m, &error), GCH_OK);
    }
    CHECK(at_load(&model.heap->kernel.counters[KERNEL_CLOSE].injected) > 0);
    CHECK(model_close(&model, &error));
  }
}

/* Collections unmap nothing. What cannot be unmapped or closed when a heap ends is left, and the next one does not mind. */
static void refusals_at_the_end(void) {
  for (int i = 0; i < 2; i++) {
    struct model model;
    gch_error error = {0};
    gch_config c = kit_config(GCH_MOVER_MOVE, 64, 512);
    if (!CHECK(model_open(&model, &c, 5, &error))) return;
    model_table(&model, 1000);
    for (int n = 0; n < 4000; n++) model_step(&model);
    CHECK_EQ(gch_inject(model.heap, i == 0 ? "munmap:ENOMEM;close:EIO-after" : "", &error), GCH_OK);
    CHECK_EQ(gch_collect(model.m, NULL, NULL), GCH_OK);
    CHECK_EQ(model_check(&model), 0);
    CHECK_EQ(at_load(&model.heap->kernel.counters[KERNEL_MUNMAP].injected), 0);
    CHECK(model_close(&model, &error));
  }
}

static void answers_to_simulated_moves(void) {
  static const struct answer answers[] = {
      {"mprotect:ENOMEM@p=0.9,seed=1", -1}, {"mprotect:ENOMEM@p=0.97,seed=2", -1},
      {"punch:ENOSPC@p=0.5,seed=3", -1},    {"punch:ENOSPC", -1},
      {"populate:ENOMEM@p=0.3,seed=4", -1},
  };
  mover = GCH_MOVER_SIMULATED, faults = GCH_FAULT_THREAD;
  if (kit_available(mover)) play_all(answers, sizeof answers / sizeof answers[0]);
}

/* A page that was moved and reported EEXIST, while /proc cannot be read: mincore tells. */
static void misreported_without_pagemap(void) {
  gch_stats stats;
  mover = GCH_MOVER_MOVE, faults = GCH_FAULT_THREAD;
  for (int concurrent = 0; concurrent < 2; concurrent++)
    play("move:EEXIST-after@every=5;pagemap:ENOSYS", concurrent, GCH_HUGE_OFF, &stats);
}

/* Linux 5.7 to 6.7: `copy` opens and moves beside the program, and never asks for a page move. */
static void a_kernel_without_page_moves(void) {
  struct kit k;
  gch_error error = {0};
  gch_config c = kit_config(GCH_MOVER_COPY, 64, 512);
  c.inject = "move:EINVAL;register:without=move;uffd_open:without=move";
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  root[0] = kit_refs(&k, 3000);
  for (uint64_t i = 0; i < 3000; i++) kit_put_node(&k, &root[0], i, i);
  for (int i = 0; i < 4; i++) {
    gch_cycle r = kit_major(&k, i < 2 ? GCH_POLICY_ALL : GCH_POLICY_NEEDED, i % 2 == 0, true);
    CHECK(!r.degraded && r.concurrent == (i % 2 == 0));
    for (uint64_t n = 0; n < 3000; n++)
      if (!CHECK_EQ(*kit_number(kit_at(root[0], n)), n)) break;
    kit_verify(&k);
  }
  for (uint32_t r = 0; r < k.heap->layout.region_count; r++) CHECK_EQ(k.heap->registration[r], REGION_QUIET);
  CHECK_EQ(k.heap->kernel.counters[KERNEL_MOVE].injected, 0);
  GCH_FRAME_END(k.m);
  kit_close(&k);
  c.mover = GCH_MOVER_MOVE;
  CHECK_EQ(gch_heap_create(&c, &k.heap, &error), GCH_UNSUPPORTED);
}

/* Every opening but those for user mode only is refused, as to an ordinary user; `device`: /dev/userfaultfd can be opened. */
static bool open_for_user_mode(struct kit *k, bool device) {
  char spec[400] = "";
  gch_config c = kit_config(GCH_MOVER_MOVE, 256, 1024);
  for (int i = 0, call = 1; i < 3; i++, call += device ? 3 : 4)
    for (int j = 0; j < 2; j++)
      snprintf(spec + strlen(spec), sizeof spec - strlen(spec), "uffd_open:EPERM@nth=%d;", call + j);
  c.huge = GCH_HUGE_OFF;
  c.gc_threads = 1;
  c.inject = spec;
  if (!kit_open(k, &c)) return false;
  if (k->heap->quiet.user_mode_only && k->heap->missing.user_mode_only && k->heap->trap.user_mode_only) return true;
  kit_close(k);
  return false;
}

/* While regions leave the quiet registration, populating in them is refused, not put off: nobody is to notice. */
static void an_ordinary_user(void) {
  struct kit k;
  struct kit_request request;
  if (!open_for_user_mode(&k, true) && !open_for_user_mode(&k, false))
    SKIP("an_ordinary_user", "no descriptor for user mode only");
  GCH_FRAME(k.m, root, 2);
  root[0] = kit_refs(&k, 100000);
  for (uint64_t i = 0; i < 100000; i++) kit_put_node(&k, &root[0], i, i);
  gch_inject(k.heap, "unregister:delay=20ms", NULL);
  kit_begin(&k, &request, GCH_POLICY_ALL);
  while (at_load(&k.heap->phase) != GCH_PHASE_PLAN) gch_safepoint(k.m);
  while (at_load(&k.heap->phase) == GCH_PHASE_PLAN) {
    if (!CHECK(kit_refs(&k, 20000) != NULL)) break;
    usleep(1000); /* not so many that the heap is full: that would be a major of its own */
    gch_safepoint(k.m);
  }
  gch_inject(k.heap, "", NULL);
  kit_end(&k, &request);
  CHECK(k.heap->kernel.counters[KERNEL_POPULATE].failures > 0); /* else nothing was tried */
  gch_stats stats;
  gch_stats_get(k.heap, &stats, sizeof stats);
  CHECK_EQ(stats.major_count, 1);
  CHECK(stats.last_major.concurrent);
  for (uint64_t n = 0; n < 100000; n++)
    if (!CHECK_EQ(*kit_number(kit_at(root[0], n)), n)) break;
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

int main(void) {
  if (!kit_available(GCH_MOVER_MOVE)) {
    printf("  SKIP test_injection: move: not available here\n");
    return CHECK_EXIT_SKIPPED;
  }
  kit_watchdog(90);
  RUN(answers_to_moves);
  RUN(answers_to_moves_in_signal_mode);
  RUN(answers_to_moves_of_huge_arenas);
  RUN(answers_to_copies);
  RUN(answers_to_other_calls);
  RUN(rare_answers);
  RUN(refused_closes);
  RUN(refusals_at_the_end);
  RUN(answers_to_simulated_moves);
  RUN(misreported_without_pagemap);
  RUN(a_kernel_without_page_moves);
  RUN(an_ordinary_user);
  return CHECK_SUMMARY();
}
