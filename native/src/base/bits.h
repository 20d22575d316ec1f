/* Arithmetic on powers of two, and bit maps in arrays of 64-bit words.
 *
 * Bit i of a map is bit i % 64 of word i / 64, so ascending bits are ascending addresses. Ranges are half-open,
 * [begin, end), in bits. Functions named `_atomic` may race with each other on the same word; all others need
 * the word to themselves, but leave bits outside their range as they are. Single-bit functions are inline, range
 * functions work a word at a time and are in bits.c. */
#ifndef GCH_BASE_BITS_H
#define GCH_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"

#define BITS_NONE UINT64_MAX /* no such bit */

static inline uint64_t align_down(uint64_t value, uint64_t power) { return value & ~(power - 1); }
static inline uint64_t align_up(uint64_t value, uint64_t power) { return (value + power - 1) & ~(power - 1); }
static inline bool is_aligned(uint64_t value, uint64_t power) { return (value & (power - 1)) == 0; }
static inline bool is_pow2(uint64_t value) { return value != 0 && (value & (value - 1)) == 0; }
static inline uint64_t div_ceil(uint64_t value, uint64_t by) { return value / by + (value % by != 0); }

/* Undefined for 0, as the builtins are. */
static inline uint32_t ctz64(uint64_t value) { return (uint32_t)__builtin_ctzll(value); }
static inline uint32_t clz64(uint64_t value) { return (uint32_t)__builtin_clzll(value); }
static inline uint32_t popcount64(uint64_t value) { return (uint32_t)__builtin_popcountll(value); }
static inline uint32_t log2_floor(uint64_t value) { return 63 - clz64(value); }
static inline uint32_t log2_ceil(uint64_t value) { return value <= 1 ? 0 : log2_floor(value - 1) + 1; }
/* The smallest power of two >= value; 1 for 0; value <= 2^63. */
static inline uint64_t ceil_pow2(uint64_t value) { return (uint64_t)1 << log2_ceil(value); }

/* A word with bits [begin, end) set; 0 <= begin <= end <= 64. */
static inline uint64_t bits_mask(uint32_t begin, uint32_t end) {
  return begin >= end ? 0 : (~(uint64_t)0 >> (64 - (end - begin))) << begin;
}

/* Takes the lowest run of set bits out of a word that is not 0: how many they are; the first of them in *from. */
static inline uint32_t bits_take_run(uint32_t *word, uint32_t *from) {
  *from = ctz64(*word);
  uint32_t bits = ctz64(~((uint64_t)*word >> *from));
  *word &= ~(uint32_t)bits_mask(*from, *from + bits);
  return bits;
}

static inline uint64_t bits_words(uint64_t bits) { return div_ceil(bits, 64); }

static inline bool bits_test(const uint64_t *words, uint64_t bit) { return words[bit / 64] >> (bit % 64) & 1; }
static inline void bits_set(uint64_t *words, uint64_t bit) { words[bit / 64] |= (uint64_t)1 << (bit % 64); }
static inline void bits_clear(uint64_t *words, uint64_t bit) { words[bit / 64] &= ~((uint64_t)1 << (bit % 64)); }

static inline bool bits_test_atomic(const uint64_t *words, uint64_t bit) {
  return at_load(&words[bit / 64]) >> (bit % 64) & 1;
}
static inline bool bits_test_relaxed(const uint64_t *words, uint64_t bit) {
  return at_load_relaxed(&words[bit / 64]) >> (bit % 64) & 1; /* relaxed: the name says so, callers say why */
}
/* Whether this call is the one that set the bit. A set bit costs a load only. */
static inline bool bits_set_atomic(uint64_t *words, uint64_t bit) {
  uint64_t one = (uint64_t)1 << (bit % 64);
  if (at_load(&words[bit / 64]) & one) return false;
  return (at_or(&words[bit / 64], one) & one) == 0;
}
/* The same with relaxed order, for marking: what the bit publishes is published by the work queue. */
static inline bool bits_set_relaxed(uint64_t *words, uint64_t bit) {
  uint64_t one = (uint64_t)1 << (bit % 64);
  if (at_load_relaxed(&words[bit / 64]) & one) return false;
  return (at_or_relaxed(&words[bit / 64], one) & one) == 0;
}
/* In a word that nobody else writes, but others may read at any time: what was done before is seen by who sees the bit. */
static inline void bits_set_own(uint64_t *words, uint64_t bit) {
  uint64_t *word = &words[bit / 64];
  at_store(word, at_load_relaxed(word) | (uint64_t)1 << (bit % 64)); /* relaxed: it is our own */
}
/* Whether this call is the one that cleared the bit. */
static inline bool bits_clear_atomic(uint64_t *words, uint64_t bit) {
  uint64_t one = (uint64_t)1 << (bit % 64);
  return (at_and(&words[bit / 64], ~one) & one) != 0;
}

/* The greatest set bit in [lowest, bit], or BITS_NONE. */
uint64_t bits_find_prev(const uint64_t *words, uint64_t bit, uint64_t lowest);
/* The least set bit in [bit, end), or BITS_NONE. */
uint64_t bits_find_next(const uint64_t *words, uint64_t bit, uint64_t end);
/* The least clear bit in [bit, end), or BITS_NONE. */
uint64_t bits_find_next_clear(const uint64_t *words, uint64_t bit, uint64_t end);

void bits_set_range(uint64_t *words, uint64_t begin, uint64_t end);
void bits_clear_range(uint64_t *words, uint64_t begin, uint64_t end);
uint64_t bits_count_range(const uint64_t *words, uint64_t begin, uint64_t end);
/* Copies `count` bits; any alignment on both sides, the maps must not overlap. memcpy where both are aligned. */
void bits_copy_range(uint64_t *to, uint64_t to_bit, const uint64_t *from, uint64_t from_bit, uint64_t count);

#endif
