#include "gc/controller.h"

#include <stdlib.h>

#include "base/error.h"
#include "gc/cycle.h"
#include "gc/drive.h"
#include "gc/phase.h"
#include "gc/release.h"
#include "gc/reserve.h"
#include "mover/mover.h"
#include "os/thread.h"

enum { PAUSE_WAIT_NS = 1000000 };

/* On the stack of who waits for it; all [lock]. */
struct request {
  gch_policy policy;
  enum cycle_stage until;
  bool served;       /* the running cycle answers it */
  bool done;         /* answered, and not in the list any more */
  uint64_t number;   /* ascending in the list */
  gch_cycle *report; /* of the cycle that answers it; NULL: not wanted */
  struct request *next;
};

struct controller {
  struct thread thread;
  struct lock lock;
  struct cond wake, done;
  struct request *first; /* [lock] not answered yet, in the order in which they came */
  uint64_t asked;        /* [lock] requests so far */
  uint32_t due; /* [atomic, written under lock] a cycle that nobody waits for has been asked for, and not ended */
  bool quit; /* [lock] */
  bool resumes; /* [const] it begins with a cycle that is running: in the child of fork() */
};

/* The first request, and all that ask for the same, will be answered by the cycle that begins now. */
static gch_policy serve(struct controller *c) {
  gch_policy policy = c->first != NULL ? c->first->policy : GCH_POLICY_NEEDED;
  for (struct request *r = c->first; r != NULL; r = r->next) r->served = r->policy == policy;
  return policy;
}

/* Answers those served that wait for no more than what has happened. */
static void answer(struct controller *c, enum cycle_stage stage, const gch_cycle *report) {
  for (struct request **link = &c->first; *link != NULL;) {
    struct request *r = *link;
    if (!r->served || r->until > stage) {
      link = &r->next;
      continue;
    }
    *link = r->next;
    if (r->report != NULL) *r->report = *report;
    r->done = true;
  }
  cond_broadcast(&c->done);
}

/* Lock held before and after. */
static void wait_or_release(gch_heap *h, struct controller *c, uint64_t *release) {
  if (reserve_is_due(h)) {
    lock_unlock(&c->lock);
    reserve_fill(h);
    if (*release == 0) *release = release_begin(h); /* if nobody comes to need it */
    lock_lock(&c->lock);
  } else if (reserve_is_low(h) && at_load(&h->closing) == 0) { /* the pause that is on tells nobody that it ends */
    (void)cond_wait_until(&c->wake, &c->lock, clock_ns() + PAUSE_WAIT_NS);
  } else if (*release == 0) {
    cond_wait(&c->wake, &c->lock);
  } else if (!cond_wait_until(&c->wake, &c->lock, *release)) {
    lock_unlock(&c->lock);
    drive_begin(h); /* what it holds for a moment is nobody's in a child of fork() */
    *release = release_tick(h);
    drive_end(h);
    lock_lock(&c->lock);
  }
}

static void controller_main(void *arg) {
  gch_heap *h = arg;
  struct controller *c = h->controller;
  uint64_t release = release_begin(h); /* when memory is looked at again */
  if (c->resumes) cycle_resume(h);
  lock_lock(&c->lock);
  for (;;) {
    while (c->first == NULL && c->due == 0 && !c->quit) wait_or_release(h, c, &release);
    if (c->first == NULL && c->quit) break;
    gch_cycle report;
    gch_collect_options options;
    gch_collect_options_init(&options);
    options.concurrent = true;
    options.policy = serve(c);
    bool due = c->due != 0, only_due = c->first == NULL;
    lock_unlock(&c->lock);
    cycle_concurrent(h, &options, only_due, &report);
    release = release_begin(h);
    lock_lock(&c->lock);
    if (due) at_store_relaxed(&c->due, 0); /* a hint for who does not hold the lock */
    answer(c, CYCLE_ENDED, &report);
  }
  lock_unlock(&c->lock);
}

gch_status controller_start(gch_heap *h, gch_error *error) {
  if (!h->mover->concurrent) return GCH_OK;
  struct controller *c = calloc(1, sizeof *c);
  if (c == NULL) return error_set(error, GCH_NO_MEMORY, "no memory for the controller");
  lock_init(&c->lock, RANK_CONTROLLER, "controller");
  cond_init(&c->wake);
  cond_init(&c->done);
  c->resumes = phase_now(h) != GCH_PHASE_IDLE;
  h->controller = c;
  if (thread_start(&c->thread, "gcheap-control", controller_main, h) >= 0) return GCH_OK;
  lock_destroy(&c->lock);
  free(c);
  h->controller = NULL;
  return error_set(error, GCH_NO_MEMORY, "%s", "cannot start the controller thread");
}

void controller_stop(gch_heap *h) {
  struct controller *c = h->controller;
  if (c == NULL) return;
  at_store(&h->closing, 1);
  lock_lock(&c->lock);
  c->quit = true;
  cond_signal(&c->wake);
  lock_unlock(&c->lock);
  thread_join(&c->thread);
  cond_destroy(&c->wake);
  cond_destroy(&c->done);
  lock_destroy(&c->lock);
  free(c);
  h->controller = NULL;
}

void controller_request(gch_heap *h, gch_policy policy, enum cycle_stage until, gch_cycle *report) {
  struct controller *c = h->controller;
  struct request mine = {.policy = policy, .until = until, .report = report};
  lock_lock(&c->lock);
  mine.number = ++c->asked;
  struct request **last = &c->first;
  while (*last != NULL) last = &(*last)->next;
  *last = &mine;
  cond_signal(&c->wake);
  GCH_POINT(cycle_asked);
  while (!mine.done) cond_wait(&c->done, &c->lock);
  lock_unlock(&c->lock);
}

void controller_wake(gch_heap *h) {
  struct controller *c = h->controller;
  if (at_load_relaxed(&c->due) != 0) return; /* asked for */
  lock_lock(&c->lock);
  at_store_relaxed(&c->due, 1);
  cond_signal(&c->wake);
  lock_unlock(&c->lock);
}

void controller_nudge(gch_heap *h) {
  struct controller *c = h->controller;
  lock_lock(&c->lock);
  cond_signal(&c->wake);
  lock_unlock(&c->lock);
}

void controller_reached(gch_heap *h, enum cycle_stage stage, const gch_cycle *report) {
  struct controller *c = h->controller;
  lock_lock(&c->lock);
  answer(c, stage, report);
  lock_unlock(&c->lock);
}

void controller_wait(gch_heap *h) {
  struct controller *c = h->controller;
  if (c != NULL) {
    lock_lock(&c->lock);
    uint64_t asked = c->asked;
    while (c->due != 0 || (c->first != NULL && c->first->number <= asked)) cond_wait(&c->done, &c->lock);
    lock_unlock(&c->lock);
  }
  lock_lock(&h->cycle_lock);
  cycle_wait_idle(h);
  lock_unlock(&h->cycle_lock);
}

struct lock *controller_lock(gch_heap *h) { return h->controller != NULL ? &h->controller->lock : NULL; }

void controller_forget(gch_heap *h) {
  free(h->controller);
  h->controller = NULL;
}
