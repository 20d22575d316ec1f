/* The `copy` mover: UFFDIO_COPY (Linux 5.7), then the source is dropped. */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "mover/mover.h"
#include "mover/publish.h"
#include "os/pages.h"

void publish_by_copy(gch_heap *h, int fd, uintptr_t dst, uintptr_t src, uint64_t bytes, uint64_t mode) {
  for (uint64_t done = 0; done < bytes;) {
    uint64_t copied = 0;
    int rc =
        kernel_uffd_copy(&h->kernel, fd, (void *)(dst + done), (const void *)(src + done), bytes - done, mode, &copied);
    done += copied;
    if (rc == 0 || done == bytes) continue;
    if (rc == -EEXIST) { /* a stray page: the unit is ours, so whatever is there is not */
      mover_refused(h, GCH_REFUSAL_EXIST, dst + done, h->layout.page_bytes);
      pages_drop(&h->kernel, (void *)(dst + done), h->layout.page_bytes);
      continue;
    }
    mover_refused(h,
                  rc == -EAGAIN   ? GCH_REFUSAL_AGAIN
                  : rc == -ENOMEM ? GCH_REFUSAL_NO_MEMORY
                                  : GCH_REFUSAL_OTHER,
                  dst + done, 0);
    GCH_CHECK(rc == -EAGAIN || rc == -ENOENT || rc == -EINVAL || rc == -ENOMEM, "UFFDIO_COPY to %p: %s",
              (void *)(dst + done), strerror(-rc));
  }
  mover_count_copied(h, bytes);
}

static void drop_source(gch_heap *h, uintptr_t src, uint64_t bytes) {
  if (!heap_is_frame(h, src)) pages_drop(&h->kernel, (void *)src, bytes);
}

static void copy_publish(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  publish_by_copy(h, h->quiet.fd, dst, src, bytes, 0);
  drop_source(h, src, bytes);
}

static bool copy_supply(gch_heap *h, uintptr_t dst, uint64_t bytes, uintptr_t frame) {
  (void)frame;
  return pages_populate(&h->kernel, (void *)dst, bytes) >= 0;
}

static void copy_publish_armed(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  publish_by_copy(h, h->missing.fd, dst, src, bytes, 0);
  drop_source(h, src, bytes);
}

const struct mover_ops mover_copy = {
    .id = GCH_MOVER_COPY,
    .fixes_at_source = true,
    .concurrent = true,
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
    .unflip = region_unflip,
    .publish_armed = copy_publish_armed,
};
