/* Every rule of gch_type_desc with its message; what a record says afterwards; the table when it is full. */
#include "object/typetab.h"

#include <stdlib.h>

#include "kit.h"

static struct kit kit;
static const uint32_t three[] = {16, 24, 32};

static gch_type_desc good(void) {
  return (gch_type_desc){sizeof(gch_type_desc), 32, three, 3, GCH_TAIL_NONE, 0, 0, 0, "good", 7};
}

static void refused(const gch_type_desc *d, const char *words) {
  const gch_type *type = NULL;
  gch_error error = {0};
  CHECK_EQ(gch_type_new(kit.heap, d, &type, &error), GCH_BAD_VALUE);
  CHECK_EQ(error.status, GCH_BAD_VALUE);
  if (!CHECK(strstr(error.message, words) != NULL)) fprintf(stderr, "    \"%s\" in \"%s\"\n", words, error.message);
  CHECK(strstr(error.message, "type good") != NULL);
  CHECK(type == NULL);
}

static void rules(void) {
  static const uint32_t odd[] = {12}, header[] = {0}, beyond[] = {40}, twice[] = {16, 16}, down[] = {24, 16};
  gch_type_desc d = good();
  const gch_type *type = NULL;
  gch_error error = {0};
  d.struct_bytes = 4;
  CHECK_EQ(gch_type_new(kit.heap, &d, &type, &error), GCH_BAD_VALUE);
  CHECK(strstr(error.message, "gch_type_desc.struct_bytes is 4") != NULL);
  d = good(), d.fixed_bytes = 8185, refused(&d, "fixed_bytes is 8185");
  d = good(), d.tag_mask = 8, refused(&d, "tag_mask 8");
  d = good(), d.tag_mask = 1, d.tag_value = 2, refused(&d, "tag_value 2");
  d = good(), d.tail = (gch_tail)3, refused(&d, "tail 3");
  d = good(), d.tail = GCH_TAIL_BYTES, refused(&d, "tail 1 with elements of 0 bytes");
  d = good(), d.tail_bytes = 4, refused(&d, "tail 0 with elements of 4 bytes");
  d = good(), d.tail = GCH_TAIL_BYTES, d.tail_bytes = 65537, refused(&d, "tail_bytes is 65537");
  d = good(), d.fixed_bytes = 35, d.tail = GCH_TAIL_REFS, refused(&d, "fixed_bytes is 35");
  d = good(), d.ref_offsets = odd, d.ref_count = 1, refused(&d, "offset 12");
  d = good(), d.ref_offsets = header, d.ref_count = 1, refused(&d, "offset 0");
  d = good(), d.ref_offsets = beyond, d.ref_count = 1, refused(&d, "offset 40");
  d = good(), d.ref_offsets = twice, d.ref_count = 2, refused(&d, "offset 16 follows 16");
  d = good(), d.ref_offsets = down, d.ref_count = 2, refused(&d, "offset 16 follows 24");
}

static void records(void) {
  const gch_type *type;
  gch_type_desc d = good();
  if (!CHECK_EQ(gch_type_new(kit.heap, &d, &type, NULL), GCH_OK)) return;
  const struct type_info *info = (const struct type_info *)type;
  CHECK_EQ(type->bytes, 48); /* 8 + 32 in granules */
  CHECK_EQ(type->leaf, 0);
  CHECK_EQ(info->ref_bits, (1 << 2) | (1 << 3) | (1 << 4));
  CHECK_STR(gch_type_name(kit.heap, type), "good");
  CHECK_EQ(gch_type_user(kit.heap, type), 7);
  d = (gch_type_desc){sizeof d, 0, NULL, 0, GCH_TAIL_NONE, 0, 0, 0, NULL, 0};
  CHECK_EQ(gch_type_new(kit.heap, &d, &type, NULL), GCH_OK);
  CHECK_EQ(type->bytes, 16); /* the least there is */
  CHECK_EQ(type->leaf, 1);
  CHECK_STR(gch_type_name(kit.heap, type), "object");
  d = (gch_type_desc){sizeof d, 3, NULL, 0, GCH_TAIL_BYTES, 2, 0, 0, "bytes behind 3", 0};
  CHECK_EQ(gch_type_new(kit.heap, &d, &type, NULL), GCH_OK);
  CHECK_EQ(type->tail_offset, 11);
  CHECK_EQ(type->leaf, 1);
}

/* References beyond word 63 are visited like the others. */
static void far_references(void) {
  enum { REFS = 1000 };
  uint32_t offsets[REFS];
  const gch_type *type;
  for (uint32_t i = 0; i < REFS; i++) offsets[i] = 8 + 8 * i;
  gch_type_desc d = {sizeof d, 8 * REFS, offsets, REFS, GCH_TAIL_NONE, 0, 0, 0, "wide", 0};
  if (!CHECK_EQ(gch_type_new(kit.heap, &d, &type, NULL), GCH_OK)) return;
  const struct type_info *info = (const struct type_info *)type;
  CHECK_EQ(popcount64(info->ref_bits) + info->far_count, REFS);
  GCH_FRAME(kit.m, root, 1);
  root[0] = gch_alloc(kit.m, type);
  for (uint32_t i = 0; i < REFS; i++) {
    gch_ref node = kit_node(&kit, i);
    gch_set(kit.m, root[0], offsets[i], node);
  }
  kit_minor(&kit, false);
  kit_major(&kit, GCH_POLICY_ALL, false, true);
  for (uint32_t i = 0; i < REFS; i++)
    if (!CHECK_EQ(*kit_number(gch_load(root[0], offsets[i])), i)) break;
  kit_verify(&kit);
  GCH_FRAME_END(kit.m);
}

static void *registrar(void *arg) {
  for (uint32_t i = 0; i < 1000; i++) {
    const gch_type *type = NULL;
    gch_type_desc d = good();
    d.user = (uintptr_t)arg * 1000 + i;
    if (!CHECK_EQ(gch_type_new(kit.heap, &d, &type, NULL), GCH_OK)) break;
    if (!CHECK_EQ(gch_type_user(kit.heap, type), d.user)) break;
  }
  return NULL;
}

static void full_table(void) {
  pthread_t threads[4];
  gch_error error = {0};
  const gch_type *type = NULL;
  gch_type_desc d = good();
  for (uintptr_t i = 0; i < 4; i++) pthread_create(&threads[i], NULL, registrar, (void *)i);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  gch_status status = GCH_OK;
  uint32_t i = 0;
  for (; i < TYPE_MAX + 1 && status == GCH_OK; i++) status = gch_type_new(kit.heap, &d, &type, &error);
  CHECK_EQ(status, GCH_NO_MEMORY);
  CHECK(strstr(error.message, "65535 types") != NULL);
  gch_ref o = gch_alloc(kit.m, type); /* the last one has the largest id */
  CHECK(o != NULL && gch_type_of(kit.heap, o) == type);
}

int main(void) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 1024);
  kit_watchdog(30);
  if (!kit_open(&kit, &c)) return 1;
  RUN(rules);
  RUN(records);
  RUN(far_references);
  RUN(full_table);
  kit_close(&kit);
  return CHECK_SUMMARY();
}
