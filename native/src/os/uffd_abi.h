/* The userfaultfd interface of the kernel, under names of our own, complete up to UFFDIO_MOVE.
 *
 * The system's <linux/userfaultfd.h> may predate what the running kernel offers (UFFDIO_MOVE came with 6.8), so
 * this is the whole of what we use. Layouts and numbers are kernel ABI: include/uapi/linux/userfaultfd.h,
 * described in Documentation/admin-guide/mm/userfaultfd.rst, userfaultfd(2), ioctl_userfaultfd(2) and the
 * UFFDIO_* manual pages (UFFDIO_MOVE(2const)). What the calls really answer: os/kernel.h. */
#ifndef GCH_OS_UFFD_ABI_H
#define GCH_OS_UFFD_ABI_H

#include <stdint.h>
#include <sys/ioctl.h>

#define UABI_API 0xAAull
#define UABI_USER_MODE_ONLY 1 /* flag of userfaultfd(2) and USERFAULTFD_IOC_NEW, Linux 5.11 */

/* Features, struct uabi_api.features. */
#define UABI_FEATURE_PAGEFAULT_FLAG_WP (1ull << 0)
#define UABI_FEATURE_EVENT_FORK (1ull << 1)
#define UABI_FEATURE_EVENT_REMAP (1ull << 2)
#define UABI_FEATURE_EVENT_REMOVE (1ull << 3)
#define UABI_FEATURE_EVENT_UNMAP (1ull << 6)
#define UABI_FEATURE_SIGBUS (1ull << 7)
#define UABI_FEATURE_THREAD_ID (1ull << 8)
#define UABI_FEATURE_EXACT_ADDRESS (1ull << 11)
#define UABI_FEATURE_WP_HUGETLBFS_SHMEM (1ull << 12)
#define UABI_FEATURE_WP_UNPOPULATED (1ull << 13) /* 6.4 */
#define UABI_FEATURE_POISON (1ull << 14)         /* 6.6 */
#define UABI_FEATURE_WP_ASYNC (1ull << 15)       /* 6.7 */
#define UABI_FEATURE_MOVE (1ull << 16)           /* 6.8; the call works without asking for the feature */

#define UABI_REGISTER_MISSING (1ull << 0)
#define UABI_REGISTER_WP (1ull << 1)

#define UABI_MOVE_DONTWAKE (1ull << 0)
#define UABI_MOVE_ALLOW_SRC_HOLES (1ull << 1) /* never used: can spin for ever on 6.18 */
#define UABI_COPY_DONTWAKE (1ull << 0)
#define UABI_ZEROPAGE_DONTWAKE (1ull << 0)

#define UABI_EVENT_PAGEFAULT 0x12
#define UABI_PAGEFAULT_WRITE (1ull << 0)
#define UABI_PAGEFAULT_WP (1ull << 1)
#define UABI_PAGEFAULT_MINOR (1ull << 2)

/* Bits of struct uabi_register.ioctls: which calls the range accepts. */
#define UABI_RANGE_WAKE (1ull << 0x02)
#define UABI_RANGE_COPY (1ull << 0x03)
#define UABI_RANGE_ZEROPAGE (1ull << 0x04)
#define UABI_RANGE_MOVE (1ull << 0x05)
#define UABI_RANGE_WRITEPROTECT (1ull << 0x06)

struct uabi_api {
  uint64_t api;
  uint64_t features; /* in: wanted; out: all that the kernel offers */
  uint64_t ioctls;
};

struct uabi_range {
  uint64_t start;
  uint64_t len;
};

struct uabi_register {
  struct uabi_range range;
  uint64_t mode;
  uint64_t ioctls; /* out */
};

struct uabi_copy {
  uint64_t dst;
  uint64_t src;
  uint64_t len;
  uint64_t mode;
  int64_t copy; /* out: bytes copied, or a negative errno */
};

struct uabi_zeropage {
  struct uabi_range range;
  uint64_t mode;
  int64_t zeropage; /* out */
};

struct uabi_move {
  uint64_t dst;
  uint64_t src;
  uint64_t len;
  uint64_t mode;
  int64_t move; /* out: bytes moved, or a negative errno; argument errors leave it untouched */
};

/* What read(2) delivers; fields of the page fault event only. */
struct uabi_msg {
  uint8_t event;
  uint8_t reserved1;
  uint16_t reserved2;
  uint32_t reserved3;
  uint64_t flags;
  uint64_t address;
  uint32_t thread; /* with UABI_FEATURE_THREAD_ID */
  uint32_t reserved4;
};

_Static_assert(sizeof(struct uabi_move) == 40, "kernel ABI");
_Static_assert(sizeof(struct uabi_copy) == 40, "kernel ABI");
_Static_assert(sizeof(struct uabi_zeropage) == 32, "kernel ABI");
_Static_assert(sizeof(struct uabi_register) == 32, "kernel ABI");
_Static_assert(sizeof(struct uabi_msg) == 32, "kernel ABI");

#define UABI_DEVICE_NEW _IO(0xAA, 0x00) /* ioctl of /dev/userfaultfd, Linux 6.1; the argument is the flags */
#define UABI_IOC_API _IOWR(0xAA, 0x3F, struct uabi_api)
#define UABI_IOC_REGISTER _IOWR(0xAA, 0x00, struct uabi_register)
#define UABI_IOC_UNREGISTER _IOR(0xAA, 0x01, struct uabi_range)
#define UABI_IOC_WAKE _IOR(0xAA, 0x02, struct uabi_range)
#define UABI_IOC_COPY _IOWR(0xAA, 0x03, struct uabi_copy)
#define UABI_IOC_ZEROPAGE _IOWR(0xAA, 0x04, struct uabi_zeropage)
#define UABI_IOC_MOVE _IOWR(0xAA, 0x05, struct uabi_move)

/* Advice that <sys/mman.h> may lack (asm-generic/mman-common.h). */
#define UABI_MADV_POPULATE_READ 22
#define UABI_MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#define UABI_MADV_COLLAPSE 25       /* Linux 6.1 */
#define UABI_MREMAP_DONTUNMAP 4     /* Linux 5.7 */

#endif
