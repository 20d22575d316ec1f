/* Random operations on a heap and its shadow (model.h) under every mover, in the pause and concurrent, both fault modes,
 * every policy and a spread of configurations: the verifier and a full comparison after each collection. */
#include "kit.h"
#include "model.h"

enum { ROOMY_KIB = 1024 }; /* with such a nursery survivors always find room (heap/small.c: YOUNG_SPARE) */

struct scenario {
  gch_mover mover;
  bool concurrent, pins, words;
  gch_fault_mode faults;
  gch_huge huge;
  gch_huge_faults huge_faults;
  int policy; /* -1: any */
  uint32_t gc_threads, promote_age;
  uint64_t nursery_kib, stress;
  uint32_t page; /* of the geometry; 0: the machine's */
  uint32_t table; /* elements of the table that keeps objects alive */
  const char *inject;
};

static const char *describe(const struct scenario *s, uint64_t seed) {
  static char text[200];
  snprintf(text, sizeof text,
           "%s%s%s%s page %u huge %d%s policy %d threads %u age %u nursery %llu stress %llu inject %s seed %llu",
           gch_mover_name(s->mover), s->concurrent ? " concurrent" : "", s->faults ? " signal" : "",
           s->words  ? " words"
           : s->pins ? " pins"
                     : "",
           s->page, s->huge, s->huge_faults ? " throughput" : "", s->policy, s->gc_threads, s->promote_age,
           (unsigned long long)s->nursery_kib, (unsigned long long)s->stress, s->inject ? s->inject : "none",
           (unsigned long long)seed);
  return text;
}

/* A collection of a random kind; asynchronous ones are left running half of the time. */
static gch_status collect(struct model *model, const struct scenario *s) {
  gch_collect_options o;
  gch_collect_options_init(&o);
  uint32_t kind = model_below(model, 4);
  o.minor = kind < 2;
  o.promote = kind == 1;
  gch_policy policy = s->policy >= 0 ? (gch_policy)s->policy : (gch_policy)model_below(model, GCH_POLICY_COUNT);
  o.policy = o.minor ? GCH_POLICY_NEEDED : policy;
  o.concurrent = s->concurrent && !o.minor;
  o.wait = model_below(model, 2) != 0;
  o.background = o.concurrent && model_below(model, 2) != 0;
  model->promotions += o.promote;
  return gch_collect(model->m, &o, NULL);
}

static bool compare(struct model *model, const char *text, int step, bool verify) {
  gch_error error = {0};
  uint32_t bad = model_check(model);
  if (bad != 0) printf("    %s: step %d: object %u (kind %u) differs\n", text, step, bad, model->objects[bad].kind);
  if (!CHECK_EQ(bad, 0)) return false;
  if (!verify) return true;
  bool whole = gch_verify(model->m, &error) == GCH_OK;
  if (!whole) printf("    %s: step %d: %s\n", text, step, error.message);
  return CHECK(whole);
}

static bool drive(struct model *model, const struct scenario *s, const char *text, int steps, int every) {
  for (int i = 1; i <= steps; i++) {
    model_step(model);
    if (i % every != 0) continue;
    if (!CHECK_EQ(collect(model, s), GCH_OK) || !compare(model, text, i, i / every % 2 != 0)) return false;
  }
  gch_collect_wait(model->m, NULL);
  return compare(model, text, steps, true);
}

static uint64_t cleared, finalized; /* in all */

/* False: something differed. Skips movers that do not exist here, silently: test_movers says why. */
static bool play(const struct scenario *s, uint64_t seed, int steps, int every) {
  struct model model;
  gch_error error = {0};
  gch_config c = kit_config(s->mover, 256, s->nursery_kib);
  c.fault_mode = s->faults;
  c.huge = s->huge;
  c.huge_faults = s->huge_faults;
  c.gc_threads = s->gc_threads;
  c.promote_age = s->promote_age;
  c.stress_interval = s->stress;
  c.inject = s->inject;
  c.geometry_page = s->page;
  const char *text = describe(s, seed);
  bool opened = model_open(&model, &c, seed, &error);
  if (!opened) printf("    %s: %s\n", text, error.message);
  if (!CHECK(opened)) return false;
  if (s->page != 0) CHECK_EQ(model.heap->layout.page_bytes, s->page);
  model.pinning = s->pins;
  if (s->words) model_use_words(&model);
  model.ages = s->concurrent ? MODEL_AGES_NEAR : s->nursery_kib < ROOMY_KIB ? MODEL_AGES_YOUNG : MODEL_AGES_ALL;
  model_table(&model, s->table);
  bool good = drive(&model, s, text, (int)kit_scaled((uint64_t)steps, 4), every);
  if (s->words) CHECK_EQ(gch_ambiguous_fn_set(model.heap, NULL, NULL), GCH_OK);
  cleared += model.cleared;
  finalized += model.finalized;
  if (!CHECK(model_close(&model, &error))) printf("    %s: %s\n", text, error.message);
  return good;
}

/* Everything that is not the mover is drawn. */
static struct scenario draw(gch_mover mover, bool concurrent, uint64_t seed) {
  struct model dice = {.random = seed * 0x9e3779b97f4a7c15u + 1};
  for (int i = 0; i < 8; i++) model_random(&dice);
  struct scenario s = {.mover = mover, .concurrent = concurrent};
  s.pins = model_below(&dice, 2);
  s.words = s.pins && seed % 2;
  s.faults = mover <= GCH_MOVER_COPY && model_below(&dice, 2) ? GCH_FAULT_SIGNAL : GCH_FAULT_THREAD;
  s.huge = model_below(&dice, 2) ? GCH_HUGE_OFF : GCH_HUGE_ON;
  s.huge_faults = (gch_huge_faults)model_below(&dice, 2);
  s.policy = (int)model_below(&dice, 4) - 1;
  s.gc_threads = 1 + model_below(&dice, 4);
  s.promote_age = 1 + model_below(&dice, 3);
  s.nursery_kib = (uint64_t)256 << model_below(&dice, 4);
  s.stress = model_below(&dice, 4) == 0 ? 40 : 0;
  s.table = 500 + model_below(&dice, 20000);
  return s;
}

static uint64_t first_seed = 1, seeds = 3;

static void play_mover(gch_mover mover, bool concurrent) {
  if (!kit_available(mover)) SKIP(gch_mover_name(mover), "not available here");
  for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++) {
    struct scenario s = draw(mover, concurrent, seed * 31 + mover * 7 + concurrent);
    if (!play(&s, seed, 24000, 1500)) return;
  }
}

static void move_in_the_pause(void) { play_mover(GCH_MOVER_MOVE, false); }
static void move_beside_the_mutator(void) { play_mover(GCH_MOVER_MOVE, true); }
static void copy_in_the_pause(void) { play_mover(GCH_MOVER_COPY, false); }
static void copy_beside_the_mutator(void) { play_mover(GCH_MOVER_COPY, true); }
static void simulated_in_the_pause(void) { play_mover(GCH_MOVER_SIMULATED, false); }
static void simulated_beside_the_mutator(void) { play_mover(GCH_MOVER_SIMULATED, true); }
static void fresh_memcpy(void) { play_mover(GCH_MOVER_MEMCPY, false); }
static void sliding_memcpy(void) { play_mover(GCH_MOVER_SLIDE, false); }

/* A machine with larger pages, as far as the tables go: they are made of several of this machine's. */
static void larger_pages(void) {
  for (size_t i = 0; i < KIT_MOVER_COUNT; i++) {
    for (uint32_t page = 16384; page <= 65536 && kit_available(KIT_MOVERS[i]); page *= 4)
      for (int concurrent = 0; concurrent <= (KIT_MOVERS[i] <= GCH_MOVER_SIMULATED); concurrent++) {
        struct scenario s = draw(KIT_MOVERS[i], concurrent, first_seed * 31 + page + i);
        if (page < (uint32_t)sysconf(_SC_PAGESIZE)) continue;
        s.page = page;
        if (!play(&s, first_seed, 6000, 750)) return;
      }
  }
}

/* SEEDS FIRST: more of the same. */
static void weak_cells_and_finalizers(void) {
  CHECK(cleared > 0 && finalized > 0);
  printf("    %llu cells cleared, %llu objects finalized\n", (unsigned long long)cleared,
         (unsigned long long)finalized);
}

int main(int argc, char **argv) {
  if (argc > 1) seeds = strtoull(argv[1], NULL, 0);
  if (argc > 2) first_seed = strtoull(argv[2], NULL, 0);
  if (argc <= 1) kit_watchdog(30);
  RUN(move_in_the_pause);
  RUN(move_beside_the_mutator);
  RUN(copy_in_the_pause);
  RUN(copy_beside_the_mutator);
  RUN(simulated_in_the_pause);
  RUN(simulated_beside_the_mutator);
  RUN(fresh_memcpy);
  RUN(sliding_memcpy);
  RUN(larger_pages);
  RUN(weak_cells_and_finalizers);
  return CHECK_SUMMARY();
}
