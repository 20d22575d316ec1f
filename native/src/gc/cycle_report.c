#include "gc/cycle_report.h"

#include "gc/pace.h"
#include "gc/stall_report.h"
#include "gc/team.h"
#include "gc/watchdog.h"
#include "heap/diary.h"
#include "mover/mover.h"
#include "os/pages.h"
#include "os/thread.h"

uint64_t report_cpu_now(const gch_heap *h, bool minor) {
  if (minor) return clock_thread_cpu_ns() + team_pause_cpu_ns(h);
  return clock_thread_cpu_ns() + team_cpu_ns(h) + at_load_relaxed(&h->measures.served_cpu_ns);
}

uint64_t report_event_bits(const gch_cycle *r, gch_cause cause) {
  return (uint64_t)cause | (r->minor ? GCH_COLLECTION_MINOR : 0u) | (r->concurrent ? GCH_COLLECTION_CONCURRENT : 0u) |
         (r->degraded ? GCH_COLLECTION_DEGRADED : 0u);
}

void report_begin(gch_heap *h, bool minor, gch_cause cause, gch_cycle *r) {
  watchdog_begin(h);
  *r = (gch_cycle){.number = ++h->cycle_number,
                   .minor = minor,
                   .mover = h->mover->id,
                   .heap_bytes_before = at_load_relaxed(&h->used_bytes)};
  r->collector_cpu_ns = report_cpu_now(h, minor);
  r->cycle_ns = clock_ns();
  r->pages_moved = at_load_relaxed(&h->moved.pages); /* counters of the heap: report_end takes the difference */
  r->arenas_moved = at_load_relaxed(&h->moved.arenas);
  r->bytes_copied = at_load_relaxed(&h->moved.bytes);
  r->bytes_released = at_load_relaxed(&h->moved.released);
  r->units_unread = at_load_relaxed(&h->moved.unread);
  r->arenas_home = at_load_relaxed(&h->moved.home);
  r->faults_served = at_load_relaxed(&h->measures.faults);
  r->weak_cleared = at_load_relaxed(&h->weak.cleared);
  r->finalizers_queued = at_load_relaxed(&h->finalizers.queued);
  for (int i = 0; i < GCH_REFUSAL_COUNT; i++) r->refusals[i] = at_load_relaxed(&h->measures.refusals[i]);
  heap_event(h, GCH_EVENT_BEGIN, r->number, r->heap_bytes_before, at_load_relaxed(&h->measures.allocated_bytes),
             report_event_bits(r, cause));
}

uint64_t report_resident_now(void) {
  struct pages_statm statm;
  struct pages_statm_sample sample = {0};
  if (pages_statm_open(&statm) < 0) return 0;
  if (pages_statm_read(&statm, &sample) < 0) sample.resident_bytes = 0;
  pages_statm_close(&statm);
  return sample.resident_bytes;
}

void report_begin_major(gch_heap *h, const gch_collect_options *o, gch_cause cause, gch_cycle *r) {
  report_begin(h, false, cause, r);
  r->policy = o->policy;
  h->major_number = r->number;
  stall_report_begin(h, r->number, &h->report);
}

void report_pause(gch_cycle *r, uint64_t length, const struct pause *pause) {
  uint64_t reach = pause->stopped_ns - pause->asked_ns;
  r->pauses++;
  r->pause_ns += length;
  if (length > r->pause_longest_ns) r->pause_longest_ns = length;
  if (reach > r->safepoint_longest_ns) r->safepoint_longest_ns = reach;
}

void report_figures(gch_heap *h, gch_cycle *r) {
  r->cycle_ns = clock_ns() - r->cycle_ns;
  r->collector_cpu_ns = report_cpu_now(h, r->minor) - r->collector_cpu_ns;
  r->heap_bytes_after = at_load_relaxed(&h->used_bytes);
  r->pages_moved = at_load_relaxed(&h->moved.pages) - r->pages_moved;
  r->arenas_moved = at_load_relaxed(&h->moved.arenas) - r->arenas_moved;
  r->bytes_copied = at_load_relaxed(&h->moved.bytes) - r->bytes_copied;
  r->bytes_released = at_load_relaxed(&h->moved.released) - r->bytes_released;
  r->units_unread = at_load_relaxed(&h->moved.unread) - r->units_unread;
  r->arenas_home = at_load_relaxed(&h->moved.home) - r->arenas_home;
  r->faults_served = at_load_relaxed(&h->measures.faults) - r->faults_served;
  r->weak_cleared = at_load_relaxed(&h->weak.cleared) - r->weak_cleared;
  r->finalizers_queued = at_load_relaxed(&h->finalizers.queued) - r->finalizers_queued;
  for (int i = 0; i < GCH_REFUSAL_COUNT; i++)
    r->refusals[i] = at_load_relaxed(&h->measures.refusals[i]) - r->refusals[i];
}

void report_end(gch_heap *h, gch_cycle *r) {
  watchdog_end(h);
  report_figures(h, r);
  bool busy = r->refusals[GCH_REFUSAL_BUSY] != 0;
  if (!r->minor && (busy || (r->concurrent && r->pages_moved != 0))) h->selection.shared = busy; /* gc/arm.h */
}

void report_keep(gch_heap *h, gch_cycle *where, gch_cause cause, const gch_cycle *r) {
  lock_lock(&h->measures.lock);
  *where = *r;
  if (!r->minor) h->measures.last_report = h->report;
  lock_unlock(&h->measures.lock);
  heap_event(h, GCH_EVENT_END, r->number, r->heap_bytes_after, r->live_bytes, report_event_bits(r, cause));
  diary_note(h, r, &h->report, cause);
}

void report_finish(gch_heap *h, gch_cause cause, gch_cycle *r) {
  r->physical_after = report_resident_now();
  pace_major(h, r);
  at_add_relaxed(&h->measures.major_count, 1);
  heap_event(h, GCH_EVENT_MOVED, r->pages_moved, r->arenas_moved, r->bytes_copied, r->number);
  report_keep(h, &h->measures.last_major, cause, r);
}
