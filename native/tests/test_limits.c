/* The limit of the heap: what moves counts once, at all times, so programs allocate beside a move as they do at rest. */
#include "base/units.h"
#include "gc/plan.h"
#include "heap/small.h"
#include "hold.h"

static struct kit kit;

/* --- beside a move ---------------------------------------------------------------------------------------------- */

enum { LIVE_MIB = 24, MAX_MIB = 48, FRESH_MIB = 8 };

/* Large objects, and arenas full of nodes. */
static void fill(gch_ref *root) {
  uint64_t nodes = (uint64_t)(LIVE_MIB - 6) * MIB / 40;
  root[1] = kit_bytes(&kit, 3 * MIB);
  root[2] = kit_refs(&kit, 3 * MIB / 8);
  root[0] = kit_refs(&kit, nodes);
  for (uint64_t i = 0; i < nodes; i++) kit_put_node(&kit, &root[0], i, i);
  kit_major(&kit, GCH_POLICY_NEEDED, false, true);
}

struct sampler {
  uint32_t begun, stop; /* [atomic] */
  uint64_t least, most;
};

static void *sample(void *arg) {
  struct sampler *s = arg;
  s->least = UINT64_MAX;
  while (!at_load(&s->stop)) {
    uint64_t used = at_load(&kit.heap->used_bytes);
    if (used < s->least) s->least = used;
    if (used > s->most) s->most = used;
    at_store(&s->begun, 1);
  }
  return NULL;
}

static uint64_t majors(void) { return at_load(&kit.heap->measures.major_count); }

/* Everything is on the move: the limit leaves the room that it left before. Allocates all the same, if that is so: without the
 * room it would wait for the end of the move, which waits for us. */
static void allocate_beside(uint64_t used) {
  uint64_t count = majors(), failed = 0;
  if (!CHECK(at_load(&kit.heap->used_bytes) <= used + MIB)) return;
  for (uint64_t i = 0; i < FRESH_MIB * MIB / 40; i++) failed += kit_node(&kit, i) == NULL;
  CHECK(kit_bytes(&kit, 4 * MIB) != NULL);
  CHECK_EQ(failed, 0);
  CHECK_EQ(majors(), count);
}

static void room_beside_a_move(gch_mover mover, gch_huge huge) {
  gch_config c = kit_config(mover, MAX_MIB, 1024);
  c.huge = huge;
  if (!kit_open(&kit, &c)) return;
  GCH_FRAME(kit.m, root, 3);
  fill(root);
  uint64_t used = at_load(&kit.heap->used_bytes);
  CHECK(used > MAX_MIB * MIB / 2);
  struct kit_request request;
  struct sampler sampler = {0};
  pthread_t thread;
  hold_on(true);
  kit_begin(&kit, &request, GCH_POLICY_ALL);
  while (!at_load(&held)) gch_safepoint(kit.m);
  allocate_beside(used);
  pthread_create(&thread, NULL, sample, &sampler);
  while (!at_load(&sampler.begun)) gch_safepoint(kit.m);
  hold_off(&kit, &request);
  at_store(&sampler.stop, 1);
  kit_join(&kit, thread);
  CHECK(sampler.least + MIB >= used &&
        sampler.most <= used + (FRESH_MIB + 2) * MIB); /* what fragments cost, and garbage */
  CHECK(kit.heap->measures.last_major.concurrent);
  CHECK(kit.heap->plan->move_count + kit.heap->plan->arena_count + kit.heap->plan->source_count > 0);
  kit_verify(&kit); /* what is counted is what is there */
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static void room_while_moving(void) {
  bool some = false;
  for (size_t i = 0; i < 3; i++) {
    if (!kit_available(KIT_MOVERS[i])) continue;
    some = true;
    for (int huge = 0; huge < 2; huge++) room_beside_a_move(KIT_MOVERS[i], huge ? GCH_HUGE_ON : GCH_HUGE_OFF);
  }
  if (!some) SKIP("faults", "no mover has them here");
}

int main(void) {
  kit_watchdog(60);
  RUN(room_while_moving);
  return CHECK_SUMMARY();
}
