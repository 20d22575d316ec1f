/* Each call to the kernel that a collection makes fails once, at its first, second, ... time, until a whole cycle passes in
 * which there is no such time any more: whatever a refusal interrupts, the heap verifies and holds what it held, and the next
 * cycle is as good as any. */
#include "kit.h"
#include "model.h"
#include "mover/mover.h"

enum { TABLE = 400, STEPS = 150, MOST = 20000 };

/* The answer that one call may have, and what else goes wrong all the time: some calls are made after refusals only. A wake
 * that fails is made all the same, else somebody would sleep for ever. (Closing: test_injection.c.) */
static const struct {
  const char *answer, *else_too;
} CALLS[] = {
    {"mmap:ENOMEM", ""},
    {"mremap:ENOMEM", ""},
    {"mremap:EINVAL", ""},
    {"madvise:ENOMEM", ""},
    {"drop:ENOMEM", ""},
    {"populate:ENOMEM", ""},
    {"populate:EAGAIN", ""},
    {"mprotect:ENOMEM", ""},
    {"punch:ENOSPC", ""},
    {"register:ENOMEM", ""},
    {"unregister:ENOMEM", ""},
    {"move:ENOMEM", ""},
    {"move:EBUSY", ""},
    {"move:EINVAL", ""},
    {"move:ESRCH", ""},
    {"move:EEXIST-after", ""},
    {"copy:ENOMEM", ""},
    {"copy:EFAULT", ""},
    {"copy:EEXIST", ""},
    {"read:EIO", ""},
    {"wake:EINVAL-after", ""},
    {"wake:EINVAL-after", "move:ENOMEM@every=3;copy:EEXIST@every=3"},
    {"pagemap:ENOSYS", "move:EFAULT@every=2;move:EEXIST-after@every=3;copy:EFAULT@every=2"},
    {"uffd_open:EMFILE", "register:ENOMEM@from=2;unregister:ENOMEM"},
};
enum { CALL_COUNT = sizeof CALLS / sizeof CALLS[0] };

struct setting {
  gch_mover mover;
  gch_fault_mode faults;
  bool concurrent;
  gch_huge huge;
};

static uint64_t fired[CALL_COUNT]; /* by all settings */

/* One cycle with the mutator beside it; false: something is wrong. */
static bool cycle(struct model *model, const struct setting *s) {
  gch_collect_options o;
  gch_collect_options_init(&o);
  o.policy = GCH_POLICY_ALL;
  o.concurrent = s->concurrent;
  o.wait = !s->concurrent;
  for (int i = 0; i < STEPS; i++) model_step(model);
  if (!CHECK_EQ(gch_collect(model->m, &o, NULL), GCH_OK)) return false;
  for (int i = 0; i < STEPS && s->concurrent; i++) model_step(model);
  return CHECK_EQ(gch_collect_wait(model->m, NULL), GCH_OK);
}

static bool is_whole(struct model *model, const char *spec) {
  gch_error error = {0};
  bool good = CHECK_EQ(model_check(model), 0) && CHECK_EQ(gch_verify(model->m, &error), GCH_OK);
  if (!good) printf("    %s %s: %s\n", gch_mover_name((gch_mover)model->heap->config.mover), spec, error.message);
  return good;
}

/* Fails the n-th call for n = 1, 2, ... */
static bool sweep(struct model *model, const struct setting *s, int call) {
  char spec[200];
  for (int nth = 1;; nth += KIT_SANITIZED ? 1 + nth / 4 : 1) {
    snprintf(spec, sizeof spec, "%s@nth=%d;%s", CALLS[call].answer, nth, CALLS[call].else_too);
    if (!CHECK_EQ(gch_inject(model->heap, "", NULL), GCH_OK)) return false;
    if (!CHECK_EQ(gch_inject(model->heap, spec, NULL), GCH_OK) || !cycle(model, s)) return false;
    uint64_t hit = model->heap->kernel.rules[0].fired;
    fired[call] += hit;
    gch_inject(model->heap, "", NULL);
    if (!is_whole(model, spec)) return false;
    if (hit == 0) return true;
    if (!CHECK(nth < MOST)) return false;
  }
}

static void play(struct setting s) {
  struct model model;
  gch_error error = {0};
  gch_config c = kit_config(s.mover, 32, 256);
  c.fault_mode = s.faults;
  c.huge = s.huge;
  c.gc_threads = 2;
  if (!kit_available(s.mover)) return;
  if (!CHECK(model_open(&model, &c, 7, &error))) return;
  model.largest = 2000;
  model_table(&model, TABLE);
  for (int i = 0; i < 3000; i++) model_step(&model);
  bool good = true;
  for (int call = 0; call < CALL_COUNT && good; call++) good = sweep(&model, &s, call);
  good = good && cycle(&model, &s) && is_whole(&model, "none");
  if (!good)
    printf("    %s %s%s\n", gch_mover_name(s.mover), s.concurrent ? "concurrent" : "pause", s.faults ? " signal" : "");
  CHECK(model_close(&model, &error));
}

static void in_the_pause(void) {
  for (size_t i = 0; i < KIT_MOVER_COUNT; i++) play((struct setting){.mover = KIT_MOVERS[i], .huge = GCH_HUGE_OFF});
}

static void in_the_pause_with_huge_pages(void) { play((struct setting){.mover = GCH_MOVER_MOVE, .huge = GCH_HUGE_ON}); }

static void beside_the_program(void) {
  static const gch_mover movers[] = {GCH_MOVER_MOVE, GCH_MOVER_COPY, GCH_MOVER_SIMULATED};
  for (size_t i = 0; i < sizeof movers / sizeof movers[0]; i++)
    play((struct setting){.mover = movers[i], .concurrent = true, .huge = GCH_HUGE_OFF});
}

static void beside_the_program_in_signal_mode(void) {
  for (int mover = GCH_MOVER_MOVE; mover <= GCH_MOVER_COPY; mover++)
    play((struct setting){
        .mover = (gch_mover)mover, .faults = GCH_FAULT_SIGNAL, .concurrent = true, .huge = GCH_HUGE_OFF});
}

/* A sweep that met nothing has shown nothing. */
static void all_calls_were_met(void) {
  for (int i = 0; i < CALL_COUNT; i++) {
    if (getenv("V")) printf("    %s: %llu\n", CALLS[i].answer, (unsigned long long)fired[i]);
    if (!CHECK(fired[i] > 0)) printf("    %s %s was not met\n", CALLS[i].answer, CALLS[i].else_too);
  }
}

int main(void) {
  kit_decay = GCH_DECAY_NOW;
  kit_watchdog(90);
  RUN(in_the_pause);
  RUN(in_the_pause_with_huge_pages);
  RUN(beside_the_program);
  RUN(beside_the_program_in_signal_mode);
  if (kit_available(GCH_MOVER_MOVE)) RUN(all_calls_were_met);
  return CHECK_SUMMARY();
}
