#include "gc/controller.h"

#include <stdlib.h>

#include "base/error.h"
#include "gc/cycle.h"
#include "mover/mover.h"
#include "os/thread.h"

struct controller {
  struct thread thread;
  struct lock lock;
  struct cond wake, done;
  gch_collect_options options; /* [lock] of the latest request */
  uint64_t asked, flipped, ended; /* [lock] cycles */
  uint64_t serving;               /* [lock] the latest request that the running cycle answers */
  bool quit;                   /* [lock] */
};

static void controller_main(void *arg) {
  gch_heap *h = arg;
  struct controller *c = h->controller;
  lock_lock(&c->lock);
  for (;;) {
    while (c->asked == c->ended && !c->quit) cond_wait(&c->wake, &c->lock);
    if (c->asked == c->ended) break;
    gch_collect_options options = c->options;
    c->serving = c->asked;
    gch_cycle report;
    lock_unlock(&c->lock);
    cycle_concurrent(h, &options, &report);
    lock_lock(&c->lock);
    c->ended = c->flipped = c->serving;
    cond_broadcast(&c->done);
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

void controller_request(gch_heap *h, const gch_collect_options *options, bool wait) {
  struct controller *c = h->controller;
  lock_lock(&c->lock);
  c->options = *options;
  uint64_t mine = ++c->asked;
  cond_signal(&c->wake);
  while ((wait ? c->ended : c->flipped) < mine) cond_wait(&c->done, &c->lock);
  lock_unlock(&c->lock);
}

void controller_flipped(gch_heap *h) {
  struct controller *c = h->controller;
  lock_lock(&c->lock);
  c->flipped = c->serving;
  cond_broadcast(&c->done);
  lock_unlock(&c->lock);
}

void controller_wait(gch_heap *h) {
  struct controller *c = h->controller;
  if (c != NULL) {
    lock_lock(&c->lock);
    uint64_t asked = c->asked;
    while (c->ended < asked) cond_wait(&c->done, &c->lock);
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
