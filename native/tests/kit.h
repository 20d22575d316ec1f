/* What the tests of heaps share: heaps of every mover, small types, collections in one line, what a process holds, and a
 * watchdog that turns a hang into a failure. Tests link with the static library and may look at private tables. */
#ifndef TESTS_KIT_H
#define TESTS_KIT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dirent.h>
#include <gcheap/gcheap.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "heap/heap.h"
#include "heap/mutator.h"
#include "offered.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define KIT_SANITIZED 1
#else
#define KIT_SANITIZED 0
#endif

/* A count of work, smaller under the sanitizers. */
static inline uint64_t kit_scaled(uint64_t n, uint64_t by) { return KIT_SANITIZED ? n / by : n; }

/* A heap, a mutator of the calling thread, and types: node (three references, a number), refs, bytes. */
struct kit {
  gch_heap *heap;
  gch_mutator *m;
  const gch_type *node, *refs, *bytes;
};

enum { KIT_A = 16, KIT_B = 24, KIT_C = 32, KIT_REFS = 16, KIT_BYTES = 16 }; /* offsets; a number at 8 */

/* What heaps of a test get: 0, or GCH_GROWTH_NEVER where a major of its own accord would be in the way of one that is held up. */
static uint32_t kit_growth;
/* So: 0, or GCH_DECAY_NOW where a test looks at tables, or counts calls or memory, that the controller would change at rest, too: it
 * gives memory ahead and takes it back. */
static uint32_t kit_decay;

static inline gch_config kit_config(gch_mover mover, uint64_t max_mib, uint64_t nursery_kib) {
  gch_config c;
  gch_config_init(&c);
  c.mover = mover;
  c.max_bytes = max_mib << 20;
  c.nursery_bytes = nursery_kib << 10;
  c.growth_percent = kit_growth;
  c.decay_ms = kit_decay;
  return c;
}

static inline bool kit_types(struct kit *k) {
  static const uint32_t three[] = {KIT_A, KIT_B, KIT_C};
  const gch_type_desc descs[] = {
      {sizeof(gch_type_desc), 32, three, 3, GCH_TAIL_NONE, 0, 0, 0, "node", 0},
      {sizeof(gch_type_desc), 8, NULL, 0, GCH_TAIL_REFS, 0, 0, 0, "refs", 1},
      {sizeof(gch_type_desc), 8, NULL, 0, GCH_TAIL_BYTES, 1, 0, 0, "bytes", 2},
  };
  const gch_type **types[] = {&k->node, &k->refs, &k->bytes};
  for (int i = 0; i < 3; i++)
    if (!CHECK_EQ(gch_type_new(k->heap, &descs[i], types[i], NULL), GCH_OK)) return false;
  return true;
}

static inline bool kit_open(struct kit *k, const gch_config *config) {
  gch_error error = {0};
  *k = (struct kit){0};
  gch_status status = gch_heap_create(config, &k->heap, &error);
  if (status != GCH_OK) fprintf(stderr, "create: %s\n", error.message);
  if (!CHECK_EQ(status, GCH_OK) || !kit_types(k)) return false;
  return CHECK_EQ(gch_attach(k->heap, &k->m, &error), GCH_OK);
}

static inline void kit_close(struct kit *k) {
  gch_error error = {0};
  gch_detach(k->m);
  gch_status status = gch_heap_destroy(k->heap, &error);
  if (status != GCH_OK) fprintf(stderr, "destroy: %s\n", error.message);
  CHECK_EQ(status, GCH_OK);
}

/* Can there be a heap of the mover here? If not, it says so in words that .ci/skips reads, once a mover. `move` on a kernel that
 * offers it must be there: the process ends with a failure, so that what is not run without it cannot pass unseen.
 * GCH_TEST_UNAVAILABLE=RULES in the environment has the trial fail by injection: it shows that this is seen. */
static inline bool kit_available(gch_mover mover) {
  static uint32_t said; /* [atomic] bit by mover */
  gch_config c = kit_config(mover, 16, 256);
  gch_heap *heap;
  gch_error error = {0};
  c.inject = getenv("GCH_TEST_UNAVAILABLE");
  if (gch_heap_create(&c, &heap, &error) == GCH_OK) {
    gch_heap_destroy(heap, NULL);
    return true;
  }
  if (mover == GCH_MOVER_MOVE && offered_move()) {
    fflush(stdout);
    fprintf(stderr, "%s: this kernel offers UFFDIO_MOVE, but there is no heap with it: %s\n", check_test,
            error.message);
    exit(EXIT_FAILURE);
  }
  if ((__atomic_fetch_or(&said, 1u << mover, __ATOMIC_RELAXED) >> mover & 1) == 0)
    printf("  SKIP %s: %s: %s\n", check_test, gch_mover_name(mover), error.message);
  return false;
}

static inline uint64_t *kit_number(gch_ref o) { return (uint64_t *)(void *)gch_slot(o, 8); }

static inline gch_ref kit_node(struct kit *k, uint64_t number) {
  gch_ref o = gch_alloc(k->m, k->node);
  if (o != NULL) *kit_number(o) = number;
  return o;
}
static inline gch_ref kit_refs(struct kit *k, uint64_t count) { return gch_alloc_array(k->m, k->refs, count); }
static inline gch_ref kit_bytes(struct kit *k, uint64_t count) { return gch_alloc_array(k->m, k->bytes, count); }
static inline gch_ref kit_at(gch_ref array, uint64_t i) { return gch_load(array, KIT_REFS + 8 * i); }
static inline void kit_put(struct kit *k, gch_ref array, uint64_t i, gch_ref value) {
  gch_set(k->m, array, KIT_REFS + 8 * i, value);
}

/* A new node into slot `i` of the array in a root: allocated first, because that may collect. */
static inline void kit_put_node(struct kit *k, gch_ref *array, uint64_t i, uint64_t number) {
  gch_ref node = kit_node(k, number);
  kit_put(k, *array, i, node);
}

static inline gch_cycle kit_minor(struct kit *k, bool promote) {
  gch_collect_options o;
  gch_cycle r = {0};
  gch_collect_options_init(&o);
  o.minor = true;
  o.promote = promote;
  CHECK_EQ(gch_collect(k->m, &o, &r), GCH_OK);
  return r;
}

static inline gch_cycle kit_major(struct kit *k, gch_policy policy, bool concurrent, bool wait) {
  gch_collect_options o;
  gch_cycle r = {0};
  gch_collect_options_init(&o);
  o.policy = policy;
  o.concurrent = concurrent;
  o.wait = wait;
  CHECK_EQ(gch_collect(k->m, &o, &r), GCH_OK);
  return r;
}

static inline bool kit_verify(struct kit *k) {
  gch_error error = {0};
  gch_status status = gch_verify(k->m, &error);
  if (status != GCH_OK) fprintf(stderr, "verify: %s\n", error.message);
  return CHECK_EQ(status, GCH_OK);
}

/* Waits until promotion has the memory that it will want (gc/reserve.h): until the next minor none is given ahead. */
static inline void kit_settle(struct kit *k) {
  struct reserve *r = &k->heap->reserve;
  gch_native_enter(k->m);
  for (int i = 0; i < 100000 && (at_load(&r->low) != 0 || at_load(&r->busy) != 0); i++) usleep(100);
  gch_native_leave(k->m);
}

struct kit_request {
  gch_heap *heap;
  gch_policy policy;
  pthread_t thread;
};

static inline void *kit_request_main(void *arg) {
  struct kit_request *request = (struct kit_request *)arg;
  struct kit k = {.heap = request->heap};
  if (gch_attach(k.heap, &k.m, NULL) != GCH_OK) return NULL;
  kit_major(&k, request->policy, true, true);
  gch_detach(k.m);
  return NULL;
}

/* A concurrent major beside the caller, asked for by a thread of its own; kit_end waits for it. */
static inline void kit_begin(struct kit *k, struct kit_request *request, gch_policy policy) {
  *request = (struct kit_request){.heap = k->heap, .policy = policy};
  pthread_create(&request->thread, NULL, kit_request_main, request);
}

static inline void kit_join(struct kit *k, pthread_t thread) {
  gch_native_enter(k->m);
  pthread_join(thread, NULL);
  gch_native_leave(k->m);
}

/* Waits for a child of fork(); its status. */
static inline int kit_wait_child(struct kit *k, pid_t child) {
  int status = -1;
  gch_native_enter(k->m);
  CHECK_EQ(waitpid(child, &status, 0), child);
  gch_native_leave(k->m);
  return status;
}

static inline void kit_end(struct kit *k, struct kit_request *request) { kit_join(k, request->thread); }

/* --- what the process holds ----------------------------------------------------------------------------------- */

static inline int kit_count_entries(const char *path) {
  int count = 0;
  DIR *dir = opendir(path);
  if (dir == NULL) return -1;
  while (readdir(dir) != NULL) count++;
  closedir(dir);
  return count;
}

static inline int kit_count_lines(const char *path) {
  int count = 0;
  FILE *f = fopen(path, "r");
  if (f == NULL) return -1;
  for (int c; (c = getc(f)) != EOF;) count += c == '\n';
  fclose(f);
  return count;
}

struct kit_holdings {
  int tasks, fds, maps;
};

static inline struct kit_holdings kit_holdings(void) {
  return (struct kit_holdings){kit_count_entries("/proc/self/task"), kit_count_entries("/proc/self/fd"),
                               kit_count_lines("/proc/self/maps")};
}

/* Threads that have been joined may stand in /proc for a moment. */
static inline struct kit_holdings kit_settled(struct kit_holdings before) {
  struct kit_holdings now = kit_holdings();
  for (int i = 0; i < 1000 && now.tasks > before.tasks; i++) {
    usleep(1000);
    now = kit_holdings();
  }
  return now;
}

/* ThreadSanitizer does not like a thread in a child of fork() whose stack was one of the parent's threads': these do not fit what is
 * asked for. For pthread_atfork, before the library's. */
static inline void kit_larger_stacks(void) {
#ifdef __SANITIZE_THREAD__
  pthread_attr_t attributes;
  size_t bytes = 0;
  pthread_getattr_default_np(&attributes);
  pthread_attr_getstacksize(&attributes, &bytes);
  pthread_attr_setstacksize(&attributes, bytes + (1 << 20));
  pthread_setattr_default_np(&attributes);
  pthread_attr_destroy(&attributes);
#endif
}

/* --- hangs ---------------------------------------------------------------------------------------------------- */

/* The process ends with SIGKILL unless it is called again (0: off): a signal handler of ours that hangs blocks all others. */
static inline void kit_watchdog(unsigned seconds) {
  static timer_t timer;
  static bool made;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
  struct itimerspec when = {.it_value.tv_sec = KIT_SANITIZED ? 4 * seconds : seconds};
  if (!made) made = CHECK_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
  if (made) CHECK_EQ(timer_settime(timer, 0, &when, NULL), 0);
}

/* The movers, pause-only ones included; RUN each test body for those that work here. */
static const gch_mover KIT_MOVERS[] = {GCH_MOVER_MOVE, GCH_MOVER_COPY, GCH_MOVER_SIMULATED, GCH_MOVER_MEMCPY,
                                       GCH_MOVER_SLIDE};
#define KIT_MOVER_COUNT (sizeof KIT_MOVERS / sizeof KIT_MOVERS[0])

#endif
