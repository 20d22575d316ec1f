#include "gc/faults.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "gc/phase.h"
#include "gc/registry.h"
#include "heap/mutator.h"
#include "mover/mover.h"
#include "os/thread.h"

enum { READ_FAULTS = 16 };

struct faults {
  struct thread thread;
  int bell;
  bool started;
  bool installed;
  uint32_t inside; /* [atomic seq] threads answering faults */
};

/* Enters; false: no move is going on, and whatever was touched is present. Leave in either case. The order of counter and
 * phase matters (Dekker): either we see the phase end, or the drain sees us. */
static bool enter(gch_heap *h) {
  at_add_seq(&h->faults->inside, 1);
  return at_load_seq(&h->phase) == GCH_PHASE_MOVE;
}
static void leave(gch_heap *h) { at_sub(&h->faults->inside, 1); }

void faults_drain(gch_heap *h) {
  at_fence_seq();
  while (at_load_seq(&h->faults->inside) != 0) thread_yield();
}

/* What was installed before us, and how many heaps use each signal. */
static struct sigaction previous_bus, previous_segv;
static uint32_t users_bus, users_segv; /* [lock: install] */

static bool uses_signals(const gch_heap *h) { return h->mover->signals || h->config.fault_mode == GCH_FAULT_SIGNAL; }
static int signal_of(const gch_heap *h) { return h->mover->signals ? SIGSEGV : SIGBUS; }
static uint32_t *users_of(int signal) { return signal == SIGSEGV ? &users_segv : &users_bus; }
static struct sigaction *previous_of(int signal) { return signal == SIGSEGV ? &previous_segv : &previous_bus; }

/* --- answering ------------------------------------------------------------------------------------------------ */

static void note_fault(gch_heap *h, uintptr_t address, uint64_t start, bool in_thread) {
  uint64_t ns = clock_ns() - start;
  at_add_relaxed(&h->measures.faults, 1);
  histogram_record(&h->measures.fault, ns);
  mutator_stalled(h, GCH_STALL_FAULT, ns);
  heap_event(h, GCH_EVENT_FAULT, address, ns, in_thread, block_index(&h->layout, address));
}

static void wake(gch_heap *h, uintptr_t address) {
  uintptr_t page = address & ~(uintptr_t)(h->layout.page_bytes - 1);
  kernel_uffd_wake(&h->kernel, h->missing.fd, (void *)page, h->layout.page_bytes);
}

/* During a move. */
static void answer(gch_heap *h, struct drops *drops, uintptr_t address) {
  uint64_t start = clock_ns();
  size_t block = block_index(&h->layout, address);
  GCH_POINT(fault_read);
  switch (unit_state(h, block)) {
    case UNIT_ARMED:
      if (produce_unit(h, drops, block, true)) note_fault(h, address, start, false);
      break;
    case UNIT_BUSY: break; /* publishing wakes */
    case UNIT_MAPPED: wake(h, address); break;
    case UNIT_NONE:
      GCH_CHECK(false, "a touch of %p: missing, but in no unit of cycle %llu", (void *)address,
                (unsigned long long)h->major_number);
  }
}

uint32_t faults_serve(gch_heap *h, struct drops *drops) {
  struct uffd_fault faults[READ_FAULTS];
  if (uses_signals(h)) return 0;
  bool moving = enter(h);
  int count = uffd_read_faults(&h->kernel, &h->missing, faults, READ_FAULTS, NULL);
  for (int i = 0; i < count; i++) {
    if (moving)
      answer(h, drops, faults[i].address);
    else
      wake(h, faults[i].address); /* a late message */
  }
  if (moving) drops_flush(drops);
  leave(h);
  return count > 0 ? (uint32_t)count : 0;
}

void faults_ensure(gch_heap *h, uintptr_t from, uintptr_t to) {
  struct drops drops = {.heap = h};
  if (h->faults == NULL) return;
  if (enter(h)) {
    for (uintptr_t at = from & ~(uintptr_t)(BLOCK_BYTES - 1); at < to; at += BLOCK_BYTES)
      produce_ensure(h, &drops, at, true);
    drops_flush(&drops);
  }
  leave(h);
}

static void handler_main(void *arg) {
  gch_heap *h = arg;
  struct drops drops = {.heap = h};
  for (;;) {
    int ready = uffd_wait(&h->missing, h->faults->bell, -1);
    if (ready > 0 && ready & UFFD_READY_BELL) return;
    if (ready > 0) faults_serve(h, &drops);
    if (ready < 0) thread_sleep_ns(1000000);
  }
}

/* --- signal mode ---------------------------------------------------------------------------------------------- */

static struct lock install_lock = {.mutex = PTHREAD_MUTEX_INITIALIZER, .rank = RANK_PINS + 1, .name = "signal handler"};

static gch_heap *heap_of(uintptr_t address) {
  for (uint32_t i = 0; i < registry_top(); i++) {
    gch_heap *h = registry_at(i);
    if (h != NULL && heap_contains(h, address)) return h;
  }
  return NULL;
}

static void chain(int signal, siginfo_t *info, void *context) {
  const struct sigaction *previous = previous_of(signal);
  if (previous->sa_flags & SA_SIGINFO) {
    previous->sa_sigaction(signal, info, context);
  } else if (previous->sa_handler != SIG_DFL && previous->sa_handler != SIG_IGN) {
    previous->sa_handler(signal);
  } else { /* as if we were not here: the fault is taken again, by the default action */
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signal, &action, NULL);
  }
}

static void answer_signal(gch_heap *h, uintptr_t address) {
  uint64_t start = clock_ns();
  struct drops drops = {.heap = h};
  if (enter(h)) {
    bool own = unit_state(h, block_index(&h->layout, address)) == UNIT_ARMED;
    GCH_CHECK(produce_ensure(h, &drops, address, true), "a touch of %p: missing, but in no unit of cycle %llu",
              (void *)address, (unsigned long long)h->major_number);
    drops_flush(&drops);
    if (own)
      note_fault(h, address, start, true);
    else
      mutator_stalled(h, GCH_STALL_UNIT, clock_ns() - start);
  }
  leave(h); /* not moving: the cycle has ended since, and the touch succeeds when it is tried again */
}

static void on_signal(int signal, siginfo_t *info, void *context) {
  int saved = errno;
  uintptr_t address = (uintptr_t)info->si_addr;
  bool candidate = signal == SIGSEGV ? info->si_code == SEGV_ACCERR : info->si_code == BUS_ADRERR;
  gch_heap *h = candidate ? heap_of(address) : NULL;
  if (h == NULL || !uses_signals(h) || signal_of(h) != signal) {
    chain(signal, info, context);
    errno = saved;
    return;
  }
  answer_signal(h, address);
  errno = saved;
}

static bool is_ours(const struct sigaction *action) {
  return action->sa_flags & SA_SIGINFO && action->sa_sigaction == on_signal;
}

static void install(gch_heap *h) {
  struct sigaction current, action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigfillset(&action.sa_mask);
  pthread_mutex_lock(&install_lock.mutex);
  sigaction(signal_of(h), NULL, &current);
  if (!is_ours(&current)) {
    *previous_of(signal_of(h)) = current;
    sigaction(signal_of(h), &action, NULL);
  }
  ++*users_of(signal_of(h));
  h->faults->installed = true;
  pthread_mutex_unlock(&install_lock.mutex);
}

static void uninstall(gch_heap *h) {
  struct sigaction current;
  if (!h->faults->installed) return;
  pthread_mutex_lock(&install_lock.mutex);
  sigaction(signal_of(h), NULL, &current);
  if (--*users_of(signal_of(h)) == 0 && is_ours(&current)) sigaction(signal_of(h), previous_of(signal_of(h)), NULL);
  pthread_mutex_unlock(&install_lock.mutex);
}

bool faults_ready(gch_heap *h) {
  struct sigaction current;
  if (!uses_signals(h)) return true;
  sigaction(signal_of(h), NULL, &current);
  return is_ours(&current);
}

void faults_unblock(gch_heap *h) {
  sigset_t set;
  if (h->faults == NULL || !uses_signals(h)) return;
  sigemptyset(&set);
  sigaddset(&set, signal_of(h));
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* --- start and stop ------------------------------------------------------------------------------------------- */

gch_status faults_start(gch_heap *h, gch_error *error) {
  if (!h->mover->concurrent || h->faults != NULL) return GCH_OK; /* a child of fork() keeps its signal handler */
  h->faults = calloc(1, sizeof *h->faults);
  if (h->faults == NULL) return error_set(error, GCH_NO_MEMORY, "no memory for the fault handler");
  h->faults->bell = -1;
  if (uses_signals(h)) {
    install(h);
    return GCH_OK;
  }
  int rc = bell_open(&h->faults->bell);
  if (rc >= 0) rc = thread_start(&h->faults->thread, "gcheap-faults", handler_main, h);
  if (rc < 0) return error_set(error, GCH_NO_MEMORY, "cannot start the fault handler thread: %s", strerror(-rc));
  h->faults->started = true;
  return GCH_OK;
}

void faults_stop(gch_heap *h) {
  struct faults *f = h->faults;
  if (f == NULL) return;
  uninstall(h);
  if (f->started) {
    bell_ring(f->bell);
    thread_join(&f->thread);
  }
  if (f->bell >= 0) bell_close(f->bell);
  free(f);
  h->faults = NULL;
}

/* --- fork ----------------------------------------------------------------------------------------------------- */

struct lock *faults_install_lock(void) { return &install_lock; }

void faults_forget(gch_heap *h) {
  struct faults *f = h->faults;
  if (f == NULL) return;
  at_store(&f->inside, 0);
  if (f->installed) return; /* the handler is inherited */
  if (f->bell >= 0) bell_close(f->bell);
  free(f);
  h->faults = NULL;
}
