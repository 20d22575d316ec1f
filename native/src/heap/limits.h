/* How large a heap may be, where the host does not say: policy only. (What the process may have: os/machine.h.)
 *
 *   max_bytes       half of what the process may have, at most 1 GiB: the program has memory of its own, and a cycle holds the
 *                   staging budget and side tables beside the heap
 *   soft_max_bytes  three quarters of what the process may have, if max_bytes is more: majors begin so early that the heap stays
 *                   below, as long as what lives allows it, before the kernel has to end somebody
 *
 * A limit that the host has named is taken as it is: it may know of swap, or of a limit that will be raised. */
#ifndef HEAP_LIMITS_H
#define HEAP_LIMITS_H

#include <stdint.h>

#include "os/machine.h"

struct limits {
  uint64_t max_bytes;
  uint64_t soft_bytes; /* 0: none but the other one */
  char reason[192];    /* a sentence for people */
};

/* Of what was asked for (0: not said). */
void limits_choose(uint64_t max_asked, uint64_t soft_asked, const struct machine_memory *memory, struct limits *out);

#endif
