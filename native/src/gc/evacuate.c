#include "gc/evacuate.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "gc/cards.h"
#include "gc/drive.h"
#include "gc/forward_inline.h"
#include "gc/team.h"
#include "heap/summary.h"

/* --- plan arrays ---------------------------------------------------------------------------------------------- */

static size_t plan_bytes(const struct plan *p) {
  return p->blocks * (3 * sizeof(uint32_t) + sizeof(struct dest)) +
         p->blocks / ARENA_BLOCKS * (sizeof(uint32_t) + sizeof(struct relocation)) + p->large * sizeof(uint32_t) +
         p->piece_capacity * sizeof(struct large_piece);
}

gch_status plan_init(gch_heap *h, struct plan **out, gch_error *error) {
  struct plan *p = calloc(1, sizeof *p);
  *out = p;
  if (p == NULL) return error_set(error, GCH_NO_MEMORY, "no memory for the records of a plan");
  p->blocks = align_up(layout_block_count(&h->layout), 1024);
  p->large = align_up(h->large.capacity, 1024);
  p->piece_capacity = p->large + align_up(h->config.max_bytes / PLAN_PIECE_BYTES, 1024);
  void *arrays = NULL;
  int rc = kernel_mmap(&h->kernel, NULL, plan_bytes(p), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, &arrays);
  if (rc < 0) return error_set(error, GCH_NO_MEMORY, "cannot reserve addresses for plans: %s", strerror(-rc));
  p->sources = arrays;
  p->moves = p->sources + p->blocks;
  p->fixes = p->moves + p->blocks;
  p->arenas = p->fixes + p->blocks;
  p->large_arenas = (struct relocation *)(p->arenas + p->blocks / ARENA_BLOCKS);
  p->large_moves = (uint32_t *)(p->large_arenas + p->blocks / ARENA_BLOCKS);
  p->pieces = (struct large_piece *)(p->large_moves + p->large);
  p->dests = (struct dest *)(p->pieces + p->piece_capacity);
  return GCH_OK;
}

void plan_destroy(gch_heap *h, struct plan *p) {
  if (p == NULL) return;
  if (p->sources != NULL) kernel_munmap(&h->kernel, p->sources, plan_bytes(p));
  free(p);
}

void plan_reset(struct plan *p) {
  p->source_count = p->move_count = p->fix_count = p->arena_count = 0;
  p->large_move_count = p->large_arena_count = p->piece_count = p->dest_count = p->chain_count = p->move_chain_count =
      p->large_chain_count = 0;
  p->summed = false;
}

void plan_add_pieces(gch_heap *h, struct plan *p, uint32_t id) {
  struct large *e = &h->large.entries[id];
  for (uint32_t i = 0; i < div_ceil(e->bytes, PLAN_PIECE_BYTES); i++)
    p->pieces[p->piece_count++] = (struct large_piece){id, i};
}

int64_t plan_arena_delta(const gch_heap *h, uint32_t arena) {
  size_t b = (size_t)arena * ARENA_BLOCKS;
  while (h->tables.forward[b] == 0) b++; /* some block of a relocated arena lives */
  return h->tables.forward[b];
}

static bool is_full(const gch_heap *h, uint32_t arena) {
  return at_load_relaxed(&h->tables.arenas[arena].populated) == UINT32_MAX; /* nobody else's */
}

uint32_t plan_arena_run(const gch_heap *h, const struct plan *p, uint32_t from) {
  const uint32_t *arenas = &p->arenas[from];
  int64_t delta = plan_arena_delta(h, arenas[0]);
  uint32_t n = 1, most = p->arena_count - from;
  if (most > CALL_BYTES / ARENA_BYTES) most = CALL_BYTES / ARENA_BYTES;
  while (n < most && arenas[n] == arenas[0] + n && is_full(h, arenas[0]) && is_full(h, arenas[n]) &&
         plan_arena_delta(h, arenas[n]) == delta)
    n++;
  return n;
}

/* --- extents -------------------------------------------------------------------------------------------------- */

struct extents_job {
  gch_heap *heap;
  struct plan *plan;
  const uint64_t *map;
  uint64_t next; /* [atomic] */
  bool beside;
};

static void block_extents(gch_heap *h, size_t block, const uint64_t *map) {
  struct line_forward *lines = &h->tables.lines[block * BLOCK_LINES];
  uint64_t bitmap[BLOCK_WORDS] = {0};
  uint64_t first = block * BLOCK_GRANULES;
  for (uint32_t line = 0; line < BLOCK_LINES; line++) {
    for (uint64_t starts = map[first / 64 + line]; starts != 0; starts &= starts - 1) {
      uint32_t granule = line * 64 + ctz64(starts);
      uintptr_t object = h->layout.base + (first + granule) * GRANULE_BYTES;
      uint64_t header = header_load(object);
      uint32_t count = object_small_bytes(typetab_get(&h->types, header), header) / GRANULE_BYTES;
      if (gch_likely(granule % 64 + count <= 64))
        bitmap[line] |= bits_mask(granule % 64, granule % 64 + count);
      else
        bits_set_range(bitmap, granule, granule + count);
    }
  }
  for (uint32_t line = 0; line < BLOCK_LINES; line++) lines[line] = (struct line_forward){.extents = bitmap[line]};
}

static void extents_worker(void *context, uint32_t worker, uint32_t workers) {
  struct extents_job *job = context;
  (void)worker, (void)workers;
  while (!job->beside || !drive_wanted(job->heap)) {
    uint64_t i = at_add_relaxed(&job->next, 1);
    if (i >= job->plan->source_count) return;
    block_extents(job->heap, job->plan->sources[i], job->map);
  }
}

void evacuate_extents(gch_heap *h, struct plan *plan, uint32_t from, const uint64_t *map) {
  bool beside = plan == h->plan && h->drive.busy != 0; /* the driver's own word: pauses have a team of their own */
  struct extents_job job = {h, plan, map, from, beside};
  if (beside) GCH_POINT(extents_wanted);
  while (job.next < plan->source_count) { /* the job is over: nobody else counts */
    if (!beside) {
      team_run(h, extents_worker, &job);
      return;
    }
    team_run_beside(h, extents_worker, &job, UINT32_MAX);
    drive_pass(h);
  }
}

/* --- packing -------------------------------------------------------------------------------------------------- */

struct packer {
  gch_heap *heap;
  struct plan *plan;
  const uint64_t *map;
  dest_source take;
  void *context;
  struct dest *open; /* NULL: none */
  uintptr_t next;    /* taken for the source at hand: it goes here when `open` is full */
};

/* The end of the group of lines that starts at `line`: lines are joined while an object reaches into the next. */
static uint32_t group_end(const struct line_forward *lines, const uint64_t *starts, uint32_t line) {
  while (line + 1 < BLOCK_LINES && lines[line].extents >> 63 && (lines[line + 1].extents & 1) &&
         !(starts[line + 1] & 1))
    line++;
  return line + 1;
}

static uint32_t lines_granules(const struct line_forward *lines, uint32_t from, uint32_t to) {
  uint32_t granules = 0;
  for (; from < to; from++) granules += popcount64(lines[from].extents);
  return granules;
}

static void open_next(struct packer *p, uint32_t source, uint32_t line) {
  size_t index = block_index(&p->heap->layout, p->next);
  GCH_ASSERT(p->next != 0);
  p->next = 0;
  p->open = &p->plan->dests[p->plan->dest_count];
  *p->open = (struct dest){
      .block = (uint32_t)index, .first_source = source, .last_source = source, .first_line = (uint8_t)line};
  p->heap->tables.dest[index] = ++p->plan->dest_count;
}

/* Places the lines of a group one after the other in the open destination. */
static void place_group(struct packer *p, uint32_t source, uint32_t line, uint32_t end) {
  struct line_forward *lines = &p->heap->tables.lines[(size_t)p->plan->sources[source] * BLOCK_LINES];
  uintptr_t base = block_address(&p->heap->layout, p->open->block);
  for (; line < end; line++) {
    lines[line].dest = base + (uintptr_t)p->open->granules * GRANULE_BYTES;
    p->open->granules = (uint16_t)(p->open->granules + popcount64(lines[line].extents));
  }
  p->open->last_source = source;
  p->open->end_line = (uint8_t)end;
}

/* A source's live granules fit one empty block, so it needs at most one new destination: taken before anything is
 * placed, so that a source is packed whole or not at all. */
static bool pack_source(struct packer *p, uint32_t source) {
  gch_heap *h = p->heap;
  size_t block = p->plan->sources[source];
  struct line_forward *lines = &h->tables.lines[block * BLOCK_LINES];
  const uint64_t *starts = &p->map[block * BLOCK_WORDS];
  const struct dest *counted = NULL;
  p->plan->packing = source;
  uint32_t room = p->open == NULL ? 0 : BLOCK_GRANULES - p->open->granules;
  if (lines_granules(lines, 0, BLOCK_LINES) > room && (p->next = p->take(h, p->context)) == 0) return false;
  for (uint32_t line = 0, end; line < BLOCK_LINES; line = end) {
    end = group_end(lines, starts, line);
    uint32_t granules = lines_granules(lines, line, end);
    if (granules == 0) continue;
    if (p->open == NULL || p->open->granules + granules > BLOCK_GRANULES) open_next(p, source, line);
    place_group(p, source, line, end);
    if (counted != p->open) h->tables.needed[block]++;
    counted = p->open;
  }
  h->tables.forward[block] = FORWARD_EVACUATED;
  return true;
}

uint32_t evacuate_pack(gch_heap *h, struct plan *plan, uint32_t from, uint32_t to, const uint64_t *map,
                       dest_source take, void *context) {
  struct packer p = {.heap = h, .plan = plan, .map = map, .take = take, .context = context};
  uint32_t source = from;
  while (source < to && pack_source(&p, source)) source++;
  return source - from;
}

/* --- filling destinations ------------------------------------------------------------------------------------- */

/* Forwarding reads a word of the line table for each reference, which is a cache miss as often as not. So an object's
 * references are fixed a few objects later than it is met: what they will read is fetched meanwhile. (Measured: half the
 * time of filling a destination was this wait.) */
enum { FIX_LAG = 8, LARGE_LAG = 16 };

struct late {
  uintptr_t object;
  uint64_t header;
  const struct type_info *type;
};

struct fixer {
  const struct gather *gather;
  const struct type_info *type; /* of the object being fixed */
  uintptr_t home;               /* what to add to a slot's address to get its address in the heap */
  uint32_t first, count;
  struct late late[FIX_LAG];
};

SCAN_INLINE void fix_slot(uint64_t *slot, void *context) {
  const struct fixer *f = context;
  gch_heap *h = f->gather->heap;
  uint64_t word = *slot, new = word;
  if (gch_likely(!f->gather->young_only) || heap_in_young(h, (uintptr_t)word)) new = forward_word(h, f->type, word);
  if (new != word) *slot = new;
  if (gch_unlikely(f->gather->cards) && word_is_ref(f->type, new) && heap_is_young(h, (uintptr_t)(new & ~(uint64_t)7)))
    card_mark(h, (uintptr_t)slot + f->home);
}

SCAN_INLINE void fetch_slot(uint64_t *slot, void *context) {
  const struct fixer *f = context;
  const gch_heap *h = f->gather->heap;
  if (heap_contains(h, (uintptr_t)*slot))
    __builtin_prefetch(&h->tables.lines[((uintptr_t)*slot - h->layout.base) >> LINE_SHIFT]);
}

static inline void fix_first(struct fixer *f) {
  const struct late *l = &f->late[f->first];
  f->first = (f->first + 1) % FIX_LAG;
  f->count--;
  f->type = l->type;
  scan_small(l->type, l->object, l->header, fix_slot, f);
}

static inline void fix_later(struct fixer *f, uintptr_t object, uint64_t header, const struct type_info *type) {
  if (f->gather->plan->source_count == 0) { /* nothing is evacuated, in a minor collection: no line is read */
    f->type = type;
    scan_small(type, object, header, fix_slot, f);
    return;
  }
  if (f->count == FIX_LAG) fix_first(f);
  f->late[(f->first + f->count++) % FIX_LAG] = (struct late){object, header, type};
  scan_small(type, object, header, fetch_slot, f);
}

static void fix_rest(struct fixer *f) {
  while (f->count > 0) fix_first(f);
}

static inline void fetch_objects(uint64_t starts, uintptr_t line) {
  for (; starts != 0; starts &= starts - 1) __builtin_prefetch((const void *)(line + ctz64(starts) * GRANULE_BYTES));
}

enum { GATHER_AHEAD = 3 }; /* lines whose objects are fetched meanwhile */

/* Copies the live objects of one line, fixes their references, sets their bits; returns where the next goes. */
static uintptr_t gather_line(struct fixer *f, size_t block, uint32_t line, uintptr_t to) {
  const struct gather *g = f->gather;
  gch_heap *h = g->heap;
  uint64_t first = block * BLOCK_GRANULES + line * 64;
  uintptr_t source = h->layout.base + first * GRANULE_BYTES + g->source_delta;
  if (line + GATHER_AHEAD < BLOCK_LINES)
    fetch_objects(g->map[first / 64 + GATHER_AHEAD], source + (uintptr_t)GATHER_AHEAD * LINE_BYTES);
  for (uint64_t starts = g->map[first / 64]; starts != 0; starts &= starts - 1) {
    uintptr_t object = source + ctz64(starts) * GRANULE_BYTES;
    uint64_t header = header_load(object);
    const struct type_info *type = typetab_get(&h->types, header);
    uint32_t bytes = object_small_bytes(type, header);
    const uint64_t *in = (const uint64_t *)object;
    uint64_t *out = (uint64_t *)to;
    if (gch_likely(bytes <= 128))
      for (uint32_t i = 0; i < bytes / 8; i++) out[i] = in[i];
    else
      memcpy(out, in, bytes);
    if (!type->pub.leaf) fix_later(f, to, header, type);
    uint64_t bit = granule_index(&h->layout, to + f->home);
    if (g->born != NULL) bits_set(g->born, bit);
    if (g->born_too != NULL) bits_set(g->born_too, bit);
    to += bytes;
  }
  return to;
}

void evacuate_gather(const struct gather *g, uint32_t dest, uintptr_t into) {
  gch_heap *h = g->heap;
  const struct dest *d = &g->plan->dests[dest];
  struct fixer f = {.gather = g, .home = block_address(&h->layout, d->block) - into};
  uintptr_t to = into;
  for (uint32_t s = d->first_source; s <= d->last_source; s++) {
    size_t block = g->plan->sources[s];
    uint32_t line = s == d->first_source ? d->first_line : 0;
    uint32_t end = s == d->last_source ? d->end_line : BLOCK_LINES;
    if (gch_unlikely(h->tables.forward[block] != FORWARD_EVACUATED)) { /* pinned since the plan: its slots stay empty */
      to += lines_granules(&h->tables.lines[block * BLOCK_LINES], line, end) * (uintptr_t)GRANULE_BYTES;
      continue;
    }
    for (; line < end; line++) to = gather_line(&f, block, line, to);
  }
  fix_rest(&f);
  GCH_CHECK(to - into == (uintptr_t)d->granules * GRANULE_BYTES, "destination %u: filled %zu bytes, planned %zu",
            d->block, (size_t)(to - into), (size_t)d->granules * GRANULE_BYTES);
}

/* --- fixing in place ------------------------------------------------------------------------------------------ */

/* Where nothing is evacuated, blocks say it all: what is read for a slot lies in registers and a small table. (In the heap's
 * record any store through a slot might have changed it, for all the compiler knows.) */
struct near {
  const gch_heap *heap;
  uintptr_t base;
  size_t span;
  const int64_t *forward;
  uint64_t mask, value; /* the type's tag rule */
};

static bool is_near(const struct gather *g) { return g->plan->source_count == 0 && !g->cards && !g->young_only; }

static struct near near_of(const gch_heap *h) {
  return (struct near){
      .heap = h, .base = h->layout.base, .span = h->layout.span, .forward = h->tables.forward, .value = 0};
}

/* (Whole blocks go by whole blocks: tags stay what they are.) */
SCAN_INLINE void fix_near_slot(uint64_t *slot, void *context) {
  const struct near *n = context;
  uint64_t word = *slot;
  uintptr_t offset = (uintptr_t)word - n->base;
  if (offset >= n->span || (word & n->mask) != n->value) return;
  int64_t f = n->forward[offset >> BLOCK_SHIFT];
  if (f != 0)
    *slot = gch_likely((f & 1) == 0) ? word + (uint64_t)f : forward_address(n->heap, word & ~n->mask) | n->value;
}

typedef void (*object_visit)(uintptr_t object, uint64_t header, const struct type_info *type, void *context);

/* Headers of objects of some size are a cache miss each, and there is more to do for one than fits the reorder window twice: they
 * are fetched some lines ahead. Small ones the hardware streams in. */
enum { FETCH_LINES = 4, FETCH_MOST = 16 };

/* The objects with references in the block. */
SCAN_INLINE void each_object(const struct gather *g, size_t block, object_visit visit, void *context) {
  gch_heap *h = g->heap;
  uintptr_t base = block_address(&h->layout, block) + g->source_delta;
  const uint64_t *map = &g->map[block * BLOCK_WORDS];
  for (uint32_t line = 0; line < BLOCK_LINES; line++) {
    uint32_t ahead = line + FETCH_LINES;
    if (ahead < BLOCK_LINES && popcount64(map[ahead]) <= FETCH_MOST)
      fetch_objects(map[ahead], base + ahead * (uintptr_t)LINE_BYTES);
    for (uint64_t starts = map[line]; starts != 0; starts &= starts - 1) {
      uintptr_t object = base + (line * 64 + ctz64(starts)) * (uintptr_t)GRANULE_BYTES;
      uint64_t header = header_load(object);
      const struct type_info *type = typetab_get(&h->types, header);
      if (!type->pub.leaf) visit(object, header, type, context);
    }
  }
}

SCAN_INLINE void fix_near_object(uintptr_t object, uint64_t header, const struct type_info *type, void *context) {
  struct near *n = context;
  n->mask = type->tag_mask;
  n->value = type->tag_value;
  scan_small(type, object, header, fix_near_slot, n);
}

SCAN_INLINE void fix_object_later(uintptr_t object, uint64_t header, const struct type_info *type, void *context) {
  fix_later(context, object, header, type);
}

/* Nothing in [from, to) refers to what moves. */
static bool is_quiet(const struct gather *g, uintptr_t from, uintptr_t to) {
  const struct layout *l = &g->heap->layout;
  if (!g->plan->summed) return false;
  for (size_t a = arena_index(l, from); a <= arena_index(l, to - 1); a++)
    if (!summary_is_quiet(g->heap, a, g->plan->moving)) return false;
  at_add_relaxed(&g->heap->moved.unread, 1); /* a figure */
  return true;
}

void fix_block(const struct gather *g, size_t block, uintptr_t home) {
  uintptr_t at = block_address(&g->heap->layout, block);
  if (is_quiet(g, at, at + BLOCK_BYTES)) return;
  struct fixer f = {.gather = g, .home = home - g->source_delta};
  struct near n = near_of(g->heap);
  if (is_near(g)) {
    each_object(g, block, fix_near_object, &n);
  } else {
    each_object(g, block, fix_object_later, &f);
    fix_rest(&f);
  }
}

void fix_relocating(const struct gather *g, size_t block) {
  if (!g->heap->tables.blocks[block].leaf) fix_block(g, block, (uintptr_t)g->heap->tables.forward[block]);
}

void fix_arena(const struct gather *g, uint32_t arena) {
  for (size_t b = (size_t)arena * ARENA_BLOCKS; b < ((size_t)arena + 1) * ARENA_BLOCKS; b++)
    if (g->heap->tables.forward[b] != 0) fix_relocating(g, b);
}

struct large_fixer {
  struct fixer fixer;
  uint64_t *end; /* of the range */
};

/* Arrays of references need no looking at headers: what a slot will read is fetched when one some way before it is fixed (if
 * that is visited: nulls are not). */
SCAN_INLINE void fix_large_slot(uint64_t *slot, void *context) {
  struct large_fixer *f = context;
  if (slot + LARGE_LAG < f->end) fetch_slot(slot + LARGE_LAG, &f->fixer);
  fix_slot(slot, &f->fixer);
}

/* The slots of the object in [from, to), both at their address. */
static void fix_part(const struct gather *g, const struct large *e, uintptr_t from, uintptr_t to, uintptr_t home) {
  const struct type_info *type = &g->heap->types.items[e->type];
  uintptr_t object = e->base + g->source_delta, first = from + g->source_delta, stop = to + g->source_delta;
  uint64_t length =
      at_load(&e->length); /* elements behind it are nobody's, those that come are written when they are mapped */
  struct near n = near_of(g->heap);
  struct large_fixer f = {.fixer = {.gather = g, .type = type, .home = home - g->source_delta},
                          .end = (uint64_t *)stop};
  n.mask = type->tag_mask;
  n.value = type->tag_value;
  if (is_near(g))
    scan_object_refs(type, object, length, first, stop, fix_near_slot, &n);
  else
    scan_object_refs(type, object, length, first, stop, fix_large_slot, &f);
}

void fix_large(const struct gather *g, uintptr_t from, uintptr_t to, uintptr_t home) {
  gch_heap *h = g->heap;
  if (is_quiet(g, from, to)) return;
  while (from < to) {
    uint32_t id = h->tables.large_ids[(from - h->layout.base) >> h->layout.page_shift];
    const struct large *e = &h->large.entries[id];
    if (id == 0 || !bits_test(g->map, granule_index(&h->layout, e->base))) {
      from += h->layout.page_bytes;
      continue;
    }
    uintptr_t end =
        align_up(e->base + at_load_relaxed(&e->bytes), h->layout.page_bytes); /* the same pages at any time */
    if (end > to) end = to;
    if (!e->leaf) fix_part(g, e, from, end, home);
    from = end;
  }
}
