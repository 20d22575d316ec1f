/* The table of kernel calls: answers and errno, counters, every form of injection, the watchdog, fork. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/kernel.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/units.h"
#include "check.h"
#include "os/pages.h"
#include "os/thread.h"

static struct kernel k;

static void *map_open(uint64_t bytes) {
  void *at = NULL;
  int result = kernel_mmap(&k, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &at);
  return result == 0 ? at : NULL;
}

static void inject(const char *spec) {
  char error[160];
  kernel_inject_clear(&k);
  int result = kernel_inject(&k, spec, error, sizeof error);
  if (result != 0) fprintf(stderr, "%s: %s\n", spec, error);
  CHECK_EQ(result, 0);
}

static void answers(void) {
  kernel_init(&k);
  uint64_t page = pages_size();
  errno = 4711;
  char *at = map_open(2 * page);
  CHECK(at != NULL);
  at[0] = 1;
  CHECK_EQ(kernel_mprotect(&k, at, page, PROT_READ), 0);
  CHECK_EQ(kernel_mprotect(&k, at + 1, page, PROT_READ), -EINVAL);
  CHECK_EQ(kernel_madvise(&k, at, page, 9999), -EINVAL);
  CHECK_EQ(kernel_madvise(&k, at, page, MADV_DONTNEED), 0);
  CHECK_EQ(at[0], 0);
  CHECK_EQ(kernel_munmap(&k, at, 2 * page), 0);
  CHECK_EQ(kernel_munmap(&k, at + 1, page), -EINVAL);
  CHECK_EQ(errno, 4711);
  CHECK_EQ(k.counters[KERNEL_MPROTECT].calls, 2);
  CHECK_EQ(k.counters[KERNEL_MPROTECT].failures, 1);
  CHECK_EQ(k.counters[KERNEL_DROP].calls, 1);
  CHECK_EQ(k.counters[KERNEL_MADVISE].failures, 1);
  CHECK_EQ(k.counters[KERNEL_MMAP].ns, 0);
  k.timed = 1;
  CHECK_EQ(kernel_munmap(&k, at + 1, page), -EINVAL);
  CHECK(k.counters[KERNEL_MUNMAP].ns > 0);
  kernel_close(&k);
}

static void remapping(void) {
  kernel_init(&k);
  uint64_t page = pages_size();
  char *from = map_open(page), *to = map_open(page);
  from[5] = 42;
  CHECK_EQ(kernel_mremap_dontunmap(&k, from, page, to), 0);
  CHECK_EQ(to[5], 42);
  CHECK_EQ(from[5], 0);
  CHECK_EQ(kernel_munmap(&k, from, page), 0);
  CHECK_EQ(kernel_munmap(&k, to, page), 0);
  kernel_close(&k);
}

static void shared_object(void) {
  kernel_init(&k);
  uint64_t page = pages_size();
  void *one = NULL, *two = NULL;
  int fd;
  CHECK_EQ(kernel_memfd(&k, "test", &fd), 0);
  CHECK_EQ(kernel_ftruncate(&k, fd, 4 * page), 0);
  CHECK_EQ(kernel_mmap(&k, NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0, &one), 0);
  CHECK_EQ(kernel_mmap(&k, NULL, page, PROT_READ, MAP_SHARED, fd, page, &two), 0);
  ((char *)one)[page] = 9;
  CHECK_EQ(*(volatile char *)two, 9);
  CHECK_EQ(kernel_fallocate_punch(&k, fd, page, page), 0);
  CHECK_EQ(*(volatile char *)two, 0);
  CHECK_EQ(kernel_munmap(&k, one, 4 * page), 0);
  CHECK_EQ(kernel_munmap(&k, two, page), 0);
  CHECK_EQ(kernel_close_fd(&k, fd), 0);
  CHECK_EQ(kernel_close_fd(&k, fd), -EBADF);
  kernel_close(&k);
}

static void pagemap(void) {
  kernel_init(&k);
  uint64_t page = pages_size();
  char *at = map_open(2 * page);
  uint64_t entries[2];
  at[page] = 1;
  for (int round = 0; round < 2; round++) {
    CHECK_EQ(kernel_pagemap_present(&k, at), 0);
    CHECK_EQ(kernel_pagemap_present(&k, at + page + 17), 1);
    int result = kernel_pagemap_read(&k, at, 2, entries);
    if (result == 0) CHECK((entries[0] | KERNEL_PAGEMAP_EXCLUSIVE) != (entries[1] | KERNEL_PAGEMAP_EXCLUSIVE));
    if (round == 1) CHECK_EQ(result, -ENOSYS);
    kernel_close(&k); /* the second round has mincore only */
  }
  CHECK_EQ(kernel_munmap(&k, at, 2 * page), 0);
}

/* --- injection ----------------------------------------------------------------------------------------- */
static const char *refused(const char *spec) {
  static char error[160];
  CHECK_EQ(kernel_inject(&k, spec, error, sizeof error), -EINVAL);
  CHECK_EQ(k.rule_count, 0);
  return error;
}

static void spec_errors(void) {
  kernel_init(&k);
  CHECK(strstr(refused("move"), "':'") != NULL);
  CHECK(strstr(refused("jump:EBUSY"), "jump") != NULL);
  CHECK(strstr(refused("move:EWHAT"), "EWHAT") != NULL);
  CHECK(strstr(refused("move:EBUSY@sometimes=1"), "sometimes") != NULL);
  CHECK(strstr(refused("move:EBUSY@nth"), "nth") != NULL);
  CHECK(strstr(refused("move:EBUSY@nth=0"), "0") != NULL);
  CHECK(strstr(refused("move:EBUSY@nth=-1"), "-1") != NULL);
  CHECK(strstr(refused("move:EBUSY@p=1.5"), "1.5") != NULL);
  CHECK(strstr(refused("move:delay=5"), "5") != NULL);
  CHECK(strstr(refused("mmap:ENOMEM-after"), "mmap") != NULL);
  CHECK(strstr(refused("*:ENOMEM-after"), "*") != NULL);
  CHECK(strstr(refused("mmap:ENOMEM@partial=4096"), "partial") != NULL);
  CHECK(strstr(refused("move:EEXIST-later"), "-after") != NULL);
  CHECK(strstr(refused("munmap:EINVAL;move:"), "''") != NULL);
  CHECK(strstr(refused("register:without=copy"), "copy") != NULL);
  CHECK(strstr(refused("move:without=move"), "register") != NULL);
  inject("");
  inject(" ; move:EBUSY ; *:ENOMEM@p=0.01,seed=1;");
  CHECK_EQ(k.rule_count, 2);
  char many[1024] = "", error[160];
  for (int i = 0; i < KERNEL_RULES - 1; i++) strcat(many, "move:EBUSY;");
  CHECK_EQ(kernel_inject(&k, many, error, sizeof error), -ENOSPC);
  CHECK_EQ(k.rule_count, 2);
  kernel_close(&k);
}

static void remap_is_move(void) {
  kernel_init(&k);
  inject("remap:EBUSY@nth=1,partial=4096; move:EEXIST-after; register:without=remap");
  CHECK_EQ(k.rule_count, 3);
  CHECK_EQ(k.rules[0].call, KERNEL_MOVE);
  CHECK_EQ(k.rules[1].call, KERNEL_MOVE);
  CHECK(k.rules[2].without_move);
  kernel_inject_clear(&k);
  CHECK(strstr(refused("remaps:EBUSY"), "remaps") != NULL);
  kernel_close(&k);
}

/* The answers of `count` harmless calls (advice 0 on nothing), as a string of '.', 'x'. */
static const char *pattern(int count) {
  static char text[256];
  for (int i = 0; i < count; i++) text[i] = kernel_madvise(&k, NULL, 0, MADV_NORMAL) == 0 ? '.' : 'x';
  text[count] = 0;
  return text;
}

static void conditions(void) {
  kernel_init(&k);
  inject("madvise:ENOMEM@nth=3");
  CHECK(strcmp(pattern(6), "..x...") == 0);
  CHECK_EQ(kernel_inject_fired(&k, 0), 1);
  inject("madvise:ENOMEM@every=2");
  CHECK(strcmp(pattern(6), ".x.x.x") == 0);
  inject("madvise:ENOMEM@from=3");
  CHECK(strcmp(pattern(6), "..xxxx") == 0);
  inject("madvise:ENOMEM@from=2,times=2");
  CHECK(strcmp(pattern(6), ".xx...") == 0);
  inject("*:ENOMEM@times=2");
  CHECK(strcmp(pattern(4), "xx..") == 0);
  inject("madvise:ENOMEM@p=0,seed=3");
  CHECK(strcmp(pattern(4), "....") == 0);
  inject("madvise:ENOMEM@p=1");
  CHECK(strcmp(pattern(4), "xxxx") == 0);
  inject("mmap:ENOMEM");
  CHECK(strcmp(pattern(4), "....") == 0);
  CHECK(map_open(4096) == NULL);
  inject("madvise:EINVAL@nth=1;madvise:ENOMEM@nth=1;madvise:EBUSY@nth=2");
  CHECK_EQ(kernel_madvise(&k, NULL, 0, MADV_NORMAL), -EINVAL);
  CHECK_EQ(kernel_madvise(&k, NULL, 0, MADV_NORMAL), -EBUSY);
  kernel_inject_clear(&k);
  CHECK(strcmp(pattern(4), "....") == 0);
  kernel_close(&k);
}

static void seeds(void) {
  char first[256], other[256];
  kernel_init(&k);
  inject("madvise:ENOMEM@p=0.3,seed=5");
  strcpy(first, pattern(200));
  inject("madvise:ENOMEM@p=0.3,seed=5");
  CHECK(strcmp(first, pattern(200)) == 0);
  inject("madvise:EBUSY@every=3;madvise:ENOMEM@p=0.3,seed=5"); /* the other rule does not shift the generator */
  strcpy(other, pattern(200));
  int fails = 0, differs = 0;
  for (int i = 0; i < 200; i++) {
    fails += first[i] == 'x';
    differs += (i % 3 == 2 ? 'x' : first[i]) != other[i];
  }
  CHECK(fails > 30 && fails < 90);
  CHECK_EQ(differs, 0);
  inject("madvise:ENOMEM@p=0.3,seed=6");
  CHECK(strcmp(first, pattern(200)) != 0);
  kernel_close(&k);
}

static void after(void) {
  kernel_init(&k);
  char *at = map_open(4096);
  at[0] = 1;
  inject("drop:EBUSY-after@nth=1;drop:EBUSY@nth=2");
  CHECK_EQ(kernel_madvise(&k, at, pages_size(), MADV_DONTNEED), -EBUSY);
  CHECK_EQ(at[0], 0);
  at[0] = 1;
  CHECK_EQ(kernel_madvise(&k, at, pages_size(), MADV_DONTNEED), -EBUSY);
  CHECK_EQ(at[0], 1);
  CHECK_EQ(k.counters[KERNEL_DROP].injected, 2);
  CHECK_EQ(k.counters[KERNEL_DROP].failures, 2);
  kernel_inject_clear(&k);
  CHECK_EQ(kernel_munmap(&k, at, 4096), 0);
  kernel_close(&k);
}

static void delays(void) {
  kernel_init(&k);
  inject("madvise:delay=50us@nth=1;madvise:delay=3ms@nth=2");
  uint64_t began = clock_ns();
  CHECK(strcmp(pattern(1), ".") == 0);
  uint64_t middle = clock_ns();
  CHECK(strcmp(pattern(1), ".") == 0);
  CHECK(middle - began >= 50 * NS_PER_US);
  CHECK(clock_ns() - middle >= 3 * NS_PER_MS);
  kernel_close(&k);
}

/* Rules come and go while two threads make calls; under ThreadSanitizer this is the test of the table's lock. */
static void *unused_address;

static void caller(void *arg) {
  uint64_t *refusals = arg;
  for (int i = 0; i < 5000; i++)
    if (kernel_madvise(&k, unused_address, 0, MADV_NORMAL) != 0) ++*refusals;
}

static void concurrent_rules(void) {
  struct thread threads[2];
  uint64_t refusals[2] = {0, 0};
  kernel_init(&k);
  inject("madvise:ENOMEM@every=10");
  for (int i = 0; i < 2; i++) CHECK_EQ(thread_start(&threads[i], "caller", caller, &refusals[i]), 0);
  for (int i = 0; i < 2; i++) thread_join(&threads[i]);
  CHECK_EQ(refusals[0] + refusals[1], 1000);
  for (int i = 0; i < 2; i++) CHECK_EQ(thread_start(&threads[i], "caller", caller, &refusals[i]), 0);
  for (int i = 0; i < 50; i++) {
    inject("madvise:ENOMEM@p=0.5;*:delay=1us");
    thread_yield();
  }
  for (int i = 0; i < 2; i++) thread_join(&threads[i]);
  CHECK_EQ(k.counters[KERNEL_MADVISE].calls, 20000);
  kernel_close(&k);
}

/* --- watchdog, fork, barrier --------------------------------------------------------------------------- */
static void slow_caller(void *arg) { (void)kernel_munmap(&k, arg, pages_size()); }

struct seen {
  uint32_t count;
  struct kernel_watch watch;
};

static void report(void *arg, const struct kernel_watch *watch, uint64_t ns_so_far) {
  struct seen *seen = arg;
  seen->count++;
  seen->watch = *watch;
  CHECK(ns_so_far >= 20 * NS_PER_MS);
}

static void watchdog(void) {
  struct thread thread;
  struct seen seen = {0};
  kernel_init(&k);
  void *at = map_open(pages_size());
  inject("munmap:delay=300ms");
  CHECK_EQ(kernel_watchdog_check(&k, 0, report, &seen), 0);
  CHECK_EQ(thread_start(&thread, "slow", slow_caller, at), 0);
  for (int i = 0; i < 250 && seen.count == 0; i++) {
    thread_sleep_ns(NS_PER_MS);
    (void)kernel_watchdog_check(&k, 20 * NS_PER_MS, report, &seen);
  }
  CHECK_EQ(kernel_watchdog_check(&k, 20 * NS_PER_MS, report, &seen), 1);
  CHECK_EQ(seen.count, 1); /* reported once */
  CHECK_EQ(seen.watch.call, KERNEL_MUNMAP);
  CHECK(seen.watch.address == (uintptr_t)at);
  CHECK(seen.watch.thread != thread_id() && seen.watch.thread != 0);
  CHECK_EQ(seen.watch.bytes, pages_size());
  thread_join(&thread);
  CHECK_EQ(kernel_watchdog_check(&k, 0, report, &seen), 0);
  kernel_close(&k);
}

static int in_child(uint32_t parent_thread, char *at) {
  kernel_after_fork(&k);
  uint64_t page = pages_size();
  if (thread_id() == parent_thread) return 1;
  if (kernel_madvise(&k, at, page, MADV_DONTNEED) != 0) return 2;
  if (kernel_pagemap_present(&k, at) != 0) return 3; /* the parent's page is still there: this must be our map */
  return 0;
}

static void forking(void) {
  kernel_init(&k);
  char *at = map_open(pages_size());
  at[0] = 1;
  k.watches[7].started_ns = 1; /* a thread that is in a call while another one forks */
  uint32_t me = thread_id();
  pid_t child = fork();
  if (child == 0) _exit(in_child(me, at));
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK_EQ(status, 0);
  CHECK_EQ(kernel_pagemap_present(&k, at), 1);
  CHECK_EQ(kernel_munmap(&k, at, pages_size()), 0);
  kernel_close(&k);
}

static void names(void) {
  CHECK(strcmp(kernel_call_name(KERNEL_MOVE), "move") == 0);
  CHECK(strcmp(kernel_call_name(KERNEL_CALL_COUNT), "unknown") == 0);
  kernel_init(&k);
  int result = kernel_barrier_register(&k);
  CHECK(result == 0 || result == -ENOSYS || result == -EINVAL || result == -EPERM);
  if (result == 0) CHECK_EQ(kernel_barrier(&k), 0);
  kernel_close(&k);
}

int main(void) {
  RUN(answers);
  RUN(remapping);
  RUN(shared_object);
  RUN(pagemap);
  RUN(spec_errors);
  RUN(remap_is_move);
  RUN(conditions);
  RUN(seeds);
  RUN(after);
  RUN(delays);
  RUN(concurrent_rules);
  RUN(watchdog);
  RUN(forking);
  RUN(names);
  return CHECK_SUMMARY();
}
