/* Large objects are born in steps: others allocate and stop the world between them, and whatever a collection, fork() or the
 * kernel does then, the object is there and zero in the end, or nothing of it is left. */
#include <sys/wait.h>

#include "hold.h"
#include "mover/mover.h"

enum { OBJECT = 9 << 20, NEIGHBOUR = 300000, NEIGHBOURS = 12, SKEW = 20000 };

/* ThreadSanitizer ends a child that starts threads, unless told otherwise. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0:detect_deadlocks=0"; }

static struct kit kit;
static void (*at_step)(uint32_t step); /* called by the thread that bears an object */
static uint32_t steps, given_up, bearing; /* [atomic] */
static pthread_t bearer;

static void on_point(const char *name) {
  hold_worker(name);
  if (!at_load(&bearing) || !pthread_equal(pthread_self(), bearer)) return;
  if (strcmp(name, "large_given_up") == 0) at_add(&given_up, 1);
  if (strcmp(name, "large_step") == 0) at_step(at_add(&steps, 1) + 1);
}

/* A new object, in the thread that calls, with `fn` after each of its steps. */
static gch_ref bear(struct kit *k, bool leaf, void (*fn)(uint32_t step)) {
  at_step = fn;
  bearer = pthread_self();
  at_store(&steps, 0);
  at_store(&given_up, 0);
  at_store(&gch_hook_fn, on_point);
  at_store(&bearing, 1);
  gch_ref object = leaf ? kit_bytes(k, OBJECT) : kit_refs(k, OBJECT / 8);
  at_store(&bearing, 0);
  return object;
}

static bool is_zero(gch_ref object, uint64_t bytes) {
  const uint64_t *words = (const uint64_t *)(const void *)gch_slot(object, 16);
  for (uint64_t i = 0; i < bytes / 8; i++)
    if (words[i] != 0) return false;
  return true;
}

static uint32_t unborn(void) {
  uint32_t count = 0;
  lock_lock(&kit.heap->large.lock);
  for (uint32_t id = 1; id < kit.heap->large.count; id++) count += kit.heap->large.entries[id].birth != 0;
  lock_unlock(&kit.heap->large.lock);
  return count;
}

/* Objects around the one to come, every second of them dead, of all sizes of holes: filled, so that old memory is not zero. */
static void settle_neighbours(gch_ref *table) {
  *table = kit_refs(&kit, NEIGHBOURS);
  for (uint64_t i = 0; i < 2 * NEIGHBOURS; i++) {
    gch_ref o = i % 4 < 2 ? kit_bytes(&kit, NEIGHBOUR + SKEW * i) : kit_refs(&kit, (NEIGHBOUR + SKEW * i) / 8);
    memset(gch_slot(o, 16), i % 4 < 2 ? (int)i : 0, NEIGHBOUR);
    if (i % 2 == 0) kit_put(&kit, *table, i / 2, o);
  }
}

static void check_neighbours(gch_ref table) {
  for (uint64_t i = 0; i < 2 * NEIGHBOURS; i += 4) {
    const unsigned char *bytes = (const unsigned char *)(const void *)gch_slot(kit_at(table, i / 2), 16);
    uint64_t same = 0;
    while (same < NEIGHBOUR && bytes[same] == i) same++;
    CHECK_EQ(same, NEIGHBOUR);
  }
}

static bool open_kind(gch_mover mover, bool huge) {
  gch_config c = kit_config(mover, 128, 1024);
  c.huge = huge ? GCH_HUGE_ON : GCH_HUGE_OFF;
  c.gc_threads = 2;
  return kit_available(mover) && kit_open(&kit, &c);
}

/* Waits, managed, until somebody wants to stop the world. */
static void until_stop(void) {
  while (!gch_poll(kit.m)) usleep(100);
}

/* --- others ----------------------------------------------------------------------------------------------------- */

static pthread_t other;
static uint32_t waited;

static void *alloc_large_too(void *arg) {
  struct kit k = kit;
  if (gch_attach(k.heap, &k.m, NULL) != GCH_OK) return arg;
  CHECK(kit_bytes(&k, 100000) != NULL && kit_refs(&k, 100000) != NULL && kit_node(&k, 1) != NULL);
  gch_detach(k.m);
  return NULL;
}

static void join_in_time(uint32_t step) {
  struct timespec until;
  if (step != 1) return;
  pthread_create(&other, NULL, alloc_large_too, NULL);
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += 10;
  waited = pthread_timedjoin_np(other, NULL, &until) != 0;
}

static void others_allocate_meanwhile(void) {
  for (int huge = 0; huge < 2; huge++) {
    if (!open_kind(GCH_MOVER_MEMCPY, huge)) return;
    CHECK(bear(&kit, true, join_in_time) != NULL);
    CHECK(!waited);
    if (waited) kit_join(&kit, other);
    CHECK(at_load(&steps) >= 4);
    CHECK_EQ(at_load(&given_up), 0);
    kit_verify(&kit);
    kit_close(&kit);
  }
}

/* --- pauses ----------------------------------------------------------------------------------------------------- */

static gch_policy policy;
static bool minor;
static uint64_t collections;

static uint64_t collected(void) {
  return at_load(&kit.heap->measures.minor_count) + at_load(&kit.heap->measures.major_count);
}

static void *collect(void *arg) {
  struct kit k = kit;
  if (gch_attach(k.heap, &k.m, NULL) != GCH_OK) return arg;
  if (minor)
    kit_minor(&k, true);
  else
    kit_major(&k, policy, false, true);
  kit_verify(&k);
  gch_detach(k.m);
  return NULL;
}

/* After the first step somebody asks for a pause: it comes before the second. (It is counted when it is over.) */
static void pause_between(uint32_t step) {
  if (step == 1) {
    collections = collected();
    pthread_create(&other, NULL, collect, NULL);
    until_stop();
  } else if (step == 2) {
    for (int i = 0; i < 10000 && collected() == collections; i++) usleep(1000);
    CHECK(collected() > collections);
  }
}

static void bear_amid_pauses(gch_mover mover, bool huge, bool leaf) {
  if (!open_kind(mover, huge)) return;
  GCH_FRAME(kit.m, root, 2);
  settle_neighbours(&root[0]);
  for (int i = 0; i < 1 + GCH_POLICY_COUNT; i++) {
    minor = i == 0;
    policy = (gch_policy)(i == 0 ? 0 : i - 1);
    root[1] = bear(&kit, leaf, pause_between);
    kit_join(&kit, other);
    CHECK(root[1] != NULL && is_zero(root[1], OBJECT - 16));
    CHECK_EQ(at_load(&given_up), 0);
    CHECK_EQ(unborn(), 0);
    kit_verify(&kit);
    check_neighbours(root[0]);
    kit_major(&kit, GCH_POLICY_ALL, false, true);
    CHECK(is_zero(root[1], OBJECT - 16));
    memset(gch_slot(root[1], 16), 0, OBJECT - 16);
  }
  check_neighbours(root[0]);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static void pauses_between_steps(void) {
  for (size_t i = 0; i < KIT_MOVER_COUNT; i++)
    for (int kind = 0; kind < 4; kind++) bear_amid_pauses(KIT_MOVERS[i], kind & 1, kind >> 1);
}

/* --- flips ------------------------------------------------------------------------------------------------------ */

static struct kit_request request;
static uint32_t flip_seen;

/* The cycle begins after the first step. No step is over before the next pause is asked for, until it has flipped: so each of
 * its pauses comes upon what is half born. */
static void flip_between(uint32_t step) {
  gch_heap *h = kit.heap;
  if (step == 1) {
    collections = at_load(&h->measures.major_count);
    kit_begin(&kit, &request, policy);
  }
  while (!at_load(&flip_seen) && at_load(&h->measures.major_count) == collections) {
    if (at_load(&h->phase) >= GCH_PHASE_MOVE) at_store(&flip_seen, 1);
    if (gch_poll(kit.m)) return; /* not world.stop, which is set before: several steps would pass */
    usleep(100);
  }
}

static void bear_amid_flip(bool leaf, bool held_up) {
  GCH_FRAME(kit.m, root, 2);
  settle_neighbours(&root[0]);
  hold_on(held_up);
  at_store(&flip_seen, 0);
  root[1] = bear(&kit, leaf, flip_between);
  CHECK(root[1] != NULL && is_zero(root[1], OBJECT - 16));
  CHECK(at_load(&steps) > 4);
  CHECK(at_load(&given_up) >= 1);
  if (held_up && !leaf) CHECK_EQ(unborn(), 1); /* left to the end of the cycle */
  at_store(&hold, 0);
  kit_end(&kit, &request);
  hold_on(false);
  if (!CHECK(kit.heap->measures.last_major.concurrent)) fprintf(stderr, "%s\n", kit.heap->measures.last_major.reason);
  CHECK_EQ(unborn(), 0);
  CHECK(is_zero(root[1], OBJECT - 16));
  kit_verify(&kit);
  check_neighbours(root[0]);
  root[1] = NULL;
  kit_major(&kit, GCH_POLICY_ALL, true, true);
  check_neighbours(root[0]);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
}

static void flips_between_steps(void) {
  bool some = false;
  for (size_t i = 0; i < 3; i++)
    for (int kind = 0; kind < 8; kind++) {
      if (!open_kind(KIT_MOVERS[i], kind & 1)) continue;
      some = true;
      policy = kind >> 2 == (kind & 1) ? GCH_POLICY_NEEDED : GCH_POLICY_ALL;
      bear_amid_flip(kind >> 1 & 1, kind >> 2);
      kit_close(&kit);
    }
  if (!some) SKIP("faults", "no mover has them here");
}

/* --- fork() ----------------------------------------------------------------------------------------------------- */

static uint32_t half_born; /* [atomic] */

static void wait_for_fork(uint32_t step) {
  if (step != 2) return;
  at_store(&half_born, 1);
  until_stop();
}

static void *bear_aside(void *arg) {
  struct kit k = kit;
  if (gch_attach(k.heap, &k.m, NULL) != GCH_OK) return arg;
  gch_ref o = bear(&k, false, wait_for_fork);
  CHECK(o != NULL && is_zero(o, OBJECT - 16));
  gch_detach(k.m);
  return NULL;
}

static int child(uint64_t used) {
  check_failures = 0;
  CHECK_EQ(unborn(), 0);
  CHECK_EQ(at_load(&kit.heap->used_bytes), used);
  kit_verify(&kit);
  gch_ref o = kit_refs(&kit, OBJECT / 8);
  CHECK(o != NULL && is_zero(o, OBJECT - 16));
  kit_major(&kit, GCH_POLICY_ALL, kit.heap->mover->concurrent, true);
  kit_verify(&kit);
  return check_failures != 0;
}

static void fork_between(gch_mover mover, bool huge) {
  if (!open_kind(mover, huge)) return;
  GCH_FRAME(kit.m, root, 1);
  settle_neighbours(&root[0]);
  uint64_t used = at_load(&kit.heap->used_bytes);
  pthread_t thread;
  int status = -1;
  at_store(&half_born, 0);
  pthread_create(&thread, NULL, bear_aside, NULL);
  while (!at_load(&half_born)) gch_safepoint(kit.m);
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) _exit(child(used));
  kit_join(&kit, thread);
  CHECK_EQ(waitpid(pid, &status, 0), pid);
  CHECK_EQ(status, 0);
  CHECK_EQ(unborn(), 0);
  check_neighbours(root[0]);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

static void forks_between_steps(void) {
  for (size_t i = 0; i < KIT_MOVER_COUNT; i++)
    for (int huge = 0; huge < 2; huge++) fork_between(KIT_MOVERS[i], huge);
}

/* --- no memory -------------------------------------------------------------------------------------------------- */

static void refuse_the_next(uint32_t step) {
  if (step == 3) CHECK_EQ(gch_inject(kit.heap, "populate:ENOMEM", NULL), GCH_OK);
}

static void refused_between_steps(void) {
  for (int kind = 0; kind < 4; kind++) {
    if (!open_kind(GCH_MOVER_MEMCPY, kind & 1)) return;
    uint64_t used = at_load(&kit.heap->used_bytes);
    CHECK(bear(&kit, kind >> 1, refuse_the_next) == NULL);
    CHECK(strstr(gch_last_error(kit.m)->message, "no room") != NULL);
    CHECK_EQ(unborn(), 0);
    CHECK_EQ(at_load(&kit.heap->used_bytes), used);
    gch_inject(kit.heap, "", NULL);
    kit_verify(&kit);
    gch_ref o = kit_bytes(&kit, OBJECT);
    CHECK(o != NULL && is_zero(o, OBJECT - 16));
    kit_close(&kit);
  }
}

int main(void) {
  kit_watchdog(100);
  RUN(others_allocate_meanwhile);
  RUN(pauses_between_steps);
  RUN(flips_between_steps);
  RUN(forks_between_steps);
  RUN(refused_between_steps);
  at_store(&gch_hook_fn, NULL);
  return CHECK_SUMMARY();
}
