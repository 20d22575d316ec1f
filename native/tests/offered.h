/* Whether this kernel offers UFFDIO_MOVE to this process: asked of the kernel itself, not of the library's probe, so that a
 * probe that is wrong does not make every test of `move` pass unseen. .ci/skips asks in the same way. */
#ifndef TESTS_OFFERED_H
#define TESTS_OFFERED_H

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { OFFERED_FEATURE_MOVE = 1 << 16, OFFERED_USER_MODE_ONLY = 1 };

/* A userfaultfd, opened in whichever way works; -1 if none does. */
static inline int offered_open(void) {
  int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
  if (fd < 0) fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | OFFERED_USER_MODE_ONLY);
  if (fd >= 0) return fd;
  int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  if (device < 0) return -1;
  fd = ioctl(device, _IO(0xAA, 0), O_CLOEXEC); /* USERFAULTFD_IOC_NEW; older headers lack it */
  close(device);
  return fd;
}

static inline bool offered_move(void) {
  struct uffdio_api api = {.api = UFFD_API};
  int fd = offered_open();
  if (fd < 0) return false;
  bool offered = ioctl(fd, UFFDIO_API, &api) == 0 && (api.features & OFFERED_FEATURE_MOVE) != 0;
  close(fd);
  return offered;
}

#endif
