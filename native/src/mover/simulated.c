/* The `simulated` mover: any POSIX system with mmap, no privileges.
 *
 * Memory is held once, in a shared object mapped twice: as the heap, and as an alias that only the collector uses (it takes
 * the place of the shadow: the alias of an address is address + shadow_delta). A flip makes the heap's mapping
 * inaccessible; units are fixed or filled through the alias and published by mprotect. Nothing moves without being
 * copied: a relocated block is copied from alias to alias.
 *
 * A touch of armed memory is SIGSEGV in the thread, whose handler makes the unit, as in signal mode; both fault modes are the
 * same here. Every unit published out of order splits a mapping. Workers go in address order, so mappings join again; who
 * meets the kernel's limit (vm.max_map_count) meanwhile tries again until they have. So whatever *opens* memory is tried
 * until it is done; what *closes* it (a flip, leaf destinations) may be refused: then there is no flip, and what was closed is
 * opened again. A region's registration is only quiet or missing here (something in it is closed).
 *
 * In the child of fork() the object is copied, and the copy mapped in its place, before the parent goes on; bytes of pinned
 * leaf memory that a native thread of the parent writes meanwhile are copied as they are met.
 *
 * Memory is given back with fallocate(PUNCH_HOLE). Exempt from bars on flips and huge pages. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "heap/unit.h"
#include "mover/mover.h"
#include "os/pages.h"
#include "os/thread.h"

enum { TRIES = 20 };
static const uint64_t SLEEP_NS = 50000;

static uintptr_t home(const gch_heap *h, uintptr_t a) {
  return layout_contains(&h->layout, a) ? a : a - h->layout.shadow_delta;
}

static int simulated_drop(gch_heap *h, uintptr_t start, uint64_t bytes) {
  int rc = kernel_fallocate_punch(&h->kernel, h->shared_fd, home(h, start) - h->layout.base, bytes);
  if (rc < 0) mover_refused(h, mover_refusal(rc), start, bytes);
  return rc;
}

/* Maps a part of the object, at `at` or (NULL) where the kernel likes. Through no mapping of it does a touch bring a huge page,
 * whatever the kernel does with shared memory by itself. */
static int map_object(gch_heap *h, void *at, uint64_t bytes, uint64_t offset, void **out) {
  int fixed = at != NULL ? MAP_FIXED : 0;
  int rc = kernel_mmap(&h->kernel, at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | fixed, h->shared_fd,
                       offset, out);
  if (rc >= 0) (void)pages_advise_huge(&h->kernel, *out, bytes, false);
  return rc;
}

/* Maps the object over every region of the heap. Frames and young memory too: one kind of memory, one way to drop it. */
static int map_regions(gch_heap *h) {
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    const struct region *region = &h->layout.regions[r];
    void *out = NULL;
    int rc = map_object(h, (void *)region->start, region->bytes, region->start - h->layout.base, &out);
    if (rc < 0) return rc;
  }
  return 0;
}

static int map_alias(gch_heap *h) {
  void *alias = NULL;
  int rc = map_object(h, NULL, h->layout.span, 0, &alias);
  if (rc >= 0) h->layout.shadow_delta = (uintptr_t)alias - h->layout.base;
  return rc;
}

static gch_status simulated_open(gch_heap *h, gch_error *error) {
  h->huge = false;
  int rc = kernel_memfd(&h->kernel, "gcheap", &h->shared_fd);
  if (rc >= 0) rc = kernel_ftruncate(&h->kernel, h->shared_fd, h->layout.span);
  if (rc >= 0) rc = map_regions(h);
  if (rc >= 0) rc = map_alias(h);
  if (rc >= 0) return GCH_OK;
  return error_set(error, rc == -ENOMEM ? GCH_NO_MEMORY : GCH_UNSUPPORTED,
                   "cannot map a shared object of %zu GiB twice: %s", h->layout.span >> 30, strerror(-rc));
}

static void simulated_close(gch_heap *h) {
  if (h->layout.shadow_delta != 0)
    kernel_munmap(&h->kernel, (void *)(h->layout.base + h->layout.shadow_delta), h->layout.span);
  h->layout.shadow_delta = 0;
  if (h->shared_fd >= 0) kernel_close_fd(&h->kernel, h->shared_fd);
  h->shared_fd = -1;
}

/* --- fork ----------------------------------------------------------------------------------------------------- */

static int copy_extent(gch_heap *h, int to, off_t from, off_t end) {
  while (from < end) {
    uintptr_t alias = h->layout.base + h->layout.shadow_delta + (uintptr_t)from; /* of which nothing is closed */
    ssize_t done = pwrite(to, (void *)alias, (size_t)(end - from), from);
    if (done < 0 && errno != EINTR) return -errno;
    if (done > 0) from += done;
  }
  return 0;
}

/* What the object holds, holes left out. The offset that seeking moves is of no use to the parent. */
static int copy_object(gch_heap *h, int to) {
  off_t at = 0;
  int rc = 0;
  while (rc == 0 && (at = lseek(h->shared_fd, at, SEEK_DATA)) >= 0) {
    off_t end = lseek(h->shared_fd, at, SEEK_HOLE);
    if (end < 0) return -errno;
    rc = copy_extent(h, to, at, end);
    at = end;
  }
  return rc < 0 || errno == ENXIO ? rc : -errno;
}

/* Nothing of the parent's can be reached any more. */
static void cut_off(gch_heap *h) {
  void *spans[] = {(void *)h->layout.base, (void *)(h->layout.base + h->layout.shadow_delta)};
  for (int i = 0; i < 2; i++) {
    void *out = NULL;
    int rc = kernel_mmap(&h->kernel, spans[i], h->layout.span, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0, &out);
    if (rc < 0) kernel_mprotect(&h->kernel, spans[i], h->layout.span, PROT_NONE);
  }
  if (h->shared_fd >= 0) kernel_close_fd(&h->kernel, h->shared_fd);
  h->shared_fd = -1;
}

static bool shut_again(gch_heap *h);

/* The object is the parent's: a copy takes its place. Mapped anew, all of it is open. */
static gch_status simulated_inherit(gch_heap *h, bool parent_waits, gch_error *error) {
  int own = -1, parents = h->shared_fd, rc = parent_waits ? 0 : -EMFILE;
  void *alias = (void *)(h->layout.base + h->layout.shadow_delta), *out = NULL;
  if (rc >= 0) rc = kernel_memfd(&h->kernel, "gcheap", &own);
  if (rc >= 0) rc = kernel_ftruncate(&h->kernel, own, h->layout.span);
  if (rc >= 0) rc = copy_object(h, own);
  if (rc >= 0) {
    h->shared_fd = own;
    rc = map_regions(h);
  }
  if (rc >= 0) rc = map_object(h, alias, h->layout.span, 0, &out);
  if (rc >= 0 && !shut_again(h)) rc = -ENOMEM;
  if (own >= 0) kernel_close_fd(&h->kernel, h->shared_fd == own ? parents : own);
  if (rc >= 0) return GCH_OK;
  cut_off(h);
  return error_set(error, GCH_NO_MEMORY, "cannot copy the shared object behind the heap: %s", strerror(-rc));
}

static bool simulated_supply(gch_heap *h, uintptr_t dst, uint64_t bytes, uintptr_t frame) {
  (void)frame;
  return pages_populate(&h->kernel, (void *)dst, bytes) >= 0;
}

static void simulated_publish(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  memcpy((void *)dst, (void *)src, bytes);
  mover_count_copied(h, bytes);
  mover_release(h, src, bytes);
}

/* --- armed ---------------------------------------------------------------------------------------------------- */

static void open_range(gch_heap *h, uintptr_t start, uint64_t bytes) {
  struct waiting waiting = {0};
  int rc;
  while ((rc = kernel_mprotect(&h->kernel, (void *)start, bytes, PROT_READ | PROT_WRITE)) < 0)
    mover_wait(h, &waiting, KERNEL_MPROTECT, start, rc);
}

static bool shut_range(gch_heap *h, uintptr_t start, uint64_t bytes) {
  int rc = -1;
  for (int i = 0; i < TRIES && rc < 0; i++) {
    if (i > TRIES / 2) thread_sleep_ns(SLEEP_NS);
    rc = kernel_mprotect(&h->kernel, (void *)start, bytes, PROT_NONE);
  }
  if (rc < 0) mover_refused(h, mover_refusal(rc), start, bytes);
  if (rc >= 0) at_store(&h->registration[layout_region(&h->layout, start)], (uint8_t)REGION_MISSING);
  return rc >= 0;
}

static bool simulated_prepare(gch_heap *h, uint32_t region) {
  (void)h, (void)region;
  return true;
}

static bool simulated_flip(gch_heap *h, uint32_t region) {
  return shut_range(h, h->layout.regions[region].start, h->layout.regions[region].bytes);
}

static bool shut_blocks(gch_heap *h, uint32_t region) {
  size_t b = block_index(&h->layout, h->layout.regions[region].start);
  size_t stop = b + (h->layout.regions[region].bytes >> BLOCK_SHIFT);
  while (b < stop) {
    size_t end = b;
    while (end < stop && h->tables.units[end] == UNIT_ARMED) end++;
    if (end > b && !shut_range(h, block_address(&h->layout, b), (end - b) * (uint64_t)BLOCK_BYTES)) return false;
    b = end > b ? end : b + 1;
  }
  return true;
}

/* By pages: the neighbours of a large object in its blocks are in use. */
static bool shut_large(gch_heap *h, uint32_t region) {
  bool shut = true;
  lock_lock(&h->large.lock);
  for (uint32_t id = 1; id < h->large.count && shut; id++) {
    const struct large *e = &h->large.entries[id];
    if (e->base == 0 || e->forward == e->base || layout_region(&h->layout, e->forward) != region) continue;
    shut = shut_range(h, e->forward, align_up(e->bytes, h->layout.page_bytes));
  }
  lock_unlock(&h->large.lock);
  return shut;
}

/* Only what is moved there is missing; the rest of a leaf region stays as it is. */
static bool simulated_arm_dests(gch_heap *h, uint32_t region) {
  return space_is_large(h->layout.regions[region].space) ? shut_large(h, region) : shut_blocks(h, region);
}

/* In the child of fork(): what is not made yet is closed, as it was. */
static bool shut_flipped(gch_heap *h, uint32_t region) {
  const struct region *r = &h->layout.regions[region];
  size_t b = block_index(&h->layout, r->start), stop = b + (r->bytes >> BLOCK_SHIFT);
  if (!shut_range(h, r->start, r->bytes)) return false;
  while (b < stop) {
    size_t end = b;
    while (end < stop && unit_state(h, end) == UNIT_MAPPED) end++;
    if (end > b) open_range(h, block_address(&h->layout, b), (end - b) * (uint64_t)BLOCK_BYTES);
    b = end > b ? end : b + 1;
  }
  return true;
}

/* Of large objects that are on their way: the part in each block that is not made yet. */
static bool shut_armed_large(gch_heap *h, uint32_t region) {
  for (uint32_t id = 1; id < h->large.count; id++) {
    const struct large *e = &h->large.entries[id];
    if (e->base == 0 || e->forward == e->base || layout_region(&h->layout, e->forward) != region) continue;
    uintptr_t end = e->forward + align_up(e->bytes, h->layout.page_bytes);
    for (uintptr_t at = e->forward, next; at < end; at = next) {
      next = align_down(at, BLOCK_BYTES) + BLOCK_BYTES < end ? align_down(at, BLOCK_BYTES) + BLOCK_BYTES : end;
      if (unit_state(h, block_index(&h->layout, at)) == UNIT_ARMED && !shut_range(h, at, next - at)) return false;
    }
  }
  return true;
}

static bool shut_again(gch_heap *h) {
  bool moves = at_load(&h->phase) == GCH_PHASE_MOVE, shut = true;
  for (uint32_t r = 0; r < h->layout.region_count && shut; r++) {
    if (region_registered(h, r) == REGION_QUIET) continue;
    if (!moves)
      at_store(&h->registration[r], (uint8_t)REGION_QUIET);
    else if (h->flipped >> r & 1)
      shut = shut_flipped(h, r);
    else
      shut = space_is_large(h->layout.regions[r].space) ? shut_armed_large(h, r) : shut_blocks(h, r);
  }
  return shut;
}

static void simulated_disarm(gch_heap *h, uint32_t region) {
  if (region_registered(h, region) == REGION_QUIET) return;
  open_range(h, h->layout.regions[region].start, h->layout.regions[region].bytes);
  at_store(&h->registration[region], (uint8_t)REGION_QUIET);
}

static void simulated_unflip(gch_heap *h, uint32_t region, uint64_t used) {
  (void)used;
  simulated_disarm(h, region);
}

/* The destination's own alias may be where the unit was made; else it is copied there first. */
static void simulated_publish_armed(gch_heap *h, uintptr_t dst, uintptr_t src, uint64_t bytes) {
  if (home(h, src) != dst) {
    memcpy((void *)(dst + h->layout.shadow_delta), (void *)(home(h, src) + h->layout.shadow_delta), bytes);
    mover_count_copied(h, bytes);
    mover_release(h, src, bytes);
  }
  open_range(h, dst, bytes);
}

const struct mover_ops mover_simulated = {
    .id = GCH_MOVER_SIMULATED,
    .fixes_at_source = true,
    .concurrent = true,
    .fill_in_place = true,
    .signals = true,
    .open = simulated_open,
    .close = simulated_close,
    .inherit = simulated_inherit,
    .publish = simulated_publish,
    .supply = simulated_supply,
    .drop = simulated_drop,
    .prepare = simulated_prepare,
    .arm_dests = simulated_arm_dests,
    .disarm = simulated_disarm,
    .flip = simulated_flip,
    .unflip_pause = simulated_disarm,
    .unflip = simulated_unflip,
    .publish_armed = simulated_publish_armed,
};
