#include "gc/mark_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "gc/cards.h"
#include "gc/roots.h"
#include "gc/safepoint.h"
#include "gc/snapshot.h"
#include "heap/small.h"
#include "heap/summary.h"
#include "object/scan_inline.h"
#include "os/pages.h"

enum {
  DEQUE_ITEMS = 4096,
  SLOTS_AT_A_TIME = 256,
  STACK_KEEP = 1 << 15, /* entries whose memory is kept between marks */
};

static int reserve(gch_heap *h, size_t bytes, void **out) {
  return kernel_mmap(&h->kernel, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                     0, out);
}

static uint64_t stack_capacity(const gch_heap *h) {
  uint64_t items = h->config.max_bytes / 16 / sizeof(uint64_t) / h->config.gc_threads;
  return items < STACK_MIN ? STACK_MIN : items;
}

static gch_status init(gch_heap *h, bool minor, gch_error *error) {
  struct marking *s = calloc(1, sizeof *s);
  h->marking[!minor] = s;
  if (s == NULL) return error_set(error, GCH_NO_MEMORY, "no memory for the records of markers");
  s->heap = h;
  s->minor = minor;
  s->overflow_bytes = bits_words(layout_block_count(&h->layout)) * 8;
  int rc = reserve(h, s->overflow_bytes, (void **)&s->overflow);
  for (uint32_t i = 0; i < h->config.gc_threads && rc >= 0; i++) {
    struct marker *m = &s->markers[i];
    m->heap = h;
    m->all = s;
    m->capacity = stack_capacity(h);
    rc = reserve(h, m->capacity * sizeof(uint64_t), (void **)&m->stack);
    if (rc >= 0) rc = reserve(h, DEQUE_ITEMS * sizeof(uint64_t), (void **)&m->deque_items);
    if (rc >= 0 && minor) rc = reserve(h, LISTED * sizeof *m->young, (void **)&m->young);
    if (rc >= 0 && minor) (void)pages_populate(&h->kernel, m->young, LISTED * sizeof *m->young); /* else a pause does */
    s->count = i + 1;
  }
  if (rc >= 0) return GCH_OK;
  return error_set(error, GCH_NO_MEMORY, "cannot reserve addresses for mark stacks: %s", strerror(-rc));
}

gch_status mark_init(gch_heap *h, gch_error *error) {
  gch_status status = init(h, true, error);
  return status == GCH_OK ? init(h, false, error) : status;
}

static void destroy(gch_heap *h, struct marking *s) {
  if (s == NULL) return;
  for (uint32_t i = 0; i < s->count; i++) {
    struct marker *m = &s->markers[i];
    if (m->stack != NULL) kernel_munmap(&h->kernel, m->stack, m->capacity * sizeof(uint64_t));
    if (m->deque_items != NULL) kernel_munmap(&h->kernel, m->deque_items, DEQUE_ITEMS * sizeof(uint64_t));
    if (m->young != NULL) kernel_munmap(&h->kernel, m->young, LISTED * sizeof *m->young);
  }
  if (s->overflow != NULL) kernel_munmap(&h->kernel, s->overflow, s->overflow_bytes);
  free(s);
}

void mark_destroy(gch_heap *h) {
  for (int major = 0; major < 2; major++) {
    destroy(h, h->marking[major]);
    h->marking[major] = NULL;
  }
}

/* --- jobs ---------------------------------------------------------------------------------------------------- */

static void stopped_worker(void *context, uint32_t worker, uint32_t workers) {
  struct marking *s = context;
  struct marker *m = marker_come(s, worker, workers, false);
  if (worker == 0) marker_visit_roots(m);
  if (s->minor) marker_visit_cards(m, &s->cards);
  marker_run(m);
}

static void rest_worker(void *context, uint32_t worker, uint32_t workers) {
  struct marking *s = context;
  struct marker *m = marker_come(s, worker, workers, false);
  marker_run(m);
}

static void beside_worker(void *context, uint32_t worker, uint32_t workers) {
  struct marking *s = context;
  marker_enter(s->heap);
  struct marker *m = marker_come(s, worker, workers, true);
  marker_run(m);
  marker_leave(s->heap);
}

/* What did not fit the stack, until all of it did. One worker: this is the path of small heaps and strange graphs. */
static void mark_overflowed(struct marker *m) {
  struct marking *s = m->all;
  size_t blocks = layout_block_count(&m->heap->layout);
  m->alone = true;
  while (at_xchg(&s->overflowed, 0) != 0) {
    for (uint64_t b = bits_find_next(s->overflow, 0, blocks); b != BITS_NONE;
         b = bits_find_next(s->overflow, b + 1, blocks)) {
      bits_clear_atomic(s->overflow, b);
      marker_rescan(m, b);
      marker_drain(m);
    }
  }
  marker_flush(m);
}

/* --- entry ---------------------------------------------------------------------------------------------------- */

static void give_stack_back(gch_heap *h, struct marker *m) {
  if (m->peak <= STACK_KEEP) return;
  uint64_t from = align_up(STACK_KEEP * sizeof(uint64_t), h->layout.page_bytes);
  kernel_madvise(&h->kernel, (char *)m->stack + from, align_down(m->capacity * sizeof(uint64_t), 4096) - from,
                 MADV_DONTNEED);
}

/* Blocks that minors kept since the last major swept the young region are counted for that one's sake (gc/minor.c). */
static void forget_kept(gch_heap *h) {
  uint32_t first = region_first_arena(h, layout_first_region(&h->layout, SPACE_YOUNG));
  for (uint32_t a = first; a < first + h->young.arena_count; a++)
    for (size_t b = (size_t)a * ARENA_BLOCKS; b < (size_t)(a + 1) * ARENA_BLOCKS && h->tables.arenas[a].used != 0; b++)
      h->tables.blocks[b].marked = 0;
}

static void begin(struct marking *s) {
  if (!s->minor) forget_kept(s->heap);
  s->objects_overwritten = s->bytes_overwritten = 0;
  s->waited_at = UINT64_MAX;
  s->waited = false;
  for (uint32_t i = 0; i < s->count; i++) {
    struct marker *m = &s->markers[i];
    m->result = (struct mark_result){0};
    m->peak = 0;
    m->young_count = 0;
    deque_init(&m->deque, m->deque_items, DEQUE_ITEMS);
  }
}

/* A job of the team: nobody has come yet. */
static void begin_job(struct marking *s) {
  at_store_relaxed(&s->present, 0); /* the team's lock publishes all of it */
  at_store_relaxed(&s->idle, 0);
  if (s->minor) cards_begin(s->heap, &s->cards);
}

static void end(struct marking *s, struct mark_result *result) {
  *result = (struct mark_result){.objects = at_load_relaxed(&s->objects_overwritten), /* the world is stopped */
                                 .bytes = at_load_relaxed(&s->bytes_overwritten)};
  for (uint32_t i = 0; i < s->count; i++) {
    result->objects += s->markers[i].result.objects;
    result->bytes += s->markers[i].result.bytes;
    give_stack_back(s->heap, &s->markers[i]);
  }
}

void marking_run(struct marking *s, uint32_t workers) {
  gch_heap *h = s->heap;
  begin_job(s);
  if (workers == 0) {
    team_run(h, rest_worker, s);
    mark_overflowed(&s->markers[0]);
    return;
  }
  team_run_beside(h, beside_worker, s, workers);
  marker_enter(h);
  mark_overflowed(&s->markers[0]);
  marker_leave(h);
}

static void mark_stopped(gch_heap *h, struct marking *s, struct mark_result *result) {
  begin(s);
  begin_job(s);
  team_run(h, stopped_worker, s);
  mark_overflowed(&s->markers[0]);
  while (mark_waiting(s)) marking_run(s, 0);
  mark_settle(s, 0);
  end(s, result);
}

void mark_minor(gch_heap *h, struct mark_result *result) { mark_stopped(h, h->marking[0], result); }

uint32_t mark_young_slots(const gch_heap *h, uint64_t *next, const struct card_slot **first) {
  const struct marking *s = h->marking[0];
  uint64_t i = at_add_relaxed(next, 1); /* the mark is over */
  for (uint32_t k = 0; k < s->count; k++) {
    uint64_t count = s->markers[k].young_count, from = i * SLOTS_AT_A_TIME;
    if (from < count) {
      *first = s->markers[k].young + from;
      return (uint32_t)(count - from < SLOTS_AT_A_TIME ? count - from : SLOTS_AT_A_TIME);
    }
    i -= div_ceil(count, SLOTS_AT_A_TIME);
  }
  return 0;
}

void mark_major(gch_heap *h, struct mark_result *result) { mark_stopped(h, h->marking[1], result); }

void mark_begin(gch_heap *h) {
  struct marking *s = h->marking[1];
  begin(s);
  begin_job(s);
  struct marker *m = marker_come(s, 0, 1, false);
  marker_mark_roots(m);
  marker_flush(m);
}

void mark_beside(gch_heap *h, uint32_t workers) {
  struct marking *s = h->marking[1];
  bool more;
  GCH_POINT(marking_beside); /* not counted yet: pauses may be */
  do {
    marking_run(s, workers);
    marker_enter(h);
    more = mark_waiting(s);
    marker_leave(h);
  } while (more);
}

bool mark_remark(gch_heap *h, uint64_t deadline_ns) {
  struct marking *s = h->marking[1];
  begin_job(s);
  struct marker *m = marker_come(s, 0, 1, false);
  m->deadline = deadline_ns;
  snapshot_flush(h);
  bool more;
  do {
    do marker_drain(m);
    while (!marker_is_late(m) && marker_take_log(m));
    more = mark_waiting(s);
  } while (more && !marker_is_late(m));
  m->deadline = 0;
  marker_flush(m);
  if (!marker_is_empty(m) || more || snapshot_pending(h) || at_load(&s->overflowed) != 0) return false;
  at_store(&h->weak.judging, 1); /* what programs read of weak cells is judged from now on */
  return true;
}

void mark_judge(gch_heap *h, uint32_t workers) { mark_settle(h->marking[1], workers); }

void mark_end(gch_heap *h, struct mark_result *result) {
  end(h->marking[1], result);
  snapshot_trim(h);
}

/* What is listed at the beginning of judging is judged, all of it or none: of a mark that is complete. What is listed later, when
 * finalizers have been, is not. */
void mark_give_up(gch_heap *h) {
  struct marking *s = h->marking[1];
  bool judging = at_load(&h->weak.judging) != 0;
  for (uint32_t i = 0; i < s->count; i++) {
    struct marker *m = &s->markers[i];
    if (judging)
      cells_clear(h, &m->cells, false, false);
    else
      cells_forget(&m->cells);
    m->top = m->block_live = m->deadline = 0;
    m->found_count = m->queue_count = 0;
    m->dropped = false;
    give_stack_back(h, m);
  }
  at_store(&h->weak.judging, 0);
  size_t blocks = layout_block_count(&h->layout);
  for (uint64_t b = 0; (b = bits_find_next(s->overflow, b, blocks)) != BITS_NONE; b++)
    bits_clear_atomic(s->overflow, b);
  at_store(&s->overflowed, 0);
}
