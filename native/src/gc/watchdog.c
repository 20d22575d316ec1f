#include "gc/watchdog.h"

#include <stdlib.h>

#include "base/error.h"
#include "mover/mover.h"
#include "os/thread.h"

static const uint64_t LIMIT_NS = 2000000000;

struct watchdog {
  struct thread thread;
  struct lock lock;
  struct cond wake;
  bool quit;        /* [lock] */
  uint32_t asleep; /* [atomic seq] pairs with `begun` (Dekker): either it sees the new one, or the beginner wakes it */
  uint64_t begun; /* [atomic seq] pieces of work so far */
  uint64_t running; /* [atomic] */
};

static void report(void *arg, const struct kernel_watch *watch, uint64_t ns_so_far) {
  gch_heap *h = arg;
  struct ring_event event = {.t_ns = clock_ns(),
                             .kind = GCH_EVENT_WATCHDOG,
                             .thread = watch->thread,
                             .a = mover_call_at(h, watch->call, watch->address),
                             .b = watch->address,
                             .c = ns_so_far,
                             .d = watch->other};
  at_add_relaxed(&h->measures.overdue_calls, 1);
  ring_write(&h->ring, &event);
}

/* Lock held before and after. Returns when a whole interval was without work. */
static uint64_t look_around(gch_heap *h, struct watchdog *w, uint64_t seen) {
  while (!w->quit && (at_load(&w->running) != 0 || at_load_seq(&w->begun) != seen)) {
    uint64_t limit = at_load_relaxed(&h->watchdog_ns); /* tests shorten it */
    seen = at_load_seq(&w->begun);
    for (uint64_t until = clock_ns() + limit / 2; !w->quit && cond_wait_until(&w->wake, &w->lock, until);) {
    }
    lock_unlock(&w->lock);
    kernel_watchdog_check(&h->kernel, limit, report, h);
    lock_lock(&w->lock);
  }
  return seen;
}

static void watchdog_main(void *arg) {
  gch_heap *h = arg;
  struct watchdog *w = h->watchdog;
  uint64_t seen = 0;
  lock_lock(&w->lock);
  while (!w->quit) {
    at_store_seq(&w->asleep, 1);
    while (!w->quit && at_load_seq(&w->begun) == seen) cond_wait(&w->wake, &w->lock);
    at_store_seq(&w->asleep, 0);
    seen = look_around(h, w, seen);
  }
  lock_unlock(&w->lock);
}

gch_status watchdog_start(gch_heap *h, gch_error *error) {
  struct watchdog *w = calloc(1, sizeof *w);
  if (w == NULL) return error_set(error, GCH_NO_MEMORY, "no memory for the watchdog");
  lock_init(&w->lock, RANK_WATCHDOG, "watchdog");
  cond_init(&w->wake);
  if (h->watchdog_ns == 0) h->watchdog_ns = LIMIT_NS;
  h->watchdog = w;
  if (thread_start(&w->thread, "gcheap-watch", watchdog_main, h) >= 0) return GCH_OK;
  cond_destroy(&w->wake);
  lock_destroy(&w->lock);
  free(w);
  h->watchdog = NULL;
  return error_set(error, GCH_NO_MEMORY, "%s", "cannot start the watchdog thread");
}

void watchdog_stop(gch_heap *h) {
  struct watchdog *w = h->watchdog;
  if (w == NULL) return;
  lock_lock(&w->lock);
  w->quit = true;
  cond_signal(&w->wake);
  lock_unlock(&w->lock);
  thread_join(&w->thread);
  cond_destroy(&w->wake);
  lock_destroy(&w->lock);
  free(w);
  h->watchdog = NULL;
}

void watchdog_begin(gch_heap *h) {
  struct watchdog *w = h->watchdog;
  at_add(&w->running, 1);
  at_add_seq(&w->begun, 1);
  if (gch_likely(at_load_seq(&w->asleep) == 0)) return;
  lock_lock(&w->lock);
  cond_signal(&w->wake);
  lock_unlock(&w->lock);
}

void watchdog_end(gch_heap *h) { at_sub(&h->watchdog->running, 1); }

struct lock *watchdog_lock(gch_heap *h) { return h->watchdog != NULL ? &h->watchdog->lock : NULL; }

void watchdog_forget(gch_heap *h) {
  free(h->watchdog);
  h->watchdog = NULL;
}
