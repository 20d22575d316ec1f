/* The floor of relocating a dense heap beside one busy mutator: `dense MIB` of what `synthetic:mixed` is made of, by
 * quarters: small objects of 64 bytes with four references each, large arrays of references, nearly all null, small leaf
 * objects, large leaf objects. References are fixed in the source, which the mutator does not see, by a table of blocks;
 * then
 *
 *   move   its pages are moved (UFFDIO_MOVE)
 *   copy   its pages are copied by the kernel (UFFDIO_COPY), and dropped
 *
 * by units of 64 KiB where pages are small, at most 8 a call, of a whole arena where they are huge. The mutator goes on
 * walking through what has been relocated: from an entry of a table of objects, which is an eighth of the arrays, along
 * references, with a store now and then. What it misses is made at once, by the worker or by a handler thread.
 *
 * Forms that this kernel does not have are left out. */
#include "floor_units.h"

enum { OBJECT = 64, REFS = 4, RECENT = 1000, STEPS = 8, STORE_EVERY = 10, BLOCK = 65536, BATCH = 8 };
enum form { MOVE, COPY, FORMS };
static const char *const names[] = {"move", "copy"};

enum quarter { OBJECTS, ARRAYS, LEAF, LARGE_LEAF };

static struct units units;
static int64_t *delta; /* of each block */
static uint64_t quarter, table; /* bytes of each, bytes of the table that begins the arrays */

/* --- the collector --------------------------------------------------------------------------------------------------- */

static void fix_slot(const struct units *u, uint64_t *slot) {
  *slot += (uint64_t)delta[(*slot - (uintptr_t)u->from) / BLOCK];
}

static void fix(const struct units *u, uint64_t unit) {
  char *at = u->from + unit * u->unit_bytes, *end = at + u->unit_bytes;
  enum quarter kind = (enum quarter)((uint64_t)(at - u->from) / quarter);
  if (kind == OBJECTS)
    for (; at < end; at += OBJECT)
      for (int r = 1; r <= REFS; r++) fix_slot(u, (uint64_t *)(void *)at + r);
  if (kind == ARRAYS)
    for (uint64_t *slot = (uint64_t *)(void *)at; slot < (uint64_t *)(void *)end; slot++)
      if (*slot != 0) fix_slot(u, slot);
}

static void check(bool worked, const char *what) {
  if (worked) return;
  perror(what);
  exit(1);
}

static void transfer_by_move(const struct units *u, uint64_t first, uint64_t count) {
  uint64_t at = first * u->unit_bytes;
  check(uffd_move(u->fd, u->to + at, u->from + at, count * u->unit_bytes), "UFFDIO_MOVE");
}

static void transfer_by_copy(const struct units *u, uint64_t first, uint64_t count) {
  uint64_t at = first * u->unit_bytes;
  check(uffd_copy(u->fd, u->to + at, u->from + at, count * u->unit_bytes), "UFFDIO_COPY");
  madvise(u->from + at, count * u->unit_bytes, MADV_DONTNEED);
}

/* --- the mutator ----------------------------------------------------------------------------------------------------- */

static bool has_references(const char *object) { return object < units.to + quarter; }

static void *mutate(void *arg) {
  uint64_t state = 1234567, sum = 0, **entries = (uint64_t **)(void *)(units.to + quarter);
  (void)arg;
  units.walking = 1;
  for (uint64_t op = 0; units.walking; op++) {
    uint64_t turns = next_random(&state), *object = entries[(turns >> 16) % (table / sizeof *entries)];
    for (int i = 0; i < STEPS && has_references((char *)object); i++) {
      object = (uint64_t *)(uintptr_t)object[1 + (turns >> 2 * i) % REFS];
      sum = (sum << 5 | sum >> 59) ^ object[0];
    }
    if (op % STORE_EVERY != 0 || !has_references((char *)object)) continue;
    uint64_t kept = object[1];
    object[1] = object[REFS];
    object[REFS] = kept;
  }
  return (void *)(uintptr_t)sum;
}

/* --- runs ------------------------------------------------------------------------------------------------------------ */

/* Of an object in the first quarter, or of a leaf as far into its quarter. */
static uint64_t address_of(uint64_t object, uint64_t random) {
  return (uintptr_t)units.from + object * OBJECT + (random % 4 == 0 ? LEAF * quarter : 0);
}

static void fill(void) {
  uint64_t count = quarter / OBJECT, state = 88172645463325252u, *entries;
  memset(units.from, 1, units.bytes);
  for (uint64_t i = 0; i < count; i++)
    for (int r = 1; r <= REFS; r++) {
      uint64_t random = next_random(&state), back = random / 64 % RECENT;
      bool recent = random / 4 % 16 < 11 && back < i;
      ((uint64_t *)(void *)(units.from + i * OBJECT))[r] = address_of(recent ? i - back : random / 64 % count, random);
    }
  memset(units.from + ARRAYS * quarter, 0, quarter);
  entries = (uint64_t *)(void *)(units.from + ARRAYS * quarter);
  for (uint64_t i = 0; i < table / sizeof *entries; i++) {
    uint64_t random = next_random(&state);
    entries[i] = address_of(random / 64 % count, random);
  }
  for (uint64_t b = 0; b < units.bytes / BLOCK; b++) delta[b] = units.to - units.from;
  memset(units.states, UNIT_ARMED, units.count);
}

/* False: this kernel cannot. */
static bool relocate(enum form form, double *took) {
  units.fd = uffd_with(form == MOVE ? UFFD_FEATURE_MOVE : 0);
  if (units.fd < 0) return false;
  units.transfer = form == MOVE ? transfer_by_move : transfer_by_copy;
  fill();
  madvise(units.to, units.bytes, MADV_DONTNEED);
  check(uffd_enlist(units.fd, units.to, units.bytes), "UFFDIO_REGISTER");
  *took = units_relocate(&units, mutate, NULL);
  close(units.fd);
  return true;
}

static void measure(uint64_t bytes, bool huge) {
  double times[FORMS][FLOOR_ROUNDS];
  bool worked[FORMS] = {true, true};
  units.bytes = bytes, units.unit_bytes = huge ? ARENA_BYTES : BLOCK, units.batch = huge ? 1 : BATCH;
  units.count = bytes / units.unit_bytes;
  units.from = map_arenas(bytes, huge), units.to = map_arenas(bytes, huge);
  for (int round = 0; round < FLOOR_ROUNDS; round++)
    for (int form = MOVE; form < FORMS; form++) worked[form] = relocate((enum form)form, &times[form][round]);
  for (int form = MOVE; form < FORMS; form++) {
    char name[64];
    (void)snprintf(name, sizeof name, "dense-%s-%s", huge ? "huge" : "4k", names[form]);
    if (worked[form]) report(name, times[form], FLOOR_ROUNDS);
  }
  munmap(units.from, bytes), munmap(units.to, bytes);
}

int main(int argc, char **argv) {
  uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 64;
  quarter = mib < 8 ? ARENA_BYTES : (mib << 20) / (4 * ARENA_BYTES) * ARENA_BYTES, table = quarter / 8;
  delta = malloc(4 * quarter / BLOCK * sizeof *delta), units.states = malloc(4 * quarter / BLOCK);
  units.fix = fix;
  measure(4 * quarter, false);
  measure(4 * quarter, true);
  return 0;
}
