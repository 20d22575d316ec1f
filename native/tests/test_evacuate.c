/* Evacuation on blocks that the test fills itself: extents, packing and forwarding against a naive reading object by
 * object; straddling lines stay together; a supply of destinations that runs dry leaves sources whole. */
#include "gc/evacuate.h"

#include "gc/forward_inline.h"
#include "heap/small.h"
#include "kit.h"

enum { SOURCES = 40, MOST = 4096 };
static struct kit kit;
static uint64_t random_state;
static uint64_t *map; /* which objects live */

struct object {
  uintptr_t at;
  uint32_t bytes;
  bool lives;
};
static struct object objects[SOURCES * MOST];
static uint32_t object_count;

static uint64_t draw(void) {
  uint64_t x = random_state;
  x ^= x << 13, x ^= x >> 7, x ^= x << 17;
  return random_state = x;
}

/* Fills a block with byte objects of many sizes, tail bytes `count`, each numbered; some live. */
static void fill_block(uintptr_t block, uint32_t live_percent, uint32_t most_bytes) {
  uintptr_t at = block;
  while (at + 16 <= block + BLOCK_BYTES) {
    uint64_t tail = 8 + draw() % most_bytes;
    uint32_t bytes = (uint32_t)(16 + tail + 15) & ~15u;
    if (at + bytes > block + BLOCK_BYTES) tail = 8, bytes = 32;
    if (at + bytes > block + BLOCK_BYTES) break;
    *(uint64_t *)at = kit.bytes->header | tail << HEADER_TAIL_SHIFT;
    memset((void *)(at + 8), (int)(object_count & 0xff), bytes - 8);
    *(uint64_t *)(at + 8) = object_count;
    bool lives = draw() % 100 < live_percent;
    objects[object_count++] = (struct object){at, bytes, lives};
    if (lives) bits_set(map, granule_index(&kit.heap->layout, at));
    at += bytes;
  }
}

static uint32_t supply;
static uintptr_t take(gch_heap *h, void *context) {
  (void)context;
  return supply == 0 ? 0 : (supply--, small_take(h, true, true));
}

static struct plan *prepare(uint32_t live_percent, uint32_t most_bytes) {
  gch_heap *h = kit.heap;
  struct plan *p = h->plan;
  plan_reset(p);
  for (uint32_t i = 0; i < object_count; i++) bits_clear(map, granule_index(&h->layout, objects[i].at));
  object_count = 0;
  for (int i = 0; i < SOURCES; i++) {
    uintptr_t block = small_take(h, true, true);
    fill_block(block, live_percent, most_bytes);
    p->sources[p->source_count++] = (uint32_t)block_index(&h->layout, block);
  }
  evacuate_extents(h, p, 0, map);
  return p;
}

static void check_extents(void) {
  const gch_heap *h = kit.heap;
  for (uint32_t i = 0; i < object_count; i++)
    for (uintptr_t at = objects[i].at; at < objects[i].at + objects[i].bytes; at += GRANULE_BYTES) {
      const struct line_forward *line = &h->tables.lines[(at - h->layout.base) >> LINE_SHIFT];
      if (!CHECK_EQ(line->extents >> (at >> GRANULE_SHIFT & 63) & 1, objects[i].lives)) return;
    }
}

static void gather_all(struct plan *p) {
  gch_heap *h = kit.heap;
  struct gather g = {.heap = h, .plan = p, .map = map, .born = h->tables.live};
  for (uint32_t d = 0; d < p->dest_count; d++) evacuate_gather(&g, d, block_address(&h->layout, p->dests[d].block));
}

/* Each live object is where forwarding says, whole; the destinations hold nothing else and are filled in order. */
static void check_objects(const struct plan *p, uint32_t packed) {
  const gch_heap *h = kit.heap;
  uint64_t granules = 0, filled = 0;
  uintptr_t last = 0;
  for (uint32_t i = 0; i < object_count; i++) {
    if (!objects[i].lives || h->tables.forward[block_index(&h->layout, objects[i].at)] == 0) continue;
    uintptr_t to = forward_address(h, objects[i].at);
    CHECK(to != objects[i].at && forward_address(h, to) == to);
    if (!CHECK_EQ(((uint64_t *)to)[1], i)) return;
    if (!CHECK(memcmp((void *)(to + 16), (void *)(objects[i].at + 16), objects[i].bytes - 16) == 0)) return;
    CHECK(heap_is_live(h, to));
    CHECK(to == last || to % BLOCK_BYTES == 0); /* no gap between neighbours of one destination */
    CHECK(to % BLOCK_BYTES + objects[i].bytes <= BLOCK_BYTES);
    last = to + objects[i].bytes;
    granules += objects[i].bytes / GRANULE_BYTES;
  }
  for (uint32_t d = 0; d < p->dest_count; d++) filled += p->dests[d].granules;
  CHECK_EQ(filled, granules);
  CHECK(p->dest_count <= granules * 10 / BLOCK_GRANULES / 8 + 2); /* tight */
  for (uint32_t s = 0; s < SOURCES; s++) {
    uint32_t readers = 0;
    for (uint32_t d = 0; d < p->dest_count; d++)
      readers += p->dests[d].first_source <= s && s <= p->dests[d].last_source && s < packed;
    CHECK(h->tables.needed[p->sources[s]] <= readers);
    if (s >= packed) CHECK_EQ(h->tables.needed[p->sources[s]], 0);
  }
}

static void clean(struct plan *p) {
  gch_heap *h = kit.heap;
  for (uint32_t s = 0; s < p->source_count; s++) {
    h->tables.forward[p->sources[s]] = 0;
    h->tables.needed[p->sources[s]] = 0;
    block_free(h, block_address(&h->layout, p->sources[s]), true);
  }
  for (uint32_t d = 0; d < p->dest_count; d++) {
    h->tables.dest[p->dests[d].block] = 0;
    block_free(h, block_address(&h->layout, p->dests[d].block), true);
  }
  plan_reset(p);
}

static void every_density(void) {
  static const uint32_t live[] = {0, 1, 10, 50, 90, 100}, most[] = {16, 200, 3000, 8100};
  for (size_t l = 0; l < sizeof live / sizeof live[0]; l++)
    for (size_t m = 0; m < sizeof most / sizeof most[0]; m++) {
      struct plan *p = prepare(live[l], most[m]);
      check_extents();
      supply = UINT32_MAX;
      CHECK_EQ(evacuate_pack(kit.heap, p, 0, p->source_count, map, take, NULL), SOURCES);
      gather_all(p);
      check_objects(p, SOURCES);
      clean(p);
    }
}

/* The supply ends: what was packed is packed whole, the rest not at all. */
static void supply_runs_dry(void) {
  for (uint32_t n = 0; n < 25; n++) {
    struct plan *p = prepare(60, n % 2 ? 200 : 8100);
    supply = n;
    uint32_t packed = evacuate_pack(kit.heap, p, 0, p->source_count, map, take, NULL);
    CHECK(packed < SOURCES || supply > 0);
    for (uint32_t s = 0; s < SOURCES; s++)
      CHECK_EQ(kit.heap->tables.forward[p->sources[s]], s < packed ? FORWARD_EVACUATED : 0);
    gather_all(p);
    check_objects(p, packed);
    clean(p);
  }
}

/* A source that is no source any more when the destinations are filled: its slots stay empty, the others are right. */
static void pinned_since_the_plan(void) {
  gch_heap *h = kit.heap;
  struct plan *p = prepare(50, 500);
  supply = UINT32_MAX;
  evacuate_pack(h, p, 0, p->source_count, map, take, NULL);
  h->tables.forward[p->sources[7]] = 0;
  h->tables.forward[p->sources[SOURCES - 1]] = 0;
  gather_all(p);
  for (uint32_t i = 0; i < object_count; i++) {
    if (!objects[i].lives) continue;
    uintptr_t to = forward_address(h, objects[i].at);
    if (!CHECK_EQ(((uint64_t *)to)[1], i)) break;
  }
  clean(p);
}

int main(void) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
  random_state = 88172645463325252u;
  kit_watchdog(60);
  if (!kit_open(&kit, &c)) return 1;
  map = calloc(kit.heap->layout.span / GRANULE_BYTES / 64, 8);
  RUN(every_density);
  RUN(supply_runs_dry);
  RUN(pinned_since_the_plan);
  free(map);
  kit_verify(&kit);
  kit_close(&kit);
  return CHECK_SUMMARY();
}
