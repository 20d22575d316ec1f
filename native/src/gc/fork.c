#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "gc/fork.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "gc/claims.h"
#include "gc/controller.h"
#include "gc/cycle.h"
#include "gc/drive.h"
#include "gc/faults.h"
#include "gc/phase.h"
#include "gc/registry.h"
#include "gc/reserve.h"
#include "gc/safepoint.h"
#include "gc/sampler.h"
#include "gc/team.h"
#include "gc/watchdog.h"
#include "heap/ring_file.h"
#include "mover/mover.h"

enum { LOCKS_MAX = 20, ROUNDS = 8 };
static const uint64_t PATIENCE_NS = 20000000, PATIENCE_MAX_NS = 1000000000;

/* A heap that the fork() going on has claimed; all [lock: fork_lock]. */
struct held {
  gch_heap *heap;
  struct pause pause;
  uint32_t slot;
};

static struct lock fork_lock = {.mutex = PTHREAD_MUTEX_INITIALIZER, .name = "fork"};
static struct held held[REGISTRY_MAX];
static uint32_t held_count;
static uint64_t parent_pid;
static uint64_t forked_ns; /* the child began */
static int told[2]; /* a pipe from the child: its copies of shared memory are made; -1: not needed, or not to be had */

/* --- locks ---------------------------------------------------------------------------------------------------- */

/* Every lock of a heap but those of the cycle and of the list of mutators, in the order in which a thread may take two of
 * them. With the world stopped, the cycle lock held and claims closed they are held for moments only, by threads in native state
 * and collector threads between two units. A lock that a heap gets has to be added here. */
static uint32_t leaf_locks(gch_heap *h, struct lock *out[LOCKS_MAX]) {
  struct lock *all[] = {controller_lock(h),
                        &h->world.lock,
                        team_lock(h, TEAM_PAUSE),
                        team_lock(h, TEAM_BESIDE),
                        watchdog_lock(h),
                        &h->types.lock,
                        &h->old.lock,
                        &h->leaf.lock,
                        &h->large.lock,
                        &h->young.lock,
                        &h->frames.lock,
                        &h->finalizers.lock,
                        &h->pins.lock,
                        &h->measures.lock,
                        sampler_lock(h)};
  uint32_t count = 0;
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
    if (all[i] != NULL) out[count++] = all[i];
  return count;
}

/* --- prepare -------------------------------------------------------------------------------------------------- */

static bool rests(const gch_heap *h) { return h->drive.busy == 0 && at_load(&h->large.transfers) == 0; }

/* The cycle lock held: whoever drives a cycle may go on when it is left. */
static void let_cycle(gch_heap *h) {
  at_store_relaxed(&h->drive.wanted, 0);
  cond_broadcast(&h->cycle_done);
  lock_let(&h->cycle_lock);
}

/* The cycle lock, with the driver of a major at rest, and no object half-way to where it grows. */
static bool hold_cycle(gch_heap *h, uint64_t deadline) {
  bool in_time = true;
  at_store_relaxed(&h->drive.wanted, 1); /* a hint, or seen under the lock */
  if (!lock_hold(&h->cycle_lock, deadline)) {
    at_store_relaxed(&h->drive.wanted, 0);
    return false;
  }
  while (!rests(h) && in_time) in_time = cond_wait_held(&h->cycle_done, &h->cycle_lock, deadline);
  if (rests(h)) return true;
  let_cycle(h);
  return false;
}

static bool stop(struct held *e, uint64_t deadline) {
  gch_heap *h = e->heap;
  if (!lock_hold(&h->world.mutators_lock, deadline)) return false;
  if (world_halt(h, GCH_PAUSE_OTHER, &e->pause, deadline) && claims_close(h, deadline)) return true;
  world_run(h);
  lock_let(&h->world.mutators_lock);
  return false;
}

static bool hold(struct held *e, uint64_t deadline) {
  struct lock *locks[LOCKS_MAX];
  if (!hold_cycle(e->heap, deadline)) return false;
  if (!stop(e, deadline)) {
    let_cycle(e->heap);
    return false;
  }
  uint32_t count = leaf_locks(e->heap, locks);
  for (uint32_t i = 0; i < count; i++) lock_hold(locks[i], UINT64_MAX);
  return true;
}

static void let(struct held *e) {
  gch_heap *h = e->heap;
  struct lock *locks[LOCKS_MAX];
  uint32_t count = leaf_locks(h, locks);
  while (count > 0) lock_let(locks[--count]);
  claims_open(h);
  world_run(h);
  lock_let(&h->world.mutators_lock);
  world_count(h, &e->pause);
  let_cycle(h);
}

/* False: the heap of this slot was not to be had by the deadline. */
static bool hold_slot(uint32_t slot, uint64_t deadline) {
  gch_heap *h = registry_claim(slot);
  if (h == NULL) return true;
  struct held *e = &held[held_count];
  *e = (struct held){.heap = h, .slot = slot};
  bool home = fork_is_home(h), got = home && hold(e, deadline);
  held_count += got;
  if (got) h->selection.shared = 1; /* in parent and child: gc/arm.h */
  if (!got) registry_release(slot);
  return got || !home;
}

static bool is_held(uint32_t slot) {
  for (uint32_t i = 0; i < held_count; i++)
    if (held[i].slot == slot) return true;
  return false;
}

static void let_all(void) {
  while (held_count > 0) {
    struct held *e = &held[--held_count];
    let(e);
    registry_release(e->slot);
  }
}

/* The last round takes what it gets. */
static void hold_all(void) {
  uint64_t patience = PATIENCE_NS;
  uint32_t first = 0;
  for (int round = 1; round <= ROUNDS; round++) {
    bool all = hold_slot(first, UINT64_MAX);
    for (uint32_t i = 0; i < registry_top() && (all || round == ROUNDS); i++) {
      if (is_held(i) || hold_slot(i, held_count == 0 ? UINT64_MAX : clock_ns() + patience)) continue;
      all = false;
      first = i;
    }
    if (all || round == ROUNDS) return;
    let_all();
    if (patience < PATIENCE_MAX_NS) patience *= 2;
  }
}

static bool shares_memory(void) {
  for (uint32_t i = 0; i < held_count; i++)
    if (held[i].heap->shared_fd >= 0) return true;
  return false;
}

static void prepare(void) {
  struct mutator *here = mutators_here();
  uint64_t start = clock_ns();
  mutators_enter_native();
  for (struct mutator *m = here; m != NULL; m = m->next_here)
    if (m->waits) stall_begin(m, GCH_STALL_FORK);
  lock_hold(&fork_lock, UINT64_MAX);
  hold_all();
  parent_pid = (uint64_t)getpid();
  lock_hold(faults_install_lock(), UINT64_MAX);
  told[0] = told[1] = -1;
  if (shares_memory() && pipe2(told, O_CLOEXEC) < 0) told[0] = told[1] = -1;
  for (struct mutator *m = here; m != NULL; m = m->next_here)
    if (m->waits) stall_end(&(struct stall){m, GCH_STALL_FORK, true, start});
}

/* --- parent --------------------------------------------------------------------------------------------------- */

/* A byte, or the end of the pipe: the child is gone, or there never was one. */
static void wait_for_child(void) {
  char byte;
  if (told[0] < 0) return;
  close(told[1]);
  while (read(told[0], &byte, 1) < 0 && errno == EINTR) {
  }
  close(told[0]);
}

static void parent(void) {
  wait_for_child();
  lock_let(faults_install_lock());
  let_all();
  lock_let(&fork_lock);
  mutators_leave_native();
}

/* --- child ---------------------------------------------------------------------------------------------------- */

static void note_broken(gch_heap *h, const gch_error *error) {
  snprintf(h->broken, sizeof h->broken, "%.159s", error->message);
  mutator_retire_buffers(h); /* the next allocation looks here */
}

static void inherit_memory(gch_heap *h) {
  gch_error error = {0};
  kernel_after_fork(&h->kernel);
  h->pid = (uint64_t)getpid();
  if (ring_file_inherit(h, &error) != GCH_OK) note_broken(h, &error);
  if (h->broken[0] != 0) return;
  if (h->mover->inherit != NULL && h->mover->inherit(h, told[0] >= 0, &error) != GCH_OK) note_broken(h, &error);
  if (h->broken[0] == 0) large_forget_births(h); /* threads that are not here had begun them */
}

static void renew_locks(gch_heap *h, bool are_held) {
  struct lock *locks[LOCKS_MAX];
  uint32_t count = leaf_locks(h, locks);
  locks[count++] = &h->world.mutators_lock;
  locks[count++] = &h->cycle_lock;
  for (uint32_t i = 0; i < count; i++) {
    if (are_held) lock_let(locks[i]);
    lock_renew(locks[i]);
  }
  cond_renew(&h->world.stopped);
  cond_renew(&h->world.resumed);
  cond_renew(&h->cycle_done);
}

static bool is_mine(const struct mutator *m) {
  const struct mutator *own = mutators_here();
  while (own != NULL && own != m) own = own->next_here;
  return own != NULL;
}

/* The records of the others stay (their holders may still detach them), but the heap knows them no more. */
static void drop_mutators(gch_heap *h) {
  struct mutator *all = h->world.mutators;
  uint32_t count = 0;
  h->world.mutators = NULL;
  for (struct mutator *m = all, *next; m != NULL; m = next) {
    next = m->next;
    m->next = NULL;
    m->pub.poll = 0;
    if (!is_mine(m)) {
      mutator_sync_one(h, m);
      m->pub.frames = NULL;
      m->buffer[0] = m->buffer[1] = 0;
      at_store(&m->stalled_since, 0); /* nobody is there to end it */
      continue;
    }
    at_store(&m->thread, thread_id());
    m->next = h->world.mutators;
    h->world.mutators = m;
    count++;
  }
  at_store(&h->world.mutator_count, count);
}

static void forget_threads(gch_heap *h, bool are_held) {
  renew_locks(h, are_held);
  drop_mutators(h);
  h->waiters = (struct waiters){0};
  stall_log_end(h, 0); /* a major may have been running */
  at_store_seq(&h->world.stop, 0);
  h->drive.busy = h->drive.wanted = 0;
  at_store_seq(&h->world.markers, 0); /* one that came too late may have been counted for a moment */
  claims_forget(h);
  reserve_forget(h);
  controller_forget(h);
  faults_forget(h);
  team_forget(h);
  watchdog_forget(h);
  sampler_forget(h);
}

static void start_threads(gch_heap *h) {
  gch_error error = {0};
  forget_threads(h, true);
  if (h->broken[0] != 0) return;
  cycle_inherit(h);
  gch_status status = team_start(h, &error);
  if (status == GCH_OK) status = faults_start(h, &error);
  if (status == GCH_OK) status = watchdog_start(h, &error);
  if (status == GCH_OK) status = sampler_start(h, &error);
  if (status == GCH_OK) status = controller_start(h, &error);
  if (status != GCH_OK) note_broken(h, &error);
}

/* Heaps that were not to be had: in whatever state they are, nobody is to use them, least of all memory shared with the parent. */
static void give_up_others(void) {
  for (uint32_t i = 0; i < registry_top(); i++) {
    gch_heap *h = registry_at(i);
    gch_error error = {.message = "not all of its threads stopped in time"};
    if (h == NULL || is_held(i) || h->pid != parent_pid) continue;
    kernel_after_fork(&h->kernel);
    h->pid = (uint64_t)getpid();
    (void)ring_file_inherit(h, &(gch_error){0});
    if (h->shared_fd >= 0) h->mover->inherit(h, false, &(gch_error){0});
    note_broken(h, &error);
    forget_threads(h, false);
  }
}

static void tell_parent(void) {
  char byte = 0;
  if (told[0] < 0) return;
  close(told[0]);
  while (write(told[1], &byte, 1) < 0 && errno == EINTR) {
  }
  close(told[1]);
}

static void child(void) {
  forked_ns = clock_ns();
  registry_forget();
  for (uint32_t i = 0; i < held_count; i++) inherit_memory(held[i].heap);
  give_up_others();
  tell_parent();
  lock_let(faults_install_lock());
  lock_renew(faults_install_lock());
  for (; held_count > 0; held_count--) {
    start_threads(held[held_count - 1].heap);
    registry_release(held[held_count - 1].slot);
  }
  lock_let(&fork_lock);
  lock_renew(&fork_lock);
  for (struct mutator *m = mutators_here(); m != NULL; m = m->next_here)
    if (m->waits) stall_count(m->pub.heap, m, GCH_STALL_FORK, forked_ns, clock_ns());
  mutators_leave_native();
}

/* --- heaps ---------------------------------------------------------------------------------------------------- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int installed; /* what pthread_atfork answered */

static void install(void) { installed = pthread_atfork(prepare, parent, child); }

gch_status fork_watch(gch_heap *h, gch_error *error) {
  pthread_once(&once, install);
  if (installed != 0) return error_set(error, GCH_NO_MEMORY, "%s", "no memory for the handlers of fork()");
  if (!registry_add(h))
    return error_set(error, GCH_NO_MEMORY, "there are %d heaps already, the most there can be", REGISTRY_MAX);
  return GCH_OK;
}

void fork_unwatch(gch_heap *h) { registry_remove(h); }

bool fork_is_home(const gch_heap *h) { return h->pid == (uint64_t)getpid(); }

gch_status fork_check(const gch_heap *h, gch_error *error) {
  if (gch_unlikely(h->broken[0] != 0))
    return error_set(error, GCH_BAD_STATE, "the heap did not survive fork(): %s", h->broken);
  if (gch_unlikely(!fork_is_home(h)))
    return error_set(error, GCH_BAD_STATE, "the heap belongs to process %llu; this one was made without fork()",
                     (unsigned long long)h->pid);
  return GCH_OK;
}
