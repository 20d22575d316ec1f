#include "gc/registry.h"

#include "os/thread.h"

static const uint64_t RETRY_NS = 50000;
static const uintptr_t CLAIMED = 1;

static uintptr_t slots[REGISTRY_MAX]; /* [atomic] */
static uint32_t users[REGISTRY_MAX];  /* [atomic seq] signal handlers that look at the heap of a slot */
static uint32_t top;                  /* [atomic] only grows */

bool registry_add(gch_heap *h) {
  for (uint32_t i = 0; i < REGISTRY_MAX; i++) {
    uintptr_t none = 0;
    if (!at_cas(&slots[i], &none, (uintptr_t)h)) continue;
    uint32_t seen = at_load(&top);
    while (seen <= i && !at_cas(&top, &seen, i + 1)) {
    }
    return true;
  }
  return false;
}

void registry_remove(gch_heap *h) {
  for (uint32_t i = 0; i < registry_top(); i++) {
    uintptr_t held = (uintptr_t)h;
    if (registry_at(i) != h) continue;
    while (!at_cas_seq(&slots[i], &held, CLAIMED)) { /* nobody takes the slot meanwhile */
      thread_sleep_ns(RETRY_NS);
      held = (uintptr_t)h;
    }
    while (at_load_seq(&users[i]) != 0) thread_yield();
    at_store(&slots[i], 0);
    return;
  }
}

uint32_t registry_top(void) { return at_load(&top); }

gch_heap *registry_at(uint32_t slot) { return (gch_heap *)(at_load(&slots[slot]) & ~CLAIMED); }

/* Dekker: either it is seen here that the heap has been removed, or there that somebody has entered. */
gch_heap *registry_enter(uint32_t slot) {
  at_add_seq(&users[slot], 1);
  gch_heap *h = (gch_heap *)(at_load_seq(&slots[slot]) & ~CLAIMED);
  if (h == NULL) registry_leave(slot);
  if (h != NULL) GCH_POINT(heap_entered);
  return h;
}

void registry_leave(uint32_t slot) { at_sub(&users[slot], 1); }

void registry_forget(void) {
  for (uint32_t i = 0; i < registry_top(); i++) at_store(&users[i], 0);
}

gch_heap *registry_claim(uint32_t slot) {
  uintptr_t h = at_load(&slots[slot]);
  if ((h & ~CLAIMED) == 0 || !at_cas(&slots[slot], &h, h | CLAIMED)) return NULL; /* it is being removed */
  return (gch_heap *)h;
}

void registry_release(uint32_t slot) { at_and(&slots[slot], ~CLAIMED); }
