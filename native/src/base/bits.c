/* Range operations on bit maps, a word at a time. See bits.h. */
#include "base/bits.h"

#include <string.h>

uint64_t bits_find_prev(const uint64_t *words, uint64_t bit, uint64_t lowest) {
  if (bit < lowest) return BITS_NONE;
  uint64_t index = bit / 64;
  uint64_t word = words[index] & bits_mask(0, (uint32_t)(bit % 64) + 1);
  while (word == 0) {
    if (index == lowest / 64) return BITS_NONE;
    word = words[--index];
  }
  uint64_t found = index * 64 + log2_floor(word);
  return found >= lowest ? found : BITS_NONE;
}

/* The least bit in [bit, end) whose value differs from `flip`'s bits: flip = 0 finds set, ~0 finds clear bits. Relaxed: others
 * may be setting bits, and who minds looks again. */
static uint64_t find_forward(const uint64_t *words, uint64_t bit, uint64_t end, uint64_t flip) {
  if (bit >= end) return BITS_NONE;
  uint64_t index = bit / 64, last = (end - 1) / 64;
  uint64_t word = (at_load_relaxed(&words[index]) ^ flip) & ~bits_mask(0, (uint32_t)(bit % 64));
  while (word == 0) {
    if (index == last) return BITS_NONE;
    word = at_load_relaxed(&words[++index]) ^ flip;
  }
  uint64_t found = index * 64 + ctz64(word);
  return found < end ? found : BITS_NONE;
}

uint64_t bits_find_next(const uint64_t *words, uint64_t bit, uint64_t end) { return find_forward(words, bit, end, 0); }

uint64_t bits_find_next_clear(const uint64_t *words, uint64_t bit, uint64_t end) {
  return find_forward(words, bit, end, ~(uint64_t)0);
}

/* A range as the parts of its first and last word and the whole words between. */
struct span {
  uint64_t first, last; /* words; where equal, `head` is the whole range and `tail` is 0 */
  uint64_t head, tail;  /* masks */
};

static struct span span_of(uint64_t begin, uint64_t end) {
  struct span s = {begin / 64, (end - 1) / 64, 0, 0};
  uint32_t low = (uint32_t)(begin % 64), high = (uint32_t)((end - 1) % 64) + 1;
  s.head = s.first == s.last ? bits_mask(low, high) : bits_mask(low, 64);
  s.tail = s.first == s.last ? 0 : bits_mask(0, high);
  return s;
}

void bits_set_range(uint64_t *words, uint64_t begin, uint64_t end) {
  if (begin >= end) return;
  struct span s = span_of(begin, end);
  words[s.first] |= s.head;
  for (uint64_t i = s.first + 1; i < s.last; i++) words[i] = ~(uint64_t)0;
  if (s.tail != 0) words[s.last] |= s.tail;
}

void bits_clear_range(uint64_t *words, uint64_t begin, uint64_t end) {
  if (begin >= end) return;
  struct span s = span_of(begin, end);
  words[s.first] &= ~s.head;
  for (uint64_t i = s.first + 1; i < s.last; i++) words[i] = 0;
  if (s.tail != 0) words[s.last] &= ~s.tail;
}

uint64_t bits_count_range(const uint64_t *words, uint64_t begin, uint64_t end) {
  if (begin >= end) return 0;
  struct span s = span_of(begin, end);
  uint64_t count = popcount64(words[s.first] & s.head);
  for (uint64_t i = s.first + 1; i < s.last; i++) count += popcount64(words[i]);
  if (s.tail != 0) count += popcount64(words[s.last] & s.tail);
  return count;
}

/* `count` (1 to 64) bits from `bit` on, in the low end of the result; reads no word beyond the last bit. */
static uint64_t read_bits(const uint64_t *words, uint64_t bit, uint32_t count) {
  uint64_t index = bit / 64;
  uint32_t shift = (uint32_t)(bit % 64);
  uint64_t value = words[index] >> shift;
  if (shift + count > 64) value |= words[index + 1] << (64 - shift);
  return value & bits_mask(0, count);
}

void bits_copy_range(uint64_t *to, uint64_t to_bit, const uint64_t *from, uint64_t from_bit, uint64_t count) {
  while (count > 0) {
    uint32_t at = (uint32_t)(to_bit % 64);
    if (at == 0 && from_bit % 64 == 0 && count >= 64) {
      uint64_t whole = count / 64;
      memcpy(to + to_bit / 64, from + from_bit / 64, whole * 8);
      to_bit += whole * 64;
      from_bit += whole * 64;
      count -= whole * 64;
      continue;
    }
    uint32_t n = count < 64 - at ? (uint32_t)count : 64 - at;
    uint64_t mask = bits_mask(at, at + n);
    uint64_t *word = &to[to_bit / 64];
    *word = (*word & ~mask) | (read_bits(from, from_bit, n) << at);
    to_bit += n;
    from_bit += n;
    count -= n;
  }
}
