/* A heap under pressure from the machine; driven by tests/machine.
 *
 *   pressure MOVER FAULTS LIVE_MIB SECONDS PRESSURE...     FAULTS: thread, signal
 *
 * PRESSURE: none, pageout, compact, fork, wait.
 *
 * Fills a heap to LIVE_MIB (half in small objects, half in large ones), then collects in the pause and beside itself by
 * turns while threads put pressure on: `pageout` swaps the heap's memory out again and again, `compact` has the kernel
 * migrate pages. `fork`: children are made while pages move; each compares and collects its copy of the heap, as its parent goes
 * on. `wait`: prints "base" and waits for a line before there is a heap, then "ready" with the bytes that live, and waits for a
 * line before it collects. Everything is compared after each collection. Ends with a line of JSON; exit status 0: all was
 * well. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "kit.h"
#include "os/pages.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

enum { LARGE_COUNT = 64, CHILD_SECONDS = 60 };

struct pressure {
  struct kit k;
  uint64_t nodes, large_words, end_ns;
  uint32_t done;      /* [atomic] */
  uint64_t squeezes;  /* [atomic] */
  bool forking;
  pid_t child; /* 0: none */
  uint64_t forks;
  const char *failed; /* why pressure could not be put on */
};

static bool running(struct pressure *p) { return !at_load(&p->done) && clock_ns() < p->end_ns; }

/* Swaps out what lies in the heap's regions in use and in their shadow. */
static void *pageout(void *arg) {
  struct pressure *p = arg;
  const struct layout *l = &p->k.heap->layout;
  while (running(p)) {
    for (uint32_t r = 0; r < l->region_count; r++)
      for (uint64_t at = 0; at < (256u << 20) && at < l->regions[r].bytes; at += ARENA_BYTES) {
        void *arena = (void *)(l->regions[r].start + at);
        if (madvise(arena, ARENA_BYTES, MADV_PAGEOUT) != 0) p->failed = "MADV_PAGEOUT is refused";
        if (l->regions[r].start + at - l->base < l->mirror_span && l->shadow_delta != 0)
          (void)madvise((char *)arena + l->shadow_delta, ARENA_BYTES, MADV_PAGEOUT);
      }
    at_add(&p->squeezes, 1);
  }
  return NULL;
}

static void *compact(void *arg) {
  struct pressure *p = arg;
  int fd = open("/proc/sys/vm/compact_memory", O_WRONLY | O_CLOEXEC);
  if (fd < 0) p->failed = "/proc/sys/vm/compact_memory cannot be written";
  while (fd >= 0 && running(p)) {
    if (write(fd, "1", 1) != 1) p->failed = "/proc/sys/vm/compact_memory is refused";
    at_add(&p->squeezes, 1);
  }
  if (fd >= 0) close(fd);
  return NULL;
}

static bool fill(struct pressure *p, gch_ref *root, uint64_t live_bytes) {
  p->nodes = live_bytes / 2 / (48 + 8);
  p->large_words = live_bytes / 2 / LARGE_COUNT / 8;
  root[0] = kit_refs(&p->k, p->nodes);
  root[1] = kit_refs(&p->k, LARGE_COUNT);
  if (root[0] == NULL || root[1] == NULL) return false;
  for (uint64_t i = 0; i < p->nodes; i++) kit_put_node(&p->k, &root[0], i, i);
  for (uint64_t i = 0; i < LARGE_COUNT; i++) {
    gch_ref o = kit_bytes(&p->k, p->large_words * 8);
    if (o == NULL) return false;
    uint64_t *words = (uint64_t *)gch_payload(o);
    for (uint64_t w = 0; w < p->large_words; w++) words[w] = i << 32 | w;
    kit_put(&p->k, root[1], i, o);
  }
  return true;
}

static bool compare(struct pressure *p, gch_ref *root) {
  for (uint64_t i = 0; i < p->nodes; i++)
    if (!CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) return false;
  for (uint64_t i = 0; i < LARGE_COUNT; i++) {
    const uint64_t *words = (const uint64_t *)gch_payload(kit_at(root[1], i));
    for (uint64_t w = 0; w < p->large_words; w++)
      if (words[w] != (i << 32 | w)) return CHECK_EQ(words[w], i << 32 | w);
  }
  return true;
}

static void end_child(struct pressure *p) {
  int status = -1;
  if (p->child == 0) return;
  gch_native_enter(p->k.m);
  CHECK_EQ(waitpid(p->child, &status, 0), p->child);
  gch_native_leave(p->k.m);
  CHECK_EQ(status, 0);
  p->child = 0;
}

/* A child, made while a concurrent major is moving; the one before it has ended by then. */
static void make_child(struct pressure *p, gch_ref *root) {
  end_child(p);
  kit_major(&p->k, GCH_POLICY_ALL, true, false);
  fflush(NULL);
  p->child = fork();
  if (p->child != 0) {
    CHECK(p->child > 0);
    p->forks++;
    return;
  }
  alarm(CHILD_SECONDS);
  compare(p, root);
  for (int concurrent = 0; concurrent < 2; concurrent++) {
    for (uint64_t i = 0; i < p->nodes; i += 31) kit_put_node(&p->k, &root[0], i, i);
    kit_major(&p->k, GCH_POLICY_ALL, concurrent, true);
    if (!compare(p, root) || !kit_verify(&p->k)) break;
  }
  fflush(NULL);
  _exit(check_failures != 0);
}

static void work(struct pressure *p, gch_ref *root) {
  for (uint64_t round = 0; running(p); round++) {
    if (p->forking) make_child(p, root);
    for (uint64_t i = round % 7; i < p->nodes; i += 97) kit_put_node(&p->k, &root[0], i, i); /* some garbage */
    kit_major(&p->k, round % 3 ? GCH_POLICY_ALL : GCH_POLICY_NEEDED, round % 2, round % 4 != 3);
    if (!compare(p, root) || !kit_verify(&p->k)) break;
  }
  gch_collect_wait(p->k.m, NULL);
  end_child(p);
  at_store(&p->done, 1);
}

static void report(struct pressure *p) {
  gch_stats s;
  gch_stats_get(p->k.heap, &s, sizeof s);
  printf("{\"mover\": \"%s\", \"majors\": %llu, \"squeezes\": %llu, \"forks\": %llu, \"faults\": %llu, \"refusals\": [",
         gch_mover_name((gch_mover)s.mover), (unsigned long long)s.major_count, (unsigned long long)p->squeezes,
         (unsigned long long)p->forks, (unsigned long long)s.faults);
  for (int i = 0; i < GCH_REFUSAL_COUNT; i++) printf("%s%llu", i ? ", " : "", (unsigned long long)s.refusals[i]);
  printf("], \"reason\": \"%s\", \"failed\": \"%s\", \"checks_failed\": %d}\n", s.mover_reason,
         p->failed ? p->failed : "", check_failures);
}

static bool wait_for_line(void) {
  char line[16];
  fflush(stdout);
  return fgets(line, sizeof line, stdin) != NULL;
}

int main(int argc, char **argv) {
  static struct pressure p;
  gch_mover mover;
  bool wait = false;
  pthread_t threads[2];
  uint32_t count = 0;
  if (argc < 6 || !gch_mover_parse(argv[1], &mover)) return 2;
  check_test = "pressure";
  uint64_t live = strtoull(argv[3], NULL, 0) << 20;
  gch_config c = kit_config(mover, (live >> 20) * 2 + 32, 1024);
  c.fault_mode = strcmp(argv[2], "signal") == 0 ? GCH_FAULT_SIGNAL : GCH_FAULT_THREAD;
  for (int i = 5; i < argc; i++) {
    wait |= strcmp(argv[i], "wait") == 0;
    p.forking |= strcmp(argv[i], "fork") == 0;
  }
  c.staging_bytes = wait ? 1 << 20 : 4 << 20; /* who waits for a limit has little memory */
  if (wait) {
    puts("base");
    if (!wait_for_line()) return 1;
  }
  if (!kit_open(&p.k, &c)) return 1;
  GCH_FRAME(p.k.m, root, 2);
  if (!CHECK(fill(&p, root, live))) return 1;
  gch_cycle r = kit_major(&p.k, GCH_POLICY_NEEDED, false, true);
  if (wait) {
    printf("ready %llu\n", (unsigned long long)r.live_bytes);
    if (!wait_for_line()) return 1;
  }
  p.end_ns = clock_ns() + strtoull(argv[4], NULL, 0) * 1000000000u;
  for (int i = 5; i < argc && count < 2; i++) {
    if (strcmp(argv[i], "pageout") == 0) pthread_create(&threads[count++], NULL, pageout, &p);
    if (strcmp(argv[i], "compact") == 0) pthread_create(&threads[count++], NULL, compact, &p);
  }
  work(&p, root);
  for (uint32_t i = 0; i < count; i++) kit_join(&p.k, threads[i]);
  report(&p);
  GCH_FRAME_END(p.k.m);
  kit_close(&p.k);
  return check_failures != 0;
}
