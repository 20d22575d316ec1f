/* Kernel memory runs out inside a collection: less is done, or an allocation fails; the process lives (I5, I8). */
#include "kit.h"

static const char *spec;
static gch_mover mover = GCH_MOVER_MOVE;
static bool concurrent;

static void collections_without_memory(void) {
  struct kit k;
  gch_config c = kit_config(mover, 64, 1024);
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 3);
  root[0] = kit_refs(&k, 5000);
  for (uint64_t i = 0; i < 200000; i++) {
    gch_ref o = kit_node(&k, i % 5000);
    if (i % 3 == 0) kit_put(&k, root[0], i % 5000, o);
  }
  gch_inject(k.heap, spec, NULL);
  for (int i = 0; i < 6; i++) {
    kit_minor(&k, i & 1);
    kit_major(&k, (gch_policy)(i % 3), concurrent, true);
    for (uint64_t j = 0; j < 3000; j++) {
      root[1] = kit_node(&k, j);
      root[2] = kit_refs(&k, 1500);
      if (root[2] != NULL)
        for (uint64_t x = 0; x < 1500; x++)
          if (!CHECK(kit_at(root[2], x) == NULL)) return;
      root[2] = NULL;
    }
  }
  gch_inject(k.heap, "", NULL);
  kit_major(&k, GCH_POLICY_ALL, false, true);
  kit_verify(&k);
  CHECK(kit_node(&k, 1) != NULL);
  for (uint64_t i = 0; i < 5000; i++)
    if (kit_at(root[0], i) != NULL && !CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) break;
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

int main(int argc, char **argv) {
  kit_watchdog(20);
  spec = argc > 1 ? argv[1] : "populate:ENOMEM";
  if (argc > 2) gch_mover_parse(argv[2], &mover);
  concurrent = argc > 3;
  RUN(collections_without_memory);
  return CHECK_SUMMARY();
}
