/* How mutators are slowed down while a major runs and room is short (heap/pacing.h, gc/pace.h): simulated, and in a heap. */
#include "base/units.h"
#include "gc/pace.h"
#include "hold.h"

enum { THREADS_MOST = 8 };
static const uint64_t MOST = 2 * NS_PER_MS;

struct program {
  uint64_t room; /* when the cycle begins */
  uint64_t cycle_ns, expected_ns;
  uint32_t threads;
  uint64_t block_ns; /* that each of them takes a block in, if nobody is in its way */
};

struct outcome {
  uint64_t longest_ns, slept_ns; /* stalls; of all threads */
  uint64_t taken;
};

/* Who finds no room waits for the end of the cycle. */
static struct outcome simulate(const struct program *p, bool brakes) {
  struct outcome o = {0};
  uint64_t at[THREADS_MOST] = {0}, next[THREADS_MOST] = {0}, room = p->room;
  for (;;) {
    uint32_t first = 0;
    for (uint32_t t = 1; t < p->threads; t++)
      if (at[t] < at[first]) first = t;
    uint64_t now = at[first];
    if (now >= p->cycle_ns) return o;
    if (room < BLOCK_BYTES) {
      if (p->cycle_ns - now > o.longest_ns) o.longest_ns = p->cycle_ns - now;
      o.slept_ns += p->cycle_ns - now;
      at[first] = p->cycle_ns;
      continue;
    }
    uint64_t wait = 0;
    if (brakes && room < p->room / 2) { /* as pace_allocation does it */
      wait = next[first] > now ? next[first] - now : 0;
      struct pacing_room r = {room, now + wait, p->expected_ns, p->threads};
      next[first] = now + wait + pacing_delay(&r, BLOCK_BYTES, MOST);
    }
    if (wait > o.longest_ns) o.longest_ns = wait;
    o.slept_ns += wait;
    o.taken += BLOCK_BYTES;
    room -= BLOCK_BYTES;
    at[first] = now + wait + p->block_ns;
  }
}

/* Who takes half of the room in a cycle, or a little more, is not in anybody's way. */
static void slow_enough(void) {
  struct program p = {256 * MIB, 500 * NS_PER_MS, 500 * NS_PER_MS, 2, 0};
  for (uint32_t percent = 10; percent <= 80; percent += 10) {
    p.block_ns = p.cycle_ns * p.threads / (p.room * percent / 100 / BLOCK_BYTES);
    struct outcome o = simulate(&p, true);
    CHECK(o.slept_ns <= p.cycle_ns / 50);
    CHECK(o.taken >= p.room / 100 * (percent - 2));
  }
}

/* Too fast by up to ten times: many short stalls instead of a long one, and as much is allocated. */
static void too_fast(void) {
  for (uint32_t threads = 1; threads <= THREADS_MOST; threads *= 2)
    for (uint64_t ns = 100 * NS_PER_MS; ns <= 1000 * NS_PER_MS; ns += 300 * NS_PER_MS) {
      struct program p = {256 * MIB, ns, ns, threads, 0};
      p.block_ns = ns * threads / (10 * p.room / BLOCK_BYTES);
      struct outcome without = simulate(&p, false), with = simulate(&p, true);
      CHECK(without.longest_ns > ns / 10 * 8);
      /* (Where so much is asked of so little room that nobody could wait long enough at a time, it is only better.) */
      bool can = threads * ns / 1000 * BLOCK_BYTES / (p.room / 2) * 1000 < MOST;
      CHECK(with.longest_ns <= (can ? MOST : without.longest_ns / 4 * 3));
      CHECK(with.taken >= p.room / 10 * 9);
    }
}

/* The cycle takes half as long again as was expected: still no long stall. If it takes four times as long, there is one. */
static void later_than_expected(void) {
  struct program p = {1024 * MIB, 600 * NS_PER_MS, 400 * NS_PER_MS, 2, 0};
  p.block_ns = p.cycle_ns / (4 * p.room / BLOCK_BYTES);
  CHECK(simulate(&p, true).longest_ns <= MOST);
  p.cycle_ns = 1600 * NS_PER_MS;
  struct outcome without = simulate(&p, false), with = simulate(&p, true);
  CHECK(with.longest_ns < without.longest_ns * 9 / 10);
}

static void extremes(void) {
  struct pacing_room r = {0, 0, 0, 0};
  CHECK_EQ(pacing_delay(&r, 1, 5), 5); /* no room */
  r = (struct pacing_room){1, 0, UINT64_MAX, UINT32_MAX};
  CHECK_EQ(pacing_delay(&r, UINT64_MAX, 5), 5);
  r = (struct pacing_room){UINT64_MAX, 0, 1000, 1};
  CHECK_EQ(pacing_delay(&r, BLOCK_BYTES, 5), 0);
}

/* --- a heap ----------------------------------------------------------------------------------------------------- */

static struct kit kit;

static gch_stalls stalls(void) {
  gch_stalls s;
  gch_stalls_get(kit.m, &s, sizeof s);
  return s;
}

/* A major is held up. Nothing happens before half of the room is used, then each is slowed down a little, until it has ended. */
static void large_objects_are_slowed_down(void) {
  gch_config c = kit_config(GCH_MOVER_AUTO, 64, 1024);
  struct kit_request request;
  if (!kit_open(&kit, &c)) return;
  GCH_FRAME(kit.m, root, 1);
  root[0] = kit_bytes(&kit, 24 * MIB);
  hold_before_marking(&kit, &request, GCH_POLICY_NEEDED);
  uint64_t from = at_load(&kit.heap->brake.from);
  CHECK(from >= 40 * MIB && from <= 50 * MIB);
  while (at_load(&kit.heap->used_bytes) < from) CHECK(kit_bytes(&kit, MIB) != NULL);
  CHECK_EQ(stalls().count[GCH_STALL_PACE], 0);
  for (int i = 0; i < 8; i++) CHECK(kit_bytes(&kit, MIB) != NULL);
  gch_stalls now = stalls();
  CHECK(now.count[GCH_STALL_PACE] >= 2 && now.count[GCH_STALL_PACE] <= 8);
  CHECK(now.ns[GCH_STALL_PACE] >= now.count[GCH_STALL_PACE] * 100000);
  CHECK(now.ns[GCH_STALL_PACE] <=
        now.count[GCH_STALL_PACE] * (MOST + 50 * NS_PER_MS)); /* (the machine is not ours alone) */
  hold_off(&kit, &request);
  CHECK_EQ(at_load(&kit.heap->brake.from), UINT64_MAX);
  while (at_load(&kit.heap->used_bytes) < from) CHECK(kit_bytes(&kit, MIB) != NULL);
  CHECK_EQ(stalls().count[GCH_STALL_PACE], now.count[GCH_STALL_PACE]);
  CHECK_EQ(stalls().count[GCH_STALL_LIMIT], 0);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* Eden is taken as fast as ever where nothing of it becomes old, and slowed down where all does. */
static void eden_by_what_becomes_old(void) {
  for (int keeps = 0; keeps < 2; keeps++) {
    gch_config c = kit_config(GCH_MOVER_AUTO, 64, 1024);
    struct kit_request request;
    if (!kit_open(&kit, &c)) return;
    GCH_FRAME(kit.m, root, 2);
    root[0] = kit_bytes(&kit, 8 * MIB);
    root[1] = kit_refs(&kit, 200000);
    for (uint64_t i = 0; i < 200000; i++) kit_put_node(&kit, &root[1], keeps ? i : 0, i);
    uint64_t part = pace_of_eden(kit.heap);
    CHECK(keeps ? part > BLOCK_BYTES / 2 : part < BLOCK_BYTES / 32);
    hold_before_marking(&kit, &request, GCH_POLICY_NEEDED);
    while (at_load(&kit.heap->used_bytes) < at_load(&kit.heap->brake.from)) CHECK(kit_bytes(&kit, MIB) != NULL);
    at_store(&kit.heap->brake.expected_ns, 2 * NS_PER_S);
    uint64_t before = stalls().count[GCH_STALL_PACE];
    for (uint64_t i = 0; i < 50000; i++) kit_put_node(&kit, &root[1], keeps ? i : 0, i); /* two MiB of them */
    if (keeps) CHECK(stalls().count[GCH_STALL_PACE] >= before + 2);
    if (!keeps) CHECK(stalls().count[GCH_STALL_PACE] <= before + 1);
    hold_off(&kit, &request);
    GCH_FRAME_END(kit.m);
    kit_close(&kit);
  }
}

int main(void) {
  kit_growth = GCH_GROWTH_NEVER;
  kit_watchdog(60);
  RUN(slow_enough);
  RUN(too_fast);
  RUN(later_than_expected);
  RUN(extremes);
  if (kit_available(GCH_MOVER_MOVE) || kit_available(GCH_MOVER_COPY) || kit_available(GCH_MOVER_SIMULATED)) {
    RUN(large_objects_are_slowed_down);
    RUN(eden_by_what_becomes_old);
  }
  return CHECK_SUMMARY();
}
