/* Address-space geometry: the only place where sizes appear.
 *
 * A heap reserves one span of addresses: four regions for each of the spaces OLD, LARGE, LEAF, LARGE_LEAF, one for
 * YOUNG, one for FRAMES, in this order, each aligned, with a gap of PROT_NONE behind it so that no two regions can
 * become one VMA. OLD and LARGE come first because only they are flipped: their shadow is a second span
 * with the same layout, at a constant distance (`shadow_delta`). The simulated mover's alias mirrors everything.
 *
 *   base                                                                                     base + span
 *   | OLD 0..3 | LARGE 0..3 (twice the size) | LEAF 0..3 | LARGE_LEAF 0..3 (twice) | YOUNG | FRAMES |
 *   | shadow of OLD and LARGE                |      (a region = usable bytes + gap)
 *
 * Side tables are indexed by (address - base) in units of granule, line, card, block or arena, gaps included:
 * addresses are cheap, tables are NORESERVE and populated by use.
 *
 * With a small RLIMIT_AS (`tight`) regions are aligned to 2 MiB instead of their size (the flip then moves PMD by
 * PMD) and there are two a space (no region to hold out: majors run in the pause). */
#ifndef HEAP_LAYOUT_H
#define HEAP_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  GRANULE_SHIFT = 4,
  CARD_SHIFT = 9,
  LINE_SHIFT = 10,
  BLOCK_SHIFT = 16,
  ARENA_SHIFT = 21,
  GRANULE_BYTES = 1 << GRANULE_SHIFT,
  CARD_BYTES = 1 << CARD_SHIFT,
  LINE_BYTES = 1 << LINE_SHIFT,
  BLOCK_BYTES = 1 << BLOCK_SHIFT,
  ARENA_BYTES = 1 << ARENA_SHIFT,
  BLOCK_GRANULES = BLOCK_BYTES / GRANULE_BYTES,
  BLOCK_WORDS = BLOCK_GRANULES / 64, /* of a bitmap with a bit a granule */
  BLOCK_LINES = BLOCK_BYTES / LINE_BYTES,
  BLOCK_CARDS = BLOCK_BYTES / CARD_BYTES,
  ARENA_BLOCKS = ARENA_BYTES / BLOCK_BYTES,
  ARENA_CARDS = ARENA_BYTES / CARD_BYTES,
};
_Static_assert(LINE_BYTES / GRANULE_BYTES == 64, "a line is one word of bitmap");

enum space_id { SPACE_OLD, SPACE_LARGE, SPACE_LEAF, SPACE_LARGE_LEAF, SPACE_YOUNG, SPACE_FRAMES, SPACE_COUNT };

enum { SPACE_REGIONS = 4, REGION_MAX = 4 * SPACE_REGIONS + 2, REGION_NONE = 255 };

struct region {
  uintptr_t start; /* [const] 0 until the span is placed; offsets before */
  size_t bytes;    /* [const] usable */
  enum space_id space;
};

struct layout {
  uintptr_t base;        /* [const] */
  size_t span;           /* [const] bytes of the reservation */
  size_t mirror_span;    /* [const] bytes at its start that have a shadow */
  uintptr_t shadow_delta; /* [const] shadow address = address + delta; 0: no shadow */
  size_t align;          /* [const] of every region and of the span */
  size_t page_bytes;     /* [const] the kernel's base page */
  unsigned page_shift;   /* [const] */
  uint32_t per_space;    /* [const] regions in each of the first four spaces */
  uint32_t region_count; /* [const] */
  bool tight;            /* [const] */
  struct region regions[REGION_MAX];
  uint8_t *region_of;    /* [const] region of each `align` bytes of the span, gaps included with the region before */
  unsigned align_shift;  /* [const] */
};

/* Fills everything but the addresses (`base` 0: regions start at their offsets). False if the sizes overflow the
 * 47-bit address space. `page_bytes` is a power of two, 4 KiB to 64 KiB. */
bool layout_plan(struct layout *layout, uint64_t max_bytes, uint64_t young_bytes, uint64_t frame_bytes,
                 size_t page_bytes, bool tight);
/* The most that max_bytes can be with these. */
uint64_t layout_most_bytes(uint64_t young_bytes, uint64_t frame_bytes, size_t page_bytes);
/* Makes offsets addresses. */
void layout_place(struct layout *layout, uintptr_t base);
/* Fills region_of, an array of span >> align_shift bytes that the caller owns. */
void layout_index(struct layout *layout, uint8_t *region_of);

static inline bool layout_contains(const struct layout *l, uintptr_t a) { return a - l->base < l->span; }
static inline uint32_t layout_region(const struct layout *l, uintptr_t a) {
  return l->region_of[(a - l->base) >> l->align_shift];
}
static inline size_t layout_offset(const struct layout *l, uintptr_t a) { return a - l->base; }
/* The start of the arena in which `a` lies, and of the one behind it. */
static inline uintptr_t arena_of(uintptr_t a) { return a & ~(uintptr_t)(ARENA_BYTES - 1); }
static inline uintptr_t arena_after(uintptr_t a) { return arena_of(a) + ARENA_BYTES; }
static inline size_t layout_arena_count(const struct layout *l) { return l->span >> ARENA_SHIFT; }
static inline size_t layout_block_count(const struct layout *l) { return l->span >> BLOCK_SHIFT; }
/* The regions of a space are [layout_first_region, + layout_space_regions). */
static inline uint32_t layout_first_region(const struct layout *l, enum space_id s) {
  return s <= SPACE_LARGE_LEAF ? (uint32_t)s * l->per_space : 4 * l->per_space + (uint32_t)(s - SPACE_YOUNG);
}
static inline uint32_t layout_space_regions(const struct layout *l, enum space_id s) {
  return s <= SPACE_LARGE_LEAF ? l->per_space : 1;
}
static inline bool space_is_large(enum space_id s) { return s == SPACE_LARGE || s == SPACE_LARGE_LEAF; }
static inline bool space_has_refs(enum space_id s) { return s == SPACE_OLD || s == SPACE_LARGE; }

#endif
