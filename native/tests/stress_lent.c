/* 10,000 flips beside a native thread that works on pinned memory, half of them in each fault mode.
 *
 *   stress_lent SECONDS      more where they take less than that; under the sanitizers a tenth of them at least */
#include "lent.h"

enum { FLIPS = 5000 };

int main(int argc, char **argv) {
  uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 0) : 6, all = 0;
  const uint64_t flips = kit_scaled(FLIPS, 10);
  gch_config c = kit_config(GCH_MOVER_MOVE, 64, 512);
  check_test = "stress_lent";
  c.gc_threads = 1;
  if (!kit_available(GCH_MOVER_MOVE)) return CHECK_EXIT_SKIPPED;
  for (int mode = 0; mode < GCH_FAULT_COUNT; mode++) {
    c.fault_mode = (gch_fault_mode)mode;
    uint64_t done = lent_run(&c, flips, clock_ns() + seconds * 500000000u);
    printf("  %s: %llu flips\n", mode ? "signal" : "thread", (unsigned long long)done);
    fflush(stdout);
    all += done;
    if (!CHECK(done >= flips)) break;
  }
  printf("  %llu flips, %d failures%s\n", (unsigned long long)all, check_failures,
         KIT_SANITIZED ? " (under a sanitizer, where 1,000 are asked for, not 10,000)" : "");
  return check_failures != 0;
}
