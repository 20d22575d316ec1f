#include "heap/layout.h"

#include "base/bits.h"
#include "base/units.h"

static void add_region(struct layout *l, enum space_id space, size_t bytes) {
  size_t gap = l->align;
  l->regions[l->region_count++] = (struct region){.start = l->span, .bytes = bytes, .space = space};
  l->span += align_up(bytes, l->align) + gap;
}

bool layout_plan(struct layout *l, uint64_t max_bytes, uint64_t young_bytes, uint64_t frame_bytes, size_t page_bytes,
                 bool tight) {
  if (max_bytes > (uint64_t)1 << 44) return false;
  /* Room for the limit, for what a collection may hold beyond it, and for packing losses. */
  uint64_t region = ceil_pow2(max_bytes + max_bytes / 8 + young_bytes + 2 * ARENA_BYTES);
  if (!tight && region < GIB) region = GIB;
  *l = (struct layout){.page_bytes = page_bytes, .tight = tight, .per_space = tight ? 2 : SPACE_REGIONS};
  l->page_shift = (unsigned)__builtin_ctzll(page_bytes);
  l->align = tight ? (size_t)ARENA_BYTES : (size_t)GIB;
  l->align_shift = (unsigned)__builtin_ctzll(l->align);
  for (int s = SPACE_OLD; s <= SPACE_LARGE_LEAF; s++) {
    for (uint32_t i = 0; i < l->per_space; i++)
      add_region(l, (enum space_id)s, space_is_large((enum space_id)s) ? 2 * region : region);
    if (s == SPACE_LARGE) l->mirror_span = l->span;
  }
  add_region(l, SPACE_YOUNG, align_up(young_bytes, ARENA_BYTES));
  add_region(l, SPACE_FRAMES, align_up(frame_bytes, ARENA_BYTES));
  return l->span < (size_t)1 << 46;
}

/* Regions are powers of two, so only what fills one up comes into question. */
uint64_t layout_most_bytes(uint64_t young_bytes, uint64_t frame_bytes, size_t page_bytes) {
  struct layout l;
  for (uint64_t region = (uint64_t)1 << 45; region > young_bytes + 2 * ARENA_BYTES; region /= 2) {
    uint64_t most = align_down((region - young_bytes - 2 * ARENA_BYTES) / 9 * 8, BLOCK_BYTES);
    if (layout_plan(&l, most, young_bytes, frame_bytes, page_bytes, true)) return most;
  }
  return 0;
}

void layout_place(struct layout *l, uintptr_t base) {
  l->base = base;
  for (uint32_t r = 0; r < l->region_count; r++) l->regions[r].start += base;
}

void layout_index(struct layout *l, uint8_t *region_of) {
  l->region_of = region_of;
  for (uint32_t r = 0; r < l->region_count; r++) {
    uintptr_t end = r + 1 < l->region_count ? l->regions[r + 1].start : l->base + l->span;
    for (uintptr_t a = l->regions[r].start; a < end; a += l->align)
      region_of[(a - l->base) >> l->align_shift] = (uint8_t)r;
  }
}
