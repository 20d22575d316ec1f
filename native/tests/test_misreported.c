/* B1 (moved, but reported EEXIST) while pagemap cannot be read (ENOMEM, EIO): what is not known to be a stray page must
 * not be dropped. */
#include "kit.h"

static void misreported(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MOVE, 64, 1024);
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  root[0] = kit_refs(&k, 20000);
  for (uint64_t i = 0; i < 20000; i++) kit_put_node(&k, &root[0], i, i);
  gch_inject(k.heap, "move:EEXIST-after@nth=1;pagemap:EIO", NULL);
  kit_major(&k, GCH_POLICY_ALL, false, true);
  gch_inject(k.heap, "", NULL);
  kit_verify(&k);
  for (uint64_t i = 0; i < 20000; i++)
    if (!CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) break;
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

int main(void) {
  RUN(misreported);
  return CHECK_SUMMARY();
}
