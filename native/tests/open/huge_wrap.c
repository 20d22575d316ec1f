/* Large objects in huge arenas, policy `all`, until destinations have gone once round each region. Also: tables must not
 * grow with every cycle (large.top only ever rises). */
#include "kit.h"
#include "os/pages.h"

enum { COUNT = 60 };

static void once_round(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MOVE, 256, 1024);
  c.huge = GCH_HUGE_ON;
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, COUNT);
  for (uint64_t i = 0; i < COUNT; i++) {
    root[i] = kit_bytes(&k, 2500000 + 10000 * i);
    memset(gch_payload(root[i]), (int)i + 1, 2500000);
  }
  struct pages_memory before, after;
  for (int cycle = 0; cycle < 100; cycle++) {
    kit_major(&k, GCH_POLICY_ALL, false, true);
    if (cycle == 3) pages_memory_read(&before);
    for (uint64_t i = 0; i < COUNT; i++) {
      const uint8_t *bytes = gch_payload(root[i]);
      if (!CHECK_EQ(bytes[100], i + 1) || !CHECK_EQ(bytes[2400000], i + 1)) {
        printf("    cycle %d object %d\n", cycle, (int)i);
        return;
      }
    }
  }
  pages_memory_read(&after);
  printf("    %llu MiB more than after the third cycle\n",
         (unsigned long long)(after.rss_anon_bytes - before.rss_anon_bytes) >> 20);
  CHECK(after.rss_anon_bytes < before.rss_anon_bytes + (16 << 20));
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

int main(void) {
  kit_watchdog(60);
  RUN(once_round);
  return CHECK_SUMMARY();
}
