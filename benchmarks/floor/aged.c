/* The floor of compacting an aged heap of mixed objects, where most small objects have to be copied out of their pages
 * whatever moves the rest: `aged MIB` live, a third of it objects of 64 bytes with two references, of which 4 in 10 live
 * (references forwarded by a table of lines), the rest leaf objects of 352 KiB, of which 4 in 10 live. One thread.
 *
 *   pause    sources are emptied in order; memory for destinations
 *              move     is what has been emptied, moved by pages; large objects are moved by pages
 *              fresh    is fresh; what has been emptied is dropped
 *              sliding  is where what has been emptied lies
 *   beside   destinations are filled in frames and published in pieces of 512 KiB, a second thread walking meanwhile
 *              move     frames are what has been emptied; published by page moves
 *              copy     frames are used again; published by UFFDIO_COPY, what has been emptied is dropped
 *
 * Forms that this kernel does not have are left out. Where pages are huge, everything is copied into frames of 2 MiB. */
#include "floor.h"
#include "floor_uffd.h"

#include <pthread.h>

enum { OBJECT = 64, WORDS = OBJECT / 8, LINE = 1024, BATCH = 512 << 10, LARGE = 352 << 10, GAP = 528 << 10, LAG = 8 };
enum form { MOVE, FRESH, SLIDING, BESIDE_MOVE, BESIDE_COPY, FORMS };
static const char *const names[] = {"move", "fresh", "sliding", "beside-move", "beside-copy"};

struct line {
  uint64_t extents, dest;
};

struct heap {
  char *small, *large, *to, *staging; /* sources, destinations, one batch (or arena) of frames */
  uint64_t small_bytes, large_bytes, to_bytes;
  uint64_t *live; /* bit an object of `small` */
  struct line *lines;
  bool huge;
  int fd;
};

/* A source range, read from its start to its end. */
struct cursor {
  char *start, *end;
  char *next;    /* what lies before it has been emptied */
  char *emptied; /* and from here on it has been neither used nor dropped */
};

static bool is_live(const struct heap *h, uint64_t i) { return h->live[i / 64] >> (i % 64) & 1; }

static uint64_t forward(const struct heap *h, uint64_t word) {
  const struct line *line = &h->lines[(word - (uintptr_t)h->small) / LINE];
  return line->dest + 64 * (uint64_t)__builtin_popcountll(line->extents & (((uint64_t)1 << (word / OBJECT % 16)) - 1));
}

static void fix(const struct heap *h, uint64_t *object) {
  object[1] = forward(h, object[1]);
  object[2] = forward(h, object[2]);
}

/* Fills [into, into + bytes) with the next small objects that live; references are fixed a few objects late. */
static void gather(const struct heap *h, struct cursor *c, char *into, uint64_t bytes) {
  uint64_t *late[LAG] = {0};
  char *end = into + bytes;
  uint32_t n = 0;
  for (; into < end && c->next < c->end; c->next += OBJECT) {
    if (!is_live(h, (uint64_t)(c->next - c->start) / OBJECT)) continue;
    uint64_t *from = (uint64_t *)(void *)c->next, *object = (uint64_t *)(void *)into;
    for (int w = 0; w < WORDS; w++) object[w] = from[w];
    __builtin_prefetch(&h->lines[(object[1] - (uintptr_t)h->small) / LINE]);
    __builtin_prefetch(&h->lines[(object[2] - (uintptr_t)h->small) / LINE]);
    if (late[n % LAG] != NULL) fix(h, late[n % LAG]);
    late[n++ % LAG] = object;
    into += OBJECT;
  }
  for (int i = 0; i < LAG; i++)
    if (late[i] != NULL) fix(h, late[i]);
}

/* The same with the next bytes of large objects that live. */
static void stream(const struct heap *h, struct cursor *c, char *into, uint64_t bytes) {
  (void)h;
  while (bytes > 0 && c->next < c->end) {
    uint64_t at = (uint64_t)(c->next - c->start) % (LARGE + GAP), n = at < LARGE ? LARGE - at : 0;
    if (n > bytes) n = bytes;
    if (n == 0) {
      c->next += LARGE + GAP - at;
      continue;
    }
    memmove(into, c->next, n);
    c->next += n, into += n, bytes -= n;
  }
  if (c->next > c->end) c->next = c->end;
}

typedef void (*fill_fn)(const struct heap *h, struct cursor *c, char *into, uint64_t bytes);

static void drop(char *at, uint64_t bytes) { madvise(at, bytes, MADV_DONTNEED); }

static void drop_emptied(const struct heap *h, struct cursor *c) {
  uint64_t unit = h->huge ? ARENA_BYTES : 65536;
  char *end = c->start + (uint64_t)(c->next - c->start) / unit * unit;
  if (end <= c->emptied) return;
  drop(c->emptied, (uint64_t)(end - c->emptied));
  c->emptied = end;
}

/* Emptied memory of `bytes`, or NULL. */
static char *take_emptied(struct cursor *c, uint64_t bytes) {
  char *got = c->emptied;
  if (got + bytes > c->next) return NULL;
  c->emptied += bytes;
  return got;
}

static void populate(char *at, uint64_t bytes) { madvise(at, bytes, MADV_POPULATE_WRITE); }

static bool fill_fresh(const struct heap *h, struct cursor *c, fill_fn fill, char *to, uint64_t bytes) {
  for (uint64_t part = 0, n = h->huge ? bytes : 65536; part < bytes; part += n) { /* while it is in the cache */
    populate(to + part, n);
    fill(h, c, to + part, n);
  }
  return true;
}

/* Fills [to, to + bytes). */
static bool fill_one(const struct heap *h, struct cursor *c, enum form form, fill_fn fill, char *to, uint64_t bytes) {
  char *frame = form == MOVE || form == BESIDE_MOVE ? take_emptied(c, bytes) : NULL;
  bool worked = true;
  switch (form) {
    case MOVE:
      if (frame == NULL) populate(frame = h->staging, bytes);
      worked = uffd_move(h->fd, to, frame, bytes);
      fill(h, c, to, bytes);
      return worked;
    case BESIDE_MOVE:
      if (frame == NULL) populate(frame = h->staging, bytes);
      fill(h, c, frame, bytes);
      return uffd_move(h->fd, to, frame, bytes);
    case BESIDE_COPY: fill(h, c, h->staging, bytes); return uffd_copy(h->fd, to, h->staging, bytes);
    case SLIDING: fill(h, c, to, bytes); return true;
    default: return fill_fresh(h, c, fill, to, bytes);
  }
}

static bool fill_all(const struct heap *h, enum form form, fill_fn fill, char *from, uint64_t bytes, char **to) {
  struct cursor c = {from, from + bytes, from, from};
  uint64_t step = h->huge || form < BESIDE_MOVE ? ARENA_BYTES : BATCH;
  char *out = form == SLIDING ? from : *to;
  bool worked = true;
  for (; c.next < c.end && worked; out += step) {
    worked = fill_one(h, &c, form, fill, out, step);
    if (form != SLIDING) drop_emptied(h, &c);
  }
  if (form == SLIDING) drop(out, out < c.end ? (uint64_t)(c.end - out) : 0);
  if (form != SLIDING) *to = out;
  return worked;
}

/* Large objects where pages are small: each by itself. */
static bool large_objects(const struct heap *h, enum form form, char *to) {
  bool worked = true;
  for (char *from = h->large; from + LARGE <= h->large + h->large_bytes && worked; from += LARGE + GAP, to += LARGE) {
    if (form == MOVE || form == BESIDE_MOVE) {
      worked = uffd_move(h->fd, to, from, LARGE);
      continue;
    }
    if (form == BESIDE_COPY) {
      worked = uffd_copy(h->fd, to, from, LARGE);
    } else {
      populate(to, LARGE);
      memcpy(to, from, LARGE);
    }
    drop(from, LARGE);
  }
  return worked;
}

/* --- a walker beside it ------------------------------------------------------------------------------------------ */

static volatile int walking;

static void *walk(void *arg) {
  static char memory[32 << 20];
  uint64_t state = 88172645463325252u, sum = 0;
  (void)arg;
  while (walking) sum += (uint64_t)memory[next_random(&state) % sizeof memory]++;
  return (void *)(uintptr_t)sum;
}

/* --- runs ---------------------------------------------------------------------------------------------------------- */

static void age(struct heap *h) {
  uint64_t count = h->small_bytes / OBJECT, state = 1234567, dest = (uintptr_t)h->to;
  memset(h->small, 1, h->small_bytes);
  memset(h->large, 1, h->large_bytes);
  memset(h->live, 0, count / 8);
  memset(h->lines, 0, h->small_bytes / LINE * sizeof *h->lines);
  for (uint64_t i = 0; i < count; i++) {
    bool lives =
        i / 100 % 2 == 0 ? next_random(&state) % 10 < 7 : next_random(&state) % 10 < 1; /* runs, and here and there */
    uint64_t *object = (uint64_t *)(void *)(h->small + i * OBJECT);
    for (int r = 1; r <= 2; r++) {
      uint64_t target =
          next_random(&state) % 10 < 7 && i > 1000 ? i - next_random(&state) % 1000 : next_random(&state) % count;
      object[r] = (uintptr_t)h->small + target * OBJECT;
    }
    struct line *line = &h->lines[i * OBJECT / LINE];
    if (i * OBJECT % LINE == 0) line->dest = dest;
    if (!lives) continue;
    line->extents |= (uint64_t)1 << (i % 16);
    h->live[i / 64] |= (uint64_t)1 << (i % 64);
    dest += OBJECT;
  }
}

static double compact(struct heap *h, enum form form) {
  pthread_t walker;
  char *to = h->to;
  age(h);
  drop(h->to, h->to_bytes);
  memset(h->staging, 0, ARENA_BYTES);
  bool moves = form != FRESH && form != SLIDING;
  if (moves && !uffd_enlist(h->fd, h->to, h->to_bytes)) return -1;
  walking = 1;
  if (form >= BESIDE_MOVE) pthread_create(&walker, NULL, walk, NULL);
  double began = now_s();
  bool worked = fill_all(h, form, gather, h->small, h->small_bytes, &to);
  if (h->huge || form == SLIDING)
    worked = worked && fill_all(h, form, stream, h->large, h->large_bytes, &to);
  else
    worked = worked && large_objects(h, form, to);
  double took = now_s() - began;
  walking = 0;
  if (form >= BESIDE_MOVE) pthread_join(walker, NULL);
  if (moves) uffd_leave(h->fd, h->to, h->to_bytes);
  return worked ? took : -1;
}

static void measure(uint64_t live, bool huge) {
  uint64_t small = live / 3 * 5 / 2 / ARENA_BYTES * ARENA_BYTES,
           large = live * 2 / 3 * 5 / 2 / ARENA_BYTES * ARENA_BYTES;
  struct heap h = {
      .small_bytes = small, .large_bytes = large, .to_bytes = live + live / 4 + 16 * ARENA_BYTES, .huge = huge};
  h.small = map_arenas(small, huge), h.large = map_arenas(large, huge), h.to = map_arenas(h.to_bytes, huge);
  h.staging = map_arenas(ARENA_BYTES, huge);
  h.live = malloc(small / OBJECT / 8 + 64), h.lines = malloc(small / LINE * sizeof *h.lines);
  h.fd = uffd_new();
  for (int form = h.fd < 0 ? FRESH : MOVE; form < (h.fd < 0 ? BESIDE_MOVE : FORMS); form++) {
    double times[FLOOR_ROUNDS];
    char name[64];
    bool worked = true;
    for (int round = 0; round < FLOOR_ROUNDS && worked; round++)
      worked = (times[round] = compact(&h, (enum form)form)) >= 0;
    (void)snprintf(name, sizeof name, "aged-%s-%s", huge ? "huge" : "4k", names[form]);
    if (worked) report(name, times, FLOOR_ROUNDS);
  }
  munmap(h.small, small), munmap(h.large, large), munmap(h.to, h.to_bytes), munmap(h.staging, ARENA_BYTES);
  free(h.live), free(h.lines);
}

int main(int argc, char **argv) {
  uint64_t live = (argc > 1 ? strtoull(argv[1], NULL, 10) : 64) << 20;
  measure(live, false);
  measure(live, true);
  return 0;
}
