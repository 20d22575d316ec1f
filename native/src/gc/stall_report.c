#include "gc/stall_report.h"

#include "base/utilisation.h"
#include "heap/mutator.h"

enum { WIDTHS = 3 };
static const uint64_t WIDTH_NS[WIDTHS] = {1000000, 10000000, 100000000};

void stall_report_begin(gch_heap *h, uint64_t number, gch_report *r) {
  struct touching *t = &h->touching;
  for (int i = 0; i < GCH_ANSWER_COUNT; i++) histogram_init(&t->answers[i]);
  for (int i = 0; i < GCH_ACTOR_COUNT; i++)
    for (int k = 0; k < GCH_ACTOR_COUNT; k++) {
      at_store_relaxed(&t->wait_count[i][k], 0); /* nothing is armed: nobody waits for a unit */
      at_store_relaxed(&t->wait_ns[i][k], 0);
    }
  *r = (gch_report){.struct_bytes = sizeof *r, .number = number, .begin_ns = clock_ns()};
  stall_log_begin(h, at_load_relaxed(&h->measures.major_count) + 1,
                  r->begin_ns); /* majors only: few bits of it are kept */
}

/* --- waits ---------------------------------------------------------------------------------------------------- */

/* Whoever answers a fault is waited for. */
static void add_answered(gch_report *r, gch_answer answer, gch_actor by) {
  r->wait_count[GCH_ACTOR_MUTATOR][by] += r->answers[answer].count;
  r->wait_ns[GCH_ACTOR_MUTATOR][by] += r->answers[answer].sum;
}

static void fill_waits(const gch_heap *h, gch_report *r) {
  const struct touching *t = &h->touching;
  struct histogram all;
  histogram_init(&all);
  for (int i = 0; i < GCH_ANSWER_COUNT; i++) {
    histogram_describe(&t->answers[i], &r->answers[i]);
    histogram_merge(&all, &t->answers[i]);
  }
  histogram_describe(&all, &r->touches);
  for (int i = 0; i < GCH_ACTOR_COUNT; i++)
    for (int k = 0; k < GCH_ACTOR_COUNT; k++) {
      r->wait_count[i][k] = at_load_relaxed(&t->wait_count[i][k]);
      r->wait_ns[i][k] = at_load_relaxed(&t->wait_ns[i][k]);
    }
  add_answered(r, GCH_ANSWER_WORKER, GCH_ACTOR_WORKER);
  add_answered(r, GCH_ANSWER_HANDLER, GCH_ACTOR_HANDLER);
}

/* --- utilisation ---------------------------------------------------------------------------------------------- */

/* Of a time in which nobody has been stalled. */
static void clear_utilisation(gch_utilisation *all, uint64_t from, uint64_t to) {
  for (int i = 0; i < WIDTHS; i++)
    all[i] =
        (gch_utilisation){.window_ns = WIDTH_NS[i] < to - from ? WIDTH_NS[i] : to - from, .begin_ns = from, .least = 1};
}

static void note_thread(const struct span *spans, size_t count, uint32_t thread, uint64_t from, uint64_t to,
                        gch_utilisation *all) {
  for (int i = 0; i < WIDTHS && from < to; i++) {
    uint64_t width = all[i].window_ns;
    struct window worst = worst_window(spans, count, from, to, width);
    double least = 1 - (double)worst.lost / (double)width;
    if (least >= all[i].least) continue;
    all[i] = (gch_utilisation){.window_ns = width, .begin_ns = worst.start, .least = least, .thread = thread};
    spans_sum(spans, count, worst.start, worst.start + width, all[i].lost_ns);
  }
}

static void fill_utilisation(gch_heap *h, gch_report *r) {
  const struct span *spans = h->stall_log.spans;
  uint32_t thread;
  clear_utilisation(r->cycle, r->begin_ns, r->end_ns);
  clear_utilisation(r->move, r->move_begin_ns, r->move_end_ns);
  for (size_t count; count = stall_log_next(h, &thread), thread != 0; r->threads++) {
    note_thread(spans, count, thread, r->begin_ns, r->end_ns, r->cycle);
    note_thread(spans, count, thread, r->move_begin_ns, r->move_end_ns, r->move);
  }
  r->unlogged = at_load_relaxed(&h->stall_log.lost);
  r->unlogged_ns = at_load_relaxed(&h->stall_log.lost_ns);
}

/* In millionths, 21 bits each. */
static uint64_t pack(const gch_utilisation *all) {
  uint64_t packed = 0;
  for (int i = 0; i < WIDTHS; i++) packed |= (uint64_t)(all[i].least * 1000000) << 21 * i;
  return packed;
}

void stall_report_end(gch_heap *h, gch_report *r) {
  r->end_ns = clock_ns();
  stall_log_end(h, r->end_ns);
  fill_waits(h, r);
  fill_utilisation(h, r);
  stall_log_forget(h);
  heap_event(h, GCH_EVENT_UTILISATION, r->number, pack(r->cycle), r->move_end_ns != 0 ? pack(r->move) : UINT64_MAX,
             r->cycle[1].thread);
}
