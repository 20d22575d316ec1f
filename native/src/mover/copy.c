/* The `copy` mover: UFFDIO_COPY (Linux 5.7), then the source is dropped. Also the quiet registration that both
 * userfaultfd movers use (mover/move.c says what for). */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "mover/mover.h"
#include "mover/publish.h"
#include "os/pages.h"

gch_status quiet_open(gch_heap *h, gch_error *error) {
  static const enum space_id spaces[] = {SPACE_OLD, SPACE_LARGE, SPACE_LEAF, SPACE_LARGE_LEAF, SPACE_FRAMES};
  struct uffd_wish wish = {.faults = UFFD_FAULTS_NONE, .allow_user_mode_only = true};
  int rc = uffd_open(&h->kernel, &wish, &h->quiet);
  if (rc < 0) return error_set(error, GCH_UNSUPPORTED, "cannot open userfaultfd: %s (%.120s)", strerror(-rc), h->quiet.reasons);
  for (size_t s = 0; s < sizeof spaces / sizeof spaces[0]; s++) {
    uint32_t first = layout_first_region(&h->layout, spaces[s]);
    for (uint32_t r = first; r < first + layout_space_regions(&h->layout, spaces[s]); r++) {
      const struct region *region = &h->layout.regions[r];
      rc = uffd_register_quiet(&h->kernel, &h->quiet, (void *)region->start, region->bytes);
      if (rc < 0)
        return error_set(error, GCH_UNSUPPORTED, "cannot register %zu MiB at %p with userfaultfd: %s", region->bytes >> 20,
                         (void *)region->start, strerror(-rc));
    }
  }
  return GCH_OK;
}

void quiet_close(gch_heap *h) {
  if (h->quiet.fd >= 0) uffd_close(&h->kernel, &h->quiet);
  h->quiet.fd = -1;
}

void publish_by_copy(gch_heap *h, int fd, uintptr_t dst, uintptr_t src, uint64_t bytes, uint64_t mode) {
  for (uint64_t done = 0; done < bytes;) {
    uint64_t copied = 0;
    int rc = kernel_uffd_copy(&h->kernel, fd, (void *)(dst + done), (const void *)(src + done), bytes - done, mode, &copied);
    done += copied;
    if (rc == 0 || done == bytes) continue;
    if (rc == -EEXIST) { /* a stray page: the unit is ours, so whatever is there is not */
      mover_refused(h, GCH_REFUSAL_EXIST, dst + done, h->layout.page_bytes);
      pages_drop(&h->kernel, (void *)(dst + done), h->layout.page_bytes);
      continue;
    }
    mover_refused(h, rc == -EAGAIN ? GCH_REFUSAL_AGAIN : rc == -ENOMEM ? GCH_REFUSAL_NO_MEMORY : GCH_REFUSAL_OTHER, dst + done, 0);
    GCH_CHECK(rc == -EAGAIN || rc == -ENOENT || rc == -EINVAL || rc == -ENOMEM, "UFFDIO_COPY to %p: %s", (void *)(dst + done),
              strerror(-rc));
  }
  mover_count_copied(h, bytes);
  pages_drop(&h->kernel, (void *)src, bytes);
}

static void copy_publish(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  publish_by_copy(h, h->quiet.fd, dst, src, bytes, 0);
}

static bool copy_supply(gch_heap *h, uintptr_t dst, uint64_t bytes, uintptr_t frame) {
  (void)frame;
  return pages_populate(&h->kernel, (void *)dst, bytes) >= 0;
}

static void copy_release(gch_heap *h, uintptr_t start, uint64_t bytes) {
  if (pages_drop(&h->kernel, (void *)start, bytes) >= 0) at_add_relaxed(&h->moved.released, bytes);
}

const struct mover_ops mover_copy = {
    .id = GCH_MOVER_COPY,
    .fixes_at_source = true,
    .concurrent = true,
    .open = quiet_open,
    .close = quiet_close,
    .publish = copy_publish,
    .supply = copy_supply,
    .release = copy_release,
};
