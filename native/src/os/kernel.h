/* THE table of virtual-memory calls: every call of the collector that changes or inspects address space goes
 * through here, so that fault injection, call counters and the watchdog live in one place.
 *
 * Vocabulary. A *call* is an entry of KERNEL_CALLS. A *rule* makes a call fail, fail half-way, or wait; the grammar
 * is at the head of kernel_inject.c. A *watch* is the record of a call in progress.
 *
 * Errors. Every function returns 0 (or a count >= 0) or a negative errno, and leaves errno as it was: what the
 * kernel answers is a result (I5), and callers plan for it. Nothing here prints or aborts.
 *
 * Threads. All functions may be called from any thread, and all but kernel_init/close/inject from a signal
 * handler: no locks that are held across anything but a few words of this struct, no allocation, no TLS that
 * needs allocation. A struct kernel is a value in each heap; there is no global state.
 *
 * Cost above the bare call: two relaxed adds, one claim of a watch slot (a CAS on a line of the thread's own), a
 * coarse clock read, one predictable branch for rules. With `timed` set two clock reads more.
 *
 * What the calls may answer, see also architecture.md section 7:
 *   move  0; -EAGAIN with *moved > 0 (partial: call again at +moved to learn the reason) or *moved == 0 (plain
 *         retry); -EEXIST (destination populated, OR moved and misreported: bug B1 of Linux 6.18); -ENOENT (source
 *         hole); -EBUSY (shared or pinned); -EINVAL (ranges; or another thread changed a VMA); -EFAULT (marker);
 *         -ENOMEM; -ESRCH. A negative answer wakes nobody.
 *   copy  0; -EEXIST; -EAGAIN partial; -ENOENT (VMA changed); -ENOMEM; -ESRCH; -EFAULT.
 *   read  a count; -EAGAIN when a non-blocking descriptor has no message. */
#ifndef GCH_OS_KERNEL_H
#define GCH_OS_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "os/uffd_abi.h"

/* id, name in rules and reports. `drop`, `populate` and `collapse` are madvise with that advice. */
#define KERNEL_CALLS(X)       \
  X(MMAP, "mmap")             \
  X(MUNMAP, "munmap")         \
  X(MREMAP, "mremap")         \
  X(MADVISE, "madvise")       \
  X(DROP, "drop")             \
  X(POPULATE, "populate")     \
  X(COLLAPSE, "collapse")     \
  X(MPROTECT, "mprotect")     \
  X(MEMFD, "memfd")           \
  X(FTRUNCATE, "ftruncate")   \
  X(PUNCH, "punch")           \
  X(UFFD_OPEN, "uffd_open")   \
  X(REGISTER, "register")     \
  X(UNREGISTER, "unregister") \
  X(MOVE, "move")             \
  X(COPY, "copy")             \
  X(ZEROPAGE, "zeropage")     \
  X(WAKE, "wake")             \
  X(READ, "read")             \
  X(PAGEMAP, "pagemap")       \
  X(BARRIER, "barrier")       \
  X(CLOSE, "close")

enum kernel_call {
#define KERNEL_CALL_ID(id, name) KERNEL_##id,
  KERNEL_CALLS(KERNEL_CALL_ID)
#undef KERNEL_CALL_ID
      KERNEL_CALL_COUNT
};

#define KERNEL_RULES 16
#define KERNEL_WATCHES 64

struct kernel_counter {
  uint64_t calls;    /* [stat] */
  uint64_t failures; /* [stat] negative answers, injected ones included; EAGAIN of `read` is not one */
  uint64_t injected; /* [stat] answers changed or delayed by a rule */
  uint64_t ns;       /* [stat] only while `timed` */
};

struct kernel_rule {
  uint32_t call;          /* KERNEL_CALL_COUNT: every call */
  int32_t error;          /* positive errno to report; 0: only delay */
  bool after;             /* perform, then report */
  bool without_move;      /* perform, and offer no UFFDIO_MOVE */
  uint64_t delay_ns;
  uint64_t nth, every, from; /* 0: no such condition */
  uint64_t times;         /* fire at most so often; 0: no limit */
  uint64_t partial_bytes; /* 0: none */
  uint64_t threshold;     /* of 2^53; UINT64_MAX: no probability given */
  uint64_t random;        /* state of the generator */
  uint64_t seen;          /* calls it looked at */
  uint64_t fired;
  uintptr_t resume;       /* after a partial call: the address at which `error` is due, or 0 */
};

struct kernel_watch {
  uint64_t started_ns; /* [atomic] coarse clock; 0: slot is free */
  uint32_t call;       /* [atomic] relaxed, like those below: a torn report is a wrong report, nothing more */
  uint32_t thread;
  uintptr_t address;
  uintptr_t other; /* move, copy: the source; else 0 */
  uint64_t bytes;
  uint32_t reported; /* [atomic] by kernel_watchdog_check */
  uint32_t pad[5];
};
_Static_assert(sizeof(struct kernel_watch) == 64, "threads do not share a line");

struct kernel {
  struct kernel_counter counters[KERNEL_CALL_COUNT];
  uint32_t rule_count; /* [atomic] 0: the injection table is not looked at */
  uint32_t rule_lock;  /* [atomic] spin lock over rules[] */
  uint32_t timed;      /* [atomic] add up the time of each call */
  int pagemap_fd;      /* [const] /proc/self/pagemap, or -1 */
  uint64_t shifts;     /* [atomic seq] odd: memory changes hands in two steps, see pages_populate */
  uint64_t unwatched;  /* [stat] calls that found no free watch slot */
  struct kernel_rule rules[KERNEL_RULES]; /* [lock: rule_lock] */
  struct kernel_watch watches[KERNEL_WATCHES];
};

void kernel_init(struct kernel *k);
void kernel_close(struct kernel *k);
/* In the child of fork(), before any other call: reopens what belongs to the parent's address space, frees the
 * watch slots of threads that do not exist here. */
void kernel_after_fork(struct kernel *k);
const char *kernel_call_name(uint32_t call);

/* --- address space ------------------------------------------------------------------------------------- */
int kernel_mmap(struct kernel *k, void *addr, uint64_t bytes, int prot, int flags, int fd, uint64_t offset, void **out);
int kernel_munmap(struct kernel *k, void *addr, uint64_t bytes);
/* MREMAP_MAYMOVE|FIXED|DONTUNMAP: the pages of `old` are at `to` afterwards, `old` is mapped and empty. */
int kernel_mremap_dontunmap(struct kernel *k, void *old, uint64_t bytes, void *to);
int kernel_madvise(struct kernel *k, void *addr, uint64_t bytes, int advice);
int kernel_mprotect(struct kernel *k, void *addr, uint64_t bytes, int prot);
int kernel_memfd(struct kernel *k, const char *name, int *fd);
int kernel_ftruncate(struct kernel *k, int fd, uint64_t bytes);
/* Gives the backing of [offset, offset+bytes) of a shared object back (PUNCH_HOLE | KEEP_SIZE). */
int kernel_fallocate_punch(struct kernel *k, int fd, uint64_t offset, uint64_t bytes);
int kernel_close_fd(struct kernel *k, int fd);
/* Closes the file behind `fd`, which is another name for that of `by` from then on; counted as a close. Who is in a call on the
 * old file finishes it. */
int kernel_replace_fd(struct kernel *k, int fd, int by);

/* --- userfaultfd --------------------------------------------------------------------------------------- */
enum kernel_uffd_how {
  KERNEL_UFFD_DEVICE,  /* /dev/userfaultfd: access is the file's mode */
  KERNEL_UFFD_SYSCALL, /* userfaultfd(2): needs CAP_SYS_PTRACE or vm.unprivileged_userfaultfd=1 */
  KERNEL_UFFD_HOW_COUNT
};

struct kernel_uffd_request {
  enum kernel_uffd_how how;
  bool user_mode_only; /* faults of system calls answer EFAULT; needs no privilege with userfaultfd(2) */
  bool nonblock;
  uint64_t features; /* UABI_FEATURE_* to switch on */
};

struct kernel_uffd_opened {
  int fd;            /* close-on-exec */
  uint64_t features; /* all that the kernel offers */
  uint64_t ioctls;
};

/* Opens and does the UFFDIO_API handshake. */
int kernel_uffd_open(struct kernel *k, const struct kernel_uffd_request *request, struct kernel_uffd_opened *out);
/* *ioctls (may be NULL): UABI_RANGE_* that the range accepts. `mode`: UABI_REGISTER_*. */
int kernel_uffd_register(struct kernel *k, int fd, void *addr, uint64_t bytes, uint64_t mode, uint64_t *ioctls);
int kernel_uffd_unregister(struct kernel *k, int fd, void *addr, uint64_t bytes);
/* *moved: bytes done, also with a negative answer; 0 on a validation error. `mode`: UABI_MOVE_DONTWAKE or 0. */
int kernel_uffd_move(struct kernel *k, int fd, void *dst, void *src, uint64_t bytes, uint64_t mode, uint64_t *moved);
int kernel_uffd_copy(struct kernel *k, int fd, void *dst, const void *src, uint64_t bytes, uint64_t mode,
                     uint64_t *copied);
int kernel_uffd_zeropage(struct kernel *k, int fd, void *dst, uint64_t bytes, uint64_t mode, uint64_t *zeroed);
int kernel_uffd_wake(struct kernel *k, int fd, void *addr, uint64_t bytes);
/* Reads at most `limit` messages; the count, or -EAGAIN. */
int kernel_uffd_read(struct kernel *k, int fd, struct uabi_msg *out, uint32_t limit);

/* --- looking ------------------------------------------------------------------------------------------- */
/* 1 if the page at addr is populated (a page, the zero page, a swap entry or a marker: what makes MOVE say
 * EEXIST), 0 if it is not. Where /proc is not to be had mincore answers, and swapped-out pages read as 0. */
int kernel_pagemap_present(struct kernel *k, const void *addr);
/* The raw /proc/self/pagemap entries of `pages` pages; -ENOSYS without /proc. */
int kernel_pagemap_read(struct kernel *k, const void *addr, uint64_t pages, uint64_t *entries);
#define KERNEL_PAGEMAP_PRESENT (1ull << 63)
#define KERNEL_PAGEMAP_SWAPPED (1ull << 62)
#define KERNEL_PAGEMAP_EXCLUSIVE (1ull << 56)

/* A full memory barrier in every running thread of the process (membarrier, private expedited). Register once. */
int kernel_barrier_register(struct kernel *k);
int kernel_barrier(struct kernel *k);

/* --- injection ----------------------------------------------------------------------------------------- */
/* Adds the rules of `spec` ("" adds none). 0, or -EINVAL (-ENOSPC: table full) with a sentence in `error` and
 * no rule added. May be called while other threads make calls. */
int kernel_inject(struct kernel *k, const char *spec, char *error, size_t error_bytes);
void kernel_inject_clear(struct kernel *k);
/* How often the i-th rule fired. */
uint64_t kernel_inject_fired(struct kernel *k, uint32_t rule);

/* --- watchdog ------------------------------------------------------------------------------------------ */
typedef void kernel_watchdog_report(void *arg, const struct kernel_watch *watch, uint64_t ns_so_far);
/* Reports each call that has been in the kernel for longer than limit_ns, once; how many there are. `read` is
 * not watched (it may block). For a monitor thread. */
uint32_t kernel_watchdog_check(struct kernel *k, uint64_t limit_ns, kernel_watchdog_report *report, void *arg);

#endif
