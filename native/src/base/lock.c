/* Mutexes with ranks and condition variables. See lock.h. */
#include "base/lock.h"

#include <errno.h>
#include <stddef.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"

#ifdef GCH_VERIFY
#define HELD_MAX 16
/* The locks that this thread holds, in the order in which it took them. */
static _Thread_local const struct lock *held[HELD_MAX];
static _Thread_local uint32_t held_count;

static void rank_check(const struct lock *lock) {
  for (uint32_t i = 0; i < held_count; i++)
    GCH_CHECK(held[i]->rank < lock->rank, "lock %s (rank %u) is taken while %s (rank %u) is held", lock->name,
              lock->rank, held[i]->name, held[i]->rank);
}

static void rank_push(const struct lock *lock) {
  GCH_CHECK(held_count < HELD_MAX, "lock %s is the %dth one held by this thread", lock->name, HELD_MAX + 1);
  held[held_count++] = lock;
}

static bool rank_holds(const struct lock *lock) {
  for (uint32_t i = 0; i < held_count; i++)
    if (held[i] == lock) return true;
  return false;
}

static void rank_pop(const struct lock *lock) {
  uint32_t i = held_count;
  while (i > 0 && held[i - 1] != lock) i--;
  GCH_CHECK(i > 0, "lock %s is released by a thread that does not hold it", lock->name);
  for (; i < held_count; i++) held[i - 1] = held[i];
  held_count--;
}

void lock_assert_held(const struct lock *lock) {
  GCH_CHECK(rank_holds(lock), "lock %s is not held by this thread", lock->name);
}

void lock_assert_none(void) { GCH_CHECK(held_count == 0, "lock %s is held where none may be", held[0]->name); }
#else
static void rank_check(const struct lock *lock) { (void)lock; }
static void rank_push(const struct lock *lock) { (void)lock; }
static void rank_pop(const struct lock *lock) { (void)lock; }
void lock_assert_held(const struct lock *lock) { (void)lock; }
void lock_assert_none(void) {}
#endif

void lock_init(struct lock *lock, uint32_t rank, const char *name) {
  int error = pthread_mutex_init(&lock->mutex, NULL);
  GCH_CHECK(error == 0, "pthread_mutex_init for lock %s answered %d", name, error);
  lock->rank = rank;
  lock->name = name;
}

void lock_destroy(struct lock *lock) {
  int error = pthread_mutex_destroy(&lock->mutex);
  GCH_CHECK(error == 0, "lock %s is destroyed while in use (%d)", lock->name, error);
}

void lock_lock(struct lock *lock) {
  rank_check(lock);
  int error = pthread_mutex_lock(&lock->mutex);
  GCH_CHECK(error == 0, "pthread_mutex_lock of %s answered %d", lock->name, error);
  rank_push(lock);
}

bool lock_try(struct lock *lock) {
  int error = pthread_mutex_trylock(&lock->mutex);
  GCH_CHECK(error == 0 || error == EBUSY, "pthread_mutex_trylock of %s answered %d", lock->name, error);
  if (error != 0) return false;
  rank_push(lock);
  return true;
}

void lock_unlock(struct lock *lock) {
  rank_pop(lock);
  int error = pthread_mutex_unlock(&lock->mutex);
  GCH_CHECK(error == 0, "pthread_mutex_unlock of %s answered %d", lock->name, error);
}

void cond_init(struct cond *cond) {
  pthread_condattr_t attributes;
  int error = pthread_condattr_init(&attributes);
  if (error == 0) error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  if (error == 0) error = pthread_cond_init(&cond->cond, &attributes);
  GCH_CHECK(error == 0, "a condition variable cannot be made: %d", error);
  (void)pthread_condattr_destroy(&attributes);
}

void cond_destroy(struct cond *cond) { (void)pthread_cond_destroy(&cond->cond); }

void cond_wait(struct cond *cond, struct lock *lock) {
  lock_assert_held(lock);
  int error = pthread_cond_wait(&cond->cond, &lock->mutex);
  GCH_CHECK(error == 0, "pthread_cond_wait with %s answered %d", lock->name, error);
}

bool cond_wait_until(struct cond *cond, struct lock *lock, uint64_t deadline_ns) {
  lock_assert_held(lock);
  struct timespec at = {(time_t)(deadline_ns / 1000000000u), (long)(deadline_ns % 1000000000u)};
  int error = pthread_cond_timedwait(&cond->cond, &lock->mutex, &at);
  GCH_CHECK(error == 0 || error == ETIMEDOUT, "pthread_cond_timedwait with %s answered %d", lock->name, error);
  return error == 0;
}

/* --- fork ------------------------------------------------------------------------------------------------------- */

enum { HOLD_RETRY_NS = 50000 };

bool lock_hold(struct lock *lock, uint64_t deadline_ns) {
  int error;
  if (deadline_ns == UINT64_MAX) {
    error = pthread_mutex_lock(&lock->mutex);
  } else {
    while ((error = pthread_mutex_trylock(&lock->mutex)) == EBUSY && clock_ns() < deadline_ns)
      (void)nanosleep(&(struct timespec){0, HOLD_RETRY_NS}, NULL);
  }
  GCH_CHECK(error == 0 || error == EBUSY, "lock %s for fork() answered %d", lock->name, error);
  return error == 0;
}

void lock_let(struct lock *lock) { (void)pthread_mutex_unlock(&lock->mutex); }

bool cond_wait_held(struct cond *cond, struct lock *lock, uint64_t deadline_ns) {
  if (deadline_ns == UINT64_MAX) return pthread_cond_wait(&cond->cond, &lock->mutex) == 0;
  struct timespec at = {(time_t)(deadline_ns / 1000000000u), (long)(deadline_ns % 1000000000u)};
  return pthread_cond_timedwait(&cond->cond, &lock->mutex, &at) == 0;
}

void lock_renew(struct lock *lock) { lock_init(lock, lock->rank, lock->name); }
void cond_renew(struct cond *cond) { cond_init(cond); }

void cond_signal(struct cond *cond) { (void)pthread_cond_signal(&cond->cond); }
void cond_broadcast(struct cond *cond) { (void)pthread_cond_broadcast(&cond->cond); }
