/* Between kernel.c and kernel_inject.c: what the rules say about one call. */
#ifndef GCH_OS_KERNEL_INTERNAL_H
#define GCH_OS_KERNEL_INTERNAL_H

#include "os/kernel.h"

struct kernel_verdict {
  int error;              /* positive errno to report; 0: none */
  bool after;             /* perform the call, then report */
  uint64_t partial_bytes; /* perform only so much, then report -EAGAIN; 0: none */
  uint64_t delay_ns;      /* wait so long first */
  bool without_move;      /* perform the call, and leave UFFDIO_MOVE out of what it offers */
};

/* Looks at every rule. `address` and `bytes`: the destination range of a transfer. Whether any rule fired. */
bool kernel_rules_look(struct kernel *k, enum kernel_call call, uintptr_t address, uint64_t bytes,
                       struct kernel_verdict *out);
void kernel_delay(uint64_t ns);

#endif
