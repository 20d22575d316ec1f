/* Weak references and ephemerons beside a program: what it is told of them at each moment of a collection. Markers, and who judges,
 * are held where it could be told something wrong. */
#include "cells.h"
#include "gc/mark_internal.h"

enum { CHAIN = 2000 };

/* --- beside the program ------------------------------------------------------------------------------------------- */

/* In root[0] a weak reference to a chain that nothing else refers to any more; all old. */
static void weak_chain(gch_ref *root, gch_ref *spare) {
  make_chain(spare, 10, CHAIN);
  *root = weak_to(*spare);
  kit_minor(&kit, true);
  *spare = NULL;
}

/* What is read while it is marked is reachable from then on. */
static void read_while_marking(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 3);
  weak_chain(&root[0], &root[1]);
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[1] = gch_weak_get(kit.m, root[0]);
  CHECK(root[1] != NULL);
  end(&request);
  check_chain(root[1], 10, CHAIN);
  CHECK(gch_weak_get(kit.m, root[0]) == root[1]);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* A handle that is made of what was read, and nothing else. */
static void handle_while_marking(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 3);
  weak_chain(&root[0], &root[1]);
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  gch_handle handle = gch_handle_new(kit.m, gch_weak_get(kit.m, root[0]));
  end(&request);
  CHECK_EQ(gch_handle_get(kit.m, handle, &root[1]), GCH_OK);
  check_chain(root[1], 10, CHAIN);
  gch_handle_free(kit.heap, handle);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* Between the remark and the clearing the cell still holds the address of what is dead; nobody is told. */
static void read_while_judged(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 4);
  weak_chain(&root[0], &root[1]);
  root[2] = kit_node(&kit, 5);
  root[3] = weak_to(root[2]);
  hold_before(&kit, &request, GCH_POLICY_ALL, "judging");
  CHECK_EQ(at_load(&kit.heap->weak.judging), 1);
  CHECK(raw(root[0]) != 0);
  CHECK(gch_weak_get(kit.m, root[0]) == NULL);
  CHECK(gch_weak_get(kit.m, root[3]) == root[2]); /* what lives is there all the time */
  root[1] = kit_node(&kit, 6);
  gch_ref fresh = weak_to(root[1]); /* born now */
  CHECK(gch_weak_get(kit.m, fresh) == root[1]);
  kit_minor(&kit, false); /* minors leave lists alone */
  kit_minor(&kit, true);
  CHECK(raw(root[0]) != 0 && gch_weak_get(kit.m, root[0]) == NULL);
  CHECK_EQ(gch_weak_clear(kit.m, root[0]), GCH_OK); /* one that is listed */
  end(&request);
  CHECK_EQ(at_load(&kit.heap->weak.judging), 0);
  CHECK(raw(root[0]) == 0 && gch_weak_get(kit.m, root[0]) == NULL);
  CHECK(gch_weak_get(kit.m, root[3]) == root[2]);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static void read_when_cleared(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 2);
  weak_chain(&root[0], &root[1]);
  hold_before(&kit, &request, GCH_POLICY_ALL, "cells_cleared");
  CHECK_EQ(at_load(&kit.heap->weak.judging), 0);
  CHECK(raw(root[0]) == 0 && gch_weak_get(kit.m, root[0]) == NULL);
  end(&request);
  CHECK_EQ(kit.heap->measures.last_major.weak_cleared, 1);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* The value of an ephemeron whose key nobody has, read while it is marked, stays, though the ephemeron does not. */
static void value_while_marking(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 3);
  make_chain(&root[1], 10, CHAIN);
  root[2] = kit_node(&kit, 1);
  root[0] = gch_ephemeron_new(kit.m, root[2], root[1]);
  kit_minor(&kit, true);
  root[1] = root[2] = NULL;
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[1] = gch_ephemeron_value(kit.m, root[0]);
  end(&request);
  check_chain(root[1], 10, CHAIN);
  CHECK(gch_ephemeron_key(kit.m, root[0]) == NULL && gch_ephemeron_value(kit.m, root[0]) == NULL);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* A key that is read while it is marked saves the value; it is marked by the remark alone, so ephemerons are looked at again. */
static void key_while_marking(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 4);
  make_ephemerons(&root[0], &root[1], CHAIN, CHAIN - 1);
  root[2] = weak_to(root[1]);
  kit_minor(&kit, true);
  root[1] = NULL;
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[1] = gch_weak_get(kit.m, root[2]);
  end(&request);
  CHECK_EQ(kit.heap->measures.last_major.weak_cleared, 0);
  for (uint64_t j = 0; j < CHAIN; j++)
    if (!CHECK_EQ(*kit_number(gch_ephemeron_value(kit.m, kit_at(root[0], j * (CHAIN - 1) % CHAIN))), j + 1)) break;
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* While it is judged, neither key nor value of what is about to be cleared is had, nor is it changed. */
static void ephemeron_while_judged(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 4);
  make_chain(&root[1], 10, CHAIN);
  root[2] = kit_node(&kit, 1);
  root[0] = gch_ephemeron_new(kit.m, root[2], root[1]);
  root[3] = gch_ephemeron_new(kit.m, root[0], root[1]);
  gch_ephemeron_set(kit.m, root[3], root[0]);
  kit_minor(&kit, true);
  root[1] = root[2] = NULL;
  hold_before(&kit, &request, GCH_POLICY_ALL, "judging");
  CHECK(raw(root[0]) != 0);
  CHECK(gch_ephemeron_key(kit.m, root[0]) == NULL && gch_ephemeron_value(kit.m, root[0]) == NULL);
  CHECK(gch_ephemeron_key(kit.m, root[3]) == root[0] && gch_ephemeron_value(kit.m, root[3]) == root[0]);
  CHECK_EQ(gch_ephemeron_set(kit.m, root[0], root[3]), GCH_OK);
  end(&request);
  CHECK(gch_ephemeron_value(kit.m, root[0]) == NULL && raw(root[0]) == 0);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* What an ephemeron gets while it is marked, before and after its key is, stays; and so does what it had, if it was read. */
static void set_while_marking(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 4);
  root[0] = kit_node(&kit, 1);
  make_chain(&root[1], 10, CHAIN);
  root[2] = gch_ephemeron_new(kit.m, root[0], root[1]);
  kit_minor(&kit, true);
  root[1] = NULL;
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[1] = gch_ephemeron_value(kit.m, root[2]);
  make_chain(&root[3], 90, CHAIN);
  CHECK_EQ(gch_ephemeron_set(kit.m, root[2], root[3]), GCH_OK);
  root[3] = NULL;
  kit_minor(&kit, true);
  end(&request);
  check_chain(root[1], 10, CHAIN);
  check_chain(gch_ephemeron_value(kit.m, root[2]), 90, CHAIN);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* Cells that are born while it is marked, and promoted, are not looked at, and need not be. */
static void born_while_marking(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  GCH_FRAME(kit.m, root, 5);
  make_chain(&root[0], 10, CHAIN);
  root[3] = kit_node(&kit, 4);
  kit_minor(&kit, true);
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[1] = weak_to(root[0]); /* young, of an old one */
  root[2] = kit_node(&kit, 3);
  root[2] = weak_to(root[2]); /* young, of a young one that goes */
  root[4] = gch_ephemeron_new(kit.m, root[3], root[0]);
  kit_minor(&kit, true);
  CHECK(gch_weak_get(kit.m, root[2]) == NULL);
  root[0] = NULL;
  end(&request);
  check_chain(gch_weak_get(kit.m, root[1]), 10, CHAIN); /* for this cycle */
  check_chain(gch_ephemeron_value(kit.m, root[4]), 10, CHAIN);
  root[3] = NULL;
  kit_major(&kit, GCH_POLICY_ALL, true, true);
  CHECK(gch_weak_get(kit.m, root[1]) == NULL && gch_ephemeron_value(kit.m, root[4]) == NULL);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* There is no buffer for the log: who reads marks. */
static void read_without_buffers(void) {
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 64)) return;
  kit.heap->snapshot.capacity = 0;
  GCH_FRAME(kit.m, root, 2);
  weak_chain(&root[0], &root[1]);
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[1] = gch_weak_get(kit.m, root[0]);
  end(&request);
  check_chain(root[1], 10, CHAIN);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* Programs that read and drop what caches of weak references hold, beside majors that begin one after the other: what is read is
 * always whole. */
static void caches(gch_mover mover) {
  enum { SLOTS = 4000 };
  struct kit_request request;
  if (!kit_available(mover) || !open_as(mover, 64)) return;
  GCH_FRAME(kit.m, root, 3);
  root[0] = kit_refs(&kit, SLOTS);
  uint64_t random = 1, hits = 0, misses = 0;
  for (int round = 0; round < 6; round++) {
    kit_begin(&kit, &request, round % 2 ? GCH_POLICY_ALL : GCH_POLICY_NEEDED);
    for (uint64_t n = 0; n < kit_scaled(300000, 10); n++) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      uint64_t i = (random >> 33) % SLOTS;
      gch_ref cell = kit_at(root[0], i), o = cell == NULL ? NULL : gch_weak_get(kit.m, cell);
      hits += o != NULL;
      misses += cell != NULL && o == NULL;
      if (o == NULL) {
        root[1] = kit_node(&kit, i);
        o = kit_node(&kit, i + 1);
        gch_set(kit.m, root[1], KIT_A, o);
        o = weak_to(root[1]);
        kit_put(&kit, root[0], i, o);
        o = root[1];
      }
      gch_ref next = gch_load(o, KIT_A);
      if (!CHECK(*kit_number(o) == i && next != NULL && *kit_number(next) == i + 1)) break;
      if (n % 64 == 0) root[2] = o;
      gch_safepoint(kit.m);
    }
    kit_end(&kit, &request);
  }
  CHECK(hits > 0 && misses > 0);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void caches_beside_majors(void) {
  for (int i = 0; i < 3; i++) caches(KIT_MOVERS[i]);
}

/* Majors begin by themselves, and flip or not, as they find it worth: caches do not grow, and what they hold is whole. */
static void majors_by_themselves(void) {
  enum { SLOTS = 20000 };
  for (int i = 0; i < 3; i++) {
    if (!kit_available(KIT_MOVERS[i]) || !open_as(KIT_MOVERS[i], KIT_SANITIZED ? 32 : 128)) continue;
    GCH_FRAME(kit.m, root, 3);
    root[0] = kit_refs(&kit, SLOTS);
    root[1] = kit_refs(&kit, SLOTS);
    uint64_t random = 1, finalized = 0;
    for (uint64_t n = 0; n < kit_scaled(1000000, 4); n++) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      uint64_t at = (random >> 33) % SLOTS;
      root[2] = random >> 60 == 0 ? kit_refs(&kit, 600) : kit_node(&kit, n);
      if (!CHECK(root[2] != NULL)) break;
      if (n % 4 == 0) kit_put(&kit, root[1], at, root[2]);
      if (n % 16 == 0) CHECK_EQ(gch_finalize(kit.m, root[2], n), GCH_OK);
      gch_ref cell = weak_to(root[2]);
      kit_put(&kit, root[0], at, cell);
      gch_ref other = kit_at(root[0], (at + 1) % SLOTS), o = other == NULL ? NULL : gch_weak_get(kit.m, other);
      uint64_t token;
      if (o != NULL) CHECK(gch_type_of(kit.heap, o) == kit.node || gch_length(kit.heap, o) == 600);
      if (gch_finalizer_next(kit.m, &o, &token))
        finalized += gch_type_of(kit.heap, o) != kit.node || CHECK_EQ(*kit_number(o), token);
    }
    gch_collect_wait(kit.m, NULL);
    gch_stats s;
    gch_stats_get(kit.heap, &s, sizeof s);
    CHECK(s.major_count > 0);
    CHECK(at_load(&kit.heap->weak.cleared) > 0 && finalized > 0);
    kit_verify(&kit);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

int main(void) {
  kit_watchdog(60);
  if (!kit_available(GCH_MOVER_MOVE)) return CHECK_SUMMARY();
  RUN(read_while_marking);
  RUN(handle_while_marking);
  RUN(read_while_judged);
  RUN(read_when_cleared);
  RUN(value_while_marking);
  RUN(key_while_marking);
  RUN(ephemeron_while_judged);
  RUN(set_while_marking);
  RUN(born_while_marking);
  RUN(read_without_buffers);
  RUN(caches_beside_majors);
  RUN(majors_by_themselves);
  return CHECK_SUMMARY();
}
