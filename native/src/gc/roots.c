#include "gc/roots.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "gc/ambiguous.h"
#include "gc/finalize.h"
#include "gc/safepoint.h"

enum {
  PINS_FIRST_CAPACITY = 64,
  PINS_AT_A_TIME = 64,
};

/* Handles of two heaps differ, though their slots and generations are the same: bits 17..31 of the generation are the heap's
 * number. (A slot that has been used 65,536 times, or 32,768 heaps later, they may meet.) */
static uint32_t next_stamp(void) {
  static uint32_t heaps; /* [atomic] */
  return at_add_relaxed(&heaps, 1) << 17;
}

gch_status roots_init(gch_heap *h, gch_error *error) {
  struct roots *r = &h->roots;
  r->handle_stamp = next_stamp();
  lock_init(&h->pins.lock, RANK_PINS, "pins");
  r->handle_capacity = h->layout.tight ? (uint64_t)1 << 20 : (uint64_t)1 << 28;
  int rc = kernel_mmap(&h->kernel, NULL, r->handle_capacity * sizeof(struct handle_slot), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, (void **)&r->handles);
  if (rc >= 0) return GCH_OK;
  r->handles = NULL;
  return error_set(error, GCH_NO_MEMORY, "cannot reserve addresses for the handle table: %s", strerror(-rc));
}

void roots_destroy(gch_heap *h) {
  struct roots *r = &h->roots;
  if (r->handles != NULL) kernel_munmap(&h->kernel, r->handles, r->handle_capacity * sizeof(struct handle_slot));
  ambiguous_destroy(h);
  free(r->statics);
  free(h->pins.entries);
  lock_destroy(&h->pins.lock);
}

/* The embedder's visitor takes a gch_ref slot: same word. */
struct embedder_context {
  root_visit visit;
  void *context;
};
static void visit_embedder(gch_ref *slot, void *closure) {
  struct embedder_context *c = closure;
  c->visit((uint64_t *)slot, c->context);
}

/* The next addresses that are pinned, from entry `*at` on; 0: there are none. */
static uint32_t copy_pinned(struct pins *p, size_t *at, uint64_t copy[PINS_AT_A_TIME]) {
  uint32_t count = 0;
  lock_lock(&p->lock);
  for (; *at < p->capacity && count < PINS_AT_A_TIME; ++*at)
    if (p->entries[*at].count != 0) copy[count++] = p->entries[*at].address;
  lock_unlock(&p->lock);
  return count;
}

/* What is pinned lives and stays: the visitor sees a copy of its address, and is called without the lock, because it may mark
 * all that is reachable from there, and unpinning waits for no pause. Nobody pins while the world is stopped, so the table stays
 * where it is; what is unpinned meanwhile may be seen or not. */
static void visit_pinned(struct pins *p, root_visit visit, void *context) {
  uint64_t copy[PINS_AT_A_TIME];
  size_t at = 0;
  for (uint32_t count; (count = copy_pinned(p, &at, copy)) > 0;)
    for (uint32_t i = 0; i < count; i++) visit(&copy[i], context);
}

void roots_visit(gch_heap *h, root_visit visit, void *context) {
  struct roots *r = &h->roots;
  for (struct mutator *m = h->world.mutators; m != NULL; m = m->next)
    for (gch_frame *f = m->pub.frames; f != NULL; f = f->previous)
      for (uint64_t i = 0; i < f->count; i++)
        if (f->slots[i] != NULL) visit((uint64_t *)&f->slots[i], context);
  uint64_t top = at_load(&r->handle_top);
  for (uint64_t i = 0; i < top; i++)
    if (at_load_relaxed(&r->handles[i].ref) != 0)
      visit(&r->handles[i].ref, context); /* relaxed: the world is stopped */
  for (size_t i = 0; i < r->static_count; i++)
    if (*r->statics[i] != NULL) visit((uint64_t *)r->statics[i], context);
  if (r->fn != NULL) r->fn(visit_embedder, &(struct embedder_context){visit, context}, r->fn_data);
  visit_pinned(&h->pins, visit, context);
  ambiguous_visit(h, visit, context);
  finalizers_visit_queue(h, visit, context);
}

gch_status roots_add_static(gch_heap *h, gch_ref *slot) {
  struct roots *r = &h->roots;
  gch_status status = GCH_OK;
  world_lock(h);
  if (r->static_count == r->static_capacity) {
    size_t capacity = r->static_capacity == 0 ? 64 : r->static_capacity * 2;
    gch_ref **grown = realloc(r->statics, capacity * sizeof *grown);
    if (grown == NULL) status = GCH_NO_MEMORY;
    if (grown != NULL) r->statics = grown, r->static_capacity = capacity;
  }
  if (status == GCH_OK) r->statics[r->static_count++] = slot;
  world_unlock(h);
  return status;
}

gch_status roots_remove_static(gch_heap *h, gch_ref *slot) {
  struct roots *r = &h->roots;
  world_lock(h);
  size_t i = 0;
  while (i < r->static_count && r->statics[i] != slot) i++;
  bool found = i < r->static_count;
  if (found) r->statics[i] = r->statics[--r->static_count];
  world_unlock(h);
  return found ? GCH_OK : GCH_BAD_VALUE;
}

/* --- handles -------------------------------------------------------------------------------------------------- */

static uint32_t pop_free(struct roots *r) {
  uint64_t head = at_load(&r->handle_free);
  for (;;) {
    uint32_t index = (uint32_t)head;
    if (index == 0) return 0;
    uint64_t next = (head & ~(uint64_t)UINT32_MAX) | at_load_relaxed(&r->handles[index - 1].next_free); /* CAS checks */
    if (at_cas(&r->handle_free, &head, next)) return index;
  }
}

static void push_free(struct roots *r, uint32_t index) {
  uint64_t head = at_load(&r->handle_free);
  uint64_t next;
  do {
    at_store_relaxed(&r->handles[index - 1].next_free, (uint32_t)head); /* published by the CAS */
    next = (((head >> 32) + 1) << 32) | index;
  } while (!at_cas(&r->handle_free, &head, next));
}

static bool is_ours(gch_mutator *m, gch_ref object) {
  if (object == NULL || heap_contains(m->heap, (uintptr_t)object)) return true;
  error_set(&mutator_of(m)->error, GCH_BAD_VALUE, "object %p is not of this heap", (void *)object);
  return false;
}

gch_handle gch_handle_new(gch_mutator *m, gch_ref object) {
  struct roots *r = &m->heap->roots;
  if (!is_ours(m, object)) return 0;
  uint32_t index = pop_free(r);
  if (index == 0) {
    uint64_t top = at_add(&r->handle_top, 1);
    if (top >= r->handle_capacity) {
      at_sub(&r->handle_top, 1);
      error_set(&mutator_of(m)->error, GCH_NO_MEMORY, "all %llu handles are in use",
                (unsigned long long)r->handle_capacity);
      return 0;
    }
    index = (uint32_t)top + 1;
  }
  struct handle_slot *slot = &r->handles[index - 1];
  uint32_t generation = at_load_relaxed(&slot->generation) + 1; /* the slot is ours */
  at_store(&slot->generation, generation);
  at_store(&slot->ref, (uint64_t)(uintptr_t)object);
  at_add_relaxed(&r->handle_count, 1);
  return (gch_handle)(generation ^ r->handle_stamp) << 32 | index;
}

static uint32_t generation_of(const struct roots *r, gch_handle handle) {
  return (uint32_t)(handle >> 32) ^ r->handle_stamp;
}

static struct handle_slot *handle_slot(struct roots *r, gch_handle handle) {
  uint32_t index = (uint32_t)handle, generation = generation_of(r, handle);
  if (index == 0 || index > at_load(&r->handle_top) || (generation & 1) == 0) return NULL;
  struct handle_slot *slot = &r->handles[index - 1];
  return at_load(&slot->generation) == generation ? slot : NULL;
}

static gch_status bad_handle(gch_error *error, gch_handle handle) {
  return error_set(error, GCH_BAD_VALUE, "handle 0x%llx is not a live handle of this heap (freed, or of another heap)",
                   (unsigned long long)handle);
}

gch_status gch_handle_get(gch_mutator *m, gch_handle handle, gch_ref *out) {
  struct handle_slot *slot = handle_slot(&m->heap->roots, handle);
  *out = slot == NULL ? NULL : (gch_ref)(uintptr_t)at_load(&slot->ref);
  return slot == NULL ? bad_handle(&mutator_of(m)->error, handle) : GCH_OK;
}

gch_status gch_handle_set(gch_mutator *m, gch_handle handle, gch_ref object) {
  struct handle_slot *slot = handle_slot(&m->heap->roots, handle);
  if (slot == NULL) return bad_handle(&mutator_of(m)->error, handle);
  if (!is_ours(m, object)) return GCH_BAD_VALUE;
  at_store(&slot->ref, (uint64_t)(uintptr_t)object);
  return GCH_OK;
}

gch_status gch_handle_free(gch_heap *h, gch_handle handle) {
  struct handle_slot *slot = handle_slot(&h->roots, handle);
  uint32_t generation = generation_of(&h->roots, handle);
  /* Whoever makes the generation even has freed it: a second free finds it changed. */
  if (slot == NULL || !at_cas(&slot->generation, &generation, generation + 1)) return GCH_BAD_VALUE;
  at_store(&slot->ref, 0);
  at_sub_relaxed(&h->roots.handle_count, 1);
  GCH_POINT(handle_freed);
  push_free(&h->roots, (uint32_t)handle);
  return GCH_OK;
}

/* --- pins ----------------------------------------------------------------------------------------------------- */

static size_t pin_hash(uintptr_t object, size_t capacity) {
  return (size_t)((object >> GRANULE_SHIFT) * 0x9e3779b97f4a7c15u >> 32) & (capacity - 1);
}

/* Lock held: the entry of the object, or the empty one where it would go. */
static struct pin_entry *pin_find(struct pin_entry *entries, size_t capacity, uintptr_t object) {
  size_t i = pin_hash(object, capacity);
  while (entries[i].address != 0 && entries[i].address != object) i = (i + 1) & (capacity - 1);
  return &entries[i];
}

/* Lock held: room for one more, tombstones dropped on the way. */
static bool pin_grow(struct pins *p) {
  if (p->used + 1 <= p->capacity / 2) return true;
  size_t pinned = 0;
  for (size_t i = 0; i < p->capacity; i++) pinned += p->entries[i].count != 0;
  size_t capacity = p->capacity == 0 ? PINS_FIRST_CAPACITY : pinned < p->capacity / 4 ? p->capacity : p->capacity * 2;
  struct pin_entry *entries = calloc(capacity, sizeof *entries);
  if (entries == NULL) return false;
  size_t used = 0;
  for (size_t i = 0; i < p->capacity; i++) {
    if (p->entries[i].count == 0) continue;
    *pin_find(entries, capacity, p->entries[i].address) = p->entries[i];
    used++;
  }
  free(p->entries);
  p->entries = entries;
  p->capacity = capacity;
  p->used = used;
  return true;
}

gch_status pins_add(gch_heap *h, uintptr_t object) {
  struct pins *p = &h->pins;
  lock_lock(&p->lock);
  bool room = pin_grow(p);
  if (room) {
    struct pin_entry *e = pin_find(p->entries, p->capacity, object);
    if (e->address == 0) p->used++;
    e->address = object;
    if (e->count++ == 0) at_add(&heap_block(h, object)->pins, 1);
    at_add(&p->count, 1);
  }
  lock_unlock(&p->lock);
  GCH_POINT(pinned);
  return room ? GCH_OK : GCH_NO_MEMORY;
}

bool pins_remove(gch_heap *h, uintptr_t object) {
  struct pins *p = &h->pins;
  lock_lock(&p->lock);
  struct pin_entry *e = p->capacity == 0 ? NULL : pin_find(p->entries, p->capacity, object);
  bool pinned = e != NULL && e->count != 0;
  if (pinned) {
    at_sub(&p->count, 1);
    if (--e->count == 0) at_sub(&heap_block(h, object)->pins, 1);
  }
  lock_unlock(&p->lock);
  GCH_POINT(unpinned);
  return pinned;
}

uint64_t pins_count(gch_heap *h, uintptr_t object) {
  struct pins *p = &h->pins;
  lock_lock(&p->lock);
  struct pin_entry *e = p->capacity == 0 ? NULL : pin_find(p->entries, p->capacity, object);
  uint64_t count = e == NULL ? 0 : e->count;
  lock_unlock(&p->lock);
  return count;
}
