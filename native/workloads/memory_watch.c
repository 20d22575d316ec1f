#include "workloads/memory_watch.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "heap/heap.h"
#include "os/pages.h"
#include "os/thread.h"

enum {
  WAIT_NS = 200000,
  PLAN_NS = 100000, /* to be beside the beginning of the move phase */
  MOVE_NS = 500000, /* the high-water mark knows what comes between two */
  TABLES_EVERY = 16, /* samples; page tables are in `status` only, which costs ten times as much */
  STAT_BLOCK = 512
};

struct memory_watch {
  memory_watch_config config;
  memory_watch_result result;
  gch_heap *heap;
  struct thread thread;
  struct pages_statm statm;
  uint64_t table_bytes; /* page tables, when they were last looked at */
  uint64_t most_tables; /* since the reset */
  uint32_t stop;        /* [atomic] */
};

static uint64_t backing_bytes(const memory_watch_config *c) {
  uint64_t bytes = 0;
  struct stat file;
  for (uint64_t i = 0; i < c->backing_count; i++)
    if (fstat(c->backing[i], &file) == 0) bytes += (uint64_t)file.st_blocks * STAT_BLOCK;
  return bytes;
}

static uint64_t free_bytes(void) {
  struct sysinfo info;
  return sysinfo(&info) == 0 ? (uint64_t)info.freeram * info.mem_unit : 0;
}

static uint64_t charged_bytes(const memory_watch_config *c) {
  char number[32];
  ssize_t got = c->cgroup >= 0 ? pread(c->cgroup, number, sizeof number - 1, 0) : 0;
  if (got <= 0) return 0;
  number[got] = 0;
  return strtoull(number, NULL, 10);
}

/* The kernel's high-water mark as physical memory; looks at the page tables on the way. */
static uint64_t high_water(struct memory_watch *w) {
  struct pages_memory memory;
  if (pages_memory_read(&memory) < 0) return 0;
  w->table_bytes = memory.pte_bytes;
  if (w->most_tables < memory.pte_bytes) w->most_tables = memory.pte_bytes;
  return memory.peak_bytes - memory.rss_file_bytes + w->most_tables;
}

static void sample(struct memory_watch *w) {
  const memory_watch_config *c = &w->config;
  struct pages_statm_sample now;
  uint64_t count = w->result.count++;
  if (count % TABLES_EVERY == 0) (void)high_water(w);
  if (count >= c->capacity || pages_statm_read(&w->statm, &now) < 0) return;
  c->samples[count] = (memory_sample){.resident = now.resident_bytes,
                                      .shared = now.shared_bytes,
                                      .other = w->table_bytes + backing_bytes(c),
                                      .mem_free = free_bytes(),
                                      .cgroup = charged_bytes(c),
                                      .allocated = at_load_relaxed(&w->heap->measures.allocated_bytes)};
  c->samples[count].time_ns = clock_ns();
}

static void move_began(struct memory_watch *w) {
  sample(w);
  uint64_t before = high_water(w);
  if (w->result.peak_before < before) w->result.peak_before = before;
  w->most_tables = w->table_bytes;
  w->result.reset_ns = pages_peak_reset() == 0 ? clock_ns() : 0;
}

static void move_ended(struct memory_watch *w) {
  sample(w);
  if (w->result.reset_ns != 0 && w->config.backing_count == 0) w->result.peak_moving = high_water(w);
}

static uint64_t interval_of(uint32_t phase) {
  switch (phase) {
    case GCH_PHASE_PLAN:
    case GCH_PHASE_FLIP: return PLAN_NS;
    case GCH_PHASE_MOVE: return MOVE_NS;
    default: return WAIT_NS;
  }
}

static void watch_main(void *arg) {
  struct memory_watch *w = arg;
  uint32_t last = GCH_PHASE_IDLE;
  while (at_load_relaxed(&w->stop) == 0) { /* a hint */
    uint32_t phase = at_load(&w->heap->phase);
    if (phase == GCH_PHASE_MOVE && last != GCH_PHASE_MOVE)
      move_began(w);
    else if (phase != GCH_PHASE_MOVE && last == GCH_PHASE_MOVE)
      move_ended(w);
    else if (phase == GCH_PHASE_PLAN || phase == GCH_PHASE_FLIP || phase == GCH_PHASE_MOVE ||
             w->config.backing_count != 0)
      sample(w);
    last = phase;
    thread_sleep_ns(interval_of(phase));
  }
  if (last == GCH_PHASE_MOVE) move_ended(w);
}

int memory_watch_start(gch_heap *heap, const memory_watch_config *config, memory_watch **out, gch_error *error) {
  *out = NULL;
  struct memory_watch *w = calloc(1, sizeof *w);
  if (w == NULL) return (int)error_set(error, GCH_NO_MEMORY, "no memory for the records of a watch");
  w->config = *config;
  w->heap = heap;
  int rc = pages_statm_open(&w->statm);
  if (rc == 0) {
    rc = thread_start(&w->thread, "gcheap-watch", watch_main, w);
    if (rc < 0) pages_statm_close(&w->statm);
  }
  if (rc < 0) {
    free(w);
    return (int)error_set(error, GCH_NO_MEMORY, "no thread to watch memory, or no /proc (error %d)", -rc);
  }
  *out = w;
  return GCH_OK;
}

void memory_watch_finish(memory_watch *watch, memory_watch_result *out) {
  at_store_relaxed(&watch->stop, 1); /* the join orders everything else */
  thread_join(&watch->thread);
  pages_statm_close(&watch->statm);
  *out = watch->result;
  free(watch);
}
