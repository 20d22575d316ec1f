/* Minimum utilisation against every window there is, one by one. */
#include "base/utilisation.h"

#include <stdbool.h>

#include "check.h"

enum { TIME = 160, SPANS = 24, KINDS = 3 };

static uint64_t random_state = 88172645463325252u;
static uint64_t draw(uint64_t n) {
  uint64_t x = random_state;
  x ^= x << 13, x ^= x >> 7, x ^= x << 17;
  random_state = x;
  return x % n;
}

/* Spans anywhere, in no order, on each other. */
static size_t some_spans(struct span *spans) {
  size_t count = draw(SPANS + 1);
  for (size_t i = 0; i < count; i++) {
    uint64_t start = draw(TIME), most = draw(3) == 0 ? 60 : 6, end = start + draw(most);
    spans[i] = (struct span){start, end < TIME ? end : TIME, (uint32_t)draw(KINDS)};
  }
  return count;
}

static void paint(const struct span *spans, size_t count, bool *lost) {
  memset(lost, 0, TIME * sizeof *lost);
  for (size_t i = 0; i < count; i++)
    for (uint64_t t = spans[i].start; t < spans[i].end; t++) lost[t] = true;
}

static uint64_t count_lost(const bool *lost, uint64_t from, uint64_t to) {
  uint64_t count = 0;
  for (uint64_t t = from; t < to; t++) count += lost[t];
  return count;
}

static struct window try_all(const bool *lost, uint64_t from, uint64_t to, uint64_t width) {
  struct window worst = {from, 0};
  for (uint64_t t = from; t + width <= to; t++)
    if (count_lost(lost, t, t + width) > worst.lost) worst = (struct window){t, count_lost(lost, t, t + width)};
  return worst;
}

static bool are_flat(const struct span *spans, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (spans[i].start >= spans[i].end || (i > 0 && spans[i].start < spans[i - 1].end)) return false;
  return true;
}

static void every_window(void) {
  for (int round = 0; round < 20000; round++) {
    struct span spans[SPANS];
    bool lost[TIME], flat[TIME];
    size_t count = some_spans(spans);
    paint(spans, count, lost);
    count = spans_flatten(spans, count);
    paint(spans, count, flat);
    if (!CHECK(are_flat(spans, count)) || !CHECK(memcmp(lost, flat, sizeof lost) == 0)) return;
    uint64_t from = draw(TIME - 1), to = from + 1 + draw(TIME - from), width = 1 + draw(to - from);
    struct window found = worst_window(spans, count, from, to, width), worst = try_all(lost, from, to, width);
    if (!CHECK_EQ(found.lost, worst.lost)) return;
    if (!CHECK(found.start >= from && found.start + width <= to)) return; /* it may be another of those */
    if (!CHECK_EQ(count_lost(lost, found.start, found.start + width), worst.lost)) return;
    uint64_t sums[KINDS] = {0};
    spans_sum(spans, count, from, to, sums);
    if (!CHECK_EQ(sums[0] + sums[1] + sums[2], count_lost(lost, from, to))) return;
  }
}

static void kinds(void) {
  struct span spans[] = {{30, 40, 2}, {10, 50, 1}, {45, 60, 0}, {10, 12, 2}, {60, 60, 0}};
  uint64_t sums[KINDS] = {0};
  size_t count = spans_flatten(spans, 5);
  CHECK_EQ(count, 2);
  CHECK(spans[0].start == 10 && spans[0].end == 50 && spans[0].what == 1);
  CHECK(spans[1].start == 50 && spans[1].end == 60 && spans[1].what == 0);
  spans_sum(spans, count, 40, 55, sums);
  CHECK(sums[0] == 5 && sums[1] == 10 && sums[2] == 0);
}

static void nothing_lost(void) {
  struct window w = worst_window(NULL, 0, 5, 10, 5);
  CHECK(w.start == 5 && w.lost == 0);
  CHECK_EQ(spans_flatten(NULL, 0), 0);
  struct span outside = {20, 30, 0};
  w = worst_window(&outside, 1, 5, 10, 2);
  CHECK_EQ(w.lost, 0);
}

int main(void) {
  RUN(every_window);
  RUN(kinds);
  RUN(nothing_lost);
  return CHECK_SUMMARY();
}
