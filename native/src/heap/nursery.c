#include "heap/nursery.h"

#include <stdbool.h>

enum {
  GROWS = 8,  /* by an eighth */
  DRIFT = 64, /* of the way to what all would be due to survivors */
};

void nursery_init(struct nursery *n, uint64_t least, uint64_t most, uint64_t target_ns) {
  *n = (struct nursery){.least = least, .most = most, .target_ns = target_ns, .bytes = most};
}

static void weigh(double *mean, double now, double part) { *mean += (now - *mean) * part; }

static void fit(struct nursery *n, double size, double ns) {
  bool first = n->ns == 0;
  double part = first ? 1 : 1.0 / 8;
  weigh(&n->size, size, part);
  weigh(&n->ns, ns, part);
  weigh(&n->size_size, size * size, part);
  weigh(&n->size_ns, size * ns, part);
  double even = n->size > 0 ? n->ns / n->size : 0; /* all of it is due to survivors */
  double variance = n->size_size - n->size * n->size, together = n->size_ns - n->size * n->ns;
  if (variance > n->size * n->size / 64)
    n->slope = together > 0 ? together / variance : even / DRIFT;
  else if (n->slope == 0)
    n->slope = even;
  else
    n->slope += (even - n->slope) / DRIFT;
  if (n->slope > even) n->slope = even;
}

/* Eden whose survivors take no longer than they should; all there is, if nobody knows better. */
static double wanted(const struct nursery *n) {
  if (n->slope <= 0 || n->survival <= 0) return (double)n->most;
  double fixed = n->ns - n->slope * n->size, left = (double)n->target_ns * 3 / 4 - fixed;
  if (left < fixed / 2) left = fixed / 2;
  return left / n->slope / n->survival;
}

void nursery_note(struct nursery *n, const struct nursery_minor *m) {
  if (n->least == n->most || m->eden_bytes < n->bytes / 2 || m->eden_bytes == 0) return;
  double size = (double)m->live_bytes / 1024, survival = size / (double)m->eden_bytes;
  fit(n, size, (double)m->ns);
  weigh(&n->survival, survival, 1.0 / 8);
  if (survival > n->survival) n->survival = survival; /* more is seen at once */
  double want = wanted(n), now = (double)n->bytes, most = now + now / GROWS;
  now = want < now / 2 ? now / 2 : want > most ? most : want;
  n->bytes = now<(double)n->least ? n->least : now>(double) n->most ? n->most : (uint64_t)now;
}

uint64_t nursery_for_cache(uint64_t share, uint64_t least, uint64_t most) {
  uint64_t half = share / 2;
  return share == 0 || half > most ? most : half < least ? least : half;
}
