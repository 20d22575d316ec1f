/* Refusals of the kernel that last (I5, I8): calls around moves fail for good, for a while, or most of the time, in every
 * mover, in the pause and beside the program. The process lives, less is done and the report says so, nothing is lost, and
 * what is handed out as zero is zero; when the kernel has memory again, majors move beside the program again. */
#include "heap/small.h"
#include "heap/unit.h"
#include "hold.h"
#include "mover/mover.h"
#include "os/pages.h"

enum { COUNT = 1200, ROUNDS = 3 };

enum told { TOLD_ANY, TOLD_DEGRADED }; /* what the report of a concurrent major must say */

struct refusal {
  const char *spec;
  enum told told;
  bool pause_only; /* refused for good beside mutators it would wait for ever: see armed_units_wait */
};

static gch_mover mover;
static gch_huge huge;
static uint32_t refused_flips, refused_preparations, moved_beside;

/* --- contents that can be checked ----------------------------------------------------------------------------- */

enum shape { SHAPE_NODE, SHAPE_BYTES, SHAPE_LARGE_BYTES, SHAPE_LARGE_REFS };

static enum shape shape_of(uint64_t i) {
  if (i % 4 == 1) return SHAPE_BYTES;
  if (i % 40 == 2) return SHAPE_LARGE_REFS;
  return i % 60 == 3 ? SHAPE_LARGE_BYTES : SHAPE_NODE;
}
static uint64_t bytes_of(uint64_t i) { return shape_of(i) == SHAPE_BYTES ? 100 + i % 700 : 9000 + 64 * (i % 300); }
static uint64_t refs_of(uint64_t i) { return 1200 + i % 800; }
static uint8_t byte_of(uint64_t i) { return (uint8_t)(i * 31 + 7); }

/* What is handed out as zero is zero. */
static bool is_zero(gch_ref o, uint64_t from, uint64_t bytes) {
  const char *p = (const char *)o + from;
  for (uint64_t i = 0; i < bytes; i++)
    if (p[i] != 0) return false;
  return true;
}

static void write_object(struct kit *k, gch_ref table, gch_ref o, uint64_t i) {
  switch (shape_of(i)) {
    case SHAPE_NODE:
      CHECK(is_zero(o, KIT_A, 24));
      gch_set(k->m, o, KIT_A, kit_at(table, (i * 7) % COUNT));
      break;
    case SHAPE_LARGE_REFS:
      CHECK(is_zero(o, KIT_REFS, 8 * refs_of(i)));
      kit_put(k, o, 600, table);
      break;
    default:
      CHECK(is_zero(o, KIT_BYTES, bytes_of(i)));
      for (uint64_t b = 0; b < bytes_of(i); b += 61) ((uint8_t *)o)[KIT_BYTES + b] = byte_of(i);
  }
}

/* A new object into slot i; if there is no memory the slot stays as it was. */
static void put_object(struct kit *k, gch_ref *table, uint64_t i) {
  enum shape shape = shape_of(i);
  gch_ref o = shape == SHAPE_NODE         ? kit_node(k, i)
              : shape == SHAPE_LARGE_REFS ? kit_refs(k, refs_of(i))
                                          : kit_bytes(k, bytes_of(i));
  if (o == NULL) return;
  write_object(k, *table, o, i);
  kit_put(k, *table, i, o);
}

static bool object_is_right(gch_ref table, uint64_t i) {
  gch_ref o = kit_at(table, i);
  if (o == NULL) return true;
  if (shape_of(i) == SHAPE_NODE) return *kit_number(o) == i;
  if (shape_of(i) == SHAPE_LARGE_REFS) return kit_at(o, 600) == table && kit_at(o, 599) == NULL;
  for (uint64_t b = 0; b < bytes_of(i); b += 61)
    if (((uint8_t *)o)[KIT_BYTES + b] != byte_of(i)) return false;
  return true;
}

static bool contents_are_right(gch_ref table) {
  for (uint64_t i = 0; i < COUNT; i++)
    if (!CHECK(object_is_right(table, i))) return false;
  return true;
}

static void churn(struct kit *k, gch_ref *table, uint64_t round) {
  for (uint64_t i = round % 3; i < COUNT; i += 3) put_object(k, table, i);
}

/* --- one heap under one refusal ------------------------------------------------------------------------------- */

static void major(struct kit *k, uint64_t i, bool concurrent, const struct refusal *refusal) {
  gch_policy policy = concurrent ? (i % 2 ? GCH_POLICY_NEEDED : GCH_POLICY_ALL) : (gch_policy)(i % 3);
  gch_cycle r = kit_major(k, policy, concurrent, true);
  uint64_t counted = 0;
  for (int n = 0; n < GCH_REFUSAL_COUNT; n++) counted += r.refusals[n];
  refused_flips += r.degraded && strstr(r.reason, "refused the flip") != NULL;
  refused_preparations += r.degraded && strstr(r.reason, "refused to prepare") != NULL;
  moved_beside += r.concurrent;
  if (!concurrent || !k->heap->mover->concurrent || refusal->told == TOLD_ANY) return;
  if (!CHECK(r.degraded && !r.concurrent && strstr(r.reason, "kernel refused") != NULL))
    printf("    \"%s\"\n", r.reason);
  CHECK(counted > 0);
}

static bool open_heap(struct kit *k, gch_fault_mode faults, uint32_t threads) {
  gch_config c = kit_config(mover, 64, 512);
  c.gc_threads = threads;
  c.huge = huge;
  c.fault_mode = faults;
  return kit_open(k, &c);
}

static void fill(struct kit *k, gch_ref *table) {
  *table = kit_refs(k, COUNT);
  for (uint64_t i = 0; i < COUNT; i++) put_object(k, table, i);
  kit_major(k, GCH_POLICY_ALL, false, true);
}

/* With the kernel's memory back everything is as before, if not at once: a cycle may find no empty region, and makes one. */
static void recovers(struct kit *k, gch_ref *table) {
  gch_inject(k->heap, "", NULL);
  kit_verify(k);
  for (uint64_t i = 0; i < 2; i++) {
    churn(k, table, i);
    gch_cycle r = kit_major(k, GCH_POLICY_ALL, k->heap->mover->concurrent, true);
    CHECK(!r.degraded || (i == 0 && strstr(r.reason, "no empty region") != NULL));
    for (uint32_t n = 0; n < k->heap->layout.region_count; n++) CHECK_EQ(k->heap->registration[n], REGION_QUIET);
    CHECK_EQ(k->heap->shadows_left, 0);
  }
  contents_are_right(*table);
  kit_verify(k);
}

static bool under(const struct refusal *refusal, bool concurrent) {
  struct kit k;
  int failures = check_failures;
  if (!open_heap(&k, GCH_FAULT_THREAD, 2)) return false;
  GCH_FRAME(k.m, root, 1);
  fill(&k, &root[0]);
  CHECK_EQ(gch_inject(k.heap, refusal->spec, NULL), GCH_OK);
  for (uint64_t i = 0; i < ROUNDS; i++) {
    churn(&k, &root[0], i);
    kit_minor(&k, i & 1);
    major(&k, i, concurrent, refusal);
  }
  contents_are_right(root[0]);
  recovers(&k, &root[0]);
  GCH_FRAME_END(k.m);
  kit_close(&k);
  return check_failures == failures;
}

static void all_under(const struct refusal *refusals, size_t count) {
  for (size_t i = 0; i < count; i++)
    for (int concurrent = 0; concurrent < 2; concurrent++) {
      if (concurrent && refusals[i].pause_only) continue;
      if (under(&refusals[i], concurrent)) continue;
      printf("    %s %s %s\n", gch_mover_name(mover), concurrent ? "concurrent" : "pause", refusals[i].spec);
      return;
    }
}
#define ALL_UNDER(list) all_under(list, sizeof list / sizeof(list)[0])

/* --- tables --------------------------------------------------------------------------------------------------- */

static const struct refusal FOR_GOOD[] = {
    {"mremap:ENOMEM", TOLD_DEGRADED, false},
    {"register:ENOMEM", TOLD_DEGRADED, false},
    {"unregister:ENOMEM", TOLD_DEGRADED, false},
    {"register:ENOMEM;unregister:ENOMEM;mremap:ENOMEM;mmap:ENOMEM", TOLD_DEGRADED, false},
    /* the quiet registration is half left when neither way is open any more */
    {"register:ENOMEM@from=2;unregister:ENOMEM", TOLD_DEGRADED, false},
    {"register:ENOMEM@from=2;unregister:ENOMEM;uffd_open:EMFILE", TOLD_DEGRADED, false},
    {"register:ENOMEM@from=2,times=300;unregister:ENOMEM@times=300;uffd_open:EMFILE@times=12", TOLD_ANY, false},
    {"mmap:ENOMEM", TOLD_ANY, false},
    {"mmap:ENOMEM;drop:EAGAIN", TOLD_ANY, false},
    {"drop:ENOMEM", TOLD_ANY, false},
    {"populate:ENOMEM", TOLD_ANY, false},
    {"mprotect:ENOMEM", TOLD_ANY, false},
    {"move:ENOMEM", TOLD_ANY, false},
    {"move:EAGAIN", TOLD_ANY, false},
    {"move:EEXIST", TOLD_ANY, false},
    {"move:ENOMEM;copy:ENOMEM", TOLD_ANY, true},
    {"move:EINVAL;copy:ENOENT", TOLD_ANY, true},
    {"copy:ENOMEM", TOLD_ANY, true},
    {"copy:EEXIST", TOLD_ANY, true},
    {"move:EEXIST;copy:EEXIST;drop:ENOMEM", TOLD_ANY, true},
};

static const struct refusal A_WHILE[] = {
    {"mremap:ENOMEM@times=45", TOLD_ANY, false},
    {"register:ENOMEM@times=130", TOLD_ANY, false},
    {"unregister:ENOMEM@times=130", TOLD_ANY, false},
    {"mremap:ENOMEM@p=0.96,seed=1", TOLD_ANY, false},
    {"mremap:ENOMEM@p=0.96,seed=2;move:ENOMEM@p=0.5", TOLD_ANY, false},
    {"mremap:ENOMEM@p=0.98,seed=3;register:ENOMEM@p=0.9,seed=4", TOLD_ANY, false},
    {"register:ENOMEM@p=0.95,seed=5", TOLD_ANY, false},
    {"unregister:ENOMEM@p=0.95,seed=6", TOLD_ANY, false},
    {"unregister:ENOMEM@p=0.98,seed=7;register:ENOMEM@p=0.9,seed=8", TOLD_ANY, false},
    {"drop:ENOMEM@p=0.7,seed=9", TOLD_ANY, false},
    {"populate:ENOMEM@p=0.7,seed=10", TOLD_ANY, false},
    {"mmap:ENOMEM@p=0.9,seed=11;drop:ENOMEM@p=0.02,seed=12", TOLD_ANY, false},
    {"move:ENOMEM@p=0.5,seed=13;copy:ENOMEM@p=0.5,seed=14", TOLD_ANY, false},
    {"drop:ENOMEM@p=0.5,seed=15;move:EEXIST@p=0.3,seed=16;copy:EEXIST@p=0.3,seed=17", TOLD_ANY, false},
};

static void movers_by_userfaultfd(void) {
  for (mover = GCH_MOVER_MOVE; mover <= GCH_MOVER_COPY; mover++) {
    if (!kit_available(mover)) continue;
    ALL_UNDER(FOR_GOOD);
    ALL_UNDER(A_WHILE);
  }
  mover = GCH_MOVER_MOVE;
  CHECK(refused_flips > 10 && refused_preparations > 10 && moved_beside > 10);
}

static void huge_arenas(void) {
  static const struct refusal some[] = {
      {"mremap:ENOMEM", TOLD_DEGRADED, false},
      {"register:ENOMEM", TOLD_DEGRADED, false},
      {"unregister:ENOMEM", TOLD_DEGRADED, false},
      {"drop:ENOMEM", TOLD_ANY, false},
      {"register:ENOMEM@from=2;unregister:ENOMEM", TOLD_DEGRADED, false},
      {"mremap:ENOMEM@p=0.96,seed=1", TOLD_ANY, false},
      {"move:ENOMEM;copy:ENOMEM", TOLD_ANY, true},
      {"drop:ENOMEM@p=0.5,seed=2", TOLD_ANY, false},
  };
  mover = GCH_MOVER_MOVE, huge = GCH_HUGE_ON;
  if (kit_available(mover)) ALL_UNDER(some);
  huge = GCH_HUGE_OFF;
}

static void simulated(void) {
  static const struct refusal some[] = {
      {"mprotect:ENOMEM", TOLD_DEGRADED, false},
      {"mprotect:ENOMEM@times=70", TOLD_ANY, false},
      {"mprotect:ENOMEM@p=0.95,seed=1", TOLD_ANY, false},
      {"punch:ENOSPC", TOLD_ANY, false},
      {"punch:ENOMEM@p=0.5,seed=2", TOLD_ANY, false},
      {"populate:ENOMEM", TOLD_ANY, false},
      {"mmap:ENOMEM;drop:ENOMEM;mremap:ENOMEM;register:ENOMEM", TOLD_ANY, false},
  };
  mover = GCH_MOVER_SIMULATED;
  if (kit_available(mover)) ALL_UNDER(some);
}

static void baselines(void) {
  static const struct refusal some[] = {{"drop:ENOMEM", TOLD_ANY, true},
                                        {"populate:ENOMEM", TOLD_ANY, true},
                                        {"drop:ENOMEM@p=0.5,seed=1", TOLD_ANY, true}};
  for (mover = GCH_MOVER_MEMCPY; mover <= GCH_MOVER_SLIDE; mover++) ALL_UNDER(some);
}

static bool any_registered(struct kit *k, enum region_registration as) {
  for (uint32_t r = 0; r < k->heap->layout.region_count; r++)
    if (region_registered(k->heap, r) == as) return true;
  return false;
}

/* --- half-way out of the quiet registration --------------------------------------------------------------------- */

/* Whoever takes memory in a region that can neither be left nor kept waits for no more than the attempts; refused or not,
 * pages are published into it. */
static void stuck_beside_promotion(void) {
  static const char *const specs[] = {
      "register:ENOMEM@from=2;unregister:ENOMEM",
      "register:ENOMEM@from=2;unregister:ENOMEM;uffd_open:EMFILE",
      "register:ENOMEM@from=3;unregister:ENOMEM@from=2",
  };
  for (mover = GCH_MOVER_MOVE; mover <= GCH_MOVER_COPY; mover++)
    for (size_t i = 0; i < sizeof specs / sizeof specs[0] && kit_available(mover); i++) {
      struct kit k;
      struct kit_request request;
      if (!open_heap(&k, GCH_FAULT_THREAD, 2)) return;
      GCH_FRAME(k.m, root, 1);
      fill(&k, &root[0]);
      CHECK_EQ(gch_inject(k.heap, specs[i], NULL), GCH_OK);
      uint64_t majors = at_load(&k.heap->measures.major_count);
      kit_begin(&k, &request, GCH_POLICY_ALL);
      for (uint64_t round = 0; at_load(&k.heap->measures.major_count) == majors; round++) {
        churn(&k, &root[0], round);
        kit_minor(&k, true);
      }
      kit_end(&k, &request);
      CHECK(any_registered(&k, REGION_READY));
      contents_are_right(root[0]);
      kit_verify(&k);
      recovers(&k, &root[0]);
      GCH_FRAME_END(k.m);
      kit_close(&k);
    }
}

/* --- between two regions of a flip ----------------------------------------------------------------------------- */

static gch_heap *flipping;
static const char *to_inject; /* [atomic] once */

static void inject_between_regions(const char *name) {
  const char *spec = strcmp(name, "region_flipped") == 0 ? at_xchg(&to_inject, NULL) : NULL;
  if (spec != NULL) gch_inject(flipping, spec, NULL);
}

/* One region is flipped, the next one is refused: the first goes back, in one piece, page by page, or by memcpy. */
static void refused_half_way_by(const char *spec) {
  struct kit k;
  if (!open_heap(&k, GCH_FAULT_THREAD, 2)) return;
  GCH_FRAME(k.m, root, 1);
  fill(&k, &root[0]);
  flipping = k.heap;
  at_store(&gch_hook_fn, inject_between_regions);
  for (uint64_t i = 0; i < 2; i++) {
    at_store(&to_inject, spec);
    gch_cycle r = kit_major(&k, i == 0 ? GCH_POLICY_ALL : GCH_POLICY_NEEDED, true, true);
    if (!CHECK(r.degraded && strstr(r.reason, "refused the flip") != NULL)) printf("    %s: %s\n", spec, r.reason);
    CHECK(at_load(&to_inject) == NULL);
    contents_are_right(root[0]);
    kit_verify(&k);
    churn(&k, &root[0], i);
    gch_inject(k.heap, "", NULL);
  }
  at_store(&gch_hook_fn, NULL);
  recovers(&k, &root[0]);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void refused_half_way(void) {
  static const char *const specs[] = {
      "mremap:ENOMEM",
      "mremap:ENOMEM;move:ENOMEM",
      "mremap:ENOMEM;move:ENOMEM;copy:ENOMEM",
      "mremap:ENOMEM;move:ENOMEM;copy:ENOMEM;unregister:ENOMEM;register:ENOMEM",
      "mremap:ENOMEM;mmap:ENOMEM;drop:ENOMEM",
      "register:ENOMEM",
      "mremap:ENOMEM@every=2;register:ENOMEM;unregister:ENOMEM",
  };
  for (mover = GCH_MOVER_MOVE; mover <= GCH_MOVER_COPY; mover++)
    for (size_t i = 0; i < sizeof specs / sizeof specs[0] && kit_available(mover); i++) refused_half_way_by(specs[i]);
  mover = GCH_MOVER_MOVE, huge = GCH_HUGE_ON;
  for (size_t i = 0; i < 4 && kit_available(mover); i++) refused_half_way_by(specs[i]);
  mover = GCH_MOVER_SIMULATED, huge = GCH_HUGE_OFF;
  if (kit_available(mover)) refused_half_way_by("mprotect:ENOMEM@times=25");
}

/* --- between the flip and the end ----------------------------------------------------------------------------- */

static gch_handle shared_table; /* [atomic] */

/* A move is held up after the flip while `spec` comes into force; then it goes on. */
static void refuse_after_the_flip(struct kit *k, const char *spec) {
  hold_on(true);
  kit_major(k, GCH_POLICY_ALL, true, false);
  CHECK_EQ(at_load(&k->heap->phase), GCH_PHASE_MOVE);
  CHECK_EQ(gch_inject(k->heap, spec, NULL), GCH_OK);
  at_store(&hold, 0);
}

struct leftover {
  const char *spec;
  enum region_registration left;
  bool flips; /* all the same */
};

/* What could not be undone at the end of a cycle is correct as it is, and is undone before a later one. */
static void refused_at_the_end_by(const struct leftover *l, gch_fault_mode faults) {
  struct kit k;
  const struct refusal refusal = {l->spec, TOLD_ANY, false};
  if (!open_heap(&k, faults, 1)) return; /* the controller makes all units */
  GCH_FRAME(k.m, root, 1);
  fill(&k, &root[0]);
  refuse_after_the_flip(&k, l->spec);
  gch_collect_wait(k.m, NULL);
  hold_on(false);
  CHECK(l->left == REGION_QUIET ? k.heap->shadows_left != 0 : any_registered(&k, l->left));
  for (uint64_t i = 0; i < ROUNDS; i++) {
    churn(&k, &root[0], i);
    kit_minor(&k, i & 1);
    major(&k, i, false, &refusal);
    gch_cycle r = kit_major(&k, GCH_POLICY_ALL, true, true);
    CHECK(l->flips || r.degraded);
    if (!contents_are_right(root[0]) || !kit_verify(&k)) break;
  }
  recovers(&k, &root[0]);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void refused_at_the_end(void) {
  static const struct leftover all[] = {
      {"unregister:ENOMEM", REGION_PARKED, false},
      {"unregister:ENOMEM;register:ENOMEM", REGION_STUCK, false},
      {"unregister:ENOMEM;register:ENOMEM;move:ENOMEM;copy:ENOMEM@every=2;drop:ENOMEM@every=3", REGION_STUCK, false},
      {"register:ENOMEM", REGION_READY, false},
      {"mmap:ENOMEM;drop:ENOMEM", REGION_QUIET, false}};
  for (mover = GCH_MOVER_MOVE; mover <= GCH_MOVER_COPY; mover++)
    for (size_t i = 0; i < sizeof all / sizeof all[0] && kit_available(mover); i++)
      for (int faults = GCH_FAULT_THREAD; faults <= GCH_FAULT_SIGNAL; faults++)
        refused_at_the_end_by(&all[i], (gch_fault_mode)faults);
}

/* Memory that could not be given back lies where the tables say there is none; then leaf objects move there. A touch before
 * their turn must find them, not it. */
static void memory_that_stayed(void) {
  for (mover = GCH_MOVER_MOVE; mover <= GCH_MOVER_COPY; mover++) {
    struct kit k;
    if (!kit_available(mover) || !open_heap(&k, GCH_FAULT_THREAD, 1)) continue;
    GCH_FRAME(k.m, root, 1);
    fill(&k, &root[0]);
    CHECK_EQ(gch_inject(k.heap, "drop:ENOMEM", NULL), GCH_OK);
    for (uint64_t i = 0; i < 4; i++) {
      churn(&k, &root[0], i);
      kit_major(&k, GCH_POLICY_ALL, false, true);
    }
    gch_inject(k.heap, "", NULL);
    for (uint64_t i = 0; i < 4; i++) { /* the region that is moved to is another each time */
      hold_on(true);
      CHECK(!kit_major(&k, GCH_POLICY_ALL, true, false).degraded);
      contents_are_right(root[0]);
      hold_end(&k);
    }
    recovers(&k, &root[0]);
    GCH_FRAME_END(k.m);
    kit_close(&k);
  }
}

static void *touch_everything(void *arg) {
  struct kit k = *(struct kit *)arg;
  if (gch_attach(k.heap, &k.m, NULL) != GCH_OK) return NULL;
  GCH_FRAME(k.m, root, 1);
  CHECK_EQ(gch_handle_get(k.m, at_load(&shared_table), &root[0]), GCH_OK);
  contents_are_right(root[0]);
  GCH_FRAME_END(k.m);
  gch_detach(k.m);
  return NULL;
}

/* Armed units that can be neither moved nor copied wait for the kernel, whoever makes them, and so does who touches them:
 * nobody sees half a page, and when the kernel has memory the move goes on. */
static void armed_units_wait_in(gch_fault_mode faults, const char *spec) {
  struct kit k;
  pthread_t reader;
  if (!open_heap(&k, faults, 1)) return; /* the controller makes all units */
  GCH_FRAME(k.m, root, 1);
  fill(&k, &root[0]);
  gch_handle table = gch_handle_new(k.m, root[0]);
  at_store(&shared_table, table);
  refuse_after_the_flip(&k, spec);
  pthread_create(&reader, NULL, touch_everything, &k);
  struct kernel_counter *copies = &k.heap->kernel.counters[KERNEL_COPY];
  for (uint64_t seen = at_load(&copies->injected); at_load(&copies->injected) < seen + 100;) gch_safepoint(k.m);
  CHECK_EQ(at_load(&k.heap->phase), GCH_PHASE_MOVE);
  gch_inject(k.heap, "", NULL);
  kit_join(&k, reader);
  gch_collect_wait(k.m, NULL);
  hold_on(false);
  gch_handle_free(k.heap, table);
  contents_are_right(root[0]);
  recovers(&k, &root[0]);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void armed_units_wait(void) {
  for (int faults = GCH_FAULT_THREAD; faults <= GCH_FAULT_SIGNAL; faults++) {
    mover = GCH_MOVER_MOVE;
    if (kit_available(mover)) armed_units_wait_in((gch_fault_mode)faults, "move:ENOMEM;copy:ENOMEM");
    mover = GCH_MOVER_COPY;
    if (kit_available(mover)) armed_units_wait_in((gch_fault_mode)faults, "copy:ENOMEM");
  }
}

/* Pages present in the arena. */
static uint64_t present_in(gch_heap *h, uintptr_t at) {
  uint64_t present = 0;
  for (uintptr_t page = arena_of(at); page < arena_after(at); page += h->layout.page_bytes)
    present += kernel_pagemap_present(&h->kernel, (void *)page) == 1;
  return present;
}

/* Populating breaks off with pages made: none is left where the tables know of none (in a leaf destination it would be seen
 * before its unit is made). */
static void populate_half_way(gch_mover with, gch_huge pages) {
  struct kit k;
  struct large_birth b;
  gch_config c = kit_config(with, 64, 1024);
  c.huge = pages;
  if (!kit_available(with) || !kit_open(&k, &c)) return;
  gch_heap *h = k.heap;
  GCH_FRAME(k.m, root, 1);
  root[0] = kit_bytes(&k, 300000); /* lives in the arena into which the next one is born */
  memset(gch_slot(root[0], KIT_BYTES), 7, 300000);
  uintptr_t first = (uintptr_t)root[0];
  uint64_t before = align_up(300000 + KIT_BYTES, h->layout.page_bytes) / h->layout.page_bytes;
  heap_arena(h, first)->huge = 0; /* as when it has been opened */
  heap_arena(h, first)->populated = 0;
  pages_drop(&h->kernel, (void *)(first + before * h->layout.page_bytes), ARENA_BYTES - before * h->layout.page_bytes);
  gch_inject(h, "populate:ENOMEM-after", NULL);
  CHECK(large_begin(h, &b, k.bytes, 300000, 300000 + KIT_BYTES) && arena_of(b.start) == arena_of(first));
  CHECK_EQ(large_populate(h, &b), LARGE_REFUSED);
  large_give_up(h, &b);
  CHECK_EQ(present_in(h, first), before);
  for (int leaf = 0; leaf < 2; leaf++) {
    uint32_t region = heap_small_space(h, leaf)->alloc_region;
    CHECK_EQ(small_take(h, leaf, true), 0);
    CHECK_EQ(present_in(h, h->layout.regions[region].start), 0);
  }
  gch_inject(h, "", NULL);
  CHECK_EQ(*((uint8_t *)gch_slot(root[0], KIT_BYTES) + 299999), 7);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void populating_breaks_off(void) {
  populate_half_way(GCH_MOVER_MOVE, GCH_HUGE_ON);
  populate_half_way(GCH_MOVER_MOVE, GCH_HUGE_OFF);
  populate_half_way(GCH_MOVER_COPY, GCH_HUGE_ON);
}

/* What could not be born before a flip, for want of memory, is no unit of it. */
static void not_born_before_a_flip(void) {
  struct kit k;
  struct kit_request request;
  gch_config c = kit_config(GCH_MOVER_MOVE, 64, 512);
  if (!kit_available(GCH_MOVER_MOVE) || !kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 2);
  root[0] = kit_refs(&k, 30000);
  for (uint64_t i = 0; i < 30000; i++) kit_put_node(&k, &root[0], i, i);
  hold_before_flip(&k, &request, GCH_POLICY_ALL);
  gch_inject(k.heap, "populate:ENOMEM;drop:ENOMEM@p=0.5", NULL);
  for (int round = 0; round < 4; round++) {
    for (uint64_t i = 0; i < 4000; i++) {
      root[1] = kit_node(&k, i);
      if (root[1] != NULL) kit_put(&k, root[0], i, root[1]);
    }
    kit_minor(&k, true);
  }
  uint64_t refused = at_load(&k.heap->kernel.counters[KERNEL_POPULATE].injected);
  gch_inject(k.heap, "", NULL);
  CHECK(refused > 0);
  for (uint32_t r = 0; r < k.heap->layout.region_count; r++) {
    uint32_t first, count = region_arenas(k.heap, r, &first);
    for (size_t b = (size_t)first * ARENA_BLOCKS; b < (size_t)(first + count) * ARENA_BLOCKS; b++)
      if (k.heap->tables.blocks[b].state == BLOCK_FREE && !CHECK_EQ(unit_state(k.heap, b), UNIT_NONE)) break;
  }
  hold_off(&k, &request);
  kit_verify(&k);
  for (uint64_t i = 4000; i < 30000; i++)
    if (!CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) break;
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

int main(void) {
  kit_growth = GCH_GROWTH_NEVER;
  kit_watchdog(60);
  RUN(movers_by_userfaultfd);
  RUN(huge_arenas);
  RUN(simulated);
  RUN(baselines);
  RUN(stuck_beside_promotion);
  RUN(not_born_before_a_flip);
  RUN(refused_half_way);
  RUN(refused_at_the_end);
  RUN(memory_that_stayed);
  RUN(armed_units_wait);
  RUN(populating_breaks_off);
  return CHECK_SUMMARY();
}
