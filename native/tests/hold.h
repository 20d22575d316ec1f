/* Holds up the controller (worker 0 of a concurrent move) just before its first claim, as long as `hold` is set: faults are
 * answered by somebody else meanwhile. It owns no unit, so whoever holds it may touch what it likes. */
#ifndef TESTS_HOLD_H
#define TESTS_HOLD_H

#include "kit.h"

static uint32_t hold; /* [atomic] */

static inline void hold_worker(const char *name) {
  char thread[16] = "";
  if (strcmp(name, "unit_wanted") != 0) return;
  pthread_getname_np(pthread_self(), thread, sizeof thread);
  while (strcmp(thread, "gcheap-control") == 0 && at_load(&hold)) usleep(100);
}

static inline void hold_on(bool on) {
  at_store(&hold, on);
  at_store(&gch_hook_fn, on ? hold_worker : NULL);
}

#endif
