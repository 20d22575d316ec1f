/* gch_resize under every mover: what stays, what comes is zero, who is the same object; where pages come from and go to; no
 * memory. */
#include "resizing.h"

/* --- small ---------------------------------------------------------------------------------------------------- */

static void small(struct kit *k) {
  GCH_FRAME(k->m, r, 3);
  for (uint64_t from = 0; from < 40; from += 3)
    for (uint64_t to = 0; to < 40; to += 3) {
      r[0] = kit_refs(k, from);
      *kit_number(r[0]) = 77;
      number(k, &r[0], 0, from);
      uint32_t hash = gch_identity_hash(k->m, r[0]);
      r[1] = gch_resize(k->m, r[0], to);
      bool same = align_up(16 + 8 * from, 16) == align_up(16 + 8 * to, 16);
      CHECK_EQ(r[1] == r[0], same);
      CHECK_EQ(*kit_number(r[1]), 77);
      CHECK_EQ(gch_identity_hash(k->m, r[1]), hash);
      numbered(k, r[1], from < to ? from : to, to);
      if (!same) numbered(k, r[0], from, from); /* as it was */
      r[2] = gch_resize(k->m, r[1], 41);
      numbered(k, r[2], from < to ? from : to, 41);
    }
  r[0] = kit_bytes(k, 100);
  fill_bytes(r[0], 0, 100);
  r[1] = gch_resize(k->m, r[0], 97); /* the same granules: 16 + 100 and 16 + 97 */
  CHECK(r[1] == r[0]);
  r[1] = gch_resize(k->m, r[0], 110);
  CHECK(r[1] == r[0]);
  has_bytes(k, r[1], 97, 110);
  GCH_FRAME_END(k->m);
}

static void small_objects(void) { each_mover(small); }

/* From small to large, and back to what is shorter but stays large. */
static void across(struct kit *k) {
  GCH_FRAME(k->m, r, 2);
  r[0] = kit_refs(k, 900);
  *kit_number(r[0]) = 5;
  number(k, &r[0], 0, 900);
  r[0] = gch_resize(k->m, r[0], 5000);
  CHECK(header_is_large(header_load((uintptr_t)r[0])) && *kit_number(r[0]) == 5);
  numbered(k, r[0], 900, 5000);
  number(k, &r[0], 900, 5000);
  r[1] = gch_resize(k->m, r[0], 10);
  CHECK(r[1] == r[0]);
  numbered(k, r[1], 10, 10);
  CHECK_EQ(gch_object_bytes(k->heap, r[1]), 96);
  CHECK_EQ(k->heap->large.entries[large_id(k->heap, (uintptr_t)r[1])].bytes, 96);
  kit_major(k, GCH_POLICY_ALL, false, true);
  numbered(k, r[0], 10, 10);
  r[0] = gch_resize(k->m, r[0], 0);
  r[0] = gch_resize(k->m, r[0], 3000);
  numbered(k, r[0], 0, 3000);
  GCH_FRAME_END(k->m);
}

static void across_the_border(void) { each_mover(across); }

/* --- in place --------------------------------------------------------------------------------------------------- */

/* Once it has grown, there is room behind it: a hundred times it stays the same object, with an identity; nobody else's contents
 * come into sight. */
static void append(struct kit *k) {
  GCH_FRAME(k->m, r, 3);
  r[2] = kit_bytes(k, 3 * MIB); /* garbage, where pages are not given back one by one */
  memset(gch_payload(r[2]), 0xaa, 3 * MIB);
  r[2] = NULL;
  kit_major(k, GCH_POLICY_NEEDED, false, true);
  r[0] = kit_bytes(k, 3 * MIB);
  fill_bytes(r[0], 0, 3 * MIB);
  r[1] = kit_bytes(k, 20000); /* in its way */
  r[0] = gch_resize(k->m, r[0], 3 * MIB + 200000);
  has_bytes(k, r[0], 3 * MIB, 3 * MIB + 200000);
  fill_bytes(r[0], 3 * MIB, 3 * MIB + 200000);
  r[1] = kit_bytes(k, 20000); /* not in its way any more */
  uint64_t before = used(k), length = 3 * MIB + 200000;
  uint32_t hash = gch_identity_hash(k->m, r[0]);
  for (int i = 0; i < 100; i++, length += 3000) {
    gch_ref grown = gch_resize(k->m, r[0], length + 3000);
    if (!CHECK(grown == r[0])) break;
    for (int b = 0; b < 3000; b++) CHECK_EQ(((uint8_t *)(void *)r[0])[KIT_BYTES + length + (uint64_t)b], 0);
    fill_bytes(r[0], length, length + 3000);
  }
  CHECK_EQ(gch_identity_hash(k->m, r[0]), hash);
  CHECK(used(k) - before >= 300000 - k->heap->layout.page_bytes &&
        used(k) - before <= 300000 + k->heap->layout.page_bytes);
  has_bytes(k, r[0], length, length);
  kit_verify(k);
  kit_major(k, GCH_POLICY_ALL, k->heap->mover->concurrent, true);
  gch_collect_wait(k->m, NULL);
  has_bytes(k, r[0], length, length);
  GCH_FRAME_END(k->m);
}

static void appending_stays_in_place(void) { each_mover(append); }

/* Of references: those that come are found by minors. */
static void append_refs(struct kit *k) {
  GCH_FRAME(k->m, r, 2);
  r[0] = kit_refs(k, 20000);
  number(k, &r[0], 0, 20000);
  r[0] = gch_resize(k->m, r[0], 30000);
  numbered(k, r[0], 20000, 30000);
  for (uint64_t n = 30000; n < 60000; n += 1500) {
    gch_ref grown = gch_resize(k->m, r[0], n + 1500);
    CHECK(grown == r[0]);
    r[0] = grown;
    number(k, &r[0], n, n + 1500);
    kit_minor(k, n % 4500 == 0);
  }
  number(k, &r[0], 20000, 30000);
  numbered(k, r[0], 61500, 60000 + 0);
  GCH_FRAME_END(k->m);
}
static void references_are_appended(void) { each_mover(append_refs); }

/* --- elsewhere -------------------------------------------------------------------------------------------------- */

/* Something behind it: a new object has what it had, young references too, and the old one nothing; memory is not there twice. */
static void elsewhere(struct kit *k) {
  GCH_FRAME(k->m, r, 5);
  uint64_t count = 400000;
  r[0] = kit_refs(k, count);
  r[4] = kit_refs(k, 2000);
  r[1] = kit_bytes(k, 5 * MIB);
  r[2] = kit_bytes(k, 9000);
  *kit_number(r[0]) = 31;
  number(k, &r[0], 0, count);
  kit_minor(k, true);
  for (uint64_t i = 1; i < count; i += 9999) kit_put_node(k, &r[0], i, i);
  fill_bytes(r[1], 0, 5 * MIB);
  for (int leaf = 0; leaf < 2; leaf++) {
    gch_ref old = r[leaf];
    uint32_t hash = gch_identity_hash(k->m, old);
    uint64_t before = used(k), moved = at_load(&k->heap->moved.pages), length = leaf ? 5 * MIB : count;
    r[3] = gch_resize(k->m, r[leaf], length + length / 4);
    uint64_t extra = (leaf ? 1 : 8) * length / 4, page = k->heap->layout.page_bytes;
    CHECK(r[3] != NULL && r[3] != old && r[leaf] == old);
    CHECK(used(k) - before >= extra && used(k) - before <= extra + 3 * page + 2 * BLOCK_BYTES);
    CHECK(gch_identity_hash(k->m, old) == hash && gch_identity_hash(k->m, r[3]) == hash);
    CHECK_EQ(gch_length(k->heap, old), 0);
    CHECK_EQ(gch_object_bytes(k->heap, old), 16);
    bool moves = k->heap->mover->moves_pages && !k->heap->huge;
    CHECK_EQ(at_load(&k->heap->moved.pages) - moved >= extra * 4 / page - 4, moves);
    kit_verify(k);
    if (leaf)
      has_bytes(k, r[3], length, length + length / 4);
    else
      numbered(k, r[3], length, length + length / 4);
    if (!leaf) CHECK_EQ(*kit_number(r[3]), 31);
    CHECK_EQ(*kit_number(old), leaf ? 0 : 31);
    r[leaf] = r[3];
  }
  kit_minor(k, false);
  kit_major(k, GCH_POLICY_ALL, k->heap->mover->concurrent, true);
  gch_collect_wait(k->m, NULL);
  numbered(k, r[0], count, count + count / 4);
  has_bytes(k, r[1], 5 * MIB, 5 * MIB + 5 * MIB / 4);
  GCH_FRAME_END(k->m);
}

static void a_new_object_takes_the_pages(void) { each_mover(elsewhere); }

/* --- shorter ---------------------------------------------------------------------------------------------------- */

static void cut(struct kit *k) {
  GCH_FRAME(k->m, r, 3);
  r[0] = kit_refs(k, 800000);
  r[1] = kit_bytes(k, 6 * MIB);
  number(k, &r[0], 0, 800000);
  fill_bytes(r[1], 0, 6 * MIB);
  uint64_t before = used(k);
  CHECK(gch_resize(k->m, r[0], 1001) == r[0] && gch_resize(k->m, r[1], 70001) == r[1]);
  CHECK(before - used(k) > 6 * MIB + 6 * MIB - 200000);
  kit_verify(k);
  numbered(k, r[0], 1001, 1001);
  has_bytes(k, r[1], 70001, 70001);
  CHECK(kit_major(k, GCH_POLICY_NEEDED, false, true).live_objects < 2000); /* what it held is garbage */
  r[0] = gch_resize(k->m, r[0], 500000);
  r[1] = gch_resize(k->m, r[1], 2 * MIB);
  numbered(k, r[0], 1001, 500000);
  has_bytes(k, r[1], 70001, 2 * MIB);
  GCH_FRAME_END(k->m);
}

static void what_is_cut_off_is_given_back(void) { each_mover(cut); }

/* --- refusals --------------------------------------------------------------------------------------------------- */

static void refuses(struct kit *k, gch_ref object, uint64_t count, gch_status status, const char *words) {
  CHECK(gch_resize(k->m, object, count) == NULL);
  CHECK_EQ(gch_last_error(k->m)->status, status);
  if (!CHECK(strstr(gch_last_error(k->m)->message, words) != NULL)) printf("    %s\n", gch_last_error(k->m)->message);
}

static void full(struct kit *k) {
  GCH_FRAME(k->m, r, 3);
  r[0] = kit_bytes(k, 100 * MIB);
  r[1] = kit_bytes(k, 4 * MIB);
  r[2] = kit_refs(k, 9000);
  fill_bytes(r[0], 0, 1000);
  uint64_t before = used(k);
  refuses(k, r[0], 300 * (uint64_t)MIB, GCH_NO_MEMORY, "more than the heap's limit");
  refuses(k, r[0], 255 * (uint64_t)MIB, GCH_NO_MEMORY, "no room for an object of 267386896 bytes");
  refuses(k, r[2], 32 * MIB, GCH_NO_MEMORY, "limit");
  CHECK(before - used(k) < MIB); /* young blocks may have gone */
  has_bytes(k, r[0], 1000, 100 * MIB);
  kit_verify(k);
  r[1] = NULL;
  if (!k->heap->huge) { /* it is not there twice: 100 and 130 MiB are within 256, and so are 200 and 230 */
    r[0] = gch_resize(k->m, r[0], 200 * MIB);
    r[1] = kit_bytes(k, 9000);
    gch_ref grown = gch_resize(k->m, r[0], 230 * MIB);
    CHECK(grown != NULL);
    has_bytes(k, grown, 1000, 230 * MIB);
  }
  GCH_FRAME_END(k->m);
}
static void a_full_heap(void) { each_mover(full); }

static void mistakes(struct kit *k) {
  GCH_FRAME(k->m, r, 2);
  r[0] = kit_node(k, 1);
  r[1] = kit_bytes(k, 100000);
  refuses(k, NULL, 3, GCH_BAD_VALUE, "is not a reference of this heap: it cannot be resized");
  refuses(k, (gch_ref)16, 3, GCH_BAD_VALUE, "0x10 is not a reference");
  refuses(k, r[0], 3, GCH_BAD_VALUE, "type node has no tail, but 3 elements");
  CHECK(gch_resize(k->m, r[0], 0) == r[0]);
  CHECK_EQ(gch_pin(k->m, r[1], NULL), GCH_OK);
  refuses(k, r[1], 10, GCH_BAD_STATE, "is pinned: it cannot be resized to 10 elements");
  refuses(k, r[1], 200000, GCH_BAD_STATE, "is pinned: it cannot be resized to 200000 elements");
  CHECK(gch_resize(k->m, r[1], 100000) == r[1]);
  CHECK_EQ(gch_unpin(k->heap, r[1]), GCH_OK);
  CHECK(gch_resize(k->m, r[1], 10) == r[1]);
  GCH_FRAME_END(k->m);
}
static void mistakes_are_named(void) { each_mover(mistakes); }

/* The kernel refuses this and that: either it goes well or nothing has changed. */
static void injected(struct kit *k) {
  static const char *const specs[] = {"move:EEXIST@p=0.2",     "move:EBUSY@p=0.2",  "move:EAGAIN@p=0.3",
                                      "move:ENOMEM@p=0.2",     "move:ENOENT@p=0.1", "copy:EAGAIN@p=0.3",
                                      "drop:EAGAIN@p=0.5",     "drop:ENOMEM",       "populate:ENOMEM@nth=2",
                                      "populate:ENOMEM@p=0.3", "populate:ENOMEM"};
  GCH_FRAME(k->m, r, 3);
  gch_error error = {0};
  r[0] = kit_refs(k, 200000);
  r[1] = kit_bytes(k, 2 * MIB);
  number(k, &r[0], 0, 200000);
  fill_bytes(r[1], 0, 2 * MIB);
  for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i += KIT_SANITIZED ? 3 : 1) {
    r[2] = kit_bytes(k, 9000);
    r[2] = kit_refs(k, 2000);
    if (gch_inject(k->heap, specs[i], &error) != GCH_OK) printf("    %s: %s\n", specs[i], error.message);
    gch_ref grown = gch_resize(k->m, r[0], 250000);
    if (grown != NULL) r[0] = grown;
    numbered(k, r[0], 200000, grown != NULL ? 250000 : 200000);
    grown = gch_resize(k->m, r[1], 3 * MIB);
    if (grown != NULL) r[1] = grown;
    has_bytes(k, r[1], 2 * MIB, grown != NULL ? 3 * MIB : 2 * MIB);
    r[0] = gch_resize(k->m, r[0], 200000);
    r[1] = gch_resize(k->m, r[1], 2 * MIB);
    CHECK(r[0] != NULL && r[1] != NULL);
    gch_inject(k->heap, "", NULL);
    kit_verify(k);
    numbered(k, r[0], 200000, 200000);
    has_bytes(k, r[1], 2 * MIB, 2 * MIB);
  }
  GCH_FRAME_END(k->m);
}
static void refusals_of_the_kernel(void) { each_mover(injected); }

int main(void) {
  kit_watchdog(100);
  RUN(small_objects);
  RUN(across_the_border);
  RUN(appending_stays_in_place);
  RUN(references_are_appended);
  RUN(a_new_object_takes_the_pages);
  RUN(what_is_cut_off_is_given_back);
  RUN(a_full_heap);
  RUN(mistakes_are_named);
  RUN(refusals_of_the_kernel);
  return CHECK_SUMMARY();
}
