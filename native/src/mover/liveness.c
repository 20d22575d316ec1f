/* Whatever the kernel answers, and whatever it did when it answered so, each page is settled by what it holds: if the source
 * has a bit, it was not moved, and is copied; if it has none, there was none, or all have arrived. */
#include "mover/liveness.h"

#include <errno.h>
#include <string.h>

#include "mover/mover.h"
#include "os/pages.h"

static const size_t ARENA_MAP_BYTES = ARENA_BYTES / GRANULE_BYTES / 8;

/* A huge page would be torn by each arena that moves: 128 share one. */
static bool register_map(gch_heap *h, uint64_t *map) {
  uint64_t bytes = align_up(h->layout.span / GRANULE_BYTES / 8, pages_size());
  (void)pages_advise_huge(&h->kernel, map, bytes, false);
  return uffd_register_quiet(&h->kernel, &h->quiet, map, bytes, UABI_RANGE_MOVE) >= 0;
}

bool liveness_register(gch_heap *h) {
  return h->mover->moves_pages && is_aligned(ARENA_MAP_BYTES, pages_size()) && register_map(h, h->tables.live) &&
         register_map(h, h->tables.mark);
}

static void copy(char *to, char *from, size_t bytes) {
  memcpy(to, from, bytes);
  memset(from, 0, bytes);
}

static bool is_clear(const char *page, size_t bytes) { return page[0] == 0 && memcmp(page, page + 1, bytes - 1) == 0; }

static void move(gch_heap *h, char *to, char *from, size_t bytes) {
  size_t page = pages_size();
  (void)pages_drop(&h->kernel, to, bytes); /* pages of zeros that were left there would be in the way */
  for (size_t done = 0; done < bytes;) {
    uint64_t moved = 0;
    int rc = kernel_uffd_move(&h->kernel, h->quiet.fd, to + done, from + done, bytes - done, 0, &moved);
    done += moved;
    if (rc == 0 || done == bytes || (rc == -EAGAIN && moved > 0)) continue;
    if (!is_clear(from + done, page)) copy(to + done, from + done, page);
    done += page;
  }
}

void liveness_hand_over(gch_heap *h, uint64_t *map, size_t to, uint64_t *source, size_t from, size_t arenas) {
  char *at = (char *)map + to * ARENA_MAP_BYTES, *old = (char *)source + from * ARENA_MAP_BYTES;
  if (h->liveness_moves)
    move(h, at, old, arenas * ARENA_MAP_BYTES);
  else
    copy(at, old, arenas * ARENA_MAP_BYTES);
}
