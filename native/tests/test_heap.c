/* Heaps as values: nothing is left behind, whatever fails on the way; configurations; limits; a full heap. */
#include "gcheap/heap.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "kit.h"
#include "mover/mover.h"
#include "os/pages.h"

static bool same(struct kit_holdings before, const char *what) {
  struct kit_holdings now = kit_settled(before);
  bool good = now.tasks == before.tasks && now.fds == before.fds && (KIT_SANITIZED || now.maps <= before.maps);
  if (!good)
    printf("    %s: threads %d, were %d; descriptors %d, were %d; mappings %d, were %d\n", what, now.tasks,
           before.tasks, now.fds, before.fds, now.maps, before.maps);
  return CHECK(good);
}

static void use(struct kit *k, bool concurrent) {
  GCH_FRAME(k->m, root, 2);
  root[0] = kit_refs(k, 3000);
  for (uint64_t i = 0; i < 30000; i++) kit_put_node(k, &root[0], i % 3000, i);
  for (int i = 0; i < 3; i++) kit_major(k, (gch_policy)i, concurrent, true);
  for (uint64_t i = 0; i < 3000; i++)
    if (!CHECK_EQ(*kit_number(kit_at(root[0], i)), 27000 + i)) break;
  GCH_FRAME_END(k->m);
}

/* --- nothing is left ------------------------------------------------------------------------------------------ */

static void created_used_destroyed(void) {
  for (size_t m = 0; m < KIT_MOVER_COUNT; m++)
    for (int signal = 0; signal < 2; signal++) {
      struct kit k;
      gch_config c = kit_config(KIT_MOVERS[m], 64, 512);
      c.fault_mode = (gch_fault_mode)signal;
      if (!kit_available(KIT_MOVERS[m])) continue;
      if (!kit_open(&k, &c)) return; /* the first leaves malloc's arenas and stacks of threads behind */
      use(&k, true);
      kit_close(&k);
      struct kit_holdings before = kit_holdings();
      for (int i = 0; i < 3; i++) {
        if (!kit_open(&k, &c)) return;
        use(&k, i & 1);
        kit_close(&k);
      }
      same(before, gch_mover_name(KIT_MOVERS[m]));
    }
}

/* Each call that creation makes fails once, at its first, second, ... time. */
static void failing_creation(void) {
  static const char *const calls[] = {"mmap:ENOMEM",     "mprotect:ENOMEM", "uffd_open:EPERM",
                                      "register:ENOMEM", "memfd:EMFILE",    "ftruncate:ENOMEM"};
  char spec[64];
  gch_config c = kit_config(kit_available(GCH_MOVER_MOVE) ? GCH_MOVER_MOVE : GCH_MOVER_MEMCPY, 64, 512);
  gch_heap *heap;
  if (CHECK_EQ(gch_heap_create(&c, &heap, NULL), GCH_OK)) gch_heap_destroy(heap, NULL);
  struct kit_holdings before = kit_holdings();
  for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
    int failures = 0;
    for (int nth = 1; nth <= 60; nth += KIT_SANITIZED ? 9 : 1) {
      gch_error error = {0};
      snprintf(spec, sizeof spec, "%s@nth=%d", calls[i], nth);
      c.inject = spec;
      gch_status status = gch_heap_create(&c, &heap, &error);
      if (status == GCH_OK) {
        gch_heap_destroy(heap, NULL);
        continue;
      }
      failures++;
      CHECK(heap == NULL && strlen(error.message) > 20);
      CHECK_EQ(error.status, status);
    }
    if (i < 2) CHECK(failures > 0);
    if (!same(before, spec)) return;
  }
}

static void two_heaps(void) {
  struct kit a, b;
  gch_config first = kit_config(GCH_MOVER_AUTO, 64, 512), second = kit_config(GCH_MOVER_MEMCPY, 64, 256);
  if (!kit_open(&a, &first) || !kit_open(&b, &second)) return;
  for (int i = 0; i < 3; i++) use(&a, true), use(&b, false);
  gch_ref in_a = kit_node(&a, 1), out = NULL;
  CHECK_EQ(gch_pin(b.m, in_a, NULL), GCH_BAD_VALUE); /* of the other heap */
  CHECK_EQ(gch_field_load(b.m, in_a, KIT_A, &out), GCH_BAD_VALUE);
  kit_verify(&a), kit_verify(&b);
  kit_close(&a), kit_close(&b);
}

/* --- configuration -------------------------------------------------------------------------------------------- */

static void refused(gch_config c, const char *words) {
  gch_heap *heap = (gch_heap *)&c;
  gch_error error = {0};
  CHECK_EQ(gch_heap_create(&c, &heap, &error), GCH_BAD_VALUE);
  CHECK(heap == NULL);
  if (!CHECK(strstr(error.message, words) != NULL)) printf("    \"%s\" in \"%s\"\n", words, error.message);
}

static void bad_configurations(void) {
  gch_config good = kit_config(GCH_MOVER_MEMCPY, 16, 256), c;
  struct kit_holdings before = kit_holdings();
  c = good, c.struct_bytes = 8, refused(c, "struct_bytes is 8");
  c = good, c.mover = (gch_mover)77, refused(c, "mover is 77");
  c = good, c.fault_mode = (gch_fault_mode)2, refused(c, "fault_mode is 2");
  c = good, c.huge = (gch_huge)7, refused(c, "huge is 7");
  c = good, c.huge_faults = (gch_huge_faults)7, refused(c, "huge_faults is 7");
  c = good, c.max_bytes = 5, refused(c, "max_bytes is 5");
  c = good, c.max_bytes = UINT64_MAX, refused(c, "max_bytes is 18446744073709551615");
  c = good, c.max_bytes = (uint64_t)1 << 45, refused(c, "max_bytes is");
  c = good, c.max_bytes = (uint64_t)1 << 42, refused(c, "max_bytes is 4398046511104, expected at most");
  c = good, c.nursery_bytes = UINT64_MAX, refused(c, "nursery_bytes is");
  c = good, c.nursery_bytes = 8 << 20, refused(c, "nursery_bytes is 8388608, expected at most 4194304");
  c = good, c.nursery_bytes = 1000, refused(c, "nursery_bytes is 1000, expected at least 262144");
  c = good, c.decay_ms = 3600001, refused(c, "decay_ms is 3600001, expected at most 3600000, GCH_DECAY_NEVER");
  c = good, c.pause_target_ns = 1, refused(c, "pause_target_ns is 1, expected 0 (2 ms), or 50000 to");
  c = good, c.pause_target_ns = UINT64_MAX, refused(c, "pause_target_ns is 18446744073709551615, expected");
  c = good, c.staging_bytes = UINT64_MAX, refused(c, "staging_bytes is");
  c = good, c.staging_bytes = 4096, refused(c, "staging_bytes is 4096, expected at least 524288");
  c = good, c.gc_threads = 65, refused(c, "gc_threads is 65");
  c = good, c.promote_age = 8, refused(c, "promote_age is 8");
  c = good, c.event_capacity = 1000, refused(c, "event_capacity is 1000");
  c = good, c.event_capacity = (uint32_t)1 << 31, refused(c, "event_capacity is 2147483648");
  c = good, c.geometry_page = 3, refused(c, "geometry_page is 3");
  c = good, c.inject = "nonsense", refused(c, "inject");
  same(before, "bad configurations");
}

/* What is accepted can be had (addresses, that is), and what is in force can be read. */
static void largest_configurations(void) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 16, 0);
  gch_error error = {0};
  gch_heap *heap;
  gch_stats s;
  if (KIT_SANITIZED) SKIP("largest_configurations", "the sanitizers need the address space");
  c.max_bytes = (uint64_t)1 << 43;
  CHECK_EQ(gch_heap_create(&c, &heap, &error), GCH_BAD_VALUE);
  const char *most = strstr(error.message, "at most ");
  if (!CHECK(most != NULL)) return;
  c.max_bytes = strtoull(most + 8, NULL, 10);
  CHECK(c.max_bytes > (uint64_t)1 << 41);
  if (!CHECK_EQ(gch_heap_create(&c, &heap, &error), GCH_OK)) {
    fprintf(stderr, "%s\n", error.message);
    return;
  }
  gch_stats_get(heap, &s, sizeof s);
  CHECK_EQ(s.max_bytes, c.max_bytes);
  CHECK(s.nursery_bytes >= 512 << 10 && s.nursery_bytes <= 4 << 20); /* by the cache */
  CHECK_EQ(s.staging_bytes, 32 << 20);
  gch_heap_destroy(heap, NULL);
  c.max_bytes += BLOCK_BYTES;
  refused(c, "max_bytes is");
  c = kit_config(GCH_MOVER_MEMCPY, 16, 300);
  c.staging_bytes = 1000001;
  if (!CHECK_EQ(gch_heap_create(&c, &heap, NULL), GCH_OK)) return;
  gch_stats_get(heap, &s, sizeof s);
  CHECK_EQ(s.nursery_bytes, 320 << 10);
  CHECK_EQ(s.staging_bytes, 16 * BLOCK_BYTES);
  gch_heap_destroy(heap, NULL);
}

/* Room for events costs memory when there are events. */
static void room_for_events(void) {
  struct pages_memory before, after;
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 16, 256);
  gch_stats s;
  c.event_capacity = 1 << 24;
  c.gc_threads = 1;
  if (!CHECK_EQ(pages_memory_read(&before), 0) || !kit_open(&k, &c) || !CHECK_EQ(pages_memory_read(&after), 0)) return;
  if (!KIT_SANITIZED) CHECK(after.rss_anon_bytes < before.rss_anon_bytes + ((uint64_t)64 << 20));
  gch_stats_get(k.heap, &s, sizeof s);
  CHECK_EQ(s.events_lost, 0);
  kit_close(&k);
  c.event_capacity = 4;
  if (!kit_open(&k, &c)) return;
  kit_minor(&k, false);
  kit_major(&k, GCH_POLICY_ALL, false, true);
  uint64_t sequence = 0, lost = 0;
  gch_event events[8];
  CHECK_EQ(gch_events_read(k.heap, &sequence, events, 8, &lost), 4);
  gch_stats_get(k.heap, &s, sizeof s);
  CHECK(lost > 4);
  CHECK_EQ(s.events_lost, lost);
  kit_close(&k);
}

/* Pages of the tables that are in memory. */
static uint64_t resident(const void *table, uint64_t bytes) {
  uint64_t pages = bytes / 4096, count = 0;
  unsigned char *in = malloc(pages);
  if (CHECK_EQ(mincore((void *)(uintptr_t)table, pages * 4096, in), 0))
    for (uint64_t i = 0; i < pages; i++) count += in[i] & 1;
  free(in);
  return count * 4096;
}

static void check_table_bytes(struct kit *k, uint64_t least, uint64_t most) {
  const struct tables *t = &k->heap->tables;
  uint64_t span = k->heap->layout.span;
  gch_stats s;
  gch_stats_get(k->heap, &s, sizeof s);
  uint64_t held = resident(t->live, span / 128) + resident(t->mark, span / 128) +
                  resident(t->cards, span / CARD_BYTES) + resident(t->lines, (span >> LINE_SHIFT) * sizeof *t->lines) +
                  resident(t->blocks, (span >> BLOCK_SHIFT) * sizeof *t->blocks) +
                  resident(t->large_ids, (span >> k->heap->layout.page_shift) * sizeof *t->large_ids);
  if (!CHECK(held <= s.table_bytes && s.table_bytes >= least && s.table_bytes <= most))
    printf("    %llu KiB of tables are said, %llu are there\n", (unsigned long long)s.table_bytes >> 10,
           (unsigned long long)held >> 10);
}

static void memory_of_side_tables(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_AUTO, 256, 1024);
  if (sysconf(_SC_PAGESIZE) != 4096) SKIP("memory_of_side_tables", "pages of another size");
  c.huge = GCH_HUGE_OFF;
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  check_table_bytes(&k, 1, 16 << 20);
  root[0] = kit_refs(&k, 1000000);
  for (uint64_t i = 0; i < 1000000; i++) kit_put_node(&k, &root[0], i, i);
  kit_major(&k, GCH_POLICY_ALL, true, true);
  check_table_bytes(&k, 2 << 20, 40 << 20);
  root[0] = NULL;
  for (int i = 0; i < 2; i++) kit_major(&k, GCH_POLICY_ALL, i == 0, true);
  check_table_bytes(&k, 1, 16 << 20);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void bad_calls(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 16, 256);
  gch_collect_options o;
  gch_error error = {0};
  if (!kit_open(&k, &c)) return;
  gch_collect_options_init(&o);
  o.struct_bytes = 1;
  CHECK_EQ(gch_collect(k.m, &o, NULL), GCH_BAD_VALUE);
  gch_collect_options_init(&o);
  o.policy = (gch_policy)9;
  CHECK_EQ(gch_collect(k.m, &o, NULL), GCH_BAD_VALUE);
  CHECK(strstr(gch_last_error(k.m)->message, "policy is 9") != NULL);
  static const struct {
    bool minor, concurrent, promote;
    gch_policy policy;
    const char *words;
  } ignored[] = {{true, true, false, GCH_POLICY_NEEDED, "concurrent is set with minor"},
                 {true, false, false, GCH_POLICY_ALL, "policy is 1 with minor"},
                 {false, false, true, GCH_POLICY_NEEDED, "promote is set without minor"}};
  for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) {
    gch_collect_options_init(&o);
    o.minor = ignored[i].minor, o.concurrent = ignored[i].concurrent;
    o.promote = ignored[i].promote, o.policy = ignored[i].policy;
    CHECK_EQ(gch_collect(k.m, &o, NULL), GCH_BAD_VALUE);
    CHECK(strstr(gch_last_error(k.m)->message, ignored[i].words) != NULL);
  }
  CHECK_EQ(gch_inject(k.heap, "move:EWHAT", &error), GCH_BAD_VALUE);
  CHECK(gch_alloc_array(k.m, k.refs, UINT64_MAX / 8) == NULL);
  CHECK(strstr(gch_last_error(k.m)->message, "limit") != NULL);
  CHECK(gch_alloc_slow(k.m, k.node, 3) == NULL);
  CHECK(strstr(gch_last_error(k.m)->message, "has no tail") != NULL);
  gch_ref o1 = kit_node(&k, 1), out;
  CHECK_EQ(gch_field_load(k.m, o1, 8, &out), GCH_BAD_VALUE);
  CHECK_EQ(gch_field_load(k.m, o1, KIT_A + 4, &out), GCH_BAD_VALUE);
  CHECK_EQ(gch_field_load(k.m, NULL, KIT_A, &out), GCH_BAD_VALUE);
  CHECK_EQ(gch_field_store(k.m, o1, KIT_A, (gch_ref)(void *)&k), GCH_BAD_VALUE);
  CHECK_EQ(gch_field_store(k.m, o1, KIT_A, o1), GCH_OK);
  CHECK(gch_field_load(k.m, o1, KIT_A, &out) == GCH_OK && out == o1);
  kit_close(&k);
}

/* --- what the best mover needs cannot be had ------------------------------------------------------------------ */

/* The probe has found it to work, but opening it fails. */
static void auto_finds_another(void) {
  static const struct {
    const char *inject;
    bool uffd, simulated; /* which movers can be opened */
  } all[] = {{"register:EINVAL", false, true},
             {"uffd_open:EMFILE", false, true},
             {"register:EINVAL@nth=10", true, true}, /* not the first region; the next mover finds nothing in its way */
             {"register:EINVAL;memfd:EMFILE", false, false},
             {"uffd_open:EMFILE;ftruncate:EINVAL", false, false},
             {"memfd:EMFILE", true, false}};
  bool uffd = kit_available(GCH_MOVER_COPY);
  struct kit_holdings before = kit_holdings();
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    struct kit k;
    gch_stats stats;
    gch_config c = kit_config(GCH_MOVER_AUTO, 64, 512);
    c.inject = all[i].inject;
    if (!kit_open(&k, &c)) continue;
    gch_inject(k.heap, "", NULL);
    gch_stats_get(k.heap, &stats, sizeof stats);
    gch_mover expected = all[i].simulated ? GCH_MOVER_SIMULATED : GCH_MOVER_MEMCPY;
    if (uffd && all[i].uffd)
      CHECK(stats.mover == GCH_MOVER_MOVE || stats.mover == GCH_MOVER_COPY);
    else
      CHECK_EQ(stats.mover, expected);
    if (uffd && !all[i].uffd) CHECK(strstr(stats.mover_reason, "userfaultfd") != NULL); /* why not the best */
    if (!uffd && !all[i].simulated) CHECK(strstr(stats.mover_reason, "shared object") != NULL);
    if (!all[i].uffd) CHECK(strstr(stats.mover_reason, "is next") != NULL || !uffd);
    use(&k, true);
    kit_verify(&k);
    kit_close(&k);
    same(before, all[i].inject);
  }
}

/* Each mapping of creation fails in turn: a heap that can be made all the same works, whichever mover it has got. */
static void auto_with_one_failure(void) {
  char spec[80];
  for (int nth = 20; nth <= 60; nth += KIT_SANITIZED ? 8 : 1) {
    struct kit k = {0};
    gch_config c = kit_config(GCH_MOVER_AUTO, 64, 512);
    gch_error error = {0};
    snprintf(spec, sizeof spec, "register:EINVAL;mmap:EINVAL@nth=%d", nth);
    c.inject = spec;
    if (gch_heap_create(&c, &k.heap, &error) != GCH_OK) continue;
    gch_inject(k.heap, "", NULL);
    if (kit_types(&k) && CHECK_EQ(gch_attach(k.heap, &k.m, NULL), GCH_OK)) use(&k, true);
    kit_verify(&k);
    kit_close(&k);
  }
}

/* --- limits --------------------------------------------------------------------------------------------------- */

/* In a child: the limit stays. */
static int little_address_space(uint64_t limit_mib) {
  struct pages_memory memory;
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_AUTO, 16, 256);
  gch_error error = {0};
  c.gc_threads = 1;
  if (pages_memory_read(&memory) != 0) return 3;
  struct rlimit limit = {memory.virtual_bytes + (limit_mib << 20), memory.virtual_bytes + (limit_mib << 20)};
  if (setrlimit(RLIMIT_AS, &limit) != 0) return 3;
  if (gch_heap_create(&c, &k.heap, &error) != GCH_OK) {
    bool told = error.status == GCH_NO_MEMORY && strlen(error.message) > 20;
    if (!told) fprintf(stderr, "%s: %s\n", gch_status_name(error.status), error.message);
    return told ? 1 : 2;
  }
  CHECK(error.status == GCH_OK && error.message[0] == 0); /* even if a roomy one was tried */
  if (!kit_types(&k) || gch_attach(k.heap, &k.m, NULL) != GCH_OK) return 2;
  use(&k, true);
  gch_cycle r = kit_major(&k, GCH_POLICY_ALL, true, true);
  if (k.heap->layout.tight && k.heap->mover->concurrent) CHECK(r.degraded && strstr(r.reason, "addresses") != NULL);
  kit_verify(&k);
  kit_close(&k);
  return check_failures == 0 ? 0 : 2;
}

/* Whether there is a heap with so little. */
static bool lives_in(uint64_t mib) {
  fflush(NULL);
  pid_t child = fork();
  check_failures = child == 0 ? 0 : check_failures;
  if (child == 0) _exit(little_address_space(mib));
  int status = 0;
  waitpid(child, &status, 0);
  if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) <= 1))
    printf("    %llu MiB: status %x\n", (unsigned long long)mib, (unsigned)status);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* With 4 GiB there is a heap, and with all that is more: whatever a roomy one lacks, its shadow at last. */
static void address_space_limits(void) {
  if (KIT_SANITIZED) SKIP("RLIMIT_AS", "the sanitizers need the address space");
  for (uint64_t mib = 1; mib < 4096; mib *= 2) lives_in(mib);
  for (uint64_t gib = 4; gib <= 112; gib += 6)
    if (!CHECK(lives_in(gib << 10))) printf("    %llu GiB\n", (unsigned long long)gib);
}

/* Full: NULL and a message; after dropping what filled it, it is as good as new (I8). */
static void full_heap(void) {
  for (size_t m = 0; m < KIT_MOVER_COUNT; m++) {
    struct kit k;
    gch_config c = kit_config(KIT_MOVERS[m], 16, 512);
    if (!kit_available(KIT_MOVERS[m])) continue;
    if (!kit_open(&k, &c)) return;
    GCH_FRAME(k.m, root, 2);
    for (int round = 0; round < 3; round++) {
      uint64_t count = 0;
      for (;; count++) { /* a list */
        root[1] = round == 1 ? kit_refs(&k, 4000) : kit_node(&k, count);
        if (root[1] == NULL) break;
        gch_set(k.m, root[1], KIT_A, root[0]);
        root[0] = root[1];
      }
      CHECK(strstr(gch_last_error(k.m)->message, "no room for an object") != NULL);
      CHECK(count > (round == 1 ? 300u : 150000u)); /* three quarters of 16 MiB */
      kit_verify(&k);
      uint64_t length = 0;
      for (gch_ref o = root[0]; o != NULL; o = gch_load(o, KIT_A)) length++;
      CHECK_EQ(length, count);
      root[0] = NULL;
    }
    use(&k, true);
    kit_verify(&k);
    GCH_FRAME_END(k.m);
    kit_close(&k);
  }
}

int main(void) {
  kit_watchdog(90);
  RUN(created_used_destroyed);
  RUN(failing_creation);
  RUN(two_heaps);
  RUN(bad_configurations);
  RUN(largest_configurations);
  RUN(room_for_events);
  RUN(memory_of_side_tables);
  RUN(bad_calls);
  RUN(auto_finds_another);
  RUN(auto_with_one_failure);
  RUN(address_space_limits);
  RUN(full_heap);
  return CHECK_SUMMARY();
}
