#include "gc/sampler.h"

#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/seqlock.h"
#include "gc/phase.h"
#include "heap/ring_file.h"
#include "heap/small.h"
#include "os/thread.h"

enum { SHARE = 50, NOT_KNOWN = 255 };
static const uint64_t PERIOD_NS = 100000000;

struct sampler {
  struct thread thread;
  struct lock lock;
  struct cond wake;
  bool quit;      /* [lock] */
  uint64_t bytes; /* [const] of this mapping */
  uint64_t count, unlisted;       /* [owner] of the map that is being made */
  struct ring_file_map *staged;   /* [owner] behind this struct: the map, before it is published */
  uint32_t *taken; /* [owner] an arena of the large spaces: bytes that objects take; all 0 between samples */
  uint8_t *lives; /* [atomic] an arena: blocks' worth of live objects + 1; 0: not known */
};

static uint64_t map_bytes(uint64_t arenas) { return sizeof(struct ring_file_map) + arenas * sizeof(gch_arena_info); }

void sampler_note(gch_heap *h, uint32_t arena) {
  if (h->sampler == NULL) return;
  const struct block *b = &h->tables.blocks[(size_t)arena * ARENA_BLOCKS];
  uint64_t live = 0;
  for (uint32_t i = 0; i < ARENA_BLOCKS; i++) live += b[i].state == BLOCK_USED ? b[i].live : 0;
  uint64_t blocks = h->tables.arenas[arena].used == 0 ? 0 : 1 + (live + BLOCK_GRANULES - 1) / BLOCK_GRANULES;
  at_store_relaxed(&h->sampler->lives[arena], (uint8_t)blocks); /* a sample */
}

/* --- the map -------------------------------------------------------------------------------------------------- */

static void list_arena(struct sampler *s, uint64_t capacity, gch_arena_info info) {
  if (s->count < capacity)
    s->staged->arenas[s->count++] = info;
  else
    s->unlisted++;
}

static void list_small(gch_heap *h, uint32_t region, uint64_t capacity) {
  struct sampler *s = h->sampler;
  uint32_t first, count = region_arenas(h, region, &first);
  for (uint32_t a = first; a < first + count; a++) {
    const struct arena *arena = &h->tables.arenas[a];
    uint32_t populated = at_load_relaxed(&arena->populated); /* samples, all of them */
    uint8_t live = at_load_relaxed(&s->lives[a]);
    if (populated == 0) continue;
    if (h->layout.regions[region].space == SPACE_YOUNG) live = 0;
    list_arena(s, capacity,
               (gch_arena_info){.arena = a,
                                .space = (uint8_t)h->layout.regions[region].space,
                                .populated = (uint8_t)__builtin_popcount(populated),
                                .live = live != 0 ? (uint8_t)(live - 1) : NOT_KNOWN,
                                .huge = at_load_relaxed(&arena->huge)});
  }
}

/* Lock of the large spaces held: nobody is born or dies; in a pause objects may move meanwhile. */
static void spread_large(gch_heap *h) {
  uint32_t *taken = h->sampler->taken;
  for (uint32_t id = 1; id < h->large.count; id++) {
    const struct large *e = &h->large.entries[id];
    uintptr_t base = at_load_relaxed(&e->base), end = base + align_up(e->bytes, h->layout.page_bytes); /* a sample */
    for (uintptr_t at = base, next; at < end && base != 0; at = next) {
      next = arena_after(at) < end ? arena_after(at) : end;
      taken[arena_index(&h->layout, at)] += (uint32_t)(next - at);
    }
  }
}

static void list_large(gch_heap *h, uint32_t region, uint64_t capacity) {
  struct sampler *s = h->sampler;
  uint32_t first, count = region_arenas(h, region, &first);
  for (uint32_t a = first; a < first + count; a++) {
    uint32_t blocks = (s->taken[a] + BLOCK_BYTES - 1) / BLOCK_BYTES;
    uint8_t huge = at_load_relaxed(&h->tables.arenas[a].huge); /* a sample */
    if (blocks > ARENA_BLOCKS) blocks = ARENA_BLOCKS; /* objects have moved while they were looked at */
    s->taken[a] = 0;
    if (blocks == 0 && !huge) continue;
    list_arena(s, capacity,
               (gch_arena_info){.arena = a,
                                .space = (uint8_t)h->layout.regions[region].space,
                                .populated = huge ? ARENA_BLOCKS : (uint8_t)blocks,
                                .live = (uint8_t)blocks,
                                .huge = huge});
  }
}

static void sample_map(gch_heap *h) {
  struct sampler *s = h->sampler;
  struct ring_file_map *map = ring_file_map(h->ring_file);
  uint64_t capacity = h->ring_file->header->map_capacity;
  s->count = s->unlisted = 0;
  lock_lock(&h->large.lock);
  spread_large(h);
  for (uint32_t r = 0; r < h->layout.region_count; r++)
    if (space_is_large(h->layout.regions[r].space)) list_large(h, r, capacity);
  lock_unlock(&h->large.lock);
  for (uint32_t r = 0; r < h->layout.region_count; r++)
    if (!space_is_large(h->layout.regions[r].space) && h->layout.regions[r].space != SPACE_FRAMES)
      list_small(h, r, capacity);
  s->staged->count = s->count;
  s->staged->unlisted = s->unlisted;
  seqlock_write(&map->stamp, &map->count, &s->staged->count, 2 + s->count);
}

static void sample(gch_heap *h) {
  uint64_t *live = ring_file_live(h->ring_file);
  gch_ring_live now = {.phase = phase_now(h)};
  gch_stats_get(h, &now.stats, sizeof now.stats);
  now.time = clock_ns();
  seqlock_write(live, live + 1, &now, sizeof now / 8);
  sample_map(h);
}

/* --- the thread ----------------------------------------------------------------------------------------------- */

static void sampler_main(void *arg) {
  gch_heap *h = arg;
  struct sampler *s = h->sampler;
  lock_lock(&s->lock);
  while (!s->quit) {
    lock_unlock(&s->lock);
    uint64_t start = clock_ns();
    sample(h);
    uint64_t took = clock_ns() - start, rest = SHARE * took > PERIOD_NS ? SHARE * took : PERIOD_NS;
    lock_lock(&s->lock);
    while (!s->quit && cond_wait_until(&s->wake, &s->lock, start + rest)) {
    }
  }
  lock_unlock(&s->lock);
}

/* All it needs in one mapping, of which only what is used gets memory. */
static struct sampler *make(gch_heap *h) {
  uint64_t arenas = layout_arena_count(&h->layout);
  uint64_t staged = align_up(sizeof(struct sampler), 64);
  uint64_t taken = staged + align_up(map_bytes(h->ring_file->header->map_capacity), 64);
  uint64_t lives = taken + arenas * sizeof(uint32_t), bytes = lives + arenas;
  void *at;
  if (kernel_mmap(&h->kernel, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0,
                  &at) < 0)
    return NULL;
  struct sampler *s = at;
  s->bytes = bytes;
  s->staged = (struct ring_file_map *)(void *)((char *)at + staged);
  s->taken = (uint32_t *)(void *)((char *)at + taken);
  s->lives = (uint8_t *)at + lives;
  return s;
}

gch_status sampler_start(gch_heap *h, gch_error *error) {
  if (h->ring_file == NULL) return GCH_OK;
  struct sampler *s = make(h);
  if (s == NULL) return error_set(error, GCH_NO_MEMORY, "no memory for the sampler of the ring file");
  lock_init(&s->lock, RANK_WATCHDOG, "sampler");
  cond_init(&s->wake);
  h->sampler = s;
  if (thread_start(&s->thread, "gcheap-sample", sampler_main, h) >= 0) return GCH_OK;
  cond_destroy(&s->wake);
  lock_destroy(&s->lock);
  sampler_forget(h);
  return error_set(error, GCH_NO_MEMORY, "%s", "cannot start the sampler thread");
}

void sampler_stop(gch_heap *h) {
  struct sampler *s = h->sampler;
  if (s == NULL) return;
  lock_lock(&s->lock);
  s->quit = true;
  cond_signal(&s->wake);
  lock_unlock(&s->lock);
  thread_join(&s->thread);
  cond_destroy(&s->wake);
  lock_destroy(&s->lock);
  sampler_forget(h);
}

struct lock *sampler_lock(gch_heap *h) { return h->sampler != NULL ? &h->sampler->lock : NULL; }

void sampler_forget(gch_heap *h) {
  if (h->sampler != NULL) kernel_munmap(&h->kernel, h->sampler, h->sampler->bytes);
  h->sampler = NULL;
}
