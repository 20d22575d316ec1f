/* How a large object is born. Making its memory present takes as long as it is large (0.4 ms a MiB), so others cannot wait for it:
 *
 *   reserve    under the lock: room within the limit, an entry, pages. The pages belong to somebody (`pages`, their blocks and arenas
 *              are used), so nobody else gets them or gives their arena away; but they name no entry (`large_ids`) and the
 *              entry has no base, so whoever looks for objects finds none.
 *   populate   without the lock, a step at a time. The thread is managed, so the world does not stop within a step; between two
 *              it polls. It cannot be native instead: a region must not be flipped or armed while somebody populates it, as
 *              what is missing then is nobody's unit.
 *   publish    under the lock, with no poll since the last step: the entry, the names of its pages, header, liveness.
 *
 * What a collection may do between two steps:
 *   minor, in-pause major   nothing: the plan treats the arenas as those of something that stays, destinations are other pages
 *   first pause, flip       allocation goes on in another region (`turns` says so), and this one is flipped, or armed. The
 *                           reservation is lost, the thread begins again, twice at most: then it does not poll. While the
 *                           cycle still moves, the pages are left to its end (LARGE_LOST), else given back at once.
 *   fork()                  the child gives back what threads had begun that it does not have; where the cycle still moves, and
 *                           allocation has gone on, at its end
 *
 * Of huge arenas, those that are its own alone are populated without the lock, too; one that it shares with others, of at most
 * two, under it. */
#include "heap/large.h"

#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "heap/heap.h"
#include "heap/small.h"
#include "heap/summary.h"
#include "heap/unit.h"
#include "os/pages.h"

enum { STEP_BYTES = 1 << 20 }; /* of small pages; of huge ones it is an arena */

static uint64_t page_index(const struct layout *l, uintptr_t a) { return (a - l->base) >> l->page_shift; }

static int reserve_array(gch_heap *h, size_t bytes, void **out) {
  return kernel_mmap(&h->kernel, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                     0, out);
}

static size_t map_bytes(const struct layout *l) { return bits_words(l->span >> l->page_shift) * 8; }

gch_status large_init(gch_heap *h, gch_error *error) {
  struct large_space *s = &h->large;
  const struct layout *l = &h->layout;
  lock_init(&s->lock, RANK_LARGE, "large spaces");
  s->count = 1;
  s->capacity = (uint32_t)(h->config.max_bytes / l->page_bytes) + 1024; /* cut short, an object still has a page */
  for (int leaf = 0; leaf < 2; leaf++) {
    s->alloc_region[leaf] = layout_first_region(l, leaf ? SPACE_LARGE_LEAF : SPACE_LARGE);
    s->cursor[leaf] = page_index(l, l->regions[s->alloc_region[leaf]].start);
  }
  int rc = reserve_array(h, s->capacity * sizeof(struct large), (void **)&s->entries);
  if (rc >= 0) rc = reserve_array(h, map_bytes(l), (void **)&s->pages);
  if (rc >= 0) rc = reserve_array(h, map_bytes(l), (void **)&s->closed);
  if (rc >= 0) return GCH_OK;
  return error_set(error, GCH_NO_MEMORY, "cannot reserve addresses for %u large objects: %s", s->capacity,
                   strerror(-rc));
}

void large_destroy(gch_heap *h) {
  struct large_space *s = &h->large;
  if (s->entries != NULL) kernel_munmap(&h->kernel, s->entries, s->capacity * sizeof(struct large));
  if (s->pages != NULL) kernel_munmap(&h->kernel, s->pages, map_bytes(&h->layout));
  if (s->closed != NULL) kernel_munmap(&h->kernel, s->closed, map_bytes(&h->layout));
  lock_destroy(&s->lock);
}

/* The first run of `pages` clear bits in [from, end), or BITS_NONE. */
static uint64_t find_run(const uint64_t *map, uint64_t from, uint64_t end, uint64_t pages) {
  for (uint64_t at = from; at + pages <= end;) {
    at = bits_find_next_clear(map, at, end);
    if (at == BITS_NONE || at + pages > end) return BITS_NONE;
    uint64_t used = bits_find_next(map, at, at + pages);
    if (used == BITS_NONE) return at;
    at = used + 1;
  }
  return BITS_NONE;
}

/* Pages [at, at + pages) belong to somebody; their region's `top` is behind them. */
static void take_pages(gch_heap *h, uint64_t at, uint64_t pages) {
  const struct layout *l = &h->layout;
  uint32_t region = layout_region(l, l->base + (at << l->page_shift));
  enum space_id space = l->regions[region].space;
  uint32_t *top = &h->large.top[space == SPACE_LARGE_LEAF][region - layout_first_region(l, space)];
  uint64_t bytes = (at + pages - page_index(l, l->regions[region].start)) << l->page_shift;
  uint32_t arenas = (uint32_t)div_ceil(bytes, ARENA_BYTES);
  bits_set_range(h->large.pages, at, at + pages);
  if (*top < arenas) at_store(top, arenas);
}

uintptr_t large_reserve(gch_heap *h, uint32_t region, uint64_t pages, uint64_t *cursor, bool planned) {
  const struct layout *l = &h->layout;
  uint64_t *map = planned ? h->large.closed : h->large.pages;
  uint64_t first = page_index(l, l->regions[region].start), end = first + (l->regions[region].bytes >> l->page_shift);
  if (*cursor < first || *cursor >= end) *cursor = first;
  uint64_t at = find_run(map, *cursor, end, pages);
  if (at == BITS_NONE) at = find_run(map, first, end, pages);
  if (at == BITS_NONE) return 0;
  if (planned) bits_set_range(map, at, at + pages);
  take_pages(h, at, pages);
  *cursor = at + pages;
  return l->base + (at << l->page_shift);
}

/* The blocks of [start, start + bytes) hold pages of large objects. */
static void claim_blocks(gch_heap *h, uintptr_t start, uint64_t bytes, bool leaf) {
  const struct layout *l = &h->layout;
  for (size_t b = block_index(l, start); b <= block_index(l, start + bytes - 1); b++) {
    struct block *block = &h->tables.blocks[b];
    if (block->state == BLOCK_LARGE) continue;
    *block = (struct block){.state = BLOCK_LARGE, .leaf = leaf};
    struct arena *arena = &h->tables.arenas[b / ARENA_BLOCKS];
    arena->used |= (uint32_t)1 << b % ARENA_BLOCKS;
    arena->kind = leaf ? ARENA_LEAF : ARENA_REFS;
  }
}

void large_claim(gch_heap *h, uintptr_t start, uint64_t bytes, uint32_t id, bool leaf) {
  uint64_t first = page_index(&h->layout, start),
           end = page_index(&h->layout, start + bytes + h->layout.page_bytes - 1);
  for (uint64_t p = first; p < end; p++) h->tables.large_ids[p] = id;
  claim_blocks(h, start, bytes, leaf);
}

/* The part of [start, end) that lies in `at`'s arena. */
static uintptr_t arena_end(uintptr_t at, uintptr_t end) {
  uintptr_t next = arena_after(at);
  return next < end ? next : end;
}

/* A shared object may have pages that this mapping of it does not show as present. */
static void clear_pages(gch_heap *h, uintptr_t start, uint64_t bytes) {
  if (h->shared_fd >= 0)
    memset((void *)start, 0, bytes);
  else
    pages_clear(&h->kernel, (void *)start, bytes);
}

/* Pages of the range go, unless they are part of a huge page: that goes with the last object of its arena. */
static uint64_t drop_pages(gch_heap *h, uintptr_t start, uintptr_t end) {
  uint64_t released = 0;
  for (uintptr_t at = start, next; at < end; at = next) {
    next = arena_end(at, end);
    if (heap_arena(h, at)->huge) continue;
    if (h->drop(h, at, next - at) >= 0)
      released += next - at;
    else /* the next object there must find zeros */
      clear_pages(h, at, next - at);
  }
  return released;
}

/* Nothing is in the arena any more. A huge page that the kernel will not take back stays `huge`: what is allocated there
 * is cleared first. */
static uint64_t empty_arena(gch_heap *h, size_t index) {
  struct arena *arena = &h->tables.arenas[index];
  arena->kind = ARENA_NONE;
  if (h->large.keeps || (arena->huge && h->drop(h, arena_address(&h->layout, index), ARENA_BYTES) < 0)) return 0;
  uint64_t released = arena->huge && arena->populated != 0 ? ARENA_BYTES : 0; /* else it went elsewhere */
  arena_set_huge(arena, false);
  arena->populated = 0;
  return released;
}

/* Blocks [b, end) are free, if no page of theirs belongs to anybody. */
static uint64_t free_blocks(gch_heap *h, size_t b, size_t end) {
  uint64_t per_block = BLOCK_BYTES >> h->layout.page_shift, released = 0;
  for (; b < end; b++) {
    struct arena *arena = &h->tables.arenas[b / ARENA_BLOCKS];
    uint32_t bit = (uint32_t)1 << b % ARENA_BLOCKS;
    if (!(arena->used & bit) || bits_find_next(h->large.pages, b * per_block, (b + 1) * per_block) != BITS_NONE)
      continue;
    h->tables.blocks[b] = (struct block){0};
    arena->used &= ~bit;
    if (arena->used == 0) released += empty_arena(h, b / ARENA_BLOCKS);
  }
  return released;
}

void large_leave(gch_heap *h, uintptr_t start, uint64_t bytes) {
  const struct layout *l = &h->layout;
  uint64_t first = page_index(l, start), end = page_index(l, start + bytes + l->page_bytes - 1);
  bits_clear_range(h->large.pages, first, end);
  bits_clear_atomic(h->tables.live, granule_index(l, start)); /* at the end of a cycle a minor may be looking */
  memset(&h->tables.large_ids[first], 0, (end - first) * sizeof(uint32_t));
}

uint64_t large_vacate(gch_heap *h, uintptr_t start, uint64_t bytes, bool whole) {
  large_leave(h, start, bytes);
  uint64_t dropped = h->large.keeps ? 0 : drop_pages(h, start, start + align_up(bytes, h->layout.page_bytes));
  return (whole ? dropped : 0) +
         free_blocks(h, block_index(&h->layout, start), block_index(&h->layout, start + bytes - 1) + 1);
}

void large_settle(gch_heap *h, uint32_t id) {
  struct large *e = &h->large.entries[id];
  take_pages(h, page_index(&h->layout, e->forward), align_up(e->bytes, h->layout.page_bytes) >> h->layout.page_shift);
  large_claim(h, e->forward, e->bytes, id, e->leaf);
  bits_set_atomic(h->tables.live, granule_index(&h->layout, e->forward));
  at_store(&e->base, e->forward);
}

uint64_t large_release_arena(gch_heap *h, size_t arena) {
  const struct layout *l = &h->layout;
  uint64_t pages = ARENA_BYTES >> l->page_shift, at = arena * pages, end = at + pages, released = 0;
  while ((at = bits_find_next_clear(h->large.pages, at, end)) != BITS_NONE) {
    uint64_t used = bits_find_next(h->large.pages, at, end), stop = used == BITS_NONE ? end : used;
    released += drop_pages(h, l->base + (at << l->page_shift), l->base + (stop << l->page_shift));
    at = stop;
  }
  return released + free_blocks(h, arena * ARENA_BLOCKS, (arena + 1) * ARENA_BLOCKS);
}

uint64_t large_release_free(gch_heap *h) {
  uint64_t released = 0;
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    if (!space_is_large(h->layout.regions[r].space)) continue;
    uint32_t first, count = region_arenas(h, r, &first);
    for (uint32_t a = first; a < first + count; a++) {
      released += large_release_arena(h, a);
      if (h->tables.arenas[a].used == 0) released += empty_arena(h, a); /* emptied by the sweep, and kept */
    }
  }
  return released;
}

void large_free_holes(gch_heap *h, size_t arena) {
  uint64_t pages = ARENA_BYTES >> h->layout.page_shift;
  for (uint64_t p = arena * pages; p < (arena + 1) * pages; p++)
    if (h->tables.large_ids[p] == 0) bits_clear_range(h->large.pages, p, p + 1);
}

/* Lock held. */
static uint32_t take_entry(struct large_space *s) {
  uint32_t id = s->free_list;
  if (id != 0) {
    s->free_list = s->entries[id].next_free;
    return id;
  }
  return s->count < s->capacity ? s->count++ : 0;
}

static void put_entry(struct large_space *s, uint32_t id) {
  s->entries[id] = (struct large){.next_free = s->free_list};
  s->free_list = id;
}

uint32_t large_id(const gch_heap *h, uintptr_t a) { return h->tables.large_ids[page_index(&h->layout, a)]; }

uint64_t large_bytes_of(const gch_heap *h, const struct large *e, uint64_t length) {
  const gch_type *type = &h->types.items[e->type].pub;
  uint64_t bytes = type->tail_offset + length * type->tail_bytes;
  return bytes < type->bytes ? type->bytes : align_up(bytes, GRANULE_BYTES);
}

uint64_t large_free(gch_heap *h, uint32_t id) {
  struct large *e = &h->large.entries[id];
  uint64_t bytes = align_up(e->bytes, h->layout.page_bytes);
  uint64_t released = large_vacate(h, e->base, e->bytes, true);
  heap_unuse(h, bytes);
  put_entry(&h->large, id);
  return released;
}

/* --- birth ------------------------------------------------------------------------------------------------------ */

/* Lock held. With room behind them, if there is: the search for the next one goes on behind that. */
static uintptr_t reserve_roomy(gch_heap *h, bool leaf, uint64_t pages, uint64_t room) {
  struct large_space *s = &h->large;
  const struct region *r = &h->layout.regions[s->alloc_region[leaf]];
  uint64_t first = page_index(&h->layout, r->start), end = first + (r->bytes >> h->layout.page_shift);
  if (room > pages) {
    uint64_t cursor = s->cursor[leaf],
             at = find_run(s->pages, cursor < first || cursor >= end ? first : cursor, end, room);
    if (at != BITS_NONE) {
      take_pages(h, at, pages);
      s->cursor[leaf] = at + room;
      return h->layout.base + (at << h->layout.page_shift);
    }
  }
  return large_reserve(h, s->alloc_region[leaf], pages, &s->cursor[leaf], false);
}

static void reserve_entry(gch_heap *h, struct large_birth *b, uint64_t length, uint64_t bytes) {
  bool leaf = b->type->leaf != 0;
  claim_blocks(h, b->start, bytes, leaf);
  h->large.entries[b->id] = (struct large){.planned = b->start,
                                           .counted = b->counted,
                                           .bytes = bytes,
                                           .length = length,
                                           .type = header_type(b->type->header),
                                           .leaf = leaf,
                                           .birth = LARGE_RESERVED};
}

bool large_begin_roomy(gch_heap *h, struct large_birth *b, const struct large_wish *w) {
  struct large_space *s = &h->large;
  uint32_t shift = h->layout.page_shift;
  uint64_t footprint = align_up(w->bytes, h->layout.page_bytes);
  bool leaf = w->type->leaf != 0;
  if (!heap_use_within(h, w->counted)) return false;
  GCH_POINT(room_taken);
  lock_lock(&s->lock);
  uint32_t id = take_entry(s);
  uintptr_t start = id == 0 ? 0 : reserve_roomy(h, leaf, footprint >> shift, w->room >> shift);
  *b = (struct large_birth){.type = w->type,
                            .start = start,
                            .next = start,
                            .end = start + footprint,
                            .counted = w->counted,
                            .id = id,
                            .turn = s->turns[leaf]};
  if (start != 0)
    reserve_entry(h, b, w->length, w->bytes);
  else if (id != 0)
    put_entry(s, id);
  lock_unlock(&s->lock);
  if (start == 0) heap_unuse(h, w->counted);
  return start != 0;
}

bool large_begin(gch_heap *h, struct large_birth *b, const gch_type *type, uint64_t length, uint64_t bytes) {
  struct large_wish wish = {type, length, bytes, 0, align_up(bytes, h->layout.page_bytes)};
  return large_begin_roomy(h, b, &wish);
}

bool large_lasts(const gch_heap *h, const struct large_birth *b) {
  return b->turn == h->large.turns[b->type->leaf != 0];
}

/* Lock held, or nobody else runs. Its pages are not counted as used any more. */
static void drop_birth(gch_heap *h, uint32_t id) {
  large_vacate(h, h->large.entries[id].planned, h->large.entries[id].bytes, false);
  put_entry(&h->large, id);
}

void large_give_up(gch_heap *h, struct large_birth *b) {
  lock_lock(&h->large.lock);
  heap_unuse(h, b->counted);
  if (!large_lasts(h, b) && at_load(&h->phase) >= GCH_PHASE_MOVE)
    h->large.entries[b->id].birth = LARGE_LOST, h->large.lost++;
  else
    drop_birth(h, b->id);
  lock_unlock(&h->large.lock);
}

void large_drop_lost(gch_heap *h) {
  struct large_space *s = &h->large;
  lock_lock(&s->lock);
  for (uint32_t id = 1; id < s->count && s->lost > 0; id++)
    if (s->entries[id].birth == LARGE_LOST) drop_birth(h, id), s->lost--;
  lock_unlock(&s->lock);
}

void large_forget_births(gch_heap *h) {
  struct large_space *s = &h->large;
  bool moves = at_load(&h->phase) >= GCH_PHASE_MOVE;
  s->lost = 0;
  for (uint32_t id = 1; id < s->count; id++) {
    struct large *e = &s->entries[id];
    e->resizing = 0;
    if (e->birth == LARGE_NOT_IN_BIRTH) continue;
    if (e->birth == LARGE_RESERVED) heap_unuse(h, e->counted);
    if (moves && layout_region(&h->layout, e->planned) != s->alloc_region[e->leaf])
      e->birth = LARGE_LOST, s->lost++;
    else
      drop_birth(h, id);
  }
}

/* --- memory of what is born --------------------------------------------------------------------------------------- */

/* Lock held. What has become present of it before the kernel refused, beyond what the birth gives back itself, goes. */
static bool populate_arena(gch_heap *h, uintptr_t start) {
  struct arena *arena = heap_arena(h, start);
  if (!arena->huge && pages_populate(&h->kernel, (void *)start, ARENA_BYTES) < 0) {
    (void)large_release_arena(h, arena_index(&h->layout, start));
    return false;
  }
  arena_set_huge(arena, true);
  arena->populated = UINT32_MAX;
  return true;
}

/* The part [at, end) of a huge arena. If that was populated before, its memory is old, and cleared. */
static bool populate_huge(gch_heap *h, uintptr_t at, uintptr_t end) {
  uintptr_t start = arena_of(at);
  bool own = at == start && end == start + ARENA_BYTES;
  lock_lock(&h->large.lock);
  bool old = heap_arena(h, at)->huge, done = old || own || populate_arena(h, start);
  lock_unlock(&h->large.lock);
  if (old) memset((void *)at, 0, end - at);
  if (old || !own) return done;
  if (pages_populate(&h->kernel, (void *)start, ARENA_BYTES) < 0) return false;
  lock_lock(&h->large.lock);
  arena_set_huge(heap_arena(h, start), true);
  heap_arena(h, start)->populated = UINT32_MAX;
  lock_unlock(&h->large.lock);
  return true;
}

enum large_step large_populate(gch_heap *h, struct large_birth *b) {
  uintptr_t end = h->huge ? arena_end(b->next, b->end) : b->end - b->next > STEP_BYTES ? b->next + STEP_BYTES : b->end;
  bool done =
      h->huge ? populate_huge(h, b->next, end) : pages_populate(&h->kernel, (void *)b->next, end - b->next) >= 0;
  GCH_POINT(large_step);
  b->next = end;
  return !done ? LARGE_REFUSED : end == b->end ? LARGE_READY : LARGE_MORE;
}

/* --- publishing --------------------------------------------------------------------------------------------------- */

/* Lock held. An object born since the mark of the running major: not in its plan. Before the flip it is born marked, will
 * be flipped with its region, and its arenas are no sources that could be given away. */
static void note_birth(gch_heap *h, struct large *e) {
  e->born = 1;
  if (!heap_births_marked(h)) return;
  bits_set_atomic(h->tables.mark, granule_index(&h->layout, e->base)); /* no marker takes it for one of its own */
  for (size_t b = block_index(&h->layout, e->base); b <= block_index(&h->layout, e->base + e->bytes - 1); b++) {
    at_store_relaxed(&h->tables.arenas[b / ARENA_BLOCKS].fate, (uint8_t)ARENA_STAYS);
    summary_anywhere(h, b / ARENA_BLOCKS);
    if (!e->leaf && at_load(&h->arming) != 0) unit_arm(h, b);
  }
}

uintptr_t large_publish(gch_heap *h, const struct large_birth *b) {
  struct large *e = &h->large.entries[b->id];
  *(uint64_t *)b->start = b->type->header | HEADER_LARGE;
  lock_lock(&h->large.lock);
  GCH_ASSERT(e->birth == LARGE_RESERVED && large_lasts(h, b));
  e->base = e->forward = b->start;
  e->birth = LARGE_NOT_IN_BIRTH;
  large_claim(h, b->start, e->bytes, b->id, e->leaf);
  if (heap_births(h)) note_birth(h, e);
  bits_set_atomic(h->tables.live, granule_index(&h->layout, b->start)); /* after its mark: gc/marker.c */
  lock_unlock(&h->large.lock);
  return b->start;
}

/* --- longer and shorter ------------------------------------------------------------------------------------------- */

static uintptr_t pages_end(const gch_heap *h, const struct large *e) {
  return e->base + align_up(e->bytes, h->layout.page_bytes);
}

/* Before the plan whatever is found of it is true; from then on only what was born since is not in it, and of that only what lies
 * where allocation is, so it is not being flipped. */
bool large_may_change(const gch_heap *h, const struct large *e) {
  uint32_t phase = at_load(&h->phase);
  if (phase == GCH_PHASE_IDLE || phase == GCH_PHASE_MARK) return true;
  return phase <= GCH_PHASE_MOVE && e->born && layout_region(&h->layout, e->base) == h->large.alloc_region[e->leaf];
}

bool large_begin_behind(gch_heap *h, struct large_birth *b, uint32_t id, uint64_t bytes, bool *full) {
  struct large_space *s = &h->large;
  struct large *e = &s->entries[id];
  uint32_t ext = 0;
  lock_lock(&s->lock);
  uintptr_t start = pages_end(h, e), end = e->base + align_up(bytes, h->layout.page_bytes);
  const struct region *r = heap_region(h, e->base);
  uint64_t from = page_index(&h->layout, start), to = page_index(&h->layout, end);
  bool here = large_may_change(h, e) && end - r->start <= r->bytes && bits_find_next(s->pages, from, to) == BITS_NONE;
  *full = here && !heap_use_within(h, end - start);
  if (here && !*full && (ext = take_entry(s)) == 0) heap_unuse(h, end - start);
  if (ext != 0) {
    *b = (struct large_birth){.type = &h->types.items[e->type].pub,
                              .start = start,
                              .next = start,
                              .end = end,
                              .counted = end - start,
                              .id = ext,
                              .turn = s->turns[e->leaf]};
    take_pages(h, from, to - from);
    reserve_entry(h, b, 0, end - start);
  }
  lock_unlock(&s->lock);
  return ext != 0;
}

/* Lock held. Pages of an object born since the mark: see note_birth. */
static void note_growth(gch_heap *h, const struct large *e, const struct large_birth *b) {
  if (!heap_births_marked(h)) return;
  for (size_t i = block_index(&h->layout, b->start); i <= block_index(&h->layout, b->end - 1); i++) {
    at_store_relaxed(&h->tables.arenas[i / ARENA_BLOCKS].fate, (uint8_t)ARENA_STAYS);
    summary_anywhere(h, i / ARENA_BLOCKS);
    if (!e->leaf && at_load(&h->arming) != 0) unit_arm(h, i);
  }
}

bool large_absorb(gch_heap *h, struct large_birth *b, uint32_t id, uint64_t length) {
  struct large *e = &h->large.entries[id];
  lock_lock(&h->large.lock);
  bool fits = large_lasts(h, b) && large_may_change(h, e) && pages_end(h, e) == b->start;
  if (fits) {
    large_claim(h, b->start, b->end - b->start, id, e->leaf);
    if (heap_births(h)) note_growth(h, e, b);
    put_entry(&h->large, b->id);
    at_store_relaxed(&e->bytes, large_bytes_of(h, e, length)); /* the length publishes it */
    at_store(&e->length, length);
  }
  lock_unlock(&h->large.lock);
  return fits;
}

void large_cut(gch_heap *h, uint32_t id, uint64_t bytes) {
  struct large *e = &h->large.entries[id];
  uintptr_t from = e->base + align_up(bytes, h->layout.page_bytes), end = pages_end(h, e);
  at_store_relaxed(&e->bytes, bytes); /* under the lock; who reads it without sees pages that stay */
  if (from == end) return;
  large_vacate(h, from, end - from, true);
  heap_unuse(h, end - from);
}

uint64_t large_trim(gch_heap *h, uint32_t id) {
  struct large *e = &h->large.entries[id];
  uint64_t bytes = large_bytes_of(h, e, at_load_relaxed(&e->length)), before = e->bytes; /* the world stopped since */
  if (e->resizing != 0 || bytes >= before) return 0;
  large_cut(h, id, bytes);
  return align_up(before, h->layout.page_bytes) - align_up(bytes, h->layout.page_bytes);
}

uintptr_t large_alloc(gch_heap *h, const gch_type *type, uint64_t length, uint64_t bytes) {
  struct large_birth b;
  enum large_step step;
  if (!large_begin(h, &b, type, length, bytes)) return 0;
  do step = large_populate(h, &b);
  while (step == LARGE_MORE);
  if (step == LARGE_READY) return large_publish(h, &b);
  large_give_up(h, &b);
  return 0;
}
