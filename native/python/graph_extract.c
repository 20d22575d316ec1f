/* Extraction: breadth first from a table, with the world stopped and no cycle running.
 *
 * An object's number is kept in a table indexed by granule (4 bytes for 16 of heap, touched only where objects are);
 * the list of objects in order of discovery is the queue. Mallocs while the world is stopped: this is for tests and
 * comparisons, not for programs in a hurry. */
#include <stdlib.h>
#include <sys/mman.h>

#include "gc/safepoint.h"
#include "object/scan_inline.h"
#include "python/graph_internal.h"

enum { VECTOR_FIRST = 1024, OBJECTS_AHEAD = 12, NUMBERS_AHEAD = 6 };

struct extraction {
  gch_heap *h;
  gch_error *error;
  graph_extracted *g;
  uint32_t *numbers;  /* by granule: number + 1 */
  size_t numbers_bytes;
  uintptr_t *objects; /* by number */
  uint64_t node_capacity, slot_capacity;
  bool failed;
};

/* --- memory --------------------------------------------------------------------------------------------------- */

static bool grow(void *vector, uint64_t capacity, size_t item) {
  void **p = vector, *bigger = realloc(*p, capacity * item);
  if (bigger != NULL) *p = bigger;
  return bigger != NULL;
}

static bool grow_nodes(struct extraction *x) {
  graph_extracted *g = x->g;
  uint64_t n = x->node_capacity = x->node_capacity == 0 ? VECTOR_FIRST : 2 * x->node_capacity;
  return grow(&x->objects, n, sizeof *x->objects) && grow(&g->sizes, n, sizeof *g->sizes) &&
         grow(&g->types, n, sizeof *g->types) && grow(&g->labels, n, sizeof *g->labels) &&
         grow(&g->indptr, n + 1, sizeof *g->indptr);
}

static bool grow_slots(struct extraction *x) {
  x->slot_capacity = x->slot_capacity == 0 ? VECTOR_FIRST : 2 * x->slot_capacity;
  return grow(&x->g->indices, x->slot_capacity, sizeof *x->g->indices);
}

static void fail_memory(struct extraction *x) {
  x->failed = true;
  error_set(x->error, GCH_NO_MEMORY, "no memory to extract a graph of more than %llu objects",
            (unsigned long long)x->g->nodes);
}

void graph_extracted_free(graph_extracted *g) {
  if (g == NULL) return;
  free(g->sizes);
  free(g->types);
  free(g->indptr);
  free(g->indices);
  free(g->root_ids);
  free(g->labels);
  free(g->users);
  free(g);
}

/* --- search --------------------------------------------------------------------------------------------------- */

static uint32_t *number_of(const struct extraction *x, uintptr_t object) {
  return &x->numbers[granule_index(&x->h->layout, object)];
}

/* The number of the object that a slot refers to, a new one if it was not seen yet. */
static int64_t visit(struct extraction *x, gch_ref value) {
  if (value == NULL) return -1;
  uint32_t *number = number_of(x, (uintptr_t)value);
  if (*number == 0) {
    if (x->g->nodes == x->node_capacity && !grow_nodes(x)) {
      fail_memory(x);
      return -1;
    }
    x->objects[x->g->nodes++] = (uintptr_t)value;
    *number = (uint32_t)x->g->nodes;
  }
  return (int64_t)*number - 1;
}

static void visit_slot(uint64_t *slot, void *context) {
  struct extraction *x = context;
  if (x->failed) return;
  if (x->g->slots == x->slot_capacity && !grow_slots(x)) {
    fail_memory(x);
    return;
  }
  x->g->indices[x->g->slots++] = visit(x, (gch_ref)(uintptr_t)*slot);
}

/* Bytes with header, and whether they are what they should be. */
static void note_shape(struct extraction *x, uint64_t i, gch_ref object, const struct type_info *type) {
  graph_extracted *g = x->g;
  g->types[i] = type_id(type);
  g->labels[i] = -1;
  g->sizes[i] = gch_object_bytes(x->h, object);
  if (graph_kind(type) != BULK_KIND_GRAPH) return;
  uint64_t tail = gch_length(x->h, object);
  g->sizes[i] = type->pub.tail_offset + tail;
  if (graph_check((char *)(void *)object + type->pub.tail_offset, tail, &g->labels[i]) || x->failed) return;
  x->failed = true;
  error_set(x->error, GCH_CORRUPT,
            "object %llu in breadth-first order (%p, type %s, %llu bytes) does not hold the bytes of its label %lld",
            (unsigned long long)i, (void *)object, type->name, (unsigned long long)g->sizes[i],
            (long long)g->labels[i]);
}

static void expand(struct extraction *x, uint64_t i) {
  uintptr_t a = x->objects[i];
  gch_ref object = (gch_ref)a;
  const struct type_info *type = typetab_get(&x->h->types, header_load(a));
  x->g->indptr[i] = (int64_t)x->g->slots;
  note_shape(x, i, object, type);
  uint64_t first, count = gch_length(x->h, object);
  if (graph_kind(type) == BULK_KIND_GRAPH_WIDE) count = graph_degree(x->h, object, type, &first);
  if (type->cell == CELL_NONE) scan_object_range(type, a, count, a, UINTPTR_MAX, visit_slot, x); /* else: weak */
}

static void prefetch_slot(uint64_t *slot, void *context) {
  struct extraction *x = context;
  if (*slot != 0) __builtin_prefetch(number_of(x, (uintptr_t)*slot), 1);
}

/* The objects that come next are in no order that a processor could guess. */
static void look_ahead(struct extraction *x, uint64_t i) {
  if (i + OBJECTS_AHEAD < x->g->nodes) __builtin_prefetch((const void *)x->objects[i + OBJECTS_AHEAD]);
  if (i + NUMBERS_AHEAD >= x->g->nodes) return;
  uintptr_t a = x->objects[i + NUMBERS_AHEAD];
  uint64_t header = header_load(a);
  if (!header_is_large(header)) scan_small(typetab_get(&x->h->types, header), a, header, prefetch_slot, x);
}

static void search(struct extraction *x, gch_ref table) {
  uint64_t roots = gch_length(x->h, table);
  const gch_ref *slots = gch_slot(table, REFS_OFFSET);
  x->g->root_ids = malloc(roots * sizeof(int64_t) + 1);
  if (x->g->root_ids == NULL || !grow_nodes(x)) fail_memory(x);
  for (uint64_t i = 0; i < roots && !x->failed; i++) {
    if (i + OBJECTS_AHEAD < roots && slots[i + OBJECTS_AHEAD] != NULL)
      __builtin_prefetch(number_of(x, (uintptr_t)slots[i + OBJECTS_AHEAD]), 1);
    x->g->root_ids[i] = visit(x, slots[i]);
  }
  x->g->roots = roots;
  for (uint64_t i = 0; i < x->g->nodes && !x->failed; i++) {
    look_ahead(x, i);
    expand(x, i);
  }
  if (!x->failed) x->g->indptr[x->g->nodes] = (int64_t)x->g->slots;
}

static void note_types(struct extraction *x) {
  struct typetab *tab = &x->h->types;
  x->g->type_count = tab->count;
  x->g->users = calloc(tab->count + 1, sizeof(uint64_t));
  if (x->g->users == NULL) fail_memory(x);
  for (uint32_t i = 1; i < tab->count && !x->failed; i++) x->g->users[i] = bulk_user(&tab->items[i]);
}

/* The world is stopped. */
static void extract(struct extraction *x, gch_ref table) {
  x->numbers_bytes = (x->h->layout.span / GRANULE_BYTES) * sizeof(uint32_t);
  x->g = calloc(1, sizeof *x->g);
  int rc = x->g == NULL ? -1
                        : kernel_mmap(&x->h->kernel, NULL, x->numbers_bytes, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, (void **)&x->numbers);
  if (rc < 0) {
    x->failed = true;
    error_set(x->error, GCH_NO_MEMORY, "no memory, or addresses, for a table of %zu MiB to extract a graph",
              x->numbers_bytes >> 20);
    return;
  }
  search(x, table);
  if (!x->failed) note_types(x);
  kernel_munmap(&x->h->kernel, x->numbers, x->numbers_bytes);
  free(x->objects);
}

int graph_extract(gch_mutator *m, gch_handle table, graph_extracted **out) {
  struct bulk b;
  struct pause pause;
  uint64_t count;
  *out = NULL;
  bulk_enter(&b, m);
  struct extraction x = {.h = b.h, .error = &mutator_of(m)->error};
  int status = bulk_root_array(&b, 0, table, &count);
  if (status == GCH_OK) {
    cycle_enter(b.h);
    world_stop(b.h, GCH_PAUSE_OTHER, &pause);
    extract(&x, b.refs[0]);
    world_resume(b.h, &pause);
    cycle_leave(b.h);
    status = x.failed ? (int)x.error->status : GCH_OK;
  }
  if (status == GCH_OK)
    *out = x.g;
  else
    graph_extracted_free(x.g);
  return bulk_leave(&b, status);
}
