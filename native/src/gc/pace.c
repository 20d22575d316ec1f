#include "gc/pace.h"

#include "gc/safepoint.h"
#include "heap/board.h"
#include "heap/small.h"
#include "os/thread.h"

enum {
  PARTS = 1024,
  LEAST_PART = 16,        /* under a budget: a 16th of what lives, */
  LEAST_EXTRA = 4 << 20,  /* and at least that, whatever the budget says */
};
static const uint64_t PACE_NS = 10000000, SLEEP_LEAST_NS = 100000, SLEEP_MOST_NS = 2000000;

/* --- when a major is due ---------------------------------------------------------------------------------------- */

/* The heap's part of the budget, when others have theirs. In no pause: it takes longer the more heaps there are. */
static void share_budget(gch_heap *h, uint64_t hard) {
  struct board board;
  uint64_t live = h->left.live, least = live / LEAST_PART > LEAST_EXTRA ? live / LEAST_PART : LEAST_EXTRA;
  struct budget_claim own = {.live = live,
                             .weight = budget_weight(live, h->pacing.steady, pacing_work(&h->pacing)),
                             .least = least,
                             .most = hard > live + least ? hard - live : least};
  board_publish(h->board, &own);
  board_read(h->board, &board);
  h->budget_extra = budget_extra(board.budget, board.claims, board.count, board.own);
}

static void set_trigger(gch_heap *h, bool shares) {
  if (h->config.growth_percent == GCH_GROWTH_NEVER) return;
  /* The trigger is looked at after minors, when eden is empty: what eden will take is not there to grow into. */
  uint64_t eden = young_limit(h) * BLOCK_BYTES, most = h->config.max_bytes;
  struct pacing_limits limits = {most - (eden < most / 2 ? eden : most / 2), h->config.soft_max_bytes,
                                 h->config.growth_percent, 0};
  if (h->board != 0 && shares) share_budget(h, limits.hard);
  limits.extra = h->budget_extra;
  uint64_t goal = pacing_goal(&limits, &h->left);
  at_store_relaxed(&h->major_goal, goal); /* hints */
  at_store_relaxed(&h->major_trigger, pacing_trigger(&h->pacing, &limits, &h->left));
}

/* How fast the heap grows, looked at after each minor. Before there was a major, half of the limit
 * (the soft one, if there is one) is the trigger. */
static void note_growth(gch_heap *h, bool shares) {
  uint64_t used = at_load_relaxed(&h->used_bytes), now = clock_ns(); /* a figure */
  if (now - h->paced_ns < PACE_NS) return; /* a block more or less would be a high rate */
  if (h->paced_ns != 0)
    pacing_note_growth(&h->pacing, used > h->paced_used ? used - h->paced_used : 0, now - h->paced_ns);
  h->paced_used = used;
  h->paced_ns = now;
  if (h->left.used != 0 || h->board != 0) set_trigger(h, shares);
}

static void note_eden(gch_heap *h, const struct minor_result *m) {
  struct nursery_minor minor = {m->eden_bytes, m->live_bytes, m->mark_ns + m->plan_ns + m->move_ns};
  nursery_note(&h->nursery, &minor);
  at_store_relaxed(&h->young.limit_blocks, h->nursery.bytes / BLOCK_BYTES); /* a limit, whenever it is seen */
  uint64_t now = m->eden_bytes == 0 ? 0 : m->promoted_bytes * PARTS / m->eden_bytes,
           before = at_load_relaxed(&h->brake.share);
  if (now < before) now = before - (before - now + 7) / 8;
  at_store_relaxed(&h->brake.share, (uint32_t)(now < PARTS ? now : PARTS)); /* a figure */
}

void pace_minor(gch_heap *h, const struct minor_result *m, bool due) {
  if (due) note_eden(h, m);
  note_growth(h, due);
}

void pace_major(gch_heap *h, const gch_cycle *r) {
  h->paced_used = at_load_relaxed(&h->used_bytes); /* a figure */
  h->left = (struct pacing_left){r->live_bytes, h->paced_used};
  h->paced_ns = clock_ns();
  if (r->concurrent) pacing_note_cycle(&h->pacing, r->live_bytes, r->cycle_ns);
  pacing_note_work(&h->pacing, r->live_bytes, r->cycle_ns);
  set_trigger(h, true);
}

/* --- while one runs --------------------------------------------------------------------------------------------- */

void pace_major_begins(gch_heap *h, uint32_t mutators) {
  struct brake *b = &h->brake;
  uint64_t used = at_load_relaxed(&h->used_bytes), max = h->config.max_bytes;
  at_store_relaxed(&b->begun_ns, clock_ns()); /* figures; `from` says that there are some */
  at_store_relaxed(&b->expected_ns, pacing_cycle_ns(&h->pacing, h->left.live != 0 ? h->left.live : used));
  at_store_relaxed(&b->mutators, mutators);
  at_store(&b->from, used < max ? used + (max - used) / 2 : max);
}

void pace_major_over(gch_heap *h) { at_store(&h->brake.from, UINT64_MAX); }

uint64_t pace_of_eden(const gch_heap *h) {
  return (uint64_t)BLOCK_BYTES * at_load_relaxed(&h->brake.share) / PARTS; /* a figure */
}

static uint64_t delay(const gch_heap *h, uint64_t used, uint64_t bytes, uint64_t now) {
  const struct brake *b = &h->brake;
  uint64_t max = h->config.max_bytes, begun = at_load_relaxed(&b->begun_ns); /* figures, all of them */
  struct pacing_room room = {.bytes = used < max ? max - used : 0,
                             .gone_ns = now > begun ? now - begun : 0,
                             .expected_ns = at_load_relaxed(&b->expected_ns),
                             .mutators = at_load_relaxed(&b->mutators)};
  return pacing_delay(&room, bytes, h->nursery.target_ns);
}

static void sleep_native(struct mutator *m, uint64_t ns) {
  struct stall stall = stall_begin(m, GCH_STALL_PACE);
  mutators_enter_native();
  thread_sleep_ns(ns);
  stall_end(&stall); /* a pause that is on by now counts as that */
  mutators_leave_native();
}

void pace_allocation(struct mutator *m, uint64_t bytes) {
  gch_heap *h = m->pub.heap;
  uint64_t used = at_load_relaxed(&h->used_bytes); /* a figure */
  if (gch_likely(used < at_load(&h->brake.from))) return;
  uint64_t now = clock_ns(), wait = m->brake_ns > now ? m->brake_ns - now : 0, most = h->nursery.target_ns;
  if (most > SLEEP_MOST_NS) most = SLEEP_MOST_NS; /* a major that ends meanwhile does not wake it */
  if (wait > most) wait = most;
  if (wait >= SLEEP_LEAST_NS) {
    sleep_native(m, wait);
    now = clock_ns();
    wait = 0;
  }
  m->brake_ns = now + wait + delay(h, used, bytes, now);
}
