/* Trials of every call that a mover needs, on mappings of its own; see probe.h. Costs are in probe_calibrate.c.
 *
 * A trial writes its result into a probe_item; a trial that cannot be set up says why, and the probe goes on. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/probe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include "base/check.h"
#include "os/thread.h"
#include "os/uffd.h"

#define TRIAL_PAGES 2
#define PATTERN 0x67636865617030ull

__attribute__((format(printf, 3, 4))) static void item_set(struct probe_item *item, int error, const char *format,
                                                           ...) {
  va_list args;
  va_start(args, format);
  item->works = error == 0;
  item->error = error < 0 ? -error : error;
  (void)vsnprintf(item->text, sizeof item->text, format, args);
  va_end(args);
}

/* The usual report of a trial: what was tried, and the errno as text. */
static void item_result(struct probe_item *item, int error, const char *what) {
  char cause[64];
  if (error == 0) {
    item_set(item, 0, "%s works.", what);
    return;
  }
  item_set(item, error, "%s fails: %s.", what, strerror_r(-error, cause, sizeof cause));
}

/* --- ways to open -------------------------------------------------------------------------------------- */
static enum kernel_uffd_how opening_how(int opening) {
  bool device = opening == PROBE_OPEN_DEVICE || opening == PROBE_OPEN_DEVICE_USER_MODE;
  return device ? KERNEL_UFFD_DEVICE : KERNEL_UFFD_SYSCALL;
}

static bool opening_user_mode(int opening) { return opening >= PROBE_OPEN_DEVICE_USER_MODE; }

const char *probe_opening_name(enum probe_opening opening) {
  return uffd_how_name(opening_how((int)opening), opening_user_mode((int)opening));
}

static const char *opening_hint(enum kernel_uffd_how how, int error) {
  bool device = how == KERNEL_UFFD_DEVICE;
  switch (-error) {
    case EPERM:
      return device ? "a security policy forbids it" : "it needs CAP_SYS_PTRACE or vm.unprivileged_userfaultfd=1";
    case EACCES: return "the device file's mode does not allow it (0600 by default)";
    case ENOENT:
    case ENXIO:
    case ENODEV: return "there is no such device here (Linux before 6.1, or a container without it)";
    case ENOSYS: return "the kernel was built without userfaultfd, or a seccomp filter hides it";
    case EINVAL: return "this kernel does not know the flags (user mode only needs Linux 5.11)";
    default: return "";
  }
}

static void try_openings(struct kernel *k, struct probe *out) {
  for (int i = 0; i < PROBE_OPENING_COUNT; i++) {
    struct kernel_uffd_opened opened;
    struct kernel_uffd_request request = {opening_how(i), opening_user_mode(i), true, 0};
    int result = kernel_uffd_open(k, &request, &opened);
    const char *name = probe_opening_name((enum probe_opening)i);
    if (result != 0) {
      char cause[64];
      item_set(&out->openings[i], result, "%s fails: %s; %s.", name, strerror_r(-result, cause, sizeof cause),
               opening_hint(request.how, result));
      continue;
    }
    item_set(&out->openings[i], 0, "%s works.", name);
    if (out->uffd_features == 0) {
      out->uffd_features = opened.features;
      out->user_mode_only = request.user_mode_only;
    }
    (void)kernel_close_fd(k, opened.fd);
  }
}

/* --- trials with a descriptor -------------------------------------------------------------------------- */
struct trial {
  struct kernel *k;
  struct uffd uffd;
  uint64_t bytes; /* of each side */
  uint64_t *src, *dst;
};

static int map_open(struct kernel *k, uint64_t bytes, uint64_t **out) {
  void *at = NULL;
  int result = kernel_mmap(k, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &at);
  *out = at;
  return result;
}

static void trial_close(struct trial *t) {
  uffd_close(t->k, &t->uffd);
  if (t->src != NULL) (void)kernel_munmap(t->k, t->src, t->bytes);
  if (t->dst != NULL) (void)kernel_munmap(t->k, t->dst, t->bytes);
}

/* Two mappings, the first one written, and a descriptor. */
static int trial_open(struct trial *t, struct kernel *k, enum uffd_faults faults) {
  *t = (struct trial){.k = k, .uffd = {.fd = -1}, .bytes = TRIAL_PAGES * pages_size()};
  struct uffd_wish wish = {.faults = faults, .allow_user_mode_only = true};
  int result = uffd_open(k, &wish, &t->uffd);
  if (result == 0) result = map_open(k, t->bytes, &t->src);
  if (result == 0) result = map_open(k, t->bytes, &t->dst);
  if (result == 0) {
    for (uint64_t i = 0; i < t->bytes / sizeof *t->src; i++) t->src[i] = PATTERN + i;
    return 0;
  }
  trial_close(t);
  return result;
}

/* After a transfer of everything: -EIO if the destination does not hold what the source held. The destination is
 * read only if it is populated: a missing page would block. */
static int trial_verify(struct trial *t, int result, uint64_t done) {
  if (result != 0) return result;
  if (done != t->bytes) return -EIO;
  for (uint64_t i = 0; i < t->bytes / sizeof *t->dst; i++)
    if (t->dst[i] != PATTERN + i) return -EIO;
  return 0;
}

enum transfer { TRANSFER_MOVE, TRANSFER_COPY, TRANSFER_ZEROPAGE };

static int trial_transfer(struct trial *t, enum transfer how) {
  uint64_t done = 0;
  int fd = t->uffd.fd, result;
  if (how == TRANSFER_ZEROPAGE) {
    result = kernel_uffd_zeropage(t->k, fd, t->dst, t->bytes, 0, &done);
    return result == 0 && t->dst[0] != 0 ? -EIO : result;
  }
  result = how == TRANSFER_MOVE ? kernel_uffd_move(t->k, fd, t->dst, t->src, t->bytes, 0, &done)
                                : kernel_uffd_copy(t->k, fd, t->dst, t->src, t->bytes, 0, &done);
  return trial_verify(t, result, done);
}

static int try_transfer(struct kernel *k, enum transfer how, uint64_t mode) {
  struct trial t;
  int result = trial_open(&t, k, UFFD_FAULTS_THREAD);
  if (result != 0) return result;
  result = kernel_uffd_register(k, t.uffd.fd, t.dst, t.bytes, mode, NULL);
  if (result == 0) result = trial_transfer(&t, how);
  trial_close(&t);
  return result;
}

static void try_uffd(struct kernel *k, struct probe *out) {
  item_result(&out->move, try_transfer(k, TRANSFER_MOVE, UABI_REGISTER_MISSING), "UFFDIO_MOVE");
  item_result(&out->copy, try_transfer(k, TRANSFER_COPY, UABI_REGISTER_MISSING), "UFFDIO_COPY");
  item_result(&out->zeropage, try_transfer(k, TRANSFER_ZEROPAGE, UABI_REGISTER_MISSING), "UFFDIO_ZEROPAGE");
  item_result(&out->quiet_copy, try_transfer(k, TRANSFER_COPY, UABI_REGISTER_WP),
              "UFFDIO_COPY into a range registered for write protection only");
  out->quiet = out->quiet_copy;
  if (out->move.works)
    item_result(&out->quiet, try_transfer(k, TRANSFER_MOVE, UABI_REGISTER_WP),
                "UFFDIO_MOVE into a range registered for write protection only");
  struct trial t;
  int result = trial_open(&t, k, UFFD_FAULTS_SIGNAL);
  item_result(&out->sigbus, result, "UFFD_FEATURE_SIGBUS");
  if (result == 0) trial_close(&t);
}

/* --- trials without ------------------------------------------------------------------------------------ */
static int try_dontunmap(struct kernel *k) {
  uint64_t bytes = TRIAL_PAGES * pages_size(), *from = NULL, *to = NULL;
  int result = map_open(k, bytes, &from);
  if (result != 0) return result;
  result = map_open(k, bytes, &to);
  if (result == 0) {
    from[0] = PATTERN;
    result = kernel_mremap_dontunmap(k, from, bytes, to);
    if (result == 0 && (to[0] != PATTERN || from[0] != 0)) result = -EIO;
    (void)kernel_munmap(k, to, bytes);
  }
  (void)kernel_munmap(k, from, bytes);
  return result;
}

static int try_populate(struct kernel *k) {
  uint64_t bytes = TRIAL_PAGES * pages_size(), *at = NULL;
  int result = map_open(k, bytes, &at);
  if (result != 0) return result;
  result = kernel_madvise(k, at, bytes, UABI_MADV_POPULATE_WRITE);
  (void)kernel_munmap(k, at, bytes);
  return result;
}

static int try_collapse(struct kernel *k) {
  uint64_t bytes = pages_huge_size();
  void *at = NULL;
  int result = pages_reserve(k, bytes, bytes, &at, NULL);
  if (result != 0) return result;
  result = pages_commit_region(k, at, bytes);
  if (result == 0) {
    *(uint64_t *)at = PATTERN;
    result = kernel_madvise(k, at, bytes, UABI_MADV_COLLAPSE);
    if (result == 0 && *(uint64_t *)at != PATTERN) result = -EIO;
  }
  (void)pages_release(k, at, bytes);
  return result;
}

static int map_shared(struct kernel *k, int fd, uint64_t bytes, uint64_t **out) {
  void *at = NULL;
  int result = kernel_mmap(k, NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0, &at);
  *out = at;
  return result;
}

static int try_memfd(struct kernel *k) {
  uint64_t bytes = pages_size(), *one = NULL, *two = NULL;
  int fd;
  int result = kernel_memfd(k, "gcheap-probe", &fd);
  if (result != 0) return result;
  result = kernel_ftruncate(k, fd, bytes);
  if (result == 0) result = map_shared(k, fd, bytes, &one);
  if (result == 0) result = map_shared(k, fd, bytes, &two);
  if (result == 0) {
    one[0] = PATTERN;
    if (*(volatile uint64_t *)two != PATTERN) result = -EIO;
  }
  if (one != NULL) (void)kernel_munmap(k, one, bytes);
  if (two != NULL) (void)kernel_munmap(k, two, bytes);
  (void)kernel_close_fd(k, fd);
  return result;
}

static int try_pagemap(struct kernel *k) {
  uint64_t bytes = TRIAL_PAGES * pages_size(), *at = NULL, entry;
  int result = map_open(k, bytes, &at);
  if (result != 0) return result;
  at[0] = PATTERN;
  result = kernel_pagemap_read(k, at, 1, &entry);
  if (result == 0 && kernel_pagemap_present(k, at) != 1) result = -EIO;
  if (result == 0 && kernel_pagemap_present(k, (char *)at + pages_size()) != 0) result = -EIO;
  (void)kernel_munmap(k, at, bytes);
  return result;
}

static int try_barrier(struct kernel *k) {
  int result = kernel_barrier_register(k);
  return result == 0 ? kernel_barrier(k) : result;
}

static void try_memory(struct kernel *k, struct probe *out) {
  item_result(&out->dontunmap, try_dontunmap(k), "mremap(MREMAP_DONTUNMAP)");
  item_result(&out->populate, try_populate(k), "MADV_POPULATE_WRITE");
  item_result(&out->collapse, try_collapse(k), "MADV_COLLAPSE");
  item_result(&out->memfd, try_memfd(k), "A memfd mapped twice");
  item_result(&out->pagemap, try_pagemap(k), "/proc/self/pagemap");
  item_result(&out->barrier, try_barrier(k), "membarrier(PRIVATE_EXPEDITED)");
}

/* --- conclusions --------------------------------------------------------------------------------------- */
bool probe_release_moves_by_auto(uint32_t major, uint32_t minor, uint32_t patch) {
  if (major != 6) return major > 6;
  if (minor == 12) return patch >= 20;
  if (minor == 13) return patch >= 8;
  return minor > 13;
}

static void read_release(struct probe *out) {
  struct utsname name;
  if (uname(&name) != 0) return;
  (void)snprintf(out->kernel_release, sizeof out->kernel_release, "%.64s", name.release);
  unsigned major = 0, minor = 0, patch = 0;
  if (sscanf(name.release, "%u.%u.%u", &major, &minor, &patch) < 2) return;
  out->release[0] = major;
  out->release[1] = minor;
  out->release[2] = patch;
  out->release_moves_by_auto = probe_release_moves_by_auto(major, minor, patch);
}

const char *probe_mover_name(enum probe_mover mover) {
  static const char *const names[PROBE_MOVER_COUNT] = {"move", "copy", "simulated", "memcpy"};
  return (unsigned)mover < PROBE_MOVER_COUNT ? names[mover] : "unknown";
}

/* A mover on userfaultfd needs a descriptor, its own call, also into ranges that are registered quiet, and mremap for the
 * flip. */
static void conclude_uffd(const struct probe *p, const struct probe_item *call, const struct probe_item *quiet,
                          const char *name, struct probe_item *mover) {
  const struct probe_item *missing = !call->works          ? call
                                     : !quiet->works       ? quiet
                                     : !p->dontunmap.works ? &p->dontunmap
                                                           : NULL;
  if (p->uffd_features == 0)
    item_set(mover, p->openings[PROBE_OPEN_SYSCALL].error, "No way to open userfaultfd works.");
  else if (missing != NULL)
    item_set(mover, missing->error, "%s", missing->text);
  else
    item_set(mover, 0, "%s and mremap work%s.", name,
             p->user_mode_only ? ", in user mode only: system calls on missing pages fail" : "");
}

static void conclude(struct probe *p) {
  conclude_uffd(p, &p->move, &p->quiet, "UFFDIO_MOVE", &p->movers[PROBE_MOVE]);
  conclude_uffd(p, &p->copy, &p->quiet_copy, "UFFDIO_COPY", &p->movers[PROBE_COPY]);
  if (p->memfd.works)
    item_set(&p->movers[PROBE_SIMULATED], 0, "A shared object can be mapped twice; needs no privilege.");
  else
    item_set(&p->movers[PROBE_SIMULATED], p->memfd.error, "%s", p->memfd.text);
  item_set(&p->movers[PROBE_MEMCPY], 0, "Needs nothing; works in the pause.");
  enum probe_mover pick = PROBE_MOVE;
  bool skip_move = p->movers[PROBE_MOVE].works && !p->release_moves_by_auto;
  if (skip_move) pick = PROBE_COPY;
  while (pick < PROBE_MEMCPY && !p->movers[pick].works) pick = (enum probe_mover)(pick + 1);
  p->chosen = pick;
  /* Shortened by hand: the sentence of the best mover that is not there is the reason. */
  if (skip_move)
    (void)snprintf(p->chosen_text, sizeof p->chosen_text, "Linux %s has early bugs in UFFDIO_MOVE; %s is next.",
                   p->kernel_release, probe_mover_name(pick));
  else if (pick == PROBE_MOVE)
    (void)snprintf(p->chosen_text, sizeof p->chosen_text, "UFFDIO_MOVE works and Linux %s has its fixes.",
                   p->kernel_release);
  else
    (void)snprintf(p->chosen_text, sizeof p->chosen_text, "%.*s %s is next.", PROBE_TEXT - 24,
                   p->movers[PROBE_MOVE].text, probe_mover_name(pick));
}

void probe_run(struct kernel *k, struct probe *out) {
  memset(out, 0, sizeof *out);
  out->page_bytes = pages_size();
  out->huge_bytes = pages_huge_size();
  out->thp = pages_thp_policy();
  out->cpus = thread_cpu_count();
  read_release(out);
  try_openings(k, out);
  try_uffd(k, out);
  try_memory(k, out);
  conclude(out);
}
