/* The `move` mover: UFFDIO_MOVE (Linux 6.8; proposed as UFFDIO_REMAP).
 *
 * Outside flips the regions that receive pages are registered write-protect-only with a descriptor of no other use
 * (`quiet`): that makes them legal destinations, raises no faults, and keeps khugepaged from filling holes. Nothing is
 * ever protected.
 *
 * A move is atomic a page, never a range, so it is resumed from what it says it did. Its refusals (docs/uffd-move.md):
 *   EAGAIN  moved some: go on behind it; moved none: again
 *   EEXIST  source gone, destination there: it was moved and misreported (6.18): go on behind the page;
 *           else the destination is really occupied, by a stray page: drop that and try again
 *   EBUSY   shared since fork, pinned, merged: write a byte of it and try again; then copy the page
 *   ENOENT  a hole in the source: nothing lives there: the page reads as zeros, so make it and try again
 *   EINVAL  another thread changed a mapping for a moment: again, a few times; then copy
 *   ENOMEM, EFAULT, others: copy the page
 * Copying is UFFDIO_COPY into the registered destination. If that is refused for good there is no answer yet: the process
 * stops with a message (native/tests/open/no_memory.c). */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "mover/mover.h"
#include "mover/publish.h"
#include "os/pages.h"
#include "os/thread.h"

enum { INVALID_TRIES = 100 };

static void copy_page(gch_heap *h, int fd, uintptr_t dst, uintptr_t src) {
  uint64_t page = h->layout.page_bytes, copied = 0;
  int rc = -EAGAIN;
  for (int i = 0; i < INVALID_TRIES && (rc == -EAGAIN || rc == -ENOENT); i++)
    rc = kernel_uffd_copy(&h->kernel, fd, (void *)dst, (const void *)src, page, 0, &copied);
  GCH_CHECK(rc == 0, "page %p can be neither moved nor copied to %p: %s", (void *)src, (void *)dst, strerror(-rc));
  pages_drop(&h->kernel, (void *)src, page);
  mover_count_copied(h, page);
  mover_refused(h, GCH_REFUSAL_COPIED, src, page);
}

/* Writes a byte of the page without changing it: unshares and faults it in. */
static void touch_page(uintptr_t page) { __atomic_fetch_or((uint8_t *)page, 0, __ATOMIC_RELAXED); }

/* One page that the kernel refused to move. Returns bytes that are done with (a page), or 0: try again. */
static uint64_t answer_refusal(gch_heap *h, int fd, uintptr_t dst, uintptr_t src, int error, uint32_t tries) {
  uint64_t page = h->layout.page_bytes;
  bool maybe = error == -EEXIST || error == -EBUSY || error == -ENOENT;
  if (maybe && kernel_pagemap_present(&h->kernel, (void *)src) == 0 &&
      kernel_pagemap_present(&h->kernel, (void *)dst) == 1) {
    mover_refused(h, GCH_REFUSAL_EXIST_MOVED, src, page);
    return page;
  }
  switch (error) {
    case -EEXIST: /* moved already, and misreported, was settled above */
      mover_refused(h, GCH_REFUSAL_EXIST, dst, page);
      /* Not known to be there: drop nothing; if the kernel insists, the page is where it says. */
      if (kernel_pagemap_present(&h->kernel, (void *)src) != 1) return tries > INVALID_TRIES ? page : 0;
      pages_drop(&h->kernel, (void *)dst, page);
      return 0;
    case -EBUSY:
      if (tries > 1) break;
      touch_page(src);
      if (tries == 0) mover_refused(h, GCH_REFUSAL_BUSY, src, page);
      return 0;
    case -ENOENT:
      if (tries > 1) break;
      mover_refused(h, GCH_REFUSAL_OTHER, src, page);
      touch_page(src);
      return 0;
    case -EINVAL:
      if (tries > INVALID_TRIES) break;
      if (tries == 0) mover_refused(h, GCH_REFUSAL_OTHER, src, page);
      thread_yield();
      return 0;
    case -ENOMEM: mover_refused(h, GCH_REFUSAL_NO_MEMORY, src, page); break;
    default: mover_refused(h, GCH_REFUSAL_OTHER, src, page);
  }
  copy_page(h, fd, dst, src);
  return page;
}

void publish_by_move(gch_heap *h, int fd, uintptr_t dst, uintptr_t src, uint64_t bytes, uint64_t mode) {
  uint64_t done = 0;
  uint32_t tries = 0;
  bool refused = false;
  while (done < bytes) {
    uint64_t moved = 0;
    int rc = kernel_uffd_move(&h->kernel, fd, (void *)(dst + done), (void *)(src + done), bytes - done, mode, &moved);
    done += moved;
    if (moved > 0) tries = 0;
    if (rc == 0 || done == bytes) continue;
    if (rc == -EAGAIN) {
      if (moved > 0) mover_refused(h, GCH_REFUSAL_AGAIN, src + done, moved);
      continue;
    }
    refused = true; /* a negative answer wakes nobody */
    uint64_t settled = answer_refusal(h, fd, dst + done, src + done, rc, tries++);
    done += settled;
    if (settled > 0) tries = 0;
  }
  if (refused) kernel_uffd_wake(&h->kernel, fd, (void *)dst, bytes);
  bool whole = is_aligned(dst | src | bytes, ARENA_BYTES);
  mover_count_moved(h, bytes >> h->layout.page_shift, whole ? bytes / ARENA_BYTES : 0);
}

static void move_publish(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  publish_by_move(h, h->quiet.fd, dst, src, bytes, 0);
}

static bool move_supply(gch_heap *h, uintptr_t dst, uint64_t bytes, uintptr_t frame) {
  if (frame == 0) return pages_populate(&h->kernel, (void *)dst, bytes) >= 0;
  publish_by_move(h, h->quiet.fd, dst, frame, bytes, 0);
  return true;
}

static void move_publish_armed(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  publish_by_move(h, h->missing.fd, dst, src, bytes, 0);
}

const struct mover_ops mover_move = {
    .id = GCH_MOVER_MOVE,
    .promotes_pages = true,
    .recycles = true,
    .fixes_at_source = true,
    .concurrent = true,
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
    .unflip = region_unflip,
    .publish_armed = move_publish_armed,
};
