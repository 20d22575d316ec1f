/* Address space: geometry, reserving, populating, dropping. See pages.h; the samplers are in pages_memory.c. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/units.h"
#include "os/thread.h"

#define THP_FOLDER "/sys/kernel/mm/transparent_hugepage/"
#define OPEN_PROTECTION (PROT_READ | PROT_WRITE)
#define OPEN_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

static uint64_t known_size;    /* [atomic] relaxed: a constant, found again by whoever misses it */
static uint64_t pretended;     /* [atomic] relaxed: set before the test begins */
static uint64_t known_huge;    /* [atomic] relaxed: a constant */

uint64_t pages_size(void) {
  uint64_t size = at_load_relaxed(&pretended);
  if (gch_unlikely(size != 0)) return size;
  size = at_load_relaxed(&known_size);
  if (gch_likely(size != 0)) return size;
  size = (uint64_t)sysconf(_SC_PAGESIZE);
  GCH_CHECK(is_pow2(size), "the kernel's page size is %llu", (unsigned long long)size);
  at_store_relaxed(&known_size, size);
  return size;
}

void pages_size_override(uint64_t bytes) {
  uint64_t real = (uint64_t)sysconf(_SC_PAGESIZE);
  GCH_CHECK(bytes == 0 || (is_pow2(bytes) && bytes >= real), "a page of %llu bytes cannot be made of pages of %llu",
            (unsigned long long)bytes, (unsigned long long)real);
  at_store_relaxed(&pretended, bytes);
}

/* The first line of a small file, without its end; -1 if it cannot be read. */
static int read_line(const char *path, char *out, size_t bytes) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t got = read(fd, out, bytes - 1);
  (void)close(fd);
  if (got <= 0) return -1;
  out[got] = 0;
  out[strcspn(out, "\n")] = 0;
  return 0;
}

uint64_t pages_huge_size(void) {
  uint64_t size = at_load_relaxed(&known_huge);
  if (gch_likely(size != 0)) return size;
  char text[64];
  size = 2 * MIB;
  if (read_line(THP_FOLDER "hpage_pmd_size", text, sizeof text) == 0 && is_pow2(strtoull(text, NULL, 10)))
    size = strtoull(text, NULL, 10);
  at_store_relaxed(&known_huge, size);
  return size;
}

enum pages_thp pages_thp_policy(void) {
  char text[64];
  if (read_line(THP_FOLDER "enabled", text, sizeof text) != 0) return PAGES_THP_UNKNOWN;
  if (strstr(text, "[always]") != NULL) return PAGES_THP_ALWAYS;
  if (strstr(text, "[madvise]") != NULL) return PAGES_THP_MADVISE;
  return strstr(text, "[never]") != NULL ? PAGES_THP_NEVER : PAGES_THP_UNKNOWN;
}

const char *pages_thp_name(enum pages_thp policy) {
  switch (policy) {
    case PAGES_THP_NEVER: return "never";
    case PAGES_THP_MADVISE: return "madvise";
    case PAGES_THP_ALWAYS: return "always";
    case PAGES_THP_UNKNOWN: break;
  }
  return "unknown";
}

/* --- address space ------------------------------------------------------------------------------------- */
static int reserve(struct kernel *k, uint64_t bytes, uint64_t align, void **out) {
  uint64_t page = pages_size();
  if (align < page) align = page;
  GCH_CHECK(is_pow2(align), "the alignment of a reservation is a power of two, not %llu", (unsigned long long)align);
  uint64_t wanted = align_up(bytes, page), total = wanted + (align - page);
  if (bytes == 0 || wanted < bytes || total < wanted) return -EINVAL;
  void *got = NULL;
  int result = kernel_mmap(k, NULL, total, PROT_NONE, OPEN_FLAGS, -1, 0, &got);
  if (result != 0) return result;
  uintptr_t begin = (uintptr_t)got, at = align_up(begin, align), end = begin + total;
  /* Trimming can fail only for want of VMAs; what is not trimmed stays reserved and costs nothing but addresses. */
  if (at > begin) (void)kernel_munmap(k, got, at - begin);
  if (end > at + wanted) (void)kernel_munmap(k, (void *)(at + wanted), end - at - wanted);
  *out = (void *)at;
  return 0;
}

int pages_reserve(struct kernel *k, uint64_t bytes, uint64_t align, void **out, int *err) {
  *out = NULL;
  int result = reserve(k, bytes, align, out);
  if (err != NULL) *err = result;
  return result;
}

int pages_release(struct kernel *k, void *addr, uint64_t bytes) {
  return kernel_munmap(k, addr, align_up(bytes, pages_size()));
}

int pages_commit_region(struct kernel *k, void *addr, uint64_t bytes) {
  return kernel_mprotect(k, addr, bytes, OPEN_PROTECTION);
}

int pages_renew(struct kernel *k, void *addr, uint64_t bytes) {
  void *at = NULL;
  return kernel_mmap(k, addr, bytes, OPEN_PROTECTION, OPEN_FLAGS | MAP_FIXED, -1, 0, &at);
}

/* An atomic add of 0 is a write that changes nothing, whoever else writes. */
static void touch(void *addr, uint64_t bytes) {
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
  for (uint64_t i = 0; i < bytes; i += page) (void)at_add_relaxed((uint8_t *)addr + i, 0);
}

#define POPULATE_RETRIES 100
#define SHIFT_SLEEP_NS 50000

void pages_shift_begin(struct kernel *k) { (void)at_add_seq(&k->shifts, 1); }
void pages_shift_end(struct kernel *k) { (void)at_add_seq(&k->shifts, 1); }

/* A refusal between the two steps, or that may have been: both are over soon. */
static bool shifted(const struct kernel *k, uint64_t before) {
  if (before % 2 == 0 && at_load_seq(&k->shifts) == before) return false;
  thread_sleep_ns(SHIFT_SLEEP_NS);
  return true;
}

int pages_populate(struct kernel *k, void *addr, uint64_t bytes) {
  for (int retry = 0;; retry++) {
    uint64_t before = at_load_seq(&k->shifts);
    int result = kernel_madvise(k, addr, bytes, UABI_MADV_POPULATE_WRITE);
    if (result == -EINVAL) { /* Linux before 5.14 */
      touch(addr, bytes);
      return 0;
    }
    if (result == -EFAULT && shifted(k, before)) {
      retry = 0;
      continue;
    }
    if ((result != -EAGAIN && result != -EINTR) || retry == POPULATE_RETRIES) return result;
    if (result == -EAGAIN) thread_yield();
  }
}

int pages_drop(struct kernel *k, void *addr, uint64_t bytes) { return kernel_madvise(k, addr, bytes, MADV_DONTNEED); }

void pages_clear(struct kernel *k, void *addr, uint64_t bytes) {
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
  for (uint64_t at = 0; at < bytes; at += page)
    if (kernel_pagemap_present(k, (uint8_t *)addr + at) != 0) memset((uint8_t *)addr + at, 0, page);
}

int pages_advise_huge(struct kernel *k, void *addr, uint64_t bytes, bool huge) {
  return kernel_madvise(k, addr, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

int pages_lock_wait(struct kernel *k, void *open_page, uint64_t *ns) {
  uint64_t began = clock_ns();
  int result = kernel_mprotect(k, open_page, pages_size(), OPEN_PROTECTION);
  *ns = clock_ns() - began;
  return result;
}

void pages_touch(void *addr, uint64_t bytes) {
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
  for (uint64_t at = 0; at < bytes; at += page)
    __atomic_fetch_or((uint8_t *)addr + at, 0, __ATOMIC_RELAXED); /* any order */
}
