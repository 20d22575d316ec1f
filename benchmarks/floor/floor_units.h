/* Units that are made at new addresses while a mutator uses them: what the floor programs with a mutator share. A worker
 * makes units in order, up to `batch` neighbours a call. A unit that somebody misses is made at once: in `signal` mode by
 * the mutator, in its SIGBUS handler, else by the worker, which looks for messages after every unit, or by a handler thread
 * that waits in poll(). Whoever makes a unit has claimed it. */
#ifndef FLOOR_UNITS_H
#define FLOOR_UNITS_H

#include "floor_uffd.h"

#include <poll.h>
#include <pthread.h>

enum unit_state { UNIT_ARMED, UNIT_BUSY, UNIT_DONE };

struct units {
  char *from, *to; /* sources, which the mutator does not see; destinations, which it misses */
  uint64_t bytes, unit_bytes, count, batch;
  uint8_t *states; /* [atomic] */
  int fd, hurry; /* [atomic] hurry: somebody waits for a unit of the batch */
  bool by_signal;
  volatile int walking, moving; /* the mutator, the worker */
  void (*fix)(const struct units *, uint64_t unit);
  void (*transfer)(const struct units *, uint64_t first, uint64_t count);
};

static inline bool unit_claim(struct units *u, uint64_t unit) {
  uint8_t armed = UNIT_ARMED;
  return __atomic_compare_exchange_n(&u->states[unit], &armed, UNIT_BUSY, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static inline uint8_t unit_state(const struct units *u, uint64_t unit) {
  return __atomic_load_n(&u->states[unit], __ATOMIC_ACQUIRE);
}

static inline void units_publish(struct units *u, uint64_t first, uint64_t count) {
  u->transfer(u, first, count);
  for (uint64_t i = first; i < first + count; i++) __atomic_store_n(&u->states[i], UNIT_DONE, __ATOMIC_RELEASE);
}

/* It is made, or whoever makes it hurries. */
static inline void unit_want(struct units *u, uint64_t unit) {
  if (unit_claim(u, unit)) {
    u->fix(u, unit);
    units_publish(u, unit, 1);
  }
  if (unit_state(u, unit) == UNIT_BUSY) __atomic_store_n(&u->hurry, 1, __ATOMIC_RELEASE);
}

/* True: there was a message. */
static inline bool units_serve(struct units *u) {
  struct uffd_msg message;
  if (read(u->fd, &message, sizeof message) != sizeof message) return false;
  uint64_t unit = (message.arg.pagefault.address - (uintptr_t)u->to) / u->unit_bytes;
  unit_want(u, unit);
  struct uffdio_range page = {message.arg.pagefault.address & ~(uint64_t)4095, 4096};
  if (unit_state(u, unit) == UNIT_DONE) ioctl(u->fd, UFFDIO_WAKE, &page);
  return true;
}

static inline void *units_handle(void *arg) {
  struct units *u = arg;
  struct pollfd poll_fd = {u->fd, POLLIN, 0};
  while (u->moving)
    if (poll(&poll_fd, 1, 10) > 0) units_serve(u);
  return NULL;
}

static inline void units_work(struct units *u) {
  uint64_t first = 0, count = 0;
  for (uint64_t unit = 0; unit < u->count; unit++) {
    bool mine = unit_claim(u, unit);
    if (mine) u->fix(u, unit);
    if (mine && count == 0) first = unit;
    count += mine;
    bool wanted = __atomic_exchange_n(&u->hurry, 0, __ATOMIC_ACQ_REL) != 0;
    if (count > 0 && (!mine || count == u->batch || wanted || unit + 1 == u->count))
      units_publish(u, first, count), count = 0;
    while (!u->by_signal && units_serve(u))
      if (count > 0) units_publish(u, first, count), count = 0;
  }
  for (uint64_t unit = 0; unit < u->count; unit++)
    while (unit_state(u, unit) != UNIT_DONE) units_serve(u);
}

/* Returns how long it took. The mutator sets `walking` when it begins, and ends when that is 0. */
static inline double units_relocate(struct units *u, void *(*mutator)(void *), void *arg) {
  pthread_t walks, handles;
  u->moving = 1;
  if (!u->by_signal) pthread_create(&handles, NULL, units_handle, u);
  pthread_create(&walks, NULL, mutator, arg);
  while (!u->walking) continue;
  double began = now_s();
  units_work(u);
  double took = now_s() - began;
  u->walking = u->moving = 0;
  pthread_join(walks, NULL);
  if (!u->by_signal) pthread_join(handles, NULL);
  return took;
}

#endif
