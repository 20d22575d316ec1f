/* Clients in threads of their own, each a mutator, on one cache. The bytes of a value follow from its seed, which is in
 * its first word, and its key's number, which is in the second: every value that comes back is checked in full.
 *
 * Clients also hand values to each other through handles, and keep some while they do other things: pinned, or by nothing but
 * an address inside them, which the collector is told of as a word that may be a reference. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server.h"

enum { KEYS = 20000, MAILBOXES = 64, PINS = 8, SMALL_BYTES = 4096, LARGE_BYTES = 256 << 10 };

struct client;

struct shared {
  struct cache *cache;
  struct client *clients;
  unsigned threads;
  uint64_t mailboxes[MAILBOXES]; /* [atomic] handles, 0: none */
  uint32_t stop; /* [atomic] */
  uint32_t failed; /* [atomic] */
};

struct pin {
  gch_ref object;
  const uint64_t *words;
  uint64_t bytes;
};

struct client {
  struct shared *shared;
  gch_mutator *m;
  pthread_t thread;
  uint64_t random, operations, refused;
  struct pin pins[PINS];
  const uint64_t *remembered; /* words of a value; written in managed state */
  uint64_t remembered_bytes;
};

static uint64_t step(uint64_t *x) {
  *x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17; /* xorshift64, Marsaglia 2003 */
  return *x;
}
static uint64_t below(struct client *c, uint64_t n) { return (step(&c->random) >> 11) % n; }

static void fail(struct client *c, const char *what, uint64_t key) {
  fprintf(stderr, "selftest: %s (key %" PRIu64 ")\n", what, key);
  __atomic_store_n(&c->shared->failed, 1, __ATOMIC_RELAXED);
  __atomic_store_n(&c->shared->stop, 1, __ATOMIC_RELAXED);
}

/* --- contents ------------------------------------------------------------------------------------------------- */

static void fill(uint64_t *words, uint64_t bytes, uint64_t seed, uint64_t key) {
  words[0] = seed;
  words[1] = key;
  for (uint64_t i = 2; i < bytes / 8; i++) words[i] = step(&seed);
}

static bool contents_are(const uint64_t *words, uint64_t bytes) {
  uint64_t seed = words[0];
  for (uint64_t i = 2; i < bytes / 8; i++)
    if (words[i] != step(&seed)) return false;
  return true;
}

/* Large values are looked at in native state, where pinned leaf memory may be used: nobody waits for us meanwhile. */
static void check_value(struct client *c, gch_ref *value, uint64_t key, bool any_key) {
  uint64_t bytes = gch_length(c->shared->cache->heap, *value);
  void *payload = gch_payload(*value);
  bool pinned = bytes > SMALL_BYTES && gch_pin(c->m, *value, &payload) == GCH_OK;
  gch_ref object = *value;
  if (pinned) gch_native_enter(c->m);
  const uint64_t *words = payload;
  bool good = contents_are(words, bytes);
  bool its_key = any_key || words[1] == key;
  if (pinned) gch_unpin(c->shared->cache->heap, object); /* in native state, by address: it is still pinned here */
  if (pinned) gch_native_leave(c->m);
  if (!good) fail(c, "a value has changed", key);
  if (!its_key) fail(c, "a value belongs to another key", key);
}

/* --- what a client does ---------------------------------------------------------------------------------------- */

static uint64_t random_bytes(struct client *c) {
  if (below(c, 200) == 0) return 16 + 8 * below(c, LARGE_BYTES / 8);
  uint64_t most = (uint64_t)32 << below(c, 8);
  return 16 + 8 * below(c, most / 8);
}

static void do_set(struct client *c, const char *name, uint64_t key) {
  uint64_t bytes = random_bytes(c), seed = step(&c->random);
  GCH_FRAME(c->m, value, 1);
  value[0] = cache_new_bytes(c->shared->cache, c->m, bytes);
  if (value[0] != NULL) fill((uint64_t *)gch_payload(value[0]), bytes, seed, key);
  if (value[0] == NULL || !cache_set(c->shared->cache, c->m, name, value)) c->refused++;
  GCH_FRAME_END(c->m);
}

static void do_get(struct client *c, const char *name, uint64_t key) {
  GCH_FRAME(c->m, value, 1);
  if (cache_get(c->shared->cache, c->m, name, value)) check_value(c, value, key, false);
  GCH_FRAME_END(c->m);
}

/* Posts a value as a handle and takes what lay in the box, posted by any thread. */
static void do_exchange(struct client *c, const char *name) {
  struct cache *cache = c->shared->cache;
  GCH_FRAME(c->m, value, 1);
  gch_handle mine = 0;
  if (cache_get(cache, c->m, name, value)) mine = gch_handle_new(c->m, value[0]);
  gch_handle theirs = __atomic_exchange_n(&c->shared->mailboxes[below(c, MAILBOXES)], mine, __ATOMIC_ACQ_REL);
  if (theirs != 0) {
    if (gch_handle_get(c->m, theirs, &value[0]) != GCH_OK)
      fail(c, "a handle is not known", theirs);
    else
      check_value(c, value, 0, true);
    if (gch_handle_free(cache->heap, theirs) != GCH_OK) fail(c, "a handle cannot be freed", theirs);
    if (gch_handle_free(cache->heap, theirs) != GCH_BAD_VALUE) fail(c, "a handle can be freed twice", theirs);
  }
  GCH_FRAME_END(c->m);
}

/* Keeps a value pinned until its place is wanted again, deleted or not in between. */
static void do_pin(struct client *c, const char *name) {
  struct pin *pin = &c->pins[below(c, PINS)];
  struct cache *cache = c->shared->cache;
  gch_native_enter(c->m);
  if (pin->object != NULL && !contents_are(pin->words, pin->bytes)) fail(c, "pinned memory has changed", 0);
  if (pin->object != NULL && gch_unpin(cache->heap, pin->object) != GCH_OK) fail(c, "a pin is not known", 0);
  gch_native_leave(c->m);
  *pin = (struct pin){0};
  if (name == NULL) return;
  GCH_FRAME(c->m, value, 1);
  void *payload = NULL;
  if (cache_get(cache, c->m, name, value) && gch_pin(c->m, value[0], &payload) == GCH_OK)
    *pin = (struct pin){.object = value[0], .words = payload, .bytes = gch_length(cache->heap, value[0])};
  GCH_FRAME_END(c->m);
}

static void enumerate_remembered(gch_visit_ambiguous visit, void *closure, void *data) {
  const struct shared *shared = data;
  for (unsigned i = 0; i < shared->threads; i++) visit((uintptr_t)shared->clients[i].remembered, closure);
}

/* Keeps a value by the address of its words alone. */
static void do_remember(struct client *c, const char *name) {
  struct cache *cache = c->shared->cache;
  if (c->remembered != NULL && !contents_are(c->remembered, c->remembered_bytes))
    fail(c, "a remembered value has changed", 0);
  c->remembered = NULL;
  GCH_FRAME(c->m, value, 1);
  if (cache_get(cache, c->m, name, value)) {
    c->remembered = gch_payload(value[0]);
    c->remembered_bytes = gch_length(cache->heap, value[0]);
  }
  GCH_FRAME_END(c->m);
}

static void one_operation(struct client *c) {
  char name[32];
  uint64_t key = below(c, KEYS), op = below(c, 100);
  snprintf(name, sizeof name, "key-%" PRIu64, key);
  if (op < 50)
    do_get(c, name, key);
  else if (op < 85)
    do_set(c, name, key);
  else if (op < 95)
    cache_delete(c->shared->cache, c->m, name);
  else if (op < 97)
    do_exchange(c, name);
  else if (op < 98)
    do_remember(c, name);
  else
    do_pin(c, name);
  gch_safepoint(c->m);
  c->operations++;
}

static void release_pins(struct client *c) {
  for (int i = 0; i < PINS; i++)
    if (c->pins[i].object != NULL && gch_unpin(c->shared->cache->heap, c->pins[i].object) != GCH_OK)
      fail(c, "a pin is not known at the end", 0);
}

static void *run_client(void *argument) {
  struct client *c = argument;
  gch_error error = {0};
  if (gch_attach(c->shared->cache->heap, &c->m, &error) != GCH_OK) {
    fail(c, error.message, 0);
    return NULL;
  }
  while (__atomic_load_n(&c->shared->stop, __ATOMIC_RELAXED) == 0) {
    one_operation(c);
    if (c->operations % 4096 != 0) continue;
    gch_detach(c->m); /* comes and goes, as a pool's threads do; it holds no reference of any heap here */
    if (gch_attach(c->shared->cache->heap, &c->m, &error) != GCH_OK) {
      fail(c, error.message, 0);
      return NULL;
    }
  }
  release_pins(c);
  gch_detach(c->m);
  return NULL;
}

/* --- meanwhile, in the first thread ---------------------------------------------------------------------------- */

static bool collect_and_verify(struct shared *shared, gch_mutator *m, unsigned round, bool concurrent) {
  gch_collect_options options;
  gch_error error = {0};
  gch_collect_options_init(&options);
  options.minor = round % 3 == 0;
  options.concurrent = concurrent && !options.minor;
  options.promote = round % 2 == 0 && options.minor;
  options.policy = (gch_policy)(round % GCH_POLICY_COUNT); /* 0 with minor */
  if (gch_collect(m, &options, NULL) == GCH_OK && gch_verify(m, &error) == GCH_OK) return true;
  fprintf(stderr, "selftest: round %u: %s\n", round, error.message);
  __atomic_store_n(&shared->failed, 1, __ATOMIC_RELAXED);
  return false;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static unsigned supervise(struct shared *shared, gch_mutator *m, unsigned seconds, bool concurrent) {
  unsigned round = 0;
  for (double end = now() + seconds; now() < end && __atomic_load_n(&shared->stop, __ATOMIC_RELAXED) == 0; round++) {
    if (!collect_and_verify(shared, m, round, concurrent)) break;
    gch_native_enter(m);
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    gch_native_leave(m);
  }
  __atomic_store_n(&shared->stop, 1, __ATOMIC_RELAXED);
  return round;
}

static unsigned start_clients(struct shared *shared, struct client *clients, unsigned threads) {
  for (unsigned i = 0; i < threads; i++) {
    clients[i] = (struct client){.shared = shared, .random = 88172645463325252u + i * 0x9e3779b97f4a7c15u};
    if (pthread_create(&clients[i].thread, NULL, run_client, &clients[i]) == 0) continue;
    fprintf(stderr, "selftest: cannot start thread %u\n", i);
    __atomic_store_n(&shared->failed, 1, __ATOMIC_RELAXED);
    return i;
  }
  return threads;
}

static void free_mailboxes(struct shared *shared) {
  for (int i = 0; i < MAILBOXES; i++)
    if (shared->mailboxes[i] != 0) gch_handle_free(shared->cache->heap, shared->mailboxes[i]);
}

int selftest(struct cache *cache, gch_mutator *m, unsigned threads, unsigned seconds, bool concurrent) {
  struct shared shared = {.cache = cache};
  struct client *clients = calloc(threads == 0 ? 1 : threads, sizeof *clients);
  uint64_t operations = 0, refused = 0;
  if (clients == NULL) return EXIT_FAILURE;
  shared.clients = clients;
  shared.threads = threads;
  gch_ambiguous_fn_set(cache->heap, enumerate_remembered, &shared);
  threads = start_clients(&shared, clients, threads);
  unsigned rounds = supervise(&shared, m, seconds, concurrent);
  gch_native_enter(m); /* joining blocks, and a client may need a collection to come to its end */
  for (unsigned i = 0; i < threads; i++) {
    pthread_join(clients[i].thread, NULL);
    operations += clients[i].operations;
    refused += clients[i].refused;
  }
  gch_native_leave(m);
  gch_ambiguous_fn_set(cache->heap, NULL, NULL);
  free_mailboxes(&shared);
  collect_and_verify(&shared, m, 1, concurrent);
  const char *wrong = cache_check(cache, m);
  struct cache_counts counts = cache_count(cache, m);
  gch_stats stats;
  gch_stats_get(cache->heap, &stats, sizeof stats);
  if (stats.handles != 0) wrong = "handles are left over";
  if (stats.pins != 0) wrong = "pins are left over";
  if (wrong != NULL) fprintf(stderr, "selftest: %s\n", wrong);
  bool good = wrong == NULL && shared.failed == 0;
  printf("selftest %s: %u threads, %" PRIu64 " operations, %" PRIu64 " refused, %" PRIu64 " entries, %" PRIu64
         " evictions, %u rounds, %" PRIu64 " minor and %" PRIu64 " major collections\n",
         good ? "ok" : "FAILED", threads, operations, refused, counts.entries, counts.evictions, rounds,
         stats.minor_count, stats.major_count);
  free(clients);
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
