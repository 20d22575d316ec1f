/* What the floor programs share: a clock, memory of a page size, a median, output as lines `NAME SECONDS SPREAD`. */
#ifndef FLOOR_H
#define FLOOR_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { FLOOR_ROUNDS = 5 };
#define ARENA_BYTES (2u << 20)

static inline double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* `bytes` of address space, aligned to 2 MiB, in huge pages or not, not populated. */
static inline char *map_arenas(uint64_t bytes, bool huge) {
  char *at =
      mmap(NULL, bytes + ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    perror("mmap");
    exit(1);
  }
  at = (char *)(((uintptr_t)at + ARENA_BYTES - 1) & ~(uintptr_t)(ARENA_BYTES - 1));
  madvise(at, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return at;
}

static inline int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* The median, and half the distance between the quartiles. */
static inline void report(const char *name, double *seconds, int count) {
  qsort(seconds, (size_t)count, sizeof *seconds, by_value);
  printf("%s %.9g %.3g\n", name, seconds[count / 2], (seconds[count - 1 - count / 4] - seconds[count / 4]) / 2);
}

static inline uint64_t next_random(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

/* A permutation of 0..count-1, or the numbers in order. */
static inline uint32_t *make_order(uint64_t count, bool random) {
  uint32_t *order = malloc(count * sizeof *order);
  uint64_t state = 88172645463325252u;
  if (order == NULL) exit(1);
  for (uint64_t i = 0; i < count; i++) order[i] = (uint32_t)i;
  for (uint64_t i = count; random && i > 1; i--) {
    uint64_t j = next_random(&state) % i;
    uint32_t kept = order[i - 1];
    order[i - 1] = order[j];
    order[j] = kept;
  }
  return order;
}

#endif
