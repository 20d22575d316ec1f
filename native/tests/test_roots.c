/* Roots: handles with their generations, static slots, the embedder's enumeration, pins. */
#include "gc/roots.h"

#include "gc/safepoint.h"
#include "kit.h"

enum { COUNT = 2000, THREADS = 4 };
static struct kit kit;
static uint32_t stop, failed;

static void foreign(gch_status status) {
  CHECK_EQ(status, GCH_BAD_VALUE);
  CHECK(strstr(gch_last_error(kit.m)->message, "not a live handle") != NULL);
}

static void handles(void) {
  gch_handle h[COUNT];
  gch_ref o;
  for (uint64_t i = 0; i < COUNT; i++) h[i] = gch_handle_new(kit.m, kit_node(&kit, i));
  kit_minor(&kit, false);
  kit_minor(&kit, true);
  kit_major(&kit, GCH_POLICY_ALL, false, true);
  for (uint64_t i = 0; i < COUNT; i++) {
    CHECK(h[i] != 0 && gch_handle_get(kit.m, h[i], &o) == GCH_OK);
    if (!CHECK_EQ(*kit_number(o), i)) break;
  }
  gch_ref other = kit_node(&kit, 99);
  CHECK_EQ(gch_handle_set(kit.m, h[0], other), GCH_OK);
  CHECK(gch_handle_get(kit.m, h[0], &o) == GCH_OK && o == other);
  CHECK_EQ(gch_handle_set(kit.m, h[1], NULL), GCH_OK);
  CHECK(gch_handle_get(kit.m, h[1], &o) == GCH_OK && o == NULL);
  for (uint64_t i = 0; i < COUNT; i++) CHECK_EQ(gch_handle_free(kit.heap, h[i]), GCH_OK);
  CHECK_EQ(at_load(&kit.heap->roots.handle_count), 0);
  gch_cycle r = kit_major(&kit, GCH_POLICY_NEEDED, false, true);
  CHECK_EQ(r.live_objects, 0);
}

static void stale_handles(void) {
  gch_ref o = (gch_ref)(uintptr_t)16;
  gch_handle first = gch_handle_new(kit.m, kit_node(&kit, 1));
  CHECK_EQ(gch_handle_free(kit.heap, first), GCH_OK);
  CHECK_EQ(gch_handle_free(kit.heap, first), GCH_BAD_VALUE); /* twice */
  gch_handle second = gch_handle_new(kit.m, kit_node(&kit, 2));
  CHECK_EQ((uint32_t)first, (uint32_t)second); /* the slot again, another generation */
  CHECK(first != second);
  foreign(gch_handle_get(kit.m, first, &o));
  CHECK(o == NULL);
  foreign(gch_handle_set(kit.m, first, NULL));
  CHECK_EQ(gch_handle_free(kit.heap, first), GCH_BAD_VALUE);
  foreign(gch_handle_get(kit.m, 0, &o));
  foreign(gch_handle_get(kit.m, UINT64_MAX, &o));
  foreign(gch_handle_get(kit.m, (uint64_t)1 << 32 | 0x7ffffff, &o));
  CHECK_EQ(gch_handle_free(kit.heap, second), GCH_OK);
}

/* Two heaps whose handles have the same slots and generations; objects of the other one. */
static void handles_of_two_heaps(void) {
  struct kit mine = kit, other;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 16, 512);
  gch_ref o;
  if (!kit_open(&other, &c)) return;
  gch_handle ours[8], theirs[8];
  for (int i = 0; i < 8; i++) {
    ours[i] = gch_handle_new(mine.m, kit_node(&mine, 1));
    theirs[i] = gch_handle_new(other.m, kit_node(&other, 2));
    CHECK(ours[i] != 0 && theirs[i] != 0 && ours[i] != theirs[i]);
  }
  for (int i = 0; i < 8; i++) {
    foreign(gch_handle_get(mine.m, theirs[i], &o));
    CHECK(o == NULL);
    foreign(gch_handle_set(mine.m, theirs[i], NULL));
    CHECK_EQ(gch_handle_free(mine.heap, theirs[i]), GCH_BAD_VALUE);
    CHECK_EQ(gch_handle_free(other.heap, ours[i]), GCH_BAD_VALUE);
  }
  gch_ref stranger = kit_node(&other, 3);
  CHECK_EQ(gch_handle_new(mine.m, stranger), 0);
  CHECK(strstr(gch_last_error(mine.m)->message, "is not of this heap") != NULL);
  CHECK_EQ(gch_handle_set(mine.m, ours[0], stranger), GCH_BAD_VALUE);
  for (int i = 0; i < 8; i++) {
    CHECK(gch_handle_get(mine.m, ours[i], &o) == GCH_OK && *kit_number(o) == 1);
    CHECK_EQ(gch_handle_free(mine.heap, ours[i]), GCH_OK);
    CHECK_EQ(gch_handle_free(other.heap, theirs[i]), GCH_OK);
  }
  kit_close(&other);
}

/* Handles that one thread makes and another, not attached, frees, through collections. */
static gch_handle mailbox[THREADS][64];

static void *liberator(void *arg) {
  gch_handle *box = arg;
  while (!at_load(&stop))
    for (int i = 0; i < 64; i++) {
      gch_handle h = at_xchg(&box[i], (gch_handle)0);
      if (h != 0 && gch_handle_free(kit.heap, h) != GCH_OK) at_add(&failed, 1);
    }
  return NULL;
}

static void concurrent_frees(void) {
  pthread_t threads[THREADS];
  stop = failed = 0;
  for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, liberator, mailbox[i]);
  for (uint64_t i = 0; i < kit_scaled(400000, 8); i++) {
    gch_handle *slot = &mailbox[i % THREADS][i / THREADS % 64];
    if (at_load(slot) != 0) continue;
    gch_ref o, made = kit_node(&kit, i);
    gch_handle h = gch_handle_new(kit.m, made);
    if (gch_handle_get(kit.m, h, &o) != GCH_OK || *kit_number(o) != i) at_add(&failed, 1);
    at_store(slot, h);
    if (i % 20000 == 0) kit_minor(&kit, false);
  }
  at_store(&stop, 1);
  for (int i = 0; i < THREADS; i++) kit_join(&kit, threads[i]);
  for (int i = 0; i < THREADS * 64; i++) gch_handle_free(kit.heap, mailbox[i / 64][i % 64]);
  memset(mailbox, 0, sizeof mailbox);
  CHECK_EQ(failed, 0);
  CHECK_EQ(at_load(&kit.heap->roots.handle_count), 0);
  kit_verify(&kit);
}

static void static_slots(void) {
  static gch_ref slots[COUNT];
  for (uint64_t i = 0; i < COUNT; i++) {
    CHECK_EQ(gch_root_add(kit.heap, &slots[i]), GCH_OK);
    slots[i] = kit_node(&kit, i);
  }
  kit_minor(&kit, true);
  kit_major(&kit, GCH_POLICY_ALL, false, true);
  for (uint64_t i = 0; i < COUNT; i++)
    if (!CHECK_EQ(*kit_number(slots[i]), i)) break;
  for (uint64_t i = 0; i < COUNT; i++) CHECK_EQ(gch_root_remove(kit.heap, &slots[i]), GCH_OK);
  CHECK_EQ(gch_root_remove(kit.heap, &slots[0]), GCH_BAD_VALUE);
  CHECK_EQ(kit_major(&kit, GCH_POLICY_NEEDED, false, true).live_objects, 0);
}

static gch_ref embedded[COUNT];
static void enumerate(gch_root_visit visit, void *closure, void *data) {
  gch_ref *slots = data;
  for (int i = 0; i < COUNT; i++) visit(&slots[i], closure);
}

static void embedder(void) {
  CHECK_EQ(gch_roots_fn_set(kit.heap, enumerate, embedded), GCH_OK);
  for (uint64_t i = 0; i < COUNT; i += 2) {
    gch_ref o = kit_node(&kit, i);
    embedded[i] = o;
    embedded[i + 1] = (gch_ref)(uintptr_t)(i * 2 + 1); /* words that are no references are left alone */
  }
  kit_minor(&kit, false);
  kit_major(&kit, GCH_POLICY_ALL, false, true);
  for (uint64_t i = 0; i < COUNT; i += 2)
    if (!CHECK_EQ(*kit_number(embedded[i]), i) || !CHECK_EQ((uintptr_t)embedded[i + 1], i * 2 + 1)) break;
  CHECK_EQ(gch_roots_fn_set(kit.heap, NULL, NULL), GCH_OK);
  CHECK_EQ(kit_major(&kit, GCH_POLICY_NEEDED, false, true).live_objects, 0);
}

/* --- pins ----------------------------------------------------------------------------------------------------- */

static void pins_keep_address_and_life(void) {
  gch_ref pinned[64];
  void *payload = NULL;
  for (uint64_t i = 0; i < 64; i++) {
    for (int j = 0; j < 200; j++) kit_node(&kit, 0);
    pinned[i] = i % 4 == 0 ? kit_bytes(&kit, 20000) : i % 2 ? kit_node(&kit, i) : kit_bytes(&kit, 100 + i);
    *kit_number(pinned[i]) = i;
    CHECK_EQ(gch_pin(kit.m, pinned[i], &payload), GCH_OK);
    CHECK(payload == (char *)pinned[i] + GCH_HEADER_BYTES);
  }
  CHECK_EQ(pins_count(kit.heap, (uintptr_t)pinned[3]), 1);
  for (int i = 0; i < 6; i++) {
    kit_minor(&kit, i & 1);
    kit_major(&kit, (gch_policy)(i % GCH_POLICY_COUNT), false, true);
    kit_verify(&kit);
    for (uint64_t j = 0; j < 64; j++)
      if (!CHECK_EQ(*kit_number(pinned[j]), j)) return;
  }
  CHECK_EQ(gch_pin(kit.m, pinned[5], NULL), GCH_OK); /* nests */
  CHECK_EQ(gch_unpin(kit.heap, pinned[5]), GCH_OK);
  CHECK_EQ(pins_count(kit.heap, (uintptr_t)pinned[5]), 1);
  for (int i = 0; i < 64; i++) CHECK_EQ(gch_unpin(kit.heap, pinned[i]), GCH_OK);
  CHECK_EQ(gch_unpin(kit.heap, pinned[5]), GCH_BAD_VALUE);
  CHECK_EQ(kit_major(&kit, GCH_POLICY_ALL, false, true).live_objects, 0);
  kit_verify(&kit);
}

static void bad_pins(void) {
  gch_error error = {0};
  CHECK_EQ(gch_pin(kit.m, NULL, NULL), GCH_BAD_VALUE);
  CHECK_EQ(gch_pin(kit.m, (gch_ref)(void *)&error, NULL), GCH_BAD_VALUE);
  CHECK(strstr(gch_last_error(kit.m)->message, "not a reference of this heap") != NULL);
  CHECK_EQ(gch_unpin(kit.heap, NULL), GCH_BAD_VALUE);
  gch_ref o = kit_node(&kit, 1);
  gch_pin(kit.m, o, NULL);
  gch_detach(kit.m);
  CHECK_EQ(gch_heap_destroy(kit.heap, &error), GCH_BAD_STATE);
  CHECK(strstr(error.message, "1 pins") != NULL);
  CHECK_EQ(gch_attach(kit.heap, &kit.m, NULL), GCH_OK);
  CHECK_EQ(gch_unpin(kit.heap, o), GCH_OK);
}

/* The table does not grow with what was pinned once. */
static void one_pin_at_a_time(void) {
  for (uint64_t i = 0; i < kit_scaled(300000, 8); i++) {
    gch_ref o = kit_bytes(&kit, 16);
    gch_pin(kit.m, o, NULL);
    gch_unpin(kit.heap, o);
  }
  CHECK(kit.heap->pins.capacity <= 1024);
}

static void identity_hashes(void) {
  uint32_t hash[COUNT], same = 0;
  GCH_FRAME(kit.m, root, 1);
  root[0] = kit_refs(&kit, COUNT);
  for (uint64_t i = 0; i < COUNT; i++) {
    kit_put_node(&kit, &root[0], i, i);
    hash[i] = gch_identity_hash(kit.m, kit_at(root[0], i));
    CHECK(hash[i] != 0 && hash[i] < 1 << 24);
    same += i > 0 && hash[i] == hash[i - 1];
  }
  CHECK(same < 3);
  kit_minor(&kit, true);
  kit_major(&kit, GCH_POLICY_ALL, false, true);
  for (uint64_t i = 0; i < COUNT; i++)
    if (!CHECK_EQ(gch_identity_hash(kit.m, kit_at(root[0], i)), hash[i])) break;
  GCH_FRAME_END(kit.m);
}

/* Whatever a visitor does with what it is shown, others unpin. */
struct unpinning {
  gch_ref objects[100];
  uint32_t visited, waited;
};

static void *unpin_last(void *arg) {
  struct unpinning *u = arg;
  gch_unpin(kit.heap, u->objects[99]);
  return NULL;
}

static void unpin_meanwhile(uint64_t *slot, void *context) {
  struct unpinning *u = context;
  struct timespec until;
  pthread_t thread;
  bool ours = false;
  for (int i = 0; i < 100; i++) ours |= *slot == (uint64_t)(uintptr_t)u->objects[i];
  if (!ours || u->visited++ > 0) return;
  pthread_create(&thread, NULL, unpin_last, u);
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += 5;
  u->waited = pthread_timedjoin_np(thread, NULL, &until) != 0;
  if (u->waited) pthread_detach(thread);
}

static void unpin_waits_for_no_visitor(void) {
  static struct unpinning u;
  for (int i = 0; i < 100; i++) {
    u.objects[i] = kit_node(&kit, (uint64_t)i);
    CHECK_EQ(gch_pin(kit.m, u.objects[i], NULL), GCH_OK);
  }
  struct pause pause;
  gch_native_enter(kit.m);
  lock_lock(&kit.heap->cycle_lock);
  world_stop(kit.heap, GCH_PAUSE_OTHER, &pause);
  roots_visit(kit.heap, unpin_meanwhile, &u);
  world_resume(kit.heap, &pause);
  lock_unlock(&kit.heap->cycle_lock);
  gch_native_leave(kit.m);
  CHECK(!u.waited);
  CHECK(u.visited == 99 || u.visited == 100); /* that one may have been seen */
  CHECK_EQ(at_load(&kit.heap->pins.count), 99);
  for (int i = 0; i < 99; i++) CHECK_EQ(gch_unpin(kit.heap, u.objects[i]), GCH_OK);
}

int main(void) {
  gch_config c = kit_config(kit_available(GCH_MOVER_MOVE) ? GCH_MOVER_MOVE : GCH_MOVER_MEMCPY, 128, 1024);
  kit_watchdog(40);
  if (!kit_open(&kit, &c)) return 1;
  RUN(handles);
  RUN(stale_handles);
  RUN(handles_of_two_heaps);
  RUN(concurrent_frees);
  RUN(static_slots);
  RUN(embedder);
  RUN(pins_keep_address_and_life);
  RUN(bad_pins);
  RUN(one_pin_at_a_time);
  RUN(unpin_waits_for_no_visitor);
  RUN(identity_hashes);
  kit_close(&kit);
  return CHECK_SUMMARY();
}
