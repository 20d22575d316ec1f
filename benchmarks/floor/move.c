/* The floor of relocating a dense heap in the pause: references fixed by a table of blocks, then the pages moved, or
 * copied into fresh memory and dropped, or copied into memory that was just emptied. By arenas of 2 MiB. `move MIB`.
 * Forms that this kernel does not have are left out. */
#include "floor.h"
#include "floor_uffd.h"

enum form { MOVE, FRESH, SLIDE };

struct shape {
  const char *name;
  uint64_t bytes, refs;
};

struct heap {
  struct shape shape;
  char *from, *to;
  uint64_t bytes;
  int64_t *delta; /* of each block of 64 KiB */
  int fd;
};

static void fill(struct heap *h) {
  uint64_t count = h->bytes / h->shape.bytes, state = 88172645463325252u;
  memset(h->from, 1, h->bytes);
  for (uint64_t i = 0; i < count; i++) {
    uint64_t *object = (uint64_t *)(void *)(h->from + i * h->shape.bytes);
    for (uint64_t r = 1; r <= h->shape.refs; r++)
      object[r] = (uintptr_t)h->from + next_random(&state) % h->bytes / 16 * 16;
  }
  for (uint64_t b = 0; b < h->bytes >> 16; b++) h->delta[b] = h->to - h->from;
}

static void fix(const struct heap *h, char *arena) {
  if (h->shape.refs == 0) return;
  for (char *object = arena; object < arena + ARENA_BYTES; object += h->shape.bytes)
    for (uint64_t r = 1; r <= h->shape.refs; r++) {
      uint64_t *slot = (uint64_t *)(void *)object + r;
      *slot += (uint64_t)h->delta[(*slot - (uintptr_t)h->from) >> 16 & ((h->bytes >> 16) - 1)];
    }
}

static bool transfer(const struct heap *h, enum form form, uint64_t at) {
  if (form == MOVE) {
    fix(h, h->from + at);
    return uffd_move(h->fd, h->to + at, h->from + at, ARENA_BYTES);
  }
  memcpy(h->to + at, h->from + at, ARENA_BYTES);
  fix(h, h->to + at);
  if (form == FRESH) madvise(h->from + at, ARENA_BYTES, MADV_DONTNEED);
  return true;
}

static double relocate(struct heap *h, enum form form) {
  bool worked = true;
  fill(h);
  madvise(h->to, h->bytes, MADV_DONTNEED);
  if (form == SLIDE) memset(h->to, 0, h->bytes);
  if (form == MOVE && !uffd_enlist(h->fd, h->to, h->bytes)) return -1;
  double began = now_s();
  for (uint64_t at = 0; at < h->bytes && worked; at += ARENA_BYTES) worked = transfer(h, form, at);
  double took = now_s() - began;
  if (form == MOVE) uffd_leave(h->fd, h->to, h->bytes);
  return worked ? took : -1;
}

static void measure(struct shape shape, uint64_t bytes, bool huge) {
  static const char *const forms[] = {"move", "fresh", "sliding"};
  struct heap h = {shape, map_arenas(bytes, huge), map_arenas(bytes, huge), bytes, NULL, uffd_new()};
  h.delta = malloc((bytes >> 16) * sizeof *h.delta);
  for (int form = h.fd < 0 ? FRESH : MOVE; form <= SLIDE; form++) {
    double times[FLOOR_ROUNDS];
    char name[64];
    bool worked = true;
    for (int round = 0; round < FLOOR_ROUNDS && worked; round++) worked = (times[round] = relocate(&h, form)) >= 0;
    (void)snprintf(name, sizeof name, "move-%s-%s-%s", shape.name, huge ? "huge" : "4k", forms[form]);
    if (worked) report(name, times, FLOOR_ROUNDS);
  }
  free(h.delta);
  munmap(h.from, bytes);
  munmap(h.to, bytes);
  if (h.fd >= 0) close(h.fd);
}

int main(int argc, char **argv) {
  static const struct shape shapes[] = {{"nodes", 32, 2}, {"structs", 512, 4}, {"leaf", 512, 0}};
  uint64_t arenas = (argc > 1 ? strtoull(argv[1], NULL, 10) : 64) / 2, bytes = 1;
  while (bytes < arenas * ARENA_BYTES) bytes *= 2;
  for (int i = 0; i < 3; i++) {
    measure(shapes[i], bytes, false);
    measure(shapes[i], bytes, true);
  }
  return 0;
}
