/* How far a soak has come, in a file, and what the process holds. */
#ifndef TESTS_SOAK_STATE_H
#define TESTS_SOAK_STATE_H

#include <malloc.h>
#include <time.h>

#include "kit.h"
#include "os/pages.h"

/* One file for each seed: text, a name and a value a line. Replaced whole, so a process that is killed leaves the last one. "-": none. */
struct soak_state {
  uint64_t seed, seconds, rounds, heap_mib; /* done so far */
  uint64_t majors, minors, checks, forks;
  char status[16]; /* running, failed, done */
};

static inline bool soak_state_read(struct soak_state *s, const char *path) {
  FILE *f = fopen(path, "r");
  char name[32], value[32];
  if (f == NULL) return false;
  while (fscanf(f, "%31s %31s", name, value) == 2) {
    uint64_t number = strtoull(value, NULL, 10);
    if (strcmp(name, "seed") == 0) s->seed = number;
    if (strcmp(name, "seconds") == 0) s->seconds = number;
    if (strcmp(name, "rounds") == 0) s->rounds = number;
    if (strcmp(name, "heap_mib") == 0) s->heap_mib = number;
    if (strcmp(name, "majors") == 0) s->majors = number;
    if (strcmp(name, "minors") == 0) s->minors = number;
    if (strcmp(name, "checks") == 0) s->checks = number;
    if (strcmp(name, "forks") == 0) s->forks = number;
    if (strcmp(name, "status") == 0) snprintf(s->status, sizeof s->status, "%.15s", value);
  }
  fclose(f);
  return true;
}

static inline bool soak_state_write(const struct soak_state *s, const char *path) {
  char next[4096];
  if (strcmp(path, "-") == 0) return true;
  snprintf(next, sizeof next, "%s.next", path);
  FILE *f = fopen(next, "w");
  if (f == NULL) return false;
  fprintf(f,
          "seed %llu\nseconds %llu\nrounds %llu\nheap_mib %llu\nmajors %llu\nminors %llu\nchecks %llu\nforks "
          "%llu\nstatus %s\n",
          (unsigned long long)s->seed, (unsigned long long)s->seconds, (unsigned long long)s->rounds,
          (unsigned long long)s->heap_mib, (unsigned long long)s->majors, (unsigned long long)s->minors,
          (unsigned long long)s->checks, (unsigned long long)s->forks, s->status);
  bool written = fflush(f) == 0 && fsync(fileno(f)) == 0;
  return fclose(f) == 0 && written && rename(next, path) == 0;
}

/* --- what the process holds -------------------------------------------------------------------------------------------- */

struct soak_holdings {
  struct kit_holdings counts;
  uint64_t anon_bytes;
};

enum { SOAK_ANON_SLACK = 1 << 20 }; /* malloc's own; it may not add up, as all is compared with the same base */

/* Once threads that have ended are gone; freed memory is given back first. */
static inline struct soak_holdings soak_holdings(struct kit_holdings before) {
  struct pages_memory memory = {0};
  malloc_trim(0);
  struct soak_holdings now = {.counts = kit_settled(before)};
  if (pages_memory_read(&memory) == 0) now.anon_bytes = memory.rss_anon_bytes;
  return now;
}

/* Prints what has grown; false: something has. */
static inline bool soak_compare(const struct soak_holdings *base, const struct soak_holdings *now) {
  bool good = true;
  const struct {
    const char *what;
    uint64_t before, after, slack;
  } rows[] = {
      {"threads", (uint64_t)base->counts.tasks, (uint64_t)now->counts.tasks, 0},
      {"descriptors", (uint64_t)base->counts.fds, (uint64_t)now->counts.fds, 0},
      {"mappings", (uint64_t)base->counts.maps, (uint64_t)now->counts.maps, 0},
      {"bytes of memory", base->anon_bytes, now->anon_bytes, SOAK_ANON_SLACK},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    if (rows[i].after <= rows[i].before + rows[i].slack) continue;
    printf("SOAK FAILED: a leak of %s: %llu before the first heap, %llu after this one\n", rows[i].what,
           (unsigned long long)rows[i].before, (unsigned long long)rows[i].after);
    good = false;
  }
  return good;
}

#endif
