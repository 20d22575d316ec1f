/* One of two pieces of global state (the other: heap/board.h): which heaps there are. Signal handlers and fork() ask it; no locks.
 *
 * A slot holds the heap, with bit 0 set while a fork() has claimed it: who removes a claimed heap waits. Whoever looks into a
 * heap without being attached to it, a signal handler, enters its slot first: who removes the heap waits for that, too. */
#ifndef GC_REGISTRY_H
#define GC_REGISTRY_H

#include "heap/heap.h"

enum { REGISTRY_MAX = 2048 };

/* False: there are REGISTRY_MAX heaps. */
bool registry_add(gch_heap *heap);
/* Waits until no fork() has claimed it and no signal handler is in it. Nothing happens if it was not added. */
void registry_remove(gch_heap *heap);

/* Slots ever used; each holds a heap or NULL. Async-signal-safe. */
uint32_t registry_top(void);
gch_heap *registry_at(uint32_t slot);

/* The heap of the slot, which stays until it is left; NULL: none, and nothing to leave. Async-signal-safe. */
gch_heap *registry_enter(uint32_t slot);
void registry_leave(uint32_t slot);
/* In the child of fork(): the handlers of other threads are not there. */
void registry_forget(void);

/* The heap of the slot, which stays until it is released; NULL: none. Forks only, one at a time. */
gch_heap *registry_claim(uint32_t slot);
void registry_release(uint32_t slot);

#endif
