#include "gc/team.h"

#include <stdlib.h>

#include "base/error.h"
#include "mover/mover.h"
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

static gch_status start(gch_heap *h, enum team_kind kind, gch_error *error) {
  static const char *const locks[] = {"team of pauses", "team beside mutators"}, *const threads[] = {"gcheap-worker",
                                                                                                     "gcheap-beside"};
  struct team *t = calloc(1, sizeof *t);
  if (t == NULL) return error_set(error, GCH_NO_MEMORY, "no memory for the records of collector threads");
  lock_init(&t->lock, RANK_TEAM + (uint32_t)kind, locks[kind]);
  cond_init(&t->work);
  cond_init(&t->done);
  h->teams[kind] = t;
  for (uint32_t i = 0; i + 1 < h->config.gc_threads; i++) {
    struct helper *helper = &t->helper[i];
    *helper = (struct helper){.team = t, .worker = i + 1};
    if (thread_start(&helper->thread, threads[kind], helper_main, helper) < 0)
      return error_set(error, GCH_NO_MEMORY, "cannot start collector thread %u of %u", i + 1, h->config.gc_threads - 1);
    t->helpers++;
  }
  return GCH_OK;
}

gch_status team_start(gch_heap *h, gch_error *error) {
  gch_status status = start(h, TEAM_PAUSE, error);
  return status == GCH_OK && h->mover->concurrent ? start(h, TEAM_BESIDE, error) : status;
}

static void stop(gch_heap *h, enum team_kind kind) {
  struct team *t = h->teams[kind];
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
  h->teams[kind] = NULL;
}

void team_stop(gch_heap *h) {
  for (int kind = 0; kind < TEAM_KINDS; kind++) stop(h, (enum team_kind)kind);
}

static void run(struct team *t, team_fn fn, void *context, uint32_t workers) {
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

void team_run(gch_heap *h, team_fn fn, void *context) {
  uint32_t movers = at_load_relaxed(&h->movers), cpus = movers != 0 ? thread_cpu_count() : 0; /* a hint */
  run(h->teams[TEAM_PAUSE], fn, context, movers == 0 ? UINT32_MAX : cpus > movers ? cpus - movers : 1);
}

void team_run_beside(gch_heap *h, team_fn fn, void *context, uint32_t workers) {
  run(h->teams[TEAM_BESIDE], fn, context, workers);
}

struct lock *team_lock(gch_heap *h, enum team_kind kind) {
  return h->teams[kind] != NULL ? &h->teams[kind]->lock : NULL;
}

void team_forget(gch_heap *h) {
  for (int kind = 0; kind < TEAM_KINDS; kind++) {
    free(h->teams[kind]);
    h->teams[kind] = NULL;
  }
}

static uint64_t cpu_ns(const struct team *t) { return t != NULL ? at_load_relaxed(&t->cpu_ns) : 0; }
uint64_t team_pause_cpu_ns(const gch_heap *h) { return cpu_ns(h->teams[TEAM_PAUSE]); }
uint64_t team_cpu_ns(const gch_heap *h) { return team_pause_cpu_ns(h) + cpu_ns(h->teams[TEAM_BESIDE]); }
