#include "heap/budget.h"

#include <stdbool.h>

enum { STEPS = 100 };
static const double MIB_NS = 1048576.0 * 1e9, FADE_NS = 4e9, WEIGHT_ONE = 1048576;

/* Newton's; without libm. */
static double root_of(double square) {
  double root = square > 1 ? square : 1;
  for (double next; (next = (root + square / root) / 2) < root;) root = next;
  return square > 0 ? root : 0;
}

uint64_t budget_weight(uint64_t live, uint64_t growth, uint64_t cost) {
  double weight = root_of((double)live * (double)growth * (double)cost / MIB_NS) * WEIGHT_ONE;
  return weight < 1e18 ? (uint64_t)weight : (uint64_t)1e18;
}

uint64_t budget_aged(uint64_t weight, uint64_t ns) {
  return (uint64_t)((double)weight * root_of(FADE_NS / (FADE_NS + (double)ns) * 1e6) / 1e3);
}

static double clamp(double extra, const struct budget_claim *c) {
  double least = (double)c->least, most = (double)c->most;
  return extra < least ? least : extra > most ? most : extra;
}

static double total(const struct budget_claim *claims, size_t count, double c) {
  double sum = 0;
  for (size_t i = 0; i < count; i++) sum += clamp(c * (double)claims[i].weight, &claims[i]);
  return sum;
}

/* The sum grows with c: halve the interval. (Weights are integers, so c need not be more than 2^64.) */
static double find_c(double left, const struct budget_claim *claims, size_t count) {
  double low = 0, high = 1;
  while (high < 1e20 && total(claims, count, high) < left) high *= 4;
  for (int i = 0; i < STEPS && high - low > high * 1e-6; i++) {
    double middle = (low + high) / 2;
    if (total(claims, count, middle) > left)
      high = middle;
    else
      low = middle;
  }
  return low;
}

uint64_t budget_extra(uint64_t budget, const struct budget_claim *claims, size_t count, size_t own) {
  double left = (double)budget;
  for (size_t i = 0; i < count; i++) left -= (double)claims[i].live;
  if (left <= 0) return claims[own].least;
  double extra = clamp(find_c(left, claims, count) * (double)claims[own].weight, &claims[own]);
  return extra < 1.8e19 ? (uint64_t)extra : UINT64_MAX;
}
