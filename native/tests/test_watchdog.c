/* The watchdog over virtual-memory calls: a call that does not return is reported once, with its unit, whoever makes it. */
#include "gc/watchdog.h"

#include "kit.h"
#include "mover/mover.h"

enum { EVENTS = 4096 };
static gch_event events[EVENTS];

/* The first watchdog event of the call, its kind 0 if there is none; `count`: of any call (a loaded machine may be slow, too). */
static gch_event report_of(gch_heap *h, enum kernel_call call, uint64_t *sequence, uint32_t *count) {
  gch_event found = {0};
  size_t read;
  *count = 0;
  while ((read = gch_events_read(h, sequence, events, EVENTS, NULL)) > 0)
    for (size_t i = 0; i < read; i++) {
      if (events[i].kind != GCH_EVENT_WATCHDOG) continue;
      ++*count;
      if (found.kind == 0 && (uint32_t)events[i].a == call) found = events[i];
    }
  return found;
}

static bool open_impatient(struct kit *k, gch_mover mover, gch_fault_mode faults) {
  gch_config c = kit_config(mover, 64, 512);
  c.fault_mode = faults;
  c.gc_threads = 1;
  if (!kit_open(k, &c)) return false;
  at_store(&k->heap->watchdog_ns, 20000000);
  return true;
}

/* A major in which the first such call takes 25 times the limit. */
static void one_slow_call(gch_mover mover, gch_fault_mode faults, bool concurrent, enum kernel_call call) {
  struct kit k;
  char spec[64];
  uint64_t sequence = 0;
  uint32_t reports;
  gch_stats stats;
  if (!open_impatient(&k, mover, faults)) return;
  GCH_FRAME(k.m, root, 1);
  root[0] = kit_refs(&k, 20000);
  for (uint64_t i = 0; i < 20000; i++) kit_put_node(&k, &root[0], i, i);
  kit_major(&k, GCH_POLICY_ALL, false, true);
  snprintf(spec, sizeof spec, "%s:delay=500ms@times=1", kernel_call_name(call));
  CHECK_EQ(gch_inject(k.heap, spec, NULL), GCH_OK);
  kit_major(&k, GCH_POLICY_ALL, concurrent, true);
  gch_event e = report_of(k.heap, call, &sequence, &reports);
  if (CHECK(e.kind == GCH_EVENT_WATCHDOG)) {
    CHECK_STR(gch_kernel_call_name((uint32_t)e.a), kernel_call_name(call));
    CHECK(e.c >= 20000000 && e.thread != 0);
    if (heap_contains(k.heap, e.b)) CHECK_EQ(e.a >> 32, block_index(&k.heap->layout, e.b));
    if (!heap_contains(k.heap, e.b)) CHECK_EQ(e.a >> 32, UINT32_MAX);
    if (call == KERNEL_MOVE || call == KERNEL_COPY) CHECK(heap_contains(k.heap, e.b) && e.d != 0);
  }
  gch_stats_get(k.heap, &stats, sizeof stats);
  CHECK_EQ(stats.overdue_calls, reports);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void under_every_mover(void) {
  if (kit_available(GCH_MOVER_MOVE)) {
    one_slow_call(GCH_MOVER_MOVE, GCH_FAULT_THREAD, true, KERNEL_MOVE);
    one_slow_call(GCH_MOVER_MOVE, GCH_FAULT_SIGNAL, true, KERNEL_MREMAP);
    one_slow_call(GCH_MOVER_MOVE, GCH_FAULT_THREAD, false, KERNEL_MOVE);
  }
  if (kit_available(GCH_MOVER_COPY)) one_slow_call(GCH_MOVER_COPY, GCH_FAULT_SIGNAL, true, KERNEL_COPY);
  if (kit_available(GCH_MOVER_SIMULATED)) one_slow_call(GCH_MOVER_SIMULATED, GCH_FAULT_THREAD, true, KERNEL_MPROTECT);
  one_slow_call(GCH_MOVER_MEMCPY, GCH_FAULT_THREAD, false, KERNEL_DROP);
}

/* Whatever makes calls wakes it, however long it has slept: a minor, an allocation. */
static void between_collections(void) {
  struct kit k;
  uint64_t sequence = 0;
  uint32_t reports;
  if (!open_impatient(&k, GCH_MOVER_MEMCPY, GCH_FAULT_THREAD)) return;
  at_store(&k.heap->watchdog_ns, 2000000);
  for (int i = 0; i < 20; i++) {
    kit_minor(&k, false);
    usleep((unsigned)i % 4 * 2000); /* it falls asleep in some, and stays awake in others */
  }
  at_store(&k.heap->watchdog_ns, 20000000);
  report_of(k.heap, KERNEL_POPULATE, &sequence, &reports);
  GCH_FRAME(k.m, root, 1);
  root[0] = kit_refs(&k, 900);
  for (uint64_t i = 0; i < 900; i++) kit_put_node(&k, &root[0], i, i);
  gch_inject(k.heap, "populate:delay=500ms@times=1", NULL);
  kit_minor(&k, true); /* promotion populates */
  gch_event e = report_of(k.heap, KERNEL_POPULATE, &sequence, &reports);
  CHECK(e.kind == GCH_EVENT_WATCHDOG);
  gch_inject(k.heap, "", NULL);
  gch_inject(k.heap, "populate:delay=500ms@times=1", NULL);
  root[0] = kit_refs(&k, 100000);
  e = report_of(k.heap, KERNEL_POPULATE, &sequence, &reports);
  CHECK(e.kind == GCH_EVENT_WATCHDOG);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* A call that must succeed and does not is told of with its unit, too. */
static void refused_for_long(void) {
  struct kit k;
  struct kit_request request;
  uint64_t sequence = 0;
  uint32_t reports = 0;
  if (!kit_available(GCH_MOVER_COPY)) SKIP("refused_for_long", "no userfaultfd");
  gch_config c = kit_config(GCH_MOVER_COPY, 64, 512);
  c.gc_threads = 1;
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 1);
  root[0] = kit_refs(&k, 20000);
  for (uint64_t i = 0; i < 20000; i++) kit_put_node(&k, &root[0], i, i);
  kit_major(&k, GCH_POLICY_ALL, true, true); /* and the next one does not begin at block 0 */
  gch_inject(k.heap, "copy:ENOMEM", NULL);
  kit_begin(&k, &request, GCH_POLICY_ALL);
  gch_event e = {0};
  while (e.kind == 0) {
    gch_safepoint(k.m);
    e = report_of(k.heap, KERNEL_COPY, &sequence, &reports);
  }
  gch_inject(k.heap, "", NULL);
  kit_end(&k, &request);
  CHECK(heap_contains(k.heap, e.b) && block_index(&k.heap->layout, e.b) != 0 && e.c >= 2000000000);
  CHECK_EQ(e.a >> 32, block_index(&k.heap->layout, e.b));
  CHECK_EQ((uint32_t)e.a, KERNEL_COPY);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

int main(void) {
  kit_watchdog(60);
  RUN(under_every_mover);
  RUN(between_collections);
  RUN(refused_for_long);
  return CHECK_SUMMARY();
}
