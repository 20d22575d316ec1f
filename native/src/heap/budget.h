/* One budget for several heaps: policy only, so it can be simulated (tests/test_budget_shared.c).
 *
 * A heap that may grow by E beyond what lives in it, L, is collected every E / g seconds (g: bytes a second by which it grows), and
 * each time L / s seconds are spent (s: bytes a second that are collected). So it costs L g / (s E) of a CPU, and a byte more
 * saves L g / (s E^2). With E = c sqrt(L g / s) that is the same for all heaps, and no byte would save more elsewhere: the
 * square-root rule (Kirisame, Shenoy, Panchekha: Optimal heap limits for reducing browser memory use, OOPSLA 2022). Theirs
 * has c as a constant; here c is what makes the sum of all L + E the budget. Each heap has a least and a most for its E; what
 * one cannot take, the others share. */
#ifndef HEAP_BUDGET_H
#define HEAP_BUDGET_H

#include <stddef.h>
#include <stdint.h>

/* What a heap says of itself; bytes. */
struct budget_claim {
  uint64_t live;        /* by its last major */
  uint64_t weight;      /* what its E is in proportion to; 0: it does not grow */
  uint64_t least, most; /* that it may grow by */
};

/* 2^20 sqrt(L g / s), of bytes, bytes a second, and how many ns a MiB takes to be collected. */
uint64_t budget_weight(uint64_t live, uint64_t growth, uint64_t cost);
/* The weight if nothing has been heard of the heap for so long: it cannot have grown much. */
uint64_t budget_aged(uint64_t weight, uint64_t ns);
/* How much heap `own` may grow by: its least, if the budget is used up by what lives. */
uint64_t budget_extra(uint64_t budget, const struct budget_claim *claims, size_t count, size_t own);

#endif
