#include "heap/create.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/units.h"
#include "heap/small.h"
#include "os/pages.h"
#include "os/thread.h"

enum { EVENTS_DEFAULT = 16384, GC_THREADS_MAX = 64, GC_THREADS_AUTO = 8 };

static const uint64_t NURSERY_DEFAULT = 4 * MIB, NURSERY_MIN = 4 * BLOCK_BYTES;
static const uint64_t MAX_DEFAULT = 1 * GIB, MAX_MIN = 1 * MIB, STAGING_MAX = 32 * MIB;
static const uint64_t MAX_MAX = (uint64_t)1 << 44, NURSERY_MAX = 64 * GIB, STAGING_LIMIT = 1 * GIB;

void gch_config_init(gch_config *config) { *config = (gch_config){.struct_bytes = sizeof *config}; }

/* --- configuration -------------------------------------------------------------------------------------------- */

static gch_status check_config(const gch_config *c, gch_error *error) {
  if (c->struct_bytes != sizeof *c)
    return error_set(error, GCH_BAD_VALUE, "gch_config.struct_bytes is %u, expected %zu (use gch_config_init)",
                     c->struct_bytes, sizeof *c);
  if ((unsigned)c->mover >= GCH_MOVER_COUNT)
    return error_set(error, GCH_BAD_VALUE, "mover is %u, expected 0 to %d", (unsigned)c->mover, GCH_MOVER_COUNT - 1);
  if ((unsigned)c->fault_mode >= GCH_FAULT_COUNT)
    return error_set(error, GCH_BAD_VALUE, "fault_mode is %u, expected 0 (thread) or 1 (signal)",
                     (unsigned)c->fault_mode);
  if (c->max_bytes != 0 && c->max_bytes < MAX_MIN)
    return error_set(error, GCH_BAD_VALUE, "max_bytes is %llu, expected at least %llu",
                     (unsigned long long)c->max_bytes, (unsigned long long)MAX_MIN);
  if (c->max_bytes > MAX_MAX)
    return error_set(error, GCH_BAD_VALUE, "max_bytes is %llu, expected at most %llu (16 TiB)",
                     (unsigned long long)c->max_bytes, (unsigned long long)MAX_MAX);
  if (c->nursery_bytes > NURSERY_MAX)
    return error_set(error, GCH_BAD_VALUE, "nursery_bytes is %llu, expected at most %llu (64 GiB)",
                     (unsigned long long)c->nursery_bytes, (unsigned long long)NURSERY_MAX);
  if (c->staging_bytes > STAGING_LIMIT)
    return error_set(error, GCH_BAD_VALUE, "staging_bytes is %llu, expected at most %llu (1 GiB)",
                     (unsigned long long)c->staging_bytes, (unsigned long long)STAGING_LIMIT);
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
  if (c->promote_age > 7)
    return error_set(error, GCH_BAD_VALUE, "promote_age is %u, expected 0 (choose) to 7", c->promote_age);
  if (c->event_capacity != 0 && !is_pow2(c->event_capacity))
    return error_set(error, GCH_BAD_VALUE, "event_capacity is %u, expected a power of two", c->event_capacity);
  return GCH_OK;
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

static uint64_t choose(uint64_t asked, uint64_t fallback) { return asked != 0 ? asked : fallback; }

static void complete_config(gch_config *c) {
  uint32_t cpus = thread_cpu_count();
  c->max_bytes = align_up(choose(c->max_bytes, MAX_DEFAULT), BLOCK_BYTES);
  c->nursery_bytes = align_up(choose(c->nursery_bytes, NURSERY_DEFAULT), BLOCK_BYTES);
  if (c->nursery_bytes > c->max_bytes / 4) c->nursery_bytes = align_down(c->max_bytes / 4, BLOCK_BYTES);
  if (c->nursery_bytes < NURSERY_MIN) c->nursery_bytes = NURSERY_MIN;
  uint64_t staging = c->max_bytes / 16 < STAGING_MAX ? c->max_bytes / 16 : STAGING_MAX;
  c->staging_bytes = align_up(choose(c->staging_bytes, staging), BLOCK_BYTES);
  if (c->staging_bytes < 8 * BLOCK_BYTES) c->staging_bytes = 8 * BLOCK_BYTES;
  c->gc_threads = c->gc_threads != 0 ? c->gc_threads : cpus < GC_THREADS_AUTO ? cpus : GC_THREADS_AUTO;
  if (c->promote_age == 0) c->promote_age = 1;
  if (c->event_capacity == 0) c->event_capacity = EVENTS_DEFAULT;
}

/* --- address space -------------------------------------------------------------------------------------------- */

/* Young blocks: eden, survivors, where they go, and what stands where it was pinned; arenas are of one kind each; buffers of
 * many mutators, but not of any number of them: young_limit. */
static uint64_t young_span(const gch_config *c) { return 3 * c->nursery_bytes + 8 * ARENA_BYTES + 64 * MIB; }

static int place(gch_heap *h, size_t page, bool tight) {
  if (!layout_plan(&h->layout, h->config.max_bytes, young_span(&h->config), h->config.staging_bytes, page, tight))
    return -1;
  void *base = NULL, *index = NULL;
  int rc = pages_reserve(&h->kernel, h->layout.span, h->layout.align, &base, NULL);
  if (rc < 0) return rc;
  index = malloc((h->layout.span >> h->layout.align_shift) + 1);
  if (index == NULL) {
    pages_release(&h->kernel, base, h->layout.span);
    return -1;
  }
  layout_place(&h->layout, (uintptr_t)base);
  layout_index(&h->layout, index);
  return 0;
}

static gch_status open_regions(gch_heap *h, gch_error *error) {
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    const struct region *region = &h->layout.regions[r];
    int rc = pages_commit_region(&h->kernel, (void *)region->start, region->bytes);
    if (rc >= 0 && h->config.huge != GCH_HUGE_AUTO)
      pages_advise_huge(&h->kernel, (void *)region->start, region->bytes, h->huge);
    if (rc < 0)
      return error_set(error, GCH_NO_MEMORY, "cannot open a region of %zu MiB: %s (vm.overcommit_memory, RLIMIT_AS?)",
                       region->bytes >> 20, strerror(-rc));
  }
  return GCH_OK;
}

static gch_status reserve_space(gch_heap *h, gch_error *error) {
  size_t page = choose(h->config.geometry_page, pages_size());
  int rc = place(h, page, false);
  if (rc < 0) rc = place(h, page, true);
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

static gch_status init_memory(gch_heap *h, gch_error *error) {
  gch_status status = reserve_space(h, error);
  if (status == GCH_OK) status = open_regions(h, error);
  if (status == GCH_OK) status = tables_init(&h->tables, &h->layout, &h->kernel, error);
  if (status == GCH_OK) status = typetab_init(&h->types, &h->kernel, error);
  if (status == GCH_OK) status = large_init(h, error);
  if (status == GCH_OK) status = frames_init(h, error);
  if (status != GCH_OK) return status;
  h->ring_slots = calloc(h->config.event_capacity, sizeof *h->ring_slots);
  if (h->ring_slots == NULL)
    return error_set(error, GCH_NO_MEMORY, "no memory for %u events", h->config.event_capacity);
  ring_init(&h->ring, h->ring_slots, h->config.event_capacity);
  small_init(h);
  return GCH_OK;
}

gch_status heap_new(const gch_config *config, gch_heap **out, gch_error *error) {
  gch_status status = check_config(config, error);
  if (status == GCH_OK) status = check_processor(error);
  if (status != GCH_OK) return status;
  gch_heap *h = calloc(1, sizeof *h);
  if (h == NULL) return error_set(error, GCH_NO_MEMORY, "no memory for a heap's records (%zu bytes)", sizeof *h);
  h->config = *config;
  complete_config(&h->config);
  kernel_init(&h->kernel);
  h->shared_fd = h->quiet.fd = h->missing.fd = h->trap.fd = -1;
  h->pid = (uint64_t)getpid();
  h->huge = h->config.huge == GCH_HUGE_ON;
  init_measures(&h->measures);
  probe_run(&h->kernel, &h->probe);
  if (h->probe.thp == PAGES_THP_NEVER) h->huge = false;
  char text[160];
  if (config->inject != NULL && kernel_inject(&h->kernel, config->inject, text, sizeof text) < 0)
    status = error_set(error, GCH_BAD_VALUE, "inject: %s", text);
  if (status == GCH_OK) status = init_memory(h, error);
  if (status != GCH_OK) {
    heap_delete(h);
    return status;
  }
  at_store_relaxed(&h->major_trigger, h->config.max_bytes / 2); /* nobody else sees the heap yet */
  *out = h;
  return GCH_OK;
}

void heap_delete(gch_heap *h) {
  if (h->young.lock.name != NULL) small_destroy(h);
  if (h->frames.lock.name != NULL) frames_destroy(h);
  if (h->large.lock.name != NULL) large_destroy(h);
  if (h->types.items != NULL) typetab_destroy(&h->types, &h->kernel);
  if (h->tables.bytes != 0) tables_destroy(&h->tables, &h->layout, &h->kernel);
  if (h->layout.base != 0) pages_release(&h->kernel, (void *)h->layout.base, h->layout.span);
  lock_destroy(&h->measures.lock);
  free(h->layout.region_of);
  free(h->ring_slots);
  kernel_close(&h->kernel);
  free(h);
}
