/* B1 (moved, but reported EEXIST) while pagemap cannot be read (ENOMEM, EIO): what is not known to be a stray page must
 * not be dropped. And such a call has moved more pages than the one that it names: that the next one is refused for another
 * reason must not make gcheap copy what is not there any more. */
#include "kit.h"

static void misreport(const char *rules) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MOVE, 64, 1024);
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  root[0] = kit_refs(&k, 20000);
  for (uint64_t i = 0; i < 20000; i++) kit_put_node(&k, &root[0], i, i);
  CHECK_EQ(gch_inject(k.heap, rules, NULL), GCH_OK);
  kit_major(&k, GCH_POLICY_ALL, false, true);
  gch_inject(k.heap, "", NULL);
  kit_verify(&k);
  for (uint64_t i = 0; i < 20000; i++)
    if (!CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) break;
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void misreported(void) { misreport("move:EEXIST-after@nth=1;pagemap:EIO"); }

static void then_refused(void) {
  static const char *const reasons[] = {"ENOMEM", "EAGAIN", "EINVAL", "EBUSY", "EFAULT"};
  for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
    char rules[80];
    snprintf(rules, sizeof rules, "move:EEXIST-after@nth=1;move:%s@from=2,times=1000", reasons[i]);
    misreport(rules);
    snprintf(rules, sizeof rules, "move:EEXIST-after@nth=1;move:%s@from=2,times=1000;pagemap:EIO", reasons[i]);
    misreport(rules);
  }
}

int main(void) {
  if (!kit_available(GCH_MOVER_MOVE)) return CHECK_EXIT_SKIPPED; /* which has said why */
  kit_watchdog(60);
  RUN(misreported);
  RUN(then_refused);
  return CHECK_SUMMARY();
}
