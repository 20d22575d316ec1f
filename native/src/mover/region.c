/* What the userfaultfd movers do to regions: the quiet registration, the flip, and back.
 *
 *   quiet      write-protect-only, by a descriptor of no other use: a legal destination of page moves (mover `copy`: of
 *              UFFDIO_COPY, which is older) that raises no faults
 *   ready      not registered at all: mremap moves its page tables whole (registered, it goes entry by entry, a thousand
 *              times slower)
 *   missing    registered with the fault descriptor; its pages are in the shadow, which is registered with a third one in
 *              SIGBUS mode: a stale read traps instead of reading zeros, and khugepaged keeps its hands off
 *
 *   quiet --prepare--> ready --flip (pause)--> missing --unflip--> quiet        leaf: quiet --arm_dests--> missing --disarm--> quiet
 *
 * Leaving the quiet state by unregistering walks the tables (18 ms a GiB); registering for missing pages first takes 15 us
 * for both (measured).
 *
 * Any of these calls may be refused, for want of kernel memory or by injection, and refused for good. Each is tried a few
 * times; then:
 *
 *   quiet -> ready     the region is quiet again; there is no flip. Refused too: the quiet descriptor is closed, which nothing
 *                      can refuse and which ends all its registrations; regions that were quiet are ready
 *   ready -> missing   leaf: the region stays ready, no flip; in the pause: mremap back to ready (mremap is its own inverse);
 *                      refused too, the pages are published back where they were
 *   the guard          counted; it is not needed for correctness (a selective flip needs it, and is not made: gc/arm.h)
 *   missing -> ready   *parked*: registered quiet with the fault descriptor, through which it is published into meanwhile;
 *                      refused too, *stuck*: it goes on raising faults, but nothing in it is armed, nothing is allocated in it
 *                      (gc/flip.c), and a destination in it gets a zero page before it is touched
 *   ready -> quiet     stays ready: published into by memcpy; it can be flipped as it is
 *   the shadow         emptied page by page, or by mapping it anew, whichever works; if none, its memory stays until one does
 *
 * What is not quiet is tried again before the next cycle (mover_settle). A region that is parked or stuck, or whose shadow
 * is not empty, cannot be flipped: the cycle is finished in the pause (gc/cycle.c). */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "heap/small.h"
#include "heap/unit.h"
#include "mover/liveness.h"
#include "mover/mover.h"
#include "mover/publish.h"
#include "os/pages.h"
#include "os/thread.h"

enum { TRIES = 20, LEAVE_ROUNDS = 5 };
static const uint64_t SLEEP_NS = 50000, DROP_STEP = 2 << 20;

static gch_status open_one(gch_heap *h, enum uffd_faults faults, struct uffd *out, gch_error *error) {
  struct uffd_wish wish = {.faults = faults, .allow_user_mode_only = true};
  if (faults == UFFD_FAULTS_THREAD) wish.features = UABI_FEATURE_THREAD_ID; /* stalls are counted by thread */
  int rc = uffd_open(&h->kernel, &wish, out);
  if (rc >= 0) return GCH_OK;
  out->fd = -1;
  return error_set(error, GCH_UNSUPPORTED, "cannot open userfaultfd: %s (%.150s)", strerror(-rc), out->reasons);
}

/* In the child of fork() a region that is missing in a move is that again; what else was missing is quiet. */
static int register_region(gch_heap *h, uint32_t region) {
  const struct region *r = &h->layout.regions[region];
  bool missing = at_load(&h->phase) == GCH_PHASE_MOVE && region_registered(h, region) == REGION_MISSING;
  if (missing) return uffd_register_missing(&h->kernel, &h->missing, (void *)r->start, r->bytes, 0);
  int rc = uffd_register_quiet(&h->kernel, &h->quiet, (void *)r->start, r->bytes, h->mover->range_calls);
  if (rc >= 0) at_store(&h->registration[region], (uint8_t)REGION_QUIET);
  return rc;
}

/* The young region, alone, is never registered. */
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
      int rc = register_region(h, r);
      if (rc < 0)
        return error_set(error, GCH_UNSUPPORTED, "cannot register %zu MiB at %p with userfaultfd: %s",
                         region->bytes >> 20, (void *)region->start, strerror(-rc));
    }
  }
  h->liveness_moves = status == GCH_OK && liveness_register(h);
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

/* Where nothing was registered for a moment, khugepaged may have filled the holes of a huge arena that is there in part. */
static int empty_armed(gch_heap *h) {
  int rc = 0;
  for (uint32_t i = 0; i < OPEN_ARENAS; i++) {
    uint32_t arena = at_load(&h->open_arenas[i]);
    for (size_t b = 0; b < ARENA_BLOCKS && arena != 0 && rc >= 0; b++) {
      size_t block = (size_t)(arena - 1) * ARENA_BLOCKS + b;
      if (unit_state(h, block) == UNIT_ARMED)
        rc = pages_drop(&h->kernel, (void *)block_address(&h->layout, block), BLOCK_BYTES);
    }
  }
  return rc;
}

/* Inherited descriptors speak of the parent's memory, and nothing is registered here: what is missing reads as zeros until it is. */
gch_status quiet_inherit(gch_heap *h, bool parent_waits, gch_error *error) {
  (void)parent_waits;
  close_descriptors(h);
  gch_status status = open_descriptors(h, error);
  if (status != GCH_OK || at_load(&h->phase) != GCH_PHASE_MOVE) return status;
  for (uint32_t r = 0; r < h->layout.region_count; r++)
    if (h->flipped >> r & 1) region_guard(h, r);
  if (empty_armed(h) >= 0) return GCH_OK;
  return error_set(error, GCH_NO_MEMORY, "%s", "cannot empty what khugepaged may have filled");
}

gch_status shadow_open(gch_heap *h, gch_error *error) {
  void *shadow = NULL;
  if (h->layout.tight) return GCH_OK; /* majors run in the pause */
  int rc = pages_reserve(&h->kernel, h->layout.mirror_span, h->layout.align, &shadow, NULL);
  if (rc < 0)
    return error_set(error, GCH_NO_MEMORY, "cannot reserve %zu GiB of addresses for the shadow: %s",
                     h->layout.mirror_span >> 30, strerror(-rc));
  h->layout.shadow_delta = (uintptr_t)shadow - h->layout.base;
  rc = pages_commit_region(&h->kernel, shadow, h->layout.mirror_span); /* a selective flip moves into it (gc/arm.h) */
  if (rc < 0)
    return error_set(error, GCH_NO_MEMORY, "cannot open %zu GiB of addresses for the shadow: %s",
                     h->layout.mirror_span >> 30, strerror(-rc));
  (void)pages_advise_huge(&h->kernel, shadow, h->layout.mirror_span, h->huge);
  return GCH_OK;
}

void quiet_close(gch_heap *h) {
  close_descriptors(h);
  h->liveness_moves = false;
  if (h->layout.shadow_delta != 0)
    pages_release(&h->kernel, (void *)(h->layout.base + h->layout.shadow_delta), h->layout.mirror_span);
  h->layout.shadow_delta = 0;
}

/* --- registration --------------------------------------------------------------------------------------------- */

static enum region_registration registered(const gch_heap *h, uint32_t region) { return region_registered(h, region); }
static void set_registered(gch_heap *h, uint32_t region, enum region_registration to) {
  at_store(&h->registration[region], (uint8_t)to);
  GCH_POINT(region_registered);
}

/* Is the call that answered `rc` to be made again? Counts the first refusal of a row. */
static bool again(gch_heap *h, int rc, uint32_t *tries, const struct region *r) {
  if (rc >= 0) return false;
  if (*tries == 0) mover_refused(h, mover_refusal(rc), r->start, 0);
  if (++*tries == TRIES) return false;
  if (*tries > TRIES / 2) thread_sleep_ns(SLEEP_NS);
  return true;
}

static bool register_missing(gch_heap *h, const struct uffd *with, const struct region *r) {
  uint32_t tries = 0;
  int rc;
  do rc = uffd_register_missing(&h->kernel, with, (void *)r->start, r->bytes, 0);
  while (again(h, rc, &tries, r));
  return rc >= 0;
}

/* A new file behind the quiet descriptor, and no registration any more. False: there is none to be had; meanwhile it is another
 * name for the trap, and nothing is registered with it. Its number stays: a minor may be publishing through it, which then
 * finds its destination not registered, and puts the pages there by memcpy. */
static bool renew_quiet(gch_heap *h) {
  struct uffd fresh;
  bool opened = open_one(h, UFFD_FAULTS_NONE, &fresh, NULL) == GCH_OK;
  kernel_replace_fd(&h->kernel, h->quiet.fd, opened ? fresh.fd : h->trap.fd);
  h->quiet.faults = opened ? UFFD_FAULTS_NONE : h->trap.faults;
  if (opened) uffd_close(&h->kernel, &fresh);
  if (opened) (void)liveness_register(h); /* else moves in the maps are refused, and answered by copying */
  return opened;
}

static bool register_quiet(gch_heap *h, const struct uffd *with, const struct region *r) {
  uint32_t tries = 0;
  int rc;
  if (with == &h->quiet && with->faults != UFFD_FAULTS_NONE && !renew_quiet(h)) return false;
  do rc = uffd_register_quiet(&h->kernel, with, (void *)r->start, r->bytes, h->mover->range_calls);
  while (again(h, rc, &tries, r));
  if (rc >= 0) kernel_uffd_wake(&h->kernel, with->fd, (void *)r->start, r->bytes); /* it may have been missing */
  return rc >= 0;
}

static bool unregister(gch_heap *h, const struct uffd *from, const struct region *r) {
  uint32_t tries = 0;
  int rc;
  do rc = uffd_unregister(&h->kernel, from, (void *)r->start, r->bytes);
  while (again(h, rc, &tries, r));
  return rc >= 0;
}

/* All regions leave the quiet state at once, however they are registered: nobody waits for a fault in them any more. */
static void leave_all_quiet(gch_heap *h) {
  for (uint32_t r = 0; r < h->layout.region_count; r++)
    if (registered(h, r) == REGION_QUIET && h->layout.regions[r].space != SPACE_YOUNG)
      set_registered(h, r, REGION_READY);
  renew_quiet(h);
}

/* Between the two calls who populates memory in the region waits for the second (in the kernel; with a descriptor for user mode
 * only, in pages_populate): so the driver, who holds no lock and stops
 * nobody, does not go on before the region is out of that state, one way or the other. */
static bool leave_quiet_shifting(gch_heap *h, uint32_t region) {
  const struct region *r = &h->layout.regions[region];
  if (!register_missing(h, &h->quiet, r)) return false;
  for (int round = 0; round < LEAVE_ROUNDS; round++) {
    if (unregister(h, &h->quiet, r)) {
      set_registered(h, region, REGION_READY);
      return true;
    }
    if (register_quiet(h, &h->quiet, r)) return false;
  }
  leave_all_quiet(h);
  return false;
}

static bool leave_quiet(gch_heap *h, uint32_t region) {
  pages_shift_begin(&h->kernel);
  bool ready = leave_quiet_shifting(h, region);
  pages_shift_end(&h->kernel);
  return ready;
}

static bool make_ready(gch_heap *h, uint32_t region) {
  if (registered(h, region) == REGION_QUIET) return leave_quiet(h, region);
  return registered(h, region) == REGION_READY;
}

bool region_prepare(gch_heap *h, uint32_t region) { return !(h->shadows_left >> region & 1) && make_ready(h, region); }

bool region_arm_dests(gch_heap *h, uint32_t region) {
  if (!make_ready(h, region) || !register_missing(h, &h->missing, &h->layout.regions[region])) return false;
  set_registered(h, region, REGION_MISSING);
  return true;
}

static void leave_missing(gch_heap *h, uint32_t region) {
  const struct region *r = &h->layout.regions[region];
  if (unregister(h, &h->missing, r))
    set_registered(h, region, REGION_READY);
  else if (registered(h, region) == REGION_PARKED || register_quiet(h, &h->missing, r))
    set_registered(h, region, REGION_PARKED);
  else
    set_registered(h, region, REGION_STUCK);
}

/* Gives the shadow's memory back by 2 MiB, then maps it anew, which ends its registration and frees its page tables. Either
 * alone empties it. */
static void empty_shadow(gch_heap *h, uint32_t region, uint64_t used) {
  const struct region *r = &h->layout.regions[region];
  uintptr_t shadow = r->start + h->layout.shadow_delta;
  bool empty = true;
  uint32_t tries = 0;
  int rc;
  for (uint64_t at = 0; at < used; at += DROP_STEP)
    if (pages_drop(&h->kernel, (void *)(shadow + at), DROP_STEP) < 0) empty = false;
  do rc = pages_renew(&h->kernel, (void *)shadow, r->bytes);
  while (again(h, rc, &tries, r));
  if (rc >= 0) (void)pages_advise_huge(&h->kernel, (void *)shadow, r->bytes, h->huge);
  h->shadows_left &= ~((uint64_t)1 << region);
  if (rc < 0 && !empty) h->shadows_left |= (uint64_t)1 << region;
}

void region_disarm(gch_heap *h, uint32_t region) {
  const struct region *r = &h->layout.regions[region];
  if (registered(h, region) >= REGION_MISSING) leave_missing(h, region);
  if (registered(h, region) == REGION_READY && register_quiet(h, &h->quiet, r)) set_registered(h, region, REGION_QUIET);
  if (h->shadows_left >> region & 1) empty_shadow(h, region, r->bytes);
}

/* --- the flip ------------------------------------------------------------------------------------------------- */

static bool remap(gch_heap *h, const struct region *r, uintptr_t from, uintptr_t to) {
  uint32_t tries = 0;
  int rc;
  do rc = kernel_mremap_dontunmap(&h->kernel, (void *)from, r->bytes, (void *)to);
  while (again(h, rc, &tries, r));
  return rc >= 0;
}

bool region_flip(gch_heap *h, uint32_t region) {
  const struct region *r = &h->layout.regions[region];
  if (!remap(h, r, r->start, r->start + h->layout.shadow_delta)) return false;
  if (register_missing(h, &h->missing, r)) {
    set_registered(h, region, REGION_MISSING);
    return true;
  }
  region_unflip_pause(h, region);
  return false;
}

/* What cannot be mapped back in one piece is published piece by piece: nothing in the region is armed in this pause. */
static void publish_back(gch_heap *h, uint32_t region) {
  uintptr_t delta = h->layout.shadow_delta;
  uint32_t first, count = region_arenas(h, region, &first);
  if (registered(h, region) == REGION_MISSING) set_registered(h, region, REGION_STUCK);
  h->shadows_left |= (uint64_t)1 << region;
  for (uint32_t a = first; a < first + count && h->layout.regions[region].space == SPACE_OLD; a++)
    for (uint32_t rest = h->tables.arenas[a].populated; rest != 0; rest &= rest - 1) {
      uintptr_t at = arena_address(&h->layout, a) + (uintptr_t)__builtin_ctz(rest) * BLOCK_BYTES;
      h->mover->publish(h, at, at + delta, BLOCK_BYTES);
    }
  for (uint32_t id = 1; id < h->large.count; id++) {
    const struct large *e = &h->large.entries[id];
    if (e->base != 0 && layout_region(&h->layout, e->base) == region)
      h->mover->publish(h, e->base, e->base + delta, align_up(e->bytes, h->layout.page_bytes));
  }
}

/* mremap is its own inverse: the range that was left is mapped, empty, and unregistered by being mapped over. */
void region_unflip_pause(gch_heap *h, uint32_t region) {
  const struct region *r = &h->layout.regions[region];
  if (remap(h, r, r->start + h->layout.shadow_delta, r->start))
    set_registered(h, region, REGION_READY);
  else
    publish_back(h, region);
}

/* A refusal is counted, no more: the guard finds mistakes, and keeps khugepaged off. */
bool region_guard(gch_heap *h, uint32_t region) {
  const struct region *r = &h->layout.regions[region];
  struct region shadow = {.start = r->start + h->layout.shadow_delta, .bytes = r->bytes};
  return register_missing(h, &h->trap, &shadow);
}

void region_unflip(gch_heap *h, uint32_t region, uint64_t used) {
  region_disarm(h, region);
  empty_shadow(h, region, used);
}

/* --- destinations --------------------------------------------------------------------------------------------- */

int region_fd(const gch_heap *h, uintptr_t dst) {
  enum region_registration now = registered(h, layout_region(&h->layout, dst));
  return now == REGION_READY ? -1 : now == REGION_QUIET ? h->quiet.fd : h->missing.fd;
}

/* A touch would wait for a unit that does not exist. */
static void unmiss(gch_heap *h, uintptr_t dst, uint64_t bytes) {
  uint64_t page = h->layout.page_bytes;
  struct waiting waiting = {0};
  for (uintptr_t at = dst; at < dst + bytes;) {
    int rc = kernel_uffd_zeropage(&h->kernel, h->missing.fd, (void *)at, page, 0, NULL);
    if (rc >= 0 || rc == -EEXIST)
      at += page;
    else
      mover_wait(h, &waiting, KERNEL_ZEROPAGE, at, rc);
  }
}

int region_populate(gch_heap *h, uintptr_t dst, uint64_t bytes) {
  if (registered(h, layout_region(&h->layout, dst)) == REGION_STUCK) unmiss(h, dst, bytes);
  return pages_populate(&h->kernel, (void *)dst, bytes);
}
