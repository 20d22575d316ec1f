/* The table of virtual-memory calls. See kernel.h. Every call is framed by call_begin and call_end, which do the
 * counting, the watch and the rules, and keep errno. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/clock.h"
#include "os/kernel_internal.h"
#include "os/pages.h"
#include "os/thread.h"

struct call {
  struct kernel *k;
  enum kernel_call id;
  int saved_errno;
  struct kernel_watch *watch; /* NULL: not watched */
  uint64_t began_ns;          /* 0 unless timed */
  struct kernel_verdict verdict;
};

static const char *const call_names[] = {
#define KERNEL_CALL_NAME(id, name) name,
    KERNEL_CALLS(KERNEL_CALL_NAME)
#undef KERNEL_CALL_NAME
};

const char *kernel_call_name(uint32_t call) { return call < KERNEL_CALL_COUNT ? call_names[call] : "unknown"; }

static int pagemap_open(void) { return open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC); }

void kernel_init(struct kernel *k) {
  int saved = errno;
  memset(k, 0, sizeof *k);
  k->pagemap_fd = pagemap_open();
  errno = saved;
}

void kernel_close(struct kernel *k) {
  if (k->pagemap_fd >= 0) (void)close(k->pagemap_fd);
  k->pagemap_fd = -1;
}

void kernel_after_fork(struct kernel *k) {
  int saved = errno;
  thread_id_forget();
  kernel_close(k);
  k->pagemap_fd = pagemap_open();
  k->rule_lock = 0;
  k->shifts = 0;
  memset(k->watches, 0, sizeof k->watches);
  errno = saved;
}

/* --- the frame of a call ------------------------------------------------------------------------------- */
static struct kernel_watch *watch_claim(struct kernel *k) {
  uint64_t now = clock_coarse_ns() | 1;
  uint32_t first = thread_id();
  for (uint32_t i = 0; i < 4; i++) {
    struct kernel_watch *watch = &k->watches[(first + i) % KERNEL_WATCHES];
    uint64_t free_slot = 0;
    if (at_load_relaxed(&watch->started_ns) == 0 && at_cas(&watch->started_ns, &free_slot, now)) return watch;
  }
  at_add_relaxed(&k->unwatched, 1); /* relaxed: a figure */
  return NULL;
}

/* Relaxed: the watchdog looks at slots that are seconds old. */
static void watch_fill(struct kernel_watch *watch, enum kernel_call id, uintptr_t address, uintptr_t other,
                       uint64_t bytes) {
  at_store_relaxed(&watch->call, (uint32_t)id);
  at_store_relaxed(&watch->thread, thread_id());
  at_store_relaxed(&watch->address, address);
  at_store_relaxed(&watch->other, other);
  at_store_relaxed(&watch->bytes, bytes);
  at_store_relaxed(&watch->reported, 0);
}

static int call_end(struct call *c, int result) {
  struct kernel_counter *counter = &c->k->counters[c->id];
  if (result >= 0 && c->verdict.after) result = -c->verdict.error;
  if (c->began_ns != 0) at_add_relaxed(&counter->ns, clock_ns() - c->began_ns); /* relaxed: figures */
  at_add_relaxed(&counter->calls, 1);
  if (result < 0 && !(c->id == KERNEL_READ && result == -EAGAIN)) at_add_relaxed(&counter->failures, 1);
  if (c->watch != NULL) at_store(&c->watch->started_ns, 0);
  errno = c->saved_errno;
  return result;
}

/* Whether the call is to be made. If not, *refused is its answer, and the frame is closed. */
static bool call_begin(struct call *c, struct kernel *k, enum kernel_call id, const void *address, const void *other,
                       uint64_t bytes, int *refused) {
  *c = (struct call){.k = k, .id = id, .saved_errno = errno};
  if (id != KERNEL_READ) {
    c->watch = watch_claim(k);
    if (c->watch != NULL) watch_fill(c->watch, id, (uintptr_t)address, (uintptr_t)other, bytes);
  }
  if (gch_unlikely(at_load_relaxed(&k->timed) != 0)) c->began_ns = clock_ns(); /* relaxed: a switch */
  if (gch_likely(at_load(&k->rule_count) == 0)) return true;
  if (!kernel_rules_look(k, id, (uintptr_t)address, bytes, &c->verdict)) return true;
  at_add_relaxed(&k->counters[id].injected, 1); /* relaxed: a figure */
  if (c->verdict.delay_ns != 0) kernel_delay(c->verdict.delay_ns);
  if (c->verdict.error == 0 || c->verdict.after || c->verdict.partial_bytes != 0) return true;
  *refused = call_end(c, -c->verdict.error);
  return false;
}

/* The answer of a call that says -1 and errno, or a count. */
static int answer(long result) { return result < 0 ? -errno : (int)result; }

/* --- address space ------------------------------------------------------------------------------------- */
int kernel_mmap(struct kernel *k, void *addr, uint64_t bytes, int prot, int flags, int fd, uint64_t offset,
                void **out) {
  struct call c;
  int refused;
  if (!call_begin(&c, k, KERNEL_MMAP, addr, NULL, bytes, &refused)) return refused;
  void *at = mmap(addr, bytes, prot, flags, fd, (off_t)offset);
  if (at == MAP_FAILED) return call_end(&c, -errno);
  *out = at;
  return call_end(&c, 0);
}

int kernel_munmap(struct kernel *k, void *addr, uint64_t bytes) {
  struct call c;
  int refused;
  if (!call_begin(&c, k, KERNEL_MUNMAP, addr, NULL, bytes, &refused)) return refused;
  return call_end(&c, answer(munmap(addr, bytes)));
}

int kernel_mremap_dontunmap(struct kernel *k, void *old, uint64_t bytes, void *to) {
  struct call c;
  int refused;
  if (!call_begin(&c, k, KERNEL_MREMAP, old, to, bytes, &refused)) return refused;
  void *at = mremap(old, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | UABI_MREMAP_DONTUNMAP, to);
  return call_end(&c, at == MAP_FAILED ? -errno : 0);
}

static enum kernel_call advice_call(int advice) {
  switch (advice) {
    case MADV_DONTNEED: return KERNEL_DROP;
    case UABI_MADV_POPULATE_READ:
    case UABI_MADV_POPULATE_WRITE: return KERNEL_POPULATE;
    case UABI_MADV_COLLAPSE: return KERNEL_COLLAPSE;
    default: return KERNEL_MADVISE;
  }
}

int kernel_madvise(struct kernel *k, void *addr, uint64_t bytes, int advice) {
  struct call c;
  int refused;
  if (!call_begin(&c, k, advice_call(advice), addr, NULL, bytes, &refused)) return refused;
  return call_end(&c, answer(madvise(addr, bytes, advice)));
}

int kernel_mprotect(struct kernel *k, void *addr, uint64_t bytes, int prot) {
  struct call c;
  int refused;
  if (!call_begin(&c, k, KERNEL_MPROTECT, addr, NULL, bytes, &refused)) return refused;
  return call_end(&c, answer(mprotect(addr, bytes, prot)));
}

int kernel_memfd(struct kernel *k, const char *name, int *fd) {
  struct call c;
  int refused;
  *fd = -1;
  if (!call_begin(&c, k, KERNEL_MEMFD, NULL, NULL, 0, &refused)) return refused;
  int got = (int)syscall(SYS_memfd_create, name, 1u /* MFD_CLOEXEC */);
  if (got < 0) return call_end(&c, -errno);
  *fd = got;
  return call_end(&c, 0);
}

int kernel_ftruncate(struct kernel *k, int fd, uint64_t bytes) {
  struct call c;
  int refused;
  if (!call_begin(&c, k, KERNEL_FTRUNCATE, NULL, NULL, bytes, &refused)) return refused;
  return call_end(&c, answer(ftruncate(fd, (off_t)bytes)));
}

int kernel_fallocate_punch(struct kernel *k, int fd, uint64_t offset, uint64_t bytes) {
  struct call c;
  int refused;
  if (!call_begin(&c, k, KERNEL_PUNCH, (void *)(uintptr_t)offset, NULL, bytes, &refused)) return refused;
  int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  return call_end(&c, answer(fallocate(fd, mode, (off_t)offset, (off_t)bytes)));
}

/* A refused close would leak, which no kernel does: rules only change the answer. */
int kernel_close_fd(struct kernel *k, int fd) {
  struct call c;
  int refused;
  if (!call_begin(&c, k, KERNEL_CLOSE, NULL, NULL, 0, &refused)) {
    (void)close(fd);
    errno = c.saved_errno;
    return refused;
  }
  return call_end(&c, answer(close(fd)));
}

/* EBUSY: another thread is opening a file. Rules only change the answer, as above. */
int kernel_replace_fd(struct kernel *k, int fd, int by) {
  struct call c;
  int refused = 0, result;
  bool made = call_begin(&c, k, KERNEL_CLOSE, NULL, NULL, 0, &refused);
  do result = answer(dup3(by, fd, O_CLOEXEC));
  while (result == -EINTR || result == -EBUSY);
  if (made) return call_end(&c, result < 0 ? result : 0);
  errno = c.saved_errno;
  return refused;
}

/* --- userfaultfd --------------------------------------------------------------------------------------- */
/* A descriptor without handshake, or a negative errno. */
static int uffd_new(const struct kernel_uffd_request *request) {
  int flags = O_CLOEXEC | (request->nonblock ? O_NONBLOCK : 0) | (request->user_mode_only ? UABI_USER_MODE_ONLY : 0);
  if (request->how == KERNEL_UFFD_SYSCALL) return answer(syscall(SYS_userfaultfd, flags));
  int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  if (device < 0) return -errno;
  int fd = answer(ioctl(device, UABI_DEVICE_NEW, (unsigned long)flags));
  (void)close(device);
  return fd;
}

int kernel_uffd_open(struct kernel *k, const struct kernel_uffd_request *request, struct kernel_uffd_opened *out) {
  struct call c;
  int refused;
  *out = (struct kernel_uffd_opened){.fd = -1};
  if (!call_begin(&c, k, KERNEL_UFFD_OPEN, NULL, NULL, 0, &refused)) return refused;
  int fd = uffd_new(request);
  if (fd < 0) return call_end(&c, fd);
  struct uabi_api api = {.api = UABI_API, .features = request->features};
  if (ioctl(fd, UABI_IOC_API, &api) != 0) {
    int error = -errno;
    (void)close(fd);
    return call_end(&c, error);
  }
  if (c.verdict.without_move) api.features &= ~UABI_FEATURE_MOVE;
  *out = (struct kernel_uffd_opened){.fd = fd, .features = api.features, .ioctls = api.ioctls};
  return call_end(&c, 0);
}

int kernel_uffd_register(struct kernel *k, int fd, void *addr, uint64_t bytes, uint64_t mode, uint64_t *ioctls) {
  struct call c;
  int refused;
  if (!call_begin(&c, k, KERNEL_REGISTER, addr, NULL, bytes, &refused)) return refused;
  struct uabi_register arg = {.range = {(uintptr_t)addr, bytes}, .mode = mode};
  int result = answer(ioctl(fd, UABI_IOC_REGISTER, &arg));
  if (c.verdict.without_move) arg.ioctls &= ~UABI_RANGE_MOVE;
  if (ioctls != NULL) *ioctls = result == 0 ? arg.ioctls : 0;
  return call_end(&c, result);
}

int kernel_uffd_unregister(struct kernel *k, int fd, void *addr, uint64_t bytes) {
  struct call c;
  int refused;
  if (!call_begin(&c, k, KERNEL_UNREGISTER, addr, NULL, bytes, &refused)) return refused;
  struct uabi_range arg = {(uintptr_t)addr, bytes};
  return call_end(&c, answer(ioctl(fd, UABI_IOC_UNREGISTER, &arg)));
}

/* How much of a transfer of `bytes` the rules let through: all of it, or whole pages of a part. */
static uint64_t transfer_bytes(const struct call *c, uint64_t bytes) {
  uint64_t part = align_up(c->verdict.partial_bytes, pages_size());
  return part != 0 && part < bytes ? part : bytes;
}

/* The end of move, copy and zeropage. `result`: of the call; `wrote`: its output field; `asked`: what it was given
 * of `bytes`. Error reports count nothing as done, as the kernel's do. */
static int transfer_end(struct call *c, int result, int64_t wrote, uint64_t asked, uint64_t bytes, uint64_t *done) {
  uint64_t moved = wrote > 0 ? (uint64_t)wrote : 0;
  if (result == 0 && asked < bytes) result = -EAGAIN; /* cut by a rule: what the kernel says of a partial move */
  if (result == 0 && c->verdict.after) moved = 0;
  if (done != NULL) *done = moved;
  return call_end(c, result);
}

int kernel_uffd_move(struct kernel *k, int fd, void *dst, void *src, uint64_t bytes, uint64_t mode, uint64_t *moved) {
  struct call c;
  int refused;
  if (moved != NULL) *moved = 0;
  if (!call_begin(&c, k, KERNEL_MOVE, dst, src, bytes, &refused)) return refused;
  uint64_t part = transfer_bytes(&c, bytes);
  struct uabi_move arg = {(uintptr_t)dst, (uintptr_t)src, part, mode, 0};
  int result = answer(ioctl(fd, UABI_IOC_MOVE, &arg));
  return transfer_end(&c, result, arg.move, part, bytes, moved);
}

int kernel_uffd_copy(struct kernel *k, int fd, void *dst, const void *src, uint64_t bytes, uint64_t mode,
                     uint64_t *copied) {
  struct call c;
  int refused;
  if (copied != NULL) *copied = 0;
  if (!call_begin(&c, k, KERNEL_COPY, dst, src, bytes, &refused)) return refused;
  uint64_t part = transfer_bytes(&c, bytes);
  struct uabi_copy arg = {(uintptr_t)dst, (uintptr_t)src, part, mode, 0};
  int result = answer(ioctl(fd, UABI_IOC_COPY, &arg));
  return transfer_end(&c, result, arg.copy, part, bytes, copied);
}

int kernel_uffd_zeropage(struct kernel *k, int fd, void *dst, uint64_t bytes, uint64_t mode, uint64_t *zeroed) {
  struct call c;
  int refused;
  if (zeroed != NULL) *zeroed = 0;
  if (!call_begin(&c, k, KERNEL_ZEROPAGE, dst, NULL, bytes, &refused)) return refused;
  uint64_t part = transfer_bytes(&c, bytes);
  struct uabi_zeropage arg = {{(uintptr_t)dst, part}, mode, 0};
  int result = answer(ioctl(fd, UABI_IOC_ZEROPAGE, &arg));
  return transfer_end(&c, result, arg.zeropage, part, bytes, zeroed);
}

int kernel_uffd_wake(struct kernel *k, int fd, void *addr, uint64_t bytes) {
  struct call c;
  int refused;
  if (!call_begin(&c, k, KERNEL_WAKE, addr, NULL, bytes, &refused)) return refused;
  struct uabi_range arg = {(uintptr_t)addr, bytes};
  return call_end(&c, answer(ioctl(fd, UABI_IOC_WAKE, &arg)));
}

int kernel_uffd_read(struct kernel *k, int fd, struct uabi_msg *out, uint32_t limit) {
  struct call c;
  int refused;
  if (!call_begin(&c, k, KERNEL_READ, NULL, NULL, limit * sizeof *out, &refused)) return refused;
  int bytes = answer(read(fd, out, limit * sizeof *out));
  return call_end(&c, bytes < 0 ? bytes : bytes / (int)sizeof *out);
}

/* --- looking ------------------------------------------------------------------------------------------- */
int kernel_pagemap_read(struct kernel *k, const void *addr, uint64_t pages, uint64_t *entries) {
  struct call c;
  int refused;
  if (!call_begin(&c, k, KERNEL_PAGEMAP, addr, NULL, pages, &refused)) return refused;
  if (k->pagemap_fd < 0) return call_end(&c, -ENOSYS);
  uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE); /* the kernel's, whatever a geometry test pretends */
  off_t offset = (off_t)((uintptr_t)addr / page_bytes * 8);
  ssize_t got = pread(k->pagemap_fd, entries, pages * 8, offset);
  if (got < 0) return call_end(&c, -errno);
  return call_end(&c, (uint64_t)got == pages * 8 ? 0 : -EFAULT);
}

int kernel_pagemap_present(struct kernel *k, const void *addr) {
  uint64_t entry = 0;
  int result = kernel_pagemap_read(k, addr, 1, &entry);
  if (result == 0) return (entry & (KERNEL_PAGEMAP_PRESENT | KERNEL_PAGEMAP_SWAPPED)) != 0;
  if (result != -ENOSYS) return result;
  int saved = errno;
  unsigned char resident = 0;
  uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
  int seen = mincore((void *)align_down((uintptr_t)addr, page_bytes), page_bytes, &resident);
  result = seen != 0 ? -errno : (resident & 1);
  errno = saved;
  return result;
}

#define BARRIER_EXPEDITED 8           /* MEMBARRIER_CMD_PRIVATE_EXPEDITED, Linux 4.14 */
#define BARRIER_REGISTER_EXPEDITED 16 /* MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED */

static int barrier_command(struct kernel *k, int command) {
  struct call c;
  int refused;
  if (!call_begin(&c, k, KERNEL_BARRIER, NULL, NULL, 0, &refused)) return refused;
  return call_end(&c, answer(syscall(SYS_membarrier, command, 0, 0)));
}

int kernel_barrier_register(struct kernel *k) { return barrier_command(k, BARRIER_REGISTER_EXPEDITED); }
int kernel_barrier(struct kernel *k) { return barrier_command(k, BARRIER_EXPEDITED); }

/* --- watchdog ------------------------------------------------------------------------------------------ */
/* A consistent copy of a watch that has run for longer than the limit; relaxed as in watch_fill. */
static bool watch_overdue(struct kernel_watch *watch, uint64_t now, uint64_t limit_ns, struct kernel_watch *copy) {
  uint64_t started = at_load(&watch->started_ns);
  if (started == 0 || now < started || now - started < limit_ns) return false;
  *copy = (struct kernel_watch){.started_ns = started,
                                .call = at_load_relaxed(&watch->call),
                                .thread = at_load_relaxed(&watch->thread),
                                .address = at_load_relaxed(&watch->address),
                                .other = at_load_relaxed(&watch->other),
                                .bytes = at_load_relaxed(&watch->bytes)};
  return at_load(&watch->started_ns) == started;
}

uint32_t kernel_watchdog_check(struct kernel *k, uint64_t limit_ns, kernel_watchdog_report *report, void *arg) {
  uint32_t overdue = 0;
  uint64_t now = clock_coarse_ns();
  for (uint32_t i = 0; i < KERNEL_WATCHES; i++) {
    struct kernel_watch copy;
    if (!watch_overdue(&k->watches[i], now, limit_ns, &copy)) continue;
    overdue++;
    if (at_xchg(&k->watches[i].reported, 1) == 0 && report != NULL) report(arg, &copy, now - copy.started_ns);
  }
  return overdue;
}
