/* Statistics, events and the heap map, as the public interface shows them. */
#include <string.h>

#include "gc/cycle.h"
#include "gc/fork.h"
#include "gc/safepoint.h"
#include "heap/mutator.h"
#include "heap/small.h"
#include "heap/trim.h"
#include "mover/mover.h"

_Static_assert(sizeof(gch_event) == sizeof(struct ring_event), "events are copied as they are");
/* What the library writes into memory of the caller without being told its size. */
_Static_assert(sizeof(gch_event) == 56 && sizeof(gch_block_info) == 24 && sizeof(gch_error) == 256, "they do not grow");
_Static_assert(sizeof(gch_cycle) == 512 && sizeof(gch_distribution) == 56, "nor do these, inside gch_stats either");

/* Of a large object, what does not lie in huge pages: those are counted by arenas. Lock held. (It keeps out who is born and
 * who dies; in a pause objects move without it.) */
static uint64_t small_pages_of(gch_heap *h, const struct large *e) {
  uint64_t bytes = 0;
  uintptr_t base = at_load_relaxed(&e->base), end = base + align_up(e->bytes, h->layout.page_bytes); /* a sample */
  for (uintptr_t at = base, next; at < end && base != 0; at = next) {
    next = arena_after(at);
    if (next > end) next = end;
    if (!at_load_relaxed(&heap_arena(h, at)->huge)) bytes += next - at;
  }
  return bytes;
}

static uint64_t large_bytes(gch_heap *h) {
  uint64_t bytes = 0;
  lock_lock(&h->large.lock);
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    uint32_t first, count = space_is_large(h->layout.regions[r].space) ? region_arenas(h, r, &first) : 0;
    for (uint32_t i = 0; i < count; i++)
      bytes += at_load_relaxed(&h->tables.arenas[first + i].huge) ? ARENA_BYTES : 0; /* a sample */
  }
  for (uint32_t id = 1; id < h->large.count; id++) bytes += small_pages_of(h, &h->large.entries[id]);
  lock_unlock(&h->large.lock);
  return bytes;
}

/* Memory behind the arenas in use: blocks, and large objects by page. */
static uint64_t populated_bytes(gch_heap *h) {
  uint64_t bytes = 0;
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    uint32_t first, count = region_arenas(h, r, &first);
    enum space_id space = h->layout.regions[r].space;
    for (uint32_t a = first; a < first + count && !space_is_large(space); a++)
      bytes +=
          (uint64_t)__builtin_popcount(at_load_relaxed(&h->tables.arenas[a].populated)) * BLOCK_BYTES; /* a sample */
  }
  return bytes + large_bytes(h) + frames_bytes(h);
}

static void fill_facts(gch_heap *h, gch_stats *s) {
  s->version = GCH_STATS_VERSION;
  s->struct_bytes = sizeof *s;
  s->mover = (uint32_t)h->mover->id;
  s->fault_mode = (uint32_t)h->config.fault_mode;
  s->gc_threads = h->config.gc_threads;
  s->page_bytes = (uint32_t)h->layout.page_bytes;
  s->huge = h->huge;
  memcpy(s->mover_reason, h->mover_reason, sizeof s->mover_reason);
  s->max_bytes = h->config.max_bytes;
  s->nursery_bytes = at_load_relaxed(&h->young.limit_blocks) * BLOCK_BYTES; /* a figure */
  s->budget_bytes = h->config.budget_bytes;
  s->pause_target_ns = h->config.pause_target_ns;
  s->staging_bytes = h->config.staging_bytes;
  s->memory_bytes = h->memory_bytes;
  s->soft_max_bytes = h->config.soft_max_bytes != 0 ? h->config.soft_max_bytes : h->config.max_bytes;
  memcpy(s->limit_reason, h->limit_reason, sizeof s->limit_reason);
}

static void fill_counters(gch_heap *h, gch_stats *s) {
  struct measures *m = &h->measures;
  s->heap_bytes = at_load_relaxed(&h->used_bytes); /* counters: each right, together a sample */
  s->trigger_bytes = at_load_relaxed(&h->major_trigger);
  s->goal_bytes = at_load_relaxed(&h->major_goal);
  s->allocated_bytes = at_load_relaxed(&m->allocated_bytes);
  s->promoted_bytes = at_load_relaxed(&m->promoted_bytes);
  s->minor_count = at_load_relaxed(&m->minor_count);
  s->major_count = at_load_relaxed(&m->major_count);
  s->handles = at_load_relaxed(&h->roots.handle_count);
  s->pins = at_load_relaxed(&h->pins.count);
  s->finalizers = at_load_relaxed(&h->finalizers.registered);
  s->finalizers_pending = at_load_relaxed(&h->finalizers.pending);
  s->faults = at_load_relaxed(&m->faults);
  for (int i = 0; i < GCH_STALL_COUNT; i++) {
    s->stall_count[i] = at_load_relaxed(&m->stalls.count[i]);
    s->stall_ns[i] = at_load_relaxed(&m->stalls.ns[i]);
  }
  for (int i = 0; i < GCH_REFUSAL_COUNT; i++) s->refusals[i] = at_load_relaxed(&m->refusals[i]);
  s->overdue_calls = at_load_relaxed(&m->overdue_calls);
  histogram_describe(&m->pause, &s->pause);
  histogram_describe(&m->minor_pause, &s->minor_pause);
  histogram_describe(&m->flip_pause, &s->flip_pause);
  histogram_describe(&m->safepoint, &s->safepoint);
  histogram_describe(&m->fault, &s->fault);
  histogram_describe(&m->stall_move, &s->stall_move);
}

void gch_stats_get(gch_heap *h, gch_stats *out, size_t bytes) {
  gch_stats s = {0};
  fill_facts(h, &s);
  fill_counters(h, &s);
  lock_lock(&h->measures.lock);
  s.last_minor = h->measures.last_minor;
  s.last_major = h->measures.last_major;
  lock_unlock(&h->measures.lock);
  s.live_bytes = s.last_major.live_bytes;
  s.populated_bytes = populated_bytes(h);
  s.table_bytes = trim_table_bytes(h);
  s.events_lost = ring_lost(&h->ring);
  s.mutators = at_load(&h->world.mutator_count);
  memset(out, 0, bytes); /* a newer caller's struct has fields that are not known here */
  memcpy(out, &s, bytes < sizeof s ? bytes : sizeof s);
}

void gch_stalls_get(const gch_mutator *mutator, gch_stalls *out, size_t bytes) {
  const struct mutator *m = (const struct mutator *)mutator;
  gch_stalls s = {0};
  for (int i = 0; i < GCH_STALL_COUNT; i++) {
    s.count[i] = at_load_relaxed(&m->stalls.count[i]);
    s.ns[i] = at_load_relaxed(&m->stalls.ns[i]);
  }
  memset(out, 0, bytes);
  memcpy(out, &s, bytes < sizeof s ? bytes : sizeof s);
}

void gch_report_get(gch_heap *h, gch_report *out, size_t bytes) {
  lock_lock(&h->measures.lock);
  gch_report report = h->measures.last_report;
  lock_unlock(&h->measures.lock);
  report.struct_bytes = sizeof report;
  memset(out, 0, bytes);
  memcpy(out, &report, bytes < sizeof report ? bytes : sizeof report);
}

const char *gch_actor_name(uint32_t actor) {
  static const char *const names[] = {"mutator", "worker", "handler", "minor"};
  return actor < GCH_ACTOR_COUNT ? names[actor] : "?";
}

const char *gch_answer_name(uint32_t answer) {
  static const char *const names[] = {"self", "worker", "handler", "busy"};
  return answer < GCH_ANSWER_COUNT ? names[answer] : "?";
}

size_t gch_events_read(gch_heap *h, uint64_t *sequence, gch_event *out, size_t capacity, uint64_t *lost) {
  return ring_read(&h->ring, sequence, (struct ring_event *)out, capacity, lost);
}

static uint64_t page_bytes_used(const gch_heap *h, size_t block) {
  uint64_t per_block = BLOCK_BYTES >> h->layout.page_shift;
  if (per_block == 0) return BLOCK_BYTES;
  return bits_count_range(h->large.pages, block * per_block, (block + 1) * per_block) << h->layout.page_shift;
}

static gch_block_info describe_block(const gch_heap *h, size_t b, enum space_id space) {
  const struct block *block = &h->tables.blocks[b];
  gch_block_info info = {.address = block_address(&h->layout, b),
                         .space = (uint8_t)space,
                         .free = block->state == BLOCK_FREE,
                         .pinned = block->pins != 0};
  info.populated = h->tables.arenas[b / ARENA_BLOCKS].populated >> b % ARENA_BLOCKS & 1;
  if (space_is_large(space)) {
    info.used_bytes = info.live_bytes = (uint32_t)page_bytes_used(h, b);
    info.populated |= info.used_bytes != 0;
  } else {
    info.used_bytes = block->top * (uint32_t)GRANULE_BYTES;
    info.live_bytes = space == SPACE_YOUNG && block->state == BLOCK_YOUNG ? 0 : block->live * (uint32_t)GRANULE_BYTES;
  }
  return info;
}

size_t gch_heap_map(gch_mutator *mutator, gch_block_info *out, size_t capacity) {
  struct mutator *m = mutator_of(mutator);
  gch_heap *h = mutator->heap;
  struct pause pause;
  size_t count = 0;
  if (fork_check(h, &m->error) != GCH_OK) return 0;
  cycle_inspect(h, &pause);
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    enum space_id space = h->layout.regions[r].space;
    uint32_t first, arenas = region_arenas(h, r, &first);
    for (uint32_t a = first; a < first + arenas && space != SPACE_FRAMES; a++) {
      if (h->tables.arenas[a].used == 0 && h->tables.arenas[a].populated == 0) continue;
      for (size_t b = (size_t)a * ARENA_BLOCKS; b < ((size_t)a + 1) * ARENA_BLOCKS; b++, count++)
        if (count < capacity) out[count] = describe_block(h, b, space);
    }
  }
  cycle_inspect_end(h, &pause);
  return count;
}
