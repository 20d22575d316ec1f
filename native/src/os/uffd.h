/* Userfaultfd descriptors: the best one that may be opened, its messages as faults, registration of ranges.
 *
 * A descriptor delivers missing-page faults either as messages that a thread reads (UFFD_FAULTS_THREAD) or as SIGBUS
 * in the faulting thread (UFFD_FAULTS_SIGNAL). A descriptor without faults of its own (UFFD_FAULTS_NONE) only makes
 * ranges legal destinations of UFFDIO_MOVE and UFFDIO_COPY (write-protect-only registration).
 *
 * Ways to open, in this order: /dev/userfaultfd, userfaultfd(2), and, where the wish allows, both again with
 * UFFD_USER_MODE_ONLY, in which system calls that meet a missing page answer EFAULT. Closing a descriptor ends its
 * registrations and turns missing pages into zero pages: never close one with unfinished units.
 *
 * Errors: 0 or a negative errno; `reasons` says in a sentence why each way that was tried failed. Threads: any. */
#ifndef GCH_OS_UFFD_H
#define GCH_OS_UFFD_H

#include <stdbool.h>
#include <stdint.h>

#include "os/kernel.h"

enum uffd_faults { UFFD_FAULTS_THREAD, UFFD_FAULTS_SIGNAL, UFFD_FAULTS_NONE };

struct uffd_wish {
  enum uffd_faults faults;
  bool allow_user_mode_only; /* take a descriptor that does not serve system calls, if there is no other */
  bool want_user_mode_only;  /* take nothing else (tests) */
  uint64_t features;         /* further UABI_FEATURE_* that must be there */
};

struct uffd {
  int fd; /* non-blocking; -1: not open */
  enum uffd_faults faults;
  enum kernel_uffd_how how;
  bool user_mode_only;
  uint64_t features; /* what the kernel offers */
  char reasons[512]; /* one sentence for each way that failed before, "" if the first one worked */
};

/* Opens; -1 in out->fd on failure, with the errno of the last way tried. */
int uffd_open(struct kernel *k, const struct uffd_wish *wish, struct uffd *out);
void uffd_close(struct kernel *k, struct uffd *u);
/* A sentence fragment: "/dev/userfaultfd", "userfaultfd(2), user mode only", ... */
const char *uffd_how_name(enum kernel_uffd_how how, bool user_mode_only);

/* --- ranges -------------------------------------------------------------------------------------------- */
/* Registers for missing pages; -ENOTSUP if the range does not offer the calls in `needed` (UABI_RANGE_*), and
 * then it is not registered. */
int uffd_register_missing(struct kernel *k, const struct uffd *u, void *addr, uint64_t bytes, uint64_t needed);
/* Registers for write protection only: a destination of UFFDIO_MOVE and UFFDIO_COPY that raises no fault. `needed` as
 * before. */
int uffd_register_quiet(struct kernel *k, const struct uffd *u, void *addr, uint64_t bytes, uint64_t needed);
int uffd_unregister(struct kernel *k, const struct uffd *u, void *addr, uint64_t bytes);

/* --- faults -------------------------------------------------------------------------------------------- */
struct uffd_fault {
  uintptr_t address; /* the page, or the exact address with UABI_FEATURE_EXACT_ADDRESS */
  uint32_t thread;   /* 0 unless UABI_FEATURE_THREAD_ID */
  bool write;
};

/* Reads what is there, at most `limit` (<= 64) faults; other events are skipped and counted in *skipped (may be
 * NULL). The count (0: nothing there) or a negative errno. One address may be reported several times. */
int uffd_read_faults(struct kernel *k, const struct uffd *u, struct uffd_fault *out, uint32_t limit, uint32_t *skipped);

/* --- waiting ------------------------------------------------------------------------------------------- */
#define UFFD_READY_FAULT 1 /* messages to read */
#define UFFD_READY_BELL 2  /* the bell was rung */
/* Waits for messages or the bell (-1: none), at most timeout_ms (-1: for ever). Bits of UFFD_READY_*, 0 after the
 * time, or a negative errno (interruptions are waited out; -EIO: the descriptor is in error). */
int uffd_wait(const struct uffd *u, int bell_fd, int timeout_ms);

/* A bell ends another thread's uffd_wait: an eventfd. bell_ring is async-signal-safe. */
int bell_open(int *fd);
void bell_ring(int fd);
void bell_clear(int fd);
void bell_close(int fd);

#endif
