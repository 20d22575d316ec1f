#include "gc/cycle.h"

#include <stdio.h>

#include "gc/ambiguous.h"
#include "gc/claims.h"
#include "gc/compact.h"
#include "gc/concurrent.h"
#include "gc/controller.h"
#include "gc/cycle_report.h"
#include "gc/drive.h"
#include "gc/faults.h"
#include "gc/finalize.h"
#include "gc/finish.h"
#include "gc/flip.h"
#include "gc/give_up.h"
#include "gc/mark.h"
#include "gc/minor.h"
#include "gc/pace.h"
#include "gc/phase.h"
#include "gc/plan.h"
#include "gc/release.h"
#include "gc/reserve.h"
#include "gc/safepoint.h"
#include "gc/snapshot.h"
#include "gc/stall_report.h"
#include "gc/sweep.h"
#include "gc/team.h"
#include "gc/watchdog.h"
#include "heap/small.h"
#include "mover/mover.h"
#include "os/pages.h"

enum {
  REMARKS = 16, /* the last one takes as long as it takes */
  MAJORS = 3,   /* for an allocation that finds no room, before it is given up */
  WAITS = 8,    /* for others' majors that left room, before it makes one of its own */
};
static const uint64_t REMARK_NS = 200000, ARENA_PAUSE_NS = 10000;

/* --- when it is time ----------------------------------------------------------------------------------------- */

bool cycle_is_due(const gch_heap *h) {
  return at_load_relaxed(&h->used_bytes) >= at_load_relaxed(&h->major_trigger); /* hints */
}

void cycle_fill_reserve(gch_heap *h) {
  if (h->controller != NULL && reserve_is_low(h) && at_load_relaxed(&h->phase) == GCH_PHASE_IDLE) controller_nudge(h);
}

void cycle_start_due(struct mutator *m) {
  gch_heap *h = m->pub.heap;
  if (!cycle_is_due(h)) return;
  if (h->controller == NULL)
    cycle_for_allocation(m);
  else if (at_load_relaxed(&h->phase) == GCH_PHASE_IDLE)
    controller_wake(h);
}

/* --- minor ---------------------------------------------------------------------------------------------------- */

/* `due`: one of its own, not the begin of something else. */
static void note_minor(gch_heap *h, const struct minor_result *m, uint64_t ns, bool due) {
  heap_event(h, GCH_EVENT_MINOR, m->young_bytes, m->live_bytes, m->promoted_bytes, ns);
  pace_minor(h, m, due);
  reserve_note(h, m);
  at_add_relaxed(&h->measures.minor_count, 1);
}

void cycle_minor(gch_heap *h, bool promote_all, gch_cause cause, gch_cycle *r) {
  struct minor_result minor;
  struct pause pause;
  report_begin(h, true, cause, r);
  world_stop(h, GCH_PAUSE_MINOR, &pause);
  minor_collect(h, promote_all, &minor);
  uint64_t length = world_resume(h, &pause);
  report_pause(r, length, &pause);
  r->live_bytes = minor.live_bytes;
  r->live_objects = minor.live_objects;
  r->mark_ns = minor.mark_ns;
  r->plan_ns = minor.plan_ns;
  r->move_ns = minor.move_ns;
  report_end(h, r);
  note_minor(h, &minor, length, !promote_all);
  report_keep(h, &h->measures.last_minor, cause, r);
}

/* --- major ---------------------------------------------------------------------------------------------------- */

static void swap_maps(gch_heap *h) {
  uint64_t *live = h->tables.live;
  h->tables.live = h->tables.mark;
  h->tables.mark = live;
}

/* What every major begins with, in its first pause: afterwards nothing is young. */
static void minor_before_mark(gch_heap *h, gch_cycle *r) {
  struct minor_result minor;
  plan_summaries(h, (gch_policy)r->policy);
  uint64_t start = clock_ns();
  minor_collect(h, true, &minor);
  r->mark_minor_ns = clock_ns() - start;
  note_minor(h, &minor, r->mark_minor_ns, false);
  ambiguous_gather(h, h->tables.live);
  phase_enter(h, GCH_PHASE_MARK);
}

static void mark_in_pause(gch_heap *h, gch_cycle *r) {
  struct mark_result marked;
  minor_before_mark(h, r);
  uint64_t start = clock_ns();
  mark_major(h, &marked);
  GCH_EXPENSIVE(mark_is_closed(h));
  r->mark_ns = clock_ns() - start;
  r->live_bytes = marked.bytes;
  r->live_objects = marked.objects;
}

/* `flips`: beside mutators, no lock held. */
static void plan_phase(gch_heap *h, const gch_collect_options *o, bool flips, gch_cycle *r) {
  struct plan_options options = {.policy = o->policy, .flips = flips, .map = h->tables.mark};
  uint64_t start = clock_ns();
  if (flips) GCH_POINT(sweep_begins);
  at_add_relaxed(&h->moved.released, sweep_dead(h, h->tables.mark, flips));
  if (flips) drive_begin(h);
  plan_major(h, h->plan, &options);
  if (flips) drive_end(h);
  r->plan_ns = clock_ns() - start;
  r->units = h->plan->dest_count + h->plan->move_count + h->plan->fix_count;
  r->blocks_evacuated = h->plan->source_count;
}

/* What a move in the pause goes through, in blocks: units of the plan, what relocates by whole arenas, large objects that move or hold
 * references. */
static uint64_t pause_units(gch_heap *h) {
  const struct plan *p = h->plan;
  uint64_t bytes = 0;
  lock_lock(&h->large.lock);
  for (uint32_t id = 1; id < h->large.count; id++) {
    const struct large *e = &h->large.entries[id];
    if (e->base != 0 && (!e->leaf || e->forward != e->base)) bytes += at_load_relaxed(&e->bytes); /* a figure */
  }
  lock_unlock(&h->large.lock);
  return p->dest_count + p->move_count + p->fix_count + (uint64_t)p->arena_count * ARENA_BLOCKS + bytes / BLOCK_BYTES;
}

static void note_pause_cost(gch_heap *h, uint64_t units, uint64_t ns) {
  if (units > 0) h->unit_pause_ns = (h->unit_pause_ns * 5 + ns / units * 3) / 8;
}

/* After the swap of maps. */
static void move_in_pause(gch_heap *h, gch_cycle *r) {
  uint64_t units = pause_units(h), start = clock_ns();
  phase_enter(h, GCH_PHASE_MOVE);
  compact_in_pause(h, h->plan);
  r->move_ns = clock_ns() - start;
  phase_enter(h, GCH_PHASE_END);
  at_add_relaxed(&h->moved.released, finish_move(h, h->plan, false));
  phase_enter(h, GCH_PHASE_IDLE);
  note_pause_cost(h, units, clock_ns() - start);
}

static void major_in_pause(gch_heap *h, const gch_collect_options *o, gch_cycle *r) {
  struct pause pause;
  world_stop(h, GCH_PAUSE_WHOLE, &pause);
  (void)claims_close(h, UINT64_MAX); /* blocks that are being given memory */
  mark_in_pause(h, r);
  phase_enter(h, GCH_PHASE_PLAN);
  plan_phase(h, o, false, r);
  swap_maps(h);
  move_in_pause(h, r);
  claims_open(h);
  report_pause(r, world_resume(h, &pause), &pause);
  stall_report_end(h, &h->report);
}

static void degrade(gch_heap *h, gch_cycle *r, gch_degraded why) {
  static const char *const reasons[GCH_DEGRADED_COUNT] = {
      [GCH_DEGRADED_NOT] = "",
      [GCH_DEGRADED_MOVER] = "this mover works in the pause only",
      [GCH_DEGRADED_REGION] = "no empty region to hold out",
      [GCH_DEGRADED_TIGHT] = "too few addresses to flip (RLIMIT_AS)",
      [GCH_DEGRADED_HANDLER] = "our signal handler has been replaced",
      [GCH_DEGRADED_PREPARE] = "the kernel refused to prepare the flip",
      [GCH_DEGRADED_FLIP] = "the kernel refused the flip"};
  r->degraded = 1;
  snprintf(r->reason, sizeof r->reason, "%s", reasons[why]);
  heap_event(h, GCH_EVENT_DEGRADED, r->number, why, 0, 0);
}

/* What comes after the mark: a flip; none, as nothing would be won; none, as no region is empty that could be held out; nothing,
 * as the heap ends. */
enum outlook { OUTLOOK_FLIP, OUTLOOK_STAY, OUTLOOK_NO_REGION, OUTLOOK_CLOSED };

/* First pause: minor, roots; from now on stores log. Returns how many mutators ran. */
static uint32_t first_pause(gch_heap *h, gch_cycle *r) {
  struct pause pause;
  world_stop(h, GCH_PAUSE_MARK, &pause);
  minor_before_mark(h, r);
  flip_note_promoted(h);
  snapshot_begin(h);
  mark_begin(h);
  r->mark_pause_ns = world_resume(h, &pause);
  report_pause(r, r->mark_pause_ns, &pause);
  pace_major_begins(h, pause.managed);
  return pause.managed;
}

/* Is everything marked? Then stores log no more, and a region of each space is held out, if there is to be a flip and there are
 * such regions. The lock stays. */
static bool remark_pause(gch_heap *h, bool last, enum outlook *outlook, gch_cycle *r) {
  struct pause pause;
  lock_lock(&h->cycle_lock);
  world_stop(h, GCH_PAUSE_REMARK, &pause);
  bool complete = mark_remark(h, last ? UINT64_MAX : clock_ns() + REMARK_NS);
  if (complete) {
    snapshot_end(h);
    GCH_EXPENSIVE(mark_is_closed(h));
    if (*outlook == OUTLOOK_FLIP && !flip_hold_out(h)) *outlook = OUTLOOK_NO_REGION;
    h->drive.judged = false;
    phase_enter(h, GCH_PHASE_PLAN);
  }
  uint64_t length = world_resume(h, &pause);
  report_pause(r, length, &pause);
  if (length > r->remark_ns) r->remark_ns = length;
  if (!complete) lock_unlock(&h->cycle_lock);
  return complete;
}

/* Whoever waits for the stage gets the figures so far. */
static void tell(gch_heap *h, enum cycle_stage stage, const gch_cycle *r) {
  gch_cycle so_far = *r;
  report_figures(h, &so_far);
  controller_reached(h, stage, &so_far);
}

/* Cycle lock held before and after. `weighs`: a flip that is not worth its price is not made. */
static enum outlook mark_concurrently(gch_heap *h, bool weighs, gch_cycle *r) {
  struct mark_result marked;
  uint32_t workers = markers_beside(h, first_pause(h, r));
  uint64_t start = clock_ns();
  enum outlook outlook;
  lock_unlock(&h->cycle_lock);
  tell(h, CYCLE_BEGUN, r);
  int round = 1;
  do {
    mark_beside(h, workers);
    if (at_load(&h->closing) != 0) {
      lock_lock(&h->cycle_lock);
      return OUTLOOK_CLOSED;
    }
    outlook = weighs && !plan_is_worth_it(h) ? OUTLOOK_STAY : OUTLOOK_FLIP;
  } while (!remark_pause(h, round++ >= REMARKS, &outlook, r));
  lock_unlock(&h->cycle_lock);
  mark_judge(h, workers);
  lock_lock(&h->cycle_lock);
  mark_end(h, &marked);
  plan_reset(h->plan);
  h->drive.judged = true; /* and what is planned is in the plan */
  r->mark_ns = clock_ns() - start;
  r->live_bytes = marked.bytes;
  r->live_objects = marked.objects;
  r->overwritten = at_load_relaxed(&h->snapshot.logged);
  return outlook;
}

/* What goes before the flip was not refused; was; there is to be none, as it all fits into a pause. */
enum prospect { FLIP_PREPARED, FLIP_REFUSED, FLIP_NEEDLESS };

/* Second pause: a minor that promotes everything, then old addresses end. False: the plan has been carried out in this pause, because
 * it is to be, the kernel refused the flip, or nobody would answer faults. */
static bool flip_pause(gch_heap *h, enum prospect prospect, uint32_t *running, gch_cycle *r) {
  struct pause pause;
  struct minor_result minor;
  world_stop(h, prospect == FLIP_PREPARED ? GCH_PAUSE_FLIP : GCH_PAUSE_WHOLE, &pause);
  *running = pause.managed;
  phase_enter(h, GCH_PHASE_FLIP);
  flip_switch(h); /* before the minor, which forwards references to old objects as it copies */
  minor_collect(h, true, &minor);
  r->flip_minor_ns = clock_ns() - pause.stopped_ns;
  swap_maps(h);
  bool flipped = prospect == FLIP_PREPARED && flip_now(h);
  if (flipped) {
    phase_enter(h, GCH_PHASE_MOVE);
  } else {
    if (prospect == FLIP_REFUSED) degrade(h, r, GCH_DEGRADED_PREPARE);
    if (prospect == FLIP_PREPARED) degrade(h, r, faults_ready(h) ? GCH_DEGRADED_FLIP : GCH_DEGRADED_HANDLER);
    flip_to_pause(h);
    move_in_pause(h, r);
  }
  if (flipped) h->report.move_begin_ns = clock_ns(); /* from now on memory is missed */
  uint64_t length = world_resume(h, &pause);
  r->flip_ns = flipped ? length : 0;
  r->physical_at_flip = flipped ? report_resident_now() : 0;
  report_pause(r, length, &pause);
  note_minor(h, &minor, r->flip_minor_ns, false);
  return flipped;
}

static void end_phase(gch_heap *h) {
  lock_lock(&h->cycle_lock);
  phase_enter(h, GCH_PHASE_END);
  h->drive.busy = 1;
  lock_unlock(&h->cycle_lock);
  GCH_POINT(ending); /* minors may be */
  faults_drain(h);
  flip_end(h);
  h->keeps = release_keeps(h);
  at_add_relaxed(&h->moved.released, finish_move(h, h->plan, true));
  h->keeps = 0;
  drive_end(h);
}

/* Nothing more is to be done. The cycle lock is taken, and stays. */
static void come_to_rest(gch_heap *h) {
  stall_report_end(h, &h->report);
  lock_lock(&h->cycle_lock);
  phase_enter(h, GCH_PHASE_IDLE);
  large_drop_lost(h); /* from now on nothing is left to us */
}

/* What is left of phase END is not of the plan. Returns with the cycle lock held. */
static void end_cycle(gch_heap *h) {
  GCH_POINT(ended); /* but for the phase; minors may be */
  if (h->huge) finish_opened(h);
  come_to_rest(h);
}

/* The flip has been made, and mutators run (so many). Returns with the cycle lock held. */
static void move_and_end(gch_heap *h, uint32_t running, gch_cycle *r) {
  uint64_t cpu = report_cpu_now(h, false);
  concurrent_move(h, running);
  finalizers_forward(h);
  end_phase(h);
  h->report.move_end_ns = clock_ns();
  r->move_ns = h->report.move_end_ns - h->drive.flipped_ns;
  r->move_cpu_ns = report_cpu_now(h, false) - cpu;
  end_cycle(h);
}

/* The rest of a cycle that found no region to hold out: the world stops again, and nothing is armed. */
static void finish_in_pause(gch_heap *h, const gch_collect_options *o, gch_cycle *r) {
  struct pause pause;
  struct minor_result minor;
  world_stop(h, GCH_PAUSE_WHOLE, &pause);
  minor_collect(h, true, &minor);
  ambiguous_gather(h, h->tables.mark);
  flip_cancel(h);
  plan_phase(h, o, false, r);
  swap_maps(h);
  move_in_pause(h, r);
  report_pause(r, world_resume(h, &pause), &pause);
  stall_report_end(h, &h->report);
}

/* An ordinary minor: what the flip's own finds is then what the program did since, not since the mark. */
static void minor_before_flip(gch_heap *h) {
  gch_cycle minor;
  lock_lock(&h->cycle_lock);
  cycle_minor(h, false, GCH_CAUSE_MAJOR, &minor);
  cycle_unlock(h);
}

/* Does the move fit into a pause, by what a unit and an arena have taken in others? (The tables of all arenas in use are gone
 * through, too.) */
static bool fits_into_pause(gch_heap *h) {
  uint64_t arenas = at_load_relaxed(&h->used_bytes) / ARENA_BYTES; /* a figure */
  if (pause_units(h) * h->unit_pause_ns + arenas * ARENA_PAUSE_NS <= h->config.pause_target_ns) return true;
  if (h->unit_pause_ns > UNIT_PAUSE_NS)
    h->unit_pause_ns -= (h->unit_pause_ns - UNIT_PAUSE_NS) / 8; /* to be tried again */
  return false;
}

static enum prospect prepare(gch_heap *h, bool weighs, gch_cycle *r) {
  uint64_t start = clock_ns();
  bool needless = weighs && fits_into_pause(h), prepared = false;
  if (needless)
    flip_prepare_pause(h);
  else
    prepared = flip_prepare(h);
  r->prepare_ns = clock_ns() - start;
  return needless ? FLIP_NEEDLESS : prepared ? FLIP_PREPARED : FLIP_REFUSED;
}

/* Cycle lock held; released while mutators run. `weighs`: what fits into a pause is done in one. */
static void plan_and_move(gch_heap *h, const gch_collect_options *o, bool weighs, gch_cycle *r) {
  lock_unlock(&h->cycle_lock);
  plan_phase(h, o, true, r);
  minor_before_flip(h);
  enum prospect prospect = prepare(h, weighs, r);
  lock_lock(&h->cycle_lock);
  uint32_t running;
  r->concurrent = flip_pause(h, prospect, &running, r);
  if (!r->concurrent) {
    stall_report_end(h, &h->report);
    return;
  }
  h->drive.flipped_ns = clock_ns();
  lock_unlock(&h->cycle_lock);
  tell(h, CYCLE_FLIPPED, r);
  move_and_end(h, running, r);
}

/* Nothing moves: the dead are freed, and the new map is the live one from a moment on that nobody runs in. Cycle lock held before
 * and after. */
static void sweep_only(gch_heap *h, gch_cycle *r) {
  struct pause pause;
  lock_unlock(&h->cycle_lock);
  uint64_t start = clock_ns();
  h->keeps = release_keeps(h);
  plan_reset(h->plan);
  at_add_relaxed(&h->moved.released, sweep_dead(h, h->tables.mark, true));
  r->plan_ns = clock_ns() - start;
  lock_lock(&h->cycle_lock);
  world_stop(h, GCH_PAUSE_REMARK, &pause);
  swap_maps(h);
  phase_enter(h, GCH_PHASE_END);
  h->drive.busy = 1;
  report_pause(r, world_resume(h, &pause), &pause);
  lock_unlock(&h->cycle_lock);
  GCH_POINT(ending);
  h->keeps = release_keeps(h); /* the same arenas, as it comes by them in the same order */
  at_add_relaxed(&h->moved.released, finish_move(h, h->plan, true));
  h->keeps = 0;
  drive_end(h);
  come_to_rest(h);
}

/* Cycle lock held; left. */
static void close_cycle(gch_heap *h, gch_cycle *r) {
  pace_major_over(h);
  reserve_look(h);
  report_end(h, r);
  report_finish(h, h->drive.cause, r);
  cond_broadcast(&h->cycle_done);
  cycle_unlock(h);
}

void cycle_concurrent(gch_heap *h, const gch_collect_options *o, bool if_due, gch_cycle *out) {
  gch_cycle *r = &h->drive.report;
  lock_lock(&h->cycle_lock);
  cycle_wait_idle(h);
  if (if_due && !cycle_is_due(h)) {
    lock_unlock(&h->cycle_lock);
    return;
  }
  gch_cause cause = if_due ? GCH_CAUSE_DUE : GCH_CAUSE_ASKED;
  h->drive.cause = cause;
  report_begin_major(h, o, cause, r);
  r->concurrent = 1;
  mover_settle(h);
  enum outlook outlook = mark_concurrently(h, if_due, r);
  if (outlook == OUTLOOK_CLOSED) {
    cycle_unlock(h);
    return;
  }
  if (outlook == OUTLOOK_STAY || (if_due && outlook == OUTLOOK_NO_REGION)) { /* nobody asked for a long pause */
    sweep_only(h, r);
  } else if (outlook == OUTLOOK_NO_REGION || !faults_ready(h)) {
    bool held = outlook == OUTLOOK_FLIP;
    degrade(h, r, held ? GCH_DEGRADED_HANDLER : h->layout.tight ? GCH_DEGRADED_TIGHT : GCH_DEGRADED_REGION);
    r->concurrent = 0;
    finish_in_pause(h, o, r);
  } else {
    plan_and_move(h, o, if_due, r);
  }
  close_cycle(h, r);
  *out = *r; /* nobody else begins one */
}

/* --- in the child of fork() ------------------------------------------------------------------------------------ */

void cycle_inherit(gch_heap *h) {
  const gch_cycle *r = &h->drive.report;
  at_store_relaxed(&h->next_dest, 0); /* of a move: those that had been taken from are looked at again */
  at_store_relaxed(&h->movers, 0);
  if (!give_up(h)) return;
  pace_major_over(h);
  heap_event(h, GCH_EVENT_END, r->number, at_load_relaxed(&h->used_bytes), h->left.live,
             report_event_bits(r, h->drive.cause));
}

void cycle_resume(gch_heap *h) {
  gch_cycle *r = &h->drive.report;
  watchdog_begin(h);
  r->collector_cpu_ns = report_cpu_now(h, false); /* what the parent has used is not ours */
  if (phase_now(h) == GCH_PHASE_PLAN) {
    lock_lock(&h->cycle_lock);
    r->units = r->blocks_evacuated = 0;
    sweep_only(h, r);
  } else if (phase_now(h) == GCH_PHASE_MOVE) {
    move_and_end(h, at_load_relaxed(&h->world.mutator_count), r); /* a hint */
  } else {
    end_cycle(h);
  }
  close_cycle(h, r);
}

void cycle_wait_idle(gch_heap *h) {
  while (phase_now(h) != GCH_PHASE_IDLE || at_load(&h->large.transfers) != 0) cond_wait(&h->cycle_done, &h->cycle_lock);
}

void cycle_inspect(gch_heap *h, struct pause *pause) {
  cycle_enter(h);
  cycle_wait_idle(h);
  world_stop(h, GCH_PAUSE_OTHER, pause);
  (void)claims_close(h, UINT64_MAX);
  mutator_sync_buffers(h);
}

void cycle_inspect_end(gch_heap *h, const struct pause *pause) {
  claims_open(h);
  world_resume(h, pause);
  cycle_leave(h);
}

void cycle_major(gch_heap *h, const gch_collect_options *o, gch_cause cause, gch_cycle *r) {
  cycle_wait_idle(h);
  report_begin_major(h, o, cause, r);
  mover_settle(h);
  if (o->concurrent && o->policy != GCH_POLICY_RELEASE) degrade(h, r, GCH_DEGRADED_MOVER); /* that moves nothing */
  major_in_pause(h, o, r);
  if (o->policy == GCH_POLICY_RELEASE)
    reserve_give_up(h);
  else
    reserve_look(h);
  report_end(h, r);
  report_finish(h, cause, r);
}

/* --- on behalf of an allocation ------------------------------------------------------------------------------- */

static void major_for_allocation(gch_heap *h, gch_cause why) {
  gch_collect_options options;
  gch_cycle report;
  gch_collect_options_init(&options);
  cycle_major(h, &options, why, &report);
}

void cycle_for_allocation(struct mutator *m) {
  gch_heap *h = m->pub.heap;
  uint64_t seen = at_load_relaxed(&h->measures.minor_count);
  struct stall stall = stall_begin(m, GCH_STALL_ALLOC);
  gch_cycle report;
  cycle_enter(h);
  /* Somebody else may have collected while we waited for the lock: then just try again. */
  bool done = at_load_relaxed(&h->measures.minor_count) != seen;
  if (!done && young_is_full(h)) cycle_minor(h, false, GCH_CAUSE_NURSERY, &report);
  if (!done && h->controller == NULL && cycle_is_due(h)) major_for_allocation(h, GCH_CAUSE_DUE);
  cycle_leave(h);
  cycle_fill_reserve(h);
  if (h->controller != NULL) cycle_start_due(m);
  stall_end(&stall);
}

/* Cycle lock held. Has a major ended since `seen` were counted, waited for if need be, and is there room now? */
static bool waited_for_room(gch_heap *h, uint64_t seen, uint64_t bytes) {
  cycle_wait_idle(h);
  return at_load_relaxed(&h->measures.major_count) != seen &&
         at_load_relaxed(&h->used_bytes) + bytes <= h->config.max_bytes; /* a figure: who takes room looks again */
}

bool cycle_for_room(struct mutator *m, struct relief *r) {
  gch_heap *h = m->pub.heap;
  if (r->majors == MAJORS) return false;
  uint64_t seen = at_load_relaxed(&h->measures.major_count);
  struct stall stall = stall_begin(m, GCH_STALL_LIMIT);
  cycle_enter(h);
  if (waited_for_room(h, seen, r->bytes) && r->waits < WAITS) {
    r->waits++;
  } else {
    r->majors++;
    major_for_allocation(h, GCH_CAUSE_LIMIT);
  }
  cycle_leave(h);
  cycle_fill_reserve(h);
  if (h->controller != NULL) cycle_start_due(m);
  stall_end(&stall);
  return true;
}
