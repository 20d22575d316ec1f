#include "gc/faults.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "gc/claims.h"
#include "gc/hot.h"
#include "gc/phase.h"
#include "gc/produce_arena.h"
#include "gc/registry.h"
#include "gc/safepoint.h"
#include "heap/mutator.h"
#include "mover/mover.h"
#include "os/thread.h"

enum { READ_FAULTS = 16 };

struct faults {
  struct thread thread;
  int bell;
  bool started;
  bool installed;
};

static uint64_t ended; /* [atomic] moves of all heaps: counted before everything that they armed is open again */

/* Enters; false: no move is going on, and whatever was touched is present. Leave in either case. The order of counter and
 * phase matters (Dekker): either we see the phase end, or the drain sees us. */
static bool enter(gch_heap *h) {
  /* Who pauses for the whole heap has closed claims, and may be the one who asks. */
  if (at_load_seq(&h->phase) < GCH_PHASE_MOVE) {
    at_add_seq(&h->claims.inside, 1);
    return false;
  }
  claims_enter(h);
  return at_load_seq(&h->phase) == GCH_PHASE_MOVE;
}
static void leave(gch_heap *h) { claims_leave(h); }

void faults_drain(gch_heap *h) {
  at_add(&ended, 1);
  at_fence_seq();
  while (at_load_seq(&h->claims.inside) != 0) thread_yield();
}

/* Our handler of a signal, of all heaps. */
struct hook {
  struct sigaction below; /* [lock: install] the action that was there before us; written while nobody can reach us */
  uint32_t users; /* [lock: install] heaps */
  bool placed; /* [lock: install] others may have saved us: whoever is on top may hand on to us */
};
static struct hook hook_bus, hook_segv;

static bool uses_signals(const gch_heap *h) { return h->mover->signals || h->config.fault_mode == GCH_FAULT_SIGNAL; }
static int signal_of(const gch_heap *h) { return h->mover->signals ? SIGSEGV : SIGBUS; }
static struct hook *hook_of(int signal) { return signal == SIGSEGV ? &hook_segv : &hook_bus; }

/* --- answering ------------------------------------------------------------------------------------------------ */

/* `thread` has waited since `start`. */
static void note_fault(gch_heap *h, struct mutator *m, uint32_t thread, uintptr_t address, gch_answer answer,
                       uint64_t start) {
  uint64_t now = clock_ns(), ns = now - start;
  struct ring_event event = {.t_ns = now,
                             .kind = GCH_EVENT_FAULT,
                             .thread = thread,
                             .a = address,
                             .b = ns,
                             .c = answer == GCH_ANSWER_SELF,
                             .d = block_index(&h->layout, address)};
  at_add_relaxed(&h->measures.faults, 1);
  histogram_record(&h->measures.fault, ns);
  stall_touch(h, m, answer, start, now);
  ring_write(&h->ring, &event);
}

static void wake(gch_heap *h, uintptr_t address) {
  uintptr_t page = address & ~(uintptr_t)(h->layout.page_bytes - 1);
  kernel_uffd_wake(&h->kernel, h->missing.fd, (void *)page, h->layout.page_bytes);
}

/* Somebody has just taken the unit's arena: it will be open in a moment, and the unit nobody's, or its units BUSY. A fault that
 * was dropped before would be left to the workers. False: the unit has another owner. */
static bool make_touched(struct batch *b, size_t block) {
  for (uint32_t spins = 0; unit_state(b->heap, block) == UNIT_ARMED; spins++) {
    if (produce_unit(b, block, true)) return true;
    if (spins > 100) thread_yield();
  }
  return false;
}

/* A message has been answered, by who makes the batch. */
static void note_message(struct batch *b, const struct uffd_fault *fault, struct mutator *m, uint64_t start) {
  gch_heap *h = b->heap;
  gch_answer answer = b->maker == GCH_ACTOR_HANDLER ? GCH_ANSWER_HANDLER : GCH_ANSWER_WORKER;
  note_fault(h, m, fault->thread, fault->address, answer, start);
}

/* During a move. `start`: the message was read. Whose it is is asked while the thread waits. */
static void answer(struct batch *b, const struct uffd_fault *fault, uint64_t start) {
  gch_heap *h = b->heap;
  uintptr_t address = fault->address;
  size_t block = block_index(&h->layout, address);
  struct mutator *m = mutator_with(h, fault->thread);
  GCH_POINT(fault_read);
  switch (unit_state(h, block)) {
    case UNIT_ARMED:
      if (make_touched(b, block)) {
        batch_publish(b);
        hot_note(h, address, 0);
        note_message(b, fault, m, start);
        break;
      } /* else somebody was quicker */
      /* fallthrough */
    case UNIT_BUSY:
      hot_note(h, address, 0);
      stall_wait(h, block, fault->thread, start);
      batch_hurry(h);
      break;
    case UNIT_MAPPED: wake(h, address); break;
    case UNIT_NONE:
      GCH_CHECK(false, "a touch of %p: missing, but in no unit of cycle %llu", (void *)address,
                (unsigned long long)h->major_number);
  }
}

/* b NULL: no move is going on, and every message is a late one. */
static void serve(gch_heap *h, struct batch *b) {
  struct uffd_fault faults[READ_FAULTS];
  int count = uffd_read_faults(&h->kernel, &h->missing, faults, READ_FAULTS, NULL);
  uint64_t start = clock_ns();
  if (count > 0 && b != NULL) batch_publish(b);
  for (int i = 0; i < count; i++) {
    if (b != NULL)
      answer(b, &faults[i], start);
    else
      wake(h, faults[i].address);
  }
}

void faults_serve(struct batch *b) {
  if (!uses_signals(b->heap)) serve(b->heap, b);
}

static void note_cpu(gch_heap *h, uint64_t start) {
  at_add_relaxed(&h->measures.served_cpu_ns, clock_thread_cpu_ns() - start);
}

static void serve_as_handler(gch_heap *h) {
  uint64_t cpu = clock_thread_cpu_ns();
  struct batch b;
  bool moving = enter(h);
  batch_begin(&b, h, GCH_ACTOR_HANDLER);
  serve(h, moving ? &b : NULL);
  batch_end(&b);
  note_cpu(h, cpu);
  leave(h);
}

/* A mutator has made the unit, or waited for it, since `start`. */
static void note_ensured(gch_heap *h, size_t block, enum ensured how, uint64_t start) {
  uint64_t now = clock_ns();
  stall_touch(h, mutator_here(h), how == ENSURED_MADE ? GCH_ANSWER_SELF : GCH_ANSWER_BUSY, start, now);
  if (how != ENSURED_MADE) stall_waited(h, GCH_ACTOR_MUTATOR, unit_maker(h, block), now - start);
}

static void ensure_unit(struct batch *b, size_t block) {
  gch_heap *h = b->heap;
  enum unit_state state = unit_state(h, block);
  if (state == UNIT_NONE || state == UNIT_MAPPED) return;
  uint64_t start = clock_ns();
  note_ensured(h, block, produce_ensure(b, block_address(&h->layout, block), true), start);
}

void faults_ensure(gch_heap *h, uintptr_t from, uintptr_t to) {
  struct batch b;
  if (h->faults == NULL || h->broken[0] != 0) return;
  if (enter(h)) {
    uint64_t cpu = clock_thread_cpu_ns();
    batch_begin(&b, h, GCH_ACTOR_MUTATOR);
    for (uintptr_t at = from & ~(uintptr_t)(BLOCK_BYTES - 1); at < to; at += BLOCK_BYTES)
      ensure_unit(&b, block_index(&h->layout, at));
    batch_end(&b);
    note_cpu(h, cpu);
  }
  leave(h);
}

static void handler_main(void *arg) {
  gch_heap *h = arg;
  for (;;) {
    int ready = uffd_wait(&h->missing, h->faults->bell, -1);
    if (ready > 0 && ready & UFFD_READY_BELL) return;
    if (ready > 0) serve_as_handler(h);
    if (ready < 0) thread_sleep_ns(1000000);
  }
}

/* --- signal mode ---------------------------------------------------------------------------------------------- */

static struct lock install_lock = {.mutex = PTHREAD_MUTEX_INITIALIZER, .rank = RANK_PINS + 1, .name = "signal handler"};

/* The heap in which the address lies, entered in the registry by its slot; NULL: none. */
static gch_heap *heap_enter(uintptr_t address, uint32_t *slot) {
  for (uint32_t i = 0; i < registry_top(); i++) {
    gch_heap *h = registry_enter(i);
    *slot = i;
    if (h != NULL && heap_contains(h, address)) return h;
    if (h != NULL) registry_leave(i);
  }
  return NULL;
}

/* As if we were not here. A fault is taken again, by the default action; a signal that somebody sent (si_code <= 0) would
 * not come again by itself. */
static void fall_through(int signal, const siginfo_t *info, bool ignored) {
  bool sent = info->si_code <= 0;
  if (sent && ignored) return;
  struct sigaction action = {.sa_handler = SIG_DFL};
  sigaction(signal, &action, NULL);
  if (sent) raise(signal);
}

/* The hand-on going on in this thread. Initial-exec: reached without a call. */
static _Thread_local struct {
  const void *context;
  uintptr_t frame;
} handing __attribute__((tls_model("initial-exec")));

/* We are called by what we have handed on to: the same signal, from deeper in the stack. (A handler that leaves by
 * longjmp leaves its note behind; the next signal has another context, or the same one at the same depth.) */
static bool is_circular(const void *context, uintptr_t frame) {
  return context == handing.context && frame < handing.frame;
}

static void hand_on(int signal, siginfo_t *info, void *context, uintptr_t frame) {
  const struct sigaction *below = &hook_of(signal)->below;
  bool plain = !(below->sa_flags & SA_SIGINFO);
  if (is_circular(context, frame) || (plain && (below->sa_handler == SIG_DFL || below->sa_handler == SIG_IGN))) {
    fall_through(signal, info, plain && below->sa_handler == SIG_IGN);
    return;
  }
  const void *outer_context = handing.context;
  uintptr_t outer_frame = handing.frame;
  handing.context = context, handing.frame = frame;
  if (plain)
    below->sa_handler(signal);
  else
    below->sa_sigaction(signal, info, context);
  handing.context = outer_context, handing.frame = outer_frame;
}

/* The last touch that was sent back without an answer. Initial-exec: reached without a call. */
static _Thread_local struct {
  uintptr_t address;
  uint64_t moves;
} retried __attribute__((tls_model("initial-exec")));

/* Nothing is moving. A touch that came too late for the move succeeds when it is tried again, at the latest when nothing is
 * missing in its region any more. One that fails again, with no move since, is the program's own mistake: false. */
static bool is_late(gch_heap *h, uintptr_t address) {
  if (region_registered(h, layout_region(&h->layout, address)) == REGION_MISSING) return true;
  uint64_t moves = at_load(&ended);
  if (retried.address == address && retried.moves == moves) return false;
  retried.address = address, retried.moves = moves;
  return true;
}

static void answer_moving(gch_heap *h, uintptr_t address) {
  uint64_t start = clock_ns(), cpu = clock_thread_cpu_ns();
  size_t block = block_index(&h->layout, address);
  struct batch b;
  batch_begin(&b, h, GCH_ACTOR_MUTATOR);
  enum ensured how = produce_ensure(&b, address, true);
  GCH_CHECK(how != ENSURED_NOT, "a touch of %p: missing, but in no unit of cycle %llu", (void *)address,
            (unsigned long long)h->major_number);
  batch_end(&b);
  hot_note(h, address, 0);
  note_cpu(h, cpu);
  if (how == ENSURED_MADE)
    note_fault(h, mutator_here(h), thread_id(), address, GCH_ANSWER_SELF, start);
  else
    note_ensured(h, block, how, start);
}

/* False: nothing of ours is in the way. Gaps are never opened, nor is anything in a child that has lost its heap. */
static bool answer_signal(gch_heap *h, uintptr_t address) {
  const struct region *r = heap_region(h, address);
  if (address - r->start >= r->bytes || h->broken[0] != 0) return false;
  bool moving = enter(h);
  if (moving) answer_moving(h, address);
  bool answered = moving || is_late(h, address);
  leave(h);
  return answered;
}

static void on_signal(int signal, siginfo_t *info, void *context) {
  int saved = errno;
  uintptr_t address = (uintptr_t)info->si_addr;
  uint32_t slot;
  bool candidate = signal == SIGSEGV ? info->si_code == SEGV_ACCERR : info->si_code == BUS_ADRERR;
  gch_heap *h = candidate ? heap_enter(address, &slot) : NULL;
  bool answered = h != NULL && uses_signals(h) && signal_of(h) == signal && answer_signal(h, address);
  if (h != NULL) registry_leave(slot); /* who is handed on to may never return */
  if (!answered) hand_on(signal, info, context, (uintptr_t)__builtin_frame_address(0));
  errno = saved;
}

static bool is_ours(const struct sigaction *action) {
  return action->sa_flags & SA_SIGINFO && action->sa_sigaction == on_signal;
}

/* Hands on to nobody. */
static bool is_last(const struct sigaction *action) {
  return !(action->sa_flags & SA_SIGINFO) && (action->sa_handler == SIG_DFL || action->sa_handler == SIG_IGN);
}

static void install(gch_heap *h) {
  struct sigaction current, action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  struct hook *hook = hook_of(signal_of(h));
  sigfillset(&action.sa_mask);
  pthread_mutex_lock(&install_lock.mutex);
  sigaction(signal_of(h), NULL, &current);
  if (!is_ours(&current) && (!hook->placed || is_last(&current))) {
    hook->below = current;
    sigaction(signal_of(h), &action, NULL);
  }
  hook->placed = true;
  hook->users++;
  h->faults->installed = true;
  pthread_mutex_unlock(&install_lock.mutex);
}

static void uninstall(gch_heap *h) {
  struct sigaction current;
  struct hook *hook = hook_of(signal_of(h));
  if (!h->faults->installed) return;
  pthread_mutex_lock(&install_lock.mutex);
  sigaction(signal_of(h), NULL, &current);
  if (--hook->users == 0 && is_ours(&current)) {
    sigaction(signal_of(h), &hook->below, NULL);
    hook->placed = false;
  }
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
  if (f->installed) return; /* the handler is inherited */
  if (f->bell >= 0) bell_close(f->bell);
  free(f);
  h->faults = NULL;
}
