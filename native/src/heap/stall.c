#include "heap/stall.h"

#include "heap/mutator.h"
#include "heap/unit.h"
#include "os/thread.h"

static const uint64_t TAKEN = UINT64_MAX;

static void add(struct stalls *s, gch_stall cause, uint64_t ns) {
  at_add_relaxed(&s->count[cause], 1);
  at_add_relaxed(&s->ns[cause], ns);
}

void stall_count(gch_heap *h, struct mutator *m, gch_stall cause, uint64_t start, uint64_t end) {
  uint64_t ns = end - start;
  add(&h->measures.stalls, cause, ns);
  if (m != NULL) add(&m->stalls, cause, ns);
  if (m != NULL) stall_log_add(h, m, cause, start, end);
  if (cause != GCH_STALL_PAUSE && at_load_relaxed(&h->phase) == GCH_PHASE_MOVE)
    histogram_record(&h->measures.stall_move, ns);
}

struct stall stall_begin(struct mutator *m, gch_stall cause) {
  struct stall s = {m, cause, at_load_relaxed(&m->stalled_since) == 0, clock_ns()};
  if (!s.outer) return s;
  at_store_relaxed(&m->stalled_by, (uint32_t)cause);
  at_store(&m->stalled_since, s.start);
  return s;
}

/* Logged, then over: a report sees it in either way. */
void stall_end(const struct stall *s) {
  stall_count(s->mutator->pub.heap, s->mutator, s->cause, s->start, clock_ns());
  if (s->outer) at_store(&s->mutator->stalled_since, 0);
}

void stall_touch(gch_heap *h, struct mutator *m, gch_answer answer, uint64_t start, uint64_t end) {
  histogram_record(&h->touching.answers[answer], end - start);
  stall_count(h, m, answer == GCH_ANSWER_BUSY ? GCH_STALL_UNIT : GCH_STALL_FAULT, start, end);
}

void stall_waited(gch_heap *h, gch_actor who, gch_actor maker, uint64_t ns) {
  at_add_relaxed(&h->touching.wait_count[who][maker], 1);
  at_add_relaxed(&h->touching.wait_ns[who][maker], ns);
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
    if ((at_load_seq(&h->tables.units[unit]) & UNIT_STATE) != UNIT_BUSY) stall_wait_over(h, unit);
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
    uint64_t now = clock_ns();
    stall_touch(h, mutator_with(h, (uint32_t)word), GCH_ANSWER_BUSY, start, now);
    stall_waited(h, GCH_ACTOR_MUTATOR, unit_maker(h, unit), now - start);
  }
}
