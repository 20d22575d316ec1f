/* One marker: what it finds, marks and scans, gives away and takes, until nobody has anything left. */
#include <string.h>

#include "gc/mark_internal.h"
#include "gc/reserve.h"
#include "gc/roots.h"
#include "gc/safepoint.h"
#include "gc/snapshot.h"
#include "heap/small.h"
#include "heap/summary.h"
#include "object/scan_inline.h"

enum {
  BATCH = 16,            /* headers that are asked for at a time */
  SHARE_ITEMS = 64,      /* given away at a time */
  CHUNK_BYTES = 8 << 10, /* of a large array scanned in one go: beside mutators a pause waits for it */
};

/* An item with this bit is a chunk of a large object: entry in bits 32..62, chunk in 0..31. */
#define ITEM_CHUNK ((uint64_t)1 << 63)

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

/* A weak word has to be fixed as others have. */
static void note_word(const gch_heap *h, uintptr_t slot) {
  uint64_t word = at_load((const uint64_t *)slot);
  if (word != 0 && heap_is_old(h, (uintptr_t)word)) summary_note(h, slot, (uintptr_t)word);
}

/* Cells are looked at when the mark is complete; but see gc/weak.h. */
static void meet_cell(struct marker *m, uintptr_t cell, const struct type_info *type, bool minor) {
  if (!minor && m->heap->summarises) {
    note_word(m->heap, cell + CELL_TARGET);
    note_word(m->heap, cell + CELL_VALUE);
  }
  if (type->cell == CELL_WEAK) {
    weak_meet(m->heap, &m->cells, cell, minor);
  } else if (minor) {
    find(m, at_load_relaxed(cell_word(cell, CELL_TARGET)), true); /* the world is stopped */
    find(m, at_load_relaxed(cell_word(cell, CELL_VALUE)), true);
  } else {
    find(m, ephemeron_meet(m->heap, &m->cells, cell), false);
  }
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
  if (c.type->opaque) {
    if (gch_likely(c.type->cell == CELL_NONE)) return;
    meet_cell(m, a, c.type, minor);
  } else if (minor) {
    scan_small(c.type, a, header, visit_minor, &c);
  } else {
    scan_small(c.type, a, header, visit_major, &c);
  }
  if (gch_unlikely(m->dropped)) flag_overflow(m, block);
}

/* --- without a marker -------------------------------------------------------------------------------------------- */

/* A store that finds no room in its log asks, too, so the answer is of the moment. */
bool mark_wanted(const gch_heap *h, uint64_t word) {
  uintptr_t a = (uintptr_t)(word & ~(uint64_t)7);
  if (a % GRANULE_BYTES != 0 || !heap_contains(h, a)) return false;
  uint64_t bit = granule_index(&h->layout, a);
  return !bits_test_relaxed(h->tables.mark, bit) && bits_test_atomic(h->tables.live, bit) &&
         !bits_test_atomic(h->tables.mark, bit); /* what is born is marked before it is live */
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

/* Pauses do not wait for that. */
static inline void see_to_reserve(gch_heap *h) {
  if (gch_likely(!reserve_is_due(h))) return;
  marker_leave(h);
  reserve_fill(h);
  marker_enter(h);
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

/* What mutators wait for, or have left to markers. */
static inline void see_to_others(struct marker *m) {
  see_to_reserve(m->heap);
  if (snapshot_pending(m->heap)) take_log(m);
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
    if (m->beside) see_to_others(m);
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

/* What the stack has no room for is not traced in this pause, either. */
static void root_begin(uint64_t *slot, void *context) {
  struct marker *m = context;
  uint64_t word = at_load_relaxed(slot); /* the world is stopped */
  if (gch_likely(m->top < m->capacity / 2))
    find(m, word, false);
  else
    mark_overwritten(m->heap, word);
}

SCAN_INLINE void visit_listed(uint64_t *slot, void *context) {
  const struct scan_context *c = context;
  struct marker *m = c->marker;
  uint64_t word = at_load_relaxed(slot); /* the world is stopped */
  if (gch_likely(!word_is_ref(c->type, word) || !heap_is_young(m->heap, (uintptr_t)(word & ~(uint64_t)7)))) return;
  m->young[m->young_count++] = (struct card_slot){slot, c->type};
  find(m, word, true);
}

/* The card has been cleaned. It is marked again if the move has to look at it. */
static void card_slots(const struct card_part *part, void *context) {
  struct marker *m = context;
  struct scan_context c = {m, part->type};
  if (gch_unlikely(part->type->cell == CELL_WEAK)) {
    uintptr_t target = part->object + CELL_TARGET;
    if (target >= part->from && target < part->to) meet_cell(m, part->object, part->type, true);
    card_mark(m->heap, part->from);
    return;
  }
  if (gch_likely(m->young_count + CARD_SLOTS <= LISTED)) {
    scan_object_range(part->type, part->object, part->tail_count, part->from, part->to, visit_listed, &c);
  } else {
    scan_object_range(part->type, part->object, part->tail_count, part->from, part->to, visit_minor, &c);
    card_mark(m->heap, part->from);
  }
  make_room(m, true);
}

struct marker *marker_come(struct marking *s, uint32_t worker, uint32_t workers, bool beside) {
  struct marker *m = &s->markers[worker];
  at_add_seq(&s->present, 1); /* before it takes anything */
  at_fence_rel(); /* who sees one of its marks sees what was done before: weak cells cleared (gc/weak.c) */
  m->alone = workers == 1;
  m->beside = beside;
  return m;
}

void marker_visit_roots(struct marker *m) { roots_visit(m->heap, m->all->minor ? root_minor : root_major, m); }

void marker_visit_cards(struct marker *m, struct card_walk *walk) { cards_visit(m->heap, walk, card_slots, m); }

void marker_mark_roots(struct marker *m) {
  roots_visit(m->heap, root_begin, m);
  while (m->found_count > 0) settle_oldest(m); /* marked: nobody has to log it */
}

void marker_run(struct marker *m) {
  run_to_end(m, m->all->minor);
  flush_live(m);
}

void marker_find(struct marker *m, uint64_t word) {
  bool minor = m->all->minor;
  find(m, word, minor);
  make_room(m, minor);
}

void marker_drain(struct marker *m) {
  if (m->all->minor)
    drain(m, true);
  else
    drain(m, false);
}

bool marker_take_log(struct marker *m) { return take_log(m); }
void marker_flush(struct marker *m) { flush_live(m); }
bool marker_is_late(const struct marker *m) { return is_late(m); }
bool marker_is_empty(const struct marker *m) { return m->queue_count == 0 && m->found_count == 0 && m->top == 0; }
void marker_let_pass(struct marker *m) { stand_still(m); }

/* --- overflow ------------------------------------------------------------------------------------------------- */

/* Beside mutators one of them may mark in the same words (mark_overwritten). */
void marker_rescan(struct marker *m, size_t block) {
  gch_heap *h = m->heap;
  bool minor = m->all->minor;
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
    } else if (c.type->cell != CELL_NONE) {
      meet_cell(m, a, c.type, minor);
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
