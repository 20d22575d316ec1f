/* Descriptors: opening with reasons, faults served by a thread and in the thread, page moves with every injected
 * answer, and what user mode only means for system calls. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/units.h"
#include "check.h"
#include "offered.h"
#include "os/pages.h"
#include "os/probe.h"
#include "os/thread.h"

#define PAGES 8

static struct kernel k;
static struct probe machine;

/* A source with page i full of i + 1, an empty destination registered for missing pages, a descriptor. */
struct pair {
  struct uffd uffd;
  uint64_t page;
  char *src, *dst;
};

static void *map_open(uint64_t bytes) {
  void *at = NULL;
  CHECK_EQ(pages_reserve(&k, bytes, pages_size(), &at, NULL), 0);
  CHECK_EQ(pages_commit_region(&k, at, bytes), 0);
  return at;
}

static void pair_open(struct pair *p, enum uffd_faults faults, bool user_mode_only) {
  struct uffd_wish wish = {.faults = faults, .allow_user_mode_only = true, .want_user_mode_only = user_mode_only};
  p->page = pages_size();
  p->src = map_open(PAGES * p->page);
  p->dst = map_open(PAGES * p->page);
  (void)pages_advise_huge(&k, p->src, PAGES * p->page, false);
  for (uint64_t i = 0; i < PAGES; i++) memset(p->src + i * p->page, (int)i + 1, p->page);
  CHECK_EQ(uffd_open(&k, &wish, &p->uffd), 0);
  CHECK_EQ(p->uffd.user_mode_only, machine.user_mode_only || user_mode_only);
  CHECK_EQ(uffd_register_missing(&k, &p->uffd, p->dst, PAGES * p->page, UABI_RANGE_COPY | UABI_RANGE_WAKE), 0);
}

static void pair_close(struct pair *p) {
  uffd_close(&k, &p->uffd);
  CHECK_EQ(pages_release(&k, p->src, PAGES * p->page), 0);
  CHECK_EQ(pages_release(&k, p->dst, PAGES * p->page), 0);
}

static int move(struct pair *p, uint64_t first, uint64_t pages, uint64_t *moved) {
  uint64_t at = first * p->page;
  return kernel_uffd_move(&k, p->uffd.fd, p->dst + at, p->src + at, pages * p->page, 0, moved);
}

/* Bit i: page i of the area is populated. */
static uint64_t populated(const struct pair *p, const char *area) {
  uint64_t bits = 0;
  for (uint64_t i = 0; i < PAGES; i++) bits |= (uint64_t)(kernel_pagemap_present(&k, area + i * p->page) == 1) << i;
  return bits;
}

static void inject(const char *spec) {
  char error[160];
  kernel_inject_clear(&k);
  CHECK_EQ(kernel_inject(&k, spec, error, sizeof error), 0);
}

/* --- opening ------------------------------------------------------------------------------------------- */
static void opening_with_reasons(void) {
  struct uffd u;
  struct uffd_wish wish = {.faults = UFFD_FAULTS_THREAD};
  inject("uffd_open:EACCES@nth=1");
  int result = uffd_open(&k, &wish, &u);
  CHECK(strstr(u.reasons, "/dev/userfaultfd: Permission denied.") != NULL);
  if (result == 0) CHECK_EQ(u.how, KERNEL_UFFD_SYSCALL);
  uffd_close(&k, &u);
  inject("uffd_open:EPERM");
  wish.allow_user_mode_only = true;
  CHECK_EQ(uffd_open(&k, &wish, &u), -EPERM);
  CHECK_EQ(u.fd, -1);
  CHECK(strstr(u.reasons, "userfaultfd(2), user mode only: Operation not permitted.") != NULL);
  inject("");
  wish.features = 1ull << 63;
  CHECK(uffd_open(&k, &wish, &u) < 0);
  uffd_close(&k, &u);
}

static void registering(void) {
  struct pair p;
  pair_open(&p, UFFD_FAULTS_THREAD, false);
  CHECK_EQ(uffd_unregister(&k, &p.uffd, p.dst, PAGES * p.page), 0);
  CHECK_EQ(uffd_register_missing(&k, &p.uffd, p.dst, PAGES * p.page, 1ull << 63), -ENOTSUP);
  CHECK_EQ(p.dst[0], 0); /* not registered any more: an ordinary page */
  CHECK_EQ(uffd_register_missing(&k, &p.uffd, p.dst + 1, p.page, 0), -EINVAL);
  if (machine.quiet.works && machine.move.works) {
    uint64_t moved;
    CHECK_EQ(pages_drop(&k, p.dst, p.page), 0);
    CHECK_EQ(uffd_register_quiet(&k, &p.uffd, p.dst, PAGES * p.page, UABI_RANGE_MOVE), 0);
    CHECK_EQ(p.dst[p.page], 0); /* a hole is plain zero fill */
    CHECK_EQ(move(&p, 0, 1, &moved), 0);
    CHECK_EQ(p.dst[0], 1);
  }
  char text[160];
  CHECK_EQ(kernel_inject(&k, "register:without=move", text, sizeof text), 0);
  CHECK_EQ(uffd_register_quiet(&k, &p.uffd, p.dst, PAGES * p.page, UABI_RANGE_MOVE), -ENOTSUP);
  if (machine.quiet_copy.works) CHECK_EQ(uffd_register_quiet(&k, &p.uffd, p.dst, PAGES * p.page, UABI_RANGE_COPY), 0);
  kernel_inject_clear(&k);
  pair_close(&p);
}

/* --- transfers ----------------------------------------------------------------------------------------- */
static void moving(void) {
  struct pair p;
  uint64_t moved = 99;
  if (!machine.move.works && CHECK(!offered_move())) SKIP("move", machine.move.text);
  pair_open(&p, UFFD_FAULTS_THREAD, false);
  CHECK_EQ(move(&p, 0, 0, &moved), -EINVAL); /* validation leaves .move untouched */
  CHECK_EQ(moved, 0);
  CHECK_EQ(move(&p, 0, 2, &moved), 0);
  CHECK_EQ(moved, 2 * p.page);
  CHECK_EQ(p.dst[p.page], 2);
  CHECK_EQ(populated(&p, p.src), 0xFC);
  CHECK_EQ(populated(&p, p.dst), 0x03);
  CHECK_EQ(move(&p, 1, 1, &moved), -EEXIST); /* the destination is looked at first */
  CHECK_EQ(pages_drop(&k, p.src + 5 * p.page, p.page), 0);
  CHECK_EQ(move(&p, 2, 6, &moved), -EAGAIN);
  CHECK_EQ(moved, 3 * p.page);
  CHECK_EQ(move(&p, 5, 3, &moved), -ENOENT);
  CHECK_EQ(moved, 0);
  CHECK_EQ(move(&p, 6, 2, &moved), 0);
  CHECK_EQ(populated(&p, p.dst), 0xDF);
  pair_close(&p);
}

static void moving_under_injection(void) {
  struct pair p;
  uint64_t moved;
  char spec[96];
  if (!machine.move.works && CHECK(!offered_move())) SKIP("move", machine.move.text);
  pair_open(&p, UFFD_FAULTS_THREAD, false);
  inject("move:EBUSY@nth=1;move:EEXIST-after@nth=2");
  CHECK_EQ(move(&p, 0, 1, &moved), -EBUSY);
  CHECK_EQ(populated(&p, p.src), 0xFF);
  CHECK_EQ(move(&p, 0, 1, &moved), -EEXIST); /* B1: moved, and said not */
  CHECK_EQ(moved, 0);
  CHECK_EQ(populated(&p, p.src), 0xFE);
  CHECK_EQ(populated(&p, p.dst), 0x01);
  (void)snprintf(spec, sizeof spec, "move:EBUSY@partial=%llu,times=1", (unsigned long long)p.page);
  inject(spec);
  CHECK_EQ(move(&p, 1, 1, &moved), 0); /* no longer than the part */
  CHECK_EQ(move(&p, 2, 4, &moved), -EAGAIN);
  CHECK_EQ(moved, p.page);
  CHECK_EQ(populated(&p, p.dst), 0x07);
  CHECK_EQ(move(&p, 3, 3, &moved), -EBUSY); /* the reason, on the resumed call */
  CHECK_EQ(moved, 0);
  CHECK_EQ(move(&p, 3, 3, &moved), 0);
  inject("move:EAGAIN@partial=1");
  CHECK_EQ(move(&p, 6, 2, &moved), -EAGAIN);
  CHECK_EQ(moved, p.page);
  CHECK_EQ(move(&p, 7, 1, &moved), 0);
  CHECK_EQ(populated(&p, p.dst), 0xFF);
  inject("");
  for (uint64_t i = 0; i < PAGES; i++) CHECK_EQ(p.dst[i * p.page], i + 1);
  pair_close(&p);
}

static void copying_and_zeroing(void) {
  struct pair p;
  uint64_t done;
  pair_open(&p, UFFD_FAULTS_THREAD, false);
  CHECK_EQ(kernel_uffd_copy(&k, p.uffd.fd, p.dst, p.src, 2 * p.page, 0, &done), 0);
  CHECK_EQ(done, 2 * p.page);
  CHECK_EQ(p.dst[p.page], 2);
  CHECK_EQ(kernel_uffd_copy(&k, p.uffd.fd, p.dst, p.src, p.page, 0, &done), -EEXIST);
  CHECK_EQ(done, 0);
  CHECK_EQ(kernel_uffd_zeropage(&k, p.uffd.fd, p.dst + 2 * p.page, 2 * p.page, 0, &done), 0);
  CHECK_EQ(done, 2 * p.page);
  inject("copy:ENOMEM@nth=1;copy:EAGAIN@nth=2,partial=1;zeropage:EEXIST-after");
  CHECK_EQ(kernel_uffd_copy(&k, p.uffd.fd, p.dst + 4 * p.page, p.src, 2 * p.page, 0, &done), -ENOMEM);
  CHECK_EQ(kernel_uffd_copy(&k, p.uffd.fd, p.dst + 4 * p.page, p.src, 2 * p.page, 0, &done), -EAGAIN);
  CHECK_EQ(done, p.page);
  CHECK_EQ(kernel_uffd_zeropage(&k, p.uffd.fd, p.dst + 5 * p.page, p.page, 0, &done), -EEXIST);
  inject("");
  CHECK_EQ(populated(&p, p.dst), 0x3F);
  CHECK_EQ(p.dst[4 * p.page], 1);
  pair_close(&p);
}

/* --- faults -------------------------------------------------------------------------------------------- */
struct toucher {
  struct pair *p;
  uint64_t sum;
};

static void touch_all(void *arg) {
  struct toucher *t = arg;
  for (uint64_t i = 0; i < PAGES; i++) t->sum += (uint64_t)*(volatile char *)(t->p->dst + i * t->p->page);
}

static int fill(struct pair *p, uintptr_t address) {
  uint64_t done, page = (address - (uintptr_t)p->dst) / p->page;
  if (machine.move.works) return move(p, page, 1, &done);
  return kernel_uffd_copy(&k, p->uffd.fd, p->dst + page * p->page, p->src + page * p->page, p->page, 0, &done);
}

static void served_by_a_thread(void) {
  struct pair p;
  struct thread thread;
  struct toucher t = {.p = &p};
  uint64_t faults = 0, until = clock_ns() + 20 * NS_PER_S;
  pair_open(&p, UFFD_FAULTS_THREAD, false);
  CHECK_EQ(uffd_wait(&p.uffd, -1, 0), 0);
  CHECK_EQ(thread_start(&thread, "toucher", touch_all, &t), 0);
  while (populated(&p, p.dst) != 0xFF && clock_ns() < until) {
    struct uffd_fault fault[4];
    uint32_t skipped = 0;
    if (uffd_wait(&p.uffd, -1, 100) != UFFD_READY_FAULT) continue;
    int got = uffd_read_faults(&k, &p.uffd, fault, 4, &skipped);
    CHECK(got >= 0 && skipped == 0);
    for (int i = 0; i < got; i++) {
      CHECK(align_down(fault[i].address, p.page) - (uintptr_t)p.dst < PAGES * p.page && !fault[i].write);
      CHECK_EQ(fill(&p, fault[i].address), 0);
      faults++;
    }
  }
  thread_join(&thread);
  CHECK_EQ(faults, PAGES);
  CHECK_EQ(t.sum, PAGES * (PAGES + 1) / 2);
  struct uffd_fault none;
  CHECK_EQ(uffd_read_faults(&k, &p.uffd, &none, 1, NULL), 0);
  pair_close(&p);
}

static struct pair *signalled; /* whose faults on_bus serves */
static uint32_t bus_count, bus_failures;

static void on_bus(int number, siginfo_t *info, void *context) {
  (void)number;
  (void)context;
  bus_count++;
  bus_failures += info->si_code != BUS_ADRERR || fill(signalled, (uintptr_t)info->si_addr) != 0;
}

static void served_in_the_thread(void) {
  struct pair p;
  struct sigaction ours = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO}, before;
  struct toucher t = {.p = &p};
  if (!machine.sigbus.works) SKIP("sigbus", machine.sigbus.text);
  pair_open(&p, UFFD_FAULTS_SIGNAL, false);
  signalled = &p;
  CHECK_EQ(sigaction(SIGBUS, &ours, &before), 0);
  touch_all(&t);
  int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  CHECK_EQ(pages_drop(&k, p.dst, p.page), 0);
  CHECK(read(fd, p.dst, 1) == -1 && errno == EFAULT); /* system calls get no signal */
  (void)close(fd);
  CHECK_EQ(sigaction(SIGBUS, &before, NULL), 0);
  CHECK_EQ(bus_count, PAGES);
  CHECK_EQ(bus_failures, 0);
  CHECK_EQ(t.sum, PAGES * (PAGES + 1) / 2);
  pair_close(&p);
}

static void user_mode_only(void) {
  struct pair p;
  if (!machine.openings[PROBE_OPEN_SYSCALL_USER_MODE].works && !machine.openings[PROBE_OPEN_DEVICE_USER_MODE].works)
    SKIP("user mode only", machine.openings[PROBE_OPEN_SYSCALL_USER_MODE].text);
  pair_open(&p, UFFD_FAULTS_THREAD, true);
  int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  CHECK(read(fd, p.dst, 1) == -1 && errno == EFAULT);
  (void)close(fd);
  pair_close(&p);
}

/* --- waiting ------------------------------------------------------------------------------------------- */
static void ring_later(void *arg) {
  thread_sleep_ns(2 * NS_PER_MS);
  bell_ring(*(int *)arg);
}

static void waiting(void) {
  struct pair p;
  struct thread thread;
  int bell;
  pair_open(&p, UFFD_FAULTS_THREAD, false);
  CHECK_EQ(bell_open(&bell), 0);
  CHECK_EQ(uffd_wait(&p.uffd, bell, 0), 0);
  CHECK_EQ(thread_start(&thread, "ringer", ring_later, &bell), 0);
  CHECK_EQ(uffd_wait(&p.uffd, bell, 20000), UFFD_READY_BELL);
  thread_join(&thread);
  bell_ring(bell);
  bell_clear(bell);
  bell_clear(bell); /* a bell that was not rung does not block */
  CHECK_EQ(uffd_wait(&p.uffd, bell, 0), 0);
  bell_close(bell);
  pair_close(&p);
}

static void nothing(void) { SKIP("userfaultfd", machine.movers[PROBE_COPY].text); }

int main(void) {
  kernel_init(&k);
  probe_run(&k, &machine);
  if (machine.uffd_features == 0 || !machine.copy.works) {
    CHECK(!offered_move());
    RUN(nothing);
    return CHECK_SUMMARY();
  }
  RUN(opening_with_reasons);
  RUN(registering);
  RUN(moving);
  RUN(moving_under_injection);
  RUN(copying_and_zeroing);
  RUN(served_by_a_thread);
  RUN(served_in_the_thread);
  RUN(user_mode_only);
  RUN(waiting);
  kernel_close(&k);
  return CHECK_SUMMARY();
}
