#include "heap/board.h"

#include "base/atomic.h"
#include "base/clock.h"

/* All [atomic], relaxed but for `budget`. */
struct place {
  uint64_t budget; /* 0: free */
  uint64_t live, weight, least, most;
  uint64_t told_ns;
};

static struct place places[BOARD_HEAPS];

uint32_t board_join(uint64_t budget) {
  for (uint32_t i = 0; i < BOARD_HEAPS; i++) {
    uint64_t none = 0;
    if (at_cas(&places[i].budget, &none, budget)) return i + 1; /* who left has left nothing */
  }
  return 0;
}

void board_publish(uint32_t place, const struct budget_claim *c) {
  struct place *p = &places[place - 1];
  at_store_relaxed(&p->live, c->live); /* figures */
  at_store_relaxed(&p->weight, c->weight);
  at_store_relaxed(&p->least, c->least);
  at_store_relaxed(&p->most, c->most);
  at_store_relaxed(&p->told_ns, clock_ns());
}

void board_leave(uint32_t place) {
  board_publish(place, &(struct budget_claim){0});
  at_store(&places[place - 1].budget, 0);
}

void board_read(uint32_t place, struct board *out) {
  uint64_t now = clock_ns();
  out->count = out->own = 0;
  out->budget = UINT64_MAX;
  for (uint32_t i = 0; i < BOARD_HEAPS; i++) {
    const struct place *p = &places[i];
    uint64_t budget = at_load(&p->budget), told = at_load_relaxed(&p->told_ns); /* figures */
    if (budget == 0) continue;
    if (budget < out->budget) out->budget = budget;
    if (i == place - 1) out->own = out->count;
    out->claims[out->count++] =
        (struct budget_claim){.live = at_load_relaxed(&p->live),
                              .weight = budget_aged(at_load_relaxed(&p->weight), now > told ? now - told : 0),
                              .least = at_load_relaxed(&p->least),
                              .most = at_load_relaxed(&p->most)};
  }
}
