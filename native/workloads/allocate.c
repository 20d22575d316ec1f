#include "workloads/allocate.h"

#include "base/clock.h"
#include "python/graph_internal.h"

static int drop_all(gch_mutator *m, const gch_type *type, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    if (gch_alloc(m, type) == NULL) return GCH_NO_MEMORY;
    gch_safepoint(m);
  }
  return GCH_OK;
}

static int keep_all(gch_mutator *m, const gch_type *type, uint64_t count, const gch_ref *array) {
  for (uint64_t i = 0; i < count; i++) {
    gch_ref object = gch_alloc(m, type);
    if (object == NULL) return GCH_NO_MEMORY;
    gch_set(m, *array, REFS_OFFSET + 8 * (size_t)i, object);
    gch_safepoint(m);
  }
  return GCH_OK;
}

int allocate_run(gch_mutator *mutator, const gch_type *type, uint64_t count, gch_handle keep, uint64_t *ns) {
  gch_native_leave(mutator);
  GCH_FRAME(mutator, array, 1);
  int status = keep == 0 ? GCH_OK : (int)gch_handle_get(mutator, keep, &array[0]);
  uint64_t began = clock_ns();
  if (status == GCH_OK) status = keep == 0 ? drop_all(mutator, type, count) : keep_all(mutator, type, count, &array[0]);
  *ns = clock_ns() - began;
  GCH_FRAME_END(mutator);
  gch_native_enter(mutator);
  return status;
}
