#include "mover/mover.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "os/pages.h"

void mover_count_moved(gch_heap *h, uint64_t pages, uint64_t arenas) {
  at_add_relaxed(&h->moved.pages, pages);
  at_add_relaxed(&h->moved.arenas, arenas);
}

void mover_count_copied(gch_heap *h, uint64_t bytes) { at_add_relaxed(&h->moved.bytes, bytes); }

void mover_release(gch_heap *h, uintptr_t start, uint64_t bytes) {
  if (h->drop(h, start, bytes) >= 0) at_add_relaxed(&h->moved.released, bytes);
}

int mover_drop_private(gch_heap *h, uintptr_t start, uint64_t bytes) {
  return pages_drop(&h->kernel, (void *)start, bytes);
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

gch_status mover_choose(gch_heap *h, gch_error *error) {
  static const gch_mover chosen[] = {[PROBE_MOVE] = GCH_MOVER_MOVE,
                                     [PROBE_COPY] = GCH_MOVER_COPY,
                                     [PROBE_SIMULATED] = GCH_MOVER_SIMULATED,
                                     [PROBE_MEMCPY] = GCH_MOVER_MEMCPY};
  bool automatic = h->config.mover == GCH_MOVER_AUTO;
  gch_mover mover = automatic ? chosen[h->probe.chosen] : h->config.mover;
  const struct probe_item *item = probed(h, mover);
  if (!item->works)
    return error_set(error, GCH_UNSUPPORTED, "mover %s is not available here: %s", gch_mover_name(mover), item->text);
  snprintf(h->mover_reason, sizeof h->mover_reason, "%s: %s", automatic ? "chosen by auto" : "asked for",
           automatic ? h->probe.chosen_text : item->text);
  h->mover = ops_of(mover);
  h->drop = h->mover->drop;
  return h->mover->open(h, error);
}

void mover_close(gch_heap *h) {
  if (h->mover != NULL) h->mover->close(h);
}
