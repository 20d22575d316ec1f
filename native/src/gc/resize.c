/* gch_resize: an object becomes longer or shorter.
 *
 * Small objects are copied, unless the new length needs the same granules. What is large stays large, and has four ways:
 *
 *   within     the pages that it has suffice: what comes into sight is cleared, the length published
 *   behind     the pages behind it are free: they are reserved, populated and absorbed (heap/large.c). Who grows is put where a
 *              power of two is free, so these are mostly there; they belong to nobody before, so nothing is to be trimmed when
 *              it moves, and what never grows has no room that it does not need (in huge arenas that would be memory)
 *   taken      a new object gets the pages, by page moves or copied and dropped piece by piece
 *   copied     a new object gets the contents
 *
 * When which: `within` at any time. `behind` at rest, while marking, and of what is born since, if it lies where allocation is
 * (large_may_change). `taken` at rest, of small pages, from 1 MiB on; else, and wherever a cycle is about to move things,
 * `copied`. After both the old object is empty: shorter by all.
 *
 * Taken: in a pause, after a minor collection that promotes all (so that nothing in the object is young, and no card has to
 * go along) the old object's length becomes 0: nobody looks at its elements from then on. Until all pages are over, minors
 * run, but no major begins (large.transfers; cycle_wait_idle): neither object could be marked or moved. So who needs a major
 * meanwhile waits for the moves. (Measured, 512 MiB of small pages, 2 CPUs, both busy: 54 ms; copied and dropped: 284.)
 *
 * Shorter: while marking, the references that go are logged. The length is published in a pause, so no thread that has passed a
 * poll since works with the old one (whoever works through elements looks at the length again after each poll). Pages behind it
 * are given back step by step, at rest by us, else by the next sweep (large_trim). What lies behind the length is not
 * defined; it is cleared when it comes into sight again.
 *
 * No memory, or no room: nothing has changed. */
#include <string.h>

#include "base/error.h"
#include "gc/alloc.h"
#include "gc/cycle.h"
#include "gc/fork.h"
#include "gc/roots.h"
#include "gc/safepoint.h"
#include "gc/watchdog.h"
#include "heap/small.h"
#include "mover/mover.h"
#include "object/scan_inline.h"
#include "os/pages.h"

enum {
  TAKE_MIN = 1 << 20,      /* bytes: less is copied sooner than a minor is made */
  MOVE_BYTES = 256 << 10,  /* between two polls: pages moved, */
  TAKE_BYTES = 64 << 10,   /* supplied, copied and dropped, */
  DROP_BYTES = 128 << 10,  /* given back; */
  CLEAR_BYTES = 256 << 10, /* bytes cleared, or copied into memory that is there; */
  LOG_ELEMENTS = 1024,     /* references logged */
  TRIES = 3,               /* a cycle may come in between; the last time without a poll, and then by copying */
};

enum outcome { DONE, AGAIN, FULL, ELSEWHERE, FAILED };

/* Roots: 0 the object, 1 the new one, if there is. Both may move at every poll. */
struct resize {
  struct mutator *m;
  gch_heap *h;
  gch_ref *roots;
  const struct type_info *type;
  uint64_t count, bytes; /* that it is to have */
  uint32_t id;           /* its entry, if it is large */
};

static uintptr_t address_of(const struct resize *r, int i) { return (uintptr_t)r->roots[i]; }
static struct large *entry_of(const struct resize *r) { return &r->h->large.entries[r->id]; }
static uint64_t length_of(const struct resize *r) { return gch_length(r->h, r->roots[0]); }
static bool has_ref_tail(const struct resize *r) { return r->type->tail == GCH_TAIL_REFS; }
static uint64_t footprint(const struct resize *r, uint64_t bytes) { return align_up(bytes, r->h->layout.page_bytes); }

/* Who grows will grow again. */
static uint64_t room_for(uint64_t bytes) { return ceil_pow2(bytes + 1); }

/* --- contents ------------------------------------------------------------------------------------------------- */

/* Words that a marker may be reading, with a length of before. */
static void clear_words(uintptr_t from, uintptr_t to) {
  for (uint64_t *word = (uint64_t *)from; word < (uint64_t *)to; word++) at_store_relaxed(word, (uint64_t)0);
}

static void clear_tail(const struct resize *r, uint64_t from, uint64_t to) {
  uintptr_t first = address_of(r, 0) + r->type->pub.tail_offset;
  if (has_ref_tail(r))
    clear_words(first + 8 * from, first + 8 * to);
  else
    memset((void *)(first + r->type->pub.tail_bytes * from), 0, r->type->pub.tail_bytes * (to - from));
}

static void mark_cards(const struct resize *r, uintptr_t start, uint64_t bytes) {
  for (uintptr_t at = start; at < start + bytes; at = align_down(at + CARD_BYTES, CARD_BYTES))
    gch_mark_card(&r->m->pub, (const gch_ref *)at);
}

static bool has_fixed_refs(const struct type_info *type) { return type->ref_bits != 0 || type->far_count != 0; }

/* What lies between header and tail; references are stored whole. No poll. */
static void copy_fixed(const struct resize *r) {
  uint64_t end = r->type->pub.tail_offset, at = GCH_HEADER_BYTES;
  for (; at + 8 <= end; at += 8)
    at_store((uint64_t *)(address_of(r, 1) + at), at_load_relaxed((uint64_t *)(address_of(r, 0) + at)));
  memcpy((void *)(address_of(r, 1) + at), (void *)(address_of(r, 0) + at), end - at);
  if (has_fixed_refs(r->type)) mark_cards(r, address_of(r, 1), end);
}

/* The new object is the old one to the program, so what it is known by goes along. */
static void keep_hash(const struct resize *r) {
  uint64_t hash = header_load(address_of(r, 0)) & HEADER_HASH_MASK;
  if (hash != 0) at_or((uint64_t *)address_of(r, 1), hash);
}

/* A thread that shortens the object meanwhile shortens what is copied. */
static void copy_bytes(const struct resize *r, uint64_t count) {
  uint64_t size = r->type->pub.tail_bytes, step = CLEAR_BYTES / size + 1;
  for (uint64_t at = 0, n; at < count && count <= length_of(r); at += n) {
    uint64_t offset = r->type->pub.tail_offset + at * size;
    n = count - at < step ? count - at : step;
    memcpy((void *)(address_of(r, 1) + offset), (void *)(address_of(r, 0) + offset), n * size);
    gch_safepoint(&r->m->pub);
  }
}

static void copy_contents(const struct resize *r) {
  uint64_t old = length_of(r), count = old < r->count ? old : r->count;
  keep_hash(r);
  copy_fixed(r);
  if (has_ref_tail(r))
    (void)gch_copy_refs(&r->m->pub, r->roots[1], 0, r->roots[0], 0, count);
  else
    copy_bytes(r, count);
}

/* What is about to go out of sight, while a major marks; no safepoint. */
static void log_elements(const struct resize *r, uint64_t from, uint64_t end) {
  for (uint64_t i = from; i < end && r->m->pub.snapshot != 0; i++)
    gch_log(&r->m->pub, gch_load(r->roots[0], r->type->pub.tail_offset + i * sizeof(gch_ref)));
}

/* --- small ---------------------------------------------------------------------------------------------------- */

/* The granules stay, and with them all that collectors have noted of the object. What is behind the end of a small object is
 * zero, so what comes into sight is. */
static void small_in_place(const struct resize *r, uint64_t old) {
  uint64_t *header = (uint64_t *)address_of(r, 0), was = at_load(header), now;
  if (has_ref_tail(r)) log_elements(r, r->count, old);
  if (r->count < old) clear_tail(r, r->count, old);
  do
    now = (was & ~((uint64_t)HEADER_TAIL_MASK << HEADER_TAIL_SHIFT)) | r->count * r->type->pub.tail_bytes
                                                                           << HEADER_TAIL_SHIFT;
  while (!at_cas(header, &was, now));
}

static gch_ref resize_small(const struct resize *r) {
  uint64_t header = header_load(address_of(r, 0));
  if (r->bytes <= GCH_SMALL_MAX && object_small_bytes(r->type, header) == r->bytes) {
    small_in_place(r, header_tail_bytes(header) / r->type->pub.tail_bytes);
    return r->roots[0];
  }
  r->roots[1] = alloc_roomy(r->m, &r->type->pub, r->count, room_for(r->bytes));
  if (r->roots[1] != NULL) copy_contents(r);
  return r->roots[1];
}

/* --- shorter -------------------------------------------------------------------------------------------------- */

static void log_tail(const struct resize *r, uint64_t from) {
  for (uint64_t at = from; at < length_of(r); at += LOG_ELEMENTS) {
    uint64_t length = length_of(r);
    log_elements(r, at, length - at < LOG_ELEMENTS ? length : at + LOG_ELEMENTS);
    gch_safepoint(&r->m->pub);
  }
}

enum shorter { SHORTER, UNLOGGED, PINNED };

/* Marking must not have begun since `majors` were counted, if what goes has not been logged; and native code that has pinned the
 * object works with its length. */
static enum shorter publish_shorter(const struct resize *r, uint64_t count, bool logged, uint64_t majors) {
  gch_heap *h = r->h;
  struct pause pause;
  cycle_enter(h);
  world_stop(h, GCH_PAUSE_OTHER, &pause);
  bool same = at_load_relaxed(&h->measures.major_count) == majors; /* the cycle lock is held */
  bool legal = r->m->pub.snapshot == 0 || !has_ref_tail(r) || (logged && same);
  enum shorter outcome = pins_count(h, address_of(r, 0)) != 0 ? PINNED : legal ? SHORTER : UNLOGGED;
  if (outcome == SHORTER && count < length_of(r)) at_store(&entry_of(r)->length, count);
  world_resume(h, &pause);
  cycle_leave(h);
  return outcome;
}

/* The pages behind its length, if nobody else is at them; the rest is for the next sweep. */
static void give_back(const struct resize *r) {
  gch_heap *h = r->h;
  struct large *e = entry_of(r);
  for (bool more = true; more;) {
    lock_lock(&h->large.lock);
    uint64_t needed = large_bytes_of(h, e, at_load_relaxed(&e->length)), keep = footprint(r, needed);
    more = e->resizing == 1 && at_load(&h->phase) == GCH_PHASE_IDLE && footprint(r, e->bytes) > keep;
    uint64_t left = more ? footprint(r, e->bytes) - keep : 0;
    if (more) large_cut(h, r->id, left > DROP_BYTES ? keep + left - DROP_BYTES : needed);
    lock_unlock(&h->large.lock);
    GCH_POINT(pages_given_back);
    gch_safepoint(&r->m->pub);
  }
}

/* False: somebody has pinned it. */
static bool shorten(const struct resize *r, uint64_t count) {
  enum shorter outcome = UNLOGGED;
  while (outcome == UNLOGGED) {
    uint64_t majors = at_load_relaxed(&r->h->measures.major_count);
    bool logged = has_ref_tail(r) && r->m->pub.snapshot != 0;
    if (logged) log_tail(r, count);
    outcome = publish_shorter(r, count, logged, majors);
  }
  if (outcome == SHORTER) give_back(r);
  return outcome == SHORTER;
}

/* --- longer, in place ----------------------------------------------------------------------------------------- */

/* How many elements its pages have room for, at most `count`. */
static uint64_t within(const struct resize *r) {
  uint64_t room =
      (footprint(r, at_load_relaxed(&entry_of(r)->bytes)) - r->type->pub.tail_offset) / r->type->pub.tail_bytes;
  return room < r->count ? room : r->count;
}

static bool publish_longer(const struct resize *r, uint64_t count) {
  gch_heap *h = r->h;
  struct large *e = entry_of(r);
  lock_lock(&h->large.lock);
  uint64_t bytes = large_bytes_of(h, e, count);
  bool fits = footprint(r, bytes) <= footprint(r, e->bytes);
  if (fits && bytes > e->bytes)
    at_store_relaxed(&e->bytes, bytes); /* the length publishes it; the pages are the same */
  if (fits && count > at_load_relaxed(&e->length)) at_store(&e->length, count);
  lock_unlock(&h->large.lock);
  return fits;
}

/* Nobody sees what lies behind the length, so it may be cleared piece by piece. */
static bool expose(const struct resize *r, uint64_t count) {
  uint64_t size = r->type->pub.tail_bytes, step = CLEAR_BYTES / size + 1;
  for (uint64_t at = length_of(r), n; at < count; at += n) {
    n = count - at < step ? count - at : step;
    clear_tail(r, at, at + n);
    if (at + n < count) gch_safepoint(&r->m->pub);
  }
  return publish_longer(r, count);
}

static enum outcome grow_behind(const struct resize *r, bool polls) {
  struct large_birth b;
  enum large_step step = LARGE_MORE;
  bool full;
  if (!large_begin_behind(r->h, &b, r->id, r->bytes, &full)) return full ? FULL : ELSEWHERE;
  bool lasts = alloc_populate(r->m, &b, polls, &step);
  if (lasts && step == LARGE_READY && large_absorb(r->h, &b, r->id, r->count)) {
    at_add_relaxed(&r->h->measures.allocated_bytes, b.end - b.start);
    return DONE;
  }
  large_give_up(r->h, &b);
  return lasts && step == LARGE_REFUSED ? FULL : AGAIN;
}

/* --- longer, elsewhere ---------------------------------------------------------------------------------------- */

/* Its pages, and so many bytes of them at the front that are copied: the old object keeps them for its fields. */
struct taking {
  struct large_birth birth;
  uint64_t span, head;
};

/* Lock of the cycle held. */
static bool can_take(const struct resize *r, const struct taking *t) {
  gch_heap *h = r->h;
  const struct large *e = entry_of(r);
  lock_lock(&h->large.lock);
  bool ours = e->resizing == 1 && footprint(r, e->bytes) == t->span;
  lock_unlock(&h->large.lock);
  return ours && at_load(&h->phase) == GCH_PHASE_IDLE && large_lasts(h, &t->birth) &&
         pins_count(h, address_of(r, 0)) == 0;
}

/* World stopped. A card of it is dirty: something in it may be young. */
static bool is_dirty(const struct resize *r, uint64_t span) {
  const gch_heap *h = r->h;
  uintptr_t end = address_of(r, 0) + span;
  for (uintptr_t at = address_of(r, 0), next; at < end; at = next) {
    next = arena_after(at) < end ? arena_after(at) : end;
    size_t first = card_index(&h->layout, at), last = card_index(&h->layout, next - 1);
    if (h->tables.dirty[arena_index(&h->layout, at)] && memchr(&h->tables.cards[first], 1, last - first + 1) != NULL)
      return true;
  }
  return false;
}

/* From here on its elements are nobody's but ours, and no major begins. */
static bool commit(const struct resize *r, const struct taking *t) {
  gch_heap *h = r->h;
  struct pause pause;
  gch_cycle minor;
  cycle_enter(h);
  bool ready = can_take(r, t);
  if (ready && has_ref_tail(r)) cycle_minor(h, true, GCH_CAUSE_ASKED, &minor);
  if (ready) {
    world_stop(h, GCH_PAUSE_OTHER, &pause);
    ready = can_take(r, t) && !(has_ref_tail(r) && is_dirty(r, t->span));
    if (ready) {
      at_store(&entry_of(r)->length, 0);
      at_add(&h->large.transfers, 1);
    }
    world_resume(h, &pause);
  }
  cycle_leave(h);
  cycle_fill_reserve(h);
  return ready;
}

static void take_step(gch_heap *h, uintptr_t to, uintptr_t from, uint64_t bytes) {
  if (h->mover->moves_pages) {
    h->mover->publish(h, to, from, bytes);
    return;
  }
  if (!h->mover->supply(h, to, bytes, 0)) pages_touch((void *)to, bytes);
  memcpy((void *)to, (void *)from, bytes);
  mover_count_copied(h, bytes);
  (void)h->drop(h, from, bytes); /* refused: it is cleared when the old object is cut */
}

static void take_pages(const struct resize *r, const struct taking *t) {
  gch_heap *h = r->h;
  uintptr_t from = address_of(r, 0), to = t->birth.start; /* no major: they stay where they are */
  uint64_t step = h->mover->moves_pages ? MOVE_BYTES : TAKE_BYTES;
  for (uint64_t at = t->head, n; at < t->span; at += n) {
    n = t->span - at < step ? t->span - at : step;
    take_step(h, to + at, from + at, n);
    GCH_POINT(pages_taken);
    gch_safepoint(&r->m->pub);
  }
  memcpy((void *)(to + GCH_HEADER_BYTES), (void *)(from + GCH_HEADER_BYTES), t->head - GCH_HEADER_BYTES);
}

/* The new object is one. The old one's pages are counted as its own. */
static void settle(const struct resize *r, const struct taking *t) {
  gch_heap *h = r->h;
  r->roots[1] = (gch_ref)large_publish(h, &t->birth);
  keep_hash(r);
  if (has_fixed_refs(r->type)) mark_cards(r, address_of(r, 1), r->type->pub.tail_offset);
  heap_use(h, t->span - t->head);
  lock_lock(&h->large.lock);
  large_cut(h, r->id, large_bytes_of(h, entry_of(r), 0));
  lock_unlock(&h->large.lock);
  at_add_relaxed(&h->measures.allocated_bytes, t->birth.end - t->birth.start - t->span);
  cycle_enter(h);
  at_sub(&h->large.transfers, 1);
  cond_broadcast(&h->cycle_done);
  cycle_leave(h);
}

/* Memory for the front, which is copied, and for what is behind the pages that come. */
static enum outcome prepare(const struct resize *r, struct taking *t, bool polls) {
  enum large_step step = LARGE_MORE;
  struct large_birth *b = &t->birth;
  if (pages_populate(&r->h->kernel, (void *)b->start, t->head) < 0) return FULL;
  b->next = b->start + t->span;
  if (!alloc_populate(r->m, b, polls, &step)) return AGAIN;
  return step == LARGE_READY ? DONE : FULL;
}

static enum outcome take(const struct resize *r, bool polls) {
  struct taking t = {.span = footprint(r, at_load_relaxed(&entry_of(r)->bytes))};
  t.head = footprint(r, large_bytes_of(r->h, entry_of(r), 0));
  struct large_wish wish = {&r->type->pub, r->count, r->bytes, room_for(r->bytes),
                            footprint(r, r->bytes) - t.span + t.head};
  if (!large_begin_roomy(r->h, &t.birth, &wish)) return FULL;
  enum outcome outcome = prepare(r, &t, polls);
  if (outcome == DONE && !commit(r, &t)) outcome = AGAIN;
  if (outcome != DONE) {
    large_give_up(r->h, &t.birth);
    return outcome;
  }
  take_pages(r, &t);
  settle(r, &t);
  return DONE;
}

static enum outcome copy(const struct resize *r) {
  r->roots[1] = alloc_roomy(r->m, &r->type->pub, r->count, room_for(r->bytes));
  if (r->roots[1] == NULL) return FAILED;
  copy_contents(r);
  (void)shorten(r, 0); /* pinned meanwhile: it stays as it is */
  return DONE;
}

/* --- longer --------------------------------------------------------------------------------------------------- */

static enum outcome grow_once(const struct resize *r, int tries) {
  const gch_heap *h = r->h;
  uint64_t room = within(r);
  if (room > length_of(r) && !expose(r, room)) return AGAIN;
  if (room == r->count) return DONE;
  enum outcome outcome = tries <= TRIES ? grow_behind(r, tries < TRIES) : ELSEWHERE;
  if (outcome != ELSEWHERE) return outcome;
  bool takes = at_load(&h->phase) == GCH_PHASE_IDLE && !h->huge && tries <= TRIES;
  if (takes && footprint(r, at_load_relaxed(&entry_of(r)->bytes)) >= TAKE_MIN) return take(r, tries < TRIES);
  return copy(r);
}

static gch_ref grow(const struct resize *r) {
  uint64_t before = length_of(r);
  enum outcome outcome = AGAIN;
  struct relief relief = {.bytes = r->bytes - large_bytes_of(r->h, entry_of(r), before)};
  for (int tries = 1; outcome == AGAIN || outcome == FULL; tries++) {
    outcome = grow_once(r, tries);
    if (outcome == FULL && !cycle_for_room(r->m, &relief)) {
      alloc_refused(r->m, r->bytes);
      outcome = FAILED;
    }
  }
  if (outcome == FAILED && before < length_of(r)) (void)shorten(r, before);
  if (outcome == FAILED) return NULL;
  return r->roots[1] != NULL ? r->roots[1] : r->roots[0];
}

static void note_resizing(const struct resize *r, int by) {
  lock_lock(&r->h->large.lock);
  entry_of(r)->resizing += (uint32_t)by;
  lock_unlock(&r->h->large.lock);
}

static void refuse_pinned(struct mutator *m, gch_ref object, uint64_t count) {
  error_set(&m->error, GCH_BAD_STATE, "the object at %p is pinned: it cannot be resized to %llu elements",
            (void *)object, (unsigned long long)count);
}

static gch_ref resize_large(struct resize *r) {
  gch_ref result = NULL;
  r->id = large_id(r->h, address_of(r, 0));
  note_resizing(r, 1);
  if (r->count < length_of(r)) {
    if (shorten(r, r->count))
      result = r->roots[0];
    else
      refuse_pinned(r->m, r->roots[0], r->count);
  } else {
    watchdog_begin(r->h);
    result = grow(r);
    watchdog_end(r->h);
  }
  note_resizing(r, -1);
  return result;
}

/* --- entry ---------------------------------------------------------------------------------------------------- */

/* Bytes of it then; 0: it cannot be. */
static uint64_t check(struct mutator *m, gch_ref object, uint64_t count) {
  gch_heap *h = m->pub.heap;
  if (object == NULL || !heap_contains(h, (uintptr_t)object)) {
    error_set(&m->error, GCH_BAD_VALUE, "%p is not a reference of this heap: it cannot be resized", (void *)object);
    return 0;
  }
  uint64_t bytes = alloc_object_bytes(m, gch_type_of(h, object), count);
  if (bytes == 0 || fork_check(h, &m->error) != GCH_OK) return 0;
  if (gch_length(h, object) == count || pins_count(h, (uintptr_t)object) == 0) return bytes;
  refuse_pinned(m, object, count);
  return 0;
}

gch_ref gch_resize(gch_mutator *mutator, gch_ref object, uint64_t count) {
  struct mutator *m = mutator_of(mutator);
  gch_heap *h = mutator->heap;
  uint64_t bytes = check(m, object, count);
  if (bytes == 0) return NULL;
  if (gch_length(h, object) == count) return object;
  GCH_FRAME(mutator, roots, 2);
  roots[0] = object;
  const struct type_info *type = (const struct type_info *)gch_type_of(h, object);
  struct resize r = {m, h, roots, type, count, bytes, 0};
  bool large = header_is_large(header_load((uintptr_t)object));
  gch_ref result = large ? resize_large(&r) : resize_small(&r);
  GCH_FRAME_END(mutator);
  return result;
}
