/* The verifier finds what is wrong with an arena: each thing that heap/tables.h says of one, and what a cycle must not
 * leave over, is broken by hand in each space of which it is said, found, and mended. So are ages, the accounting of
 * young blocks, and free lists. */
#include "huge.h"

/* Objects in every space: old and young, with references and without, small and large. */
static void fill_spaces(struct kit *k, gch_ref *root) {
  root[0] = kit_refs(k, 8), root[1] = kit_bytes(k, 64);
  kit_minor(k, true);
  root[2] = kit_refs(k, 100000), root[3] = kit_bytes(k, 100000);
  root[4] = kit_node(k, 1);
}

/* Is the breach found, and does the message say this? */
static void found(struct kit *k, const char *what) {
  gch_error error = {0};
  CHECK_EQ(gch_verify(k->m, &error), GCH_CORRUPT);
  if (!CHECK(strstr(error.message, what) != NULL)) fprintf(stderr, "'%s', expected '%s'\n", error.message, what);
}

static void spoil_used(struct kit *k, struct arena *arena, uint32_t bit) {
  arena->used ^= bit;
  found(k, "its arena says it is");
  arena->used ^= bit;
}

/* Another block than the one with the object, free, said to be used in every place but the bitmap of pages. */
static void spoil_free(struct kit *k, struct arena *arena, size_t block, bool large) {
  uint32_t bit = (uint32_t)1 << block % ARENA_BLOCKS;
  uint8_t state = large ? BLOCK_LARGE : BLOCK_USED;
  if (!CHECK_EQ(arena->used & bit, 0)) return;
  k->heap->tables.blocks[block].state = state;
  found(k, "its arena says it is free");
  arena->used |= bit;
  if (arena->populated & bit)
    found(k, large ? "no page of it belongs" : "accounted for");
  else
    found(k, large ? "no page of it belongs" : "not populated");
  k->heap->tables.blocks[block].state = large ? BLOCK_USED : BLOCK_LARGE;
  found(k, "which none of its space has");
  k->heap->tables.blocks[block].state = BLOCK_DEST;
  found(k, "which none of its space has");
  k->heap->tables.blocks[block].state = BLOCK_FREE;
  arena->used &= ~bit;
}

static void spoil_populated(struct kit *k, struct arena *arena, uint32_t bit, bool large) {
  struct arena was = *arena;
  if (large) {
    arena->populated ^= bit; /* one block of a huge arena is missing, or only one is there */
    found(k, "expected all and huge, or none");
    arena->populated = was.populated;
  } else {
    arena->populated &= ~bit;
    found(k, was.huge && arena->populated == 0 ? "nothing of it" : "in use but not populated");
    arena->populated = was.populated;
  }
  arena->huge = !was.huge;
  if (!was.huge)
    found(k, "huge pages are not asked for");
  else if (large)
    found(k, "expected all and huge, or none");
  *arena = was;
  if (!was.huge) return;
  arena->populated = 0;
  found(k, "nothing of it is populated");
  *arena = was;
}

/* What a cycle may have left over. */
static void spoil_rest(struct kit *k, struct arena *arena, size_t block, uint32_t bit) {
  struct tables *t = &k->heap->tables;
  t->forward[block] = 64;
  found(k, "still forwards");
  t->forward[block] = 0;
  t->dest[block] = 1;
  found(k, "still in a plan");
  t->dest[block] = 0, t->needed[block] = 1;
  found(k, "still in a plan");
  t->needed[block] = 0, arena->kept = bit;
  found(k, "was kept for its being freed");
  arena->kept = 0;
  bits_set(t->mark, block * BLOCK_GRANULES + 1);
  found(k, "marks at rest");
  bits_clear(t->mark, block * BLOCK_GRANULES + 1);
}

static void spoil(struct kit *k, gch_ref object) {
  gch_heap *h = k->heap;
  size_t block = block_index(&h->layout, (uintptr_t)object), last = block - block % ARENA_BLOCKS + ARENA_BLOCKS - 1;
  struct arena *arena = heap_arena(h, (uintptr_t)object);
  bool large = space_is_large(heap_region(h, (uintptr_t)object)->space);
  uint32_t bit = (uint32_t)1 << block % ARENA_BLOCKS;
  CHECK_EQ(arena->huge, h->huge);
  kit_verify(k);
  spoil_rest(k, arena, block, bit);
  spoil_used(k, arena, bit);
  spoil_free(k, arena, last, large);
  spoil_populated(k, arena, bit, large);
  kit_verify(k);
}

static void spoil_arenas(gch_mover mover, gch_huge huge) {
  struct kit k;
  gch_config c = kit_config(mover, 64, 1024);
  c.huge = huge;
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 5);
  fill_spaces(&k, root);
  bool seen[SPACE_FRAMES] = {false};
  for (int i = 0; i < 5; i++) {
    spoil(&k, root[i]);
    seen[heap_region(k.heap, (uintptr_t)root[i])->space] = true;
  }
  for (int space = 0; space < SPACE_FRAMES; space++) CHECK(seen[space]);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void arenas_of_small_pages(void) { spoil_arenas(GCH_MOVER_MEMCPY, GCH_HUGE_OFF); }

static void arenas_of_huge_pages(void) {
  if (pages_thp_policy() == PAGES_THP_NEVER) SKIP("huge", "the kernel's huge pages are off");
  spoil_arenas(GCH_MOVER_MEMCPY, GCH_HUGE_ON);
}

/* Where the kernel has kept memory, an arena may be huge without a block that is said to be populated: nothing is wrong. */
static void memory_that_was_kept(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
  c.huge = GCH_HUGE_ON;
  if (pages_thp_policy() == PAGES_THP_NEVER) SKIP("huge", "the kernel's huge pages are off");
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  root[0] = kit_bytes(&k, 100000);
  struct arena *arena = heap_arena(k.heap, (uintptr_t)root[0]);
  arena->populated = 0;
  found(&k, "nothing of it is populated");
  at_store(&k.heap->undropped, 1);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* Blocks with memory, by the map, of the arena in which the object is. */
static uint32_t populated_in_map(struct kit *k, gch_ref object) {
  enum { MOST = 1 << 14 };
  gch_block_info *info = calloc(MOST, sizeof *info);
  size_t count = gch_heap_map(k->m, info, MOST);
  uint32_t populated = 0;
  CHECK(count <= MOST);
  for (size_t i = 0; i < count; i++)
    populated += arena_of(info[i].address) == arena_of((uintptr_t)object) && info[i].populated;
  free(info);
  return populated;
}

/* The map says what the tables say: of a huge arena all is there, else what objects are on. */
static void map_of_large_objects(void) {
  for (int huge = 0; huge <= (pages_thp_policy() != PAGES_THP_NEVER); huge++) {
    struct kit k;
    gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
    c.huge = huge ? GCH_HUGE_ON : GCH_HUGE_OFF;
    if (!kit_open(&k, &c)) return;
    GCH_FRAME(k.m, root, 1);
    root[0] = kit_bytes(&k, 100000);
    CHECK_EQ(populated_in_map(&k, root[0]), huge ? ARENA_BLOCKS : 2);
    GCH_FRAME_END(k.m);
    kit_close(&k);
  }
}

/* What a concurrent move leaves of arenas of large objects, by pages: no bit, though blocks of theirs were published. */
static void moved_by_pages(void) {
  static const gch_mover movers[] = {GCH_MOVER_MOVE, GCH_MOVER_COPY, GCH_MOVER_SIMULATED};
  for (size_t i = 0; i < sizeof movers / sizeof movers[0]; i++) {
    struct kit k;
    gch_config c = kit_config(movers[i], 64, 1024);
    if (!kit_available(movers[i]) || !kit_open(&k, &c)) continue;
    GCH_FRAME(k.m, root, 8);
    for (int n = 0; n < 8; n++) root[n] = n % 2 ? kit_bytes(&k, 300000) : kit_refs(&k, 40000);
    for (int round = 0; round < 3; round++) {
      uintptr_t before = (uintptr_t)root[0];
      CHECK_EQ(kit_major(&k, GCH_POLICY_ALL, true, true).degraded, 0);
      CHECK((uintptr_t)root[0] != before);
      for (int n = 0; n < 8; n++) CHECK_EQ(heap_arena(k.heap, (uintptr_t)root[n])->populated, 0);
      if (!kit_verify(&k)) break;
    }
    GCH_FRAME_END(k.m);
    kit_close(&k);
  }
}

/* --- ages ------------------------------------------------------------------------------------------------------- */

/* Of what is young, what was kept where it was young, what is old, and what is free. */
static void ages(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
  c.promote_age = 2;
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 4);
  root[0] = kit_node(&k, 1);
  kit_minor(&k, true);
  root[1] = kit_node(&k, 2);
  kit_minor(&k, false);
  root[2] = kit_bytes(&k, 64), root[3] = kit_bytes(&k, 100000);
  CHECK_EQ(gch_pin(k.m, root[2], NULL), GCH_OK);
  kit_minor(&k, false);
  gch_ref fresh = kit_node(&k, 3);
  struct block *old = heap_block(k.heap, (uintptr_t)root[0]), *survivor = heap_block(k.heap, (uintptr_t)root[1]);
  struct block *kept = heap_block(k.heap, (uintptr_t)root[2]), *large = heap_block(k.heap, (uintptr_t)root[3]);
  struct block *eden = heap_block(k.heap, (uintptr_t)fresh), *idle = old + ARENA_BLOCKS - 1;
  CHECK(eden->state == BLOCK_YOUNG && survivor->state == BLOCK_YOUNG && survivor->age == 2);
  CHECK(kept->state == BLOCK_USED && heap_in_young(k.heap, (uintptr_t)root[2]) && idle->state == BLOCK_FREE);
  kit_verify(&k);
  struct block *none[] = {old, large, idle};
  for (int i = 0; i < 3; i++) {
    none[i]->age = 1;
    found(&k, "has age 1, expected at most 0");
    none[i]->age = 0;
  }
  kept->age = survivor->age = 2;
  kit_verify(&k);
  kept->age = 3;
  found(&k, "has age 3, expected at most 2");
  kept->age = 0, survivor->age = 3;
  found(&k, "has age 3, expected at most 2");
  survivor->age = 0;
  found(&k, "2 young blocks have age 0 and 0 more, 1 and 1 are accounted for");
  survivor->age = 2, eden->age = 1;
  found(&k, "0 young blocks have age 0 and 2 more, 1 and 1 are accounted for");
  eden->age = 0;
  kit_verify(&k);
  gch_unpin(k.heap, root[2]);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* --- free lists --------------------------------------------------------------------------------------------------- */

static void free_handles(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
  gch_handle handles[4];
  if (!kit_open(&k, &c)) return;
  struct roots *r = &k.heap->roots;
  for (int i = 0; i < 4; i++) handles[i] = gch_handle_new(k.m, NULL);
  for (int i = 0; i < 3; i++) gch_handle_free(k.heap, handles[i]); /* the list: 3, 2, 1; 4 is in use */
  uint64_t head = r->handle_free;
  CHECK_EQ((uint32_t)head, 3);
  kit_verify(&k);
  r->handle_free = head + 1;
  found(&k, "handle 4 of 4 is in the list of free ones, but not free");
  r->handle_free = head + 2;
  found(&k, "handle 5 of 4 is in the list of free ones, but was never made");
  r->handle_free = head;
  r->handles[1].ref = 16; /* the visit of roots would have found an address in the heap */
  found(&k, "handle 2 of 4 is in the list of free ones, but not free");
  r->handles[1].ref = 0;
  r->handles[0].next_free = 3;
  found(&k, "5 or more in the list of free ones");
  r->handles[0].next_free = 0, r->handle_count++;
  found(&k, "2 handles are in use and 3 in the list of free ones, 4 were made");
  r->handle_count--;
  gch_handle_free(k.heap, handles[3]);
  kit_verify(&k);
  kit_close(&k);
}

static void free_entries_of_large_objects(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  struct large_space *s = &k.heap->large;
  root[0] = kit_bytes(&k, 100000);
  for (int i = 0; i < 3; i++) kit_bytes(&k, 100000); /* garbage */
  kit_major(&k, GCH_POLICY_NEEDED, false, true);
  uint32_t head = s->free_list, second = s->entries[head].next_free;
  CHECK(head != 0 && second != 0);
  kit_verify(&k);
  s->free_list = second;
  found(&k, "3 entries of large objects are free, their list has 2");
  s->free_list = head, s->entries[second].next_free = head;
  found(&k, "3 entries of large objects are free, their list has 4 or more");
  s->entries[second].next_free = 1;
  found(&k, "entry 1 of 5 of large objects is in the list of free ones, but not free");
  s->entries[second].next_free = 10 - 1 - head - second; /* 2, 3, 4: the third of them */
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void frames_at_rest(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
  if (!kit_open(&k, &c)) return;
  struct frames *f = &k.heap->frames;
  kit_verify(&k);
  f->free_count--;
  found(&k, "frames are free at rest");
  bits_clear(f->free, f->slots - 1);
  found(&k, "frames are free at rest"); /* taken by somebody, and accounted for */
  f->free_count++, bits_set(f->free, f->slots - 1);
  f->pooled = 1;
  found(&k, "are frames at rest");
  f->pooled = 0, f->arena_taken = 1;
  found(&k, "are taken at rest");
  f->arena_taken = 0;
  kit_verify(&k);
  kit_close(&k);
}

int main(void) {
  kit_decay = GCH_DECAY_NOW;
  alarm(110);
  RUN(arenas_of_small_pages);
  RUN(arenas_of_huge_pages);
  RUN(memory_that_was_kept);
  RUN(map_of_large_objects);
  RUN(moved_by_pages);
  RUN(ages);
  RUN(free_handles);
  RUN(free_entries_of_large_objects);
  RUN(frames_at_rest);
  return CHECK_SUMMARY();
}
