/* Reference summaries (heap/summary.h): what refers to nothing that moves is not read, and whatever may refer to it is. */
#include "heap/summary.h"

#include "clusters.h"

/* One cluster of twelve moves: most of the others are not read, in the pause and beside mutators, by every mover. */
static void clusters_are_left_alone(void) {
  for (size_t i = 0; i < KIT_MOVER_COUNT; i++)
    for (int huge = 0; huge < 2 && kit_available(KIT_MOVERS[i]); huge++)
      for (int concurrent = 0; concurrent <= (KIT_MOVERS[i] <= GCH_MOVER_SIMULATED); concurrent++) {
        if (!open_kit(KIT_MOVERS[i], GCH_SUMMARIES_ON, huge ? GCH_HUGE_ON : GCH_HUGE_OFF)) return;
        GCH_FRAME(kit.m, root, 1);
        make_clusters(root);
        thin_out(root[0], 4);
        kit_minor(&kit, true);
        gch_cycle r = kit_major(&kit, GCH_POLICY_NEEDED, concurrent, true);
        CHECK_EQ(r.degraded, 0);
        CHECK(r.blocks_evacuated > 0);
        uint64_t blocks = (uint64_t)(CLUSTERS - 1) * NODES * 48 / BLOCK_BYTES;
        CHECK(r.units_unread > blocks / 3); /* (`slide` moves more) */
        kit_verify(&kit);
        check_clusters(root[0], 4);
        GCH_FRAME_END(kit.m);
        kit_close(&kit);
        if (KIT_SANITIZED && KIT_MOVERS[i] != GCH_MOVER_MOVE) break;
      }
}

/* Off is off; where everything refers to everything rows do not pay, and the next majors do without; `all` moves everything. */
static void when_they_are_kept(void) {
  if (!open_kit(GCH_MOVER_MEMCPY, GCH_SUMMARIES_OFF, GCH_HUGE_OFF)) return;
  GCH_FRAME(kit.m, root, 1);
  make_clusters(root);
  thin_out(root[0], 4);
  CHECK_EQ(kit_major(&kit, GCH_POLICY_NEEDED, false, true).units_unread, 0);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);

  if (!open_kit(GCH_MOVER_MEMCPY, GCH_SUMMARIES_AUTO, GCH_HUGE_OFF)) return;
  GCH_FRAME(kit.m, again, 1);
  uint64_t random = 3;
  again[0] = kit_refs(&kit, 4 * NODES);
  for (uint64_t i = 0; i < 4 * NODES; i++) kit_put_node(&kit, &again[0], i, i);
  kit_minor(&kit, true);
  for (uint64_t i = 0; i < 4 * NODES; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    gch_set(kit.m, kit_at(again[0], i), KIT_A, kit_at(again[0], (random >> 33) % (4 * NODES)));
  }
  for (uint64_t i = 0; i < NODES; i++)
    if (i % 4 != 0) kit_put(&kit, again[0], i, NULL);
  kit_major(&kit, GCH_POLICY_NEEDED, false, true);
  CHECK(kit.heap->summarises && kit.heap->summary_rest > 0);
  uint32_t rest = kit.heap->summary_rest;
  for (; rest > 0; rest--) {
    kit_major(&kit, GCH_POLICY_NEEDED, false, true);
    CHECK(!kit.heap->summarises);
  }
  kit_major(&kit, GCH_POLICY_ALL, false, true);
  CHECK(!kit.heap->summarises);
  kit_major(&kit, GCH_POLICY_NEEDED, false, true);
  CHECK(kit.heap->summarises);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* Since the mark a quiet arena has been given references to what moves: by a store, by a minor that forwards a young reference,
 * by births in it. `marked`: the stores come before it is scanned, else after the plan. */
static void told_since(bool marked) {
  struct kit_request request;
  if (!kit_available(GCH_MOVER_MOVE) || !open_kit(GCH_MOVER_MOVE, GCH_SUMMARIES_ON, GCH_HUGE_OFF)) return;
  GCH_FRAME(kit.m, root, 3);
  make_clusters(root);
  thin_out(root[0], 4);
  kit_minor(&kit, true);
  hold_before(&kit, &request, GCH_POLICY_NEEDED, marked ? "marking_beside" : "flip_prepared");
  for (uint64_t i = 0; i < NODES; i += 400) { /* references from clusters 8 and 9 to cluster 4 */
    gch_set(kit.m, kit_at(root[0], 8 * NODES + i), KIT_B, kit_at(root[0], 4 * NODES + i));
    root[1] = kit_node(&kit, i); /* young: cluster 9 refers to it, and it to cluster 4 */
    gch_set(kit.m, root[1], KIT_C, kit_at(root[0], 4 * NODES + i));
    gch_set(kit.m, kit_at(root[0], 9 * NODES + i), KIT_B, root[1]);
  }
  root[1] = NULL;
  kit_minor(&kit, true);
  root[2] = kit_refs(&kit, 3000); /* a large one that is born now */
  for (uint64_t i = 0; i < 3000; i++) kit_put(&kit, root[2], i, kit_at(root[0], 4 * NODES + 4 * i));
  hold_off(&kit, &request);
  CHECK_EQ(kit.heap->measures.last_major.degraded, 0);
  CHECK(kit.heap->measures.last_major.units_unread > 0);
  kit_verify(&kit);
  check_clusters(root[0], 4);
  for (uint64_t i = 0; i < NODES; i += 400) {
    gch_ref to = kit_at(root[0], 4 * NODES + i), middle = gch_load(kit_at(root[0], 9 * NODES + i), KIT_B);
    CHECK(gch_load(kit_at(root[0], 8 * NODES + i), KIT_B) == to);
    CHECK(*kit_number(middle) == i && gch_load(middle, KIT_C) == to);
  }
  for (uint64_t i = 0; i < 3000; i++)
    if (!CHECK(kit_at(root[2], i) == kit_at(root[0], 4 * NODES + 4 * i))) break;
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void told_while_it_marks(void) { told_since(true); }
static void told_after_the_plan(void) { told_since(false); }

/* A block that a minor keeps where it stands, for a pin, while it marks: nobody scans it. */
static void kept_block(void) {
  struct kit_request request;
  if (!kit_available(GCH_MOVER_MOVE) || !open_kit(GCH_MOVER_MOVE, GCH_SUMMARIES_ON, GCH_HUGE_OFF)) return;
  GCH_FRAME(kit.m, root, 2);
  make_clusters(root);
  thin_out(root[0], 4);
  kit_minor(&kit, true);
  hold_before_marking(&kit, &request, GCH_POLICY_NEEDED);
  root[1] = kit_node(&kit, 1);
  gch_set(kit.m, root[1], KIT_A, kit_at(root[0], 4 * NODES));
  gch_ref kept = root[1];
  gch_pin(kit.m, kept, NULL);
  kit_minor(&kit, true);
  hold_off(&kit, &request);
  CHECK(root[1] == kept);
  CHECK(gch_load(kept, KIT_A) == kit_at(root[0], 4 * NODES));
  gch_unpin(kit.heap, kept);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

int main(void) {
  kit_watchdog(90);
  RUN(clusters_are_left_alone);
  RUN(when_they_are_kept);
  RUN(told_while_it_marks);
  RUN(told_after_the_plan);
  RUN(kept_block);
  return CHECK_SUMMARY();
}
