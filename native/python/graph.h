/* Object graphs in CSR arrays, loaded into a heap and taken out of it again in one call each.
 *
 * Node i becomes an object of the type that its graph type and number of references call for:
 *
 *   up to GRAPH_FIXED_MAX references   header | references | bytes           (leaf without any)
 *   more, filling the object           header | references ...
 *   more, with room to spare           header | their number | references ... | null ...
 *
 * Bytes are filled from the node's label (its number): the first eight are the label, the rest follows from it, so
 * that extraction can tell a damaged or mixed-up object. Fewer than eight bytes hold a constant. */
#ifndef PYTHON_GRAPH_H
#define PYTHON_GRAPH_H

#ifndef GCHEAP_CDEF
#include "python/bulk.h"
#endif

/* The gch_types that loads have made of graph types; one for each heap, used by one load at a time. */
typedef struct graph_types graph_types;
graph_types *graph_types_new(void);
void graph_types_free(graph_types *types);

typedef struct graph_nodes {
  uint64_t count;
  const uint64_t *sizes;       /* bytes with header */
  const uint32_t *types;       /* index in names */
  const int64_t *indptr;       /* count + 1 */
  const int64_t *indices;      /* -1: null, else a node; when loading beside a table, an element of that */
  const int64_t *labels;       /* NULL: node i has label i */
  const char *const *names;    /* of types */
  const uint32_t *name_ids;    /* Python's numbers of these names, which come back in `users` */
} graph_nodes;

/* Loads the nodes; *out is an array of type `refs` that lists them in order. `table` 0: references are among them;
 * else they lead to elements of that array. Names and numbers are not checked here. */
int graph_load(gch_mutator *mutator, graph_types *types, const graph_nodes *nodes, gch_handle table,
               const gch_type *refs, gch_handle *out);

/* For each i: reference `slots[i]` of the object table[elements[i]] becomes null (values NULL or values[i] < 0) or
 * the object table[values[i]]. */
int graph_store(gch_mutator *mutator, gch_handle table, const int64_t *elements, const int64_t *slots,
                const int64_t *values, uint64_t count);

/* What is reachable from the elements of a table, numbered breadth first. Arrays belong to the result. */
typedef struct graph_extracted {
  uint64_t nodes, slots, roots, type_count;
  uint64_t *sizes;
  uint32_t *types;    /* index in users */
  int64_t *indptr;
  int64_t *indices;
  int64_t *root_ids;
  int64_t *labels;    /* -1: the object has none */
  uint64_t *users;    /* of types */
} graph_extracted;

/* Stops the world. GCH_CORRUPT names the first object whose bytes are not those of its label. */
int graph_extract(gch_mutator *mutator, gch_handle table, graph_extracted **out);
void graph_extracted_free(graph_extracted *graph);

#endif
