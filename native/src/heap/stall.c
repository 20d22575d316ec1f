#include "heap/stall.h"

#include "heap/mutator.h"
#include "heap/unit.h"
#include "os/thread.h"

static const uint64_t TAKEN = UINT64_MAX;

static void add(struct stalls *s, gch_stall cause, uint64_t ns) {
  at_add_relaxed(&s->count[cause], 1);
  at_add_relaxed(&s->ns[cause], ns);
}

void stall_count(gch_heap *h, struct mutator *m, gch_stall cause, uint64_t ns) {
  add(&h->measures.stalls, cause, ns);
  if (m != NULL) add(&m->stalls, cause, ns);
  if (cause != GCH_STALL_PAUSE && at_load_relaxed(&h->phase) == GCH_PHASE_MOVE)
    histogram_record(&h->measures.stall_move, ns);
}

void stall_wait(gch_heap *h, size_t unit, uint32_t thread, uint64_t start) {
  struct waiters *w = &h->waiters;
  for (int i = 0; i < WAITERS; i++) {
    uint64_t free = 0;
    if (!at_cas(&w->all[i].word, &free, TAKEN)) continue;
    at_add_seq(&w->count, 1);
    at_store_relaxed(&w->all[i].start, start); /* published by the word */
    at_store_seq(&w->all[i].word, (uint64_t)unit << 32 | thread);
    /* Dekker: either the maker of the unit sees the word, or we see its state. */
    if (at_load_seq(&h->tables.units[unit]) != UNIT_BUSY) stall_wait_over(h, unit);
    return;
  }
}

void stall_wait_over(gch_heap *h, size_t unit) {
  struct waiters *w = &h->waiters;
  for (int i = 0; i < WAITERS; i++) {
    uint64_t word = at_load_seq(&w->all[i].word),
             start = at_load_relaxed(&w->all[i].start); /* of the word, if we win it */
    if (word == TAKEN || word == 0 || word >> 32 != unit || !at_cas(&w->all[i].word, &word, 0)) continue;
    at_add_seq(&w->count, UINT32_MAX);
    stall_count(h, mutator_with(h, (uint32_t)word), GCH_STALL_UNIT, clock_ns() - start);
  }
}
