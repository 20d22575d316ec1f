/* What somebody has lost, as spans of time, and how little of a window is left: minimum mutator utilisation.
 *
 * Cheng and Blelloch, "A parallel, real-time garbage collector", 2001: the utilisation of a window is the share of it that the
 * mutator had to itself; the minimum is over all windows of that width. What is lost in [t, t + width) is, as a function of t,
 * made of straight lines; where it is greatest, the window begins with a span or ends with one, or lies at an end of the time that is
 * looked at. So it is enough to look at two windows a span. */
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

/* Of disjoint spans in order: the window of this width within [from, to) in which most is lost, one that begins or ends with a
 * span if there is something to lose. width <= to - from. */
struct window worst_window(const struct span *spans, size_t count, uint64_t from, uint64_t to, uint64_t width);

/* What is lost in [from, to), added to `lost` by kind. */
void spans_sum(const struct span *spans, size_t count, uint64_t from, uint64_t to, uint64_t *lost);

#endif
