#include "gc/finalize.h"

#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "gc/forward_inline.h"
#include "gc/safepoint.h"
#include "gc/weak.h"
#include "os/pages.h"

enum {
  STEP_ENTRIES = 4096,  /* that get memory at a time */
  BATCH_ENTRIES = 1024, /* looked at between two looks for a pause */
  CLOSE_UP_MIN = 1024,  /* entries without an object that are left */
};

gch_status finalizers_init(gch_heap *h, gch_error *error) {
  struct finalizers *f = &h->finalizers;
  lock_init(&f->lock, RANK_FINALIZERS, "finalizers");
  f->capacity = h->layout.tight ? (uint64_t)1 << 17 : (uint64_t)1 << 26;
  int rc = kernel_mmap(&h->kernel, NULL, 3 * f->capacity * sizeof(struct finalizer), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, (void **)&f->table);
  if (rc < 0) {
    f->table = NULL;
    return error_set(error, GCH_NO_MEMORY, "cannot reserve addresses for finalizers: %s", strerror(-rc));
  }
  f->queue = f->table + f->capacity;
  return GCH_OK;
}

void finalizers_destroy(gch_heap *h) {
  struct finalizers *f = &h->finalizers;
  if (f->table != NULL) kernel_munmap(&h->kernel, f->table, 3 * f->capacity * sizeof(struct finalizer));
  lock_destroy(&f->lock);
}

/* --- visits ----------------------------------------------------------------------------------------------------- */

void finalizers_visit(gch_heap *h, root_visit visit, void *context) {
  struct finalizers *f = &h->finalizers;
  for (uint64_t i = 0; i < f->count; i++)
    if (f->table[i].object != 0) visit(&f->table[i].object, context);
}

void finalizers_visit_queue(gch_heap *h, root_visit visit, void *context) {
  struct finalizers *f = &h->finalizers;
  for (uint64_t i = f->head; i < f->tail; i++) visit(&f->queue[i].object, context);
}

/* All of it is old: the flip's minor has promoted what there was. */
void finalizers_flip(gch_heap *h) { h->finalizers.to_forward = h->finalizers.count; }

/* Without the lock: of these entries minors have seen that they are old, nobody looks at them before the next mark ends, and the
 * table is closed up before a flip only. */
void finalizers_forward(gch_heap *h) {
  struct finalizers *f = &h->finalizers;
  for (uint64_t i = 0; i < f->to_forward; i++) f->table[i].object = forward_root(h, f->table[i].object);
  f->to_forward = 0;
}

void finalizers_fix_young(gch_heap *h) {
  struct finalizers *f = &h->finalizers;
  uint64_t kept = f->old, old = f->old;
  for (uint64_t i = f->old; i < f->count; i++) {
    struct finalizer entry = f->table[i];
    if (entry.object == 0) continue;
    if (heap_is_young(h, (uintptr_t)entry.object)) entry.object = forward_root(h, entry.object);
    f->table[kept++] = entry;
    if (old == kept - 1 && !heap_is_young(h, (uintptr_t)entry.object)) old = kept;
  }
  memset(f->table + kept, 0, (f->count - kept) * sizeof *f->table);
  f->count = kept;
  f->old = old;
}

/* --- judging ---------------------------------------------------------------------------------------------------- */

/* The table has given up the entry, so there is room. */
static void enqueue(gch_heap *h, struct finalizer *entry) {
  struct finalizers *f = &h->finalizers;
  if (f->tail == 2 * f->populated || f->head == f->tail) { /* what waits goes to the front */
    memmove(f->queue, f->queue + f->head, (f->tail - f->head) * sizeof *f->queue);
    f->tail -= f->head;
    f->ready -= f->head;
    f->head = 0;
  }
  GCH_CHECK(f->tail < 2 * f->populated, "the queue of finalizers is full: %llu", (unsigned long long)f->tail);
  f->queue[f->tail++] = *entry;
  entry->object = 0;
  at_add_relaxed(&f->queued, 1);
  at_sub_relaxed(&f->registered, 1);
}

static uint64_t judge_range(gch_heap *h, uint64_t from, uint64_t to, bool minor) {
  struct finalizers *f = &h->finalizers;
  uint64_t dead = 0;
  for (uint64_t i = from; i < to; i++) {
    if (!weak_is_unmarked(h, f->table[i].object, minor)) continue;
    enqueue(h, &f->table[i]);
    dead++;
  }
  return dead;
}

/* The lock is for who registers: managed, so in a pause nobody has it, and who holds it is waited for as a marker is. */
static void enter(gch_heap *h, bool beside) {
  if (beside) marker_enter(h);
  lock_lock(&h->finalizers.lock);
}

static void leave(gch_heap *h, bool beside) {
  lock_unlock(&h->finalizers.lock);
  if (beside) marker_leave(h);
}

static bool judge_major(gch_heap *h, bool beside) {
  struct finalizers *f = &h->finalizers;
  uint64_t dead = 0, limit = 0;
  for (uint64_t from = 0; from == 0 || from < limit; from += BATCH_ENTRIES) {
    enter(h, beside);
    if (from == 0) {
      limit = f->old;
      f->judging = 1;
    }
    uint64_t batch = judge_range(h, from, from + BATCH_ENTRIES < limit ? from + BATCH_ENTRIES : limit, false);
    f->gone += batch;
    dead += batch;
    leave(h, beside);
  }
  GCH_POINT(finalizers_judged);
  return dead != 0;
}

bool finalizers_judge(gch_heap *h, bool minor, bool beside) {
  struct finalizers *f = &h->finalizers;
  return minor ? judge_range(h, f->old, f->count, true) != 0 : judge_major(h, beside);
}

uint64_t finalizers_judged(const gch_heap *h, uint64_t i) {
  const struct finalizers *f = &h->finalizers;
  return f->ready + i < f->tail ? f->queue[f->ready + i].object : 0;
}

/* One step: entries that have no object yet are closed up over, from `*from` to `*to`. True when it is done. */
static bool close_up(struct finalizers *f, uint64_t *to, uint64_t *from) {
  for (uint64_t i = 0; i < BATCH_ENTRIES && *from < f->old; i++, ++*from) {
    struct finalizer entry = f->table[*from];
    if (entry.object == 0) continue;
    f->table[*from].object = 0;
    f->table[(*to)++] = entry;
  }
  if (*from < f->old) return false;
  uint64_t young = f->count - f->old;
  memmove(f->table + *to, f->table + f->old, young * sizeof *f->table);
  memset(f->table + *to + young, 0, (f->count - *to - young) * sizeof *f->table);
  f->old = *to;
  f->count = *to + young;
  f->gone = 0;
  return true;
}

static void publish(struct finalizers *f) {
  f->judging = 0;
  f->ready = f->tail;
  at_store(&f->pending, f->ready - f->head);
}

void finalizers_publish(gch_heap *h, bool minor, bool beside) {
  struct finalizers *f = &h->finalizers;
  if (minor && f->judging) return; /* the major will */
  enter(h, beside);
  publish(f);
  bool done = minor || f->gone < CLOSE_UP_MIN || f->gone < f->old / 2;
  leave(h, beside);
  for (uint64_t to = 0, from = 0; !done;) {
    enter(h, beside);
    done = close_up(f, &to, &from);
    leave(h, beside);
  }
}

/* --- what programs call ------------------------------------------------------------------------------------------- */

/* Room for one more, in the queue too. */
static bool make_room(gch_heap *h) {
  struct finalizers *f = &h->finalizers;
  uint64_t waiting = f->tail - f->head,
           most = f->count > f->count - f->gone + waiting ? f->count : f->count - f->gone + waiting;
  if (most < f->populated) return true;
  if (f->populated == f->capacity) return false;
  if (pages_populate(&h->kernel, f->table + f->populated, STEP_ENTRIES * sizeof *f->table) < 0 ||
      pages_populate(&h->kernel, f->queue + 2 * f->populated, 2 * STEP_ENTRIES * sizeof *f->queue) < 0)
    return false;
  f->populated += STEP_ENTRIES;
  return true;
}

gch_status gch_finalize(gch_mutator *m, gch_ref object, uint64_t token) {
  struct finalizers *f = &m->heap->finalizers;
  gch_error *error = &mutator_of(m)->error;
  if (object == NULL || !heap_contains(m->heap, (uintptr_t)object))
    return error_set(error, GCH_BAD_VALUE, "%p is not a reference of this heap: nothing to finalize", (void *)object);
  lock_lock(&f->lock);
  bool room = make_room(m->heap);
  if (room) f->table[f->count++] = (struct finalizer){(uint64_t)(uintptr_t)object, token};
  uint64_t count = f->count;
  if (room) at_add_relaxed(&f->registered, 1);
  lock_unlock(&f->lock);
  if (room) return GCH_OK;
  return error_set(error, GCH_NO_MEMORY, "no memory for one finalizer more than %llu", (unsigned long long)count);
}

bool gch_finalizer_next(gch_mutator *m, gch_ref *object, uint64_t *token) {
  struct finalizers *f = &m->heap->finalizers;
  struct finalizer entry = {0};
  *object = NULL;
  *token = 0;
  if (at_load(&f->pending) == 0) return false;
  lock_lock(&f->lock);
  if (f->head < f->ready) {
    entry = f->queue[f->head++];
    at_sub(&f->pending, 1);
  }
  lock_unlock(&f->lock);
  *object = (gch_ref)(uintptr_t)entry.object;
  *token = entry.token;
  return entry.object != 0;
}

uint64_t gch_finalizers_pending(const gch_heap *h) { return at_load(&h->finalizers.pending); }
