#include "heap/frames.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "heap/heap.h"
#include "heap/small.h"
#include "os/pages.h"

enum {
  HOME_KEPT = 16, /* home slots whose memory is kept between cycles */
  SLACK_MOST = 64, /* blocks: two full runs of drops (gc/consume.c) */
  NEAR_RUNS = 8,  /* runs looked at for one that is long enough */
  SETTLE_SLOTS = ARENA_BLOCKS, /* home slots dropped in a call: nobody else can have them meanwhile */
};

static uint64_t first_slot(const struct frames *f) { return (uint64_t)f->arena_slots * ARENA_BLOCKS; }

gch_status frames_init(gch_heap *h, gch_error *error) {
  struct frames *f = &h->frames;
  const struct region *region = &h->layout.regions[layout_first_region(&h->layout, SPACE_FRAMES)];
  lock_init(&f->lock, RANK_FRAMES, "frames");
  f->start = region->start;
  f->slots = (uint32_t)(h->config.staging_bytes / BLOCK_BYTES);
  f->reserve = f->slots > 16 ? 4 : 0;
  f->arena_slots = h->huge ? f->slots / 2 / ARENA_BLOCKS : 0;
  if (f->arena_slots > 32) f->arena_slots = 32; /* the bits there are */
  if (h->huge) { /* a quarter for arenas that are made by pieces, each at most twice there meanwhile */
    h->open_limit = f->slots / 4 / ARENA_BLOCKS;
    if (h->open_limit < 1) h->open_limit = 1;
    if (h->open_limit > OPEN_ARENAS) h->open_limit = OPEN_ARENAS;
    f->slots -= f->slots / 4;
  }
  f->arena_limit = (uint32_t)(h->config.staging_bytes / ARENA_BYTES);
  if (f->arena_limit > sizeof f->arenas / sizeof f->arenas[0]) f->arena_limit = sizeof f->arenas / sizeof f->arenas[0];
  f->slack = f->slots / 4 < SLACK_MOST ? f->slots / 4 : SLACK_MOST;
  f->runs = malloc(f->slots * sizeof *f->runs);
  f->free = calloc(bits_words(f->slots), sizeof(uint64_t));
  f->held = calloc(bits_words(f->slots), sizeof(uint64_t));
  if (f->runs == NULL || f->free == NULL || f->held == NULL)
    return error_set(error, GCH_NO_MEMORY, "no memory for the records of %u staging frames", f->slots);
  bits_set_range(f->free, first_slot(f), f->slots);
  f->free_count = f->slots - (uint32_t)first_slot(f);
  return GCH_OK;
}

void frames_destroy(gch_heap *h) {
  free(h->frames.runs);
  free(h->frames.free);
  free(h->frames.held);
  lock_destroy(&h->frames.lock);
}

static bool is_home(const struct frames *f, uintptr_t frame) {
  return frame - f->start < (uintptr_t)f->slots * BLOCK_BYTES;
}

static void frames_add(struct frames *f, int64_t bytes) { at_add_relaxed(&f->extra, bytes); } /* a figure */

void frames_add_extra(gch_heap *h, int64_t bytes) { frames_add(&h->frames, bytes); }

bool frames_spent(const gch_heap *h) { return at_load_relaxed(&h->frames.extra) >= (int64_t)h->config.staging_bytes; }

/* Gives memory that is no frame any more back; returns how much went. What the kernel will not take stays with the block, and
 * the tables say so. (A shadow is emptied at the end in any case, a home slot is looked after by `held`.) */
static uint64_t release(gch_heap *h, uintptr_t start, uint64_t bytes) {
  if (h->drop(h, start, bytes) < 0) {
    block_keep(h, start, bytes);
    return 0;
  }
  frames_add(&h->frames, -(int64_t)bytes);
  return bytes;
}

/* Lock held: a run of consumed blocks, cut to `want`: a long enough one of the warmest few, else the warmest. */
static uint32_t take_pooled(struct frames *f, uint32_t want, uintptr_t *start) {
  if (f->run_count == 0) return 0;
  uint32_t last = f->run_count - 1, chosen = last;
  for (uint32_t i = 0; i < NEAR_RUNS && i <= last && f->runs[chosen].blocks < want; i++)
    if (f->runs[last - i].blocks >= want) chosen = last - i;
  struct frame_run *run = &f->runs[chosen];
  uint32_t blocks = run->blocks < want ? run->blocks : want;
  run->blocks -= blocks;
  *start = run->start + run->blocks * (uintptr_t)BLOCK_BYTES; /* its warm end */
  if (run->blocks == 0) *run = f->runs[--f->run_count];
  at_store_relaxed(&f->pooled, f->pooled - blocks);
  return blocks;
}

/* Lock held: neighbouring free home slots. */
static uint32_t take_home(struct frames *f, uint32_t want, bool must, uintptr_t *start) {
  uint32_t spare = must ? f->free_count : f->free_count > f->reserve ? f->free_count - f->reserve : 0;
  if (want > spare) want = spare;
  uint64_t slot = want == 0 ? BITS_NONE : bits_find_next(f->free, first_slot(f), f->slots);
  if (slot == BITS_NONE) return 0;
  uint64_t end = slot + want < f->slots ? slot + want : f->slots;
  uint64_t taken = bits_find_next_clear(f->free, slot, end);
  if (taken != BITS_NONE) end = taken;
  bits_clear_range(f->free, slot, end);
  frames_add(f, (int64_t)(end - slot - bits_count_range(f->held, slot, end)) * BLOCK_BYTES);
  bits_set_range(f->held, slot, end);
  f->free_count -= (uint32_t)(end - slot);
  *start = f->start + slot * BLOCK_BYTES;
  return (uint32_t)(end - slot);
}

uint32_t frames_take(gch_heap *h, uint32_t want, bool must, uintptr_t *start) {
  struct frames *f = &h->frames;
  *start = 0;
  lock_lock(&f->lock);
  uint32_t blocks = take_pooled(f, want, start);
  bool home = blocks == 0;
  if (home) blocks = take_home(f, want, must, start);
  lock_unlock(&f->lock);
  /* Populating what is there costs nothing much. */
  if (!home || blocks == 0 || pages_populate(&h->kernel, (void *)*start, blocks * (uint64_t)BLOCK_BYTES) >= 0)
    return blocks;
  if (must) {
    pages_touch((void *)*start, blocks * (uint64_t)BLOCK_BYTES);
    return blocks;
  }
  frames_done(h, *start, blocks, true);
  *start = 0;
  return 0;
}

void frames_done(gch_heap *h, uintptr_t start, uint32_t blocks, bool published) {
  struct frames *f = &h->frames;
  if (is_home(f, start)) {
    uint64_t slot = (start - f->start) / BLOCK_BYTES;
    lock_lock(&f->lock);
    bits_set_range(f->free, slot, slot + blocks);
    if (published) bits_clear_range(f->held, slot, slot + blocks);
    f->free_count += blocks;
    lock_unlock(&f->lock);
  } else if (!published) {
    uint32_t kept = frames_give(h, start, blocks);
    if (kept < blocks) release(h, start + kept * (uintptr_t)BLOCK_BYTES, (blocks - kept) * (uint64_t)BLOCK_BYTES);
  }
}

uint32_t frames_give(gch_heap *h, uintptr_t start, uint32_t blocks) {
  struct frames *f = &h->frames;
  lock_lock(&f->lock);
  uint32_t room = f->slots - f->pooled;
  if (blocks > room) blocks = room;
  if (blocks > 0) f->runs[f->run_count++] = (struct frame_run){start, blocks};
  at_store_relaxed(&f->pooled, f->pooled + blocks);
  lock_unlock(&f->lock);
  return blocks;
}

uint64_t frames_trim(gch_heap *h) {
  struct frames *f = &h->frames;
  uint32_t most = f->slots - f->slack;
  uint64_t released = 0;
  while (at_load_relaxed(&f->pooled) > most) { /* a hint: whoever takes frames may be quicker */
    uintptr_t start = 0;
    lock_lock(&f->lock);
    uint32_t blocks = f->pooled > most ? take_pooled(f, f->pooled - most, &start) : 0;
    lock_unlock(&f->lock);
    if (blocks > 0) released += release(h, start, blocks * (uint64_t)BLOCK_BYTES);
  }
  return released;
}

uint32_t frames_reuse(gch_heap *h, uint32_t want, uintptr_t *start) {
  struct frames *f = &h->frames;
  lock_lock(&f->lock);
  uint32_t blocks = take_pooled(f, want, start);
  lock_unlock(&f->lock);
  return blocks;
}

/* --- whole arenas ----------------------------------------------------------------------------------------------- */

uintptr_t frames_reuse_arena(gch_heap *h) {
  struct frames *f = &h->frames;
  lock_lock(&f->lock);
  uintptr_t frame = f->arena_count > 0 ? f->arenas[--f->arena_count] : 0;
  lock_unlock(&f->lock);
  return frame;
}

uintptr_t frames_take_arena(gch_heap *h) {
  struct frames *f = &h->frames;
  uintptr_t frame = frames_reuse_arena(h);
  if (frame != 0) return frame;
  lock_lock(&f->lock);
  for (uint32_t i = 0; i < f->arena_slots && frame == 0; i++) {
    if (f->arena_taken >> i & 1) continue;
    frame = f->start + i * (uintptr_t)ARENA_BYTES;
    f->arena_taken |= (uint32_t)1 << i;
    if (!(f->arena_held >> i & 1)) frames_add(f, ARENA_BYTES);
    f->arena_held |= (uint32_t)1 << i;
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
    uint32_t slot = (uint32_t)1 << (frame - f->start) / ARENA_BYTES;
    lock_lock(&f->lock);
    f->arena_taken &= ~slot;
    if (published) f->arena_held &= ~slot;
    lock_unlock(&f->lock);
  } else if (!published && !frames_give_arena(h, frame)) {
    release(h, frame, ARENA_BYTES);
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

/* --- end of a cycle ----------------------------------------------------------------------------------------------- */

uint64_t frames_bytes(gch_heap *h) {
  struct frames *f = &h->frames;
  uint64_t blocks = 0;
  lock_lock(&f->lock);
  for (uint64_t w = 0; w < bits_words(f->slots); w++) blocks += popcount64(f->held[w]);
  blocks += (uint64_t)__builtin_popcount(f->arena_held) * ARENA_BLOCKS;
  lock_unlock(&f->lock);
  return blocks * BLOCK_BYTES;
}

/* Drops idle slots, which are ours meanwhile, and lets them go again: who needs a frame finds the others. */
static void settle_slots(gch_heap *h, uintptr_t start, uint32_t blocks) {
  bool dropped = h->drop(h, start, blocks * (uint64_t)BLOCK_BYTES) >= 0;
  if (dropped) frames_add(&h->frames, -(int64_t)blocks * BLOCK_BYTES);
  frames_done(h, start, blocks, dropped);
}

/* Takes the next slots from `*at` on, up to `*end`, that have memory and that nobody has taken; at most a few at a time. */
static bool take_idle(struct frames *f, uint64_t *at, uint64_t *end) {
  lock_lock(&f->lock);
  uint64_t from = *at;
  while (from < f->slots && !(bits_test(f->held, from) && bits_test(f->free, from))) from++;
  uint64_t stop = from;
  while (stop < f->slots && stop - from < SETTLE_SLOTS && bits_test(f->held, stop) && bits_test(f->free, stop)) stop++;
  bits_clear_range(f->free, from, stop);
  f->free_count -= (uint32_t)(stop - from);
  lock_unlock(&f->lock);
  *at = from;
  *end = stop;
  return from < stop;
}

static bool take_idle_arena(struct frames *f, uint32_t slot) {
  lock_lock(&f->lock);
  bool idle = f->arena_held & ~f->arena_taken & (uint32_t)1 << slot;
  if (idle) f->arena_taken |= (uint32_t)1 << slot;
  lock_unlock(&f->lock);
  return idle;
}

static void settle_arena(gch_heap *h, uintptr_t arena) {
  bool dropped = h->drop(h, arena, ARENA_BYTES) >= 0;
  if (dropped) frames_add(&h->frames, -ARENA_BYTES);
  frames_done_arena(h, arena, dropped);
}

/* Where pages are huge the first slots share one, which came with the first of them: it goes unless all of them have it (then it
 * is kept) or somebody has taken one. */
static void settle_torn(gch_heap *h, struct frames *f) {
  uint64_t from = first_slot(f), end = from + ARENA_BLOCKS;
  if (end > f->slots) end = f->slots;
  lock_lock(&f->lock);
  uint64_t held = bits_count_range(f->held, from, end);
  bool torn = held > 0 && held < ARENA_BLOCKS && bits_count_range(f->free, from, end) == end - from;
  if (torn) {
    bits_clear_range(f->free, from, end);
    f->free_count -= (uint32_t)(end - from);
  }
  lock_unlock(&f->lock);
  if (!torn) return;
  uintptr_t start = f->start + from * BLOCK_BYTES;
  bool dropped = h->drop(h, start, (end - from) * BLOCK_BYTES) >= 0;
  if (dropped) frames_add(f, -(int64_t)(held * BLOCK_BYTES));
  frames_done(h, start, (uint32_t)(end - from), dropped);
}

static void settle_home(gch_heap *h, struct frames *f) {
  if (h->huge) settle_torn(h, f);
  uint64_t at = first_slot(f) + (h->huge ? ARENA_BLOCKS : HOME_KEPT), end; /* no huge page is torn */
  for (uint32_t i = 0; i < f->arena_slots; i++)
    if (take_idle_arena(f, i)) settle_arena(h, f->start + i * (uintptr_t)ARENA_BYTES);
  for (; take_idle(f, &at, &end); at = end) settle_slots(h, f->start + at * BLOCK_BYTES, (uint32_t)(end - at));
}

/* The kernel is called without the lock: producers take it with units BUSY (I3). */
uint64_t frames_settle(gch_heap *h) {
  uintptr_t memory;
  uint64_t released = 0;
  for (uint32_t blocks; (blocks = frames_reuse(h, UINT32_MAX, &memory)) != 0;)
    released += release(h, memory, blocks * (uint64_t)BLOCK_BYTES);
  while ((memory = frames_reuse_arena(h)) != 0) released += release(h, memory, ARENA_BYTES);
  settle_home(h, &h->frames);
  return released;
}

uint64_t frames_release_idle(gch_heap *h) {
  struct frames *f = &h->frames;
  uint64_t before = frames_bytes(h), at = first_slot(f), end;
  for (; !h->huge && take_idle(f, &at, &end); at = end)
    settle_slots(h, f->start + at * BLOCK_BYTES, (uint32_t)(end - at));
  uint64_t after = frames_bytes(h);
  return before > after ? before - after : 0;
}
