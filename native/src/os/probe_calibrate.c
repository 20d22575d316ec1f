/* What the calls cost on this machine, in about 25 ms; see probe.h. Medians of few samples: good for a planner that
 * weighs moving against copying, not for publishing.
 *
 * Two areas of 2 MiB, populated with base pages, are moved to and fro; after a transfer only the side that has the
 * pages is touched, except in the two fault measurements, which answer their own faults. If an answer fails, the
 * range is unregistered, so that nobody waits for ever. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/units.h"
#include "os/probe.h"
#include "os/thread.h"
#include "os/uffd.h"

#define BENCH_BUDGET (25 * NS_PER_MS)
#define SAMPLES 32
#define FAULTS 16

struct bench {
  struct kernel *k;
  struct uffd uffd;
  uint64_t page, bytes; /* bytes of each area */
  uint64_t until;       /* when the time is spent */
  char *a, *b;          /* a: populated; b: registered for missing pages */
};

struct samples {
  double values[SAMPLES];
  uint32_t count;
};

static void sample(struct samples *s, uint64_t ns, double per) {
  if (s->count < SAMPLES) s->values[s->count++] = (double)ns / per;
}

static int by_value(const void *x, const void *y) {
  double a = *(const double *)x, b = *(const double *)y;
  return (a > b) - (a < b);
}

static double median(struct samples *s) {
  if (s->count == 0) return 0;
  qsort(s->values, s->count, sizeof *s->values, by_value);
  return s->values[s->count / 2];
}

static bool time_left(const struct bench *b) { return clock_ns() < b->until; }

/* Out of time, every figure still gets one sample. */
static bool go_on(const struct bench *b, const struct samples *s) { return s->count == 0 || time_left(b); }

/* --- setting up ---------------------------------------------------------------------------------------- */
/* An area in base pages, aligned like a huge page, populated if asked. */
static int area_open(struct bench *b, bool populate, char **out) {
  void *at = NULL;
  int result = pages_reserve(b->k, b->bytes, pages_huge_size(), &at, NULL);
  if (result == 0) result = pages_commit_region(b->k, at, b->bytes);
  *out = at;
  if (result != 0) return result;
  (void)pages_advise_huge(b->k, at, b->bytes, false);
  return populate ? pages_populate(b->k, at, b->bytes) : 0;
}

static void bench_close(struct bench *b) {
  uffd_close(b->k, &b->uffd); /* first: ends every registration */
  if (b->a != NULL) (void)pages_release(b->k, b->a, b->bytes);
  if (b->b != NULL) (void)pages_release(b->k, b->b, b->bytes);
}

static int bench_open(struct bench *b, struct kernel *k) {
  uint64_t page = pages_size();
  *b =
      (struct bench){.k = k, .uffd = {.fd = -1}, .page = page, .bytes = 512 * page, .until = clock_ns() + BENCH_BUDGET};
  int result = area_open(b, true, &b->a);
  if (result == 0) result = area_open(b, false, &b->b);
  if (result != 0) bench_close(b);
  return result;
}

/* A descriptor of the wanted kind, with area b registered for missing pages. */
static int bench_uffd(struct bench *b, enum uffd_faults faults) {
  struct uffd_wish wish = {.faults = faults, .allow_user_mode_only = true};
  uffd_close(b->k, &b->uffd);
  int result = uffd_open(b->k, &wish, &b->uffd);
  if (result == 0) result = kernel_uffd_register(b->k, b->uffd.fd, b->b, b->bytes, UABI_REGISTER_MISSING, NULL);
  return result;
}

/* --- transfers ----------------------------------------------------------------------------------------- */
static int transfer(struct bench *b, bool move, char *to, char *from, uint64_t bytes) {
  uint64_t done;
  return move ? kernel_uffd_move(b->k, b->uffd.fd, to, from, bytes, 0, &done)
              : kernel_uffd_copy(b->k, b->uffd.fd, to, from, bytes, 0, &done);
}

/* Moves or copies `calls` runs of `run` pages from a to b, and brings the pages back (move) or drops them (copy).
 * The cost a page, or 0. */
static double measure_runs(struct bench *b, bool move, uint64_t run, uint64_t calls) {
  struct samples s = {.count = 0};
  uint64_t bytes = run * b->page, did = 0;
  bool failed = false;
  for (; did < calls && !failed && (did == 0 || time_left(b)); did++) {
    uint64_t at = did * bytes, began = clock_ns();
    failed = transfer(b, move, b->b + at, b->a + at, bytes) != 0;
    if (!failed) sample(&s, clock_ns() - began, (double)run);
  }
  if (move && did > 0 && !failed) failed = transfer(b, true, b->a, b->b, did * bytes) != 0;
  if (failed) uffd_close(b->k, &b->uffd); /* ends the registrations: filling a again must not wait for anybody */
  if (failed || !move) (void)pages_drop(b->k, b->b, b->bytes);
  if (failed) (void)pages_populate(b->k, b->a, b->bytes);
  return failed ? 0 : median(&s);
}

static double measure_run_512(struct bench *b, bool move) {
  struct samples s = {.count = 0};
  for (int i = 0; i < 5 && go_on(b, &s); i++) {
    double one = measure_runs(b, move, 512, 1);
    if (one > 0) sample(&s, (uint64_t)(one * 1000), 1000);
  }
  return median(&s);
}

static void measure_transfers(struct bench *b, const struct probe *p, struct probe_costs *out) {
  if (p->copy.works && bench_uffd(b, UFFD_FAULTS_THREAD) == 0) {
    out->copy_page_1 = measure_runs(b, false, 1, SAMPLES);
    out->copy_page_16 = measure_runs(b, false, 16, 16);
    out->copy_page_512 = measure_run_512(b, false);
  }
  if (!p->move.works || bench_uffd(b, UFFD_FAULTS_THREAD) != 0) return;
  if (kernel_uffd_register(b->k, b->uffd.fd, b->a, b->bytes, UABI_REGISTER_MISSING, NULL) != 0) return;
  out->move_page_1 = measure_runs(b, true, 1, SAMPLES);
  out->move_page_16 = measure_runs(b, true, 16, SAMPLES);
  out->move_page_512 = measure_run_512(b, true);
  struct samples s = {.count = 0};
  uint64_t moved;
  for (int i = 0; i < SAMPLES; i++) { /* length 0: refused at validation */
    uint64_t began = clock_ns();
    (void)kernel_uffd_move(b->k, b->uffd.fd, b->b, b->a, 0, 0, &moved);
    sample(&s, clock_ns() - began, 1);
  }
  out->uffd_call = median(&s);
  (void)kernel_uffd_unregister(b->k, b->uffd.fd, b->a, b->bytes);
}

/* One huge page to and fro. Where the kernel gave small pages instead, the time tells, and the answer is 0. */
static double measure_huge(struct bench *b, const struct probe *p, double small_page) {
  struct samples s = {.count = 0};
  uint64_t bytes = pages_huge_size(), moved;
  void *pair = NULL;
  if (!p->move.works || p->thp == PAGES_THP_NEVER || p->thp == PAGES_THP_UNKNOWN) return 0;
  if (bytes > 2 * MIB || pages_reserve(b->k, 2 * bytes, bytes, &pair, NULL) != 0) return 0;
  char *here = pair, *there = here + bytes;
  int result = pages_commit_region(b->k, pair, 2 * bytes);
  if (result == 0) result = pages_advise_huge(b->k, pair, 2 * bytes, true);
  if (result == 0) result = pages_populate(b->k, here, bytes);
  if (result == 0) result = kernel_uffd_register(b->k, b->uffd.fd, pair, 2 * bytes, UABI_REGISTER_MISSING, NULL);
  for (int i = 0; i < 9 && result == 0; i++) {
    uint64_t began = clock_ns();
    result = kernel_uffd_move(b->k, b->uffd.fd, there, here, bytes, 0, &moved);
    sample(&s, clock_ns() - began, 1);
    char *swap = here;
    here = there;
    there = swap;
  }
  (void)pages_release(b->k, pair, 2 * bytes);
  double cost = median(&s);
  double small = small_page * (double)(bytes / b->page);
  return result == 0 && (small == 0 || cost < small / 3) ? cost : 0;
}

/* --- memory and calls ---------------------------------------------------------------------------------- */
static double measure_memcpy(struct bench *b, char *warm) {
  struct samples s = {.count = 0};
  for (int i = 0; i < 5 && go_on(b, &s); i++) {
    uint64_t began = clock_ns();
    memcpy(warm, b->a, b->bytes);
    sample(&s, clock_ns() - began, 512);
  }
  return median(&s);
}

static double measure_drop(struct bench *b, char *area) {
  uint64_t began = clock_ns();
  int result = pages_drop(b->k, area, b->bytes);
  return result == 0 ? (double)(clock_ns() - began) / 512 : 0;
}

/* First touches of fresh pages, 32 a sample. */
static double measure_touch(struct bench *b, char *fresh) {
  struct samples s = {.count = 0};
  for (uint64_t at = 0; at < b->bytes / 2 && go_on(b, &s); at += 32 * b->page) {
    uint64_t began = clock_ns();
    for (uint64_t i = 0; i < 32; i++) *(volatile char *)(fresh + at + i * b->page) = 1;
    sample(&s, clock_ns() - began, 32);
  }
  return median(&s);
}

static double measure_mprotect(struct bench *b, char *area) {
  struct samples s = {.count = 0};
  for (int i = 0; i < 8; i++) {
    uint64_t began = clock_ns();
    if (kernel_mprotect(b->k, area + 8 * b->page, b->page, PROT_READ) != 0) return 0;
    if (kernel_mprotect(b->k, area + 8 * b->page, b->page, PROT_READ | PROT_WRITE) != 0) return 0;
    sample(&s, clock_ns() - began, 2);
  }
  return median(&s);
}

static double measure_syscall(void) {
  struct samples s = {.count = 0};
  for (int i = 0; i < 8; i++) {
    uint64_t began = clock_ns();
    for (int j = 0; j < 50; j++) (void)syscall(SYS_getppid);
    sample(&s, clock_ns() - began, 50);
  }
  return median(&s);
}

static void measure_memory(struct bench *b, struct probe_costs *out) {
  char *area = NULL;
  out->syscall = measure_syscall();
  if (area_open(b, false, &area) == 0) {
    out->touch_page = measure_touch(b, area);
    out->mprotect = measure_mprotect(b, area);
    if (pages_populate(b->k, area, b->bytes) == 0) out->memcpy_page = measure_memcpy(b, area);
    out->drop_page_512 = measure_drop(b, area);
  }
  if (area != NULL) (void)pages_release(b->k, area, b->bytes);
}

/* --- faults -------------------------------------------------------------------------------------------- */
struct answerer {
  struct bench *b;
  int bell;
};

/* Fills the page at `address`; if that fails, ends the registration, and the page reads as zeros. */
static void answer_fault(struct bench *b, uintptr_t address) {
  uint64_t done;
  char *page = (char *)align_down(address, b->page);
  int result = kernel_uffd_copy(b->k, b->uffd.fd, page, b->a, b->page, 0, &done);
  if (result == -EEXIST) result = kernel_uffd_wake(b->k, b->uffd.fd, page, b->page);
  for (int i = 0; i < 100 && result != 0; i++) result = kernel_uffd_unregister(b->k, b->uffd.fd, b->b, b->bytes);
  if (result != 0) uffd_close(b->k, &b->uffd); /* ends it without asking */
}

static void answer_thread(void *arg) {
  struct answerer *a = arg;
  for (;;) {
    struct uffd_fault fault;
    int got = 0, ready = uffd_wait(&a->b->uffd, a->bell, -1);
    if (ready == UFFD_READY_BELL) return;
    while (ready > 0 && (got = uffd_read_faults(a->b->k, &a->b->uffd, &fault, 1, NULL)) == 1)
      answer_fault(a->b, fault.address);
    if (ready >= 0 && got == 0) continue;
    uffd_close(a->b->k, &a->b->uffd); /* we cannot serve: nobody may wait for us any more */
    return;
  }
}

/* Reads FAULTS missing pages of area b, one after the other. */
static double measure_faults(struct bench *b) {
  struct samples s = {.count = 0};
  for (uint64_t i = 0; i < FAULTS && go_on(b, &s); i++) {
    uint64_t began = clock_ns();
    (void)*(volatile char *)(b->b + i * b->page);
    sample(&s, clock_ns() - began, 1);
  }
  (void)pages_drop(b->k, b->b, b->bytes);
  return median(&s);
}

static double measure_fault_thread(struct bench *b) {
  struct answerer a = {.b = b};
  struct thread thread;
  double cost = 0;
  if (bench_uffd(b, UFFD_FAULTS_THREAD) != 0 || bell_open(&a.bell) != 0) return 0;
  if (thread_start(&thread, "gcheap-probe", answer_thread, &a) == 0) {
    cost = measure_faults(b);
    bell_ring(a.bell);
    thread_join(&thread);
  }
  bell_close(a.bell);
  return b->uffd.fd >= 0 ? cost : 0;
}

static struct bench *signal_bench;      /* [atomic acq/rel] whose faults the SIGBUS handler answers; NULL: nobody's */
static struct sigaction signal_before;  /* the host's action, put back by whoever installed ours */

static void answer_signal(int number, siginfo_t *info, void *context) {
  struct bench *b = at_load(&signal_bench);
  uintptr_t address = (uintptr_t)info->si_addr;
  (void)context;
  if (b != NULL && address - (uintptr_t)b->b < b->bytes) {
    answer_fault(b, address);
    return;
  }
  (void)sigaction(number, &signal_before, NULL); /* not ours: the access is made again and meets the host's */
}

static double measure_fault_signal(struct bench *b) {
  struct sigaction ours = {.sa_sigaction = answer_signal, .sa_flags = SA_SIGINFO};
  struct bench *nobody = NULL;
  sigset_t bus, before;
  double cost = 0;
  if (bench_uffd(b, UFFD_FAULTS_SIGNAL) != 0 || !at_cas(&signal_bench, &nobody, b)) return 0;
  sigfillset(&ours.sa_mask);
  sigemptyset(&bus);
  sigaddset(&bus, SIGBUS);
  if (sigaction(SIGBUS, &ours, &signal_before) == 0) {
    pthread_sigmask(SIG_UNBLOCK, &bus, &before);
    cost = measure_faults(b);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)sigaction(SIGBUS, &signal_before, NULL);
  }
  at_store(&signal_bench, NULL);
  return b->uffd.fd >= 0 ? cost : 0;
}

int probe_calibrate(struct kernel *k, const struct probe *probe, bool install_sigbus, struct probe_costs *out) {
  struct bench b;
  uint64_t began = clock_ns();
  memset(out, 0, sizeof *out);
  int result = bench_open(&b, k);
  if (result != 0) return result;
  measure_memory(&b, out);
  measure_transfers(&b, probe, out);
  out->move_huge = measure_huge(&b, probe, out->move_page_512);
  if (probe->copy.works) {
    out->fault_thread = measure_fault_thread(&b);
    if (install_sigbus && probe->sigbus.works) out->fault_signal = measure_fault_signal(&b);
  }
  bench_close(&b);
  out->spent_ns = clock_ns() - began;
  return 0;
}
