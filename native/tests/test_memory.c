/* What statistics say of memory is what the kernel says: `populated_bytes` against the resident pages of the heap's
 * address range, within 2 %, after collections of every kind. */
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kit.h"
#include "os/pages.h"
#include "presence.h"

enum { TABLE = 60000, LARGE = 40 };

/* Resident bytes of the mappings that lie in the heap's range; of a shared object, what it holds. The kernel may have joined the
 * first one with a side table in front of it. */
static uint64_t resident(const gch_heap *h) {
  struct stat held;
  if (h->shared_fd >= 0) return fstat(h->shared_fd, &held) == 0 ? (uint64_t)held.st_blocks * 512 : 0;
  FILE *f = fopen("/proc/self/smaps", "r");
  char line[512];
  uint64_t bytes = 0;
  bool ours = false;
  while (f != NULL && fgets(line, sizeof line, f) != NULL) {
    unsigned long start, end, kib;
    if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
      ours = layout_contains(&h->layout, start);
      if (start < h->layout.base && end > h->layout.base)
        bytes += present_pages(h->layout.base, end - h->layout.base) * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    if (ours && sscanf(line, "Rss: %lu kB", &kib) == 1) bytes += (uint64_t)kib << 10;
  }
  if (f != NULL) fclose(f);
  return bytes;
}

static bool reconcile(struct kit *k, const char *when) {
  gch_stats s;
  gch_collect_wait(k->m, NULL); /* one may have begun by itself */
  kit_settle(k);
  gch_stats_get(k->heap, &s, sizeof s);
  uint64_t seen = resident(k->heap), said = s.populated_bytes, off = seen > said ? seen - said : said - seen;
  if (CHECK(off <= seen / 50)) return true;
  printf("    %s, %s, huge %u: statistics say %llu KiB, the kernel %llu\n", gch_mover_name((gch_mover)s.mover), when,
         s.huge, (unsigned long long)(said >> 10), (unsigned long long)(seen >> 10));
  return false;
}

/* Nodes with leaf memory, and large objects of both kinds; then two of three are garbage. */
static void fill(struct kit *k, gch_ref *root) {
  for (uint64_t i = 0; i < TABLE; i++) {
    kit_put_node(k, &root[0], i, i);
    gch_ref bytes = kit_bytes(k, 100 + i % 1000);
    gch_set(k->m, kit_at(root[0], i), KIT_A, bytes);
  }
  for (uint64_t i = 0; i < LARGE; i++) {
    gch_ref object = i % 2 ? kit_refs(k, 20000 + 500 * i) : kit_bytes(k, 150000 + 4000 * i);
    kit_put(k, root[1], i, object);
  }
}

static void drop_most(struct kit *k, gch_ref *root) {
  for (uint64_t i = 0; i < TABLE; i++)
    if (i % 3 != 0) kit_put(k, root[0], i, NULL);
  for (uint64_t i = 0; i < LARGE; i++)
    if (i % 3 != 0) kit_put(k, root[1], i, NULL);
}

static void play(gch_mover mover, gch_huge huge, bool concurrent) {
  struct kit k;
  gch_config c = kit_config(mover, 512, 2048);
  c.huge = huge;
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 2);
  root[0] = kit_refs(&k, TABLE);
  root[1] = kit_refs(&k, LARGE);
  fill(&k, root);
  bool good = reconcile(&k, "filled");
  kit_minor(&k, true);
  good = good && reconcile(&k, "after a minor");
  for (int policy = 0; policy < GCH_POLICY_COUNT && good; policy++) {
    fill(&k, root);
    drop_most(&k, root);
    kit_major(&k, (gch_policy)policy, concurrent, true);
    good = reconcile(&k, concurrent ? "after a concurrent major" : "after a major in the pause");
  }
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void statistics_and_the_kernel_agree(void) {
  for (size_t i = 0; i < KIT_MOVER_COUNT; i++)
    for (int huge = 0; huge < 2 && kit_available(KIT_MOVERS[i]); huge++)
      for (int concurrent = 0; concurrent < 2; concurrent++)
        play(KIT_MOVERS[i], huge ? GCH_HUGE_ON : GCH_HUGE_OFF, concurrent);
}

/* --- at any time -------------------------------------------------------------------------------------------------- */

struct asker {
  gch_heap *heap;
  bool done; /* [atomic] */
  uint64_t asked, most;
};

static void *ask(void *arg) {
  struct asker *a = arg;
  for (; !at_load(&a->done); a->asked++) {
    gch_stats s;
    gch_stats_get(a->heap, &s, sizeof s);
    if (s.populated_bytes > a->most) a->most = s.populated_bytes;
    usleep(100); /* the others want locks and CPUs, too */
  }
  return NULL;
}

/* Statistics wait for nobody: a thread that is not attached takes them while everything changes. */
static void ask_beside(gch_mover mover, gch_huge huge) {
  struct kit k;
  pthread_t thread;
  gch_config c = kit_config(mover, 256, 1024);
  c.huge = huge;
  if (!kit_open(&k, &c)) return;
  struct asker a = {.heap = k.heap};
  GCH_FRAME(k.m, root, 2);
  root[0] = kit_refs(&k, TABLE);
  root[1] = kit_refs(&k, LARGE);
  if (!CHECK_EQ(pthread_create(&thread, NULL, ask, &a), 0)) return;
  for (int cycle = 0; cycle < (int)kit_scaled(4, 2); cycle++) { /* each policy in the pause and beside us */
    fill(&k, root);
    drop_most(&k, root);
    kit_major(&k, (cycle + cycle / 2) % 2 ? GCH_POLICY_NEEDED : GCH_POLICY_ALL, cycle % 2, true);
  }
  at_store(&a.done, true);
  pthread_join(thread, NULL);
  CHECK(a.asked > 0 && a.most > 0 && a.most < 4 * k.heap->config.max_bytes);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void statistics_at_any_time(void) {
  for (size_t i = 0; i < KIT_MOVER_COUNT; i += KIT_SANITIZED ? 3 : 1) /* the first: by pages; memcpy */
    for (int huge = 0; huge < 2 && kit_available(KIT_MOVERS[i]); huge++)
      ask_beside(KIT_MOVERS[i], huge ? GCH_HUGE_ON : GCH_HUGE_OFF);
}

int main(void) {
  kit_watchdog(90);
  RUN(statistics_and_the_kernel_agree);
  RUN(statistics_at_any_time);
  return CHECK_SUMMARY();
}
