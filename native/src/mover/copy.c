/* The `copy` mover: UFFDIO_COPY, then the source is dropped. The call is older (4.3); what needs Linux 5.7 is the quiet
 * registration (write-protect-only) and the flip (MREMAP_DONTUNMAP). UFFDIO_MOVE is not needed.
 *
 * What it may answer is not for good but by injection: EAGAIN (some copied, or a mapping is changing), ENOENT and EINVAL
 * (the same), ENOMEM. It is tried again; then, where nothing is armed, the page is put there by memcpy; an armed destination
 * waits until the kernel has the memory, see mover/move.c. EFAULT is for good where the source is a hole in a shadow, which
 * traps: the destination gets a page of zeros. */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "heap/small.h"
#include "mover/mover.h"
#include "mover/publish.h"
#include "os/pages.h"
#include "os/thread.h"

enum { COPY_TRIES = 20 };

void publish_by_memcpy(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  if (region_populate(h, dst, bytes) < 0) pages_touch((void *)dst, bytes);
  memcpy((void *)dst, (void *)src, bytes);
  mover_count_copied(h, bytes);
  mover_refused(h, GCH_REFUSAL_COPIED, src, bytes);
}

bool source_is_hole(gch_heap *h, uintptr_t src) { return kernel_pagemap_present(&h->kernel, (void *)src) == 0; }

int publish_zeros(gch_heap *h, int fd, uintptr_t dst) {
  int rc = kernel_uffd_zeropage(&h->kernel, fd, (void *)dst, h->layout.page_bytes, 0, NULL);
  if (rc < 0 && rc != -EEXIST) return rc;
  mover_refused(h, GCH_REFUSAL_OTHER, dst, h->layout.page_bytes);
  return 0; /* whatever is there: nothing lives in it */
}

void empty_source(gch_heap *h, uintptr_t src, uint64_t bytes) {
  if (mover_drop_private(h, src, bytes) >= 0) {
    at_add_relaxed(&h->moved.released, bytes);
    return;
  }
  pages_clear(&h->kernel, (void *)src, bytes);
  if (bytes % BLOCK_BYTES == 0) block_keep(h, src, bytes);
}

struct copying {
  gch_heap *heap;
  int fd;
  uint32_t tries; /* since something was copied */
  struct waiting waiting;
};

/* Returns bytes that are done with: a page, or 0: try again. */
static uint64_t answer_refusal(struct copying *c, uintptr_t dst, uintptr_t src, int error) {
  gch_heap *h = c->heap;
  uint64_t page = h->layout.page_bytes;
  enum kernel_call call = KERNEL_COPY;
  uint32_t tries = c->tries++;
  if (error == -EEXIST) { /* a stray page: the unit is ours, so whatever is there is not */
    mover_refused(h, GCH_REFUSAL_EXIST, dst, page);
    int rc = mover_drop_private(h, dst, page);
    if (rc >= 0 && tries < COPY_TRIES) return 0;
    if (rc < 0) call = KERNEL_DROP;
  } else if (error == -EFAULT && source_is_hole(h, src)) {
    error = publish_zeros(h, c->fd, dst);
    if (error >= 0) return page;
    call = KERNEL_ZEROPAGE;
  } else if (tries < COPY_TRIES) {
    mover_refused(h, mover_refusal(error), dst, 0);
    if (tries > COPY_TRIES / 2) thread_yield();
    return 0;
  }
  if (region_armed(h, dst)) {
    mover_wait(h, &c->waiting, call, dst, error);
    return 0;
  }
  publish_by_memcpy(h, dst, src, page);
  return page;
}

void publish_by_copy(gch_heap *h, int fd, uintptr_t dst, uintptr_t src, uint64_t bytes, uint64_t mode) {
  struct copying c = {.heap = h, .fd = fd};
  uint64_t done = 0, by_memcpy = 0;
  if (fd < 0) { /* the kernel would not register the destination */
    publish_by_memcpy(h, dst, src, bytes);
    return;
  }
  while (done < bytes) {
    uint64_t copied = 0;
    int rc =
        kernel_uffd_copy(&h->kernel, fd, (void *)(dst + done), (const void *)(src + done), bytes - done, mode, &copied);
    done += copied;
    if (copied > 0) c.tries = 0;
    if (rc == 0 || done == bytes) continue;
    uint64_t put = answer_refusal(&c, dst + done, src + done, rc);
    done += put;
    by_memcpy += put;
  }
  mover_count_copied(h, bytes - by_memcpy);
}

static void drop_source(gch_heap *h, uintptr_t src, uint64_t bytes) {
  if (!heap_is_frame(h, src)) empty_source(h, src, bytes);
}

static void copy_publish(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  publish_by_copy(h, region_fd(h, dst), dst, src, bytes, 0);
  drop_source(h, src, bytes);
}

static bool copy_supply(gch_heap *h, uintptr_t dst, uint64_t bytes, uintptr_t frame) {
  (void)frame;
  return region_populate(h, dst, bytes) >= 0;
}

static void copy_publish_armed(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  publish_by_copy(h, h->missing.fd, dst, src, bytes, 0);
  drop_source(h, src, bytes);
}

const struct mover_ops mover_copy = {
    .id = GCH_MOVER_COPY,
    .fixes_at_source = true,
    .concurrent = true,
    .range_calls = UABI_RANGE_COPY,
    .open = quiet_open,
    .close = quiet_close,
    .inherit = quiet_inherit,
    .publish = copy_publish,
    .supply = copy_supply,
    .drop = mover_drop_private,
    .prepare = region_prepare,
    .arm_dests = region_arm_dests,
    .disarm = region_disarm,
    .flip = region_flip,
    .unflip_pause = region_unflip_pause,
    .guard = region_guard,
    .unflip = region_unflip,
    .publish_armed = copy_publish_armed,
};
