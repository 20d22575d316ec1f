/* The cycle's state: the transitions that are allowed, and that every other one stops the process. */
#include "gc/phase.h"

#include <sys/wait.h>

#include "kit.h"

/* Children start their heap's threads. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0"; }

static struct kit kit;

static bool survives(gch_phase from, gch_phase to) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    (void)!freopen("/dev/null", "w", stderr);
    at_store(&kit.heap->phase, (uint32_t)from);
    phase_enter(kit.heap, to);
    _exit(at_load(&kit.heap->phase) == (uint32_t)to ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void transitions(void) {
  static const gch_phase allowed[][2] = {
      {GCH_PHASE_IDLE, GCH_PHASE_MARK}, {GCH_PHASE_MARK, GCH_PHASE_PLAN}, {GCH_PHASE_MARK, GCH_PHASE_END},
      {GCH_PHASE_PLAN, GCH_PHASE_FLIP}, {GCH_PHASE_PLAN, GCH_PHASE_MOVE}, {GCH_PHASE_PLAN, GCH_PHASE_END},
      {GCH_PHASE_FLIP, GCH_PHASE_MOVE}, {GCH_PHASE_MOVE, GCH_PHASE_END},  {GCH_PHASE_END, GCH_PHASE_IDLE},
  };
  for (int from = 0; from < GCH_PHASE_COUNT; from++)
    for (int to = 0; to < GCH_PHASE_COUNT; to++) {
      bool want = false;
      for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++)
        want |= (int)allowed[i][0] == from && (int)allowed[i][1] == to;
      if (!CHECK_EQ(survives((gch_phase)from, (gch_phase)to), want)) printf("    %d to %d\n", from, to);
    }
}

static void names(void) {
  CHECK_STR(gch_phase_name(GCH_PHASE_IDLE), "idle");
  CHECK_STR(gch_phase_name(GCH_PHASE_END), "end");
  CHECK_STR(gch_phase_name(GCH_PHASE_COUNT), "?");
  CHECK_EQ(phase_now(kit.heap), GCH_PHASE_IDLE);
}

/* The phase events of a major, in order, all with its number. */
static void events(void) {
  gch_event e[512];
  uint64_t sequence = 0, lost = 0, phases = 0, last = GCH_PHASE_IDLE;
  gch_cycle r = kit_major(&kit, GCH_POLICY_ALL, false, true);
  size_t count = gch_events_read(kit.heap, &sequence, e, 512, &lost);
  for (size_t i = 0; i < count; i++) {
    if (e[i].kind != GCH_EVENT_PHASE) continue;
    CHECK_EQ(e[i].b, last);
    CHECK_EQ(e[i].c, r.number);
    last = e[i].a;
    phases++;
  }
  CHECK_EQ(phases, 5); /* mark, plan, move, end, idle */
  CHECK_EQ(last, GCH_PHASE_IDLE);
}

int main(void) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 16, 256);
  c.gc_threads = 1;
  kit_watchdog(30);
  if (!kit_open(&kit, &c)) return 1;
  RUN(names);
  RUN(events);
  RUN(transitions);
  kit_close(&kit);
  return CHECK_SUMMARY();
}
