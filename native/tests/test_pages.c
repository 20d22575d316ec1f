/* Geometry, reservations, populating and dropping, and the samplers against what was just done. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/pages.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/units.h"
#include "check.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 /* shadow memory spoils figures of this process */
#else
#define SANITIZED 0
#endif

static struct kernel k;

static void geometry(void) {
  CHECK(pages_size() == (uint64_t)sysconf(_SC_PAGESIZE));
  CHECK(is_pow2(pages_huge_size()) && pages_huge_size() > pages_size());
  pages_size_override(16 * KIB);
  CHECK_EQ(pages_size(), 16 * KIB);
  pages_size_override(0);
  CHECK(pages_size() == (uint64_t)sysconf(_SC_PAGESIZE));
  CHECK(pages_thp_name(pages_thp_policy()) != NULL);
}

static void reserving(void) {
  void *at;
  int error = 1;
  for (uint64_t align = pages_size(); align <= GIB; align *= 8) {
    CHECK_EQ(pages_reserve(&k, 3 * MIB + 1, align, &at, &error), 0);
    CHECK_EQ(error, 0);
    CHECK(is_aligned((uintptr_t)at, align));
    CHECK_EQ(kernel_pagemap_present(&k, at), 0);
    CHECK_EQ(pages_release(&k, at, 3 * MIB + 1), 0);
  }
  CHECK_EQ(pages_reserve(&k, 0, MIB, &at, &error), -EINVAL);
  CHECK(error == -EINVAL && at == NULL);
  CHECK_EQ(pages_reserve(&k, UINT64_MAX, MIB, &at, NULL), -EINVAL);
  CHECK_EQ(pages_reserve(&k, (uint64_t)1 << 60, MIB, &at, NULL), -ENOMEM);
}

/* What was cut off must be free again: reserving and releasing many times does not use up the address space. */
static void trimmed(void) {
  struct pages_memory before, after;
  CHECK_EQ(pages_memory_read(&before), 0);
  void *at[8];
  for (int i = 0; i < 8; i++) CHECK_EQ(pages_reserve(&k, GIB, GIB, &at[i], NULL), 0);
  CHECK_EQ(pages_memory_read(&after), 0);
  CHECK_EQ(after.virtual_bytes - before.virtual_bytes, 8 * GIB);
  for (int i = 0; i < 8; i++) CHECK_EQ(pages_release(&k, at[i], GIB), 0);
}

static uint64_t populated(const char *at, uint64_t bytes) {
  uint64_t count = 0;
  for (uint64_t i = 0; i < bytes; i += pages_size()) count += kernel_pagemap_present(&k, at + i) == 1;
  return count;
}

static void life_of_a_region(void) {
  uint64_t bytes = 16 * pages_size(), ns = 0;
  void *got;
  CHECK_EQ(pages_reserve(&k, bytes, MIB, &got, NULL), 0);
  char *at = got;
  CHECK_EQ(pages_commit_region(&k, at, bytes), 0);
  CHECK_EQ(populated(at, bytes), 0);
  CHECK_EQ(pages_populate(&k, at, bytes), 0);
  CHECK_EQ(populated(at, bytes), 16);
  at[1] = 5;
  CHECK_EQ(pages_populate(&k, at, bytes), 0);
  CHECK_EQ(at[1], 5);
  CHECK_EQ(pages_drop(&k, at, bytes), 0);
  CHECK_EQ(populated(at, bytes), 0);
  CHECK_EQ(at[1], 0);
  at[1] = 6;
  CHECK_EQ(pages_renew(&k, at, bytes), 0);
  CHECK_EQ(at[1], 0);
  CHECK_EQ(pages_lock_wait(&k, at, &ns), 0);
  CHECK(ns > 0 && ns < 10 * NS_PER_S);
  CHECK_EQ(pages_release(&k, at, bytes), 0);
}

/* The kernel's temporary refusals are waited out; on an old kernel pages are touched instead. */
static void populating_under_refusals(void) {
  static const char *const specs[] = {"populate:EAGAIN@times=3", "populate:EINTR@times=2", "populate:EINVAL"};
  uint64_t bytes = 8 * pages_size();
  void *at;
  CHECK_EQ(pages_reserve(&k, bytes, MIB, &at, NULL), 0);
  CHECK_EQ(pages_commit_region(&k, at, bytes), 0);
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(kernel_inject(&k, specs[i], NULL, 0), 0);
    CHECK_EQ(pages_populate(&k, at, bytes), 0);
    CHECK_EQ(populated(at, bytes), 8);
    CHECK_EQ(pages_drop(&k, at, bytes), 0);
    kernel_inject_clear(&k);
  }
  CHECK_EQ(kernel_inject(&k, "populate:ENOMEM", NULL, 0), 0);
  CHECK_EQ(pages_populate(&k, at, bytes), -ENOMEM);
  kernel_inject_clear(&k);
  CHECK_EQ(pages_release(&k, at, bytes), 0);
}

static void huge_pages(void) {
  uint64_t bytes = pages_huge_size();
  void *at;
  if (pages_thp_policy() == PAGES_THP_NEVER || pages_thp_policy() == PAGES_THP_UNKNOWN)
    SKIP("huge pages", pages_thp_name(pages_thp_policy()));
  CHECK_EQ(pages_reserve(&k, bytes, bytes, &at, NULL), 0);
  CHECK_EQ(pages_commit_region(&k, at, bytes), 0);
  CHECK_EQ(pages_advise_huge(&k, at, bytes, true), 0);
  CHECK_EQ(pages_populate(&k, at, bytes), 0);
  CHECK_EQ(populated(at, bytes), bytes / pages_size());
  CHECK_EQ(pages_release(&k, at, bytes), 0);
}

static void samplers(void) {
  struct pages_memory before, during, after;
  struct pages_statm statm;
  struct pages_statm_sample s0, s1;
  uint64_t bytes = 32 * MIB, mem_free = 0, cgroup = 0;
  void *at;
  CHECK_EQ(pages_statm_open(&statm), 0);
  CHECK_EQ(pages_reserve(&k, bytes, MIB, &at, NULL), 0);
  CHECK_EQ(pages_commit_region(&k, at, bytes), 0);
  CHECK_EQ(pages_memory_read(&before), 0);
  CHECK_EQ(pages_statm_read(&statm, &s0), 0);
  CHECK_EQ(pages_populate(&k, at, bytes), 0);
  CHECK_EQ(pages_memory_read(&during), 0);
  CHECK_EQ(pages_statm_read(&statm, &s1), 0);
  CHECK_EQ(pages_drop(&k, at, bytes), 0);
  int reset = pages_peak_reset();
  CHECK_EQ(pages_memory_read(&after), 0);
  CHECK_EQ(pages_release(&k, at, bytes), 0);
  pages_statm_close(&statm);
  CHECK(pages_physical(&before) > 0 && before.pte_bytes > 0);
  if (!SANITIZED) {
    CHECK(during.rss_anon_bytes - before.rss_anon_bytes >= bytes - MIB);
    CHECK(during.rss_anon_bytes - before.rss_anon_bytes <= bytes + 4 * MIB);
    CHECK(during.rss_anon_bytes - after.rss_anon_bytes >= bytes - MIB);
    CHECK(s1.resident_bytes - s0.resident_bytes >= bytes - MIB);
    CHECK(during.peak_bytes >= before.peak_bytes + bytes / 2);
    if (reset == 0) CHECK(after.peak_bytes < during.peak_bytes - bytes / 2);
  }
  CHECK_EQ(pages_mem_free(&mem_free), 0);
  CHECK(mem_free > MIB);
  if (pages_cgroup_usage(&cgroup) == 0) CHECK(cgroup > 0);
  printf("  MemFree %llu MiB, cgroup %llu MiB, peak reset %d\n", (unsigned long long)(mem_free / MIB),
         (unsigned long long)(cgroup / MIB), reset);
}

int main(void) {
  kernel_init(&k);
  RUN(geometry);
  RUN(reserving);
  RUN(trimmed);
  RUN(life_of_a_region);
  RUN(populating_under_refusals);
  RUN(huge_pages);
  RUN(samplers);
  kernel_close(&k);
  return CHECK_SUMMARY();
}
