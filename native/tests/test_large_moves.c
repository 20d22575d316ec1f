/* Where large objects move to: from the start of a region, into memory that is zero for the next one; sliding; in pieces that
 * threads share; and what emptied arenas leave behind in the side tables. */
#include "gc/evacuate.h"
#include "heap/large.h"
#include "heap/small.h"
#include "hold.h"
#include "kit.h"
#include "mover/mover.h"
#include "os/pages.h"

static struct kit kit;

static bool open_kit(gch_mover mover, gch_huge huge) {
  gch_config c = kit_config(mover, 256, 1024);
  c.huge = huge;
  return kit_available(mover) && kit_open(&kit, &c);
}

static void each_mover(void (*body)(gch_mover mover, gch_huge huge)) {
  for (size_t m = 0; m < KIT_MOVER_COUNT; m++) {
    body(KIT_MOVERS[m], GCH_HUGE_OFF);
    body(KIT_MOVERS[m], GCH_HUGE_ON);
  }
}

/* An array of references whose every slot says which it is: nodes by number, every `step`-th. */
static gch_ref numbered(uint64_t count, uint64_t step) {
  GCH_FRAME(kit.m, root, 1);
  root[0] = kit_refs(&kit, count);
  for (uint64_t i = 0; i < count; i += step) kit_put_node(&kit, &root[0], i, i);
  gch_ref made = root[0];
  GCH_FRAME_END(kit.m);
  return made;
}

/* Slots between are looked at in part: the first, and what is next to a node. */
static bool check_numbered(gch_ref array, uint64_t step) {
  uint64_t count = gch_length(kit.heap, array);
  for (uint64_t i = 0; i < count; i += i % step == 0 || step < 3 ? 1 : step - i % step) {
    gch_ref o = kit_at(array, i);
    if (!CHECK(i % step == 0 ? o != NULL && *kit_number(o) == i : o == NULL)) return false;
  }
  return true;
}

static gch_ref filled(uint64_t count, uint8_t value) {
  gch_ref o = kit_bytes(&kit, count);
  if (CHECK(o != NULL)) memset(gch_payload(o) + 8, value, count);
  return o;
}

static bool check_filled(gch_ref o, uint8_t value) {
  const uint8_t *bytes = (const uint8_t *)gch_payload(o) + 8;
  uint64_t wrong = 0, count = gch_length(kit.heap, o);
  for (uint64_t i = 0; i < count; i += i + 100 < count ? 61 : 1) wrong += bytes[i] != value;
  return CHECK_EQ(wrong, 0);
}

static bool check_zero(gch_ref array) {
  uint64_t set = 0;
  for (uint64_t i = 0; i < gch_length(kit.heap, array); i++) set += kit_at(array, i) != NULL;
  return CHECK_EQ(set, 0);
}

static uintptr_t region_start(gch_ref o) { return heap_region(kit.heap, (uintptr_t)o)->start; }

/* --- side tables ---------------------------------------------------------------------------------------------- */

enum { OBJECTS = KIT_SANITIZED ? 20 : 60 };

/* Objects go to and fro, or round all regions: tables do not grow with every cycle. */
static void go_round(bool concurrent) {
  struct pages_memory before, after;
  if (!open_kit(GCH_MOVER_MOVE, GCH_HUGE_ON)) return;
  GCH_FRAME(kit.m, root, OBJECTS);
  for (uint64_t i = 0; i < OBJECTS; i++) root[i] = filled(2500000 + 10000 * i, (uint8_t)(i + 1));
  for (int cycle = 0; cycle < (int)kit_scaled(60, 4); cycle++) {
    kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
    if (cycle == 5) pages_memory_read(&before);
  }
  pages_memory_read(&after);
  if (!KIT_SANITIZED) CHECK(after.rss_anon_bytes < before.rss_anon_bytes + (8 << 20));
  for (uint64_t i = 0; i < OBJECTS; i++) check_filled(root[i], (uint8_t)(i + 1));
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void go_round_in_pause(void) { go_round(false); }
static void go_round_beside(void) { go_round(true); }

static uint64_t tops(void) {
  uint64_t sum = 0;
  for (uint32_t r = 0; r < 4 * kit.heap->layout.per_space; r++) {
    uint32_t first;
    sum += region_arenas(kit.heap, r, &first);
  }
  return sum;
}

/* No table says anything of the arenas beyond `top`. */
static void check_slices(uint32_t region, uint32_t most) {
  const gch_heap *h = kit.heap;
  uint32_t first, count = region_arenas(h, region, &first);
  uint64_t page = h->layout.page_bytes, said = 0;
  for (size_t a = first + count; a < first + most; a++) {
    const uint64_t *lines = (const uint64_t *)&h->tables.lines[a * ARENA_BLOCKS * BLOCK_LINES];
    for (size_t i = 0; i < (size_t)ARENA_BLOCKS * BLOCK_LINES * sizeof(struct line_forward) / 8; i++)
      said += is_aligned(ARENA_BYTES / LINE_BYTES * sizeof(struct line_forward), page) && lines[i] != 0;
    for (size_t w = a * ARENA_BLOCKS * BLOCK_WORDS; w < (a + 1) * ARENA_BLOCKS * BLOCK_WORDS; w++)
      said += (h->tables.live[w] | h->tables.mark[w]) != 0;
    for (size_t b = a * ARENA_BLOCKS; b < (a + 1) * ARENA_BLOCKS; b++)
      said += h->tables.blocks[b].state != 0 || h->tables.forward[b] != 0 || h->tables.dest[b] != 0 ||
              h->tables.needed[b] != 0 || h->tables.units[b] != 0;
  }
  CHECK_EQ(said, 0);
}

static void play_tops(gch_mover mover, gch_huge huge) {
  if (!open_kit(mover, huge)) return;
  const uint64_t slots = kit_scaled(300000, 8);
  uint32_t most[4 * SPACE_REGIONS] = {0};
  GCH_FRAME(kit.m, root, 3);
  root[0] = numbered(slots, 2);
  root[1] = filled(20 << 20, 7);
  for (int cycle = 0; cycle < 6; cycle++) {
    for (uint64_t i = 0; i < slots; i += 7) kit_put(&kit, root[0], i, NULL); /* something to evacuate */
    kit_major(&kit, cycle % 3 == 0 ? GCH_POLICY_NEEDED : GCH_POLICY_ALL, cycle % 2, true);
    for (uint32_t r = 0, first; r < 4 * kit.heap->layout.per_space; r++) {
      uint32_t count = region_arenas(kit.heap, r, &first);
      if (count > most[r]) most[r] = count;
    }
  }
  CHECK(tops() > 0);
  root[0] = root[1] = NULL;
  for (int cycle = 0; cycle < 3; cycle++) kit_major(&kit, GCH_POLICY_ALL, cycle == 1, true);
  CHECK_EQ(tops(), 0);
  for (uint32_t r = 0; r < 4 * kit.heap->layout.per_space; r++) check_slices(r, most[r]);
  kit_verify(&kit);
  root[0] = numbered(1000, 1);
  CHECK_EQ((uintptr_t)root[0],
           heap_in_young(kit.heap, (uintptr_t)root[0]) ? (uintptr_t)root[0] : region_start(root[0]));
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void tops_fall(void) { each_mover(play_tops); }

/* Beside the collector, which lowers tops, a mutator raises them. */
static void play_allocation(gch_mover mover, gch_huge huge) {
  if (!open_kit(mover, huge)) return;
  GCH_FRAME(kit.m, root, 4);
  for (int cycle = 0; cycle < 8; cycle++) {
    kit_major(&kit, (gch_policy)(cycle % 2), true, false);
    for (uint64_t i = 0; i < kit_scaled(60, 4); i++) {
      root[i % 3] = i % 2 ? filled(3000000, (uint8_t)i) : numbered(3000, 1);
      if (root[3] != NULL) check_numbered(root[3], 1);
      root[3] = i % 2 ? root[3] : root[i % 3];
    }
    gch_collect_wait(kit.m, NULL);
    if (!kit_verify(&kit)) break;
  }
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void tops_rise_beside(void) { each_mover(play_allocation); }

/* --- destinations --------------------------------------------------------------------------------------------- */

/* Policy `all`: into arenas that were empty. And back, to the start of the region that was left. */
static void play_empty_arenas(gch_mover mover, gch_huge huge) {
  if (!open_kit(mover, huge)) return;
  gch_heap *h = kit.heap;
  GCH_FRAME(kit.m, root, 8);
  for (int i = 0; i < 8; i++) root[i] = filled(3000000, (uint8_t)(i + 1));
  for (int cycle = 0; cycle < 4 && !h->mover->slides; cycle++) {
    uint32_t used[64] = {0};
    for (int i = 0; i < 8; i++)
      for (uint64_t at = 0; at < 3000000 + ARENA_BYTES; at += ARENA_BYTES)
        used[i * 3 + (int)(at / ARENA_BYTES)] = (uint32_t)arena_index(&h->layout, (uintptr_t)root[i] + at % 3000000);
    kit_major(&kit, GCH_POLICY_ALL, cycle % 2, true);
    for (int i = 0; i < 8; i++) {
      check_filled(root[i], (uint8_t)(i + 1));
      for (int u = 0; u < 24; u++) CHECK(arena_index(&h->layout, (uintptr_t)root[i]) != used[u]);
      CHECK((uintptr_t)root[i] - region_start(root[i]) < 12 * (uintptr_t)ARENA_BYTES);
    }
  }
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void empty_arenas(void) { each_mover(play_empty_arenas); }

static void fresh_ones_are_zero(gch_ref *root) {
  for (int i = 0; i < 8; i++) {
    *root = kit_refs(&kit, 200000);
    if (!check_zero(*root)) break;
  }
  *root = NULL;
}

/* What the dead leave in huge pages must not turn up in the next object, however the pages were published. */
static void play_dead_neighbours(gch_mover mover, gch_huge huge) {
  static const uint64_t counts[] = {0, 100000, 2000, 155000}; /* an arena together, dense without the second */
  if (!open_kit(mover, huge)) return;
  GCH_FRAME(kit.m, root, 5);
  root[0] = kit_node(&kit, 1);
  for (int cycle = 0; cycle < 8; cycle++) {
    for (int i = 1; i < 4; i++) {
      root[i] = kit_refs(&kit, counts[i]);
      for (uint64_t s = 0; s < counts[i]; s++) kit_put(&kit, root[i], s, root[0]);
    }
    root[2] = NULL;
    kit_major(&kit, GCH_POLICY_NEEDED, true, true);
    root[1] = root[3] = NULL;
    for (int later = 0; later < 2; later++) {
      kit_major(&kit, GCH_POLICY_NEEDED, later != cycle % 2, true); /* another region to allocate in */
      fresh_ones_are_zero(&root[4]);
    }
  }
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* An arena dies as a whole, and the kernel does not take its memory. */
static void play_refused_arena(gch_mover mover, gch_huge huge) {
  if (!open_kit(mover, huge)) return;
  GCH_FRAME(kit.m, root, 3);
  root[0] = kit_node(&kit, 1);
  root[1] = kit_refs(&kit, 20000);
  for (uint64_t s = 0; s < 20000; s++) kit_put(&kit, root[1], s, root[0]);
  root[1] = NULL;
  gch_inject(kit.heap, "drop:ENOMEM", NULL);
  kit_major(&kit, GCH_POLICY_NEEDED, false, true);
  gch_inject(kit.heap, "", NULL);
  fresh_ones_are_zero(&root[2]);
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void refused_arena(void) { each_mover(play_refused_arena); }

static void dead_neighbours(void) { each_mover(play_dead_neighbours); }

/* Dense arenas, connected by what straddles their borders, relocate whole; the holes between objects stay holes. */
static void play_groups(gch_mover mover, gch_huge huge) {
  enum { GROUPED = 12 };
  if (huge != GCH_HUGE_ON || !open_kit(mover, huge)) return;
  gch_heap *h = kit.heap;
  GCH_FRAME(kit.m, root, GROUPED + 1);
  for (int i = 0; i < GROUPED; i++) {
    root[i] = i % 2 ? filled(3000000 + 1000 * (uint64_t)i, (uint8_t)i) : numbered(300000, 1000);
    (void)(i % 2 ? kit_bytes(&kit, 20000) : kit_refs(&kit, 2000)); /* dies */
  }
  gch_ref pinned = root[GROUPED - 1];
  for (int cycle = 0; cycle < 6; cycle++) {
    if (cycle == 3) CHECK_EQ(gch_pin(kit.m, pinned = root[GROUPED - 1], NULL), GCH_OK);
    gch_cycle r = kit_major(&kit, GCH_POLICY_ALL, cycle == 2, true);
    const struct plan *p = h->plan;
    CHECK_EQ(p->large_arena_count > 0, h->mover->moves_pages && h->huge);
    if ((cycle == 1 || cycle == 2) && mover == GCH_MOVER_MOVE) CHECK(r.arenas_moved >= 16 && r.bytes_copied < 1 << 20);
    for (int i = 0; i < GROUPED; i++)
      if (!(i % 2 ? check_filled(root[i], (uint8_t)i) : check_numbered(root[i], 1000))) break;
    if (cycle >= 3) CHECK(root[GROUPED - 1] == pinned);
    if (!kit_verify(&kit)) break;
    fresh_ones_are_zero(&root[GROUPED]);
    root[GROUPED] = kit_refs(&kit, 1500); /* into a hole */
    check_zero(root[GROUPED]);
  }
  gch_unpin(h, pinned);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void groups(void) { each_mover(play_groups); }

/* Sparse arenas are packed if that frees one; else they relocate whole, too. */
static void play_sparse(gch_mover mover, gch_huge huge) {
  if (huge != GCH_HUGE_ON || mover != GCH_MOVER_MOVE || !open_kit(mover, huge)) return;
  GCH_FRAME(kit.m, root, 3);
  for (int objects = 1; objects <= 2; objects++) {
    root[0] = numbered(100000, 1000); /* two fifths of an arena */
    root[1] = kit_refs(&kit, 200000);
    root[2] = objects == 2 ? numbered(100000, 1000) : NULL; /* in the next but one */
    root[1] = NULL;
    if (objects == 1) kit_major(&kit, GCH_POLICY_NEEDED, true, true); /* what dead arenas lived through says nothing */
    for (int concurrent = 0; concurrent < 2; concurrent++) {
      gch_cycle r = kit_major(&kit, GCH_POLICY_ALL, concurrent, true);
      bool packed = objects == 2 && !concurrent;
      CHECK_EQ(kit.heap->plan->large_arena_count, packed ? 0 : 1);
      CHECK_EQ(r.bytes_copied >= 800000, packed);
      check_numbered(root[0], 1000);
      if (root[2] != NULL) check_numbered(root[2], 1000);
      if (packed) CHECK_EQ(arena_of((uintptr_t)root[0]), arena_of((uintptr_t)root[2]));
    }
    kit_verify(&kit);
  }
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void sparse_arenas(void) { each_mover(play_sparse); }

/* --- groups beside mutators ------------------------------------------------------------------------------------- */

enum { BESIDE = 12, MORE = 40 };

static void fill_beside(gch_ref *root) {
  for (int i = 0; i < BESIDE; i++) {
    root[i] = i % 2 ? filled(3000000 + 1000 * (uint64_t)i, (uint8_t)i) : numbered(300000, 1000);
    (void)(i % 2 ? kit_bytes(&kit, 20000) : kit_refs(&kit, 2000)); /* dies: a hole */
  }
}

static bool check_beside(const gch_ref *root) {
  for (int i = 0; i < BESIDE; i++)
    if (!(i % 2 ? check_filled(root[i], (uint8_t)i) : check_numbered(root[i], 1000))) return false;
  return kit_verify(&kit);
}

/* Everything is planned and armed, the flip waits. */
static void plan_beside(struct kit_request *request, const char *injected) {
  hold_before_flip(&kit, request, GCH_POLICY_ALL);
  CHECK(kit.heap->plan->large_arena_count >= 8);
  gch_inject(kit.heap, injected, NULL);
}

static void end_beside(struct kit_request *request) {
  hold_off(&kit, request);
  gch_inject(kit.heap, "", NULL);
}

/* Pages of the arenas that relocate and of those that they go to, but of what lives there, are nobody's meanwhile. */
static bool lies_in_relocation(gch_ref o) {
  const struct plan *p = kit.heap->plan;
  size_t first = arena_index(&kit.heap->layout, (uintptr_t)o);
  size_t last = arena_index(&kit.heap->layout, (uintptr_t)o + gch_object_bytes(kit.heap, o) - 1);
  for (uint32_t i = 0; i < p->large_arena_count; i++)
    for (size_t a = first; a <= last; a++)
      if (p->large_arenas[i].from == a || p->large_arenas[i].to == a) return true;
  return false;
}

static void born_beside(const char *refusal) {
  struct kit_request request;
  if (!open_kit(GCH_MOVER_MOVE, GCH_HUGE_ON)) SKIP("move", "not available here");
  GCH_FRAME(kit.m, root, BESIDE + MORE);
  fill_beside(root);
  for (int round = 0; round < 3; round++) {
    plan_beside(&request, refusal);
    for (int i = BESIDE; i < BESIDE + MORE; i++) {
      root[i] = i % 2 ? filled(12000, (uint8_t)i) : numbered(2000, 1000); /* they would fit the holes */
      CHECK(!lies_in_relocation(root[i]));
    }
    end_beside(&request);
    CHECK_EQ(kit.heap->measures.last_major.degraded, refusal[0] != 0);
    for (int i = BESIDE; i < BESIDE + MORE; i++)
      if (!(i % 2 ? check_filled(root[i], (uint8_t)i) : check_numbered(root[i], 1000))) break;
    if (!check_beside(root)) break;
    fresh_ones_are_zero(&root[BESIDE]);
  }
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void births_beside_groups(void) { born_beside(""); }
static void groups_that_are_not_flipped(void) { born_beside("mremap:ENOMEM"); }

/* What is pinned since the plan stays; the rest of its arenas is copied out from beside it. */
static void pins_beside_groups(void) {
  struct kit_request request;
  if (!open_kit(GCH_MOVER_MOVE, GCH_HUGE_ON)) SKIP("move", "not available here");
  GCH_FRAME(kit.m, root, BESIDE);
  fill_beside(root);
  for (int round = 0; round < 4; round++) {
    gch_ref pinned[2] = {NULL, NULL}, unpinned = NULL;
    plan_beside(&request, round == 3 ? "mremap:ENOMEM" : "");
    for (int i = 0; i < 2; i++) CHECK_EQ(gch_pin(kit.m, pinned[i] = root[4 * round % 8 + i], NULL), GCH_OK);
    unpinned = root[9];
    end_beside(&request);
    CHECK(root[9] != unpinned);
    for (int i = 0; i < 2; i++) {
      CHECK(root[4 * round % 8 + i] == pinned[i]);
      gch_unpin(kit.heap, pinned[i]);
    }
    const gch_cycle *r = &kit.heap->measures.last_major;
    if (round < 3) CHECK(r->arenas_moved > 0 && r->bytes_copied > 0);
    if (!check_beside(root)) break;
  }
  kit_major(&kit, GCH_POLICY_ALL, true, true);
  check_beside(root);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* Faults open some of the arenas: they are made by pieces, and their pages given back when the last is. */
static void faults_open_groups(void) {
  gch_config c = kit_config(GCH_MOVER_MOVE, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.gc_threads = 1;
  if (!kit_available(GCH_MOVER_MOVE)) SKIP("move", "not available here");
  if (!kit_open(&kit, &c)) return;
  GCH_FRAME(kit.m, root, BESIDE);
  fill_beside(root);
  for (int round = 0; round < 4; round++) {
    uint32_t opened = 0;
    struct pages_memory before, after;
    pages_memory_read(&before);
    hold_on(true);
    kit_major(&kit, GCH_POLICY_ALL, true, false);
    (void)*(volatile uint8_t *)(gch_payload(root[1 + 2 * round]) + 1500000);
    (void)*(volatile uint64_t *)(void *)gch_slot(root[2 * round], KIT_REFS + 8 * 150000);
    for (size_t a = 0; a < layout_arena_count(&kit.heap->layout); a++)
      opened += at_load(&kit.heap->tables.arenas[a].made) >= ARENA_OPEN;
    hold_end(&kit);
    CHECK(opened > 0);
    pages_memory_read(&after);
    if (!KIT_SANITIZED) CHECK(after.rss_anon_bytes < before.rss_anon_bytes + (12 << 20));
    if (!check_beside(root)) break;
    fresh_ones_are_zero(&root[BESIDE - 1]);
    root[BESIDE - 1] = filled(3000000, BESIDE - 1);
    kit_major(&kit, GCH_POLICY_ALL, false, true);
  }
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}

/* --- sliding -------------------------------------------------------------------------------------------------- */

enum { SLIDERS = 60 };

/* Every second object dies: the others go down, in order, to the start of the region, but for one that is pinned. */
static void play_slide(gch_huge huge, bool pin) {
  if (!open_kit(GCH_MOVER_SLIDE, huge)) return;
  GCH_FRAME(kit.m, root, SLIDERS);
  for (uint64_t i = 0; i < SLIDERS; i++)
    root[i] = i % 4 == 1 ? numbered(100000, 1000) : filled(500000 + 7000 * i, (uint8_t)i);
  for (uint64_t i = 0; i < SLIDERS; i += 2) root[i] = NULL;
  gch_ref pinned = root[31];
  void *payload;
  if (pin) CHECK_EQ(gch_pin(kit.m, pinned, &payload), GCH_OK);
  struct pages_memory before, after;
  pages_memory_read(&before);
  pages_peak_reset();
  kit_major(&kit, GCH_POLICY_ALL, false, true);
  pages_memory_read(&after);
  if (!KIT_SANITIZED)
    CHECK(after.peak_bytes < before.rss_anon_bytes + before.rss_file_bytes + (6 << 20)); /* in memory that was there */
  uintptr_t next[2] = {region_start(root[3]), region_start(root[1])};
  for (uint64_t i = 1; i < SLIDERS; i += 2) {
    bool refs = i % 4 == 1;
    if (refs)
      check_numbered(root[i], 1000);
    else
      check_filled(root[i], (uint8_t)i);
    if (pin && i == 31) next[refs] = (uintptr_t)pinned;
    CHECK_EQ((uintptr_t)root[i], next[refs]);
    next[refs] += align_up(gch_object_bytes(kit.heap, root[i]), kit.heap->layout.page_bytes);
  }
  kit_verify(&kit);
  root[0] = kit_refs(&kit, 100000);
  check_zero(root[0]);
  if (pin) gch_unpin(kit.heap, pinned);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void slide(void) {
  for (int pin = 0; pin < 2; pin++) {
    play_slide(GCH_HUGE_OFF, pin);
    play_slide(GCH_HUGE_ON, pin);
  }
}

/* --- pieces --------------------------------------------------------------------------------------------------- */

static void play_pieces(gch_mover mover, gch_huge huge) {
  const uint64_t count = 1000000; /* 8 pieces, the last one part of a page long */
  if (!open_kit(mover, huge)) return;
  GCH_FRAME(kit.m, root, 2);
  root[0] = numbered(count, 997);
  for (int cycle = 0; cycle < 3; cycle++) {
    root[1] = filled(5000000, 9);
    kit_major(&kit, cycle == 1 ? GCH_POLICY_NEEDED : GCH_POLICY_ALL, false, true);
    const struct plan *p = kit.heap->plan; /* as it was carried out */
    bool whole = kit.heap->mover->slides ? p->large_move_count > 0 : p->large_arena_count > 0;
    if (!whole) {
      uint32_t pieces = 0;
      for (uint32_t i = 0; i < p->piece_count; i++) pieces += !kit.heap->large.entries[p->pieces[i].id].leaf;
      CHECK_EQ(pieces, div_ceil(gch_object_bytes(kit.heap, root[0]), PLAN_PIECE_BYTES));
    }
    if (!check_numbered(root[0], 997) || !check_filled(root[1], 9)) break;
  }
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void pieces(void) { each_mover(play_pieces); }

/* Nothing dies: what is given back was copied before, and counts once. */
static void play_release(gch_mover mover, gch_huge huge) {
  if (!open_kit(mover, huge)) return;
  GCH_FRAME(kit.m, root, 2);
  root[0] = numbered(1000000, 997);
  root[1] = filled(9000000, 9);
  for (int cycle = 0; cycle < 4; cycle++) {
    gch_cycle r = kit_major(&kit, GCH_POLICY_ALL, cycle % 2, true);
    CHECK(r.bytes_released <= align_up(r.bytes_copied, ARENA_BYTES) + ARENA_BYTES);
    if (!kit.heap->mover->slides) CHECK(r.bytes_released + 1500000 >= r.bytes_copied / (cycle % 2 ? 2 : 1));
  }
  GCH_FRAME_END(kit.m);
  kit_close(&kit);
}
static void released_once(void) { each_mover(play_release); }

/* Large leaf objects move into pages beside others that stay, in the same blocks, while the program reads all of them. */
static void neighbours_of_armed_pages(gch_mover mover) {
  enum { OLD = 150, NEW = 60, BYTES = 12000 };
  struct kit k;
  struct kit_request request;
  gch_config c = kit_config(mover, 128, 1024);
  c.huge = GCH_HUGE_OFF;
  if (!kit_available(mover)) SKIP(gch_mover_name(mover), "not available here");
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, OLD + NEW);
  for (int round = 0; round < 6; round++) {
    for (uint64_t i = 0; i < OLD; i++) {
      root[i] = kit_bytes(&k, BYTES);
      memset(gch_payload(root[i]), (int)i + 1, BYTES);
    }
    kit_major(&k, GCH_POLICY_ALL, true, true);
    for (uint64_t i = OLD; i < OLD + NEW; i++) { /* in another region: the next cycle moves them */
      root[i] = kit_bytes(&k, BYTES);
      memset(gch_payload(root[i]), (int)i + 1, BYTES);
    }
    for (uint64_t i = 0; i < OLD; i += 3) root[i] = NULL;
    uint64_t majors = at_load(&k.heap->measures.major_count);
    kit_begin(&k, &request, GCH_POLICY_NEEDED);
    while (at_load(&k.heap->measures.major_count) == majors) {
      for (uint64_t i = 0; i < OLD + NEW; i++)
        if (root[i] != NULL) CHECK_EQ(((uint8_t *)gch_payload(root[i]))[BYTES / 2], (i + 1) % 256);
      gch_safepoint(k.m);
    }
    kit_end(&k, &request);
    if (!kit_verify(&k)) break;
  }
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void neighbours_of_closed_pages(void) { neighbours_of_armed_pages(GCH_MOVER_SIMULATED); }
static void neighbours_of_missing_pages(void) { neighbours_of_armed_pages(GCH_MOVER_MOVE); }

int main(void) {
  kit_decay = GCH_DECAY_NOW;
  kit_growth = GCH_GROWTH_NEVER;
  kit_watchdog(90);
  RUN(go_round_in_pause);
  RUN(go_round_beside);
  RUN(tops_fall);
  RUN(tops_rise_beside);
  RUN(empty_arenas);
  RUN(dead_neighbours);
  RUN(refused_arena);
  RUN(groups);
  RUN(sparse_arenas);
  RUN(births_beside_groups);
  RUN(groups_that_are_not_flipped);
  RUN(pins_beside_groups);
  RUN(faults_open_groups);
  RUN(slide);
  RUN(pieces);
  RUN(released_once);
  RUN(neighbours_of_closed_pages);
  RUN(neighbours_of_missing_pages);
  return CHECK_SUMMARY();
}
