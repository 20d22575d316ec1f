/* Marking: long lists without recursion, the overflow path, parallel marking against one thread, against a naive walk. */
#include "gc/mark.h"

#include "base/clock.h"
#include "kit.h"

/* --- a list of 50 million ------------------------------------------------------------------------------------- */

static void long_list(void) {
  static const uint32_t next[] = {8};
  struct kit k;
  const gch_type *cell;
  const uint64_t length = KIT_SANITIZED ? 400000 : 50000000;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, KIT_SANITIZED ? 64 : 1100, 8192);
  gch_type_desc d = {sizeof d, 8, next, 1, GCH_TAIL_NONE, 0, 0, 0, "cell", 0};
  if (!kit_open(&k, &c)) return;
  CHECK_EQ(gch_type_new(k.heap, &d, &cell, NULL), GCH_OK);
  GCH_FRAME(k.m, root, 1);
  at_store(&k.heap->major_trigger, UINT64_MAX); /* minors only while it grows */
  for (uint64_t i = 0; i < length; i++) {
    gch_ref o = gch_alloc(k.m, cell);
    if (!CHECK(o != NULL)) break;
    gch_set(k.m, o, 8, root[0]);
    root[0] = o;
  }
  gch_cycle r = kit_major(&k, GCH_POLICY_RELEASE, false, true);
  CHECK_EQ(r.live_objects, length);
  CHECK_EQ(r.live_bytes, length * 16);
  printf("    %llu million a second\n", (unsigned long long)(length * 1000 / (r.mark_ns + 1)));
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* --- overflow ------------------------------------------------------------------------------------------------- */

/* A tree of arrays, wide at every level: far more candidates at a time than the smallest stack holds. */
static gch_ref wide_tree(struct kit *k, gch_ref *slots, int level, uint64_t width, uint64_t *count) {
  GCH_FRAME(k->m, own, 1);
  own[0] = level == 0 ? kit_node(k, *count) : kit_refs(k, width);
  ++*count;
  for (uint64_t i = 0; level > 0 && i < width; i++) {
    gch_ref child = wide_tree(k, slots, level - 1, width, count);
    kit_put(k, own[0], i, child);
  }
  gch_ref o = own[0];
  GCH_FRAME_END(k->m);
  return o;
}

static void overflow(void) {
  for (uint32_t threads = 1; threads <= 4; threads += 3) {
    struct kit k;
    uint64_t objects = 0;
    gch_config c = kit_config(GCH_MOVER_MEMCPY, 128, 1024);
    c.gc_threads = threads;
    if (!kit_open(&k, &c)) return;
    GCH_FRAME(k.m, root, 2);
    /* 400 arrays of 700: pushed breadth first, 280,000 candidates for a stack of 65,536 */
    root[0] = wide_tree(&k, root, 2, KIT_SANITIZED ? 300 : 700, &objects);
    for (int i = 0; i < 3; i++) {
      kit_minor(&k, true);
      gch_cycle r = kit_major(&k, i == 1 ? GCH_POLICY_ALL : GCH_POLICY_NEEDED, false, true);
      CHECK_EQ(r.live_objects, objects);
    }
    kit_verify(&k);
    GCH_FRAME_END(k.m);
    kit_close(&k);
  }
}

/* One array with more references than the stack holds, each to an array of its own: chunks and drops. */
static void overflow_of_a_large_array(void) {
  struct kit k;
  const uint64_t count = KIT_SANITIZED ? 100000 : 300000;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 256, 2048);
  c.gc_threads = 1;
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  root[0] = kit_refs(&k, count);
  for (uint64_t i = 0; i < count; i++) {
    gch_ref o = kit_refs(&k, 3);
    kit_put(&k, root[0], i, o);
    kit_put(&k, o, 1, kit_at(root[0], i / 2));
    gch_ref leaf = kit_node(&k, i);
    kit_put(&k, kit_at(root[0], i), 2, leaf);
  }
  gch_cycle r = kit_major(&k, GCH_POLICY_ALL, false, true);
  CHECK_EQ(r.live_objects, 1 + 2 * count);
  for (uint64_t i = 0; i < count; i++)
    if (!CHECK_EQ(*kit_number(kit_at(kit_at(root[0], i), 2)), i)) break;
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* --- serial, parallel, naive ---------------------------------------------------------------------------------- */

enum { OBJECTS = 30000 };

static uint64_t mixed(uint64_t *state) {
  uint64_t x = *state;
  x ^= x << 13, x ^= x >> 7, x ^= x << 17;
  return *state = x;
}

/* Objects in a table, random references between them; then most of the table is emptied. */
static void random_graph(struct kit *k, gch_ref *root, uint64_t seed) {
  uint64_t random = seed * 0x9e3779b97f4a7c15u + 1;
  root[0] = kit_refs(k, OBJECTS);
  for (uint64_t i = 0; i < OBJECTS; i++) {
    gch_ref o = i % 100 == 0 ? kit_refs(k, 2000) : i % 3 == 0 ? kit_bytes(k, mixed(&random) % 200) : kit_node(k, i);
    kit_put(k, root[0], i, o);
  }
  for (uint64_t i = 0; i < 2 * OBJECTS; i++) {
    uint64_t to = mixed(&random) % OBJECTS, from = mixed(&random) % OBJECTS;
    if (from % 100 == 0)
      kit_put(k, kit_at(root[0], from), mixed(&random) % 2000, kit_at(root[0], to));
    else if (from % 3 != 0)
      gch_set(k->m, kit_at(root[0], from), KIT_A + 8 * (mixed(&random) % 3), kit_at(root[0], to));
  }
  for (uint64_t i = 0; i < OBJECTS; i++)
    if (mixed(&random) % 8 != 0) kit_put(k, root[0], i, NULL);
}

struct naive {
  struct kit *k;
  uint64_t *seen, *stack, top, objects, bytes;
};

static void reach(struct naive *n, gch_ref o) {
  if (o == NULL) return;
  uint64_t bit = granule_index(&n->k->heap->layout, (uintptr_t)o);
  if (!bits_set_relaxed(n->seen, bit)) return;
  n->objects++;
  n->bytes += gch_object_bytes(n->k->heap, o);
  n->stack[n->top++] = (uint64_t)(uintptr_t)o;
}

/* Counts what is reachable, with a stack of its own. */
static void walk(struct naive *n, gch_ref root) {
  reach(n, root);
  while (n->top > 0) {
    gch_ref o = (gch_ref)(uintptr_t)n->stack[--n->top];
    const gch_type *t = gch_type_of(n->k->heap, o);
    for (uint64_t i = 0; t == n->k->refs && i < gch_length(n->k->heap, o); i++) reach(n, kit_at(o, i));
    for (size_t i = KIT_A; t == n->k->node && i <= KIT_C; i += 8) reach(n, gch_load(o, i));
  }
}

static void against_a_naive_walk(void) {
  for (uint32_t threads = 1; threads <= 4; threads++) {
    struct kit k;
    gch_config c = kit_config(GCH_MOVER_MEMCPY, 128, 1024);
    c.gc_threads = threads;
    if (!kit_open(&k, &c)) return;
    GCH_FRAME(k.m, root, 1);
    for (uint64_t seed = 1; seed <= kit_scaled(4, 2); seed++) {
      random_graph(&k, root, seed); /* the same in every round: the counts agree across thread numbers too */
      struct naive n = {
          .k = &k, .seen = calloc(k.heap->layout.span / GRANULE_BYTES / 64, 8), .stack = calloc(OBJECTS + 1, 8)};
      walk(&n, root[0]);
      gch_cycle r = kit_major(&k, GCH_POLICY_RELEASE, false, true);
      CHECK_EQ(r.live_objects, n.objects);
      CHECK_EQ(r.live_bytes, n.bytes);
      free(n.seen), free(n.stack);
    }
    GCH_FRAME_END(k.m);
    kit_close(&k);
  }
}

int main(void) {
  kit_watchdog(60);
  RUN(against_a_naive_walk);
  RUN(overflow);
  RUN(overflow_of_a_large_array);
  RUN(long_list);
  return CHECK_SUMMARY();
}
