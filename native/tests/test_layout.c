/* Geometry for pages of 4, 16 and 64 KiB, roomy and tight: alignment, order, gaps, look-ups. */
#include "heap/layout.h"

#include <stdlib.h>

#include "base/bits.h"
#include "base/units.h"
#include "check.h"

static const uint64_t PAGES[] = {4 * KIB, 16 * KIB, 64 * KIB};
static const uint64_t SIZES[] = {1 * MIB, 64 * MIB, 1 * GIB, 3 * GIB, 100 * GIB};

static void check_regions(const struct layout *l, uint64_t max) {
  uintptr_t last = l->base;
  for (uint32_t r = 0; r < l->region_count; r++) {
    const struct region *region = &l->regions[r];
    CHECK(is_aligned(region->start, l->align) && is_aligned(region->bytes, ARENA_BYTES));
    CHECK(region->start >= last); /* nothing overlaps */
    if (r > 0) CHECK(region->start >= last + ARENA_BYTES); /* and no two can become one VMA */
    last = region->start + region->bytes;
    if (region->space <= SPACE_LARGE_LEAF) CHECK(region->bytes >= max);
    if (space_is_large(region->space)) CHECK_EQ(region->bytes, 2 * l->regions[0].bytes);
    for (uint64_t at = 0; at < region->bytes; at += region->bytes / 8)
      CHECK_EQ(layout_region(l, region->start + at), r);
    CHECK_EQ(layout_region(l, last - 1), r);
  }
  CHECK(last < l->base + l->span); /* a gap behind the last one too */
  CHECK(layout_contains(l, l->base) && layout_contains(l, l->base + l->span - 1));
  CHECK(!layout_contains(l, l->base - 1) && !layout_contains(l, l->base + l->span) && !layout_contains(l, 0));
}

static void check_spaces(const struct layout *l) {
  uint32_t seen = 0;
  for (int s = SPACE_OLD; s < SPACE_COUNT; s++) {
    uint32_t first = layout_first_region(l, (enum space_id)s), count = layout_space_regions(l, (enum space_id)s);
    CHECK_EQ(first, seen);
    for (uint32_t r = first; r < first + count; r++) CHECK_EQ(l->regions[r].space, s);
    seen += count;
  }
  CHECK_EQ(seen, l->region_count);
  for (uint32_t r = 0; r < l->region_count; r++) { /* what is flipped has a shadow, nothing else has */
    uintptr_t end = l->regions[r].start + l->regions[r].bytes - l->base;
    CHECK_EQ(end <= l->mirror_span, space_has_refs(l->regions[r].space));
  }
}

static void one(uint64_t max, uint64_t page, bool tight) {
  struct layout l;
  const uintptr_t base = 0x100000000000; /* never touched */
  if (!CHECK(layout_plan(&l, max, 12 * MIB, 32 * MIB, page, tight))) return;
  CHECK_EQ(l.page_bytes, page);
  CHECK_EQ((uint64_t)1 << l.page_shift, page);
  CHECK_EQ(l.tight, tight);
  CHECK_EQ(l.per_space, tight ? 2 : 4);
  CHECK_EQ(l.regions[0].start, 0); /* offsets until it is placed */
  if (!tight) CHECK(l.align >= GIB && l.regions[0].bytes >= GIB);
  uint8_t *index = malloc((l.span >> l.align_shift) + 1);
  layout_place(&l, base);
  layout_index(&l, index);
  check_regions(&l, max);
  check_spaces(&l);
  CHECK_EQ(layout_block_count(&l) * BLOCK_BYTES, l.span);
  CHECK_EQ(layout_arena_count(&l) * ARENA_BYTES, l.span);
  free(index);
}

static void every_geometry(void) {
  for (size_t s = 0; s < sizeof SIZES / sizeof SIZES[0]; s++)
    for (size_t p = 0; p < sizeof PAGES / sizeof PAGES[0]; p++)
      for (int tight = 0; tight < 2; tight++) one(SIZES[s], PAGES[p], tight);
}

/* A tight heap of a megabyte asks for little; an impossible one is refused. */
static void sizes(void) {
  struct layout l;
  CHECK(layout_plan(&l, 1 * MIB, 9 * MIB, 1 * MIB, 4096, true));
  CHECK(l.span < GIB);
  CHECK(!layout_plan(&l, (uint64_t)1 << 45, 12 * MIB, 32 * MIB, 4096, false));
  CHECK(!layout_plan(&l, (uint64_t)1 << 44, 12 * MIB, 32 * MIB, 4096, false));
}

static void units(void) {
  CHECK_EQ(LINE_BYTES, 64 * GRANULE_BYTES);
  CHECK_EQ(BLOCK_LINES * LINE_BYTES, BLOCK_BYTES);
  CHECK_EQ(BLOCK_CARDS * CARD_BYTES, BLOCK_BYTES);
  CHECK_EQ(ARENA_BLOCKS * BLOCK_BYTES, ARENA_BYTES);
  CHECK_EQ(ARENA_BLOCKS, 32); /* a bit each in a word of the arena */
  CHECK(BLOCK_GRANULES < 65536); /* block.top */
}

int main(void) {
  RUN(every_geometry);
  RUN(sizes);
  RUN(units);
  return CHECK_SUMMARY();
}
