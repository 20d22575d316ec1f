#include "heap/frames.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "heap/heap.h"
#include "os/pages.h"

gch_status frames_init(gch_heap *h, gch_error *error) {
  struct frames *f = &h->frames;
  const struct region *region = &h->layout.regions[layout_first_region(&h->layout, SPACE_FRAMES)];
  lock_init(&f->lock, RANK_FRAMES, "frames");
  f->start = region->start;
  f->slots = (uint32_t)(h->config.staging_bytes / BLOCK_BYTES);
  f->reserve = f->slots > 16 ? 4 : 0;
  f->capacity = f->slots + 64;
  f->arena_slots = h->huge ? f->slots / 2 / ARENA_BLOCKS : 0;
  f->arena_limit = (uint32_t)(h->config.staging_bytes / ARENA_BYTES);
  if (f->arena_limit > sizeof f->arenas / sizeof f->arenas[0]) f->arena_limit = sizeof f->arenas / sizeof f->arenas[0];
  f->stack = malloc(f->capacity * sizeof *f->stack);
  f->empty = malloc(bits_words(f->slots) * sizeof(uint64_t));
  if (f->stack == NULL || f->empty == NULL)
    return error_set(error, GCH_NO_MEMORY, "no memory for the records of %u staging frames", f->slots);
  memset(f->empty, 0xff, bits_words(f->slots) * sizeof(uint64_t));
  return GCH_OK;
}

void frames_destroy(gch_heap *h) {
  free(h->frames.stack);
  free(h->frames.empty);
  lock_destroy(&h->frames.lock);
}

static uintptr_t slot_address(const struct frames *f, uint64_t slot) { return f->start + slot * BLOCK_BYTES; }

static bool is_home(const struct frames *f, uintptr_t frame) {
  return frame - f->start < (uintptr_t)f->slots * BLOCK_BYTES;
}

/* Lock held. */
static uintptr_t populate_slot(gch_heap *h, struct frames *f, bool must) {
  uint64_t slot = bits_find_next(f->empty, (uint64_t)f->arena_slots * ARENA_BLOCKS, f->slots);
  if (slot == BITS_NONE) return 0;
  uintptr_t frame = slot_address(f, slot);
  if (pages_populate(&h->kernel, (void *)frame, BLOCK_BYTES) < 0) {
    if (!must) return 0;
    pages_touch((void *)frame, BLOCK_BYTES);
  }
  bits_clear(f->empty, slot);
  return frame;
}

uintptr_t frames_take(gch_heap *h, bool must) {
  struct frames *f = &h->frames;
  lock_lock(&f->lock);
  uintptr_t frame = 0;
  if (f->count > 0)
    frame = f->stack[--f->count];
  else if (f->taken < f->slots - (must ? 0 : f->reserve))
    frame = populate_slot(h, f, must);
  if (frame != 0) f->taken++;
  lock_unlock(&f->lock);
  return frame;
}

void frames_done(gch_heap *h, uintptr_t frame, bool published) {
  struct frames *f = &h->frames;
  lock_lock(&f->lock);
  f->taken--;
  if (!published && f->count < f->capacity)
    f->stack[f->count++] = frame;
  else if (published && is_home(f, frame))
    bits_set(f->empty, (frame - f->start) / BLOCK_BYTES);
  lock_unlock(&f->lock);
}

bool frames_give(gch_heap *h, uintptr_t block) {
  struct frames *f = &h->frames;
  lock_lock(&f->lock);
  bool room = f->count < f->slots;
  if (room) f->stack[f->count++] = block;
  lock_unlock(&f->lock);
  return room;
}

uintptr_t frames_reuse(gch_heap *h, bool arena) {
  struct frames *f = &h->frames;
  uintptr_t frame = 0;
  lock_lock(&f->lock);
  if (arena && f->arena_count > 0) frame = f->arenas[--f->arena_count];
  for (uint32_t i = f->count; !arena && frame == 0 && i > 0; i--) {
    if (is_home(f, f->stack[i - 1])) continue;
    frame = f->stack[i - 1];
    f->stack[i - 1] = f->stack[--f->count];
  }
  lock_unlock(&f->lock);
  return frame;
}

uintptr_t frames_take_arena(gch_heap *h) {
  struct frames *f = &h->frames;
  uintptr_t frame = frames_reuse(h, true);
  if (frame != 0) return frame;
  lock_lock(&f->lock);
  for (uint32_t i = 0; i < f->arena_slots && frame == 0; i++) {
    if (f->arena_taken >> i & 1) continue;
    frame = f->start + i * (uintptr_t)ARENA_BYTES;
    f->arena_taken |= (uint32_t)1 << i;
  }
  lock_unlock(&f->lock);
  /* Populating what is there costs nothing much; a published frame is empty. */
  if (frame != 0 && pages_populate(&h->kernel, (void *)frame, ARENA_BYTES) < 0) {
    frames_done_arena(h, frame, true);
    return 0;
  }
  return frame;
}

void frames_done_arena(gch_heap *h, uintptr_t frame, bool published) {
  struct frames *f = &h->frames;
  if (is_home(f, frame)) {
    lock_lock(&f->lock);
    f->arena_taken &= ~((uint32_t)1 << (frame - f->start) / ARENA_BYTES);
    lock_unlock(&f->lock);
  } else if (!published && !frames_give_arena(h, frame)) {
    h->drop(h, frame, ARENA_BYTES);
  }
}

bool frames_give_arena(gch_heap *h, uintptr_t arena) {
  struct frames *f = &h->frames;
  lock_lock(&f->lock);
  bool room = f->arena_count < f->arena_limit;
  if (room) f->arenas[f->arena_count++] = arena;
  lock_unlock(&f->lock);
  return room;
}

uint64_t frames_settle(gch_heap *h) {
  struct frames *f = &h->frames;
  uint64_t released = 0;
  lock_lock(&f->lock);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < f->count; i++) {
    if (is_home(f, f->stack[i])) {
      f->stack[kept++] = f->stack[i];
      continue;
    }
    h->drop(h, f->stack[i], BLOCK_BYTES);
    released += BLOCK_BYTES;
  }
  f->count = kept;
  for (; f->arena_count > 0; released += ARENA_BYTES) h->drop(h, f->arenas[--f->arena_count], ARENA_BYTES);
  lock_unlock(&f->lock);
  return released;
}
