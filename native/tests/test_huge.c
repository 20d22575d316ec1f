/* Concurrent majors where arenas are huge: made whole or by pieces, how many at once, what is left of them (I4). */
#include "gc/evacuate.h"
#include "gc/produce_arena.h"
#include "heap/unit.h"
#include "huge.h"
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

enum { BORN = 600 };

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
  batch_begin(&b, meeting.heap, GCH_ACTOR_MUTATOR);
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
  batch_begin(&b, k.heap, GCH_ACTOR_MUTATOR);
  produce_unit(&b, meeting.arena * ARENA_BLOCKS, true);
  batch_end(&b);
  CHECK(meeting.nested);
  CHECK_EQ(unit_state(k.heap, meeting.arena * ARENA_BLOCKS), UNIT_MAPPED);
  for (uint32_t i = 0; i < OPEN_ARENAS; i++) CHECK_EQ(at_load(&k.heap->open_arenas[i]), 0);
  hold_end(&k);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static uint32_t opening, read_beside, answered; /* [atomic] */

/* A fault in the arena is read while its opener has not opened it yet. */
static void read_while_opening(const char *name) {
  hold_worker(name);
  if (strcmp(name, "fault_read") == 0) at_store(&read_beside, at_load(&opening));
  if (strcmp(name, "arena_opening") != 0 || at_xchg(&opening, 1) != 0) return;
  for (int ms = 0; ms < 2000 && !at_load(&read_beside); ms++) usleep(1000);
  usleep(20000); /* the handler does what it does with it */
}

static void *open_first(void *heap) {
  struct batch b;
  batch_begin(&b, heap, GCH_ACTOR_MUTATOR);
  produce_unit(&b, meeting.arena * ARENA_BLOCKS, true);
  batch_end(&b);
  return NULL;
}

static void *touch_second(void *heap) {
  gch_heap *h = heap;
  while (!at_load(&opening)) usleep(100);
  (void)*(volatile uint8_t *)block_address(&h->layout, meeting.arena * ARENA_BLOCKS + 1);
  at_store(&answered, 1);
  return NULL;
}

/* The handler does not leave that fault to the workers (gcheap explore arenas --mutant fault_left_to_others). */
static void fault_meets_an_opener(void) {
  struct kit k;
  pthread_t opener, toucher;
  gch_config c = kit_config(GCH_MOVER_MOVE, 256, 1024);
  c.huge = GCH_HUGE_ON;
  c.fault_mode = GCH_FAULT_THREAD;
  c.gc_threads = 1;
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 2);
  populate(&k, root);
  meeting.heap = k.heap;
  opening = read_beside = answered = 0;
  hold_on(true);
  at_store(&gch_hook_fn, read_while_opening);
  kit_major(&k, GCH_POLICY_ALL, true, false);
  meeting.arena = find_unmade(k.heap);
  if (CHECK(meeting.arena != 0) && CHECK_EQ(unit_state(k.heap, meeting.arena * ARENA_BLOCKS + 1), UNIT_ARMED)) {
    pthread_create(&toucher, NULL, touch_second, k.heap);
    pthread_create(&opener, NULL, open_first, k.heap);
    pthread_join(opener, NULL);
    for (int ms = 0; ms < 2000 && !at_load(&answered); ms++) usleep(1000);
    CHECK(at_load(&read_beside));
    CHECK(at_load(&answered)); /* the only worker is held */
    hold_end(&k);
    pthread_join(toucher, NULL);
  }
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
  batch_begin(&b, h, GCH_ACTOR_MUTATOR);
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
  c.summaries = GCH_SUMMARIES_OFF; /* else nothing would be made: all of it is at home */
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
  hold_end(&k);
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

int main(void) {
  kit_decay = GCH_DECAY_NOW;
  kit_growth = GCH_GROWTH_NEVER;
  if (!huge_available("test_huge")) return CHECK_EXIT_SKIPPED;
  kit_watchdog(90);
  RUN(faults_open_few_arenas);
  RUN(faults_in_the_thread);
  RUN(faults_take_arenas_whole);
  RUN(arenas_are_copied);
  RUN(arenas_of_small_pages);
  RUN(throughput_opens_none);
  RUN(opened_arenas_are_collapsed);
  RUN(openers_meet);
  RUN(fault_meets_an_opener);
  RUN(deciders_meet);
  RUN(consumers_meet);
  RUN(born_before_a_flip);
  RUN(born_before_no_flip);
  return CHECK_SUMMARY();
}
