/* The address space ends while a heap lives (RLIMIT_AS). At what is mapped already: nothing is different, because a collection
 * takes no addresses that the heap does not have. Below it, so that the kernel refuses every mapping, those over mapped
 * addresses included: collections complete with less ambition where they need that, and nothing is lost. When the limit is lifted
 * they are as before. */
#include <sys/resource.h>
#include <sys/wait.h>

#include "kit.h"
#include "mover/mover.h"
#include "os/pages.h"

enum { COUNT = 4000, LIST = 30000 };

static gch_mover mover;
static gch_fault_mode faults;

static uint64_t refused_calls(const gch_heap *h) {
  uint64_t failures = 0;
  for (int call = 0; call < KERNEL_CALL_COUNT; call++)
    if (call != KERNEL_READ) failures += at_load(&h->kernel.counters[call].failures);
  return failures;
}

enum limit { NO_LIMIT, AT_USE, BELOW_USE };

static bool limit_to(enum limit to) {
  struct pages_memory memory;
  struct rlimit limit;
  if (pages_memory_read(&memory) != 0 || getrlimit(RLIMIT_AS, &limit) != 0) return false;
  limit.rlim_cur = to == NO_LIMIT ? limit.rlim_max : to == AT_USE ? memory.virtual_bytes : memory.virtual_bytes / 2;
  return setrlimit(RLIMIT_AS, &limit) == 0;
}

/* A table of nodes and leaf memory, with large objects in between, and a list: a deep stack for the mark. */
static void fill(struct kit *k, gch_ref *root) {
  root[0] = kit_refs(k, COUNT);
  for (uint64_t i = 0; i < COUNT; i++) {
    kit_put_node(k, &root[0], i, i);
    gch_ref leaf = kit_bytes(k, i % 50 == 0 ? 20000 : 100 + i % 300);
    memset(gch_slot(leaf, KIT_BYTES), (int)(i % 251), 100);
    gch_set(k->m, kit_at(root[0], i), KIT_A, leaf);
  }
  for (uint64_t i = 0; i < LIST; i++) {
    gch_ref node = kit_node(k, i);
    gch_set(k->m, node, KIT_B, root[1]);
    gch_set(k->m, node, KIT_C, root[0]);
    root[1] = node;
  }
}

static bool is_right(gch_ref *root) {
  for (uint64_t i = 0; i < COUNT; i++) {
    gch_ref node = kit_at(root[0], i);
    if (!CHECK_EQ(*kit_number(node), i)) return false;
    if (!CHECK_EQ(*(uint8_t *)gch_slot(gch_load(node, KIT_A), KIT_BYTES + 99), i % 251)) return false;
  }
  uint64_t expected = LIST;
  for (gch_ref o = root[1]; o != NULL; o = gch_load(o, KIT_B))
    if (!CHECK_EQ(*kit_number(o), --expected)) return false;
  return CHECK_EQ(expected, 0);
}

/* Garbage between what lives, so that there is something to move. */
static void churn(struct kit *k, gch_ref *root, uint64_t round) {
  for (uint64_t i = round % 2; i < COUNT; i += 2) {
    gch_ref node = kit_node(k, i);
    if (!CHECK(node != NULL)) return;
    gch_set(k->m, node, KIT_A, gch_load(kit_at(root[0], i), KIT_A));
    kit_put(k, root[0], i, node);
  }
}

static void collect_all_ways(struct kit *k, gch_ref *root, uint32_t *degraded) {
  for (int concurrent = 0; concurrent < 2; concurrent++)
    for (int policy = 0; policy < GCH_POLICY_COUNT; policy++) {
      churn(k, root, (uint64_t)policy);
      kit_minor(k, policy % 2);
      gch_cycle r = kit_major(k, (gch_policy)policy, concurrent, true);
      *degraded += r.degraded != 0;
      if (r.degraded) CHECK(strlen(r.reason) > 10);
      if (!is_right(root) || !kit_verify(k)) return;
    }
}

/* In a child: a limit that is met may leave the C library without memory, too. */
static int live_on(enum limit to) {
  struct kit k;
  uint32_t degraded = 0, after = 0;
  gch_config c = kit_config(mover, 64, 1024);
  c.fault_mode = faults;
  c.gc_threads = 2;
  check_failures = 0;
  if (!kit_open(&k, &c)) return 2;
  GCH_FRAME(k.m, root, 2);
  fill(&k, root);
  kit_major(&k, GCH_POLICY_ALL, k.heap->mover->concurrent, true);
  uint64_t before = refused_calls(k.heap);
  if (!limit_to(to)) return 3;
  collect_all_ways(&k, root, &degraded);
  uint64_t refused = refused_calls(k.heap) - before;
  if (getenv("V")) printf("    refused %llu degraded %u\n", (unsigned long long)refused, degraded);
  CHECK(limit_to(NO_LIMIT));
  uint32_t never = k.heap->mover->concurrent ? 0 : GCH_POLICY_COUNT - 1; /* what the mover cannot do at all */
  if (to == AT_USE) CHECK_EQ(degraded, never);
  if (to == AT_USE) CHECK_EQ(refused, 0);
  collect_all_ways(&k, root, &after); /* the first may find no empty region yet, and makes one */
  after = 0;
  collect_all_ways(&k, root, &after);
  CHECK_EQ(after, never);
  GCH_FRAME_END(k.m);
  kit_close(&k);
  if (getenv("V")) fflush(NULL);
  return check_failures != 0 ? 2 : refused != 0;
}

/* 1: the limit was met. */
static int in_child(enum limit to) {
  int status = 0;
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    alarm(60);
    _exit(live_on(to));
  }
  waitpid(child, &status, 0);
  bool good = CHECK(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
  if (!good) printf("    %s limit %d: status %x\n", gch_mover_name(mover), to, (unsigned)status);
  return good ? WEXITSTATUS(status) : 2;
}

static void limits(gch_fault_mode mode) {
  faults = mode;
  for (size_t i = 0; i < KIT_MOVER_COUNT; i++) {
    mover = KIT_MOVERS[i];
    if (!kit_available(mover) || (mode == GCH_FAULT_SIGNAL && mover > GCH_MOVER_COPY)) continue;
    CHECK_EQ(in_child(AT_USE), 0);
    int met = in_child(BELOW_USE);
    if (mover <= GCH_MOVER_COPY) CHECK_EQ(met, 1); /* flips map */
  }
}

static void with_a_fault_thread(void) { limits(GCH_FAULT_THREAD); }
static void in_signal_mode(void) { limits(GCH_FAULT_SIGNAL); }

int main(void) {
  if (KIT_SANITIZED) {
    printf("  SKIP test_address_space: the sanitizers need the address space\n");
    return CHECK_EXIT_SKIPPED;
  }
  kit_watchdog(100);
  RUN(with_a_fault_thread);
  RUN(in_signal_mode);
  return CHECK_SUMMARY();
}
