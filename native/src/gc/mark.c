#include "gc/mark.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/deque.h"
#include "base/error.h"
#include "gc/cards.h"
#include "gc/roots.h"
#include "gc/safepoint.h"
#include "gc/snapshot.h"
#include "gc/team.h"
#include "heap/small.h"
#include "heap/summary.h"
#include "object/scan_inline.h"

enum {
  FOUND = 64,               /* prefetch distances, powers of two: of mark words, */
  QUEUE = 32,               /* and of headers, */
  BATCH = 16,               /* which are asked for so many at a time */
  DEQUE_ITEMS = 4096,
  SHARE_ITEMS = 64,         /* given away at a time */
  CHUNK_BYTES = 8 << 10,    /* of a large array scanned in one go: beside mutators a pause waits for it */
  STACK_MIN = 1 << 16,
  STACK_KEEP = 1 << 15,     /* entries whose memory is kept between marks */
};

/* An item with this bit is a chunk of a large object: entry in bits 32..62, chunk in 0..31. */
#define ITEM_CHUNK ((uint64_t)1 << 63)

struct marker {
  gch_heap *heap;
  struct marking *all;
  bool alone;           /* there is nobody to share with */
  bool beside;          /* mutators run: it stands still while the world is stopped */
  uint64_t deadline;    /* gives up beyond, CLOCK_MONOTONIC; 0: never */
  uint64_t found[FOUND];
  uint32_t found_head, found_count;
  uint64_t *stack;      /* [const] reserved; FOUND entries are kept free for what is in `found` */
  uint64_t capacity;    /* [const] */
  uint64_t top, peak;
  uint64_t queue[QUEUE];
  uint32_t queue_head, queue_count;
  size_t block;         /* whose live count is being added up */
  uint64_t block_live;
  bool dropped;         /* a referent of the object being scanned found the stack full */
  struct mark_result result;
  struct deque deque;
  uint64_t *deque_items;
};

struct marking {
  gch_heap *heap;
  bool minor;          /* [const] */
  uint32_t present;    /* [atomic] workers that have come to this job */
  uint32_t idle;       /* [atomic] of those: without work */
  struct card_walk cards; /* of a minor */
  uint32_t overflowed; /* [atomic] some block is flagged */
  uint64_t objects_overwritten, bytes_overwritten; /* [atomic] marked by who stores */
  uint64_t *overflow;  /* [atomic] bit a block */
  size_t overflow_bytes;
  uint32_t count;      /* [const] of markers */
  struct marker markers[TEAM_MAX + 1];
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

/* --- an object's way -------------------------------------------------------------------------------------------
 *
 * found -> marked, on the stack -> in the queue -> scanned. Both the mark word and the header of a referent in a large
 * heap are a cache miss and a walk of page tables away, so an object waits in `found` while the first is fetched and in
 * `queue` while the second is. It is marked as it leaves `found`: whoever sets the bit puts it on a stack, once.
 *
 * Headers are asked for BATCH at a time: a prefetch that misses the TLB does not retire before its walk is done, so walks
 * overlap only where the prefetches are close enough to be in the reorder window together. */

SCAN_INLINE bool in_scope(const gch_heap *h, uintptr_t a, bool minor) {
  return minor ? heap_is_young(h, a) : heap_is_old(h, a);
}

static inline bool has_room(struct marker *m) {
  if (gch_likely(m->top + FOUND < m->capacity)) return true;
  m->dropped = true;
  return false;
}

/* The oldest of `found` is marked and, if nobody has been there, pushed. The end of the job publishes the bit. */
static inline void settle_oldest(struct marker *m) {
  const gch_heap *h = m->heap;
  uint64_t item = m->found[m->found_head];
  m->found_head = (m->found_head + 1) % FOUND;
  m->found_count--;
  if (bits_set_relaxed(h->tables.mark, granule_index(&h->layout, (uintptr_t)item))) m->stack[m->top++] = item;
}

SCAN_INLINE void find(struct marker *m, uint64_t word, bool minor) {
  const gch_heap *h = m->heap;
  uintptr_t a = (uintptr_t)(word & ~(uint64_t)7);
  if (!in_scope(h, a, minor) || !has_room(m)) return;
  __builtin_prefetch(&h->tables.mark[granule_index(&h->layout, a) / 64], 1);
  if (m->found_count == FOUND) settle_oldest(m);
  m->found[(m->found_head + m->found_count++) % FOUND] = a;
}

/* What a scan hands its slot visitor. */
struct scan_context {
  struct marker *marker;
  const struct type_info *type;
};

SCAN_INLINE void visit_word(uint64_t *slot, struct scan_context *c, bool minor) {
  uint64_t word = minor ? at_load_relaxed(slot) : at_load(slot); /* of a minor: the world is stopped */
  if (!word_is_ref(c->type, word)) return;
  if (!minor && c->marker->heap->summarises && heap_is_old(c->marker->heap, (uintptr_t)word))
    summary_note(c->marker->heap, (uintptr_t)slot, (uintptr_t)word);
  find(c->marker, word, minor);
}
SCAN_INLINE void visit_minor(uint64_t *slot, void *c) { visit_word(slot, c, true); }
SCAN_INLINE void visit_major(uint64_t *slot, void *c) { visit_word(slot, c, false); }

static void flush_live(struct marker *m) {
  struct block *b = &m->heap->tables.blocks[m->block];
  if (m->block_live != 0)
    at_add_relaxed(m->all->minor ? &b->live : &b->marked, (uint32_t)m->block_live); /* read after the mark */
  m->block_live = 0;
}

static inline void count_live(struct marker *m, size_t block, uint64_t bytes) {
  m->result.objects++;
  m->result.bytes += bytes;
  if (block != m->block) {
    flush_live(m);
    m->block = block;
  }
  m->block_live += bytes / GRANULE_BYTES;
}

static void flag_overflow(struct marker *m, size_t block) {
  m->dropped = false;
  bits_set_relaxed(m->all->overflow, block); /* published by the store */
  at_store(&m->all->overflowed, 1);
}

static void scan_large_chunk(struct marker *m, uint32_t id, uint64_t chunk, bool minor) {
  const struct large *e = &m->heap->large.entries[id];
  struct scan_context c = {m, &m->heap->types.items[e->type]};
  uintptr_t from = e->base + chunk * CHUNK_BYTES, to = from + CHUNK_BYTES;
  uint64_t length =
      at_load(&e->length); /* beside mutators it may change: what is added is null, or stored with its barrier */
  if (to < e->base + at_load_relaxed(&e->bytes) && has_room(m))
    m->stack[m->top++] = ITEM_CHUNK | (uint64_t)id << 32 | (chunk + 1);
  if (minor)
    scan_object_refs(c.type, e->base, length, from, to, visit_minor, &c);
  else
    scan_object_refs(c.type, e->base, length, from, to, visit_major, &c);
  if (gch_unlikely(m->dropped)) flag_overflow(m, block_index(&m->heap->layout, e->base));
}

static void scan_large(struct marker *m, uintptr_t a) {
  gch_heap *h = m->heap;
  uint32_t id = h->tables.large_ids[(a - h->layout.base) >> h->layout.page_shift];
  const struct large *e = &h->large.entries[id];
  GCH_CHECK(id != 0 && e->base == a, "reference %p is not the start of large object %u at %p", (void *)a, id,
            (void *)e->base);
  m->result.objects++;
  m->result.bytes += at_load_relaxed(&e->bytes);
  if (e->leaf) return;
  scan_large_chunk(m, id, 0, false);
}

SCAN_INLINE void process(struct marker *m, uint64_t item, bool minor) {
  gch_heap *h = m->heap;
  if (gch_unlikely(item & ITEM_CHUNK)) {
    scan_large_chunk(m, (uint32_t)(item >> 32) & 0x7fffffff, item & 0xffffffff, minor);
    return;
  }
  uintptr_t a = (uintptr_t)item;
  uint64_t header = header_load(a);
  if (gch_unlikely(header_is_large(header))) {
    scan_large(m, a);
    return;
  }
  struct scan_context c = {m, typetab_get(&h->types, header)};
  GCH_ASSERT(header_type(header) != 0);
  size_t block = block_index(&h->layout, a);
  count_live(m, block, object_small_bytes(c.type, header));
  if (c.type->pub.leaf) return;
  if (minor)
    scan_small(c.type, a, header, visit_minor, &c);
  else
    scan_small(c.type, a, header, visit_major, &c);
  if (gch_unlikely(m->dropped)) flag_overflow(m, block);
}

/* --- work distribution ---------------------------------------------------------------------------------------- */

/* Offers the oldest items, likely the roots of the largest subgraphs, to thieves. */
static void share(struct marker *m) {
  if (m->alone || m->top < 4 * SHARE_ITEMS || deque_size(&m->deque) > 0) return;
  for (int i = 0; i < SHARE_ITEMS; i++)
    if (!deque_push(&m->deque, m->stack[i])) return;
  m->top -= SHARE_ITEMS;
  memcpy(m->stack, m->stack + m->top, SHARE_ITEMS * sizeof(uint64_t));
}

static inline bool take(struct marker *m, uint64_t *item) {
  while (gch_unlikely(m->top == 0) && m->found_count > 0) settle_oldest(m);
  if (gch_unlikely(m->top == 0)) return deque_pop(&m->deque, item);
  *item = m->stack[--m->top];
  return true;
}

/* Whoever is about to stop the world waits for this. */
static inline void stand_still(struct marker *m) {
  if (gch_unlikely(at_load_relaxed(&m->heap->world.stop) != 0) && m->beside) { /* a hint: to look again is seq_cst */
    marker_leave(m->heap);
    marker_enter(m->heap);
  }
}

/* A store that finds no room in its log asks, too, so the answer is of the moment. */
bool mark_wanted(const gch_heap *h, uint64_t word) {
  uintptr_t a = (uintptr_t)(word & ~(uint64_t)7);
  if (a % GRANULE_BYTES != 0 || !heap_contains(h, a)) return false;
  uint64_t bit = granule_index(&h->layout, a);
  return !bits_test_relaxed(h->tables.mark, bit) && bits_test_atomic(h->tables.live, bit) &&
         !bits_test_atomic(h->tables.mark, bit); /* what is born is marked before it is live */
}

/* The objects of a full log, if there is one and room for them. */
static bool take_log(struct marker *m) {
  const uint64_t *words;
  uint32_t count,
      buffer = m->top + 2 * FOUND + SNAPSHOT_WORDS < m->capacity ? snapshot_take(m->heap, &words, &count) : 0;
  for (uint32_t i = 0; buffer != 0 && i < count; i++)
    if (mark_wanted(m->heap, words[i])) find(m, words[i], false);
  GCH_ASSERT(!m->dropped);
  if (buffer != 0) snapshot_give(m->heap, buffer);
  return buffer != 0;
}

static bool is_late(const struct marker *m) { return m->deadline != 0 && clock_ns() > m->deadline; }

/* Until its own stack and queues are empty, or it is late. */
SCAN_INLINE void drain(struct marker *m, bool minor) {
  uint32_t rounds = 0;
  for (;;) {
    uint64_t item;
    if (!minor) stand_still(m);
    bool filling = m->queue_count <= QUEUE - BATCH;
    while (filling && m->queue_count < QUEUE && take(m, &item)) {
      if (gch_likely((item & ITEM_CHUNK) == 0)) __builtin_prefetch((const void *)(uintptr_t)item);
      m->queue[(m->queue_head + m->queue_count++) % QUEUE] = item;
    }
    if (m->queue_count == 0) return;
    item = m->queue[m->queue_head];
    m->queue_head = (m->queue_head + 1) % QUEUE;
    m->queue_count--;
    process(m, item, minor);
    if (gch_unlikely((item & ITEM_CHUNK) != 0) && is_late(m)) return; /* it takes as long as many objects */
    if (m->top > m->peak) m->peak = m->top;
    if (gch_likely((++rounds & 63) != 0)) continue;
    share(m);
    if (is_late(m)) return;
    if (gch_unlikely(at_load_relaxed(&m->heap->closing) != 0) && m->beside) { /* nobody will look at what is marked */
      m->top = m->found_count = m->queue_count = 0;
      return;
    }
    if (m->beside && snapshot_pending(m->heap)) take_log(m);
  }
}

static bool steal(struct marker *m) {
  struct marking *s = m->all;
  bool again;
  do {
    again = false;
    for (uint32_t i = 0; i < s->count; i++) {
      uint64_t item;
      if (&s->markers[i] == m) continue;
      enum deque_steal got = deque_steal(&s->markers[i].deque, &item);
      if (got == DEQUE_ITEM) {
        m->stack[m->top++] = item; /* it is empty */
        return true;
      }
      again |= got == DEQUE_LOST;
    }
  } while (again);
  return false;
}

/* Until every worker that is present is out of work at once; what is logged meanwhile is left to the next job. A
 * worker that counts as idle owns nothing and produces nothing; one that comes after the end finds the cards taken
 * and nothing to steal. */
static void run_to_end(struct marker *m, bool minor) {
  struct marking *s = m->all;
  for (;;) {
    if (minor)
      drain(m, true);
    else
      drain(m, false);
    if (m->beside && take_log(m)) continue;
    at_add_seq(&s->idle, 1);
    for (uint32_t spins = 0;; spins++) {
      uint32_t idle = at_load_seq(&s->idle); /* first: who comes in between makes them differ */
      if (idle == at_load_seq(&s->present)) return;
      bool work = false;
      for (uint32_t i = 0; i < s->count && !work; i++) work = deque_size(&s->markers[i].deque) > 0;
      if (work) {
        at_sub(&s->idle, 1);
        if (steal(m)) break;
        at_add_seq(&s->idle, 1);
      }
      stand_still(m);
      if (spins < 1000)
        spin_pause();
      else
        thread_yield();
    }
  }
}

/* --- roots ---------------------------------------------------------------------------------------------------- */

/* A stack at most half full before and no more slots at a time than half a stack holds: nothing is dropped. */
_Static_assert(CARD_BYTES / 8 + FOUND < STACK_MIN / 2, "the slots under a card find room");
SCAN_INLINE void make_room(struct marker *m, bool minor) {
  GCH_ASSERT(!m->dropped);
  if (gch_unlikely(m->top > m->capacity / 2)) drain(m, minor);
}

static void root_major(uint64_t *slot, void *context) {
  find(context, at_load_relaxed(slot), false); /* the world is stopped */
  make_room(context, false);
}

static void root_minor(uint64_t *slot, void *context) {
  find(context, at_load_relaxed(slot), true); /* the world is stopped */
  make_room(context, true);
}

static void card_slots(const struct card_part *part, void *context) {
  struct scan_context c = {context, part->type};
  scan_object_range(part->type, part->object, part->tail_count, part->from, part->to, visit_minor, &c);
  make_room(context, true);
}

static struct marker *come(struct marking *s, uint32_t worker, uint32_t workers, bool beside) {
  struct marker *m = &s->markers[worker];
  at_add_seq(&s->present, 1); /* before it takes anything */
  m->alone = workers == 1;
  m->beside = beside;
  return m;
}

static void stopped_worker(void *context, uint32_t worker, uint32_t workers) {
  struct marking *s = context;
  struct marker *m = come(s, worker, workers, false);
  if (worker == 0) roots_visit(s->heap, s->minor ? root_minor : root_major, m);
  uint32_t arena;
  while (s->minor && cards_next_arena(s->heap, &s->cards, &arena)) cards_visit_arena(s->heap, arena, card_slots, m);
  run_to_end(m, s->minor);
  flush_live(m);
}

static void beside_worker(void *context, uint32_t worker, uint32_t workers) {
  struct marking *s = context;
  marker_enter(s->heap);
  struct marker *m = come(s, worker, workers, true);
  run_to_end(m, false);
  flush_live(m);
  marker_leave(s->heap);
}

/* --- overflow ------------------------------------------------------------------------------------------------- */

/* Beside mutators one of them may mark in the same words (mark_overwritten). */
static void rescan_block(struct marker *m, size_t block, bool minor) {
  gch_heap *h = m->heap;
  uint64_t end = (block + 1) * BLOCK_GRANULES;
  for (uint64_t bit = bits_find_next(h->tables.mark, block * BLOCK_GRANULES, end); bit != BITS_NONE;
       bit = bits_find_next(h->tables.mark, bit + 1, end)) {
    if (!bits_test_atomic(h->tables.mark, bit)) continue; /* it is: what was done before it was set is seen */
    uintptr_t a = h->layout.base + bit * GRANULE_BYTES;
    uint64_t header = header_load(a);
    struct scan_context c = {m, typetab_get(&h->types, header)};
    if (header_is_large(header)) {
      uint32_t id = h->tables.large_ids[(a - h->layout.base) >> h->layout.page_shift];
      if (!h->large.entries[id].leaf) scan_large_chunk(m, id, 0, minor);
    } else if (minor) {
      scan_small(c.type, a, header, visit_minor, &c);
    } else {
      scan_small(c.type, a, header, visit_major, &c);
    }
    if (m->dropped) flag_overflow(m, block);
    stand_still(m);
    if (minor)
      make_room(m, true);
    else
      make_room(m, false);
  }
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
      rescan_block(m, b, s->minor);
      if (s->minor)
        drain(m, true);
      else
        drain(m, false);
    }
  }
  flush_live(m);
}

void mark_overwritten(gch_heap *h, uint64_t word) {
  struct marking *s = h->marking[1];
  uintptr_t a = (uintptr_t)(word & ~(uint64_t)7);
  if (!mark_wanted(h, word) || !bits_set_atomic(h->tables.mark, granule_index(&h->layout, a))) return;
  uint64_t header = header_load(a);
  size_t block = block_index(&h->layout, a);
  bool large = header_is_large(header);
  const struct large *e = large ? &h->large.entries[large_id(h, a)] : NULL;
  const struct type_info *type = large ? &h->types.items[e->type] : typetab_get(&h->types, header);
  uint64_t bytes = large ? at_load_relaxed(&e->bytes) : object_small_bytes(type, header);
  if (!large)
    at_add_relaxed(&h->tables.blocks[block].marked, (uint32_t)(bytes / GRANULE_BYTES)); /* read after the mark */
  at_add_relaxed(&s->objects_overwritten, 1);
  at_add_relaxed(&s->bytes_overwritten, bytes);
  if (type->pub.leaf) return;
  bits_set_atomic(s->overflow, block);
  at_store(&s->overflowed, 1);
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
  for (uint32_t i = 0; i < s->count; i++) {
    struct marker *m = &s->markers[i];
    m->result = (struct mark_result){0};
    m->peak = 0;
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

static void mark_stopped(gch_heap *h, struct marking *s, struct mark_result *result) {
  begin(s);
  begin_job(s);
  team_run(h, stopped_worker, s);
  mark_overflowed(&s->markers[0]);
  end(s, result);
}

void mark_minor(gch_heap *h, struct mark_result *result) { mark_stopped(h, h->marking[0], result); }
void mark_major(gch_heap *h, struct mark_result *result) { mark_stopped(h, h->marking[1], result); }

void mark_begin(gch_heap *h) {
  struct marking *s = h->marking[1];
  begin(s);
  begin_job(s);
  struct marker *m = come(s, 0, 1, false);
  roots_visit(h, root_major, m);
  while (m->found_count > 0) settle_oldest(m); /* marked: nobody has to log it */
  flush_live(m);
}

void mark_beside(gch_heap *h, uint32_t workers) {
  struct marking *s = h->marking[1];
  begin_job(s);
  GCH_POINT(marking_beside); /* not counted yet: pauses may be */
  team_run_beside(h, beside_worker, s, workers);
  marker_enter(h);
  mark_overflowed(&s->markers[0]);
  marker_leave(h);
}

bool mark_remark(gch_heap *h, uint64_t deadline_ns) {
  struct marking *s = h->marking[1];
  begin_job(s);
  struct marker *m = come(s, 0, 1, false);
  m->deadline = deadline_ns;
  snapshot_flush(h);
  do drain(m, false);
  while (!is_late(m) && take_log(m));
  m->deadline = 0;
  flush_live(m);
  bool empty = m->queue_count == 0 && m->found_count == 0 && m->top == 0;
  return empty && !snapshot_pending(h) && at_load(&s->overflowed) == 0;
}

void mark_end(gch_heap *h, struct mark_result *result) {
  end(h->marking[1], result);
  snapshot_trim(h);
}
