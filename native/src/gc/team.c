#include "gc/team.h"

#include <stdlib.h>

#include "base/error.h"
#include "os/thread.h"

struct helper {
  struct team *team;
  struct thread thread;
  uint32_t worker; /* [const] 1 .. helpers */
};

struct team {
  struct lock lock;
  struct cond work, done;
  team_fn fn;            /* [lock] */
  void *context;         /* [lock] */
  uint32_t workers;      /* [lock] of this job, the caller included */
  uint64_t epoch;        /* [lock] jobs given */
  uint32_t running;      /* [lock] helpers that are in this job */
  uint32_t helpers;      /* [const] */
  bool busy;             /* [lock] */
  bool open;             /* [lock] helpers may join the job */
  bool quit;             /* [lock] */
  uint64_t cpu_ns;       /* [atomic] */
  struct helper helper[TEAM_MAX];
};

static void helper_main(void *arg) {
  struct helper *self = arg;
  struct team *t = self->team;
  uint64_t seen = 0;
  lock_lock(&t->lock);
  for (;;) {
    while ((!t->open || t->epoch == seen || self->worker >= t->workers) && !t->quit) cond_wait(&t->work, &t->lock);
    if (t->quit) break;
    seen = t->epoch;
    team_fn fn = t->fn;
    void *context = t->context;
    uint32_t workers = t->workers;
    t->running++;
    lock_unlock(&t->lock);
    uint64_t start = clock_thread_cpu_ns();
    fn(context, self->worker, workers);
    at_add_relaxed(&t->cpu_ns, clock_thread_cpu_ns() - start);
    lock_lock(&t->lock);
    if (--t->running == 0) cond_signal(&t->done);
  }
  lock_unlock(&t->lock);
}

gch_status team_start(gch_heap *h, gch_error *error) {
  struct team *t = calloc(1, sizeof *t);
  if (t == NULL) return error_set(error, GCH_NO_MEMORY, "no memory for the records of collector threads");
  lock_init(&t->lock, RANK_TEAM, "team");
  cond_init(&t->work);
  cond_init(&t->done);
  h->team = t;
  for (uint32_t i = 0; i + 1 < h->config.gc_threads; i++) {
    struct helper *helper = &t->helper[i];
    *helper = (struct helper){.team = t, .worker = i + 1};
    if (thread_start(&helper->thread, "gcheap-worker", helper_main, helper) < 0)
      return error_set(error, GCH_NO_MEMORY, "cannot start collector thread %u of %u", i + 1, h->config.gc_threads - 1);
    t->helpers++;
  }
  return GCH_OK;
}

void team_stop(gch_heap *h) {
  struct team *t = h->team;
  if (t == NULL) return;
  lock_lock(&t->lock);
  t->quit = true;
  cond_broadcast(&t->work);
  lock_unlock(&t->lock);
  for (uint32_t i = 0; i < t->helpers; i++) thread_join(&t->helper[i].thread);
  cond_destroy(&t->work);
  cond_destroy(&t->done);
  lock_destroy(&t->lock);
  free(t);
  h->team = NULL;
}

void team_run_few(gch_heap *h, team_fn fn, void *context, uint32_t workers) {
  struct team *t = h->team;
  lock_lock(&t->lock);
  if (workers > t->helpers + 1) workers = t->helpers + 1;
  bool alone = t->busy || workers == 1;
  if (!alone) {
    t->busy = t->open = true;
    t->fn = fn;
    t->context = context;
    t->workers = workers;
    t->epoch++;
    cond_broadcast(&t->work);
  }
  lock_unlock(&t->lock);
  fn(context, 0, alone ? 1 : workers);
  if (alone) return;
  lock_lock(&t->lock);
  t->open = false;
  while (t->running != 0) cond_wait(&t->done, &t->lock);
  t->busy = false;
  lock_unlock(&t->lock);
}

void team_run(gch_heap *h, team_fn fn, void *context) { team_run_few(h, fn, context, UINT32_MAX); }

struct lock *team_lock(gch_heap *h) { return h->team != NULL ? &h->team->lock : NULL; }

void team_forget(gch_heap *h) {
  free(h->team);
  h->team = NULL;
}

uint64_t team_cpu_ns(const gch_heap *h) { return at_load_relaxed(&h->team->cpu_ns); }
