#include "object/typetab.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/ranks.h"
#include "base/sized.h"
#include "os/kernel.h"

static const size_t TABLE_BYTES = sizeof(struct type_info) * TYPE_MAX;

gch_status typetab_init(struct typetab *tab, struct kernel *kernel, gch_error *error) {
  void *items = NULL;
  int rc = kernel_mmap(kernel, NULL, TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                       -1, 0, &items);
  if (rc < 0)
    return error_set(error, GCH_NO_MEMORY, "cannot reserve %zu KiB for the type table: %s", TABLE_BYTES / 1024,
                     strerror(-rc));
  *tab = (struct typetab){.items = items, .count = 1};
  lock_init(&tab->lock, RANK_TYPES, "types");
  return GCH_OK;
}

void typetab_destroy(struct typetab *tab, struct kernel *kernel) {
  for (uint32_t i = 1; i < tab->count; i++) {
    if (tab->items[i].far_count != 0) {
      void *copy = (void *)(uintptr_t)tab->items[i].far_refs;
      kernel_munmap(kernel, copy, align_up(tab->items[i].far_count * sizeof(uint32_t), 4096));
    }
  }
  if (tab->items != NULL) kernel_munmap(kernel, tab->items, TABLE_BYTES);
  lock_destroy(&tab->lock);
}

/* The rules of gch_type_desc, each with its message. */
static gch_status check_desc(const gch_type_desc *d, gch_error *error) {
  const char *name = d->name != NULL ? d->name : "?";
  uint64_t end = GCH_HEADER_BYTES + (uint64_t)d->fixed_bytes;
  if (end > GCH_SMALL_MAX)
    return error_set(error, GCH_BAD_VALUE, "type %s: fixed_bytes is %u, at most %d fit a small object", name,
                     d->fixed_bytes, GCH_SMALL_MAX - GCH_HEADER_BYTES);
  if (d->tag_mask > 7 || (d->tag_value & ~d->tag_mask) != 0)
    return error_set(error, GCH_BAD_VALUE,
                     "type %s: tag_mask %llu with tag_value %llu; the mask is 0..7 and covers the value", name,
                     (unsigned long long)d->tag_mask, (unsigned long long)d->tag_value);
  if ((unsigned)d->tail > GCH_TAIL_REFS || (d->tail == GCH_TAIL_BYTES) != (d->tail_bytes != 0))
    return error_set(error, GCH_BAD_VALUE,
                     "type %s: tail %u with elements of %u bytes; only a tail of bytes has an element size", name,
                     (unsigned)d->tail, d->tail_bytes);
  if (d->tail_bytes > 65536)
    return error_set(error, GCH_BAD_VALUE, "type %s: tail_bytes is %u, at most 65536", name, d->tail_bytes);
  if (d->tail == GCH_TAIL_REFS && end % 8 != 0)
    return error_set(error, GCH_BAD_VALUE, "type %s: fixed_bytes is %u; a tail of references needs a multiple of 8",
                     name, d->fixed_bytes);
  if (d->ref_count != 0 && d->ref_offsets == NULL)
    return error_set(error, GCH_BAD_VALUE, "type %s: ref_count is %u, but ref_offsets is NULL", name, d->ref_count);
  for (uint32_t i = 0; i < d->ref_count; i++) {
    uint32_t offset = d->ref_offsets[i];
    if (offset % 8 != 0 || offset < GCH_HEADER_BYTES || offset + 8 > end)
      return error_set(error, GCH_BAD_VALUE, "type %s: reference offset %u; expected a multiple of 8 in [8, %llu]",
                       name, offset, (unsigned long long)(end >= 8 ? end - 8 : 0));
    if (i > 0 && offset <= d->ref_offsets[i - 1])
      return error_set(error, GCH_BAD_VALUE, "type %s: reference offset %u follows %u; expected ascending order", name,
                       offset, d->ref_offsets[i - 1]);
  }
  return GCH_OK;
}

/* References beyond word 63 go to a copy of their offsets; the rest to the bitmap. */
static gch_status fill_refs(struct typetab *tab, struct kernel *kernel, struct type_info *t, const gch_type_desc *d,
                            gch_error *error) {
  (void)tab;
  uint32_t near = 0;
  while (near < d->ref_count && d->ref_offsets[near] / 8 < TYPE_BITMAP_WORDS)
    t->ref_bits |= (uint64_t)1 << d->ref_offsets[near++] / 8;
  t->far_count = d->ref_count - near;
  if (t->far_count == 0) return GCH_OK;
  size_t bytes = t->far_count * sizeof(uint32_t);
  void *copy = NULL;
  int rc = kernel_mmap(kernel, NULL, align_up(bytes, 4096), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0,
                       &copy);
  if (rc < 0)
    return error_set(error, GCH_NO_MEMORY, "no memory for %u reference offsets of type %s: %s", t->far_count,
                     d->name != NULL ? d->name : "?", strerror(-rc));
  memcpy(copy, d->ref_offsets + near, bytes);
  t->far_refs = copy;
  return GCH_OK;
}

static gch_status add(struct typetab *tab, struct kernel *kernel, const gch_type_desc *desc, enum cell_kind cell,
                      const gch_type **out, gch_error *error) {
  static const struct sized sized = {"gch_type_desc", sizeof(gch_type_desc), offsetof(gch_type_desc, tag_mask),
                                     _Alignof(gch_type_desc)};
  gch_type_desc taken = {0}, *d = &taken;
  gch_status status = sized_take(&sized, d, desc, error);
  if (status == GCH_OK) status = check_desc(d, error);
  if (status != GCH_OK) return status;
  struct type_info t = {.tail = (uint8_t)d->tail,
                        .tag_mask = d->tag_mask,
                        .tag_value = d->tag_value,
                        .user = d->user,
                        .cell = (uint8_t)cell};
  snprintf(t.name, sizeof t.name, "%s", d->name != NULL ? d->name : "object");
  uint32_t end = GCH_HEADER_BYTES + d->fixed_bytes;
  t.pub.bytes = (uint32_t)align_up(end < 16 ? 16 : end, 16);
  t.pub.tail_offset = end;
  t.pub.tail_bytes = d->tail == GCH_TAIL_REFS ? 8 : d->tail_bytes;
  t.pub.small_count = t.pub.tail_bytes == 0 ? 0 : (GCH_SMALL_MAX - end) / t.pub.tail_bytes;
  t.pub.leaf = d->ref_count == 0 && d->tail != GCH_TAIL_REFS;
  t.opaque = t.pub.leaf || cell != CELL_NONE;
  status = fill_refs(tab, kernel, &t, d, error);
  if (status != GCH_OK) return status;
  lock_lock(&tab->lock);
  uint32_t id = tab->count;
  if (id < TYPE_MAX) {
    t.pub.header = id;
    tab->items[id] = t;
    tab->count = id + 1;
    *out = &tab->items[id].pub;
  }
  lock_unlock(&tab->lock);
  if (id < TYPE_MAX) return GCH_OK;
  if (t.far_count != 0)
    kernel_munmap(kernel, (void *)(uintptr_t)t.far_refs, align_up(t.far_count * sizeof(uint32_t), 4096));
  return error_set(error, GCH_NO_MEMORY, "the heap has %d types already, the most a header can name", TYPE_MAX - 1);
}

gch_status typetab_add(struct typetab *tab, struct kernel *kernel, const gch_type_desc *desc, const gch_type **out,
                       gch_error *error) {
  return add(tab, kernel, desc, CELL_NONE, out, error);
}

gch_status typetab_add_cell(struct typetab *tab, struct kernel *kernel, enum cell_kind kind, const gch_type **out,
                            gch_error *error) {
  static const uint32_t refs[] = {CELL_TARGET, CELL_VALUE};
  gch_type_desc d = {.struct_bytes = sizeof d,
                     .fixed_bytes = CELL_BYTES - GCH_HEADER_BYTES,
                     .ref_offsets = refs,
                     .ref_count = kind == CELL_EPHEMERON ? 2 : 1,
                     .name = kind == CELL_EPHEMERON ? "ephemeron" : "weak reference"};
  return add(tab, kernel, &d, kind, out, error);
}
