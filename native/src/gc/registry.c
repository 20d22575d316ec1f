#include "gc/registry.h"

#include "os/thread.h"

static const uint64_t RETRY_NS = 50000;
static const uintptr_t CLAIMED = 1;

static uintptr_t slots[REGISTRY_MAX]; /* [atomic] */
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
    while (!at_cas(&slots[i], &held, 0)) {
      thread_sleep_ns(RETRY_NS);
      held = (uintptr_t)h;
    }
    return;
  }
}

uint32_t registry_top(void) { return at_load(&top); }

gch_heap *registry_at(uint32_t slot) { return (gch_heap *)(at_load(&slots[slot]) & ~CLAIMED); }

gch_heap *registry_claim(uint32_t slot) {
  uintptr_t h = at_load(&slots[slot]);
  if (h == 0 || !at_cas(&slots[slot], &h, h | CLAIMED)) return NULL; /* it is being removed */
  return (gch_heap *)h;
}

void registry_release(uint32_t slot) { at_and(&slots[slot], ~CLAIMED); }
