/* Finalizers: what goes to the queue and when, what it keeps, in which order, and what can be done with what comes out of it. */
#include "gc/finalize.h"

#include "chains.h"
#include "gc/mark_internal.h"

enum { CHAIN = 2000 };
static void finalize(gch_ref o, uint64_t token) { CHECK_EQ(gch_finalize(kit.m, o, token), GCH_OK); }

/* The next object of the queue, whose token is this one. */
static gch_ref next(uint64_t token) {
  gch_ref o;
  uint64_t found;
  if (!CHECK(gch_finalizer_next(kit.m, &o, &found))) return NULL;
  CHECK_EQ(found, token);
  return o;
}

static void none(void) {
  gch_ref o = (gch_ref)(uintptr_t)16;
  uint64_t token = 1;
  CHECK_EQ(gch_finalizers_pending(kit.heap), 0);
  CHECK(!gch_finalizer_next(kit.m, &o, &token));
  CHECK(o == NULL && token == 0);
}

static uint64_t registered(void) {
  gch_stats s;
  gch_stats_get(kit.heap, &s, sizeof s);
  CHECK_EQ(s.finalizers_pending, gch_finalizers_pending(kit.heap));
  return s.finalizers;
}

/* --- semantics -------------------------------------------------------------------------------------------------- */

/* What is reachable is left alone and followed; what is not comes out whole, once, with all its tokens, in the order of their
 * registration. */
static void order(bool concurrent) {
  GCH_FRAME(kit.m, root, 4);
  make_chain(&root[0], 100, CHAIN);
  make_chain(&root[1], 200, CHAIN);
  root[2] = kit_node(&kit, 3);
  root[3] = kit_bytes(&kit, 100000); /* a large one, and leaf */
  ((uint8_t *)(void *)root[3])[KIT_BYTES + 99999] = 0x77;
  finalize(root[1], 5);
  finalize(root[0], 6);
  finalize(root[2], 7);
  finalize(root[1], 4);
  finalize(root[3], 8);
  finalize(gch_load(root[1], KIT_A), 9);
  CHECK_EQ(registered(), 6);
  kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
  kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
  none();
  CHECK_EQ(registered(), 6);
  root[0] = root[1] = root[3] = NULL;
  gch_cycle r = kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
  CHECK_EQ(r.finalizers_queued, 5);
  CHECK_EQ(r.live_objects, 2 * CHAIN + 2);
  CHECK_EQ(gch_finalizers_pending(kit.heap), 5);
  CHECK_EQ(registered(), 1);
  kit_major(&kit, GCH_POLICY_ALL, concurrent, true); /* the queue keeps all of it, */
  CHECK_EQ(gch_finalizers_pending(kit.heap), 5); /* each once */
  use_again();
  root[1] = next(5);
  check_chain(root[1], 200, CHAIN);
  check_chain(next(6), 100, CHAIN);
  CHECK(next(4) == root[1]);
  CHECK_EQ(((uint8_t *)(void *)next(8))[KIT_BYTES + 99999], 0x77);
  check_chain(next(9), 201, CHAIN - 1);
  none();
  r = kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
  CHECK_EQ(r.finalizers_queued, 0);
  CHECK_EQ(r.live_objects, CHAIN + 1); /* resurrected, and an ordinary object */
  check_chain(root[1], 200, CHAIN);
  finalize(root[1], 11); /* again */
  root[1] = NULL;
  kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
  check_chain(next(11), 200, CHAIN);
  CHECK_EQ(kit_major(&kit, GCH_POLICY_ALL, concurrent, true).live_objects, 1);
  GCH_FRAME_END(kit.m);
}
static void order_of_registration(void) { each_kind(order); }

/* Weak references are cleared first, also those that the dead has to itself; those in the dead are judged with it. */
static void weak(bool concurrent) {
  GCH_FRAME(kit.m, root, 6);
  root[0] = kit_node(&kit, 1);
  root[1] = kit_node(&kit, 2);
  gch_set(kit.m, root[0], KIT_A, root[1]);
  root[2] = gch_weak_new(kit.m, root[1]); /* of the dead's own, from without */
  root[3] = gch_weak_new(kit.m, root[0]);
  root[4] = gch_weak_new(kit.m, root[1]); /* in the dead, of its own */
  gch_set(kit.m, root[0], KIT_B, root[4]);
  root[5] = kit_node(&kit, 3);
  root[4] = gch_weak_new(kit.m, root[5]); /* in the dead, of what is nobody's */
  gch_set(kit.m, root[0], KIT_C, root[4]);
  root[4] = kit_node(&kit, 4);
  root[4] = gch_ephemeron_new(kit.m, root[1], root[4]); /* in the dead: key its own */
  gch_set(kit.m, root[1], KIT_A, root[4]);
  finalize(root[0], 1);
  kit_minor(&kit, true);
  root[0] = root[1] = root[4] = root[5] = NULL;
  gch_cycle r = kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
  CHECK_EQ(r.weak_cleared, 3);
  CHECK(gch_weak_get(kit.m, root[2]) == NULL && gch_weak_get(kit.m, root[3]) == NULL);
  use_again();
  root[0] = next(1);
  root[1] = gch_load(root[0], KIT_A);
  CHECK_EQ(*kit_number(root[1]), 2);
  CHECK(gch_weak_get(kit.m, gch_load(root[0], KIT_B)) == root[1]);
  CHECK(gch_weak_get(kit.m, gch_load(root[0], KIT_C)) == NULL);
  CHECK_EQ(*kit_number(gch_ephemeron_value(kit.m, gch_load(root[1], KIT_A))), 4);
  CHECK(gch_weak_get(kit.m, root[2]) == NULL);
  GCH_FRAME_END(kit.m);
}
static void weak_references_first(void) { each_kind(weak); }

static void minors(bool concurrent) {
  (void)concurrent;
  GCH_FRAME(kit.m, root, 4);
  root[0] = kit_node(&kit, 1);
  finalize(root[0], 1);
  root[1] = kit_node(&kit, 2);
  finalize(root[1], 2);
  root[2] = gch_weak_new(kit.m, root[1]);
  root[3] = kit_node(&kit, 3);
  gch_set(kit.m, root[1], KIT_A, root[3]);
  root[3] = gch_weak_new(kit.m, root[3]); /* its referent is kept by the queue, but it was judged before */
  root[1] = NULL;
  gch_cycle r = kit_minor(&kit, false);
  CHECK_EQ(r.finalizers_queued, 1);
  CHECK_EQ(r.weak_cleared, 2);
  CHECK(gch_weak_get(kit.m, root[2]) == NULL && gch_weak_get(kit.m, root[3]) == NULL);
  CHECK_EQ(gch_finalizers_pending(kit.heap), 1);
  for (int i = 0; i < 4; i++) kit_minor(&kit, i == 3); /* they age, and are promoted */
  root[1] = next(2);
  CHECK_EQ(*kit_number(root[1]), 2);
  CHECK_EQ(*kit_number(gch_load(root[1], KIT_A)), 3);
  none();
  CHECK_EQ(kit.heap->finalizers.old, 1); /* what is old is not looked at by minors any more */
  CHECK(kit.heap->finalizers.table[0].object == (uint64_t)(uintptr_t)root[0]);
  root[0] = NULL;
  CHECK_EQ(kit_minor(&kit, true).finalizers_queued, 0);
  none();
  GCH_FRAME_END(kit.m);
}
static void minors_queue(void) { each_kind(minors); }

/* --- beside the program ------------------------------------------------------------------------------------------- */

/* What is registered while it is marked lives; what was registered before and is read while it is marked too. */
static void while_marking(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 4);
  make_chain(&root[0], 10, CHAIN);
  make_chain(&root[1], 20, CHAIN);
  finalize(root[1], 1);
  root[2] = gch_weak_new(kit.m, root[1]);
  kit_minor(&kit, true);
  root[1] = NULL;
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[1] = gch_weak_get(kit.m, root[2]);
  finalize(root[0], 2);
  root[3] = kit_node(&kit, 1);
  finalize(root[3], 3);
  root[0] = root[3] = NULL;
  end(&request);
  check_chain(root[1], 20, CHAIN);
  CHECK_EQ(*kit_number(next(3)), 1); /* by a minor */
  none();
  CHECK_EQ(registered(), 2);
  kit_major(&kit, GCH_POLICY_ALL, true, true);
  check_chain(next(2), 10, CHAIN);
  none();
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* The table is forwarded while the program runs: what is registered meanwhile has new addresses already, of old objects and
 * young ones, and minors look at those. */
static void while_moving(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 4);
  for (int i = 0; i < 3; i++) {
    make_chain(&root[i], 100u * (unsigned)i, CHAIN);
    finalize(root[i], (uint64_t)i);
  }
  hold_before(&kit, &request, GCH_POLICY_ALL, "move_begins");
  finalize(root[0], 10);
  root[3] = kit_node(&kit, 5);
  finalize(root[3], 11);
  kit_minor(&kit, false);
  finalize(gch_load(root[1], KIT_A), 12);
  root[3] = kit_node(&kit, 6);
  finalize(root[3], 13);
  root[3] = NULL;
  kit_minor(&kit, true);
  CHECK_EQ(gch_finalizers_pending(kit.heap), 2);
  CHECK_EQ(*kit_number(next(11)), 5);
  CHECK_EQ(*kit_number(next(13)), 6);
  end(&request);
  CHECK_EQ(kit.heap->finalizers.to_forward, 0);
  root[0] = root[1] = NULL;
  kit_major(&kit, GCH_POLICY_ALL, true, true);
  check_chain(next(0), 0, CHAIN);
  check_chain(next(1), 100, CHAIN);
  check_chain(next(10), 0, CHAIN);
  check_chain(next(12), 101, CHAIN - 1);
  none();
  CHECK_EQ(registered(), 1);
  check_chain(root[2], 200, CHAIN);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* Until all that it refers to is marked, nothing is handed out: neither what the major has found, nor what a minor has. */
static void while_judged(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 3);
  make_chain(&root[0], 10, CHAIN);
  finalize(root[0], 1);
  root[1] = kit_node(&kit, 5);
  finalize(root[1], 2);
  root[2] = gch_weak_new(kit.m, root[0]);
  kit_minor(&kit, true);
  root[0] = NULL;
  hold_before(&kit, &request, GCH_POLICY_ALL, "finalizers_judged");
  none();
  CHECK(gch_weak_get(kit.m, root[2]) == NULL);
  make_chain(&root[0], 30, CHAIN);
  finalize(root[0], 3);
  root[0] = NULL;
  for (int i = 0; i < 3; i++) kit_minor(&kit, i == 2);
  none();
  finalize(root[1], 4);
  end(&request);
  CHECK_EQ(gch_finalizers_pending(kit.heap), 2);
  check_chain(next(1), 10, CHAIN);
  check_chain(next(3), 30, CHAIN);
  none();
  CHECK_EQ(registered(), 2);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static gch_ref resurrected; /* read in the middle of its resurrection */
static uint32_t stepped; /* [atomic] */

static void read_between(const char *name) {
  hold_worker(name);
  if (strcmp(name, "weak_read") != 0 || at_xchg(&stepped, 1) != 0) return;
  uint64_t bit = granule_index(&kit.heap->layout, (uintptr_t)resurrected);
  at_store(&hold, 0);
  while (!bits_test_atomic(kit.heap->tables.mark, bit)) usleep(100);
}

/* A read has found what is dead in the cell; before it asks for the mark, that is cleared, judged, and marked for the queue. */
static void read_while_resurrected(bool ephemeron) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 2);
  make_chain(&root[0], 10, CHAIN);
  finalize(root[0], 1);
  root[1] = ephemeron ? gch_ephemeron_new(kit.m, root[0], root[0]) : gch_weak_new(kit.m, root[0]);
  kit_minor(&kit, true);
  resurrected = root[0];
  root[0] = NULL;
  hold_before(&kit, &request, GCH_POLICY_ALL, "judging");
  at_store(&stepped, 0);
  at_store(&gch_hook_fn, read_between);
  root[0] = ephemeron ? gch_ephemeron_value(kit.m, root[1]) : gch_weak_get(kit.m, root[1]);
  CHECK_EQ(at_load(&stepped), 1);
  CHECK(root[0] == NULL);
  root[0] = NULL;
  end(&request);
  check_chain(next(1), 10, CHAIN);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void weak_while_resurrected(void) { read_while_resurrected(false); }
static void value_while_resurrected(void) { read_while_resurrected(true); }

/* What was taken out of the queue, or is in it, while it is marked, and moved about. */
static void taken_while_marking(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 3);
  for (uint64_t i = 0; i < 3; i++) {
    make_chain(&root[0], 10 * i, CHAIN);
    finalize(root[0], i);
  }
  root[0] = NULL;
  kit_minor(&kit, true);
  CHECK_EQ(gch_finalizers_pending(kit.heap), 3);
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[0] = next(0);
  root[1] = kit_node(&kit, 1);
  gch_ref second = next(1);
  gch_set(kit.m, root[1], KIT_B, second);
  kit_minor(&kit, true);
  end(&request);
  check_chain(root[0], 0, CHAIN);
  check_chain(gch_load(root[1], KIT_B), 10, CHAIN);
  check_chain(next(2), 20, CHAIN);
  none();
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* --- the tables --------------------------------------------------------------------------------------------------- */

/* Many come and go, in both generations; the table is closed up, the queue is moved to its front, and both stay small. */
static void churn(bool concurrent) {
  enum { ROUNDS = 8, COUNT = 6000 };
  const struct finalizers *f = &kit.heap->finalizers;
  uint64_t token = 0, out = 0;
  GCH_FRAME(kit.m, root, 2);
  root[0] = kit_refs(&kit, COUNT);
  for (int round = 0; round < ROUNDS; round++) {
    for (uint64_t i = 0; i < COUNT; i++) {
      root[1] = kit_node(&kit, token);
      finalize(root[1], token++);
      kit_put(&kit, root[0], i, i % 3 == 0 ? NULL : root[1]); /* the other one of before goes */
    }
    root[1] = NULL;
    if (round % 2) kit_minor(&kit, true);
    kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
    kit_verify(&kit);
    CHECK_EQ(gch_finalizers_pending(kit.heap) + registered() + out, token);
    CHECK(f->gone < 1024 || f->gone < f->old / 2);
    for (uint64_t n = gch_finalizers_pending(kit.heap); n > COUNT / 8; n--, out++) {
      gch_ref o;
      uint64_t found;
      if (!CHECK(gch_finalizer_next(kit.m, &o, &found)) || !CHECK_EQ(*kit_number(o), found)) break;
    }
  }
  CHECK(f->populated <= 4 * COUNT);
  GCH_FRAME_END(kit.m);
}
static void many_come_and_go(void) { each_kind(churn); }

/* Memory for the tables is refused: nothing is lost, and later there is some. */
static void no_memory(void) {
  gch_error error = {0};
  uint64_t count = 0;
  gch_status status = GCH_OK;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 1);
  root[0] = kit_node(&kit, 1);
  finalize(root[0], count++);
  CHECK_EQ(gch_inject(kit.heap, "madvise:ENOMEM;populate:ENOMEM", &error), GCH_OK);
  while (count < 20000 && (status = gch_finalize(kit.m, root[0], count)) == GCH_OK) count++;
  CHECK_EQ(status, GCH_NO_MEMORY);
  CHECK(count > 1 && count < 20000);
  CHECK(strstr(gch_last_error(kit.m)->message, "finalizer") != NULL);
  CHECK_EQ(registered(), count);
  gch_inject(kit.heap, "", NULL);
  finalize(root[0], count++);
  root[0] = NULL;
  CHECK_EQ(kit_minor(&kit, false).finalizers_queued, count);
  for (uint64_t i = 0; i < count; i++)
    if (!CHECK(next(i) != NULL)) break;
  none();
  CHECK_EQ(gch_finalize(kit.m, NULL, 1), GCH_BAD_VALUE);
  CHECK_EQ(gch_finalize(kit.m, (gch_ref)(uintptr_t)4096, 1), GCH_BAD_VALUE);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* The verifier looks at the table, too. */
static void verified(void) {
  gch_error error = {0};
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 1);
  root[0] = kit_node(&kit, 1);
  finalize(root[0], 1);
  kit.heap->finalizers.table[0].object += 16;
  CHECK_EQ(gch_verify(kit.m, &error), GCH_CORRUPT);
  kit.heap->finalizers.table[0].object -= 16;
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

int main(void) {
  kit_watchdog(60);
  RUN(order_of_registration);
  RUN(weak_references_first);
  RUN(minors_queue);
  RUN(many_come_and_go);
  if (!kit_available(GCH_MOVER_MOVE)) return CHECK_SUMMARY();
  RUN(while_marking);
  RUN(while_judged);
  RUN(while_moving);
  RUN(weak_while_resurrected);
  RUN(value_while_resurrected);
  RUN(taken_while_marking);
  RUN(no_memory);
  RUN(verified);
  return CHECK_SUMMARY();
}
