/* Where the heaps of a process that share a budget tell each other of themselves. Each writes its own place, and reads all when it
 * sets its goal; nobody waits for anybody, and what is read together may be of different moments. A second piece of global state
 * beside the registry (gc/registry.h), because a heap may end while another reads. In the child of fork() it goes on as it was.
 *
 *   FREE --join: compare-and-swap--> TAKEN --leave--> FREE */
#ifndef HEAP_BOARD_H
#define HEAP_BOARD_H

#include "heap/budget.h"

enum { BOARD_HEAPS = 256 };

/* What is read: the claims of all, and which one is the reader's. */
struct board {
  uint64_t budget; /* the least that one of them has named */
  size_t count, own;
  struct budget_claim claims[BOARD_HEAPS];
};

/* A place + 1; 0: there is none left. */
uint32_t board_join(uint64_t budget);
void board_leave(uint32_t place);
void board_publish(uint32_t place, const struct budget_claim *claim);
void board_read(uint32_t place, struct board *out);

#endif
