/* Loading an object graph: all objects first, in the order of their numbers, then all references.
 *
 * Objects are born in old and leaf blocks (heap/mature.h); an array lists them meanwhile, so a collection in the
 * middle of a load is nothing special. Threads: the caller's; polls whenever it is asked to stop. */
#include <stdlib.h>

#include "gc/cycle.h"
#include "python/graph_internal.h"

enum { TYPES_FIRST = 256, LINK_AHEAD = 16 };

/* --- types ---------------------------------------------------------------------------------------------------- */

/* Open addressing by (user word, fixed references); both together say it all. */
struct graph_type {
  uint64_t user; /* 0: empty */
  uint64_t degree;
  const gch_type *type;
};

struct graph_types {
  struct graph_type *items;
  uint64_t capacity, count;
};

graph_types *graph_types_new(void) {
  graph_types *t = calloc(1, sizeof *t);
  if (t != NULL) t->items = calloc(TYPES_FIRST, sizeof *t->items);
  if (t != NULL && t->items != NULL) {
    t->capacity = TYPES_FIRST;
    return t;
  }
  free(t);
  return NULL;
}

void graph_types_free(graph_types *t) {
  if (t != NULL) free(t->items);
  free(t);
}

static struct graph_type *find_type(struct graph_type *items, uint64_t capacity, uint64_t user, uint64_t degree) {
  uint64_t i = (user * 64 + degree) * 0x9e3779b97f4a7c15u >> 32;
  for (;; i++) {
    struct graph_type *t = &items[i & (capacity - 1)];
    if (t->user == 0 || (t->user == user && t->degree == degree)) return t;
  }
}

static bool grow_types(graph_types *t) {
  if (t->count < t->capacity / 2) return true;
  struct graph_type *items = calloc(t->capacity * 2, sizeof *items);
  if (items == NULL) return false;
  for (uint64_t i = 0; i < t->capacity; i++)
    if (t->items[i].user != 0) *find_type(items, t->capacity * 2, t->items[i].user, t->items[i].degree) = t->items[i];
  free(t->items);
  t->items = items;
  t->capacity *= 2;
  return true;
}

static gch_status make_type(gch_heap *h, uint64_t user, uint64_t degree, const char *name, const gch_type **out,
                            gch_error *error) {
  uint32_t offsets[GRAPH_FIXED_MAX];
  uint64_t kind = user >> GRAPH_KIND_SHIFT;
  gch_type_desc d = {.struct_bytes = sizeof d, .tail = GCH_TAIL_REFS, .name = name, .user = user};
  if (kind == BULK_KIND_GRAPH) {
    for (uint32_t i = 0; i < degree; i++) offsets[i] = GCH_HEADER_BYTES + 8 * i;
    d.fixed_bytes = (uint32_t)(8 * degree);
    d.ref_offsets = offsets;
    d.ref_count = (uint32_t)degree;
    d.tail = GCH_TAIL_BYTES;
    d.tail_bytes = 1;
  } else if (kind == BULK_KIND_GRAPH_WIDE) {
    d.fixed_bytes = 8;
  }
  return gch_type_new(h, &d, out, error);
}

/* --- objects -------------------------------------------------------------------------------------------------- */

/* One load. Frame slots: 0 the array of all objects, 1 the table that references lead to (the same, without one). */
struct load {
  struct bulk *b;
  graph_types *types;
  const graph_nodes *nodes;
  struct mature buffer;
};

/* How node i is to be laid out. */
struct layout_of {
  const gch_type *type;
  uint64_t bytes, tail; /* of the object; elements of its tail */
  bool wide;
};

static int lay_out(struct load *l, uint64_t i, struct layout_of *out) {
  const graph_nodes *n = l->nodes;
  uint64_t degree = (uint64_t)(n->indptr[i + 1] - n->indptr[i]), size = n->sizes[i];
  bulk_kind kind = BULK_KIND_GRAPH;
  out->bytes = align_up(size, GRANULE_BYTES);
  out->tail = size - GCH_HEADER_BYTES - 8 * degree;
  out->wide = false;
  if (degree > GRAPH_FIXED_MAX) {
    out->wide = out->bytes > align_up(GCH_HEADER_BYTES + 8 * degree, GRANULE_BYTES);
    kind = out->wide ? BULK_KIND_GRAPH_WIDE : BULK_KIND_GRAPH_REFS;
    out->tail = out->wide ? (out->bytes - 2 * GCH_HEADER_BYTES) / 8 : degree;
    degree = 0;
  }
  uint64_t user = graph_user(kind, n->name_ids[n->types[i]]);
  struct graph_type *t = find_type(l->types->items, l->types->capacity, user, degree);
  if (gch_unlikely(t->user == 0)) {
    gch_error *error = &mutator_of(l->b->m)->error;
    const gch_type *type;
    gch_status status = make_type(l->b->h, user, degree, n->names[n->types[i]], &type, error);
    if (status != GCH_OK) return (int)status;
    if (!grow_types(l->types))
      return bulk_fail(l->b, GCH_NO_MEMORY, "no memory for a table of %llu types", (unsigned long long)l->types->count);
    t = find_type(l->types->items, l->types->capacity, user, degree);
    *t = (struct graph_type){user, degree, type};
    l->types->count++;
  }
  out->type = t->type;
  return GCH_OK;
}

/* A major that is due begins. Where that is in the pause, blocks are complete before. */
static void start_due(struct load *l) {
  gch_heap *h = l->b->h;
  if (!cycle_is_due(h)) return;
  if (h->controller == NULL) mature_retire(h, &l->buffer);
  cycle_start_due(mutator_of(l->b->m));
}

static gch_ref try_object(struct load *l, const struct layout_of *o) {
  gch_heap *h = l->b->h;
  bool leaf = o->type->leaf != 0;
  if (o->bytes > GCH_SMALL_MAX) {
    start_due(l);
    gch_ref large = (gch_ref)large_alloc(h, o->type, o->tail, o->bytes);
    if (large != NULL) at_add_relaxed(&h->measures.allocated_bytes, o->bytes);
    return large;
  }
  uint64_t header = o->type->header | o->tail * o->type->tail_bytes << GCH_HEADER_LENGTH_SHIFT;
  gch_ref object = mature_bump(h, &l->buffer, leaf, header, o->bytes);
  if (object != NULL) return object;
  start_due(l); /* once a block: while it is due it stays so until a cycle has ended */
  if (!mature_refill(h, &l->buffer, leaf)) return NULL;
  return mature_bump(h, &l->buffer, leaf, header, o->bytes);
}

static void poll(struct load *l) {
  if (!gch_poll(l->b->m)) return;
  mature_retire(l->b->h, &l->buffer);
  gch_safepoint_slow(l->b->m);
}

static gch_ref make_object(struct load *l, const struct layout_of *o) {
  struct relief relief = {.bytes = o->bytes > GCH_SMALL_MAX ? o->bytes : BLOCK_BYTES};
  for (;;) {
    gch_ref object = try_object(l, o);
    if (object != NULL) return object;
    mature_retire(l->b->h, &l->buffer);
    if (!cycle_for_room(mutator_of(l->b->m), &relief)) return NULL;
  }
}

static int make_node(struct load *l, uint64_t i) {
  const graph_nodes *n = l->nodes;
  struct layout_of o = {0};
  int status = lay_out(l, i, &o);
  if (status != GCH_OK) return status;
  gch_ref object = make_object(l, &o);
  if (object == NULL)
    return bulk_fail(
        l->b, GCH_NO_MEMORY, "no room for node %llu of %llu (%llu bytes): %llu of the heap's %llu bytes are in use",
        (unsigned long long)i, (unsigned long long)n->count, (unsigned long long)o.bytes,
        (unsigned long long)at_load_relaxed(&l->b->h->used_bytes), (unsigned long long)l->b->h->config.max_bytes);
  if (o.wide) *(uint64_t *)gch_payload(object) = (uint64_t)(n->indptr[i + 1] - n->indptr[i]);
  if (o.type->tail_bytes == 1)
    graph_fill((char *)(void *)object + o.type->tail_offset, o.tail,
               (uint64_t)(n->labels != NULL ? n->labels[i] : (int64_t)i));
  bulk_set(l->b, bulk_slots(l->b, 0) + i, object);
  return GCH_OK;
}

/* --- references ----------------------------------------------------------------------------------------------- */

static inline gch_ref target(const struct load *l, const gch_ref *table, int64_t slot) {
  int64_t node = l->nodes->indices[slot];
  return node < 0 ? NULL : bulk_element(table + node);
}

/* References [from, to) of node i. */
static void link_part(struct load *l, uint64_t i, int64_t from, int64_t to) {
  const graph_nodes *n = l->nodes;
  const gch_ref *table = bulk_slots(l->b, 1);
  gch_ref object = bulk_element(bulk_slots(l->b, 0) + i);
  uint64_t first,
      degree = graph_degree(l->b->h, object, typetab_get(&l->b->h->types, header_load((uintptr_t)object)), &first);
  gch_ref *slot = gch_slot(object, first) + (from - n->indptr[i]);
  int64_t last = n->indptr[n->count];
  GCH_ASSERT(degree == (uint64_t)(n->indptr[i + 1] - n->indptr[i]));
  (void)degree;
  for (int64_t s = from; s < to; s++, slot++) {
    int64_t ahead = s + LINK_AHEAD < last ? n->indices[s + LINK_AHEAD] : -1;
    if (ahead >= 0) __builtin_prefetch(table + ahead);
    bulk_set(l->b, slot, target(l, table, s));
  }
}

static int link_node(struct load *l, uint64_t i) {
  int64_t end = l->nodes->indptr[i + 1];
  int status = GCH_OK;
  for (int64_t from = l->nodes->indptr[i]; from < end && status == GCH_OK; from += BULK_CHUNK) {
    link_part(l, i, from, end - from < BULK_CHUNK ? end : from + BULK_CHUNK);
    if (end - from > BULK_CHUNK) status = bulk_poll(l->b);
  }
  return status;
}

int graph_load(gch_mutator *m, graph_types *types, const graph_nodes *nodes, gch_handle table, const gch_type *refs,
               gch_handle *out) {
  struct bulk b;
  bulk_enter(&b, m);
  struct load l = {.b = &b, .types = types, .nodes = nodes};
  int status = bulk_new_array(&b, 0, refs, nodes->count);
  for (uint64_t i = 0; i < nodes->count && status == GCH_OK; i++) {
    status = make_node(&l, i);
    if (i % 64 == 0) poll(&l);
  }
  mature_retire(b.h, &l.buffer);
  uint64_t elements;
  b.refs[1] = b.refs[0];
  if (status == GCH_OK && table != 0) status = bulk_root_array(&b, 1, table, &elements);
  for (uint64_t i = 0; i < nodes->count && status == GCH_OK; i++) {
    status = link_node(&l, i);
    if (i % 64 == 0 && status == GCH_OK) status = bulk_poll(&b);
  }
  if (status == GCH_OK) status = bulk_give(&b, 0, out);
  return bulk_leave(&b, status);
}

/* --- single slots --------------------------------------------------------------------------------------------- */

static int store_one(struct bulk *b, uint64_t elements, int64_t element, int64_t slot, int64_t value) {
  const gch_ref *table = bulk_slots(b, 0);
  if (element < 0 || (uint64_t)element >= elements || value >= (int64_t)elements)
    return bulk_fail(b, BULK_BAD_INDEX, "element %lld or value %lld is out of range for a table of %llu",
                     (long long)element, (long long)value, (unsigned long long)elements);
  gch_ref object = bulk_element(table + element);
  if (object == NULL)
    return bulk_fail(b, BULK_NULL, "element %lld of the table is null, expected an object", (long long)element);
  const struct type_info *type = typetab_get(&b->h->types, header_load((uintptr_t)object));
  if (graph_kind(type) < BULK_KIND_GRAPH)
    return bulk_fail(b, BULK_WRONG_TYPE, "element %lld is of type %s, expected an object of a loaded graph",
                     (long long)element, type->name);
  uint64_t first, degree = graph_degree(b->h, object, type, &first);
  if (slot < 0 || (uint64_t)slot >= degree)
    return bulk_fail(b, BULK_BAD_INDEX, "slot %lld of element %lld is out of range for %llu references",
                     (long long)slot, (long long)element, (unsigned long long)degree);
  gch_set(b->m, object, first + 8 * (uint64_t)slot, value < 0 ? NULL : bulk_element(table + value));
  return GCH_OK;
}

int graph_store(gch_mutator *m, gch_handle table, const int64_t *elements, const int64_t *slots, const int64_t *values,
                uint64_t count) {
  struct bulk b;
  uint64_t length;
  bulk_enter(&b, m);
  int status = bulk_root_array(&b, 0, table, &length);
  for (uint64_t i = 0; i < count && status == GCH_OK; i++) {
    if (i + BULK_AHEAD < count && elements[i + BULK_AHEAD] >= 0 && (uint64_t)elements[i + BULK_AHEAD] < length)
      __builtin_prefetch(bulk_element(bulk_slots(&b, 0) + elements[i + BULK_AHEAD]), 1);
    status = store_one(&b, length, elements[i], slots[i], values != NULL ? values[i] : -1);
    if (i % 1024 == 0 && status == GCH_OK) status = bulk_poll(&b);
  }
  return bulk_leave(&b, status);
}
