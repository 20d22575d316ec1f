/* Atomic accesses, type-generic over integers and pointers. Without a suffix a load is acquire, a store is
 * release, a read-modify-write is both; `_relaxed` and `_seq` say otherwise, and their users say why.
 *
 * Read-modify-writes return the value before. at_cas is strong, takes a pointer to the expected value, which it
 * overwrites with what it found on failure, and returns whether it stored. */
#ifndef GCH_BASE_ATOMIC_H
#define GCH_BASE_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#define at_load(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define at_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define at_load_seq(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)

#define at_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define at_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define at_store_seq(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)

#define at_add(p, v) __atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL)
#define at_add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define at_add_seq(p, v) __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define at_sub(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_ACQ_REL)
#define at_sub_seq(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_SEQ_CST)
#define at_sub_relaxed(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED)
#define at_or(p, v) __atomic_fetch_or((p), (v), __ATOMIC_ACQ_REL)
#define at_or_relaxed(p, v) __atomic_fetch_or((p), (v), __ATOMIC_RELAXED)
#define at_and(p, v) __atomic_fetch_and((p), (v), __ATOMIC_ACQ_REL)
#define at_and_relaxed(p, v) __atomic_fetch_and((p), (v), __ATOMIC_RELAXED)
#define at_xchg(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
#define at_xchg_seq(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)

#define at_cas(p, expected, desired) \
  __atomic_compare_exchange_n((p), (expected), (desired), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
#define at_cas_relaxed(p, expected, desired) \
  __atomic_compare_exchange_n((p), (expected), (desired), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
#define at_cas_seq(p, expected, desired) \
  __atomic_compare_exchange_n((p), (expected), (desired), false, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE)

/* Fences. ThreadSanitizer does not model fences: there they are a read-modify-write of a word of their own,
 * which orders at least as much. */
#ifdef __SANITIZE_THREAD__
#define GCH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GCH_TSAN 1
#endif
#endif

#ifdef GCH_TSAN
extern uint32_t at_fence_word;
static inline void at_fence_seq(void) { (void)__atomic_fetch_add(&at_fence_word, 0, __ATOMIC_SEQ_CST); }
static inline void at_fence_acq(void) { (void)__atomic_fetch_add(&at_fence_word, 0, __ATOMIC_ACQUIRE); }
static inline void at_fence_rel(void) { (void)__atomic_fetch_add(&at_fence_word, 0, __ATOMIC_RELEASE); }
#else
static inline void at_fence_seq(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void at_fence_acq(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
static inline void at_fence_rel(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }
#endif

#endif
