#include "workloads/stores.h"

#include "base/clock.h"
#include "python/graph_internal.h"

static gch_ref *elements(gch_ref array) { return gch_slot(array, REFS_OFFSET); }

static void store_all(gch_mutator *m, gch_ref *slots, uint64_t count) {
  gch_ref first = slots[0];
  for (uint64_t i = 0; i + 1 < count; i++) gch_store(m, &slots[i], slots[i + 1]);
  gch_store(m, &slots[count - 1], first);
}

static void store_plain(gch_ref *slots, uint64_t count) {
  gch_ref first = slots[0];
  for (uint64_t i = 0; i + 1 < count; i++) __atomic_store_n(&slots[i], slots[i + 1], __ATOMIC_RELEASE);
  __atomic_store_n(&slots[count - 1], first, __ATOMIC_RELEASE);
}

int stores_run(gch_mutator *m, gch_handle array, uint64_t count, uint64_t rounds, bool barrier, uint64_t *ns,
               uint64_t *marking) {
  gch_native_leave(m);
  GCH_FRAME(m, root, 1);
  int status = (int)gch_handle_get(m, array, &root[0]);
  *ns = *marking = 0;
  for (uint64_t i = 0; i < rounds && status == GCH_OK; i++) {
    bool before = m->snapshot != 0;
    uint64_t began = clock_ns();
    if (barrier)
      store_all(m, elements(root[0]), count);
    else
      store_plain(elements(root[0]), count);
    *ns += clock_ns() - began;
    *marking += before && m->snapshot != 0;
    gch_safepoint(m);
  }
  GCH_FRAME_END(m);
  gch_native_enter(m);
  return status;
}
