/* What limits a heap gets where the host does not say, and that they are in force and can be read. */
#include "base/units.h"
#include "heap/limits.h"
#include "kit.h"

static struct limits choose(uint64_t max, uint64_t soft, uint64_t memory, const char *source) {
  struct machine_memory m = {.bytes = memory};
  struct limits l;
  strcpy(m.source, source);
  limits_choose(max, soft, &m, &l);
  return l;
}

static void check_reason(const struct limits *l, const char *words) {
  if (!CHECK(strcmp(l->reason, words) == 0)) printf("    \"%s\"\n", l->reason);
}

static void chosen(void) {
  struct limits l = choose(0, 0, 24 * GIB, "the machine");
  CHECK(l.max_bytes == 1 * GIB && l.soft_bytes == 0);
  check_reason(&l, "1 GiB by default");
  l = choose(0, 0, 0, "");
  CHECK_EQ(l.max_bytes, 1 * GIB);
  l = choose(0, 0, 512 * MIB, "control group /a (memory.max)");
  CHECK(l.max_bytes == 256 * MIB && l.soft_bytes == 0);
  check_reason(&l, "half of the 512 MiB of control group /a (memory.max)");
  l = choose(0, 0, 4096, "control group / (memory.max)");
  CHECK_EQ(l.max_bytes, 1 * MIB);
  for (uint64_t memory = 1; memory != 0; memory *= 2) {
    l = choose(0, 0, memory, "x");
    CHECK(l.max_bytes >= MIB && l.max_bytes <= GIB);
    CHECK(l.soft_bytes <= l.max_bytes);
  }
}

static void asked_for(void) {
  struct limits l = choose(8 * GIB, 0, 24 * GIB, "the machine");
  CHECK(l.max_bytes == 8 * GIB && l.soft_bytes == 0);
  check_reason(&l, "asked for");
  l = choose(8 * GIB, 0, 8 * GIB, "control group /b (memory.max)"); /* as it is, but majors begin early */
  CHECK(l.max_bytes == 8 * GIB && l.soft_bytes == 6 * GIB);
  check_reason(&l,
               "asked for; majors begin early, to stay below three quarters of the 8192 MiB of control group /b "
               "(memory.max)");
  l = choose(8 * GIB, 7 * GIB, 8 * GIB, "control group /b (memory.max)");
  CHECK_EQ(l.soft_bytes, 7 * GIB);
  check_reason(&l, "asked for");
  l = choose(1 * MIB, 0, 4096, "x"); /* (the least there is) */
  CHECK(l.soft_bytes == 0 || l.soft_bytes >= MIB);
}

static void in_force(void) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 0, 0);
  struct machine_memory m;
  struct limits l;
  struct kit k;
  gch_stats s;
  machine_memory_read("", &m);
  limits_choose(0, 0, &m, &l);
  if (!kit_open(&k, &c)) return;
  gch_stats_get(k.heap, &s, sizeof s);
  CHECK_EQ(s.memory_bytes, m.bytes);
  CHECK_EQ(s.max_bytes, align_up(l.max_bytes, BLOCK_BYTES));
  CHECK(strcmp(s.limit_reason, l.reason) == 0);
  CHECK_EQ(s.soft_max_bytes, l.soft_bytes != 0 ? l.soft_bytes : s.max_bytes);
  kit_close(&k);
  c.max_bytes = 64 * MIB;
  c.soft_max_bytes = 48 * MIB;
  if (!kit_open(&k, &c)) return;
  gch_stats_get(k.heap, &s, sizeof s);
  CHECK(s.max_bytes == 64 * MIB && s.soft_max_bytes == 48 * MIB);
  CHECK(strcmp(s.limit_reason, "asked for") == 0);
  kit_close(&k);
}

int main(void) {
  RUN(chosen);
  RUN(asked_for);
  RUN(in_force);
  return CHECK_SUMMARY();
}
