#include "mover/mover.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "heap/create.h"
#include "heap/small.h"
#include "os/pages.h"

static const uint64_t FIRST_SLEEP_NS = 20000, LAST_SLEEP_NS = 1000000, TELL_NS = 2000000000;

void mover_count_moved(gch_heap *h, uint64_t pages, uint64_t arenas) {
  at_add_relaxed(&h->moved.pages, pages);
  at_add_relaxed(&h->moved.arenas, arenas);
}

void mover_count_copied(gch_heap *h, uint64_t bytes) { at_add_relaxed(&h->moved.bytes, bytes); }

bool mover_release(gch_heap *h, uintptr_t start, uint64_t bytes) {
  if (h->drop(h, start, bytes) >= 0) {
    at_add_relaxed(&h->moved.released, bytes);
    return true;
  }
  /* Of an alias (`simulated`) the heap's own address is meant; a shadow is emptied at the end in any case. */
  block_keep(h, h->mover->fill_in_place && !heap_contains(h, start) ? start - h->layout.shadow_delta : start, bytes);
  return false;
}

int mover_drop_private(gch_heap *h, uintptr_t start, uint64_t bytes) {
  int rc = pages_drop(&h->kernel, (void *)start, bytes);
  if (rc >= 0) return rc;
  at_store(&h->undropped, 1);
  mover_refused(h, mover_refusal(rc), start, bytes);
  return rc;
}

void mover_settle(gch_heap *h) {
  for (uint32_t r = 0; r < h->layout.region_count && h->mover->concurrent; r++)
    if (region_registered(h, r) != REGION_QUIET || h->shadows_left >> r & 1) h->mover->disarm(h, r);
}

gch_refusal mover_refusal(int error) {
  return error == -ENOMEM ? GCH_REFUSAL_NO_MEMORY : error == -EAGAIN ? GCH_REFUSAL_AGAIN : GCH_REFUSAL_OTHER;
}

void mover_wait(gch_heap *h, struct waiting *w, enum kernel_call call, uintptr_t at, int error) {
  uint64_t now = clock_ns();
  if (w->since == 0) {
    *w = (struct waiting){now, now, FIRST_SLEEP_NS};
    at_add_relaxed(&h->moved.released, frames_settle(h)); /* what is kept ready for later may be what is needed now */
  }
  mover_refused(h, mover_refusal(error), at, 0);
  if (now - w->told > TELL_NS) {
    heap_event(h, GCH_EVENT_WATCHDOG, mover_call_at(h, call, at), at, now - w->since, 0);
    w->told = now;
  }
  thread_sleep_ns(w->sleep_ns);
  if (w->sleep_ns < LAST_SLEEP_NS) w->sleep_ns *= 2;
}

void mover_refused(gch_heap *h, gch_refusal refusal, uintptr_t at, uint64_t bytes) {
  at_add_relaxed(&h->measures.refusals[refusal], 1);
  heap_event(h, GCH_EVENT_REFUSAL, refusal, at, bytes, 0);
}

static const struct {
  const char *name;
  gch_mover mover;
} NAMES[] = {
    {"auto", GCH_MOVER_AUTO},           {"move", GCH_MOVER_MOVE},           {"copy", GCH_MOVER_COPY},
    {"simulated", GCH_MOVER_SIMULATED}, {"memcpy", GCH_MOVER_MEMCPY},       {"slide", GCH_MOVER_SLIDE},
    {"remap", GCH_MOVER_MOVE},          {"memcpy-fresh", GCH_MOVER_MEMCPY}, {"memcpy-sliding", GCH_MOVER_SLIDE},
};

bool gch_mover_parse(const char *name, gch_mover *out) {
  for (size_t i = 0; name != NULL && i < sizeof NAMES / sizeof NAMES[0]; i++)
    if (strcmp(name, NAMES[i].name) == 0) {
      *out = NAMES[i].mover;
      return true;
    }
  return false;
}

const char *gch_mover_name(gch_mover mover) { return (unsigned)mover < GCH_MOVER_COUNT ? NAMES[mover].name : "?"; }

/* The probe's word on a mover: the slide baseline needs what memcpy needs. */
static const struct probe_item *probed(const gch_heap *h, gch_mover mover) {
  static const enum probe_mover map[] = {[GCH_MOVER_MOVE] = PROBE_MOVE,
                                         [GCH_MOVER_COPY] = PROBE_COPY,
                                         [GCH_MOVER_SIMULATED] = PROBE_SIMULATED,
                                         [GCH_MOVER_MEMCPY] = PROBE_MEMCPY,
                                         [GCH_MOVER_SLIDE] = PROBE_MEMCPY};
  return &h->probe.movers[map[mover]];
}

static const struct mover_ops *ops_of(gch_mover mover) {
  static const struct mover_ops *const table[] = {[GCH_MOVER_MOVE] = &mover_move,
                                                  [GCH_MOVER_COPY] = &mover_copy,
                                                  [GCH_MOVER_SIMULATED] = &mover_simulated,
                                                  [GCH_MOVER_MEMCPY] = &mover_memcpy,
                                                  [GCH_MOVER_SLIDE] = &mover_slide};
  return table[mover];
}

/* Takes a mover and opens it; the heap is as before if that fails. */
static gch_status try_mover(gch_heap *h, gch_mover mover, gch_error *error) {
  const struct probe_item *item = probed(h, mover);
  bool huge = h->huge;
  if (!item->works)
    return error_set(error, GCH_UNSUPPORTED, "mover %s is not available here: %s", gch_mover_name(mover), item->text);
  h->mover = ops_of(mover);
  h->drop = h->mover->drop;
  gch_status status = h->mover->open(h, error);
  if (status == GCH_OK) return GCH_OK;
  h->mover->close(h);
  h->mover = NULL;
  h->huge = huge;
  return status;
}

/* The best one that the probe has found to work and that can be opened, too. Without enough addresses, only in a tight heap: a
 * roomy one is first made anew as a tight one, for the same mover (gch_heap_create). */
static gch_status choose_mover(gch_heap *h, gch_error *error) {
  static const gch_mover chosen[] = {[PROBE_MOVE] = GCH_MOVER_MOVE,
                                     [PROBE_COPY] = GCH_MOVER_COPY,
                                     [PROBE_SIMULATED] = GCH_MOVER_SIMULATED,
                                     [PROBE_MEMCPY] = GCH_MOVER_MEMCPY};
  gch_error refusal = {0}, last;
  gch_mover best = chosen[h->probe.chosen];
  gch_status status = try_mover(h, best, &refusal);
  snprintf(h->mover_reason, sizeof h->mover_reason, "chosen by auto: %s", h->probe.chosen_text);
  last = refusal;
  for (uint32_t next = h->probe.chosen + 1; status != GCH_OK && next < PROBE_MOVER_COUNT; next++) {
    if (status == GCH_NO_MEMORY && !h->layout.tight) break;
    if (chosen[next - 1] == GCH_MOVER_SIMULATED && heap_renew_regions(h, &last) != GCH_OK) break;
    status = try_mover(h, chosen[next], &last);
    snprintf(h->mover_reason, sizeof h->mover_reason, "chosen by auto: %s: %.120s; %s is next", gch_mover_name(best),
             refusal.message, gch_mover_name(chosen[next]));
  }
  return status == GCH_OK ? GCH_OK : error_set(error, status, "%s", last.message);
}

gch_status mover_choose(gch_heap *h, gch_error *error) {
  if (h->config.mover == GCH_MOVER_AUTO) return choose_mover(h, error);
  snprintf(h->mover_reason, sizeof h->mover_reason, "asked for: %s", probed(h, h->config.mover)->text);
  return try_mover(h, h->config.mover, error);
}

void mover_close(gch_heap *h) {
  if (h->mover != NULL) h->mover->close(h);
}
