#include "heap/limits.h"

#include <stdio.h>

#include "base/units.h"

static const uint64_t MOST = 1 * GIB, LEAST = 1 * MIB;

static void choose_max(const struct machine_memory *m, struct limits *out) {
  uint64_t half = m->bytes / 2;
  if (m->bytes == 0 || half >= MOST) {
    out->max_bytes = MOST;
    snprintf(out->reason, sizeof out->reason, "%s", "1 GiB by default");
    return;
  }
  out->max_bytes = half > LEAST ? half : LEAST;
  snprintf(out->reason, sizeof out->reason, "half of the %llu MiB of %s", (unsigned long long)(m->bytes / MIB),
           m->source);
}

void limits_choose(uint64_t max_asked, uint64_t soft_asked, const struct machine_memory *m, struct limits *out) {
  *out = (struct limits){.max_bytes = max_asked, .soft_bytes = soft_asked};
  if (max_asked == 0)
    choose_max(m, out);
  else
    snprintf(out->reason, sizeof out->reason, "%s", "asked for");
  uint64_t soft = m->bytes - m->bytes / 4;
  if (soft_asked != 0 || m->bytes == 0 || soft >= out->max_bytes) return;
  out->soft_bytes = soft > LEAST ? soft : LEAST;
  snprintf(out->reason, sizeof out->reason,
           "asked for; majors begin early, to stay below three quarters of the %llu MiB of %s",
           (unsigned long long)(m->bytes / MIB), m->source);
}
