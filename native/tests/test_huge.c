/* Concurrent majors where arenas are huge: made whole or by pieces, how many at once, what is left of them (I4). */
#include "gc/evacuate.h"
#include "gc/produce_arena.h"
#include "heap/small.h"
#include "heap/unit.h"
#include "hold.h"
#include "os/pages.h"

enum { ARRAYS = 24, LENGTH = 1000, NODES = ARRAYS * LENGTH };

static struct {
  uint32_t most_open; /* [atomic] seen at any claim */
  gch_heap *heap;     /* [atomic] looked at */
} seen;

static void look(const char *name) {
  gch_heap *h = at_load(&seen.heap);
  uint32_t open = 0, most = at_load(&seen.most_open);
  if (h == NULL || strcmp(name, "unit_claimed") != 0) return;
  for (uint32_t i = 0; i < OPEN_ARENAS; i++) open += at_load(&h->open_arenas[i]) != 0;
  while (open > most && !at_cas(&seen.most_open, &most, open)) {
  }
}

static bool open_huge(struct kit *k, gch_mover mover, gch_fault_mode faults, gch_huge_faults huge_faults) {
  gch_config c = kit_config(mover, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.fault_mode = faults;
  c.huge_faults = huge_faults;
  return kit_open(k, &c) && CHECK(k->heap->huge);
}

/* Arrays of nodes with 400 bytes of leaf memory each, two thirds of them dropped again: several arenas, sparse. */
static void populate(struct kit *k, gch_ref *root) {
  root[0] = kit_refs(k, ARRAYS);
  for (uint64_t a = 0; a < ARRAYS; a++) {
    root[1] = kit_refs(k, LENGTH);
    kit_put(k, root[0], a, root[1]);
    for (uint64_t i = 0; i < LENGTH; i++) {
      kit_put_node(k, &root[1], i, a * LENGTH + i);
      gch_ref bytes = kit_bytes(k, 400);
      memset((char *)gch_payload(bytes) + 8, (int)i, 400);
      gch_set(k->m, kit_at(root[1], i), KIT_A, bytes);
      if (i > 2) gch_set(k->m, kit_at(root[1], i), KIT_B, kit_at(root[1], i - 3));
    }
  }
  kit_minor(k, true);
}

static bool check_node(gch_ref node, uint64_t number) {
  const uint8_t *bytes = gch_payload(gch_load(node, KIT_A));
  return CHECK_EQ(*kit_number(node), number) && CHECK_EQ(bytes[8 + 399], number % LENGTH % 256);
}

/* Touches everything in an order of its own, while the heap moves. */
static void touch_all(struct kit *k, gch_ref *root, uint64_t stride) {
  for (uint64_t n = 0, i = 0; n < NODES; n++, i = (i + stride) % NODES) {
    if (!check_node(kit_at(kit_at(root[0], i / LENGTH), i % LENGTH), i)) return;
    if (i % 7 == 0) {
      root[1] = kit_at(kit_at(root[0], i / LENGTH), i % LENGTH);
      gch_ref fresh = kit_node(k, i);
      gch_set(k->m, root[1], KIT_C, fresh);
    }
    gch_safepoint(k->m);
  }
}

static void majors_beside_under(gch_mover mover, gch_fault_mode faults, gch_huge_faults huge_faults, const char *spec) {
  struct kit k;
  if (!open_huge(&k, mover, faults, huge_faults)) return;
  GCH_FRAME(k.m, root, 2);
  populate(&k, root);
  CHECK_EQ(gch_inject(k.heap, spec, NULL), GCH_OK);
  at_store(&seen.most_open, 0);
  at_store(&seen.heap, k.heap);
  at_store(&gch_hook_fn, look);
  for (uint64_t round = 0; round < 6; round++) {
    kit_major(&k, round % 3 == 2 ? GCH_POLICY_NEEDED : GCH_POLICY_ALL, true, false);
    touch_all(&k, root, 7919 + 2 * round);
    gch_collect_wait(k.m, NULL);
    for (uint32_t i = 0; i < OPEN_ARENAS; i++) CHECK_EQ(at_load(&k.heap->open_arenas[i]), 0);
    if (!kit_verify(&k)) break;
  }
  at_store(&gch_hook_fn, NULL);
  at_store(&seen.heap, NULL);
  CHECK(seen.most_open <= k.heap->open_limit);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void majors_beside(gch_mover mover, gch_fault_mode faults, gch_huge_faults huge_faults) {
  majors_beside_under(mover, faults, huge_faults, "");
}

/* What has been opened stays in small pages, and is given back by these, or not. */
static void arenas_of_small_pages(void) {
  majors_beside_under(GCH_MOVER_MOVE, GCH_FAULT_THREAD, GCH_HUGE_LATENCY, "collapse:EAGAIN");
  majors_beside_under(GCH_MOVER_MOVE, GCH_FAULT_SIGNAL, GCH_HUGE_LATENCY, "collapse:EAGAIN;drop:ENOMEM@p=0.3,seed=1");
  majors_beside_under(GCH_MOVER_COPY, GCH_FAULT_THREAD, GCH_HUGE_LATENCY, "collapse:EAGAIN;drop:ENOMEM@p=0.3,seed=2");
}
static void faults_open_few_arenas(void) { majors_beside(GCH_MOVER_MOVE, GCH_FAULT_THREAD, GCH_HUGE_LATENCY); }
static void faults_in_the_thread(void) { majors_beside(GCH_MOVER_MOVE, GCH_FAULT_SIGNAL, GCH_HUGE_LATENCY); }
static void faults_take_arenas_whole(void) { majors_beside(GCH_MOVER_MOVE, GCH_FAULT_SIGNAL, GCH_HUGE_THROUGHPUT); }
static void arenas_are_copied(void) { majors_beside(GCH_MOVER_COPY, GCH_FAULT_THREAD, GCH_HUGE_LATENCY); }

/* Whole arenas only, if nobody is in a hurry: none is opened, pages are huge afterwards. */
static void throughput_opens_none(void) {
  struct kit k;
  if (!open_huge(&k, GCH_MOVER_MOVE, GCH_FAULT_SIGNAL, GCH_HUGE_THROUGHPUT)) return;
  GCH_FRAME(k.m, root, 2);
  populate(&k, root);
  kit_major(&k, GCH_POLICY_ALL, false, true); /* whole arenas from here on */
  at_store(&seen.most_open, 0);
  at_store(&seen.heap, k.heap);
  at_store(&gch_hook_fn, look);
  kit_major(&k, GCH_POLICY_ALL, true, false);
  touch_all(&k, root, 7919);
  gch_collect_wait(k.m, NULL);
  at_store(&gch_hook_fn, NULL);
  at_store(&seen.heap, NULL);
  CHECK_EQ(seen.most_open, 0);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* An arena in use that was made by pieces is a huge page again when the cycle has ended. */
static void opened_arenas_are_collapsed(void) {
  struct kit k;
  if (!open_huge(&k, GCH_MOVER_MOVE, GCH_FAULT_SIGNAL, GCH_HUGE_LATENCY)) return;
  if (k.heap->probe.collapse.works == 0) SKIP("MADV_COLLAPSE", "not here");
  GCH_FRAME(k.m, root, 2);
  populate(&k, root);
  kit_major(&k, GCH_POLICY_ALL, true, false);
  touch_all(&k, root, 7919);
  gch_collect_wait(k.m, NULL);
  uint32_t full = 0, huge = 0;
  for (size_t a = 0; a < layout_arena_count(&k.heap->layout); a++) {
    const struct arena *arena = &k.heap->tables.arenas[a];
    if (__builtin_popcount(arena->used) < 16 ||
        heap_region(k.heap, arena_address(&k.heap->layout, a))->space > SPACE_LARGE_LEAF)
      continue;
    full++;
    huge += arena->huge;
  }
  CHECK(full > 3);
  CHECK_EQ(huge, full);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* --- between plan and flip -------------------------------------------------------------------------------------- */

enum { DENSE = 27000, SLOTS = 100, BORN = 600 }; /* ten arenas and a half, dense: they relocate whole */

static void fill(struct kit *k, gch_ref *table, uint64_t count, uint64_t number) {
  *table = kit_refs(k, count);
  for (uint64_t i = 0; i < count; i++) {
    gch_ref o = kit_refs(k, SLOTS);
    *kit_number(o) = number + i;
    kit_put(k, *table, i, o);
  }
}

static void check_filled(gch_ref table, uint64_t count, uint64_t number) {
  for (uint64_t i = 0; i < count; i++)
    if (!CHECK_EQ(*kit_number(kit_at(table, i)), number + i)) break;
}

/* Does an arena in which one of the table's objects lies move away as it is, or does one come there? */
static bool lies_in_whole(const struct kit *k, gch_ref table, uint64_t count) {
  const struct tables *t = &k->heap->tables;
  bool whole = false;
  for (uint64_t i = 0; i < count; i++) {
    size_t first = block_index(&k->heap->layout, (uintptr_t)kit_at(table, i)) / ARENA_BLOCKS * ARENA_BLOCKS;
    for (size_t b = first; b < first + ARENA_BLOCKS; b++)
      whole |= (t->forward[b] != 0 && t->forward[b] != FORWARD_EVACUATED) || t->dest[b] & DEST_RELOCATED;
  }
  return whole;
}

/* What is promoted between plan and flip finds no place in an arena whose pages go to another, nor in that other: it stays
 * where it is while they go. */
static void born_beside_relocations(bool refused) {
  struct kit k;
  struct kit_request request;
  if (!open_huge(&k, GCH_MOVER_MOVE, GCH_FAULT_THREAD, GCH_HUGE_LATENCY)) return;
  GCH_FRAME(k.m, root, 2);
  fill(&k, &root[0], DENSE, 0);
  kit_minor(&k, true);
  hold_before_flip(&k, &request, GCH_POLICY_ALL);
  if (refused) gch_inject(k.heap, "mremap:ENOMEM", NULL);
  fill(&k, &root[1], BORN, DENSE);
  kit_minor(&k, true);
  CHECK_EQ(at_load(&k.heap->phase), (uint32_t)GCH_PHASE_PLAN);
  CHECK(!lies_in_whole(&k, root[1], BORN));
  hold_off(&k, &request);
  CHECK_EQ(k.heap->measures.last_major.degraded, refused);
  check_filled(root[1], BORN, DENSE);
  check_filled(root[0], DENSE, 0);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}
static void born_before_a_flip(void) { born_beside_relocations(false); }
static void born_before_no_flip(void) { born_beside_relocations(true); }

/* --- who is last, who is first ---------------------------------------------------------------------------------- */

static struct {
  gch_heap *heap;
  size_t arena;
  uint32_t nested;
} meeting;

/* The first time: another thread opens the arena, makes all of it and closes it. */
static void meet_another_opener(const char *name) {
  struct batch b;
  hold_worker(name);
  if (strcmp(name, "place_taken") != 0 || at_xchg(&meeting.nested, 1) != 0) return;
  batch_begin(&b, meeting.heap);
  for (size_t i = 0; i < ARENA_BLOCKS; i++) produce_unit(&b, meeting.arena * ARENA_BLOCKS + i, true);
  batch_end(&b);
}

static size_t find_unmade(const gch_heap *h) {
  for (size_t a = layout_arena_count(&h->layout) - 1; a > 0; a--)
    if (at_load(&h->tables.arenas[a].made) == ARENA_UNMADE && unit_state(h, a * ARENA_BLOCKS) == UNIT_ARMED) return a;
  return 0;
}

/* Two threads want to open an arena; the one that is late finds it closed already. No place is lost. */
static void openers_meet(void) {
  struct kit k;
  struct batch b;
  gch_config c = kit_config(GCH_MOVER_MOVE, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.fault_mode = GCH_FAULT_SIGNAL;
  c.gc_threads = 1;
  c.staging_bytes = 32 << 20; /* several places */
  if (!kit_open(&k, &c) || !CHECK(k.heap->open_limit > 1)) return;
  GCH_FRAME(k.m, root, 2);
  populate(&k, root);
  meeting.heap = k.heap;
  meeting.nested = 0;
  hold_on(true);
  at_store(&gch_hook_fn, meet_another_opener);
  kit_major(&k, GCH_POLICY_ALL, true, false);
  meeting.arena = find_unmade(k.heap);
  CHECK(meeting.arena != 0);
  batch_begin(&b, k.heap);
  produce_unit(&b, meeting.arena * ARENA_BLOCKS, true);
  batch_end(&b);
  CHECK(meeting.nested);
  CHECK_EQ(unit_state(k.heap, meeting.arena * ARENA_BLOCKS), UNIT_MAPPED);
  for (uint32_t i = 0; i < OPEN_ARENAS; i++) CHECK_EQ(at_load(&k.heap->open_arenas[i]), 0);
  at_store(&hold, 0);
  gch_collect_wait(k.m, NULL);
  hold_on(false);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static uint32_t judged; /* [atomic] */

/* The late thread, which has found the arena unmade, decides when it has been made. (Relaxed: nothing but the arena's own
 * fields may order the two.) */
static void decide_late(const char *name) {
  char thread[16] = "";
  hold_worker(name);
  if (strcmp(name, "arena_judged") != 0) return;
  pthread_getname_np(pthread_self(), thread, sizeof thread);
  if (strcmp(thread, "late") != 0) return;
  at_store_relaxed(&judged, 1);
  while (at_load_relaxed(&meeting.heap->tables.arenas[meeting.arena].made) != ARENA_WHOLE) usleep(100);
}

static void make_unit(gch_heap *h) {
  struct batch b;
  batch_begin(&b, h);
  produce_unit(&b, meeting.arena * ARENA_BLOCKS, false);
  batch_end(&b);
}

static void *late_maker(void *heap) {
  pthread_setname_np(pthread_self(), "late");
  make_unit(heap);
  return NULL;
}

/* An arena of which all that is left stays: it is made in its shadow. */
static size_t find_staying(const gch_heap *h) {
  for (size_t a = layout_arena_count(&h->layout) - 1; a > 0; a--) {
    const struct arena *arena = &h->tables.arenas[a];
    uint32_t stay = 0, other = 0;
    for (size_t b = a * ARENA_BLOCKS; b < (a + 1) * ARENA_BLOCKS; b++) {
      bool large = h->tables.blocks[b].state == BLOCK_LARGE, armed = unit_state(h, b) == UNIT_ARMED;
      stay += armed && h->tables.dest[b] == 0 && !large;
      other += armed && (h->tables.dest[b] != 0 || large);
    }
    bool whole = arena->huge && arena->populated == UINT32_MAX && at_load(&arena->pending) == 0;
    if (whole && stay != 0 && other == 0) return a;
  }
  return 0;
}

/* Who is late looks at an arena that another thread is making, or has made. (What it may not do, the thread sanitizer sees.) */
static void deciders_meet(void) {
  struct kit k;
  pthread_t late;
  gch_config c = kit_config(GCH_MOVER_MOVE, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.fault_mode = GCH_FAULT_SIGNAL;
  c.gc_threads = 1; /* the controller makes all units */
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 2);
  fill(&k, &root[0], DENSE / 2, 0);
  kit_minor(&k, true);
  kit_major(&k, GCH_POLICY_ALL, false, true); /* dense from here on */
  meeting.heap = k.heap;
  judged = 0;
  hold_on(true);
  at_store(&gch_hook_fn, decide_late);
  kit_major(&k, GCH_POLICY_NEEDED, true, false);
  meeting.arena = find_staying(k.heap);
  if (CHECK(meeting.arena != 0)) {
    pthread_create(&late, NULL, late_maker, k.heap);
    while (at_load_relaxed(&judged) == 0) usleep(100);
    make_unit(k.heap);
    pthread_join(late, NULL);
    CHECK_EQ(at_load(&k.heap->tables.arenas[meeting.arena].made), ARENA_WHOLE);
    CHECK_EQ(unit_state(k.heap, meeting.arena * ARENA_BLOCKS), UNIT_MAPPED);
  }
  at_store(&hold, 0);
  gch_collect_wait(k.m, NULL);
  hold_on(false);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* The arena's last source has been read; before that one looks whether it can go, it is opened, made and closed. */
static void meet_a_closer(const char *name) {
  gch_heap *h = meeting.heap;
  struct arena *arena = &h->tables.arenas[meeting.arena];
  if (strcmp(name, "arena_consumed") != 0 || at_xchg(&meeting.nested, 1) != 0) return;
  at_store(&arena->left, 1u);
  at_add(&arena->pending, 1u);
  at_store(&arena->made, (uint32_t)ARENA_OPEN);
  consume_opened(h, meeting.arena * ARENA_BLOCKS);
}

static void consumers_meet(void) {
  struct kit k;
  if (!open_huge(&k, GCH_MOVER_MOVE, GCH_FAULT_SIGNAL, GCH_HUGE_LATENCY)) return;
  gch_heap *h = k.heap;
  uint32_t region = layout_first_region(&h->layout, SPACE_OLD);
  meeting.heap = h;
  meeting.nested = 0;
  meeting.arena = arena_index(&h->layout, h->layout.regions[region].start);
  struct arena *arena = &h->tables.arenas[meeting.arena], before = *arena;
  *arena = (struct arena){.huge = 1, .fate = ARENA_STAYS, .pending = 1};
  h->flipped = (uint64_t)1 << region;
  at_store(&gch_hook_fn, meet_a_closer);
  consume_in_huge_arena(h, h->layout.regions[region].start, h->layout.shadow_delta);
  at_store(&gch_hook_fn, NULL);
  CHECK(meeting.nested);
  CHECK_EQ(h->frames.arena_count, 1); /* once */
  h->frames.arena_count = 0;
  h->flipped = 0;
  *arena = before;
  kit_close(&k);
}

/* --- what is left of opened arenas ------------------------------------------------------------------------------- */

/* A concurrent major whose collector is held up until some of the objects have been touched: that opens arenas. */
static void major_with_touches(struct kit *k, const gch_ref *objects, uint64_t count, uint64_t most) {
  hold_on(true);
  kit_major(k, GCH_POLICY_ALL, true, false);
  for (uint64_t i = 0; i < count; i++) {
    (void)*(volatile uint64_t *)(void *)gch_slot(objects[i], KIT_BYTES);
    if (--most == 0) break; /* more might wait for a place */
  }
  at_store(&hold, 0);
  gch_collect_wait(k->m, NULL);
  hold_on(false);
}

static uint32_t count_present(struct kit *k, size_t arena) {
  uintptr_t at = arena_address(&k->heap->layout, arena), end = at + ARENA_BYTES;
  uint32_t present = 0;
  for (; at < end; at += k->heap->layout.page_bytes)
    present += kernel_pagemap_present(&k->heap->kernel, (void *)at) == 1;
  return present;
}

/* Pages present in arenas of large leaf objects of which the tables say that they are empty. */
static uint32_t count_stray(struct kit *k) {
  uint32_t stray = 0, region = layout_first_region(&k->heap->layout, SPACE_LARGE_LEAF);
  for (uint32_t r = region; r < region + k->heap->layout.per_space; r++)
    for (size_t a = region_first_arena(k->heap, r), end = a + 4; a < end; a++) {
      const struct arena *arena = &k->heap->tables.arenas[a];
      if (arena->used == 0 && arena->populated == 0 && !arena->huge) stray += count_present(k, a);
    }
  return stray;
}

/* The kernel will not collapse: no page is left over in arenas that are emptied later (in a leaf
 * destination it would be seen before its unit is made). */
static void collapse_refused(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MOVE, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.fault_mode = GCH_FAULT_SIGNAL;
  c.gc_threads = 1;
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 5);
  for (int i = 0; i < 5; i++) {
    root[i] = kit_bytes(&k, 700000); /* an arena and three quarters */
    memset(gch_slot(root[i], KIT_BYTES), 0x5a, 700000);
  }
  for (int round = 0; round < 4; round++) {
    gch_inject(k.heap, "collapse:EAGAIN", NULL);
    major_with_touches(&k, root, 5, 1);
    gch_inject(k.heap, "", NULL);
    CHECK_EQ(count_stray(&k), 0);
    for (int i = 0; i < 5; i++) CHECK_EQ(*((uint8_t *)gch_slot(root[i], KIT_BYTES) + 699999), 0x5a);
    if (!kit_verify(&k)) break;
  }
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

enum { OBJECTS = 64, OBJECT_BYTES = (1 << 20) - 64 };

/* Large objects, every other one with references, in arenas of small pages: what a refused collapse leaves. */
static void fill_small_pages(struct kit *k, gch_ref *table) {
  *table = kit_refs(k, OBJECTS);
  for (uint64_t i = 0; i < OBJECTS; i++) {
    gch_ref o = i % 2 ? kit_refs(k, OBJECT_BYTES / 8) : kit_bytes(k, OBJECT_BYTES);
    kit_put(k, *table, i, o);
    if (i % 2)
      kit_put(k, o, OBJECT_BYTES / 8 - 1, o);
    else
      memset(gch_slot(o, KIT_BYTES), (int)i, OBJECT_BYTES);
  }
  for (size_t a = 0; a < layout_arena_count(&k->heap->layout); a++)
    if (space_is_large(heap_region(k->heap, arena_address(&k->heap->layout, a))->space))
      k->heap->tables.arenas[a].huge = 0;
}

static void touch_large(gch_ref table) {
  for (uint64_t i = 0, n = 0; n < OBJECTS; n++, i = (i + 37) % OBJECTS) {
    gch_ref o = kit_at(table, i);
    if (i % 2)
      CHECK(kit_at(o, OBJECT_BYTES / 8 - 1) == o);
    else
      CHECK_EQ(*((uint8_t *)gch_slot(o, KIT_BYTES) + OBJECT_BYTES - 1), i);
  }
}

enum beside { IN_PAUSE, WORKERS_ONLY, TOUCHED };

/* All of it moves, and memory never exceeds what was there by more than the budget (I4). */
static void small_pages_move(gch_mover mover, enum beside beside) {
  enum { STAGING = 8 << 20, SLACK = 6 << 20 };
  struct kit k;
  struct pages_memory before, after;
  gch_config c = kit_config(mover, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.fault_mode = GCH_FAULT_SIGNAL;
  c.gc_threads = 1;
  c.staging_bytes = STAGING;
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  fill_small_pages(&k, &root[0]);
  kit_minor(&k, true);
  CHECK_EQ(pages_peak_reset(), 0);
  CHECK_EQ(pages_memory_read(&before), 0);
  gch_cycle r = kit_major(&k, GCH_POLICY_ALL, beside != IN_PAUSE, beside != TOUCHED);
  if (beside == TOUCHED) touch_large(root[0]);
  gch_collect_wait(k.m, NULL);
  CHECK_EQ(pages_memory_read(&after), 0);
  CHECK(!r.degraded);
  uint64_t limit = before.rss_anon_bytes + before.rss_shmem_bytes + before.rss_file_bytes + STAGING + SLACK;
  if (!KIT_SANITIZED && !CHECK(after.peak_bytes <= limit)) /* their own memory is resident too */
    printf("    %s %d: %lld KiB beyond\n", gch_mover_name(mover), (int)beside,
           (long long)(after.peak_bytes - limit) >> 10);
  touch_large(root[0]);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void sources_of_small_pages_go_at_once(void) {
  for (int beside = IN_PAUSE; beside <= TOUCHED; beside++) {
    small_pages_move(GCH_MOVER_MOVE, (enum beside)beside);
    small_pages_move(GCH_MOVER_COPY, (enum beside)beside);
  }
}

/* Sources in an opened arena are not in use any more when it is decided whether it becomes a huge page again. */
static void emptied_arenas_are_not_collapsed(void) {
  enum { COUNT = 12000, STEP = 16, PINS = 8 };
  struct kit k;
  gch_ref pinned[PINS];
  uint64_t used = 0, present = 0;
  gch_config c = kit_config(GCH_MOVER_MOVE, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.fault_mode = GCH_FAULT_SIGNAL;
  c.gc_threads = 1;
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  fill(&k, &root[0], COUNT, 0);
  kit_minor(&k, true);
  for (uint64_t i = 0; i < COUNT; i++)
    if (i % STEP != 0)
      kit_put(&k, root[0], i, *kit_number(kit_at(root[0], i)) == i ? kit_at(root[0], i / STEP * STEP) : NULL);
  for (uint64_t i = 0; i < PINS; i++) {
    pinned[i] = kit_at(root[0], i * (COUNT / PINS));
    CHECK_EQ(gch_pin(k.m, pinned[i], NULL), GCH_OK);
  }
  major_with_touches(&k, pinned, PINS, PINS);
  for (uint64_t i = 0; i < PINS; i++) {
    size_t a = arena_index(&k.heap->layout, (uintptr_t)pinned[i]);
    used += (uint64_t)__builtin_popcount(k.heap->tables.arenas[a].used) * (BLOCK_BYTES / k.heap->layout.page_bytes);
    present += count_present(&k, a);
    CHECK_EQ(gch_unpin(k.heap, pinned[i]), GCH_OK);
  }
  CHECK(used > 0 && present <= used);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* --- what opened arenas give back -------------------------------------------------------------------------------- */

/* A destination that nobody has made yet: all its units are filled (relocated: from another arena), and some were armed. */
static size_t find_destination(const gch_heap *h, enum space_id space, bool relocated) {
  for (size_t a = 0; a < layout_arena_count(&h->layout); a++) {
    if (heap_region(h, arena_address(&h->layout, a))->space != space || h->tables.arenas[a].populated != 0) continue;
    uint32_t units = 0, from_another = 0;
    for (size_t b = a * ARENA_BLOCKS; b < (a + 1) * ARENA_BLOCKS; b++) {
      units += unit_state(h, b) == UNIT_ARMED;
      from_another += (h->tables.dest[b] & DEST_RELOCATED) != 0;
    }
    if (units == ARENA_BLOCKS && (from_another != 0) == relocated && at_load(&h->tables.arenas[a].made) == ARENA_UNMADE)
      return a;
  }
  return SIZE_MAX;
}

/* Touches every block of the arena, whose units the handler makes by pieces: the last one closes it. Returns what has been given
 * back meanwhile, to the system or for reuse. */
static uint64_t touch_arena(gch_heap *h, size_t arena) {
  uint64_t before = at_load(&h->moved.released) + h->frames.arena_count * (uint64_t)ARENA_BYTES;
  for (size_t b = arena * ARENA_BLOCKS; b < (arena + 1) * ARENA_BLOCKS; b++)
    (void)*(volatile uint8_t *)block_address(&h->layout, b);
  CHECK(at_load(&h->tables.arenas[arena].made) >= ARENA_CLOSED);
  return at_load(&h->moved.released) + h->frames.arena_count * (uint64_t)ARENA_BYTES - before;
}

static bool open_for_touches(struct kit *k, gch_mover mover) {
  gch_config c = kit_config(mover, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.fault_mode = GCH_FAULT_SIGNAL;
  c.gc_threads = 1;
  return kit_available(mover) && kit_open(k, &c);
}

/* An arena into which a part of a large object moves was empty: when it is closed, nothing of its own is given back, nor
 * counted; only the first arena of the source, which has been read whole. */
static void filled_arenas_give_nothing(gch_mover mover) {
  struct kit k;
  if (!open_for_touches(&k, mover)) return;
  GCH_FRAME(k.m, root, 2);
  root[0] = kit_refs(
      &k, 100000); /* two fifths of an arena, which die: the two that are left are too sparse to relocate whole */
  root[1] = kit_refs(&k, 314572); /* six fifths */
  kit_put(&k, root[1], 314571, root[1]);
  root[0] = NULL;
  hold_on(true);
  CHECK(!kit_major(&k, GCH_POLICY_ALL, true, false).degraded);
  size_t arena = find_destination(k.heap, SPACE_LARGE, false);
  if (CHECK(arena != SIZE_MAX)) CHECK_EQ(touch_arena(k.heap, arena), ARENA_BYTES);
  at_store(&hold, 0);
  gch_collect_wait(k.m, NULL);
  hold_on(false);
  CHECK(kit_at(root[1], 314571) == root[1]);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* An arena to which another relocates: what goes is the other's page, once, in whatever life the arena is. */
static void relocated_arenas_give_one(gch_mover mover) {
  struct kit k;
  if (!open_for_touches(&k, mover)) return;
  GCH_FRAME(k.m, root, 1);
  fill(&k, &root[0], DENSE, 0);
  kit_minor(&k, true);
  kit_major(&k, GCH_POLICY_NEEDED, true, true); /* all stay */
  for (int round = 0; round < 4; round++) {
    hold_on(true);
    CHECK(!kit_major(&k, GCH_POLICY_ALL, true, false).degraded);
    size_t arena = find_destination(k.heap, SPACE_OLD, true);
    if (CHECK(arena != SIZE_MAX)) {
      if (round % 2) k.heap->tables.arenas[arena].fate = ARENA_STAYS; /* as an earlier life may have left it */
      size_t source = (k.heap->tables.dest[arena * ARENA_BLOCKS] & ~DEST_RELOCATED) / ARENA_BLOCKS;
      CHECK_EQ(k.heap->tables.arenas[source].populated, UINT32_MAX);
      CHECK_EQ(touch_arena(k.heap, arena), ARENA_BYTES);
      CHECK_EQ(k.heap->tables.arenas[source].populated, 0);
    }
    at_store(&hold, 0);
    gch_collect_wait(k.m, NULL);
    hold_on(false);
    check_filled(root[0], DENSE, 0);
    if (!kit_verify(&k)) break;
  }
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void closed_arenas_give_what_was_there(void) {
  for (int mover = GCH_MOVER_MOVE; mover <= GCH_MOVER_COPY; mover++) {
    filled_arenas_give_nothing((gch_mover)mover);
    relocated_arenas_give_one((gch_mover)mover);
  }
}

int main(void) {
  if (!kit_available(GCH_MOVER_MOVE)) {
    printf("  SKIP test_huge: move: not available here\n");
    return CHECK_EXIT_SKIPPED;
  }
  if (pages_thp_policy() == PAGES_THP_NEVER) {
    printf("  SKIP test_huge: the kernel's huge pages are off\n");
    return CHECK_EXIT_SKIPPED;
  }
  kit_watchdog(60);
  RUN(faults_open_few_arenas);
  RUN(faults_in_the_thread);
  RUN(faults_take_arenas_whole);
  RUN(arenas_are_copied);
  RUN(arenas_of_small_pages);
  RUN(throughput_opens_none);
  RUN(opened_arenas_are_collapsed);
  RUN(emptied_arenas_are_not_collapsed);
  RUN(collapse_refused);
  RUN(sources_of_small_pages_go_at_once);
  RUN(openers_meet);
  RUN(deciders_meet);
  RUN(consumers_meet);
  RUN(closed_arenas_give_what_was_there);
  RUN(born_before_a_flip);
  RUN(born_before_no_flip);
  return CHECK_SUMMARY();
}
