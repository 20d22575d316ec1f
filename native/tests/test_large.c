/* Large objects: pages and table entries, sizes at every border, death, moves, memory given back and used again. */
#include "heap/large.h"

#include "kit.h"
#include "mover/mover.h"

enum { OBJECTS = 200 };
static struct kit kit;

static const struct large *entry(gch_ref o) {
  const gch_heap *h = kit.heap;
  return &h->large.entries[h->tables.large_ids[((uintptr_t)o - h->layout.base) >> h->layout.page_shift]];
}

static bool is_large(gch_ref o) { return space_is_large(heap_region(kit.heap, (uintptr_t)o)->space); }

static void sizes(void) {
  static const uint64_t bytes[] = {8176,  8177,  8192,    12288 - 16,     12288,  65520,
                                   65536, 65552, 2 << 20, (2 << 20) + 16, 9 << 20};
  for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; i++) {
    uint64_t tail = bytes[i] - 16;
    gch_ref o = kit_bytes(&kit, tail);
    if (!CHECK(o != NULL)) return;
    CHECK_EQ(is_large(o), bytes[i] > GCH_SMALL_MAX);
    CHECK_EQ(gch_length(kit.heap, o), tail);
    CHECK_EQ(gch_object_bytes(kit.heap, o), (bytes[i] + 15) / 16 * 16);
    CHECK(gch_type_of(kit.heap, o) == kit.bytes);
    const uint8_t *payload = gch_payload(o);
    uint32_t dirty = 0;
    for (uint64_t b = 0; b < tail + 8; b++) dirty |= payload[b];
    CHECK_EQ(dirty, 0);
    if (!is_large(o)) continue;
    CHECK(entry(o)->base == (uintptr_t)o && entry(o)->leaf && (uintptr_t)o % kit.heap->layout.page_bytes == 0);
  }
  CHECK(kit_bytes(&kit, (uint64_t)1 << 30) == NULL); /* beyond the limit */
}

/* No two overlap, each page names its owner. */
static void neighbours(void) {
  GCH_FRAME(kit.m, root, OBJECTS);
  for (uint64_t i = 0; i < OBJECTS; i++)
    root[i] = i % 2 ? kit_bytes(&kit, 9000 + 1000 * (i % 40)) : kit_refs(&kit, 1100 + 150 * (i % 40));
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < OBJECTS; i++) {
      uintptr_t at = (uintptr_t)root[i], end = at + gch_object_bytes(kit.heap, root[i]);
      CHECK_EQ(entry(root[i])->base, at);
      for (; at < end; at += kit.heap->layout.page_bytes)
        if (!CHECK(entry((gch_ref)at) == entry(root[i]))) return;
    }
    kit_major(&kit, GCH_POLICY_ALL, false, true);
    kit_verify(&kit);
  }
  GCH_FRAME_END(kit.m);
}

static void dead_ones(void) {
  gch_heap *h = kit.heap;
  kit_major(&kit, GCH_POLICY_NEEDED, false, true);
  uint64_t used = at_load(&h->used_bytes), released = 0;
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < 20; i++) CHECK(kit_refs(&kit, 20000) != NULL);
    released += kit_major(&kit, GCH_POLICY_RELEASE, false, true).bytes_released;
    CHECK_EQ(at_load(&h->used_bytes), used);
  }
  CHECK(released >= 20u * 20 * 160000);
  CHECK(h->large.count < 400); /* entries are used again */
  kit_verify(&kit);
}

/* A references array survives moves, element by element; those stored are followed, the others stay null. */
static void contents(void) {
  const uint64_t count = 300000;
  GCH_FRAME(kit.m, root, 2);
  root[0] = kit_refs(&kit, count);
  for (uint64_t i = 0; i < count; i += 3) kit_put_node(&kit, &root[0], i, i);
  for (int round = 0; round < 3; round++) {
    gch_ref was = root[0];
    kit_major(&kit, GCH_POLICY_ALL, false, true);
    CHECK(root[0] != was || kit.heap->mover->slides); /* sliding, there may be nothing below */
    for (uint64_t i = 0; i < count; i++) {
      gch_ref o = kit_at(root[0], i);
      if (!CHECK(i % 3 == 0 ? o != NULL && *kit_number(o) == i : o == NULL)) return;
    }
  }
  GCH_FRAME_END(kit.m);
}

/* Pages of a dead object that the kernel would not take back: the next object there is zero all the same. */
static void refused_drop(void) {
  GCH_FRAME(kit.m, root, 2);
  root[0] = kit_node(&kit, 1);
  root[1] = kit_refs(&kit, 5000);
  for (uint64_t i = 0; i < 5000; i++) kit_put(&kit, root[1], i, root[0]);
  gch_inject(kit.heap, "drop:ENOMEM", NULL);
  root[1] = NULL;
  kit_major(&kit, GCH_POLICY_NEEDED, false, true);
  gch_inject(kit.heap, "", NULL);
  kit.heap->large.cursor[0] = 0; /* next fit comes round */
  root[1] = kit_refs(&kit, 5000);
  for (uint64_t i = 0; i < 5000; i++)
    if (!CHECK(kit_at(root[1], i) == NULL)) break;
  GCH_FRAME_END(kit.m);
}

static void play(gch_mover mover, gch_huge huge) {
  gch_config c = kit_config(mover, 256, 1024);
  c.huge = huge;
  if (!kit_open(&kit, &c)) return;
  sizes(), neighbours(), dead_ones(), contents(), refused_drop();
  kit_verify(&kit);
  kit_close(&kit);
}

static void small_pages(void) {
  for (size_t m = 0; m < KIT_MOVER_COUNT; m++)
    if (kit_available(KIT_MOVERS[m])) play(KIT_MOVERS[m], GCH_HUGE_OFF);
}
static void huge_pages(void) {
  for (size_t m = 0; m < KIT_MOVER_COUNT; m++)
    if (kit_available(KIT_MOVERS[m])) play(KIT_MOVERS[m], GCH_HUGE_ON);
}

int main(void) {
  kit_watchdog(60);
  RUN(small_pages);
  RUN(huge_pages);
  return CHECK_SUMMARY();
}
