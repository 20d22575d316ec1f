/* Types as data: what a collector has to know of an object's layout.
 *
 * A table of fixed-size records, indexed by the header's type id, in address space reserved once, so that a
 * record never moves and readers take no lock. Writers hold `lock`; a record is complete before its id can
 * reach a header. */
#ifndef OBJECT_TYPETAB_H
#define OBJECT_TYPETAB_H

#include <gcheap/type.h>
#include "base/lock.h"
#include "object/header.h"

enum { TYPE_MAX = 65536, TYPE_BITMAP_WORDS = 64 };

/* Objects with words that do not keep alive what they refer to; gc/weak.h. */
enum cell_kind { CELL_NONE, CELL_WEAK, CELL_EPHEMERON, CELL_KINDS };
/* Their words, in bytes from the header: what it refers to, or its key; an ephemeron's value; a collector's own (gc/weak.h). */
enum { CELL_TARGET = 8, CELL_VALUE = 16, CELL_LINK = 24, CELL_BYTES = 32 };

struct type_info {
  struct gch_type pub;      /* [const] first: a gch_type is the address of its record */
  uint64_t ref_bits;        /* [const] bit i: word i of the object is a reference, weak or not (words 0..63) */
  uint64_t tag_mask;        /* [const] */
  uint64_t tag_value;       /* [const] */
  const uint32_t *far_refs; /* [const] byte offsets of references beyond word 63 */
  uint32_t far_count;       /* [const] */
  uint8_t tail;             /* [const] gch_tail */
  uint8_t cell;             /* [const] enum cell_kind */
  bool opaque;              /* [const] not scanned by markers: a leaf, or a cell */
  uint64_t user;            /* [const] */
  char name[48];            /* [const] */
};

struct kernel;

struct typetab {
  struct type_info *items; /* [const] TYPE_MAX records, reserved; 0 is never used */
  uint32_t count;          /* [lock] */
  struct lock lock;
};

gch_status typetab_init(struct typetab *tab, struct kernel *kernel, gch_error *error);
void typetab_destroy(struct typetab *tab, struct kernel *kernel);
gch_status typetab_add(struct typetab *tab, struct kernel *kernel, const gch_type_desc *desc, const gch_type **out,
                       gch_error *error);
/* The type of the cells of a kind. */
gch_status typetab_add_cell(struct typetab *tab, struct kernel *kernel, enum cell_kind kind, const gch_type **out,
                            gch_error *error);

static inline const struct type_info *typetab_get(const struct typetab *tab, uint64_t header) {
  return &tab->items[header_type(header)];
}
static inline uint32_t type_id(const struct type_info *type) { return header_type(type->pub.header); }

/* Bytes of a small object, header and rounding included. */
static inline uint32_t object_small_bytes(const struct type_info *type, uint64_t header) {
  uint32_t tail = header_tail_bytes(header);
  return tail == 0 ? type->pub.bytes : (type->pub.tail_offset + tail + 15) & ~(uint32_t)15;
}

#endif
