/* The floors of bulk operations on a million objects of 32 bytes, named by an array of addresses: to make them (zeros,
 * a header, the array) in memory that is there, to read 8 bytes of each, to write them. */
#include "floor.h"

enum { MILLION = 1000000, NODE_BYTES = 32 };

static void make(char *area, char **refs) {
  memset(area, 0, (size_t)MILLION * NODE_BYTES);
  for (uint64_t i = 0; i < MILLION; i++) {
    char *node = area + i * NODE_BYTES;
    *(uint64_t *)(void *)node = 7;
    refs[i] = node;
  }
}

static void gather(char **refs, double *values) {
  for (uint64_t i = 0; i < MILLION; i++) values[i] = *(double *)(void *)(refs[i] + 16);
}

static void scatter(char **refs, const double *values) {
  for (uint64_t i = 0; i < MILLION; i++) *(double *)(void *)(refs[i] + 16) = values[i];
}

static void measure_order(char *area, char **refs, double *values, bool random) {
  double gathers[FLOOR_ROUNDS], scatters[FLOOR_ROUNDS];
  uint32_t *order = make_order(MILLION, random);
  for (uint64_t i = 0; i < MILLION; i++) refs[i] = area + (uint64_t)order[i] * NODE_BYTES;
  for (int round = 0; round < FLOOR_ROUNDS; round++) {
    double began = now_s();
    gather(refs, values);
    gathers[round] = now_s() - began;
    began = now_s();
    scatter(refs, values);
    scatters[round] = now_s() - began;
  }
  report(random ? "gather-random" : "gather-in-order", gathers, FLOOR_ROUNDS);
  report(random ? "scatter-random" : "scatter-in-order", scatters, FLOOR_ROUNDS);
  free(order);
}

int main(void) {
  double times[FLOOR_ROUNDS];
  char *area = map_arenas((uint64_t)MILLION * NODE_BYTES, false);
  char **refs = (char **)(void *)map_arenas(MILLION * sizeof *refs, false);
  double *values = (double *)(void *)map_arenas(MILLION * sizeof *values, false);
  make(area, refs);
  gather(refs, values);
  for (int round = 0; round < FLOOR_ROUNDS; round++) {
    double began = now_s();
    make(area, refs);
    times[round] = now_s() - began;
  }
  report("new", times, FLOOR_ROUNDS);
  measure_order(area, refs, values, true);
  measure_order(area, refs, values, false);
  return 0;
}
