/* Selective flips (gc/arm.h): what stays at home is never missing, and whatever has come to refer to what moves is fixed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "gc/arm.h"

#include <sys/wait.h>

#include "clusters.h"
#include "heap/summary.h"
#include "huge.h"

enum { MOVES = 4 * NODES + NODES / 3 * 2 }; /* a node of the thinned cluster, where nothing else lies */

static uint64_t at_home(void) { return at_load(&kit.heap->moved.home); }
static uint64_t faults(void) { return at_load(&kit.heap->measures.faults); }

/* `alone`: the controller makes all units, so who holds it holds all. */
static bool open_as(gch_fault_mode mode, bool alone) {
  gch_config c = kit_config(GCH_MOVER_MOVE, 256, 1024);
  c.summaries = GCH_SUMMARIES_ON;
  c.huge = GCH_HUGE_ON;
  c.fault_mode = mode;
  c.gc_threads = alone ? 1 : 2;
  return kit_open(&kit, &c);
}

/* Clusters in huge arenas, one of which is thinned out; in root[0] the table of all nodes, whose region is flipped whole. */
static void make_thinned(gch_ref *root) {
  make_clusters(root);
  thin_out(root[0], 4);
  kit_minor(&kit, true);
}

/* Is the region of the clusters flipped selectively? */
static bool selected(gch_ref node) { return arm_selects(kit.heap, layout_region(&kit.heap->layout, (uintptr_t)node)); }
static bool selects(gch_ref table) { return selected(kit_at(table, 8 * NODES)); }

static void check_moved(gch_ref table) {
  const gch_cycle *last = &kit.heap->measures.last_major;
  CHECK_EQ(last->degraded, 0);
  CHECK(last->concurrent && last->blocks_evacuated > 0);
  kit_verify(&kit);
  check_clusters(table, 4);
}

/* Before anything has been made, what is at home is read without a fault, and what is not with one. */
static void home_is_not_missing(void) {
  for (int mode = 0; mode < GCH_FAULT_COUNT; mode++) {
    if (!open_as((gch_fault_mode)mode, true)) return;
    GCH_FRAME(kit.m, root, 3);
    make_thinned(root);
    root[1] = kit_at(root[0], 8 * NODES);
    root[2] = kit_at(root[0], MOVES);
    hold_on(true);
    kit_major(&kit, GCH_POLICY_NEEDED, true, false);
    CHECK(selected(root[1]));
    uint64_t before = faults();
    gch_ref node = root[1];
    for (int i = 0; i < 20000; i++) {
      if (!CHECK_EQ(*kit_number(node) / NODES, 8)) break;
      node = gch_load(node, KIT_A);
    }
    CHECK_EQ(faults(), before);
    CHECK_EQ(*kit_number(root[2]), MOVES);
    while (faults() == before) usleep(100); /* who answers counts after it has woken us */
    gch_set(kit.m, root[1], KIT_B, root[2]); /* minors look at cards of what is at home */
    kit_put_node(&kit, &root[0], 7, 7);
    gch_set(kit.m, root[1], KIT_C, kit_at(root[0], 7));
    kit_minor(&kit, true);
    hold_end(&kit);
    CHECK(at_home() > 10);
    CHECK(gch_load(root[1], KIT_B) == kit_at(root[0], MOVES) && gch_load(root[1], KIT_C) == kit_at(root[0], 7));
    gch_set(kit.m, kit_at(root[0], 7), KIT_A, kit_at(root[0], 8));
    check_moved(root[0]);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

/* References to cluster 4 from every `step`th node of 8 and, by a young object that a minor promotes, from those of 9. */
static void refer(gch_ref *root, uint64_t step) {
  for (uint64_t i = 0; i < NODES; i += step) {
    gch_set(kit.m, kit_at(root[0], 8 * NODES + i), KIT_B, kit_at(root[0], 4 * NODES + i));
    root[1] = kit_node(&kit, i);
    gch_set(kit.m, root[1], KIT_C, kit_at(root[0], 4 * NODES + i));
    gch_set(kit.m, kit_at(root[0], 9 * NODES + i), KIT_B, root[1]);
  }
  root[1] = NULL;
}

static void check_referred(gch_ref table, uint64_t step) {
  for (uint64_t i = 0; i < NODES; i += step) {
    gch_ref to = kit_at(table, 4 * NODES + i), middle = gch_load(kit_at(table, 9 * NODES + i), KIT_B);
    if (!CHECK(gch_load(kit_at(table, 8 * NODES + i), KIT_B) == to)) return;
    if (!CHECK(*kit_number(middle) == i && gch_load(middle, KIT_C) == to)) return;
  }
}

/* Between the choice and the flip arenas at home are given references to what moves, and there are births. `minor`: by a minor of
 * its own, else by that of the flip. */
static void recalled(bool minor) {
  struct kit_request request;
  if (!open_as(GCH_FAULT_THREAD, false)) return;
  GCH_FRAME(kit.m, root, 2);
  make_thinned(root);
  hold_before_flip(&kit, &request, GCH_POLICY_NEEDED);
  CHECK(selects(root[0]));
  uint32_t chosen = kit.heap->selection.count;
  refer(root, 400);
  if (minor) kit_minor(&kit, true);
  hold_off(&kit, &request);
  CHECK(selects(root[0]) && kit.heap->selection.count >= chosen + 2);
  CHECK(at_home() > 8);
  check_moved(root[0]);
  check_referred(root[0], 400);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void recalled_by_a_minor(void) { recalled(true); }
static void recalled_by_the_flip(void) { recalled(false); }

/* More are recalled than one pause takes, or than there is room to note: the region is flipped whole. */
static void too_many(uint32_t full) {
  struct kit_request request;
  if (!open_as(GCH_FAULT_THREAD, false)) return;
  GCH_FRAME(kit.m, root, 2);
  make_thinned(root);
  hold_before_flip(&kit, &request, GCH_POLICY_NEEDED);
  struct selection *s = &kit.heap->selection;
  CHECK(selects(root[0]));
  if (full == 0) { /* other arenas that have to go */
    uint32_t first = region_first_arena(kit.heap, layout_first_region(&kit.heap->layout, SPACE_OLD));
    for (uint32_t a = first; s->count < SELECT_MAX; a++)
      if (at_load(&kit.heap->tables.arenas[a].made) == ARENA_UNMADE && kit.heap->tables.arenas[a].used == 0)
        s->arenas[s->count++] = a;
  } else {
    at_store(&s->noted_count, full);
    for (uint32_t i = 0; i < SELECT_MAX; i++) at_store(&s->noted[i], s->arenas[0]);
  }
  refer(root, 400);
  hold_off(&kit, &request);
  CHECK(!selects(root[0]));
  CHECK_EQ(at_home(), 0);
  check_moved(root[0]);
  check_referred(root[0], 400);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void more_than_a_pause_takes(void) { too_many(0); }
static void more_than_are_noted(void) { too_many(SELECT_MAX); }

/* A block of an arena at home is pinned, one that would move, too; the collections that follow find all as it should be. */
static void pinned(void) {
  struct kit_request request;
  if (!open_as(GCH_FAULT_SIGNAL, false)) return;
  GCH_FRAME(kit.m, root, 2);
  make_thinned(root);
  hold_before_flip(&kit, &request, GCH_POLICY_NEEDED);
  CHECK(selects(root[0]));
  gch_ref stays = kit_at(root[0], 8 * NODES), moves = kit_at(root[0], 4 * NODES);
  gch_pin(kit.m, stays, NULL);
  gch_pin(kit.m, moves, NULL);
  hold_off(&kit, &request);
  CHECK(kit_at(root[0], 8 * NODES) == stays && kit_at(root[0], 4 * NODES) == moves);
  CHECK(at_home() > 10);
  check_moved(root[0]);
  gch_unpin(kit.heap, stays);
  gch_unpin(kit.heap, moves);
  for (int i = 0; i < 3; i++) kit_major(&kit, i == 1 ? GCH_POLICY_ALL : GCH_POLICY_NEEDED, true, true);
  kit_verify(&kit);
  check_clusters(root[0], 4);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* What the kernel may say to the calls of a selective flip. */
static void refused(void) {
  static const struct {
    const char *spec;
    bool flips, selective;
  } cases[] = {
      {"move:EBUSY@p=0.5,seed=3", true, true},
      {"move:EBUSY@p=0.1,seed=4;copy:ENOMEM@p=0.3,seed=5", true, true},
      {"move:EEXIST-after@every=3", true, true},
      {"move:EAGAIN@partial=65536,p=0.5,seed=6", true, true},
      {"move:ENOMEM@every=2", true, true},
      {"move:ENOMEM@from=2;copy:ENOMEM", false, false}, /* one arena has gone, and comes back */
      {"move:ENOMEM@partial=65536;copy:ENOMEM", false, false}, /* a part of one has */
      {"register:ENOMEM", false, false}, /* neither the guard nor the flip */
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    struct kit_request request;
    gch_error error = {0};
    if (!open_as(i % 2 ? GCH_FAULT_SIGNAL : GCH_FAULT_THREAD, false)) return;
    GCH_FRAME(kit.m, root, 2);
    make_thinned(root);
    hold_before_flip(&kit, &request, GCH_POLICY_NEEDED);
    CHECK(selects(root[0]));
    refer(root, 400);
    CHECK_EQ(gch_inject(kit.heap, cases[i].spec, &error), GCH_OK);
    hold_off(&kit, &request);
    gch_inject(kit.heap, "", NULL);
    CHECK_EQ(kit.heap->measures.last_major.degraded, !cases[i].flips);
    CHECK_EQ(at_home() > 8, cases[i].selective);
    kit_verify(&kit);
    check_clusters(root[0], 4);
    check_referred(root[0], 400);
    kit_major(&kit, GCH_POLICY_ALL, true, true);
    kit_verify(&kit);
    check_clusters(root[0], 4);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

/* The guard is refused: whole flips. A region that is flipped later is refused: arenas go back home. */
static void guard_refused(void) {
  struct kit_request request;
  if (!open_as(GCH_FAULT_THREAD, false)) return;
  GCH_FRAME(kit.m, root, 2);
  make_thinned(root);
  CHECK_EQ(gch_inject(kit.heap, "register:ENOMEM@times=40", NULL),
           GCH_OK); /* 20 a region: mover/region.c tries so often */
  hold_before_flip(&kit, &request, GCH_POLICY_NEEDED);
  CHECK(!selects(root[0]));
  hold_off(&kit, &request);
  gch_inject(kit.heap, "", NULL);
  CHECK_EQ(at_home(), 0);
  check_moved(root[0]);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static void put_back_home(void) {
  struct kit_request request;
  if (!open_as(GCH_FAULT_THREAD, false)) return;
  GCH_FRAME(kit.m, root, 2);
  make_thinned(root);
  hold_before_flip(&kit, &request, GCH_POLICY_NEEDED);
  CHECK(selects(root[0]));
  refer(root, 400);
  CHECK_EQ(gch_inject(kit.heap, "mremap:ENOMEM", NULL), GCH_OK); /* that of the table */
  hold_off(&kit, &request);
  gch_inject(kit.heap, "", NULL);
  CHECK_EQ(kit.heap->measures.last_major.degraded, 1);
  kit_verify(&kit);
  check_clusters(root[0], 4);
  check_referred(root[0], 400);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* As in test_fork.c. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0:detect_deadlocks=0"; }

/* fork() when the selection has been made, or has been flipped: in the child what is at home is there, and the rest is made; or
 * nothing moves. */
static void forked(const char *point) {
  for (int mode = 0; mode < GCH_FAULT_COUNT; mode++) {
    struct kit_request request;
    if (!open_as((gch_fault_mode)mode, true)) return;
    GCH_FRAME(kit.m, root, 2);
    make_thinned(root);
    hold_before(&kit, &request, GCH_POLICY_NEEDED, point);
    CHECK(kit.heap->selection.regions != 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
      int before = check_failures;
      alarm(60);
      check_clusters(root[0], 4);
      hold_on(false);
      CHECK_EQ(gch_collect_wait(kit.m, NULL), GCH_OK);
      kit_verify(&kit);
      check_clusters(root[0], 4);
      kit_major(&kit, GCH_POLICY_NEEDED, true, true);
      kit_verify(&kit);
      check_clusters(root[0], 4);
      fflush(NULL);
      _exit(check_failures == before ? 0 : 1);
    }
    CHECK_EQ(kit_wait_child(&kit, pid), 0);
    hold_off(&kit, &request);
    check_moved(root[0]);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

static void forked_before_the_flip(void) { forked("flip_prepared"); }
static void forked_in_the_move(void) { forked("move_begins"); }

/* Pages that are shared with a child would be torn and copied in the pause: regions are flipped whole, also where arenas have been
 * chosen before, until a move has met none. */
static void beside_a_child(void) {
  struct kit_request request;
  int status = 0;
  if (!open_as(GCH_FAULT_THREAD, false)) return;
  GCH_FRAME(kit.m, root, 2);
  make_thinned(root);
  hold_before_flip(&kit, &request, GCH_POLICY_NEEDED);
  CHECK(selects(root[0]));
  pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  hold_off(&kit, &request);
  CHECK(!selects(root[0]));
  CHECK_EQ(at_home(), 0);
  check_moved(root[0]);
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  for (int i = 0; i < 3; i++) kit_major(&kit, GCH_POLICY_ALL, true, true);
  CHECK_EQ(kit.heap->selection.shared, 0);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* Memory that could be neither populated nor given back may lie anywhere, where destinations are, too: it has to go. */
static void memory_that_no_table_knows(void) {
  struct kit_request request;
  if (!open_as(GCH_FAULT_THREAD, false)) return;
  GCH_FRAME(kit.m, root, 2);
  make_thinned(root);
  at_store(&kit.heap->undropped, 1);
  hold_before_flip(&kit, &request, GCH_POLICY_NEEDED);
  CHECK(!selects(root[0]));
  hold_off(&kit, &request);
  CHECK_EQ(at_home(), 0);
  check_moved(root[0]);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

int main(void) {
  pthread_atfork(NULL, NULL, kit_larger_stacks); /* before the library's */
  kit_watchdog(120);
  if (!huge_available("test_select")) return CHECK_SUMMARY();
  RUN(home_is_not_missing);
  RUN(recalled_by_a_minor);
  RUN(recalled_by_the_flip);
  RUN(more_than_a_pause_takes);
  RUN(more_than_are_noted);
  RUN(pinned);
  RUN(refused);
  RUN(guard_refused);
  RUN(put_back_home);
  RUN(beside_a_child);
  RUN(memory_that_no_table_knows);
  RUN(forked_before_the_flip);
  RUN(forked_in_the_move);
  return CHECK_SUMMARY();
}
