/* The floor of relocating a dense heap in the pause. References are fixed by a table of blocks. Pages move when all are fixed;
 * copies are made into fresh memory arena by arena, and the old is dropped, or block by block into the memory of the block an
 * arena before, which has just been read and is in the cache. Each form in one thread and in as many as there are CPUs (at most 8),
 * whichever is quicker; pages are moved by one: moves of one pair of mappings do not run side by side. `move MIB`. Forms that
 * this kernel does not have are left out. */
#include <pthread.h>

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

enum { MOST_THREADS = 8, BLOCK_BYTES = 64 << 10, CALL_BYTES = 32 << 20 };

/* What a thread does. */
struct part {
  const struct heap *heap;
  enum form form;
  uint64_t thread, threads;
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

static void fix(const struct heap *h, char *at, uint64_t bytes) {
  if (h->shape.refs == 0) return;
  for (char *object = at; object < at + bytes; object += h->shape.bytes)
    for (uint64_t r = 1; r <= h->shape.refs; r++) {
      uint64_t *slot = (uint64_t *)(void *)object + r;
      *slot += (uint64_t)h->delta[(*slot - (uintptr_t)h->from) >> 16 & ((h->bytes >> 16) - 1)];
    }
}

/* Blocks at the same place of their arenas, each into the one before. */
static void slide(const struct heap *h, uint64_t place) {
  char *to = h->to + place;
  for (char *from = h->from + place; from < h->from + h->bytes; to = from, from += ARENA_BYTES) {
    memcpy(to, from, BLOCK_BYTES);
    fix(h, to, BLOCK_BYTES);
  }
}

static void copy_arena(const struct heap *h, uint64_t at) {
  memcpy(h->to + at, h->from + at, ARENA_BYTES);
  fix(h, h->to + at, ARENA_BYTES);
  madvise(h->from + at, ARENA_BYTES, MADV_DONTNEED);
}

static void *worker(void *arg) {
  const struct part *p = arg;
  uint64_t arenas = p->heap->bytes / ARENA_BYTES, blocks = ARENA_BYTES / BLOCK_BYTES;
  for (uint64_t b = blocks * p->thread / p->threads; p->form == SLIDE && b < blocks * (p->thread + 1) / p->threads; b++)
    slide(p->heap, b * BLOCK_BYTES);
  for (uint64_t a = arenas * p->thread / p->threads; p->form != SLIDE && a < arenas * (p->thread + 1) / p->threads; a++)
    if (p->form == FRESH)
      copy_arena(p->heap, a * ARENA_BYTES);
    else
      fix(p->heap, p->heap->from + a * ARENA_BYTES, ARENA_BYTES);
  return NULL;
}

static void run_workers(const struct heap *h, enum form form, uint64_t threads) {
  pthread_t ids[MOST_THREADS];
  struct part parts[MOST_THREADS];
  for (uint64_t t = 0; t < threads; t++) {
    parts[t] = (struct part){h, form, t, threads};
    if (t > 0 && pthread_create(&ids[t], NULL, worker, &parts[t]) != 0) exit(1);
  }
  worker(&parts[0]);
  for (uint64_t t = 1; t < threads; t++) pthread_join(ids[t], NULL);
}

static bool move_pages(const struct heap *h) {
  bool moved = true;
  for (uint64_t at = 0, n; at < h->bytes && moved; at += n) {
    n = h->bytes - at < CALL_BYTES ? h->bytes - at : CALL_BYTES;
    moved = uffd_move(h->fd, h->to + at, h->from + at, n);
  }
  return moved;
}

static double relocate(struct heap *h, enum form form, uint64_t threads) {
  fill(h);
  madvise(h->to, h->bytes, MADV_DONTNEED);
  if (form == SLIDE) memset(h->to, 0, h->bytes);
  if (form == MOVE && !uffd_enlist(h->fd, h->to, h->bytes)) return -1;
  double began = now_s();
  if (form != MOVE || h->shape.refs != 0) run_workers(h, form, threads);
  bool worked = form != MOVE || move_pages(h);
  double took = now_s() - began;
  if (form == MOVE) uffd_leave(h->fd, h->to, h->bytes);
  return worked ? took : -1;
}

static double median_of(const double *times) {
  double sorted[FLOOR_ROUNDS];
  memcpy(sorted, times, sizeof sorted);
  qsort(sorted, FLOOR_ROUNDS, sizeof *sorted, by_value);
  return sorted[FLOOR_ROUNDS / 2];
}

/* Rounds with one thread and with all take turns. */
static void measure_form(struct heap *h, enum form form, bool huge) {
  static const char *const forms[] = {"move", "fresh", "sliding"};
  long cpus = sysconf(_SC_NPROCESSORS_ONLN);
  uint64_t threads = cpus < 1 ? 1 : cpus > MOST_THREADS ? MOST_THREADS : (uint64_t)cpus;
  double alone[FLOOR_ROUNDS], together[FLOOR_ROUNDS];
  char name[64];
  for (int round = 0; round < FLOOR_ROUNDS; round++) {
    alone[round] = relocate(h, form, 1);
    together[round] = relocate(h, form, threads);
    if (alone[round] < 0 || together[round] < 0) return;
  }
  (void)snprintf(name, sizeof name, "move-%s-%s-%s", h->shape.name, huge ? "huge" : "4k", forms[form]);
  report(name, median_of(alone) < median_of(together) ? alone : together, FLOOR_ROUNDS);
}

static void measure(struct shape shape, uint64_t bytes, bool huge) {
  struct heap h = {.shape = shape, .bytes = bytes, .fd = uffd_new()};
  h.from = map_arenas(bytes, huge);
  h.to = map_arenas(bytes, huge);
  h.delta = malloc((bytes >> 16) * sizeof *h.delta);
  for (int form = h.fd < 0 ? FRESH : MOVE; form <= SLIDE; form++) measure_form(&h, form, huge);
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
