/* Pages and address space: geometry, reserving, populating, dropping, and what memory the process really has.
 *
 * Vocabulary. *Reserved*: address space without access or memory (PROT_NONE, MAP_NORESERVE). *Open*: readable and
 * writable, not yet populated. *Populated*: with a page behind it. *Dropped*: open, its pages given back.
 *
 * Errors: 0 or a negative errno. Threads: any. Samplers read /proc and cgroup files; they never read smaps, which
 * would hold the lock that a flip needs. */
#ifndef GCH_OS_PAGES_H
#define GCH_OS_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/kernel.h"

/* The kernel's page, asked once; a power of two. */
uint64_t pages_size(void);
/* For geometry tests: pretend that pages are so big (a multiple of the real size, a power of two); 0: the truth. */
void pages_size_override(uint64_t bytes);
/* The huge page a PMD maps (hpage_pmd_size); 2 MiB if the kernel does not say, 0 never. */
uint64_t pages_huge_size(void);

enum pages_thp { PAGES_THP_UNKNOWN, PAGES_THP_NEVER, PAGES_THP_MADVISE, PAGES_THP_ALWAYS };
enum pages_thp pages_thp_policy(void);
const char *pages_thp_name(enum pages_thp policy);

/* --- address space ------------------------------------------------------------------------------------- */
/* Reserves `bytes` (rounded up to pages) at a multiple of `align` (a power of two, at least a page). The answer is
 * also returned through *err if err is not NULL. */
int pages_reserve(struct kernel *k, uint64_t bytes, uint64_t align, void **out, int *err);
int pages_release(struct kernel *k, void *addr, uint64_t bytes);
/* Opens part of a reservation for reading and writing. It stays one VMA if all of it is opened at once. */
int pages_commit_region(struct kernel *k, void *addr, uint64_t bytes);
/* Replaces the range by a fresh open mapping, unpopulated and unregistered (MAP_FIXED). */
int pages_renew(struct kernel *k, void *addr, uint64_t bytes);
/* Puts memory behind every page of an open range, as if each had been written to, changing no contents. */
int pages_populate(struct kernel *k, void *addr, uint64_t bytes);
/* Between these two a range may be registered for missing pages for a moment. Who populates it would wait in the kernel for the
 * second; where descriptors are for user mode only, the kernel refuses at once (EFAULT), and pages_populate waits instead. */
void pages_shift_begin(struct kernel *k);
void pages_shift_end(struct kernel *k);
/* The same by touching every page, for when the call is refused but there is no going back: the kernel's own way of running
 * out of memory decides then. */
void pages_touch(void *addr, uint64_t bytes);
/* Gives the memory of the range back; it reads as zeros afterwards (or faults, where registered). */
int pages_drop(struct kernel *k, void *addr, uint64_t bytes);
/* For when that is refused: the pages that are there are cleared, those that are not stay so. */
void pages_clear(struct kernel *k, void *addr, uint64_t bytes);
/* MADV_HUGEPAGE, or MADV_NOHUGEPAGE. -EINVAL where the kernel has no huge pages. */
int pages_advise_huge(struct kernel *k, void *addr, uint64_t bytes, bool huge);
/* How long a call that takes mmap_lock for writing waited: mprotect of one open page to what it is. */
int pages_lock_wait(struct kernel *k, void *open_page, uint64_t *ns);

/* --- memory figures ------------------------------------------------------------------------------------ */
struct pages_memory {
  uint64_t rss_anon_bytes;  /* RssAnon */
  uint64_t rss_shmem_bytes; /* RssShmem */
  uint64_t rss_file_bytes;  /* RssFile */
  uint64_t pte_bytes;       /* VmPTE: page tables */
  uint64_t swap_bytes;      /* VmSwap */
  uint64_t peak_bytes;      /* VmHWM */
  uint64_t virtual_bytes;   /* VmSize */
};

int pages_memory_read(struct pages_memory *out);
/* RssAnon + RssShmem + VmPTE: `physical` of architecture.md section 12. */
uint64_t pages_physical(const struct pages_memory *memory);
/* Sets VmHWM to what is resident now (5 to /proc/self/clear_refs). */
int pages_peak_reset(void);
/* MemFree of the machine, in bytes. */
int pages_mem_free(uint64_t *bytes);
/* Memory charged to this process's cgroup (v2 memory.current or v1 memory.usage_in_bytes); -ENOENT if unreadable. */
int pages_cgroup_usage(uint64_t *bytes);

/* A cheap sampler: one pread of /proc/self/statm. */
struct pages_statm {
  int fd;
};

struct pages_statm_sample {
  uint64_t virtual_bytes;
  uint64_t resident_bytes;
  uint64_t shared_bytes; /* RssFile + RssShmem; resident - shared is RssAnon */
};

int pages_statm_open(struct pages_statm *s);
int pages_statm_read(const struct pages_statm *s, struct pages_statm_sample *out);
void pages_statm_close(struct pages_statm *s);

#endif
