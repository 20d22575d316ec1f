/* What this machine, this kernel and these permissions allow: found by trying, reported with reasons (I10).
 *
 * probe_run makes small mappings of its own and tries every call for real; it takes a few milliseconds and changes
 * nothing in the process (a SIGBUS handler is never installed: the SIGBUS feature is tried in the handshake only).
 * probe_calibrate measures what the calls cost here, within about 25 ms, for the planner.
 *
 * The rule for `auto` and page moves: UFFDIO_MOVE exists since Linux 6.8, and is chosen unasked from 6.12.20 (on the
 * 6.12 branch) and 6.13.8 (on 6.13 and every later branch) on, where its early data-loss bugs are fixed. Before that
 * it is available to whoever asks for it. Threads: any; each call uses its own descriptors. */
#ifndef GCH_OS_PROBE_H
#define GCH_OS_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "os/kernel.h"
#include "os/pages.h"

#define PROBE_TEXT 160

/* One capability: whether it works, the errno if not, and a sentence. */
struct probe_item {
  bool works;
  int error; /* positive errno; 0 if it works, or if it was not tried */
  char text[PROBE_TEXT];
};

enum probe_mover { PROBE_MOVE, PROBE_COPY, PROBE_SIMULATED, PROBE_MEMCPY, PROBE_MOVER_COUNT };

enum probe_opening {
  PROBE_OPEN_DEVICE,
  PROBE_OPEN_SYSCALL,
  PROBE_OPEN_DEVICE_USER_MODE,
  PROBE_OPEN_SYSCALL_USER_MODE,
  PROBE_OPENING_COUNT
};

struct probe {
  uint64_t page_bytes;
  uint64_t huge_bytes;
  enum pages_thp thp;
  uint32_t cpus;
  char kernel_release[65];
  uint32_t release[3];        /* 6, 18, 44 */
  bool release_moves_by_auto; /* the rule above */
  struct probe_item openings[PROBE_OPENING_COUNT];
  uint64_t uffd_features; /* of the first opening that worked; 0: none did */
  bool user_mode_only;    /* only the last two openings work */
  struct probe_item move;         /* UFFDIO_MOVE of two pages */
  struct probe_item copy;         /* UFFDIO_COPY of two pages */
  struct probe_item zeropage;     /* UFFDIO_ZEROPAGE */
  struct probe_item quiet; /* a write-protect-only range is a destination of UFFDIO_MOVE; without that, of _COPY */
  struct probe_item quiet_copy; /* of UFFDIO_COPY */
  struct probe_item sigbus; /* UFFD_FEATURE_SIGBUS */
  struct probe_item dontunmap; /* mremap(MREMAP_DONTUNMAP) */
  struct probe_item populate; /* MADV_POPULATE_WRITE */
  struct probe_item collapse; /* MADV_COLLAPSE is known */
  struct probe_item memfd; /* memfd_create, mapped twice */
  struct probe_item pagemap; /* /proc/self/pagemap */
  struct probe_item barrier; /* membarrier, private expedited */
  struct probe_item movers[PROBE_MOVER_COUNT]; /* works: available; text: one sentence why (not) */
  enum probe_mover chosen; /* what `auto` takes */
  char chosen_text[PROBE_TEXT];
};

void probe_run(struct kernel *k, struct probe *out);
const char *probe_mover_name(enum probe_mover mover);
const char *probe_opening_name(enum probe_opening opening);
/* The rule for `auto` alone; for tests. */
bool probe_release_moves_by_auto(uint32_t major, uint32_t minor, uint32_t patch);

/* Median costs in ns; 0: could not be measured here. */
struct probe_costs {
  double move_page_1, move_page_16, move_page_512; /* a page, in runs of so many pages a call */
  double copy_page_1, copy_page_16, copy_page_512;
  double drop_page_512;
  double move_huge; /* a huge page moved whole */
  double memcpy_page; /* into warm memory */
  double touch_page; /* first touch of a fresh page */
  double syscall; /* getppid */
  double uffd_call; /* a UFFDIO_MOVE refused at validation: the least such a call costs */
  double mprotect; /* one page inside a mapping and back, each */
  double fault_thread; /* round trip answered by a thread in poll(), with UFFDIO_COPY */
  double fault_signal; /* answered in a SIGBUS handler; measured only if probe_calibrate may install one */
  uint64_t spent_ns; /* what the calibration took */
};

/* Measures. install_sigbus: may replace the process's SIGBUS action for some ms (and put it back). -ENOMEM etc. if
 * nothing could be mapped; costs that could not be measured are 0. */
int probe_calibrate(struct kernel *k, const struct probe *probe, bool install_sigbus, struct probe_costs *out);

#endif
