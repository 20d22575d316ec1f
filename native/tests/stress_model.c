/* Several mutators, each with a model of its own, on one heap: concurrent majors under way while they allocate, store,
 * pin and compare; a native thread reads and writes pinned leaf memory through every flip.
 *
 *   stress_model SECONDS [SEED]      every configuration of the list gets its share of the time
 *
 * A configuration whose mover does not work here is left out, and said so; any other that cannot be opened is a failure. */
#include "base/clock.h"
#include "kit.h"
#include "model.h"

enum { MUTATORS = 3, LENT_BYTES = 200000 };

struct configuration {
  gch_mover mover;
  bool concurrent;
  gch_fault_mode faults;
  gch_huge huge;
  uint64_t nursery_kib;
  const char *inject;
  gch_huge_faults huge_faults;
};

static const struct configuration LIST[] = {
    {GCH_MOVER_MOVE, true, GCH_FAULT_THREAD, GCH_HUGE_OFF, 1024, NULL, GCH_HUGE_LATENCY},
    {GCH_MOVER_MOVE, true, GCH_FAULT_SIGNAL, GCH_HUGE_OFF, 512, NULL, GCH_HUGE_LATENCY},
    {GCH_MOVER_MOVE, true, GCH_FAULT_THREAD, GCH_HUGE_OFF, 1024,
     "move:EEXIST-after@p=0.02,seed=2;move:EAGAIN@partial=4096,p=0.05,seed=3", GCH_HUGE_LATENCY},
    {GCH_MOVER_MOVE, true, GCH_FAULT_SIGNAL, GCH_HUGE_OFF, 1024, "move:EBUSY@p=0.1,seed=1", GCH_HUGE_LATENCY},
    {GCH_MOVER_COPY, true, GCH_FAULT_THREAD, GCH_HUGE_OFF, 1024, NULL, GCH_HUGE_LATENCY},
    {GCH_MOVER_COPY, true, GCH_FAULT_SIGNAL, GCH_HUGE_OFF, 1024, "copy:EAGAIN@partial=8192,p=0.05,seed=4",
     GCH_HUGE_LATENCY},
    {GCH_MOVER_MOVE, false, GCH_FAULT_THREAD, GCH_HUGE_ON, 2048, NULL, GCH_HUGE_LATENCY},
    {GCH_MOVER_MOVE, true, GCH_FAULT_THREAD, GCH_HUGE_ON, 1024, NULL, GCH_HUGE_LATENCY},
    {GCH_MOVER_MOVE, true, GCH_FAULT_SIGNAL, GCH_HUGE_ON, 1024, NULL, GCH_HUGE_LATENCY},
    {GCH_MOVER_MOVE, true, GCH_FAULT_SIGNAL, GCH_HUGE_ON, 1024, "collapse:EBUSY@p=0.5,seed=6", GCH_HUGE_THROUGHPUT},
    {GCH_MOVER_COPY, true, GCH_FAULT_THREAD, GCH_HUGE_ON, 1024, NULL, GCH_HUGE_LATENCY},
    {GCH_MOVER_SIMULATED, true, GCH_FAULT_THREAD, GCH_HUGE_OFF, 1024, NULL, GCH_HUGE_LATENCY},
    {GCH_MOVER_MOVE, true, GCH_FAULT_THREAD, GCH_HUGE_OFF, 1024,
     "mremap:ENOMEM@p=0.97,seed=5;unregister:ENOMEM@p=0.93,seed=6;drop:ENOMEM@p=0.1,seed=7",
     GCH_HUGE_LATENCY}, /* flips that are not made */
};

struct stress {
  const struct configuration *configuration;
  struct model first;
  uint64_t seed, end_ns;
  uint32_t done; /* [atomic] */
  uint32_t failures; /* [atomic] */
  void *lent; /* pinned leaf memory for the native thread */
  uint64_t flips; /* [atomic] majors so far */
};

static void complain(struct stress *s, const char *what, const char *detail) {
  at_add(&s->failures, 1);
  at_store(&s->done, 1);
  fprintf(stderr, "stress_model: %s%s seed %llu: %s: %s\n", gch_mover_name(s->configuration->mover),
          s->configuration->faults ? " signal" : "", (unsigned long long)s->seed, what, detail);
}

static bool running(struct stress *s) {
  if (clock_ns() >= s->end_ns) at_store(&s->done, 1);
  return !at_load(&s->done);
}

static void collect(struct stress *s, struct model *model) {
  gch_collect_options o;
  gch_cycle report;
  gch_collect_options_init(&o);
  o.minor = model_below(model, 3) == 0;
  o.promote = o.minor && model_below(model, 2);
  o.policy = o.minor ? GCH_POLICY_NEEDED : (gch_policy)model_below(model, GCH_POLICY_COUNT);
  o.concurrent = !o.minor && s->configuration->concurrent && model_below(model, 8) != 0;
  o.wait = model_below(model, 2);
  o.background = o.concurrent && model_below(model, 2);
  if (gch_collect(model->m, &o, &report) != GCH_OK) complain(s, "collect", gch_last_error(model->m)->message);
  if (!o.minor) at_add(&s->flips, 1);
}

static void play(struct stress *s, struct model *model, bool collects) {
  gch_error error = {0};
  char text[64];
  model->pinning = true;
  model_table(model, 3000 + model_below(model, 20000));
  for (uint32_t i = 1; running(s); i++) {
    model_step(model);
    if (collects && i % 2000 == 0) collect(s, model);
    if (i % 5000 != 0) continue;
    uint32_t bad = model_check(model);
    snprintf(text, sizeof text, "step %u: object %u", i, bad);
    if (bad != 0) complain(s, "differs", text);
    if (i % 15000 == 0 && gch_verify(model->m, &error) != GCH_OK) complain(s, "verify", error.message);
  }
}

static void *join(void *arg) {
  struct stress *s = arg;
  struct model model;
  static uint32_t number;
  gch_error error = {0};
  if (!model_join(&model, &s->first, s->seed * 100 + at_add(&number, 1), &error)) {
    complain(s, "join", error.message);
    return NULL;
  }
  play(s, &model, false);
  model_leave(&model);
  return NULL;
}

/* Not a mutator: writes a pattern, reads it back, for ever. */
static void *borrow(void *arg) {
  struct stress *s = arg;
  uint32_t *words = s->lent;
  for (uint32_t round = 1; running(s); round++) {
    for (uint32_t i = 0; i < LENT_BYTES / 4; i += 64) words[i] = round + i;
    for (uint32_t i = 0; i < LENT_BYTES / 4; i += 64)
      if (words[i] != round + i) complain(s, "pinned memory", "changed under a native thread");
  }
  return NULL;
}

static uint64_t run(const struct configuration *c, uint64_t seed, uint64_t ns) {
  struct stress s = {.configuration = c, .seed = seed};
  gch_config config = kit_config(c->mover, 384, c->nursery_kib);
  gch_error error = {0};
  pthread_t threads[MUTATORS];
  config.fault_mode = c->faults;
  config.huge = c->huge;
  config.huge_faults = c->huge_faults;
  config.inject = c->inject;
  config.summaries = seed % 2 ? GCH_SUMMARIES_ON : GCH_SUMMARIES_AUTO;
  if (!kit_available(c->mover)) return 0; /* which has said why */
  if (!model_open(&s.first, &config, seed, &error)) {
    complain(&s, "open", error.message);
    return 1;
  }
  gch_ref lent = gch_alloc_array(s.first.m, s.first.types[MODEL_BYTES], LENT_BYTES + 64);
  gch_pin(s.first.m, lent, &s.lent);
  s.lent = (char *)s.lent + 8; /* behind the id */
  s.end_ns = clock_ns() + ns;
  pthread_create(&threads[0], NULL, borrow, &s);
  for (int i = 1; i < MUTATORS; i++) pthread_create(&threads[i], NULL, join, &s);
  play(&s, &s.first, true);
  gch_native_enter(s.first.m);
  for (int i = 0; i < MUTATORS; i++) pthread_join(threads[i], NULL);
  gch_native_leave(s.first.m);
  gch_unpin(s.first.heap, lent);
  if (!model_close(&s.first, &error)) complain(&s, "close", error.message);
  printf("  %-9s %s %s%s %s: %llu majors\n", gch_mover_name(c->mover), c->concurrent ? "concurrent" : "pause",
         c->faults ? "signal" : "thread", c->huge == GCH_HUGE_ON ? " huge" : "", c->inject ? "injected" : "",
         (unsigned long long)s.flips);
  fflush(stdout);
  return s.failures;
}

int main(int argc, char **argv) {
  uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 0) : 6, failures = 0;
  uint64_t seed = argc > 2 && *argv[2] ? strtoull(argv[2], NULL, 0) : clock_ns() % 1000000;
  size_t count = sizeof LIST / sizeof LIST[0];
  check_test = "stress_model";
  printf("stress_model %llu %llu\n", (unsigned long long)seconds, (unsigned long long)seed);
  for (size_t i = 0; i < count && failures == 0; i++)
    failures += run(&LIST[i], seed + i, seconds * 1000000000u / count);
  return failures != 0;
}
