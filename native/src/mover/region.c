/* What the userfaultfd movers do to regions: the quiet registration, the flip, and back.
 *
 *   quiet      write-protect-only, by a descriptor of no other use: a legal destination of page moves that raises no faults
 *   ready      not registered at all: mremap moves its page tables whole (registered, it goes entry by entry, a thousand
 *              times slower)
 *   missing    registered with the fault descriptor; its pages are in the shadow, which is registered with a third one in
 *              SIGBUS mode: a stale read traps instead of reading zeros, and khugepaged keeps its hands off
 *
 *   quiet --prepare--> ready --flip (pause)--> missing --unflip--> quiet        leaf: quiet --arm_dests--> missing --disarm--> quiet
 *
 * Leaving the quiet state by unregistering walks the tables (18 ms a GiB); registering for missing pages first takes 15 us
 * for both (measured). These calls cannot fail but for want of kernel memory or by injection: they are tried again, then
 * the invariant is broken. */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "mover/mover.h"
#include "mover/publish.h"
#include "os/pages.h"
#include "os/thread.h"

enum { TRIES = 1000 };
static const uint64_t DROP_STEP = 2 << 20;

static gch_status open_one(gch_heap *h, enum uffd_faults faults, struct uffd *out, gch_error *error) {
  struct uffd_wish wish = {.faults = faults, .allow_user_mode_only = true};
  int rc = uffd_open(&h->kernel, &wish, out);
  if (rc >= 0) return GCH_OK;
  out->fd = -1;
  return error_set(error, GCH_UNSUPPORTED, "cannot open userfaultfd: %s (%.150s)", strerror(-rc), out->reasons);
}

static gch_status open_descriptors(gch_heap *h, gch_error *error) {
  static const enum space_id spaces[] = {SPACE_OLD, SPACE_LARGE, SPACE_LEAF, SPACE_LARGE_LEAF, SPACE_FRAMES};
  enum uffd_faults faults = h->config.fault_mode == GCH_FAULT_SIGNAL ? UFFD_FAULTS_SIGNAL : UFFD_FAULTS_THREAD;
  gch_status status = open_one(h, UFFD_FAULTS_NONE, &h->quiet, error);
  if (status == GCH_OK) status = open_one(h, faults, &h->missing, error);
  if (status == GCH_OK) status = open_one(h, UFFD_FAULTS_SIGNAL, &h->trap, error);
  for (size_t s = 0; s < sizeof spaces / sizeof spaces[0] && status == GCH_OK; s++) {
    uint32_t first = layout_first_region(&h->layout, spaces[s]);
    for (uint32_t r = first; r < first + layout_space_regions(&h->layout, spaces[s]); r++) {
      const struct region *region = &h->layout.regions[r];
      int rc = uffd_register_quiet(&h->kernel, &h->quiet, (void *)region->start, region->bytes);
      if (rc < 0)
        return error_set(error, GCH_UNSUPPORTED, "cannot register %zu MiB at %p with userfaultfd: %s",
                         region->bytes >> 20, (void *)region->start, strerror(-rc));
    }
  }
  return status;
}

static void close_descriptors(gch_heap *h) {
  struct uffd *all[] = {&h->quiet, &h->missing, &h->trap};
  for (int i = 0; i < 3; i++) {
    if (all[i]->fd >= 0) uffd_close(&h->kernel, all[i]);
    all[i]->fd = -1;
  }
}

gch_status quiet_open(gch_heap *h, gch_error *error) {
  gch_status status = open_descriptors(h, error);
  return status == GCH_OK ? shadow_open(h, error) : status;
}

/* Inherited descriptors speak of the parent's memory, and nothing is registered here. */
gch_status quiet_inherit(gch_heap *h, bool parent_waits, gch_error *error) {
  (void)parent_waits;
  close_descriptors(h);
  return open_descriptors(h, error);
}

gch_status shadow_open(gch_heap *h, gch_error *error) {
  void *shadow = NULL;
  if (h->layout.tight) return GCH_OK; /* majors run in the pause */
  int rc = pages_reserve(&h->kernel, h->layout.mirror_span, h->layout.align, &shadow, NULL);
  if (rc < 0)
    return error_set(error, GCH_NO_MEMORY, "cannot reserve %zu GiB of addresses for the shadow: %s",
                     h->layout.mirror_span >> 30, strerror(-rc));
  h->layout.shadow_delta = (uintptr_t)shadow - h->layout.base;
  return GCH_OK;
}

void quiet_close(gch_heap *h) {
  close_descriptors(h);
  if (h->layout.shadow_delta != 0)
    pages_release(&h->kernel, (void *)(h->layout.base + h->layout.shadow_delta), h->layout.mirror_span);
  h->layout.shadow_delta = 0;
}

/* Repeats a call that only a lack of kernel memory, or injection, makes fail. */
#define INSIST(h, call, what, region)                                                                 \
  do {                                                                                                \
    int rc_ = -1;                                                                                     \
    for (int i_ = 0; i_ < TRIES && rc_ < 0; i_++) {                                                   \
      rc_ = (call);                                                                                   \
      if (rc_ < 0 && i_ > 10) thread_sleep_ns(100000);                                                \
    }                                                                                                 \
    GCH_CHECK(rc_ >= 0, "%s of the region at %p: %s", what, (void *)(region)->start, strerror(-rc_)); \
  } while (0)

static void leave_quiet(gch_heap *h, const struct region *r) {
  INSIST(h, uffd_register_missing(&h->kernel, &h->quiet, (void *)r->start, r->bytes, 0), "registering", r);
  INSIST(h, uffd_unregister(&h->kernel, &h->quiet, (void *)r->start, r->bytes), "unregistering", r);
}

void region_prepare(gch_heap *h, uint32_t region) { leave_quiet(h, &h->layout.regions[region]); }

void region_arm_dests(gch_heap *h, uint32_t region) {
  const struct region *r = &h->layout.regions[region];
  leave_quiet(h, r);
  INSIST(h, uffd_register_missing(&h->kernel, &h->missing, (void *)r->start, r->bytes, 0), "arming", r);
}

void region_disarm(gch_heap *h, uint32_t region) {
  const struct region *r = &h->layout.regions[region];
  INSIST(h, uffd_unregister(&h->kernel, &h->missing, (void *)r->start, r->bytes), "disarming", r);
  INSIST(h, uffd_register_quiet(&h->kernel, &h->quiet, (void *)r->start, r->bytes), "registering", r);
}

void region_flip(gch_heap *h, uint32_t region) {
  const struct region *r = &h->layout.regions[region];
  uintptr_t shadow = r->start + h->layout.shadow_delta;
  INSIST(h, kernel_mremap_dontunmap(&h->kernel, (void *)r->start, r->bytes, (void *)shadow), "flipping", r);
  INSIST(h, uffd_register_missing(&h->kernel, &h->missing, (void *)r->start, r->bytes, 0), "registering", r);
  INSIST(h, uffd_register_missing(&h->kernel, &h->trap, (void *)shadow, r->bytes, 0), "registering the shadow", r);
}

void region_unflip(gch_heap *h, uint32_t region, uint64_t used) {
  const struct region *r = &h->layout.regions[region];
  uintptr_t shadow = r->start + h->layout.shadow_delta;
  region_disarm(h, region);
  for (uint64_t at = 0; at < used; at += DROP_STEP) pages_drop(&h->kernel, (void *)(shadow + at), DROP_STEP);
  INSIST(h, pages_renew(&h->kernel, (void *)shadow, r->bytes), "renewing the shadow", r);
}
