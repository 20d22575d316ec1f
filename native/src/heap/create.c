#include "heap/create.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/sized.h"
#include "base/units.h"
#include "heap/board.h"
#include "heap/limits.h"
#include "heap/mutator.h"
#include "heap/ring_file.h"
#include "heap/small.h"
#include "os/pages.h"
#include "os/thread.h"

enum {
  EVENTS_DEFAULT = 16384,
  EVENTS_MAX = 1 << 24,
  GC_THREADS_MAX = 64,
  GC_THREADS_AUTO = 8,
  GROWTH_DEFAULT = 100,
  DECAY_DEFAULT = 1000,
  DECAY_MOST = 3600000,
  GROWTH_MAX = 10000
};

static const uint64_t NURSERY_DEFAULT = 4 * MIB, NURSERY_MIN = 4 * BLOCK_BYTES, NURSERY_CACHE = 512 * KIB;
static const uint64_t TARGET_DEFAULT = 2000000, TARGET_MIN = 50000, TARGET_MAX = 10000000000;
static const uint64_t MAX_MIN = 1 * MIB, STAGING_MAX = 32 * MIB;
static const uint64_t NURSERY_MAX = 64 * GIB, STAGING_MIN = 8 * BLOCK_BYTES, STAGING_LIMIT = 1 * GIB;

void gch_config_init_sized(gch_config *config, size_t bytes) {
  sized_give(config, bytes, &(gch_config){0}, sizeof *config);
}

/* --- configuration -------------------------------------------------------------------------------------------- */

static uint64_t choose(uint64_t asked, uint64_t fallback) { return asked != 0 ? asked : fallback; }

/* Of what a size may be; 0 is "choose". */
static gch_status check_size(const char *name, uint64_t size, uint64_t least, uint64_t most, gch_error *error) {
  if (size != 0 && size < least)
    return error_set(error, GCH_BAD_VALUE, "%s is %llu, expected at least %llu", name, (unsigned long long)size,
                     (unsigned long long)least);
  if (size > most)
    return error_set(error, GCH_BAD_VALUE, "%s is %llu, expected at most %llu", name, (unsigned long long)size,
                     (unsigned long long)most);
  return GCH_OK;
}

static uint64_t most_nursery(uint64_t max_bytes) {
  uint64_t quarter = max_bytes / 4;
  return quarter < NURSERY_MIN ? NURSERY_MIN : quarter < NURSERY_MAX ? quarter : NURSERY_MAX;
}

static gch_status check_sizes(const gch_config *c, gch_error *error) {
  uint64_t most = most_nursery(c->max_bytes);
  gch_status status = check_size("max_bytes", c->max_bytes, MAX_MIN, (uint64_t)1 << 44, error);
  if (status == GCH_OK) status = check_size("budget_bytes", c->budget_bytes, MAX_MIN, (uint64_t)1 << 44, error);
  if (status == GCH_OK) status = check_size("staging_bytes", c->staging_bytes, STAGING_MIN, STAGING_LIMIT, error);
  if (status == GCH_OK && c->nursery_bytes > most)
    return error_set(error, GCH_BAD_VALUE,
                     "nursery_bytes is %llu, expected at most %llu (a quarter of the limit; 64 GiB)",
                     (unsigned long long)c->nursery_bytes, (unsigned long long)most);
  if (status == GCH_OK) status = check_size("nursery_bytes", c->nursery_bytes, NURSERY_MIN, most, error);
  return status;
}

static gch_status check_config(const gch_config *c, gch_error *error) {
  if ((unsigned)c->mover >= GCH_MOVER_COUNT)
    return error_set(error, GCH_BAD_VALUE, "mover is %u, expected 0 to %d", (unsigned)c->mover, GCH_MOVER_COUNT - 1);
  if ((unsigned)c->fault_mode >= GCH_FAULT_COUNT)
    return error_set(error, GCH_BAD_VALUE, "fault_mode is %u, expected 0 (thread) or 1 (signal)",
                     (unsigned)c->fault_mode);
  if ((unsigned)c->huge > GCH_HUGE_OFF)
    return error_set(error, GCH_BAD_VALUE, "huge is %u, expected 0 (auto), 1 (on) or 2 (off)", (unsigned)c->huge);
  if ((unsigned)c->huge_faults > GCH_HUGE_THROUGHPUT)
    return error_set(error, GCH_BAD_VALUE, "huge_faults is %u, expected 0 (latency) or 1 (throughput)",
                     (unsigned)c->huge_faults);
  if (c->geometry_page != 0 &&
      (!is_pow2(c->geometry_page) || c->geometry_page % pages_size() != 0 || c->geometry_page > BLOCK_BYTES))
    return error_set(error, GCH_BAD_VALUE,
                     "geometry_page is %u, expected a power of two, a multiple of %llu, at most %d", c->geometry_page,
                     (unsigned long long)pages_size(), BLOCK_BYTES);
  if (c->gc_threads > GC_THREADS_MAX)
    return error_set(error, GCH_BAD_VALUE, "gc_threads is %u, expected at most %d", c->gc_threads, GC_THREADS_MAX);
  if ((unsigned)c->summaries > GCH_SUMMARIES_OFF)
    return error_set(error, GCH_BAD_VALUE, "summaries is %u, expected 0 (auto), 1 (on) or 2 (off)",
                     (unsigned)c->summaries);
  if (c->growth_percent > GROWTH_MAX && c->growth_percent != GCH_GROWTH_NEVER)
    return error_set(error, GCH_BAD_VALUE, "growth_percent is %u, expected at most %d, or GCH_GROWTH_NEVER",
                     c->growth_percent, GROWTH_MAX);
  if (c->budget_bytes != 0 && c->growth_percent != 0)
    return error_set(error, GCH_BAD_VALUE, "budget_bytes is %llu with a growth_percent of %u, expected one of them",
                     (unsigned long long)c->budget_bytes, c->growth_percent);
  if (c->soft_max_bytes > c->max_bytes)
    return error_set(error, GCH_BAD_VALUE, "soft_max_bytes is %llu, expected at most max_bytes, %llu",
                     (unsigned long long)c->soft_max_bytes, (unsigned long long)c->max_bytes);
  if (c->decay_ms > DECAY_MOST && c->decay_ms != GCH_DECAY_NEVER && c->decay_ms != GCH_DECAY_NOW)
    return error_set(error, GCH_BAD_VALUE, "decay_ms is %u, expected at most %d, GCH_DECAY_NEVER or GCH_DECAY_NOW",
                     c->decay_ms, DECAY_MOST);
  if (c->pause_target_ns != 0 && (c->pause_target_ns < TARGET_MIN || c->pause_target_ns > TARGET_MAX))
    return error_set(error, GCH_BAD_VALUE, "pause_target_ns is %llu, expected 0 (2 ms), or %llu to %llu",
                     (unsigned long long)c->pause_target_ns, (unsigned long long)TARGET_MIN,
                     (unsigned long long)TARGET_MAX);
  if (c->promote_age > 7)
    return error_set(error, GCH_BAD_VALUE, "promote_age is %u, expected 0 (choose) to 7", c->promote_age);
  if (c->event_capacity != 0 && (!is_pow2(c->event_capacity) || c->event_capacity > EVENTS_MAX))
    return error_set(error, GCH_BAD_VALUE, "event_capacity is %u, expected a power of two, at most %d",
                     c->event_capacity, EVENTS_MAX);
  return check_sizes(c, error);
}

/* What this build was compiled for, this processor may lack. */
static gch_status check_processor(gch_error *error) {
#ifdef __POPCNT__
  if (!__builtin_cpu_supports("popcnt"))
    return error_set(error, GCH_UNSUPPORTED, "%s",
                     "this processor has no POPCNT instruction; build gcheap with -DGCHEAP_POPCNT=OFF");
#else
  (void)error;
#endif
  return GCH_OK;
}

static void complete_config(gch_config *c) {
  uint32_t cpus = thread_cpu_count();
  c->max_bytes = align_up(c->max_bytes, BLOCK_BYTES);
  uint64_t nursery = most_nursery(c->max_bytes), staging = c->max_bytes / 16;
  if (nursery > NURSERY_DEFAULT) nursery = NURSERY_DEFAULT;
  if (c->nursery_bytes == 0)
    nursery =
        nursery_for_cache(machine_cache_share("", cpus), nursery < NURSERY_CACHE ? nursery : NURSERY_CACHE, nursery);
  c->nursery_bytes = align_up(choose(c->nursery_bytes, nursery), BLOCK_BYTES);
  if (c->decay_ms == 0) c->decay_ms = DECAY_DEFAULT;
  if (c->pause_target_ns == 0) c->pause_target_ns = TARGET_DEFAULT;
  staging = staging < STAGING_MIN ? STAGING_MIN : staging < STAGING_MAX ? staging : STAGING_MAX;
  c->staging_bytes = align_up(choose(c->staging_bytes, staging), BLOCK_BYTES);
  c->gc_threads = c->gc_threads != 0 ? c->gc_threads : cpus < GC_THREADS_AUTO ? cpus : GC_THREADS_AUTO;
  if (c->promote_age == 0) c->promote_age = 1;
  if (c->growth_percent == 0) c->growth_percent = GROWTH_DEFAULT;
  if (c->event_capacity == 0) c->event_capacity = EVENTS_DEFAULT;
}

/* --- address space -------------------------------------------------------------------------------------------- */

/* Young blocks: eden, survivors, where they go, and what stands where it was pinned; arenas are of one kind each; buffers of
 * many mutators, but not of any number of them: young_limit. */
static uint64_t young_span(const gch_config *c) { return 3 * c->nursery_bytes + 8 * ARENA_BYTES + 64 * MIB; }

static size_t page_of(const gch_config *c) { return choose(c->geometry_page, pages_size()); }

/* Completed, would it fit into the addresses that a process has? */
static gch_status check_addresses(const gch_config *c, gch_error *error) {
  uint64_t most = layout_most_bytes(young_span(c), c->staging_bytes, page_of(c));
  if (c->max_bytes <= most) return GCH_OK;
  return error_set(error, GCH_BAD_VALUE,
                   "max_bytes is %llu, expected at most %llu: a heap takes many times its limit of addresses",
                   (unsigned long long)c->max_bytes, (unsigned long long)most);
}

static int place(gch_heap *h, bool tight) {
  size_t page = page_of(&h->config);
  if (!layout_plan(&h->layout, h->config.max_bytes, young_span(&h->config), h->config.staging_bytes, page, tight))
    return -ENOMEM;
  void *base = NULL, *index = NULL;
  int rc = pages_reserve(&h->kernel, h->layout.span, h->layout.align, &base, NULL);
  if (rc < 0) return rc;
  index = malloc((h->layout.span >> h->layout.align_shift) + 1);
  if (index == NULL) {
    pages_release(&h->kernel, base, h->layout.span);
    return -ENOMEM;
  }
  layout_place(&h->layout, (uintptr_t)base);
  layout_index(&h->layout, index);
  return 0;
}

/* Where every mapping may get huge pages (the kernel's policy `always`), memory would come that the tables do not know of: who
 * did not ask for them says so. If that is refused, leaf destinations are emptied whatever the tables say. (A kernel without huge
 * pages answers EINVAL.) */
static void advise_region(gch_heap *h, const struct region *region) {
  int rc = pages_advise_huge(&h->kernel, (void *)region->start, region->bytes, h->huge);
  if (rc < 0 && rc != -EINVAL && !h->huge) at_store(&h->undropped, 1);
}

gch_status heap_renew_regions(gch_heap *h, gch_error *error) {
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    const struct region *region = &h->layout.regions[r];
    int rc = pages_renew(&h->kernel, (void *)region->start, region->bytes);
    if (rc < 0)
      return error_set(error, GCH_NO_MEMORY, "cannot map a region of %zu MiB anew: %s", region->bytes >> 20,
                       strerror(-rc));
    advise_region(h, region);
  }
  return GCH_OK;
}

static gch_status open_regions(gch_heap *h, gch_error *error) {
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    const struct region *region = &h->layout.regions[r];
    int rc = pages_commit_region(&h->kernel, (void *)region->start, region->bytes);
    if (rc >= 0) advise_region(h, region);
    if (rc < 0)
      return error_set(error, GCH_NO_MEMORY, "cannot open a region of %zu MiB: %s (vm.overcommit_memory, RLIMIT_AS?)",
                       region->bytes >> 20, strerror(-rc));
  }
  return GCH_OK;
}

static gch_status reserve_space(gch_heap *h, bool tight, gch_error *error) {
  int rc = place(h, tight);
  if (rc >= 0) return GCH_OK;
  return error_set(
      error, GCH_NO_MEMORY,
      "cannot reserve %llu GiB of addresses for a heap of at most %llu MiB: %s (see RLIMIT_AS, vm.overcommit_memory)",
      (unsigned long long)(h->layout.span >> 30), (unsigned long long)(h->config.max_bytes >> 20), strerror(-rc));
}

/* --- heap ----------------------------------------------------------------------------------------------------- */

static void init_measures(struct measures *m) {
  lock_init(&m->lock, RANK_MEASURES, "measures");
  histogram_init(&m->pause);
  histogram_init(&m->minor_pause);
  histogram_init(&m->flip_pause);
  histogram_init(&m->safepoint);
  histogram_init(&m->fault);
  histogram_init(&m->stall_move);
}

static void init_touching(struct touching *t) {
  for (int i = 0; i < GCH_ANSWER_COUNT; i++) histogram_init(&t->answers[i]);
}

static gch_status init_memory(gch_heap *h, bool tight, gch_error *error) {
  gch_status status = reserve_space(h, tight, error);
  if (status == GCH_OK) status = open_regions(h, error);
  if (status == GCH_OK) status = tables_init(&h->tables, &h->layout, &h->kernel, error);
  if (status == GCH_OK) status = typetab_init(&h->types, &h->kernel, error);
  if (status == GCH_OK) status = large_init(h, error);
  if (status == GCH_OK) status = frames_init(h, error);
  if (status != GCH_OK) return status;
  small_init(h);
  return ring_file_init(h, error);
}

/* Before any major: what lives nobody knows. */
static uint64_t first_goal(const gch_config *c) {
  uint64_t goal = c->soft_max_bytes != 0 ? c->soft_max_bytes : c->max_bytes;
  return c->budget_bytes != 0 && c->budget_bytes < goal ? c->budget_bytes : goal;
}

static gch_status join_budget(gch_heap *h, gch_error *error) {
  h->board = board_join(h->config.budget_bytes);
  if (h->board != 0) return GCH_OK;
  return error_set(error, GCH_BAD_STATE, "%d heaps share the budget, no more can", BOARD_HEAPS);
}

gch_status heap_new(const gch_config *config, bool tight, gch_heap **out, gch_error *error) {
  static const struct sized sized = {"gch_config", sizeof(gch_config), offsetof(gch_config, nursery_bytes),
                                     _Alignof(gch_config)};
  gch_config asked = {0};
  struct machine_memory memory;
  struct limits limits;
  gch_status status = sized_take(&sized, &asked, config, error);
  machine_memory_read("", &memory);
  limits_choose(asked.max_bytes, asked.soft_max_bytes, &memory, &limits);
  asked.max_bytes = limits.max_bytes;
  asked.soft_max_bytes = limits.soft_bytes;
  if (status == GCH_OK) status = check_config(&asked, error);
  if (status == GCH_OK) status = check_processor(error);
  if (status != GCH_OK) return status;
  gch_heap *h = calloc(1, sizeof *h);
  if (h == NULL) return error_set(error, GCH_NO_MEMORY, "no memory for a heap's records (%zu bytes)", sizeof *h);
  h->config = asked;
  h->memory_bytes = memory.bytes;
  memcpy(h->limit_reason, limits.reason, sizeof h->limit_reason);
  complete_config(&h->config);
  nursery_init(&h->nursery, asked.nursery_bytes != 0 ? h->config.nursery_bytes : NURSERY_MIN, h->config.nursery_bytes,
               h->config.pause_target_ns);
  kernel_init(&h->kernel);
  h->shared_fd = h->quiet.fd = h->missing.fd = h->trap.fd = -1;
  h->pid = (uint64_t)getpid();
  h->huge = h->config.huge == GCH_HUGE_ON;
  init_measures(&h->measures);
  init_touching(&h->touching);
  probe_run(&h->kernel, &h->probe);
  if (status == GCH_OK) status = check_addresses(&h->config, error);
  if (h->probe.thp == PAGES_THP_NEVER) h->huge = false;
  char text[160];
  if (status == GCH_OK && asked.inject != NULL && kernel_inject(&h->kernel, asked.inject, text, sizeof text) < 0)
    status = error_set(error, GCH_BAD_VALUE, "inject: %s", text);
  if (status == GCH_OK) status = init_memory(h, tight, error);
  if (status == GCH_OK && h->config.budget_bytes != 0) status = join_budget(h, error);
  if (status != GCH_OK) {
    heap_delete(h);
    return status;
  }
  bool never = h->config.growth_percent == GCH_GROWTH_NEVER;
  h->unit_pause_ns = UNIT_PAUSE_NS;
  at_store_relaxed(&h->major_trigger,
                   never ? UINT64_MAX : first_goal(&h->config) / 2); /* nobody else sees the heap yet */
  at_store_relaxed(&h->major_goal, h->config.max_bytes);
  at_store_relaxed(&h->brake.from, UINT64_MAX);
  *out = h;
  return GCH_OK;
}

void heap_delete(gch_heap *h) {
  mutator_forget_all(h);
  if (h->young.lock.name != NULL) small_destroy(h);
  if (h->frames.lock.name != NULL) frames_destroy(h);
  if (h->large.lock.name != NULL) large_destroy(h);
  if (h->types.items != NULL) typetab_destroy(&h->types, &h->kernel);
  if (h->tables.bytes != 0) tables_destroy(&h->tables, &h->layout, &h->kernel);
  if (h->layout.base != 0) pages_release(&h->kernel, (void *)h->layout.base, h->layout.span);
  if (h->board != 0) board_leave(h->board);
  lock_destroy(&h->measures.lock);
  free(h->layout.region_of);
  ring_file_destroy(h);
  kernel_close(&h->kernel);
  free(h);
}
