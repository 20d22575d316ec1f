/* Holds up the controller (which drives a concurrent major, and is worker 0 of its move) at a point where it owns no unit and
 * has read no fault, as long as `hold` is set: faults are answered by somebody else meanwhile, and whoever holds it may touch
 * what it likes.
 *
 *   move_begins     after the flip, before it makes its first unit
 *   flip_prepared   everything is planned and armed, nothing flipped
 *   ending          all is mapped, the tables are not put right yet
 *   marking_beside  the first pause is over (or a remark that was late), no object has been scanned */
#ifndef TESTS_HOLD_H
#define TESTS_HOLD_H

#include "kit.h"

static uint32_t hold, held; /* [atomic] */
static const char *hold_point = "move_begins"; /* [atomic] */

static inline void hold_worker(const char *name) {
  char thread[16] = "";
  if (!at_load(&hold) || strcmp(name, at_load(&hold_point)) != 0) return;
  pthread_getname_np(pthread_self(), thread, sizeof thread);
  if (strcmp(thread, "gcheap-control") != 0) return;
  at_store(&held, 1);
  while (at_load(&hold)) usleep(100);
}

static inline void hold_on(bool on) {
  at_store(&hold_point, "move_begins");
  at_store(&held, 0);
  at_store(&hold, on);
  at_store(&gch_hook_fn, on ? hold_worker : NULL);
}

/* Lets the major that was asked for with `wait` off go on, and waits for its end. */
static inline void hold_end(struct kit *k) {
  at_store(&hold, 0);
  gch_collect_wait(k->m, NULL);
  hold_on(false);
}

/* Begins a concurrent major and lets it come to the point; hold_off lets it go on and waits for its end. */
static inline void hold_before(struct kit *k, struct kit_request *request, gch_policy policy, const char *point) {
  hold_on(false);
  gch_collect_wait(k->m, NULL); /* one that has begun by itself */
  at_store(&hold_point, point);
  at_store(&hold, 1);
  at_store(&gch_hook_fn, hold_worker);
  kit_begin(k, request, policy);
  while (!at_load(&held)) gch_safepoint(k->m);
}

static inline void hold_before_flip(struct kit *k, struct kit_request *request, gch_policy policy) {
  hold_before(k, request, policy, "flip_prepared");
}
static inline void hold_before_marking(struct kit *k, struct kit_request *request, gch_policy policy) {
  hold_before(k, request, policy, "marking_beside");
}

static inline void hold_off(struct kit *k, struct kit_request *request) {
  at_store(&hold, 0);
  kit_end(k, request);
  hold_on(false);
}

#endif
