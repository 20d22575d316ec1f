/* The `move` mover: UFFDIO_MOVE (Linux 6.8; proposed as UFFDIO_REMAP).
 *
 * Outside flips the regions that receive pages are registered write-protect-only with a descriptor of no other use
 * (`quiet`): that makes them legal destinations, raises no faults, and keeps khugepaged from filling holes. Nothing is
 * ever protected.
 *
 * A move is atomic a page, never a range, so it is resumed from what it says it did. Its refusals (docs/uffd-move.md):
 *   EAGAIN  moved some: go on behind it; moved none: again, a while; then copy
 *   EEXIST  source gone, destination there: it was moved and misreported (6.18): go on behind the page;
 *           else the destination is really occupied, by a stray page: drop that and try again
 *   EBUSY   shared since fork, pinned, merged: write a byte of it and try again; then copy the page
 *   ENOENT  a hole in the source: nothing lives there, and nobody may touch it (a shadow traps): a page of zeros for the
 *           destination; if the source has a page all the same: again, then copy
 *   EINVAL  another thread changed a mapping for a moment: again, a few times; then copy
 *   ENOMEM, EFAULT, others: copy the page
 * Before a page is copied it is asked whether it has moved: a misreported call may have moved more than the page it named.
 * Copying is UFFDIO_COPY into the registered destination. If that is refused, or the stray page will not go: memcpy where
 * nothing is armed. In an armed destination half a page would be seen (I2): there move and copy are tried in turn until one
 * of them succeeds, with sleep in between, as the kernel itself waits for memory behind a page fault. Only what the kernel
 * refuses for ever waits for ever, and is reported (events REFUSAL and WATCHDOG). */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "mover/mover.h"
#include "mover/publish.h"
#include "os/pages.h"
#include "os/thread.h"

enum { INVALID_TRIES = 100, AGAIN_TRIES = 200, COPY_TRIES = 20, FLIP_WAITS = 5 };

struct transfer {
  gch_heap *heap;
  int fd;
  bool armed;
  uint32_t patience; /* waits for memory after which it gives up; 0: it never does */
  uint32_t waits;
  uint32_t tries; /* of the page at hand */
  uint32_t momentary; /* since something moved: EAGAIN and EINVAL, which should go away */
  struct waiting waiting;
};

/* What can be done about a page that is neither moved nor copied. Returns bytes that are done with: a page, or 0. */
static uint64_t put_page(struct transfer *t, uintptr_t dst, uintptr_t src, enum kernel_call call, int error) {
  gch_heap *h = t->heap;
  if (t->armed) {
    t->waits++;
    mover_wait(h, &t->waiting, call, dst, error);
    return 0;
  }
  publish_by_memcpy(h, dst, src, h->layout.page_bytes);
  empty_source(h, src, h->layout.page_bytes);
  return h->layout.page_bytes;
}

static uint64_t put_zeros(struct transfer *t, uintptr_t dst, uintptr_t src) {
  int rc = publish_zeros(t->heap, t->fd, dst);
  return rc >= 0 ? t->heap->layout.page_bytes : put_page(t, dst, src, KERNEL_ZEROPAGE, rc);
}

/* Source empty, destination there: the page is done with, whatever the kernel has said of it. */
static bool has_moved(gch_heap *h, uintptr_t dst, uintptr_t src) {
  if (kernel_pagemap_present(&h->kernel, (void *)src) != 0 || kernel_pagemap_present(&h->kernel, (void *)dst) != 1)
    return false;
  mover_refused(h, GCH_REFUSAL_EXIST_MOVED, src, h->layout.page_bytes);
  return true;
}

/* A call that was misreported may have moved the pages behind the one that it named, too, and the next be refused for another
 * reason: it is asked before the copy, which reads an empty source, and so puts a page of zeros there. */
static uint64_t copy_page(struct transfer *t, uintptr_t dst, uintptr_t src) {
  gch_heap *h = t->heap;
  uint64_t page = h->layout.page_bytes, copied = 0;
  int rc = -EAGAIN, there = kernel_pagemap_present(&h->kernel, (void *)src);
  if (has_moved(h, dst, src)) return page;
  for (int i = 0; i < COPY_TRIES && (rc == -EAGAIN || rc == -ENOENT); i++)
    rc = kernel_uffd_copy(&h->kernel, t->fd, (void *)dst, (const void *)src, page, 0, &copied);
  if (rc == -EEXIST && there != 1) return page; /* see answer_occupied */
  if (rc == -EFAULT && source_is_hole(h, src)) return put_zeros(t, dst, src);
  if (rc < 0) return put_page(t, dst, src, KERNEL_COPY, rc);
  empty_source(h, src, page);
  mover_count_copied(h, page);
  mover_refused(h, GCH_REFUSAL_COPIED, src, page);
  return page;
}

/* Writes a byte of the page without changing it: unshares and faults it in. */
static void touch_page(uintptr_t page) { __atomic_fetch_or((uint8_t *)page, 0, __ATOMIC_RELAXED); }

/* EEXIST that is not known to mean that the page has moved. */
static uint64_t answer_occupied(struct transfer *t, uintptr_t dst, uintptr_t src, uint32_t tries) {
  gch_heap *h = t->heap;
  uint64_t page = h->layout.page_bytes;
  mover_refused(h, GCH_REFUSAL_EXIST, dst, page);
  /* Not known to be there: drop nothing; if the kernel insists, the page is where it says. */
  if (kernel_pagemap_present(&h->kernel, (void *)src) != 1) return tries > INVALID_TRIES ? page : 0;
  int rc = mover_drop_private(h, dst, page);
  if (rc < 0) return put_page(t, dst, src, KERNEL_DROP, rc);
  return tries > 1 ? copy_page(t, dst, src) : 0;
}

/* One page that the kernel refused to move. Returns bytes that are done with (a page), or 0: try again. */
static uint64_t answer_refusal(struct transfer *t, uintptr_t dst, uintptr_t src, int error) {
  gch_heap *h = t->heap;
  uint64_t page = h->layout.page_bytes;
  uint32_t tries = t->tries++;
  bool maybe = error == -EEXIST || error == -EBUSY || error == -ENOENT;
  if (maybe && has_moved(h, dst, src)) return page;
  switch (error) {
    case -EEXIST: return answer_occupied(t, dst, src, tries);
    case -EBUSY:
      if (tries > 1) break;
      touch_page(src);
      if (tries == 0) mover_refused(h, GCH_REFUSAL_BUSY, src, page);
      return 0;
    case -ENOENT:
      if (source_is_hole(h, src)) return put_zeros(t, dst, src);
      if (tries > 1) break;
      mover_refused(h, GCH_REFUSAL_OTHER, src, page);
      return 0;
    case -EINVAL:
      if (t->momentary++ > INVALID_TRIES) break;
      if (t->momentary == 1) mover_refused(h, GCH_REFUSAL_OTHER, src, page);
      thread_yield();
      return 0;
    default: mover_refused(h, mover_refusal(error), src, page);
  }
  return copy_page(t, dst, src);
}

/* EAGAIN that moved nothing: whatever was in the way goes away. */
static uint64_t answer_again(struct transfer *t, uintptr_t dst, uintptr_t src) {
  if (++t->momentary < AGAIN_TRIES) {
    if (t->momentary > COPY_TRIES) thread_yield();
    return 0;
  }
  mover_refused(t->heap, GCH_REFUSAL_AGAIN, src, 0);
  return copy_page(t, dst, src);
}

/* The kernel would not register the destination. Little by little: what is there twice counts against the budget (I4). */
static void publish_unregistered(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  for (uint64_t done = 0, n; done < bytes; done += n) {
    n = bytes - done < BLOCK_BYTES ? bytes - done : BLOCK_BYTES;
    publish_by_memcpy(h, dst + done, src + done, n);
    empty_source(h, src + done, n);
  }
}

static bool gives_up(const struct transfer *t) { return t->patience != 0 && t->waits > t->patience; }

/* Returns how many bytes are done with: all, but for who is not patient. */
static uint64_t move_all(struct transfer *transfer, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  struct transfer t = *transfer;
  gch_heap *h = t.heap;
  int fd = t.fd;
  uint64_t done = 0;
  bool refused = false;
  while (done < bytes && !gives_up(&t)) {
    uint64_t moved = 0;
    int rc = kernel_uffd_move(&h->kernel, fd, (void *)(dst + done), (void *)(src + done), bytes - done, 0, &moved);
    done += moved;
    if (moved > 0) t.tries = t.momentary = 0;
    if (rc == 0 || done == bytes) continue;
    if (rc == -EAGAIN && moved > 0) {
      mover_refused(h, GCH_REFUSAL_AGAIN, src + done, moved);
      continue;
    }
    uint64_t settled =
        rc == -EAGAIN ? answer_again(&t, dst + done, src + done) : answer_refusal(&t, dst + done, src + done, rc);
    refused = refused || rc != -EAGAIN || settled > 0; /* a negative answer wakes nobody */
    done += settled;
    if (settled > 0) t.tries = 0;
  }
  if (refused) kernel_uffd_wake(&h->kernel, fd, (void *)dst, bytes);
  return done;
}

void publish_by_move(gch_heap *h, int fd, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  if (fd < 0) {
    publish_unregistered(h, dst, src, bytes);
    return;
  }
  struct transfer t = {.heap = h, .fd = fd, .armed = region_armed(h, dst)};
  (void)move_all(&t, dst, src, bytes);
  bool whole = is_aligned(dst | src | bytes, ARENA_BYTES);
  mover_count_moved(h, bytes >> h->layout.page_shift, whole ? bytes / ARENA_BYTES : 0);
}

static void move_publish(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  publish_by_move(h, region_fd(h, dst), dst, src, bytes);
}

static bool move_supply(gch_heap *h, uintptr_t dst, uint64_t bytes, uintptr_t frame) {
  if (frame == 0) return region_populate(h, dst, bytes) >= 0;
  publish_by_move(h, region_fd(h, dst), dst, frame, bytes);
  return true;
}

static void move_publish_armed(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  publish_by_move(h, h->missing.fd, dst, src, bytes);
}

/* The shadow may not be touched either (it traps), so what cannot be moved is copied by the kernel. But in a pause nobody frees
 * memory. */
static uint64_t move_flip_arena(gch_heap *h, uintptr_t arena) {
  struct transfer t = {.heap = h, .fd = h->trap.fd, .armed = true, .patience = FLIP_WAITS};
  return move_all(&t, arena + h->layout.shadow_delta, arena, ARENA_BYTES);
}

const struct mover_ops mover_move = {
    .id = GCH_MOVER_MOVE,
    .moves_pages = true,
    .fixes_at_source = true,
    .concurrent = true,
    .range_calls = UABI_RANGE_MOVE | UABI_RANGE_COPY,
    .open = quiet_open,
    .close = quiet_close,
    .inherit = quiet_inherit,
    .publish = move_publish,
    .supply = move_supply,
    .drop = mover_drop_private,
    .prepare = region_prepare,
    .arm_dests = region_arm_dests,
    .disarm = region_disarm,
    .flip = region_flip,
    .unflip_pause = region_unflip_pause,
    .guard = region_guard,
    .flip_arena = move_flip_arena,
    .unflip = region_unflip,
    .publish_armed = move_publish_armed,
};
