#include "gc/snapshot.h"

#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "gc/mark.h"

enum {
  FILTER_AHEAD = 16,
  BUFFERS_MAX = 8192, /* 32 MiB: what is beyond is marked by who stores */
  BUFFERS_MIN = 16,
  BUFFERS_KEEP = 16,
};

/* --- buffers -------------------------------------------------------------------------------------------------- */

static uint64_t *words_of(const struct snapshot *s, uint32_t buffer) {
  return s->words + (size_t)(buffer - 1) * SNAPSHOT_WORDS;
}

static void push(struct snapshot *s, uint64_t *list, uint32_t buffer) {
  uint64_t head = at_load(list);
  do at_store_relaxed(&s->next[buffer - 1], (uint32_t)head); /* published by the swap */
  while (!at_cas(list, &head, ((head >> 32) + 1) << 32 | buffer));
}

static uint32_t pop(struct snapshot *s, uint64_t *list) {
  uint64_t head = at_load(list);
  uint32_t buffer;
  do {
    buffer = (uint32_t)head;
    if (buffer == 0) return 0;
    GCH_POINT(buffer_popped);
  } while (
      !at_cas(list, &head, (head >> 32) << 32 | at_load_relaxed(&s->next[buffer - 1]))); /* stale: the count differs */
  return buffer;
}

/* 0: there is none. */
static uint32_t take_free(struct snapshot *s) {
  uint32_t buffer = pop(s, &s->free);
  if (buffer != 0) return buffer;
  if (at_load_relaxed(&s->taken) >= s->capacity) return 0; /* or it would count for ever */
  uint32_t fresh = at_add_relaxed(&s->taken, 1);
  return fresh < s->capacity ? fresh + 1 : 0;
}

static int reserve(gch_heap *h, size_t bytes, void **out) {
  return kernel_mmap(&h->kernel, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                     0, out);
}

/* A 64th of the heap. */
gch_status snapshot_init(gch_heap *h, gch_error *error) {
  struct snapshot *s = &h->snapshot;
  uint64_t buffers = h->config.max_bytes / 64 / (SNAPSHOT_WORDS * 8);
  s->capacity = (uint32_t)(buffers > BUFFERS_MAX ? BUFFERS_MAX : buffers < BUFFERS_MIN ? BUFFERS_MIN : buffers);
  int rc = reserve(h, (size_t)s->capacity * SNAPSHOT_WORDS * 8, (void **)&s->words);
  if (rc >= 0) rc = reserve(h, s->capacity * sizeof(uint32_t), (void **)&s->next);
  if (rc >= 0) rc = reserve(h, s->capacity * sizeof(uint32_t), (void **)&s->counts);
  if (rc >= 0) return GCH_OK;
  return error_set(error, GCH_NO_MEMORY, "cannot reserve addresses for snapshot logs: %s", strerror(-rc));
}

void snapshot_destroy(gch_heap *h) {
  struct snapshot *s = &h->snapshot;
  if (s->words != NULL) kernel_munmap(&h->kernel, s->words, (size_t)s->capacity * SNAPSHOT_WORDS * 8);
  if (s->next != NULL) kernel_munmap(&h->kernel, s->next, s->capacity * sizeof(uint32_t));
  if (s->counts != NULL) kernel_munmap(&h->kernel, s->counts, s->capacity * sizeof(uint32_t));
}

uint32_t snapshot_take(gch_heap *h, const uint64_t **words, uint32_t *count) {
  struct snapshot *s = &h->snapshot;
  uint32_t buffer = pop(s, &s->full);
  if (buffer == 0) return 0;
  *words = words_of(s, buffer);
  *count = s->counts[buffer - 1];
  return buffer;
}

void snapshot_give(gch_heap *h, uint32_t buffer) { push(&h->snapshot, &h->snapshot.free, buffer); }

void snapshot_trim(gch_heap *h) {
  struct snapshot *s = &h->snapshot;
  GCH_ASSERT(s->on == 0 && !snapshot_pending(h));
  uint32_t taken = at_load_relaxed(&s->taken); /* nobody has a buffer */
  at_store_relaxed(&s->taken, 0);
  at_store(&s->free, 0);
  if (taken > s->capacity) taken = s->capacity;
  if (taken > BUFFERS_KEEP)
    kernel_madvise(&h->kernel, words_of(s, BUFFERS_KEEP + 1), (size_t)(taken - BUFFERS_KEEP) * SNAPSHOT_WORDS * 8,
                   MADV_DONTNEED);
}

/* --- logs ----------------------------------------------------------------------------------------------------- */

/* Its words become the markers'; it has none. */
static void hand_over(gch_heap *h, struct mutator *m) {
  struct snapshot *s = &h->snapshot;
  if (m->pub.log == NULL) return;
  uint32_t buffer = (uint32_t)((uint64_t)(m->pub.log_end - s->words) / SNAPSHOT_WORDS);
  uint32_t count = (uint32_t)(m->pub.log - words_of(s, buffer));
  m->pub.log = m->pub.log_end = NULL;
  s->counts[buffer - 1] = count;
  at_add_relaxed(&s->logged, count);
  push(s, count > 0 ? &s->full : &s->free, buffer);
}

static void set_all(gch_heap *h, uint32_t on) {
  h->snapshot.on = on;
  for (struct mutator *m = h->world.mutators; m != NULL; m = m->next) m->pub.snapshot = on;
}

void snapshot_begin(gch_heap *h) {
  at_store_relaxed(&h->snapshot.logged, 0);
  set_all(h, 1);
}

void snapshot_flush(gch_heap *h) {
  for (struct mutator *m = h->world.mutators; m != NULL; m = m->next) hand_over(h, m);
}

void snapshot_end(gch_heap *h) { set_all(h, 0); }

void snapshot_give_up(gch_heap *h) {
  struct snapshot *s = &h->snapshot;
  s->on = 0;
  for (struct mutator *m = at_load(&h->world.records); m != NULL; m = m->next_record) {
    m->pub.snapshot = 0;
    m->pub.log = m->pub.log_end = NULL;
  }
  at_store(&s->full, 0);
  snapshot_trim(h);
}

void snapshot_attach(gch_heap *h, struct mutator *m) { m->pub.snapshot = h->snapshot.on; }
void snapshot_detach(gch_heap *h, struct mutator *m) { hand_over(h, m); }

/* Words that are worth handing over move to the front of a full log. */
static uint64_t *filter(const gch_heap *h, uint64_t *words) {
  uint64_t *kept = words;
  for (uint32_t i = 0; i < SNAPSHOT_WORDS; i++) {
    uintptr_t ahead = (uintptr_t)words[i + FILTER_AHEAD < SNAPSHOT_WORDS ? i + FILTER_AHEAD : i];
    if (heap_contains(h, ahead)) __builtin_prefetch(&h->tables.mark[granule_index(&h->layout, ahead) / 64]);
    if (mark_wanted(h, words[i])) *kept++ = words[i];
  }
  return kept;
}

/* Room in the log, after what was in it has been looked at; false: there is no buffer. */
static bool refill(gch_heap *h, struct mutator *m) {
  if (m->pub.log != NULL) {
    uint64_t *first = m->pub.log_end - SNAPSHOT_WORDS;
    m->pub.log = filter(h, first);
    if (m->pub.log - first < SNAPSHOT_WORDS / 4 * 3) return true;
    hand_over(h, m);
  }
  uint32_t buffer = take_free(&h->snapshot);
  if (buffer == 0) return false;
  m->pub.log = words_of(&h->snapshot, buffer);
  m->pub.log_end = m->pub.log + SNAPSHOT_WORDS;
  return true;
}

void gch_log_slow(gch_mutator *mutator, gch_ref previous) {
  struct mutator *m = mutator_of(mutator);
  gch_heap *h = mutator->heap;
  if (!heap_contains(h, (uintptr_t)previous)) return; /* null, mostly */
  if (gch_unlikely(m->pub.log == m->pub.log_end) && !refill(h, m)) {
    uint64_t start = clock_ns();
    mark_overwritten(h, (uint64_t)(uintptr_t)previous);
    stall_count(h, m, GCH_STALL_BARRIER, start, clock_ns());
    return;
  }
  *m->pub.log++ = (uint64_t)(uintptr_t)previous;
}
