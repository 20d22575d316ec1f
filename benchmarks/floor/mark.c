/* The floor of marking: a work list, a prefetch queue of 16, a bit an object, nodes of 32 bytes with two references to
 * the nodes that follow in the table, which is in random or in allocation order. `mark MIB`. */
#include "floor.h"

enum { NODE_BYTES = 32, QUEUE = 16 };

struct node {
  uint64_t header;
  struct node *a, *b;
  uint64_t tag;
};

struct marking {
  struct node *base;
  uint64_t *bits;
  struct node **stack;
  uint64_t top;
};

static bool mark_new(struct marking *m, const struct node *node) {
  uint64_t i = (uint64_t)(node - m->base), bit = 1ull << (i & 63);
  if ((m->bits[i >> 6] & bit) != 0) return false;
  m->bits[i >> 6] |= bit;
  return true;
}

static uint64_t mark_all(struct marking *m, struct node *const *table, uint64_t count) {
  struct node *queue[QUEUE] = {NULL};
  uint64_t marked = 0, head = 0, root = 0, waiting = 0;
  while (root < count || m->top > 0 || waiting > 0) {
    struct node *next = m->top > 0 ? m->stack[--m->top] : root < count ? table[root++] : NULL;
    struct node *node = queue[head];
    if (next != NULL) __builtin_prefetch(next);
    waiting += (next != NULL) - (uint64_t)(node != NULL);
    queue[head] = next;
    head = (head + 1) % QUEUE;
    if (node == NULL || !mark_new(m, node)) continue;
    marked++;
    if (node->header == 0) abort();
    m->stack[m->top++] = node->a;
    m->stack[m->top++] = node->b;
  }
  return marked;
}

static void measure(const char *name, uint64_t count, bool random, bool huge) {
  double times[FLOOR_ROUNDS];
  struct marking m = {.base = (struct node *)(void *)map_arenas(count * NODE_BYTES, huge)};
  struct node **table = (struct node **)(void *)map_arenas(count * sizeof *table, huge);
  uint32_t *order = make_order(count, random);
  m.bits = (uint64_t *)(void *)map_arenas(count / 8 + 8, false);
  m.stack = (struct node **)(void *)map_arenas(2 * count * sizeof *m.stack, false);
  for (uint64_t i = 0; i < count; i++) table[i] = &m.base[order[i]];
  for (uint64_t i = 0; i < count; i++) *table[i] = (struct node){7, table[(i + 1) % count], table[(i + 2) % count], i};
  for (int round = 0; round < FLOOR_ROUNDS; round++) {
    memset(m.bits, 0, count / 8 + 8);
    double began = now_s();
    if (mark_all(&m, table, count) != count) abort();
    times[round] = (now_s() - began) / (double)count;
  }
  report(name, times, FLOOR_ROUNDS);
  munmap(m.base, count * NODE_BYTES);
  munmap(m.stack, 2 * count * sizeof *m.stack);
  munmap(table, count * sizeof *table);
  free(order);
}

int main(int argc, char **argv) {
  uint64_t count = (argc > 1 ? strtoull(argv[1], NULL, 10) : 64) * (1 << 20) / NODE_BYTES;
  measure("mark-4k-random", count, true, false);
  measure("mark-4k-in-order", count, false, false);
  measure("mark-huge-in-order", count, false, true);
  return 0;
}
