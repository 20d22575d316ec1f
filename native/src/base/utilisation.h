/* What somebody has lost, as spans of time, and how little of a window is left: minimum mutator utilisation.
 *
 * Cheng and Blelloch, "A parallel, real-time garbage collector", 2001: the utilisation of a window is the share of it that the
 * mutator had to itself; the minimum is over all windows of that width. It is enough to look at a window a span, the one that begins with
 * it (or as near as there is room). For any other can be shifted to one of those and loses no less: one that begins within a
 * span to the left, to the span's start, as each moment that is left behind is made up for by one that is lost; one that begins between
 * spans to the right, to the next one's start. */
#ifndef GCH_BASE_UTILISATION_H
#define GCH_BASE_UTILISATION_H

#include <stddef.h>
#include <stdint.h>

struct span {
  uint64_t start, end; /* [start, end) */
  uint32_t what;
};

struct window {
  uint64_t start;
  uint64_t lost;
};

/* Spans in any order, which may lie in each other and overlap, become disjoint ones in order, that cover the same; returns how
 * many they are. What several cover is of the kind of the one that began first (of the longest of those). */
size_t spans_flatten(struct span *spans, size_t count);

/* Of disjoint spans in order: the window of this width within [from, to) in which most is lost. width <= to - from. */
struct window worst_window(const struct span *spans, size_t count, uint64_t from, uint64_t to, uint64_t width);

/* What is lost in [from, to), added to `lost` by kind. */
void spans_sum(const struct span *spans, size_t count, uint64_t from, uint64_t to, uint64_t *lost);

#endif
