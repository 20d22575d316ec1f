/* 10,000 flips beside a native thread that works on pinned memory, half of them in each fault mode.
 *
 *   stress_lent SECONDS      fewer where they do not fit a good deal more than the time */
#include "lent.h"

enum { FLIPS = 5000 };

int main(int argc, char **argv) {
  uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 0) : 6;
  gch_config c = kit_config(GCH_MOVER_MOVE, 64, 512);
  c.gc_threads = 1;
  for (int mode = 0; mode < GCH_FAULT_COUNT; mode++) {
    c.fault_mode = (gch_fault_mode)mode;
    uint64_t done = kit_available(GCH_MOVER_MOVE) ? lent_run(&c, FLIPS, clock_ns() + seconds * 1300000000u) : 1;
    printf("  %s: %llu flips\n", mode ? "signal" : "thread", (unsigned long long)done);
    fflush(stdout);
    if (done == 0) return 1;
  }
  return 0;
}
