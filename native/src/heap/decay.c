#include "heap/decay.h"

uint64_t decay_tick(struct decay *d, uint64_t free) {
  d->free[d->ticks++ % DECAY_TICKS] = free;
  if (d->ticks < DECAY_TICKS) return 0;
  uint64_t idle = free;
  for (int i = 0; i < DECAY_TICKS; i++)
    if (d->free[i] < idle) idle = d->free[i];
  uint64_t part = idle / DECAY_TICKS + (idle % DECAY_TICKS != 0);
  if (part > d->step) d->step = part;
  uint64_t now = idle < d->step ? idle : d->step;
  if (now == idle) d->step = 0;
  for (int i = 0; i < DECAY_TICKS; i++) d->free[i] -= now; /* it is not free any more, and was not needed */
  return now;
}
