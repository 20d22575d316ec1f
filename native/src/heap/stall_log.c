#include "heap/stall_log.h"

#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "heap/mutator.h"

/* A word: when the stall began, in ticks since the cycle did; how long it was; its cause. Longer ones are several words. */
enum { CAUSE_BITS = 4, LENGTH_BITS = 26, START_BITS = 34, TICK_SHIFT = 4 };
_Static_assert(CAUSE_BITS + LENGTH_BITS + START_BITS == 64 && GCH_STALL_COUNT <= 1 << CAUSE_BITS, "a stall is a word");

static const uint64_t LENGTH_MAX = ((uint64_t)1 << LENGTH_BITS) - 1, START_MAX = ((uint64_t)1 << START_BITS) - 1;
static const uint32_t ON = 1 << 16;
/* A mutator touches a unit that is missing once a cycle, mostly; the rest is pauses and allocation. */
static const uint64_t WORDS_MIN = 64 * STALL_CHUNK, WORDS_MAX = (uint64_t)1 << 22;

/* --- life ----------------------------------------------------------------------------------------------------- */

static int reserve(gch_heap *h, size_t bytes, void **out) {
  return kernel_mmap(&h->kernel, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                     0, out);
}

static size_t words_bytes(const struct stall_log *l) { return (size_t)l->chunks * STALL_CHUNK * sizeof *l->words; }
static size_t spans_bytes(const struct stall_log *l) { return (size_t)l->chunks * STALL_CHUNK * sizeof *l->spans; }

gch_status stall_log_init(gch_heap *h, gch_error *error) {
  struct stall_log *l = &h->stall_log;
  uint64_t words = WORDS_MIN + 2 * (h->config.max_bytes >> BLOCK_SHIFT);
  l->chunks = (uint32_t)((words < WORDS_MAX ? words : WORDS_MAX) / STALL_CHUNK);
  int rc = reserve(h, words_bytes(l), (void **)&l->words);
  if (rc >= 0) rc = reserve(h, spans_bytes(l), (void **)&l->spans);
  if (rc >= 0) return GCH_OK;
  return error_set(error, GCH_NO_MEMORY, "cannot reserve addresses for logs of stalls: %s", strerror(-rc));
}

void stall_log_destroy(gch_heap *h) {
  struct stall_log *l = &h->stall_log;
  if (l->words != NULL) kernel_munmap(&h->kernel, l->words, words_bytes(l));
  if (l->spans != NULL) kernel_munmap(&h->kernel, l->spans, spans_bytes(l));
}

/* --- appending ------------------------------------------------------------------------------------------------ */

/* Of a mutator: where its next word goes. The low 16 bits of `cycle`, a chunk, words of it in use. */
static uint64_t make_place(uint32_t cycle, uint64_t chunk, uint32_t used) {
  return (uint64_t)(cycle & 0xffff) << 48 | chunk << 16 | used;
}

static uint64_t *chunk_at(const struct stall_log *l, uint64_t number) {
  return l->words + number % l->chunks * STALL_CHUNK;
}

static uint64_t *take_chunk(struct stall_log *l, uint64_t *number) {
  if (at_load_relaxed(&l->taken) - at_load(&l->first) >= l->chunks) return NULL; /* or it would count for ever */
  *number = at_add_relaxed(&l->taken, 1);
  return *number - at_load(&l->first) < l->chunks ? chunk_at(l, *number) : NULL;
}

/* A new chunk of the mutator with the word in it, which becomes the one that others append to, unless somebody was quicker: then
 * it stays as it is. */
static bool put_in_new(struct stall_log *l, struct mutator *m, uint32_t cycle, uint64_t place, uint64_t word) {
  uint64_t number, *chunk = take_chunk(l, &number);
  if (chunk == NULL) return false;
  at_store_relaxed(&chunk[1], word);
  at_store(&chunk[0], (uint64_t)at_load_relaxed(&m->thread));
  at_cas(&m->stall_place, &place, make_place(cycle, number % l->chunks, 2));
  return true;
}

static bool put(struct stall_log *l, struct mutator *m, uint32_t cycle, uint64_t word) {
  uint64_t place = at_load(&m->stall_place);
  for (;;) {
    uint32_t used = (uint32_t)place & 0xffff;
    if (place >> 48 != (cycle & 0xffff) || used == 0 || used == STALL_CHUNK)
      return put_in_new(l, m, cycle, place, word);
    if (!at_cas(&m->stall_place, &place, place + 1)) continue;
    at_store(&chunk_at(l, place >> 16 & UINT32_MAX)[used], word);
    return true;
  }
}

void stall_log_add(gch_heap *h, struct mutator *m, gch_stall cause, uint64_t start, uint64_t end) {
  struct stall_log *l = &h->stall_log;
  uint32_t cycle = at_load_seq(&l->cycle);
  if (cycle == 0) return;
  uint64_t origin = at_load(&l->origin);
  if (end <= origin) return;
  uint64_t at = start > origin ? (start - origin) >> TICK_SHIFT : 0, stop = (end - origin) >> TICK_SHIFT;
  bool kept = stop <= START_MAX;
  do {
    uint64_t length = stop - at < LENGTH_MAX ? stop - at : LENGTH_MAX;
    if (length == 0) length = 1; /* a tick at least: 0 is an empty word */
    kept = kept && put(l, m, cycle, at << (LENGTH_BITS + CAUSE_BITS) | length << CAUSE_BITS | cause);
    at += length;
  } while (kept && at < stop);
  if (kept) return;
  at_add_relaxed(&l->lost, 1);
  at_add_relaxed(&l->lost_ns, end - start);
}

/* --- reading -------------------------------------------------------------------------------------------------- */

void stall_log_begin(gch_heap *h, uint64_t number, uint64_t now) {
  struct stall_log *l = &h->stall_log;
  at_store_relaxed(&l->lost, 0);
  at_store_relaxed(&l->lost_ns, 0);
  at_store(&l->first, at_load_relaxed(&l->taken));
  at_store(&l->origin, now);
  at_store_seq(&l->cycle, ON | (uint32_t)(number & 0xffff));
}

void stall_log_end(gch_heap *h, uint64_t now) {
  struct stall_log *l = &h->stall_log;
  for (struct mutator *m = at_load(&h->world.records); m != NULL; m = m->next_record) {
    uint64_t since = at_load(&m->stalled_since);
    if (since != 0 && since < now) stall_log_add(h, m, (gch_stall)at_load_relaxed(&m->stalled_by), since, now);
  }
  at_store_seq(&l->cycle, 0);
}

static uint64_t chunks_taken(const struct stall_log *l) {
  uint64_t taken = at_load_relaxed(&l->taken) - at_load_relaxed(&l->first);
  return taken < l->chunks ? taken : l->chunks;
}

static size_t read_chunk(struct stall_log *l, const uint64_t *chunk, size_t count) {
  for (int i = 1; i < STALL_CHUNK; i++) {
    uint64_t word = at_load(&chunk[i]), length = word >> CAUSE_BITS & LENGTH_MAX;
    if (length == 0) continue;
    uint64_t start = at_load_relaxed(&l->origin) + (word >> (LENGTH_BITS + CAUSE_BITS) << TICK_SHIFT);
    l->spans[count++] = (struct span){start, start + (length << TICK_SHIFT), word & ((1 << CAUSE_BITS) - 1)};
  }
  return count;
}

size_t stall_log_next(gch_heap *h, uint32_t *thread) {
  struct stall_log *l = &h->stall_log;
  uint64_t taken = chunks_taken(l);
  size_t count = 0;
  *thread = 0;
  for (uint64_t i = 0; i < taken; i++) {
    uint64_t *chunk = chunk_at(l, at_load_relaxed(&l->first) + i), whose = at_load(&chunk[0]);
    if (whose == 0 || (*thread != 0 && whose != *thread)) continue;
    *thread = (uint32_t)whose;
    count = read_chunk(l, chunk, count);
    at_store_relaxed(&chunk[0], 0); /* read */
  }
  return spans_flatten(l->spans, count);
}

static void drop(gch_heap *h, void *start, size_t bytes) {
  if (bytes > 0 && kernel_madvise(&h->kernel, start, bytes, MADV_DONTNEED) < 0) memset(start, 0, bytes);
}

/* Chunks are empty when they are taken. */
void stall_log_forget(gch_heap *h) {
  struct stall_log *l = &h->stall_log;
  uint64_t taken = chunks_taken(l), first = at_load_relaxed(&l->first) % l->chunks;
  uint64_t here = first + taken < l->chunks ? taken : l->chunks - first;
  size_t chunk_bytes = STALL_CHUNK * sizeof *l->words;
  if (taken == 0) return;
  drop(h, chunk_at(l, first), here * chunk_bytes);
  drop(h, l->words, (taken - here) * chunk_bytes);
  kernel_madvise(&h->kernel, l->spans, spans_bytes(l), MADV_DONTNEED); /* what cannot be given back is overwritten */
}
