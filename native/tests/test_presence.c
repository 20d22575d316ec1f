/* The tables say the truth about memory: what they call empty has no page. In leaf regions that is what makes a destination
 * fault until its objects are there; everywhere it is what the limit counts on. */
#include <sys/mman.h>

#include "heap/unit.h"
#include "hold.h"
#include "mover/mover.h"
#include "os/pages.h"
#include "presence.h"

enum { BYTES = 480 };

/* An array of `count` leaf objects that say which they are; promoted. */
static void fill_leaf(struct kit *k, gch_ref *table, uint64_t count) {
  *table = kit_refs(k, count);
  for (uint64_t i = 0; i < count; i++) {
    gch_ref o = kit_bytes(k, BYTES);
    *(uint64_t *)(void *)gch_slot(o, KIT_BYTES) = i + 1;
    kit_put(k, *table, i, o);
  }
  kit_minor(k, true);
}

static uint64_t count_wrong(gch_ref table, uint64_t count) {
  uint64_t wrong = 0;
  for (uint64_t i = 0; i < count; i++) {
    gch_ref o = kit_at(table, i);
    wrong += o != NULL && *(uint64_t *)(void *)gch_slot(o, KIT_BYTES) != i + 1;
  }
  return wrong;
}

/* Drops about six in ten of all but the last fifth: those move, to the first free blocks of arenas in which the others stay. */
static void thin_out(struct kit *k, gch_ref table, uint64_t count) {
  uint64_t random = 1;
  for (uint64_t i = 0; i < count / 5 * 4; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    if ((random >> 33) % 10 < 6) kit_put(k, table, i, NULL);
  }
}

/* Reads all objects after the flip, before anything of them has moved. */
static void read_beside_a_move(struct kit *k, gch_ref *table, uint64_t count) {
  hold_on(true);
  CHECK(!kit_major(k, GCH_POLICY_NEEDED, true, false).degraded);
  CHECK_EQ(at_load(&k->heap->phase), GCH_PHASE_MOVE);
  CHECK_EQ(count_wrong(*table, count), 0);
  hold_end(k);
  CHECK(k->heap->measures.last_major.blocks_evacuated > 0);
  CHECK_EQ(count_wrong(*table, count), 0);
}

/* --- huge pages that nobody asked for ---------------------------------------------------------------------------- */

/* What the kernel does with every mapping where its policy is `always`: all but those that said no get huge pages. */
static void pretend_always(gch_heap *h) {
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    const struct region *region = &h->layout.regions[r];
    if (!mapped_with(region->start, region->bytes, " nh"))
      CHECK_EQ(madvise((void *)region->start, region->bytes, MADV_HUGEPAGE), 0);
  }
}

static void no_region_gets_huge_pages(gch_heap *h) {
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    const struct region *region = &h->layout.regions[r];
    uintptr_t shadow = region->start + h->layout.shadow_delta;
    if (!CHECK(mapped_with(region->start, region->bytes, " nh"))) return;
    bool mirrored = h->mover->concurrent && (space_has_refs(region->space) || h->mover->fill_in_place);
    if (mirrored && mapped_with(shadow, region->bytes, " wr") && !CHECK(mapped_with(shadow, region->bytes, " nh")))
      return;
  }
}

static void huge_pages_not_asked_for(void) {
  for (int mover = GCH_MOVER_MOVE; mover <= GCH_MOVER_SLIDE; mover++)
    for (int huge = GCH_HUGE_AUTO; huge <= GCH_HUGE_OFF; huge += GCH_HUGE_OFF - GCH_HUGE_AUTO) {
      struct kit k;
      gch_config c = kit_config((gch_mover)mover, 64, 1024);
      c.huge = (gch_huge)huge;
      if (!kit_available((gch_mover)mover) || !kit_open(&k, &c)) continue;
      GCH_FRAME(k.m, root, 1);
      no_region_gets_huge_pages(k.heap);
      fill_leaf(&k, &root[0], 2000);
      for (int i = 0; i < 2; i++) kit_major(&k, GCH_POLICY_ALL, true, true); /* what is mapped anew meanwhile, too */
      no_region_gets_huge_pages(k.heap);
      if (k.heap->liveness_moves) CHECK(mapped_with((uintptr_t)k.heap->tables.live, 1, " nh"));
      CHECK_EQ(count_wrong(root[0], 2000), 0);
      GCH_FRAME_END(k.m);
      kit_close(&k);
    }
}

static void leaf_objects_of(gch_mover mover, const char *inject) {
  enum { COUNT = 40000 };
  struct kit k;
  gch_config c = kit_config(mover, 256, 1024);
  c.gc_threads = 1;
  c.inject = inject;
  if (!kit_available(mover) || !kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  pretend_always(k.heap);
  fill_leaf(&k, &root[0], COUNT);
  thin_out(&k, root[0], COUNT);
  read_beside_a_move(&k, &root[0], COUNT);
  if (!k.heap->mover->fill_in_place && inject == NULL) CHECK_EQ(hidden_pages(k.heap), 0);
  GCH_FRAME_END(k.m);
  kit_verify(&k);
  kit_close(&k);
}

/* Where the kernel gives them all the same, they are not seen. */
static void leaf_objects_where_pages_are_huge_by_themselves(void) {
  for (int mover = GCH_MOVER_MOVE; mover <= GCH_MOVER_SIMULATED; mover++) {
    leaf_objects_of((gch_mover)mover, NULL);
    leaf_objects_of((gch_mover)mover, "madvise:ENOMEM");
  }
}

/* --- arenas with holes ------------------------------------------------------------------------------------------- */

/* Huge arenas that a fault opened, and that did not become one page again: what dies in them leaves holes. */
static void open_and_leave_holes(struct kit *k, gch_ref *table, uint64_t count) {
  hold_on(true);
  kit_major(k, GCH_POLICY_ALL, true, false);
  CHECK_EQ(count_wrong(*table, count), 0);
  hold_end(k);
  for (uint64_t i = 0; i < count; i++)
    if (i / 160 % 25 == 0) kit_put(k, *table, i, NULL); /* a block and a quarter of 33 */
  kit_major(k, GCH_POLICY_RELEASE, false, true);
}

static uint64_t count_holes(const gch_heap *h) {
  uint64_t holes = 0;
  for (size_t a = 0; a < layout_arena_count(&h->layout); a++)
    if (h->tables.arenas[a].used != 0 && heap_region(h, arena_address(&h->layout, a))->space <= SPACE_LEAF)
      holes += h->tables.arenas[a].populated != UINT32_MAX;
  return holes;
}

/* They relocate in the pause, with their holes. */
static void arenas_with_holes_relocate(gch_mover mover) {
  enum { COUNT = 60000 };
  struct kit k;
  gch_config c = kit_config(mover, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.gc_threads = 1;
  c.inject = "collapse:EINVAL";
  if (!kit_available(mover) || !kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  fill_leaf(&k, &root[0], COUNT);
  open_and_leave_holes(&k, &root[0], COUNT);
  CHECK(count_holes(k.heap) > 0);
  CHECK_EQ(hidden_pages(k.heap), 0);
  kit_major(&k, GCH_POLICY_ALL, false, true);
  CHECK(count_holes(k.heap) > 0);
  CHECK_EQ(count_wrong(root[0], COUNT), 0);
  CHECK_EQ(hidden_pages(k.heap), 0);
  thin_out(&k, root[0], COUNT);
  read_beside_a_move(&k, &root[0], COUNT);
  GCH_FRAME_END(k.m);
  kit_verify(&k);
  kit_close(&k);
}
static void arenas_with_holes_are_moved(void) { arenas_with_holes_relocate(GCH_MOVER_MOVE); }
static void arenas_with_holes_are_copied(void) { arenas_with_holes_relocate(GCH_MOVER_COPY); }

/* --- collapsing -------------------------------------------------------------------------------------------------- */

static gch_heap *collapsing;
static uint32_t collapses; /* [atomic] */

static void look_at_collapsed(const char *name) {
  hold_worker(name);
  if (strcmp(name, "arena_collapsed") != 0) return;
  at_add(&collapses, 1);
  CHECK_EQ(absent_pages(collapsing), 0);
}

/* Arenas are opened; `inject` comes into force before they would become huge pages again. */
static void collapse_under(struct kit *k, gch_ref *table, uint64_t count, const char *inject) {
  hold_on(true);
  at_store(&collapses, 0);
  collapsing = k->heap;
  at_store(&gch_hook_fn, look_at_collapsed);
  CHECK(!kit_major(k, GCH_POLICY_ALL, true, false).degraded);
  CHECK_EQ(count_wrong(*table, count), 0);
  CHECK_EQ(gch_inject(k->heap, inject, NULL), GCH_OK);
  hold_end(k);
  gch_inject(k->heap, "", NULL);
  CHECK_EQ(count_wrong(*table, count), 0);
  CHECK_EQ(absent_pages(k->heap), 0);
  CHECK_EQ(hidden_pages(k->heap), 0);
}

/* The tables never say that there is memory for which the kernel had none. */
static void collapse_without_memory(void) {
  static const char *const specs[] = {"populate:ENOMEM", "populate:ENOMEM;collapse:EAGAIN", "collapse:EAGAIN", ""};
  enum { COUNT = 20000 };
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MOVE, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.gc_threads = 1;
  if (!kit_available(GCH_MOVER_MOVE) || !kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  fill_leaf(&k, &root[0], COUNT);
  for (uint64_t i = 0; i < COUNT; i++)
    if (i / 160 % 25 == 0) kit_put(&k, root[0], i, NULL); /* some blocks of each arena are free */
  for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
    collapse_under(&k, &root[0], COUNT, specs[i]);
    CHECK(at_load(&collapses) > 0);
    if (!kit_verify(&k)) break;
  }
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* In a region that the kernel would not let go, what has no page may not be touched. */
static void collapse_in_a_stuck_region(void) {
  enum { COUNT = 100000 };
  struct kit k;
  uint32_t stuck = 0;
  gch_config c = kit_config(GCH_MOVER_MOVE, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.gc_threads = 1;
  if (!kit_available(GCH_MOVER_MOVE) || !kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 2);
  root[0] = kit_refs(&k, COUNT);
  for (uint64_t i = 0; i < COUNT; i++) kit_put_node(&k, &root[0], i, i);
  fill_leaf(&k, &root[1], 20000);
  hold_on(true);
  CHECK(!kit_major(&k, GCH_POLICY_ALL, true, false).degraded);
  for (uint64_t i = 0; i < COUNT; i += 999) CHECK_EQ(*kit_number(kit_at(root[0], i)), i); /* opens arenas */
  CHECK_EQ(count_wrong(root[1], 20000), 0);
  CHECK_EQ(gch_inject(k.heap, "unregister:ENOMEM;register:ENOMEM", NULL), GCH_OK);
  hold_end(&k);
  for (uint32_t r = 0; r < k.heap->layout.region_count; r++) stuck += region_registered(k.heap, r) == REGION_STUCK;
  CHECK(stuck > 0);
  for (int i = 0; i < 3; i++) { /* in the pause, and when the kernel has memory again */
    gch_cycle r = kit_major(&k, GCH_POLICY_ALL, i != 0, true);
    CHECK(i < 2 || !r.degraded);
    gch_inject(k.heap, "", NULL);
    for (uint64_t n = 0; n < COUNT; n++)
      if (!CHECK_EQ(*kit_number(kit_at(root[0], n)), n)) break;
    CHECK_EQ(count_wrong(root[1], 20000), 0);
    if (!kit_verify(&k)) break;
  }
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* --- holes in a source ------------------------------------------------------------------------------------------- */

/* A page of a block that stays, in the shadow, in which nothing lives: no small object that begins before the page in front of it
 * reaches it. 0: there is none. */
static uintptr_t find_dead_page(const gch_heap *h) {
  uint64_t page = h->layout.page_bytes / GRANULE_BYTES;
  for (size_t b = 0; b < layout_block_count(&h->layout); b++) {
    uintptr_t at = block_address(&h->layout, b);
    if (heap_region(h, at)->space != SPACE_OLD || unit_state(h, b) != UNIT_ARMED || h->tables.dest[b] != 0) continue;
    for (uint64_t g = page; g < BLOCK_GRANULES; g += page)
      if (bits_find_next(h->tables.live, b * BLOCK_GRANULES + g - page, b * BLOCK_GRANULES + g + page) == BITS_NONE)
        return at + g * GRANULE_BYTES + h->layout.shadow_delta;
  }
  return 0;
}

/* Two runs of more than four pages: one of them lies in one block. The blocks are dense all the same. */
static bool is_dead(uint64_t i) { return i % 10000 >= 1000 && i % 10000 < 1400; }

/* Who makes the unit must not touch what is missing in the shadow: that traps. */
static void hole_in_a_shadow(gch_mover mover, gch_fault_mode faults) {
  enum { COUNT = 20000 };
  struct kit k;
  gch_config c = kit_config(mover, 64, 1024);
  c.fault_mode = faults;
  c.huge = GCH_HUGE_OFF;
  c.gc_threads = 1;
  if (!kit_available(mover) || !kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  root[0] = kit_refs(&k, COUNT);
  for (uint64_t i = 0; i < COUNT; i++) kit_put_node(&k, &root[0], i, i);
  kit_minor(&k, true);
  for (uint64_t i = 0; i < COUNT; i++)
    if (is_dead(i)) kit_put(&k, root[0], i, NULL);
  hold_on(true);
  CHECK(!kit_major(&k, GCH_POLICY_NEEDED, true, false).degraded);
  uintptr_t hole = find_dead_page(k.heap);
  if (CHECK(hole != 0)) {
    CHECK_EQ(madvise((void *)hole, k.heap->layout.page_bytes, MADV_DONTNEED), 0);
    if (faults == GCH_FAULT_SIGNAL) /* we make it ourselves, in the handler */
      CHECK_EQ(*(volatile uint64_t *)(hole - k.heap->layout.shadow_delta), 0);
  }
  hold_end(&k);
  if (hole != 0) CHECK_EQ(*(volatile uint64_t *)(hole - k.heap->layout.shadow_delta), 0);
  for (uint64_t i = 0; i < COUNT; i++)
    if (!is_dead(i) && !CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) break;
  CHECK(k.heap->measures.last_major.refusals[GCH_REFUSAL_OTHER] > 0);
  GCH_FRAME_END(k.m);
  kit_verify(&k);
  kit_close(&k);
}

static void holes_in_shadows(void) {
  for (int mover = GCH_MOVER_MOVE; mover <= GCH_MOVER_COPY; mover++)
    for (int faults = GCH_FAULT_THREAD; faults <= GCH_FAULT_SIGNAL; faults++)
      hole_in_a_shadow((gch_mover)mover, (gch_fault_mode)faults);
}

/* In the pause: the destination has all its pages, the hole reads as zeros, nothing is left of the source. */
static void hole_in_the_pause(const char *inject) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MOVE, 64, 1024);
  c.huge = GCH_HUGE_OFF;
  if (!kit_available(GCH_MOVER_MOVE) || !kit_open(&k, &c)) return;
  gch_heap *h = k.heap;
  uintptr_t src = h->layout.regions[layout_first_region(&h->layout, SPACE_LEAF)].start, dst = src + ARENA_BYTES;
  CHECK_EQ(pages_populate(&h->kernel, (void *)src, BLOCK_BYTES), 0);
  memset((void *)src, 0x5a, BLOCK_BYTES);
  CHECK_EQ(madvise((void *)(src + 2 * h->layout.page_bytes), h->layout.page_bytes, MADV_DONTNEED), 0);
  gch_inject(h, inject, NULL);
  mover_publish(h, dst, src, BLOCK_BYTES);
  gch_inject(h, "", NULL);
  CHECK_EQ(present_pages(src, BLOCK_BYTES), 0);
  CHECK_EQ(present_pages(dst, BLOCK_BYTES), BLOCK_BYTES / (uint64_t)sysconf(_SC_PAGESIZE));
  for (uint64_t at = 0; at < BLOCK_BYTES; at += 512) {
    bool in_hole = at / h->layout.page_bytes == 2;
    if (!CHECK_EQ(((uint8_t *)dst)[at], in_hole ? 0 : 0x5a)) break;
  }
  CHECK_EQ(h->drop(h, dst, BLOCK_BYTES), 0);
  kit_close(&k);
}

static void holes_in_the_pause(void) {
  hole_in_the_pause("");
  hole_in_the_pause("zeropage:ENOMEM");
  hole_in_the_pause("zeropage:EAGAIN@times=1");
  hole_in_the_pause("move:ENOENT"); /* of pages that are there, too: they are copied */
}

int main(void) {
  kit_decay = GCH_DECAY_NOW;
  kit_growth = GCH_GROWTH_NEVER;
  if (access("/proc/self/pagemap", R_OK) != 0 || access("/proc/self/smaps", R_OK) != 0) {
    printf("  SKIP test_presence: of all movers, move too: no /proc\n");
    return CHECK_EXIT_SKIPPED;
  }
  kit_watchdog(60);
  if (pages_thp_policy() != PAGES_THP_UNKNOWN) {
    RUN(huge_pages_not_asked_for);
    RUN(leaf_objects_where_pages_are_huge_by_themselves);
  }
  if (pages_thp_policy() == PAGES_THP_MADVISE || pages_thp_policy() == PAGES_THP_ALWAYS) {
    RUN(arenas_with_holes_are_moved);
    RUN(arenas_with_holes_are_copied);
    RUN(collapse_without_memory);
    RUN(collapse_in_a_stuck_region);
  }
  RUN(holes_in_shadows);
  RUN(holes_in_the_pause);
  return CHECK_SUMMARY();
}
