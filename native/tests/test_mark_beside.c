/* Marking beside mutators: each way in which what was reachable at the beginning, or has been born since, could be lost or
 * taken for what it is not. Markers are held before they have scanned anything; what the program does then is all that can
 * tell them. Afterwards dead memory is used again, so what was lost would be seen. */
#include "gc/mark_internal.h"

#include "chains.h"
#include "gc/snapshot.h"
#include "heap/small.h"

enum { CHAIN = 3000 };
static bool open_kit(void) { return open_as(GCH_MOVER_MOVE, 64); }

/* --- the barrier ------------------------------------------------------------------------------------------------ */

/* The only reference to a chain moves from an old object that is not scanned yet to a root, which is not looked at again. */
static void moved_to_a_root(void) {
  struct kit_request request;
  if (!open_kit()) return;
  GCH_FRAME(kit.m, root, 3);
  root[0] = kit_node(&kit, 1);
  make_chain(&root[1], 10, CHAIN);
  gch_set(kit.m, root[0], KIT_B, root[1]);
  root[1] = NULL;
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  CHECK_EQ(kit.m->snapshot, 1);
  root[1] = gch_load(root[0], KIT_B);
  gch_set(kit.m, root[0], KIT_B, NULL);
  end(&request);
  CHECK_EQ(kit.m->snapshot, 0);
  check_chain(root[1], 10, CHAIN);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* It moves to a young object, which markers do not look into, and which a minor promotes (marked, not scanned) meanwhile. */
static void moved_to_a_young_object(bool promoted) {
  struct kit_request request;
  if (!open_kit()) return;
  GCH_FRAME(kit.m, root, 3);
  root[0] = kit_node(&kit, 1);
  make_chain(&root[1], 10, CHAIN);
  gch_set(kit.m, root[0], KIT_B, root[1]);
  root[1] = NULL;
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[1] = kit_node(&kit, 2);
  gch_set(kit.m, root[1], KIT_C, gch_load(root[0], KIT_B));
  gch_set(kit.m, root[0], KIT_B, NULL);
  if (promoted) {
    gch_set(kit.m, root[0], KIT_A, root[1]); /* reachable from an old one alone */
    root[1] = NULL;
    kit_minor(&kit, true);
    root[1] = gch_load(root[0], KIT_A);
    CHECK(!heap_in_young(kit.heap, (uintptr_t)root[1]));
  }
  end(&request);
  CHECK_EQ(*kit_number(root[1]), 2);
  check_chain(gch_load(root[1], KIT_C), 10, CHAIN);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void moved_to_a_young_object_that_stays(void) { moved_to_a_young_object(false); }
static void moved_to_a_young_object_that_is_promoted(void) { moved_to_a_young_object(true); }

/* Chains in an array of many chunks: half are swapped round, so that one who scans in order would miss them without a log. */
static void shuffled_array(void) {
  enum { COUNT = 40000 };
  struct kit_request request;
  if (!open_kit()) return;
  GCH_FRAME(kit.m, root, 2);
  root[0] = kit_refs(&kit, COUNT);
  for (uint64_t i = 0; i < COUNT; i++) kit_put_node(&kit, &root[0], i, i);
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  at_store(&hold, 0); /* markers run */
  for (uint64_t round = 0; round < 20; round++)
    for (uint64_t i = 0; i < COUNT / 2; i++) {
      gch_ref a = kit_at(root[0], i), b = kit_at(root[0], COUNT - 1 - i);
      kit_put(&kit, root[0], i, NULL);
      kit_put(&kit, root[0], COUNT - 1 - i, a);
      kit_put(&kit, root[0], i, b);
      gch_safepoint(kit.m);
    }
  end(&request);
  uint64_t seen = 0;
  for (uint64_t i = 0; i < COUNT; i++) seen += *kit_number(kit_at(root[0], i));
  CHECK_EQ(seen, (uint64_t)COUNT * (COUNT - 1) / 2);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* Who overwrites the same slots over and over hands over what is not marked yet, not every value. */
static void same_slots_over_and_over(void) {
  enum { STORES = 2000000, SLOTS = 64 };
  struct kit_request request;
  if (!open_kit()) return;
  GCH_FRAME(kit.m, root, 2);
  root[0] = kit_refs(&kit, SLOTS);
  root[1] = kit_node(&kit, 5);
  for (uint64_t i = 0; i < SLOTS; i++) kit_put(&kit, root[0], i, root[1]);
  kit_minor(&kit, true);
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  for (uint64_t i = 0; i < STORES; i++) kit_put(&kit, root[0], i % SLOTS, root[1]);
  CHECK(at_load(&kit.heap->snapshot.taken) * (uint64_t)SNAPSHOT_WORDS <
        STORES / 100); /* what roots refer to is marked */
  end(&request);
  for (uint64_t i = 0; i < SLOTS; i++) CHECK_EQ(*kit_number(kit_at(root[0], i)), 5);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* There are more roots than a marker's stack takes: the first pause marks what they refer to, and does not begin to trace. */
static void many_roots(void) {
  enum { ROOTS = 70000 };
  struct kit_request request;
  if (!open_kit()) return;
  GCH_FRAME(kit.m, root, 2);
  gch_handle *handles = calloc(ROOTS, sizeof *handles);
  for (uint64_t i = 0; i < ROOTS; i++) {
    root[0] = kit_node(&kit, i);
    root[1] = kit_node(&kit, ROOTS + i);
    gch_set(kit.m, root[0], KIT_A, root[1]);
    handles[i] = gch_handle_new(kit.m, root[0]);
    if (!CHECK(handles[i] != 0)) return;
  }
  root[0] = root[1] = NULL;
  uint64_t *capacity = &kit.heap->marking[1]->markers[0].capacity, reserved = *capacity;
  *capacity = STACK_MIN;
  gch_cycle before = kit_major(&kit, GCH_POLICY_NEEDED, false, true);
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  const uint64_t *mark = kit.heap->tables.mark;
  for (uint64_t i = 0; i < ROOTS; i++) {
    gch_ref o = NULL;
    CHECK_EQ(gch_handle_get(kit.m, handles[i], &o), GCH_OK);
    if (!CHECK(bits_test_atomic(mark, granule_index(&kit.heap->layout, (uintptr_t)o)))) break;
    if (!CHECK(!bits_test_atomic(mark, granule_index(&kit.heap->layout, (uintptr_t)gch_load(o, KIT_A))))) break;
  }
  end(&request);
  *capacity = reserved;
  CHECK_EQ(kit.heap->measures.last_major.live_objects, before.live_objects);
  CHECK_EQ(kit.heap->measures.last_major.live_bytes, before.live_bytes);
  for (uint64_t i = 0; i < ROOTS; i++) {
    gch_ref o = NULL;
    CHECK_EQ(gch_handle_get(kit.m, handles[i], &o), GCH_OK);
    if (!CHECK_EQ(*kit_number(gch_load(o, KIT_A)), ROOTS + *kit_number(o))) break;
    CHECK_EQ(gch_handle_free(kit.heap, handles[i]), GCH_OK);
  }
  free(handles);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* There is no buffer: who stores marks, and counts. */
static void no_buffers(void) {
  struct kit_request request;
  if (!open_kit()) return;
  kit.heap->snapshot.capacity = 0;
  GCH_FRAME(kit.m, root, 4);
  root[0] = kit_node(&kit, 1);
  make_chain(&root[1], 10, CHAIN);
  gch_set(kit.m, root[0], KIT_B, root[1]);
  root[1] = kit_bytes(&kit, 100); /* alone in its block */
  memset((char *)(void *)root[1] + KIT_BYTES, 0x33, 100);
  gch_set(kit.m, root[0], KIT_A, root[1]);
  root[1] = kit_refs(&kit, 3000); /* a large one */
  kit_put_node(&kit, &root[1], 2999, 7);
  gch_set(kit.m, root[0], KIT_C, root[1]);
  root[1] = NULL;
  gch_cycle before = kit_major(&kit, GCH_POLICY_NEEDED, false, true);
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  uint64_t stalls = at_load(&kit.heap->measures.stalls.count[GCH_STALL_BARRIER]);
  root[1] = gch_load(root[0], KIT_B);
  root[2] = gch_load(root[0], KIT_C);
  root[3] = gch_load(root[0], KIT_A);
  gch_set(kit.m, root[0], KIT_B, NULL);
  gch_set(kit.m, root[0], KIT_C, NULL);
  gch_set(kit.m, root[0], KIT_A, NULL);
  CHECK_EQ(at_load(&kit.heap->measures.stalls.count[GCH_STALL_BARRIER]) - stalls, 3);
  end(&request);
  for (int i = 0; i < 1000; i++) kit_bytes(&kit, 1000);
  kit_minor(&kit, true);
  CHECK_EQ(kit.heap->measures.last_major.live_objects, before.live_objects);
  CHECK_EQ(kit.heap->measures.last_major.live_bytes, before.live_bytes);
  check_chain(root[1], 10, CHAIN);
  CHECK_EQ(*kit_number(kit_at(root[2], 2999)), 7);
  CHECK_EQ(((uint8_t *)(void *)root[3])[KIT_BYTES + 99], 0x33);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* A number that looks like the address of a dead object, or of the middle of one, is overwritten: nothing is lost, and nothing
 * else happens. */
static void numbers_like_addresses(void) {
  static const uint32_t slots[] = {8};
  struct kit_request request;
  const gch_type *tagged;
  gch_type_desc d = {sizeof d, 16, slots, 1, GCH_TAIL_NONE, 0, 1, 0, "tagged", 0};
  if (!open_kit()) return;
  CHECK_EQ(gch_type_new(kit.heap, &d, &tagged, NULL), GCH_OK);
  GCH_FRAME(kit.m, root, 2);
  root[0] = gch_alloc(kit.m, tagged);
  root[1] = kit_node(&kit, 3);
  kit_minor(&kit, true);
  uintptr_t dead = (uintptr_t)root[1];
  root[1] = NULL;
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  for (uintptr_t offset = 0; offset <= 40; offset++) {
    gch_set(kit.m, root[0], 8, (gch_ref)((dead + offset) | 1));
    gch_set(kit.m, root[0], 8, NULL);
  }
  uintptr_t young_end = kit.heap->layout.regions[4 * kit.heap->layout.per_space].start + ((uintptr_t)1 << 20);
  gch_set(kit.m, root[0], 8, (gch_ref)(young_end | 1));
  gch_set(kit.m, root[0], 8, NULL);
  end(&request);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* --- who logs --------------------------------------------------------------------------------------------------- */

struct visitor {
  gch_handle from, to;
  uint32_t done; /* [atomic] */
};

/* Attaches while it is marked, takes the only reference away, and detaches with its log not full. */
static void *visit(void *arg) {
  struct visitor *v = arg;
  gch_mutator *m;
  gch_ref from, chain;
  if (gch_attach(kit.heap, &m, NULL) != GCH_OK) return NULL;
  CHECK_EQ(m->snapshot, 1);
  gch_handle_get(m, v->from, &from);
  chain = gch_load(from, KIT_B);
  gch_handle_set(m, v->to, chain);
  gch_set(m, from, KIT_B, NULL);
  gch_detach(m);
  at_store(&v->done, 1);
  return NULL;
}

static void a_visitor_leaves(void) {
  struct kit_request request;
  pthread_t thread;
  if (!open_kit()) return;
  GCH_FRAME(kit.m, root, 2);
  root[0] = kit_node(&kit, 1);
  make_chain(&root[1], 10, CHAIN);
  gch_set(kit.m, root[0], KIT_B, root[1]);
  root[1] = NULL;
  struct visitor v = {.from = gch_handle_new(kit.m, root[0]), .to = gch_handle_new(kit.m, root[0])};
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  pthread_create(&thread, NULL, visit, &v);
  while (!at_load(&v.done)) gch_safepoint(kit.m);
  pthread_join(thread, NULL);
  end(&request);
  gch_handle_get(kit.m, v.to, &root[1]);
  check_chain(root[1], 10, CHAIN);
  gch_handle_free(kit.heap, v.from);
  gch_handle_free(kit.heap, v.to);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* --- what is born ----------------------------------------------------------------------------------------------- */

/* Large and small objects born while it is marked, reachable only from each other and from what was there. */
static void births(void) {
  for (int i = 0; i < 3; i++) {
    struct kit_request request;
    if (!kit_available(KIT_MOVERS[i]) || !open_as(KIT_MOVERS[i], 64)) continue;
    GCH_FRAME(kit.m, root, 3);
    root[0] = kit_node(&kit, 1);
    kit_minor(&kit, true);
    hold_before_marking(&kit, &request, GCH_POLICY_ALL);
    root[1] = kit_refs(&kit, 5000);
    for (uint64_t j = 0; j < 5000; j += 10) kit_put_node(&kit, &root[1], j, j);
    gch_set(kit.m, root[0], KIT_A, root[1]);
    kit_put(&kit, root[1], 4999, root[0]);
    root[1] = kit_bytes(&kit, 100000);
    memset((char *)(void *)root[1] + KIT_BYTES, 0x5a, 100000);
    gch_set(kit.m, root[0], KIT_B, root[1]);
    root[1] = NULL;
    kit_minor(&kit, i == 1);
    end(&request);
    root[1] = gch_load(root[0], KIT_A);
    for (uint64_t j = 0; j < 5000; j += 10)
      if (!CHECK_EQ(*kit_number(kit_at(root[1], j)), j)) break;
    CHECK(kit_at(root[1], 4999) == root[0]);
    CHECK_EQ(((uint8_t *)(void *)gch_load(root[0], KIT_B))[KIT_BYTES + 99999], 0x5a);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

/* A young object is pinned, so a minor keeps its block where it stands: old from then on, its objects marked. */
static void kept_while_marking(void) {
  struct kit_request request;
  if (!open_kit()) return;
  GCH_FRAME(kit.m, root, 2);
  root[0] = kit_node(&kit, 1);
  kit_minor(&kit, true);
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  root[1] = kit_node(&kit, 2);
  gch_ref pinned = root[1];
  CHECK_EQ(gch_pin(kit.m, pinned, NULL), GCH_OK);
  gch_set(kit.m, root[1], KIT_A, root[0]);
  gch_set(kit.m, root[0], KIT_A, root[1]);
  kit_minor(&kit, false);
  CHECK(root[1] == pinned && heap_is_old(kit.heap, (uintptr_t)pinned));
  root[1] = NULL; /* held by the pin, and by root[0] */
  gch_set(kit.m, root[0], KIT_A, NULL);
  end(&request);
  CHECK_EQ(*kit_number(pinned), 2);
  CHECK_EQ(*kit_number(gch_load(pinned, KIT_A)), 1);
  gch_unpin(kit.heap, pinned);
  kit_major(&kit, GCH_POLICY_ALL, true, true); /* it is garbage now */
  CHECK_EQ(kit.heap->measures.last_major.live_objects, 1);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* The same at the end of the cycle, before and after it sweeps the young region: what lives there counts once in the next one. */
static void kept_at_the_end(void) {
  for (int after = 0; after < 2; after++) {
    struct kit_request request;
    if (!open_kit()) return;
    GCH_FRAME(kit.m, root, 2);
    root[0] = kit_node(&kit, 1);
    hold_before(&kit, &request, GCH_POLICY_ALL, after ? "ended" : "ending");
    kit_minor(&kit, true); /* young memory of its own for what comes */
    root[1] = kit_node(&kit, 2);
    gch_ref pinned = root[1];
    CHECK_EQ(gch_pin(kit.m, pinned, NULL), GCH_OK);
    gch_set(kit.m, root[0], KIT_A, root[1]);
    kit_minor(&kit, false);
    root[1] = NULL;
    if (!after) gch_unpin(kit.heap, pinned);
    end(&request);
    CHECK(gch_load(root[0], KIT_A) == pinned);
    CHECK_EQ(*kit_number(pinned), 2);
    kit_major(&kit, GCH_POLICY_RELEASE, false, true);
    CHECK_EQ(heap_block(kit.heap, (uintptr_t)pinned)->live * GRANULE_BYTES, gch_object_bytes(kit.heap, pinned));
    if (after) gch_unpin(kit.heap, pinned);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

/* A dense young arena of leaf objects is promoted by its pages: its marks are made for it. */
static void arena_promoted_while_marking(void) {
  enum { COUNT = 4000, BYTES = 4000 };
  struct kit_request request;
  gch_config c = kit_config(GCH_MOVER_MOVE, 256, 16384);
  if (!kit_open(&kit, &c)) return;
  GCH_FRAME(kit.m, root, 1);
  root[0] = kit_refs(&kit, COUNT);
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  uint64_t arenas = at_load(&kit.heap->moved.arenas);
  for (uint64_t i = 0; i < COUNT; i++) {
    gch_ref o = kit_bytes(&kit, BYTES);
    memset((char *)(void *)o + KIT_BYTES, (int)(i % 251), BYTES);
    kit_put(&kit, root[0], i, o);
  }
  gch_cycle r = kit_minor(&kit, true);
  CHECK(r.pages_moved > 0 || at_load(&kit.heap->moved.arenas) > arenas);
  end(&request);
  for (uint64_t i = 0; i < COUNT; i++)
    if (!CHECK_EQ(((uint8_t *)(void *)kit_at(root[0], i))[KIT_BYTES + BYTES - 1], i % 251)) break;
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* --- the remark ------------------------------------------------------------------------------------------------- */

/* The log, which nobody has seen before, leads to more than a pause has time for: it is marked beside the program. */
static void a_remark_is_late(void) {
  enum { LONG = KIT_SANITIZED ? 60000 : 400000 };
  struct kit_request request;
  if (!open_as(GCH_MOVER_MOVE, 256)) return;
  GCH_FRAME(kit.m, root, 2);
  root[0] = kit_node(&kit, 1);
  make_chain(&root[1], 10, LONG);
  gch_set(kit.m, root[0], KIT_B, root[1]);
  root[1] = NULL;
  hold_before_marking(&kit, &request, GCH_POLICY_NEEDED);
  root[1] = gch_load(root[0], KIT_B);
  gch_set(kit.m, root[0], KIT_B, NULL);
  end(&request);
  CHECK(kit.heap->measures.last_major.pauses > 3); /* mark, remarks, flip */
  CHECK_EQ(kit.heap->measures.last_major.live_objects, LONG + 1);
  check_chain(root[1], 10, LONG);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* What is garbage at the beginning goes with this cycle, what becomes it later with the next. */
static void garbage_floats_one_cycle(void) {
  struct kit_request request;
  if (!open_kit()) return;
  GCH_FRAME(kit.m, root, 2);
  root[0] = kit_node(&kit, 1);
  make_chain(&root[1], 10, CHAIN);
  gch_set(kit.m, root[0], KIT_A, root[1]);
  make_chain(&root[1], 10, CHAIN);
  kit_minor(&kit, true);
  root[1] = NULL;
  hold_before_marking(&kit, &request, GCH_POLICY_ALL);
  gch_set(kit.m, root[0], KIT_A, NULL);
  end(&request);
  CHECK_EQ(kit.heap->measures.last_major.live_objects, CHAIN + 1);
  kit_major(&kit, GCH_POLICY_ALL, true, true);
  CHECK_EQ(kit.heap->measures.last_major.live_objects, 1);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* A request in the background is answered when it has begun; nothing is lost that is asked for meanwhile. */
static void in_the_background(void) {
  if (!open_kit()) return;
  GCH_FRAME(kit.m, root, 1);
  make_chain(&root[0], 10, CHAIN);
  for (int i = 0; i < 20; i++) {
    gch_collect_options o;
    gch_cycle r = {0};
    gch_collect_options_init(&o);
    o.concurrent = o.background = true;
    o.policy = i % 2 == 0 ? GCH_POLICY_ALL : GCH_POLICY_NEEDED;
    CHECK_EQ(gch_collect(kit.m, &o, &r), GCH_OK);
    CHECK(r.mark_pause_ns > 0 && r.number > 0);
    for (int j = 0; j < 3000; j++) kit_node(&kit, 1);
    if (i % 3 == 0) kit_minor(&kit, true);
    if (i % 5 == 0) gch_collect_wait(kit.m, NULL);
  }
  gch_collect_wait(kit.m, NULL);
  kit_verify(&kit);
  check_chain(root[0], 10, CHAIN);
  gch_collect_options o;
  gch_collect_options_init(&o);
  o.background = true;
  CHECK_EQ(gch_collect(kit.m, &o, NULL), GCH_BAD_VALUE);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static uint32_t phases; /* [atomic] entered while it is counted */

static void count_phases(const char *name) {
  if (strcmp(name, "phase_entered") == 0) at_add(&phases, 1);
  hold_worker(name);
}

/* Lets markers go when the heap has begun to end. */
static void *let_go(void *heap) {
  while (!at_load(&((gch_heap *)heap)->closing)) usleep(100);
  at_store(&hold, 0);
  return NULL;
}

/* A heap that ends does not wait for the mark, and what follows it: nobody will look at it. */
static void ends_while_marking(void) {
  pthread_t thread;
  gch_collect_options o;
  if (!open_as(GCH_MOVER_MOVE, 256)) return;
  GCH_FRAME(kit.m, root, 1);
  make_chain(&root[0], 10, kit_scaled(100000, 10));
  kit_minor(&kit, true);
  GCH_FRAME_END(kit.m);
  gch_collect_options_init(&o);
  o.concurrent = o.background = true;
  hold_on(true);
  at_store(&hold_point, "marking_beside");
  at_store(&gch_hook_fn, count_phases);
  CHECK_EQ(gch_collect(kit.m, &o, NULL), GCH_OK);
  while (!at_load(&held)) usleep(100);
  at_store(&phases, 0);
  pthread_create(&thread, NULL, let_go, kit.heap);
  kit_close(&kit);
  pthread_join(thread, NULL);
  CHECK_EQ(at_load(&phases), 0);
  hold_on(false);
}

int main(void) {
  kit_watchdog(60);
  if (!kit_available(GCH_MOVER_MOVE)) return 77;
  RUN(moved_to_a_root);
  RUN(moved_to_a_young_object_that_stays);
  RUN(moved_to_a_young_object_that_is_promoted);
  RUN(shuffled_array);
  RUN(same_slots_over_and_over);
  RUN(many_roots);
  RUN(no_buffers);
  RUN(numbers_like_addresses);
  RUN(a_visitor_leaves);
  RUN(births);
  RUN(kept_while_marking);
  RUN(kept_at_the_end);
  RUN(arena_promoted_while_marking);
  RUN(a_remark_is_late);
  RUN(garbage_floats_one_cycle);
  RUN(in_the_background);
  RUN(ends_while_marking);
  return CHECK_SUMMARY();
}
