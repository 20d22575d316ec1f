/* Userfaultfd descriptors. See uffd.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/uffd.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"

#define READ_MAX 64

const char *uffd_how_name(enum kernel_uffd_how how, bool user_mode_only) {
  if (how == KERNEL_UFFD_DEVICE) return user_mode_only ? "/dev/userfaultfd, user mode only" : "/dev/userfaultfd";
  return user_mode_only ? "userfaultfd(2), user mode only" : "userfaultfd(2)";
}

static void add_reason(struct uffd *u, const struct kernel_uffd_request *request, int error) {
  char cause[64];
  size_t used = strlen(u->reasons);
  const char *text = strerror_r(-error, cause, sizeof cause);
  (void)snprintf(u->reasons + used, sizeof u->reasons - used, "%s%s: %s.", used > 0 ? " " : "",
                 uffd_how_name(request->how, request->user_mode_only), text);
}

/* 0 if the descriptor was opened with what the wish needs. */
static int open_one(struct kernel *k, const struct kernel_uffd_request *request, struct uffd *out) {
  struct kernel_uffd_opened opened;
  int result = kernel_uffd_open(k, request, &opened);
  if (result != 0) {
    add_reason(out, request, result);
    return result;
  }
  out->fd = opened.fd;
  out->how = request->how;
  out->user_mode_only = request->user_mode_only;
  out->features = opened.features;
  return 0;
}

int uffd_open(struct kernel *k, const struct uffd_wish *wish, struct uffd *out) {
  memset(out, 0, sizeof *out);
  out->fd = -1;
  out->faults = wish->faults;
  uint64_t features = wish->features | (wish->faults == UFFD_FAULTS_SIGNAL ? UABI_FEATURE_SIGBUS : 0);
  int result = -ENOENT;
  for (int user = wish->want_user_mode_only ? 1 : 0; user <= 1; user++) {
    if (user == 1 && !wish->want_user_mode_only && !wish->allow_user_mode_only) break;
    for (int how = 0; how < KERNEL_UFFD_HOW_COUNT; how++) {
      struct kernel_uffd_request request = {(enum kernel_uffd_how)how, user == 1, true, features};
      result = open_one(k, &request, out);
      if (result == 0) return 0;
    }
  }
  return result;
}

void uffd_close(struct kernel *k, struct uffd *u) {
  if (u->fd >= 0) (void)kernel_close_fd(k, u->fd);
  u->fd = -1;
}

/* --- ranges -------------------------------------------------------------------------------------------- */
static int register_needing(struct kernel *k, const struct uffd *u, void *addr, uint64_t bytes, uint64_t mode,
                            uint64_t needed) {
  uint64_t offered = 0;
  int result = kernel_uffd_register(k, u->fd, addr, bytes, mode, &offered);
  if (result != 0 || (offered & needed) == needed) return result;
  (void)kernel_uffd_unregister(k, u->fd, addr, bytes);
  return -ENOTSUP;
}

int uffd_register_missing(struct kernel *k, const struct uffd *u, void *addr, uint64_t bytes, uint64_t needed) {
  return register_needing(k, u, addr, bytes, UABI_REGISTER_MISSING, needed);
}

int uffd_register_quiet(struct kernel *k, const struct uffd *u, void *addr, uint64_t bytes, uint64_t needed) {
  return register_needing(k, u, addr, bytes, UABI_REGISTER_WP, needed);
}

int uffd_unregister(struct kernel *k, const struct uffd *u, void *addr, uint64_t bytes) {
  return kernel_uffd_unregister(k, u->fd, addr, bytes);
}

/* --- faults -------------------------------------------------------------------------------------------- */
int uffd_read_faults(struct kernel *k, const struct uffd *u, struct uffd_fault *out, uint32_t limit,
                     uint32_t *skipped) {
  struct uabi_msg messages[READ_MAX];
  int found = 0;
  int got = kernel_uffd_read(k, u->fd, messages, limit < READ_MAX ? limit : READ_MAX);
  if (got < 0) return got == -EAGAIN || got == -EINTR ? 0 : got;
  for (int i = 0; i < got; i++) {
    const struct uabi_msg *m = &messages[i];
    if (m->event != UABI_EVENT_PAGEFAULT) {
      if (skipped != NULL) ++*skipped;
      continue;
    }
    out[found++] = (struct uffd_fault){m->address, m->thread, (m->flags & UABI_PAGEFAULT_WRITE) != 0};
  }
  return found;
}

/* --- waiting ------------------------------------------------------------------------------------------- */
int uffd_wait(const struct uffd *u, int bell_fd, int timeout_ms) {
  struct pollfd fds[2] = {{u->fd, POLLIN, 0}, {bell_fd, POLLIN, 0}};
  int saved = errno, got;
  do got = poll(fds, bell_fd >= 0 ? 2 : 1, timeout_ms);
  while (got < 0 && errno == EINTR);
  int error = got < 0 ? -errno : 0;
  errno = saved;
  if (error != 0) return error;
  if (fds[0].revents & (POLLERR | POLLNVAL)) return -EIO;
  return ((fds[0].revents & POLLIN) ? UFFD_READY_FAULT : 0) |
         (bell_fd >= 0 && (fds[1].revents & POLLIN) ? UFFD_READY_BELL : 0);
}

int bell_open(int *fd) {
  int saved = errno;
  *fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int result = *fd < 0 ? -errno : 0;
  errno = saved;
  return result;
}

/* A full counter (EAGAIN) rings as well. */
void bell_ring(int fd) {
  int saved = errno;
  uint64_t one = 1;
  while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
  errno = saved;
}

void bell_clear(int fd) {
  int saved = errno;
  uint64_t count;
  while (read(fd, &count, sizeof count) < 0 && errno == EINTR) {
  }
  errno = saved;
}

void bell_close(int fd) {
  if (fd >= 0) (void)close(fd);
}
