#include "base/utilisation.h"

#include <stdbool.h>
#include <stdlib.h>

/* --- spans ---------------------------------------------------------------------------------------------------- */

static int by_start(const void *a, const void *b) {
  const struct span *x = a, *y = b;
  if (x->start != y->start) return x->start < y->start ? -1 : 1;
  return x->end > y->end ? -1 : x->end < y->end;
}

static bool in_order(const struct span *spans, size_t count) {
  for (size_t i = 1; i < count; i++)
    if (by_start(&spans[i - 1], &spans[i]) > 0) return false;
  return true;
}

size_t spans_flatten(struct span *spans, size_t count) {
  size_t kept = 0;
  uint64_t covered = 0; /* so far: up to here */
  if (!in_order(spans, count)) qsort(spans, count, sizeof *spans, by_start);
  for (size_t i = 0; i < count; i++) {
    struct span s = spans[i];
    if (s.start < covered) s.start = covered;
    if (s.start >= s.end) continue;
    spans[kept++] = s;
    covered = s.end;
  }
  return kept;
}

void spans_sum(const struct span *spans, size_t count, uint64_t from, uint64_t to, uint64_t *lost) {
  for (size_t i = 0; i < count; i++) {
    uint64_t start = spans[i].start > from ? spans[i].start : from, end = spans[i].end < to ? spans[i].end : to;
    if (start < end) lost[spans[i].what] += end - start;
  }
}

/* --- windows -------------------------------------------------------------------------------------------------- */

/* Sums up what is lost before a moment; moments never go back. */
struct sum {
  const struct span *at, *end;
  uint64_t whole; /* of the spans before `at` */
};

static uint64_t lost_before(struct sum *s, uint64_t moment) {
  for (; s->at < s->end && s->at->end <= moment; s->at++) s->whole += s->at->end - s->at->start;
  return s->whole + (s->at < s->end && s->at->start < moment ? moment - s->at->start : 0);
}

struct window worst_window(const struct span *spans, size_t count, uint64_t from, uint64_t to, uint64_t width) {
  struct sum before = {spans, spans + count, 0}, behind = before;
  struct window worst = {from, 0};
  for (size_t i = 0; i < count; i++) {
    uint64_t start = spans[i].start < from ? from : spans[i].start > to - width ? to - width : spans[i].start;
    uint64_t lost = lost_before(&behind, start + width) - lost_before(&before, start);
    if (lost > worst.lost) worst = (struct window){start, lost};
  }
  return worst;
}
