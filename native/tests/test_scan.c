/* Which words are visited: fixed offsets, far ones, tails, parts of objects, tag rules. Against a naive reading. */
#include "object/scan_inline.h"

#include "check.h"

enum { WORDS = 1024 };
static uint64_t words[WORDS];
static uint8_t seen[WORDS];

SCAN_INLINE void note(uint64_t *slot, void *context) {
  (void)context;
  seen[slot - words]++;
}

/* Is word `i` of the object a reference slot? */
static bool expected(const struct type_info *t, uint64_t tail_count, uint64_t i) {
  if (i < 64 && t->ref_bits >> i & 1) return true;
  for (uint32_t f = 0; f < t->far_count; f++)
    if (t->far_refs[f] == 8 * i) return true;
  uint64_t first = t->pub.tail_offset / 8;
  return t->tail == GCH_TAIL_REFS && i >= first && i < first + tail_count;
}

static void compare(const struct type_info *t, uint64_t tail_count, uint64_t from, uint64_t to) {
  for (uint64_t i = 0; i < WORDS; i++)
    if (!CHECK_EQ(seen[i], expected(t, tail_count, i) && i >= from && i < to)) return;
}

static const uint32_t far_offsets[] = {512, 800, 4096};
static const struct type_info TYPES[] = {
    {.pub = {.bytes = 48, .tail_offset = 40}, .ref_bits = 0x1c},
    {.pub = {.bytes = 16, .tail_offset = 16, .tail_bytes = 8}, .tail = GCH_TAIL_REFS},
    {.pub = {.bytes = 32, .tail_offset = 32, .tail_bytes = 8}, .tail = GCH_TAIL_REFS, .ref_bits = 0x4},
    {.pub = {.bytes = 32, .tail_offset = 32, .tail_bytes = 1}, .tail = GCH_TAIL_BYTES, .ref_bits = 0xc},
    {.pub = {.bytes = 4112, .tail_offset = 4104},
     .ref_bits = 0x8000000000000002u,
     .far_refs = far_offsets,
     .far_count = 3},
};

static void small_objects(void) {
  for (size_t t = 0; t < sizeof TYPES / sizeof TYPES[0]; t++)
    for (uint64_t count = 0; count < 200; count += 33) {
      uint64_t tail = TYPES[t].tail == GCH_TAIL_REFS ? count : 0;
      uint64_t header = (tail * 8) << HEADER_TAIL_SHIFT | 1;
      memset(seen, 0, sizeof seen);
      scan_small(&TYPES[t], (uintptr_t)words, header, note, NULL);
      compare(&TYPES[t], tail, 0, WORDS);
    }
}

static void parts(void) {
  for (size_t t = 0; t < sizeof TYPES / sizeof TYPES[0]; t++)
    for (uint64_t from = 0; from < WORDS; from += 61)
      for (uint64_t to = from; to < WORDS; to += 127) {
        uint64_t tail = TYPES[t].tail == GCH_TAIL_REFS ? 700 : 0;
        memset(seen, 0, sizeof seen);
        scan_object_range(&TYPES[t], (uintptr_t)words, tail, (uintptr_t)&words[from], (uintptr_t)&words[to], note,
                          NULL);
        compare(&TYPES[t], tail, from, to);
      }
}

/* Every slot that is not null is visited, each once. */
static void sparse_parts(void) {
  uint64_t state = 1;
  for (size_t t = 0; t < sizeof TYPES / sizeof TYPES[0]; t++)
    for (uint64_t from = 0; from < WORDS; from += 61)
      for (uint64_t to = from; to < WORDS; to += 127) {
        uint64_t tail = TYPES[t].tail == GCH_TAIL_REFS ? 700 : 0;
        for (uint64_t i = 0; i < WORDS; i++) words[i] = (state = state * 6364136223846793005u + 1) >> 59 == 0 ? i : 0;
        memset(seen, 0, sizeof seen);
        scan_object_refs(&TYPES[t], (uintptr_t)words, tail, (uintptr_t)&words[from], (uintptr_t)&words[to], note, NULL);
        for (uint64_t i = 0; i < WORDS; i++) {
          bool slot = expected(&TYPES[t], tail, i) && i >= from && i < to;
          if (!CHECK(seen[i] <= slot && (words[i] == 0 || seen[i] == slot))) return;
        }
      }
}

static void tags(void) {
  struct type_info plain = {.tag_mask = 0}, low = {.tag_mask = 1, .tag_value = 0},
                   high = {.tag_mask = 7, .tag_value = 5};
  CHECK(!word_is_ref(&plain, 0) && word_is_ref(&plain, 64));
  CHECK(word_is_ref(&low, 64) && !word_is_ref(&low, 65) && !word_is_ref(&low, 0) && !word_is_ref(&low, 1));
  CHECK(word_is_ref(&high, 64 | 5) && !word_is_ref(&high, 64) && !word_is_ref(&high, 5) && !word_is_ref(&high, 64 | 7));
}

static void sizes(void) {
  struct type_info t = {.pub = {.bytes = 16, .tail_offset = 11, .tail_bytes = 1}, .tail = GCH_TAIL_BYTES};
  for (uint64_t tail = 0; tail <= 8184 - 11; tail++) {
    uint64_t want = (11 + tail + 15) / 16 * 16;
    if (!CHECK_EQ(object_small_bytes(&t, tail << HEADER_TAIL_SHIFT | 3), want)) return;
  }
  CHECK_EQ(header_tail_bytes((uint64_t)8184 << HEADER_TAIL_SHIFT | HEADER_HASH_MASK | HEADER_PINNED), 8184);
  CHECK(header_is_large(HEADER_LARGE | 9) && !header_is_large((uint64_t)8191 << HEADER_TAIL_SHIFT));
}

int main(void) {
  RUN(small_objects);
  RUN(parts);
  RUN(sparse_parts);
  RUN(tags);
  RUN(sizes);
  return CHECK_SUMMARY();
}
