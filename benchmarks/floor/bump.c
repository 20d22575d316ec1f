/* The floor of inline allocation: a bump, a header and 32 zeroed bytes in 2 MiB that are used again and again. */
#include "floor.h"

int main(void) {
  const uint64_t objects = 50000000, bytes = 32, room = ARENA_BYTES;
  double times[FLOOR_ROUNDS];
  char *area = map_arenas(room, false);
  memset(area, 1, room);
  for (int round = 0; round < FLOOR_ROUNDS; round++) {
    double began = now_s();
    for (uint64_t i = 0, at = room; i < objects; i++, at += bytes) {
      if (at + bytes > room) {
        memset(area, 0, room);
        at = 0;
      }
      *(volatile uint64_t *)(void *)(area + at) = i;
    }
    times[round] = (now_s() - began) / (double)objects;
  }
  report("bump", times, FLOOR_ROUNDS);
  return 0;
}
