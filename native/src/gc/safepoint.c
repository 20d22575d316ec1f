#include "gc/safepoint.h"

#include "heap/diary.h"

enum { SPIN_NS = 20000 };

void world_init(gch_heap *h) {
  lock_init(&h->world.mutators_lock, RANK_MUTATORS, "mutators");
  lock_init(&h->world.lock, RANK_WORLD, "world");
  lock_init(&h->cycle_lock, RANK_CYCLE, "cycle");
  cond_init(&h->world.stopped);
  cond_init(&h->world.resumed);
  cond_init(&h->cycle_done);
}

void world_destroy(gch_heap *h) {
  cond_destroy(&h->world.stopped);
  cond_destroy(&h->world.resumed);
  cond_destroy(&h->cycle_done);
  lock_destroy(&h->world.mutators_lock);
  lock_destroy(&h->world.lock);
  lock_destroy(&h->cycle_lock);
}

static bool all_stopped(const gch_heap *h) {
  if (at_load_seq(&h->world.markers) != 0) return false; /* seq_cst: as below */
  for (const struct mutator *m = h->world.mutators; m != NULL; m = m->next)
    if (at_load_seq(&m->state) == MUTATOR_MANAGED) return false; /* seq_cst: the stopper's half of Dekker */
  return true;
}

static bool is_managed(const struct mutator *m) { return at_load(&m->state) == MUTATOR_MANAGED; }

/* Those that run, or would if there had been no pause just now. One that becomes managed is `paused` until after that, so it
 * is looked at again. */
static uint32_t count_managed(const gch_heap *h) {
  uint32_t count = 0;
  for (const struct mutator *m = h->world.mutators; m != NULL; m = m->next)
    count += is_managed(m) || at_load(&m->paused) || is_managed(m);
  return count;
}

bool world_halt(gch_heap *h, gch_pause cause, struct pause *pause, uint64_t deadline_ns) {
  bool in_time = true;
  pause->cause = cause;
  pause->asked_ns = clock_ns();
  pause->managed = count_managed(h);
  at_store_seq(&h->world.stop, 1); /* seq_cst: Dekker, see the header */
  for (struct mutator *m = h->world.mutators; m != NULL; m = m->next) at_store_relaxed(&m->pub.poll, 1); /* a hint */
  at_fence_seq();
  GCH_POINT(world_stopping);
  /* Mutators in a tight loop answer within microseconds: spin for a moment before paying for a sleep. */
  while (!all_stopped(h) && clock_ns() - pause->asked_ns < SPIN_NS) spin_pause();
  if (!all_stopped(h)) {
    lock_lock(&h->world.lock);
    while (!all_stopped(h) && in_time) {
      if (deadline_ns == UINT64_MAX)
        cond_wait(&h->world.stopped, &h->world.lock);
      else
        in_time = cond_wait_until(&h->world.stopped, &h->world.lock, deadline_ns);
    }
    lock_unlock(&h->world.lock);
  }
  pause->stopped_ns = clock_ns();
  GCH_POINT(world_stopped);
  return all_stopped(h);
}

void world_run(gch_heap *h) {
  for (struct mutator *m = h->world.mutators; m != NULL; m = m->next) at_store_relaxed(&m->pub.poll, 0); /* a hint */
  lock_lock(&h->world.lock);
  at_store_seq(&h->world.stop, 0);
  cond_broadcast(&h->world.resumed);
  lock_unlock(&h->world.lock);
  GCH_POINT(world_resumed);
}

/* Cycle lock held: a pause of a minor is one of the latest cycle. */
static uint64_t cycle_of(const gch_heap *h, const struct pause *pause) {
  if (pause->cause == GCH_PAUSE_OTHER) return 0;
  return pause->cause == GCH_PAUSE_MINOR ? h->cycle_number : h->major_number;
}

uint64_t world_count(gch_heap *h, const struct pause *pause) {
  uint64_t length = clock_ns() - pause->asked_ns;
  struct measures *s = &h->measures;
  histogram_record(&s->pause, length);
  histogram_record(&s->safepoint, pause->stopped_ns - pause->asked_ns);
  if (pause->cause == GCH_PAUSE_MINOR) histogram_record(&s->minor_pause, length);
  if (pause->cause == GCH_PAUSE_FLIP) histogram_record(&s->flip_pause, length);
  heap_event(h, GCH_EVENT_PAUSE, length, pause->cause, pause->stopped_ns - pause->asked_ns, cycle_of(h, pause));
  return length;
}

void world_stop(gch_heap *h, gch_pause cause, struct pause *pause) {
  lock_lock(&h->world.mutators_lock);
  world_halt(h, cause, pause, UINT64_MAX);
}

uint64_t world_resume(gch_heap *h, const struct pause *pause) {
  world_run(h);
  lock_unlock(&h->world.mutators_lock);
  return world_count(h, pause);
}

static void wake_stopper(gch_heap *h) {
  lock_lock(&h->world.lock);
  cond_signal(&h->world.stopped);
  lock_unlock(&h->world.lock);
}

void mutator_enter_native(struct mutator *m) {
  gch_heap *h = m->pub.heap;
  GCH_ASSERT(at_load_relaxed(&m->state) == MUTATOR_MANAGED); /* relaxed: only the owner writes it */
  at_store_seq(&m->state, MUTATOR_NATIVE);
  GCH_POINT(mutator_native);
  if (gch_unlikely(at_load_seq(&h->world.stop) != 0)) wake_stopper(h);
}

static void wait_running(gch_heap *h) {
  lock_lock(&h->world.lock);
  while (at_load_seq(&h->world.stop) != 0) cond_wait(&h->world.resumed, &h->world.lock);
  lock_unlock(&h->world.lock);
}

void marker_enter(gch_heap *h) {
  for (;;) {
    at_add_seq(&h->world.markers, 1);
    GCH_POINT(marker_enters); /* and may be one in a stopped world, for a moment */
    if (gch_likely(at_load_seq(&h->world.stop) == 0)) return;
    marker_leave(h);
    wait_running(h);
  }
}

void marker_leave(gch_heap *h) {
  at_sub_seq(&h->world.markers, 1);
  GCH_POINT(marker_left);
  if (gch_unlikely(at_load_seq(&h->world.stop) != 0)) wake_stopper(h);
}

/* Waits until the world runs. */
static void wait_resumed(struct mutator *m) {
  gch_heap *h = m->pub.heap;
  struct stall stall = stall_begin(m, GCH_STALL_PAUSE);
  at_store_relaxed(&m->paused, 1);
  wait_running(h);
  stall_end(&stall);
}

void mutator_leave_native(struct mutator *m) {
  at_store_seq(&m->state, MUTATOR_MANAGED);
  GCH_POINT(mutator_managed); /* and may be one in a stopped world, for a moment */
  if (gch_likely(at_load_seq(&m->pub.heap->world.stop) == 0)) return;
  mutators_let_pass();
}

/* --- threads and their mutators ------------------------------------------------------------------------------- */

static pthread_key_t exit_key;
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;
/* Mutators of this thread, of any heap. Initial-exec: a signal handler asks, so it must be reached without a call. */
static __thread struct mutator *mine __attribute__((tls_model("initial-exec")));

void mutators_enter_native(void) {
  for (struct mutator *m = mine; m != NULL; m = m->next_here) {
    if (at_load_relaxed(&m->state) != MUTATOR_MANAGED) continue; /* relaxed: only we write our state */
    m->waits = true;
    mutator_enter_native(m);
  }
}

/* All that wait become managed, or none, and then one whose heap is stopped is returned. */
static struct mutator *try_leave(void) {
  for (struct mutator *m = mine; m != NULL; m = m->next_here) {
    if (!m->waits) continue;
    at_store_seq(&m->state, MUTATOR_MANAGED);
    if (gch_likely(at_load_seq(&m->pub.heap->world.stop) == 0)) continue;
    mutator_enter_native(m);
    for (struct mutator *before = mine; before != m; before = before->next_here)
      if (before->waits) mutator_enter_native(before);
    return m;
  }
  return NULL;
}

void mutators_leave_native(void) {
  for (struct mutator *held; (held = try_leave()) != NULL;) wait_resumed(held);
  for (struct mutator *m = mine; m != NULL; m = m->next_here) {
    m->waits = false;
    at_store(&m->paused, 0);
  }
}

void mutators_let_pass(void) {
  for (struct mutator *m = mine; m != NULL; m = m->next_here)
    if (at_load_relaxed(&m->state) == MUTATOR_MANAGED) at_store_relaxed(&m->paused, 1);
  mutators_enter_native();
  mutators_leave_native();
}

/* A thread ends: its frames are gone with its stack. */
static void detach_all(void *first) {
  (void)first;
  while (mine != NULL) {
    mine->pub.frames = NULL;
    gch_detach(&mine->pub);
  }
}

static void make_key(void) { pthread_key_create(&exit_key, detach_all); }

struct mutator *mutator_here(gch_heap *h) {
  struct mutator *m = mine;
  while (m != NULL && m->pub.heap != h) m = m->next_here;
  return m;
}

struct mutator *mutators_here(void) { return mine; }

bool mutator_adopt(struct mutator *m) {
  pthread_once(&exit_once, make_key);
  if (pthread_setspecific(exit_key, m) != 0) return false;
  m->next_here = mine;
  mine = m;
  return true;
}

void mutator_disown(struct mutator *m) {
  struct mutator **link = &mine;
  while (*link != NULL && *link != m) link = &(*link)->next_here;
  if (*link == m) *link = m->next_here;
}

void world_lock(gch_heap *h) {
  mutators_enter_native();
  lock_lock(&h->world.mutators_lock);
}

void world_unlock(gch_heap *h) {
  lock_unlock(&h->world.mutators_lock);
  mutators_leave_native();
}

void cycle_enter(gch_heap *h) {
  mutators_enter_native();
  lock_lock(&h->cycle_lock);
}

void cycle_unlock(gch_heap *h) {
  struct diary_page page;
  diary_take(h, &page);
  lock_unlock(&h->cycle_lock);
  diary_tell(h, &page);
}

void cycle_leave(gch_heap *h) {
  cycle_unlock(h);
  mutators_leave_native();
}
