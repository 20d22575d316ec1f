/* Mutexes with ranks, condition variables on CLOCK_MONOTONIC, and the pause of a spin loop.
 *
 * Ranks: a thread takes locks in strictly ascending rank. GCH_VERIFY builds check it, and that whoever unlocks
 * holds; other builds pay nothing. trylock is exempt from the order (it cannot wait), but is tracked. Nothing
 * here may be used in a signal handler. */
#ifndef GCH_BASE_LOCK_H
#define GCH_BASE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct lock {
  pthread_mutex_t mutex;
  uint32_t rank;    /* [const] */
  const char *name; /* [const] a string that outlives the lock */
};

struct cond {
  pthread_cond_t cond;
};

void lock_init(struct lock *lock, uint32_t rank, const char *name);
void lock_destroy(struct lock *lock);
void lock_lock(struct lock *lock);
bool lock_try(struct lock *lock);
void lock_unlock(struct lock *lock);
/* GCH_VERIFY builds: aborts unless the calling thread holds the lock / holds no lock at all. Else nothing. */
void lock_assert_held(const struct lock *lock);
void lock_assert_none(void);

void cond_init(struct cond *cond);
void cond_destroy(struct cond *cond);
void cond_wait(struct cond *cond, struct lock *lock);
/* Waits until signalled or clock_ns() reaches the deadline; false if it was the deadline. May wake early. */
bool cond_wait_until(struct cond *cond, struct lock *lock, uint64_t deadline_ns);
/* For fork() only, which takes many locks of one rank: outside the order of ranks, and not tracked. False: the lock was not to
 * be had by the deadline (UINT64_MAX: waits). cond_wait_held is cond_wait_until with a lock held like that. */
bool lock_hold(struct lock *lock, uint64_t deadline_ns);
void lock_let(struct lock *lock);
bool cond_wait_held(struct cond *cond, struct lock *lock, uint64_t deadline_ns);
/* In the child of fork(): as new, whoever held it or waited for it in the parent. */
void lock_renew(struct lock *lock);
void cond_renew(struct cond *cond);

void cond_signal(struct cond *cond);
void cond_broadcast(struct cond *cond);

static inline void spin_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ __volatile__("yield" ::: "memory");
#else
  __asm__ __volatile__("" ::: "memory");
#endif
}

#endif
