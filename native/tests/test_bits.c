/* Bit maps against loops over single bits, at random places and at every alignment. */
#include "base/bits.h"

#include <string.h>

#include "check.h"

#define WORDS 9
#define BITS (WORDS * 64)

static uint64_t random_state = 0x5EED;

static uint64_t next_random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

/* Random maps from nearly empty to nearly full. */
static void fill_random(uint64_t *words) {
  uint64_t density = next_random() % 4;
  for (int i = 0; i < WORDS; i++) {
    words[i] = next_random();
    if (density == 0) words[i] &= next_random() & next_random() & next_random();
    if (density == 1) words[i] |= next_random() | next_random() | next_random();
    if (density == 2 && next_random() % 2) words[i] = 0;
  }
}

static void arithmetic(void) {
  CHECK_EQ(align_up(0, 4096), 0);
  CHECK_EQ(align_up(1, 4096), 4096);
  CHECK_EQ(align_up(4096, 4096), 4096);
  CHECK_EQ(align_down(4097, 4096), 4096);
  CHECK(is_aligned(8192, 4096) && !is_aligned(8193, 4096));
  CHECK(is_pow2(1) && is_pow2((uint64_t)1 << 63) && !is_pow2(0) && !is_pow2(6));
  CHECK_EQ(ceil_pow2(0), 1);
  CHECK_EQ(ceil_pow2(1), 1);
  CHECK_EQ(ceil_pow2(5), 8);
  CHECK_EQ(ceil_pow2(8), 8);
  CHECK(ceil_pow2((uint64_t)1 << 63) == (uint64_t)1 << 63);
  CHECK_EQ(log2_floor(1), 0);
  CHECK_EQ(log2_floor(UINT64_MAX), 63);
  CHECK_EQ(log2_ceil(9), 4);
  CHECK_EQ(div_ceil(9, 4), 3);
  CHECK(div_ceil(UINT64_MAX, 2) == (uint64_t)1 << 63);
  CHECK(bits_mask(0, 64) == ~(uint64_t)0);
  CHECK_EQ(bits_mask(3, 3), 0);
  CHECK_EQ(bits_mask(1, 3), 6);
  CHECK(bits_mask(63, 64) == (uint64_t)1 << 63);
  CHECK_EQ(bits_words(65), 2);
}

static void single_bits(void) {
  uint64_t words[2] = {0, 0};
  bits_set(words, 64);
  CHECK(bits_test(words, 64) && !bits_test(words, 63) && bits_test_atomic(words, 64));
  CHECK(!bits_set_atomic(words, 64));
  CHECK(bits_set_atomic(words, 63));
  CHECK(bits_set_relaxed(words, 0) && !bits_set_relaxed(words, 0) && bits_test_relaxed(words, 0));
  CHECK(bits_clear_atomic(words, 63) && !bits_clear_atomic(words, 63));
  bits_clear(words, 64);
  CHECK_EQ(words[0], 1);
  CHECK_EQ(words[1], 0);
}

static uint64_t slow_prev(const uint64_t *words, uint64_t bit, uint64_t lowest) {
  for (uint64_t i = bit + 1; i > lowest; i--)
    if (bits_test(words, i - 1)) return i - 1;
  return BITS_NONE;
}

static uint64_t slow_next(const uint64_t *words, uint64_t bit, uint64_t end, bool value) {
  for (uint64_t i = bit; i < end; i++)
    if (bits_test(words, i) == value) return i;
  return BITS_NONE;
}

static void finding(void) {
  uint64_t words[WORDS];
  for (int round = 0; round < 20000; round++) {
    fill_random(words);
    uint64_t low = next_random() % BITS, bit = low + next_random() % (BITS - low);
    CHECK(bits_find_prev(words, bit, low) == slow_prev(words, bit, low));
    CHECK(bits_find_next(words, low, bit) == slow_next(words, low, bit, true));
    CHECK(bits_find_next_clear(words, low, bit) == slow_next(words, low, bit, false));
  }
  CHECK(bits_find_prev(words, 3, 4) == BITS_NONE);
  CHECK(bits_find_next(words, 4, 4) == BITS_NONE);
  memset(words, 0xFF, sizeof words);
  CHECK(bits_find_next_clear(words, 0, BITS) == BITS_NONE);
}

static void ranges(void) {
  uint64_t words[WORDS], set[WORDS], cleared[WORDS];
  for (int round = 0; round < 5000; round++) {
    fill_random(words);
    memcpy(set, words, sizeof words);
    memcpy(cleared, words, sizeof words);
    uint64_t begin = next_random() % (BITS + 1), end = begin + next_random() % (BITS - begin + 1);
    bits_set_range(set, begin, end);
    bits_clear_range(cleared, begin, end);
    uint64_t count = 0, wrong = 0;
    for (uint64_t i = 0; i < BITS; i++) {
      bool inside = i >= begin && i < end, was = bits_test(words, i);
      count += inside && was;
      wrong += bits_test(set, i) != (inside || was);
      wrong += bits_test(cleared, i) != (!inside && was);
    }
    CHECK_EQ(wrong, 0);
    CHECK_EQ(bits_count_range(words, begin, end), count);
  }
}

static uint64_t copy_wrong(uint64_t to_bit, uint64_t from_bit, uint64_t count) {
  uint64_t from[WORDS], to[WORDS], before[WORDS], wrong = 0;
  fill_random(from);
  fill_random(to);
  memcpy(before, to, sizeof to);
  bits_copy_range(to, to_bit, from, from_bit, count);
  for (uint64_t i = 0; i < BITS; i++) {
    bool inside = i >= to_bit && i < to_bit + count;
    wrong += bits_test(to, i) != (inside ? bits_test(from, from_bit + i - to_bit) : bits_test(before, i));
  }
  return wrong;
}

static void copying(void) {
  uint64_t wrong = 0;
  for (int round = 0; round < 5000; round++) {
    uint64_t to_bit = next_random() % BITS, from_bit = next_random() % BITS;
    uint64_t room = BITS - (to_bit > from_bit ? to_bit : from_bit);
    wrong += copy_wrong(to_bit, from_bit, next_random() % (room + 1));
  }
  for (uint64_t to_bit = 0; to_bit < 64; to_bit++)
    for (uint64_t from_bit = 0; from_bit < 64; from_bit++) wrong += copy_wrong(to_bit, from_bit, BITS - 64);
  wrong += copy_wrong(64, 128, 256) + copy_wrong(0, 0, BITS) + copy_wrong(64, 0, 100) + copy_wrong(0, 0, 0);
  CHECK_EQ(wrong, 0);
}

/* Runs come in ascending order, are as long as they can be, and are all there is. */
static void runs(void) {
  static const uint32_t some[] = {1, 0x80000000, UINT32_MAX, 0xff00ff00, 0x55555555, 0x7ffffffe, 0xc0000003};
  for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
    uint32_t rest = some[i], seen = 0, from, end = 0;
    while (rest != 0) {
      uint32_t bits = bits_take_run(&rest, &from);
      CHECK(bits > 0 && (seen == 0 || from > end));
      end = from + bits;
      CHECK_EQ(seen & (uint32_t)bits_mask(from, end), 0);
      seen |= (uint32_t)bits_mask(from, end);
    }
    CHECK_EQ(seen, some[i]);
  }
}

int main(void) {
  RUN(runs);
  RUN(arithmetic);
  RUN(single_bits);
  RUN(finding);
  RUN(ranges);
  RUN(copying);
  return CHECK_SUMMARY();
}
