/* Userfaultfd for the floor programs, with what older headers lack. Calls answer whether they worked. */
#ifndef FLOOR_UFFD_H
#define FLOOR_UFFD_H

#include "floor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFDIO_MOVE
struct uffdio_move {
  uint64_t dst, src, len, mode;
  int64_t move;
};
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE (1 << 16)
#endif

static inline int uffd_with(uint64_t features) {
  int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
  struct uffdio_api api = {.api = UFFD_API, .features = features};
  return fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 ? fd : -1;
}

static inline int uffd_new(void) { return uffd_with(0); }

static inline bool uffd_enlist(int fd, char *at, uint64_t bytes) {
  struct uffdio_register range = {.range = {(uintptr_t)at, bytes}, .mode = UFFDIO_REGISTER_MODE_MISSING};
  return ioctl(fd, UFFDIO_REGISTER, &range) == 0;
}

static inline void uffd_leave(int fd, char *at, uint64_t bytes) {
  struct uffdio_range range = {(uintptr_t)at, bytes};
  ioctl(fd, UFFDIO_UNREGISTER, &range);
}

/* The kernel may stop in between, for a moment. */
static inline bool uffd_move(int fd, char *to, char *from, uint64_t bytes) {
  for (uint64_t done = 0; done < bytes;) {
    struct uffdio_move move = {(uintptr_t)to + done, (uintptr_t)from + done, bytes - done, 0, 0};
    if (ioctl(fd, UFFDIO_MOVE, &move) != 0 && errno != EAGAIN) return false;
    if (move.move > 0) done += (uint64_t)move.move;
  }
  return true;
}

static inline bool uffd_copy(int fd, char *to, const char *from, uint64_t bytes) {
  for (uint64_t done = 0; done < bytes;) {
    struct uffdio_copy copy = {.dst = (uintptr_t)to + done, .src = (uintptr_t)from + done, .len = bytes - done};
    if (ioctl(fd, UFFDIO_COPY, &copy) != 0 && errno != EAGAIN) return false;
    if (copy.copy > 0) done += (uint64_t)copy.copy;
  }
  return true;
}

#endif
