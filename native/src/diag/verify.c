/* What is checked, in this order: tables at rest (no mark, no forwarding left over), arenas (heap/tables.h says what holds of
 * them), blocks against arenas, their ages, the accounting of used bytes and of young blocks, free lists (entries of large
 * objects, frames of the move), every object's header, every reference (it leads to the start of an object that exists:
 * I1; weak ones too), every reference from old to young against its card, the lists of weak cells (there are none), every root,
 * every registered finalizer, the handles that are free, the pin counts.
 *
 * Young objects have no live bits, so the mark map, which is all zero at rest, serves to remember their starts. */
#include "diag/verify.h"

#include "base/error.h"
#include "gc/finalize.h"
#include "gc/phase.h"
#include "gc/roots.h"
#include "gc/weak.h"
#include "heap/small.h"
#include "object/scan_inline.h"

struct verifier {
  gch_heap *heap;
  gch_error *error;
  bool failed;
  uint64_t used_bytes;
  uint64_t eden, survivors; /* young blocks */
  uintptr_t object; /* being checked */
  const struct type_info *type;
};

/* The first breach is the one that is named. */
#define FAIL(v, ...) \
  ((v)->failed ? (void)0 : ((v)->failed = true, (void)error_set((v)->error, GCH_CORRUPT, __VA_ARGS__)))

/* --- tables --------------------------------------------------------------------------------------------------- */

/* Where the kernel would not take memory back there may be more than arenas say, so a huge page may have left some. */
static void check_arena(struct verifier *v, size_t index, bool large) {
  const gch_heap *h = v->heap;
  const struct arena *a = &h->tables.arenas[index];
  if (a->huge && !h->huge) FAIL(v, "arena %zu is huge, huge pages are not asked for", index);
  if (a->huge && a->populated == 0 && at_load(&h->undropped) == 0)
    FAIL(v, "arena %zu is huge, but nothing of it is populated", index);
  if (large && a->populated != 0 && !(a->huge && a->populated == UINT32_MAX))
    FAIL(v, "arena %zu of large objects says that it is populated in blocks %08x%s, expected all and huge, or none",
         index, a->populated, a->huge ? ", huge" : "");
}

static bool holds_large_pages(const gch_heap *h, size_t b) {
  uint64_t pages = BLOCK_BYTES >> h->layout.page_shift;
  return bits_find_next(h->large.pages, b * pages, (b + 1) * pages) != BITS_NONE;
}

/* May a block of this space be in this state at rest? */
static bool is_state_of(enum space_id space, uint8_t state) {
  if (state == BLOCK_FREE) return true;
  if (space_is_large(space)) return state == BLOCK_LARGE;
  return state == BLOCK_USED || (state == BLOCK_YOUNG && space == SPACE_YOUNG);
}

/* Nothing of a cycle is left over. */
static void check_rest(struct verifier *v, size_t b) {
  const gch_heap *h = v->heap;
  if (h->tables.forward[b] != 0)
    FAIL(v, "block %zu still forwards by %lld at rest", b, (long long)h->tables.forward[b]);
  if (h->tables.dest[b] != 0 || h->tables.needed[b] != 0) FAIL(v, "block %zu is still in a plan at rest", b);
  if (h->tables.arenas[b / ARENA_BLOCKS].kept >> b % ARENA_BLOCKS & 1)
    FAIL(v, "the memory of block %zu was kept for its being freed, but it was not", b);
  if (bits_find_next(h->tables.mark, (uint64_t)b * BLOCK_GRANULES, (uint64_t)(b + 1) * BLOCK_GRANULES) != BITS_NONE)
    FAIL(v, "block %zu has marks at rest", b);
}

/* What is young has survived as many minors as its block says, at most those after which it is promoted. A block that a minor
 * has kept is old where it stands, and keeps its age; nothing else that is old has one, nor what is free. */
static void check_age(struct verifier *v, size_t b, enum space_id space) {
  const struct block *block = &v->heap->tables.blocks[b];
  bool may_age = space == SPACE_YOUNG && block->state != BLOCK_FREE;
  uint32_t most = may_age ? v->heap->config.promote_age : 0;
  if (block->age > most)
    FAIL(v, "block %zu (state %u) has age %u, expected at most %u", b, block->state, block->age, most);
  if (block->state != BLOCK_YOUNG) return;
  if (block->age == 0)
    v->eden++;
  else
    v->survivors++;
}

static void check_block(struct verifier *v, size_t b, enum space_id space) {
  const gch_heap *h = v->heap;
  const struct block *block = &h->tables.blocks[b];
  bool large = space_is_large(space), used = h->tables.arenas[b / ARENA_BLOCKS].used >> b % ARENA_BLOCKS & 1;
  check_rest(v, b);
  if (used != (block->state != BLOCK_FREE))
    FAIL(v, "block %zu has state %u, its arena says it is %s", b, block->state, used ? "used" : "free");
  if (!is_state_of(space, block->state))
    FAIL(v, "block %zu has state %u, which none of its space has at rest", b, block->state);
  if (large && used != holds_large_pages(h, b))
    FAIL(v, "block %zu is %s, but %s page of it belongs to a large object", b, used ? "used" : "free",
         used ? "no" : "some");
  bool populated = h->tables.arenas[b / ARENA_BLOCKS].populated >> b % ARENA_BLOCKS & 1;
  if (!large && used && !populated) FAIL(v, "block %zu is in use but not populated", b);
  if (block->state == BLOCK_FREE &&
      bits_find_next(h->tables.live, (uint64_t)b * BLOCK_GRANULES, (uint64_t)(b + 1) * BLOCK_GRANULES) != BITS_NONE)
    FAIL(v, "free block %zu has live objects", b);
  if (!large && used) v->used_bytes += BLOCK_BYTES;
  check_age(v, b, space);
}

/* Both are written by minors and by who takes a block, none of which goes on now. */
static void check_young(struct verifier *v) {
  const struct young_space *y = &v->heap->young;
  uint64_t eden = at_load_relaxed(&y->blocks), survivors = at_load_relaxed(&y->survivors);
  if (v->eden != eden || v->survivors != survivors)
    FAIL(v, "%llu young blocks have age 0 and %llu more, %llu and %llu are accounted for", (unsigned long long)v->eden,
         (unsigned long long)v->survivors, (unsigned long long)eden, (unsigned long long)survivors);
}

static void check_tables(struct verifier *v) {
  gch_heap *h = v->heap;
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    uint32_t first, count = region_arenas(h, r, &first);
    enum space_id space = h->layout.regions[r].space;
    if (space == SPACE_FRAMES) continue;
    for (size_t a = first; a < first + count && !v->failed; a++) {
      check_arena(v, a, space_is_large(space));
      for (size_t b = a * ARENA_BLOCKS; b < (a + 1) * ARENA_BLOCKS && !v->failed; b++) check_block(v, b, space);
    }
  }
  for (uint32_t id = 1; id < h->large.count; id++) {
    const struct large *e = &h->large.entries[id];
    if (e->base != 0) v->used_bytes += align_up(e->bytes, h->layout.page_bytes);
    if (e->birth == LARGE_RESERVED) v->used_bytes += e->counted;
    if (e->base != 0 && large_bytes_of(h, e, e->length) > e->bytes)
      FAIL(v, "large object %p has %llu elements, which need more than its %llu bytes", (void *)e->base,
           (unsigned long long)e->length, (unsigned long long)e->bytes);
  }
  if (!v->failed && v->used_bytes != at_load(&h->used_bytes))
    FAIL(v, "blocks and large objects add up to %llu bytes, %llu are accounted for", (unsigned long long)v->used_bytes,
         (unsigned long long)at_load(&h->used_bytes));
  if (!v->failed) check_young(v);
}

/* --- free lists ----------------------------------------------------------------------------------------------- */

/* Entries of large objects that nobody has are in the list, each once. */
static void check_large_entries(struct verifier *v) {
  struct large_space *s = &v->heap->large;
  uint32_t idle = 0, listed = 0;
  lock_lock(&s->lock);
  for (uint32_t id = 1; id < s->count; id++)
    idle += s->entries[id].base == 0 && s->entries[id].birth == LARGE_NOT_IN_BIRTH;
  for (uint32_t id = s->free_list; id != 0 && listed <= idle && !v->failed; id = s->entries[id].next_free, listed++)
    if (id >= s->count || s->entries[id].base != 0)
      FAIL(v, "entry %u of %u of large objects is in the list of free ones, but not free", id, s->count);
  lock_unlock(&s->lock);
  if (listed != idle)
    FAIL(v, "%u entries of large objects are free, their list has %u%s", idle, listed, listed > idle ? " or more" : "");
}

/* Nothing moves: nobody has taken a frame, and no source that was read is kept as one. */
static void check_frames(struct verifier *v) {
  struct frames *f = &v->heap->frames;
  uint64_t first = (uint64_t)f->arena_slots * ARENA_BLOCKS;
  lock_lock(&f->lock);
  uint64_t free = bits_count_range(f->free, first, f->slots);
  uint32_t count = f->free_count, runs = f->run_count, pooled = f->pooled, arenas = f->arena_count;
  uint32_t taken = f->arena_taken, held = f->arena_held;
  lock_unlock(&f->lock);
  if (free != count || free != f->slots - first)
    FAIL(v, "%llu of %llu frames are free at rest, %u are accounted for", (unsigned long long)free,
         (unsigned long long)(f->slots - first), count);
  if (taken != 0 || (uint64_t)held >> f->arena_slots != 0)
    FAIL(v, "frames of arenas, %u in all: %08x are taken at rest, %08x have memory", f->arena_slots, taken, held);
  if (runs != 0 || pooled != 0 || arenas != 0)
    FAIL(v, "%u blocks in %u runs, and %u arenas, are frames at rest", pooled, runs, arenas);
}

/* Who holds a handle may free it at any time, but only the program, which stands still, takes one: what is in the list
 * stays there, and is free. That all that are free are in it cannot be said: some may be on their way. */
static void check_handles(struct verifier *v) {
  struct roots *r = &v->heap->roots;
  uint64_t top = at_load(&r->handle_top), listed = 0;
  for (uint32_t index = (uint32_t)at_load(&r->handle_free); index != 0 && listed <= top && !v->failed; listed++) {
    const struct handle_slot *slot = &r->handles[index - 1];
    if (index > top || at_load(&slot->generation) % 2 != 0 || at_load(&slot->ref) != 0)
      FAIL(v, "handle %u of %llu is in the list of free ones, but %s", index, (unsigned long long)top,
           index > top ? "was never made" : "not free");
    else
      index = at_load_relaxed(&slot->next_free); /* published by the head */
  }
  uint64_t used = at_load_relaxed(&r->handle_count); /* read last: it only falls meanwhile */
  if (!v->failed && listed + used > top)
    FAIL(v, "%llu handles are in use and %llu%s in the list of free ones, %llu were made", (unsigned long long)used,
         (unsigned long long)listed, listed > top ? " or more" : "", (unsigned long long)top);
}

/* --- objects -------------------------------------------------------------------------------------------------- */

static bool note_object(uintptr_t object, const struct type_info *type, uint64_t bytes, void *context) {
  struct verifier *v = context;
  gch_heap *h = v->heap;
  uint64_t header = header_load(object);
  uint32_t id = header_type(header);
  if (id == 0 || id >= h->types.count) FAIL(v, "object %p has type %u of %u", (void *)object, id, h->types.count);
  if (!header_is_large(header) && (object % BLOCK_BYTES) + bytes > BLOCK_BYTES)
    FAIL(v, "object %p of %llu bytes straddles its block", (void *)object, (unsigned long long)bytes);
  if (!header_is_large(header) && (heap_block(h, object)->leaf != 0) != (type->pub.leaf != 0))
    FAIL(v, "object %p (type %s) is in a block of the other kind", (void *)object, type->name);
  if (heap_is_young(h, object)) bits_set(h->tables.mark, granule_index(&h->layout, object));
  return !v->failed;
}

static bool object_exists(const gch_heap *h, uintptr_t a) {
  if (!heap_contains(h, a) || a % GRANULE_BYTES != 0) return false;
  const struct block *b = heap_block(h, a);
  uint64_t bit = granule_index(&h->layout, a);
  if (b->state == BLOCK_YOUNG) return bits_test(h->tables.mark, bit);
  return b->state != BLOCK_FREE && bits_test(h->tables.live, bit);
}

static void check_slot(uint64_t *slot, void *context) {
  struct verifier *v = context;
  gch_heap *h = v->heap;
  if (v->failed || !word_is_ref(v->type, *slot)) return;
  uintptr_t a = (uintptr_t)(*slot & ~v->type->tag_mask);
  if (!object_exists(h, a))
    FAIL(v, "slot %p of object %p (type %s) refers to %p, where no object is", (void *)slot, (void *)v->object,
         v->type->name, (void *)a);
  else if (heap_is_young(h, a) && !heap_is_young(h, v->object) &&
           (!h->tables.cards[card_index(&h->layout, (uintptr_t)slot)] ||
            !h->tables.dirty[arena_index(&h->layout, (uintptr_t)slot)]))
    FAIL(v, "slot %p of old object %p refers to young %p, but its card is clean", (void *)slot, (void *)v->object,
         (void *)a);
}

static bool check_object(uintptr_t object, const struct type_info *type, uint64_t bytes, void *context) {
  struct verifier *v = context;
  uint64_t header = header_load(object);
  v->object = object;
  v->type = type;
  if (type->cell != CELL_NONE && cell_is_listed(object))
    FAIL(v, "%s %p is still in a collector's list", type->name, (void *)object);
  if (!header_is_large(header)) {
    scan_small(type, object, header, check_slot, v);
    return !v->failed;
  }
  uint32_t id = v->heap->tables.large_ids[(object - v->heap->layout.base) >> v->heap->layout.page_shift];
  const struct large *e = &v->heap->large.entries[id];
  if (id == 0 || e->base != object)
    FAIL(v, "large object %p is entry %u, which is at %p", (void *)object, id, (void *)e->base);
  scan_object_range(type, object, e->length, object, object + bytes, check_slot, v);
  return !v->failed;
}

static bool forget_object(uintptr_t object, const struct type_info *type, uint64_t bytes, void *context) {
  gch_heap *h = context;
  (void)type, (void)bytes;
  if (heap_is_young(h, object)) bits_clear(h->tables.mark, granule_index(&h->layout, object));
  return true;
}

static void check_root(uint64_t *slot, void *context) {
  struct verifier *v = context;
  uint64_t word = at_load_relaxed(slot); /* the world is stopped */
  uintptr_t a = (uintptr_t)(word & ~(uint64_t)7);
  if (v->failed || !heap_contains(v->heap, a)) return;
  if (!object_exists(v->heap, a)) FAIL(v, "root %p refers to %p, where no object is", (void *)slot, (void *)a);
}

/* Threads in native state may unpin meanwhile: under the table's lock both sides are one. */
static void check_pins(struct verifier *v) {
  gch_heap *h = v->heap;
  uint64_t objects = 0, counted = 0;
  lock_lock(&h->pins.lock);
  for (size_t i = 0; i < h->pins.capacity; i++) objects += h->pins.entries[i].count != 0;
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    uint32_t first, count = region_arenas(h, r, &first);
    for (size_t b = (size_t)first * ARENA_BLOCKS; b < (size_t)(first + count) * ARENA_BLOCKS; b++)
      counted += h->tables.blocks[b].pins & (uint16_t)~PINS_AMBIGUOUS;
  }
  lock_unlock(&h->pins.lock);
  if (objects != counted)
    FAIL(v, "%llu objects are pinned, their blocks count %llu", (unsigned long long)objects,
         (unsigned long long)counted);
}

gch_status verify_heap(gch_heap *h, gch_error *error) {
  struct verifier v = {.heap = h, .error = error};
  bool rests = phase_now(h) == GCH_PHASE_IDLE;
  if (rests) check_tables(&v);
  if (rests && !v.failed) check_large_entries(&v);
  if (rests && !v.failed) check_frames(&v);
  if (!v.failed) walk_heap(h, note_object, &v);
  if (!v.failed) walk_heap(h, check_object, &v);
  if (!v.failed) roots_visit(h, check_root, &v);
  if (!v.failed) finalizers_visit(h, check_root, &v);
  if (!v.failed) check_handles(&v);
  walk_heap(h, forget_object, h);
  if (!v.failed) check_pins(&v);
  return v.failed ? GCH_CORRUPT : GCH_OK;
}
