/* Streams of random bytes as calls of the C API, right and wrong ones alike, on two heaps: no crash, no lost object, a
 * status for every mistake. Beside model.h, which makes only legal calls with legal arguments, this one mixes in handles
 * that were freed, references of the other heap, absurd sizes, nested frames, bad options, bad types and bad specs.
 *
 *   fuzz_ops SECONDS [SEED]      a failure prints the seed of its stream; `fuzz_ops 0 SEED` plays that one again */
#include "base/clock.h"
#include "kit.h"

enum { SLOTS = 24, HANDLES = 16, TYPES = 12, PINS = 8, STREAM = 6000, STATICS = 4 };

struct side {
  struct kit k;
  gch_ref slots[SLOTS];
  gch_frame frame;
  gch_ref statics[STATICS];
  bool added[STATICS];
  gch_handle handles[HANDLES];
  gch_ref pinned[PINS];
  const gch_type *types[TYPES];
  uint32_t type_count;
};

struct fuzz {
  uint64_t random, seed;
  struct side sides[2];
};

static uint64_t draw(struct fuzz *f) {
  uint64_t x = f->random;
  x ^= x << 13, x ^= x >> 7, x ^= x << 17;
  return f->random = x;
}
static uint32_t below(struct fuzz *f, uint32_t n) { return (uint32_t)((draw(f) >> 16) % n); }

/* Small ones, odd ones, huge ones. */
static uint64_t size(struct fuzz *f) {
  switch (below(f, 12)) {
    case 0: return draw(f);
    case 1: return (uint64_t)1 << below(f, 64);
    case 2: return ((uint64_t)1 << below(f, 64)) - 1;
    case 3: return GCH_SMALL_MAX - 32 + below(f, 64);
    case 4: return below(f, 200000);
    default: return below(f, 120);
  }
}

static gch_ref *slot(struct fuzz *f, struct side *s) { return &s->slots[below(f, SLOTS)]; }

/* --- calls ---------------------------------------------------------------------------------------------------- */

static void make_type(struct fuzz *f, struct side *s) {
  uint32_t offsets[8], at = 8;
  gch_type_desc d = {.struct_bytes = sizeof d,
                     .fixed_bytes = (uint32_t)(below(f, 8) ? below(f, 128) & ~7u : size(f)),
                     .name = below(f, 4) ? "fuzz" : NULL};
  d.ref_count = below(f, 8);
  for (uint32_t i = 0; i < d.ref_count; i++, at += 8) offsets[i] = below(f, 20) ? at : (uint32_t)size(f);
  d.ref_offsets = offsets;
  d.tail = (gch_tail)below(f, below(f, 10) ? 3 : 5);
  d.tail_bytes = d.tail == GCH_TAIL_BYTES || below(f, 10) == 0 ? 1 + below(f, 40) : 0;
  if (below(f, 6) == 0) d.tag_mask = below(f, 9), d.tag_value = below(f, 3);
  const gch_type *type = NULL;
  gch_error error = {0};
  gch_status status = gch_type_new(s->k.heap, &d, &type, &error);
  CHECK(status == GCH_OK ? type != NULL : type == NULL && error.message[0] != 0);
  if (status == GCH_OK) s->types[s->type_count++ % TYPES] = type;
}

static void allocate(struct fuzz *f, struct side *s) {
  const gch_type *type = s->types[below(f, s->type_count < TYPES ? s->type_count : TYPES)];
  gch_ref o =
      type->tail_bytes != 0 || below(f, 20) == 0 ? gch_alloc_slow(s->k.m, type, size(f)) : gch_alloc(s->k.m, type);
  if (o == NULL) CHECK(gch_last_error(s->k.m)->message[0] != 0);
  if (o == NULL) return;
  CHECK(gch_type_of(s->k.heap, o) == type);
  CHECK(gch_object_bytes(s->k.heap, o) >= type->bytes && gch_object_bytes(s->k.heap, o) % 16 == 0);
  *slot(f, s) = o;
}

static void field(struct fuzz *f, struct side *s, struct side *other) {
  gch_ref o = *slot(f, s), value = below(f, 16) ? *slot(f, s) : *slot(f, other), out = NULL;
  uint64_t offset = below(f, 4) ? 8 * below(f, 12) : size(f);
  const struct type_info *type = o == NULL ? NULL : (const struct type_info *)gch_type_of(s->k.heap, o);
  if (type != NULL && type->tag_mask != 0 && type->tag_value != 0) value = NULL; /* an untagged word would be none */
  gch_status stored = gch_field_store(s->k.m, o, offset, value);
  gch_status loaded = gch_field_load(s->k.m, o, offset, &out);
  if (stored == GCH_OK) CHECK(loaded == GCH_OK && out == value);
  if (loaded != GCH_OK) CHECK(out == NULL && gch_last_error(s->k.m)->message[0] != 0);
}

static void runs(struct fuzz *f, struct side *s, struct side *other) {
  gch_ref a = *slot(f, s), b = below(f, 16) ? *slot(f, s) : *slot(f, other);
  const gch_type *type = a == NULL ? NULL : gch_type_of(s->k.heap, a);
  uint64_t at = size(f), from = size(f), count = size(f);
  gch_ref value = type == s->k.refs && below(f, 16) ? *slot(f, s) : NULL;
  gch_status status =
      below(f, 2) ? gch_copy_refs(s->k.m, a, at, b, from, count) : gch_fill_refs(s->k.m, a, at, count, value);
  if (status != GCH_OK) CHECK(status == GCH_BAD_VALUE && gch_last_error(s->k.m)->message[0] != 0);
}

static void resize(struct fuzz *f, struct side *s, struct side *other) {
  gch_ref *of = slot(f, s), o = below(f, 32) ? *of : *slot(f, other);
  uint64_t count = size(f);
  gch_ref made = gch_resize(s->k.m, o, count);
  if (made == NULL) CHECK(gch_last_error(s->k.m)->status != GCH_OK && gch_last_error(s->k.m)->message[0] != 0);
  if (made != NULL) CHECK_EQ(gch_length(s->k.heap, made), count);
  if (made != NULL) *of = made;
}

static void swap(struct fuzz *f, struct side *s, struct side *other) {
  gch_ref o = *slot(f, s), value = below(f, 16) ? *slot(f, s) : *slot(f, other), previous = value, out = NULL;
  uint64_t offset = below(f, 4) ? 8 * below(f, 12) : size(f);
  const struct type_info *type = o == NULL ? NULL : (const struct type_info *)gch_type_of(s->k.heap, o);
  bool swapped;
  if (type != NULL && type->tag_mask != 0 && type->tag_value != 0) value = NULL;
  gch_status status = gch_field_compare_and_swap(s->k.m, o, offset, &previous, value, &swapped);
  CHECK(status == GCH_OK || !swapped);
  status = gch_field_exchange(s->k.m, o, offset, value, &previous);
  if (status == GCH_OK) CHECK(gch_field_load(s->k.m, o, offset, &out) == GCH_OK && out == value);
  if (status != GCH_OK) CHECK(previous == NULL && gch_last_error(s->k.m)->message[0] != 0);
}

static void handle(struct fuzz *f, struct side *s, struct side *other) {
  gch_handle *h = &s->handles[below(f, HANDLES)];
  gch_ref out = NULL;
  uint32_t what = below(f, 6);
  if (what == 0) {
    if (*h != 0 && gch_handle_free(s->k.heap, *h) != GCH_OK) CHECK(gch_handle_get(s->k.m, *h, &out) != GCH_OK);
    *h = gch_handle_new(s->k.m, *slot(f, s));
    CHECK(*h != 0);
  } else if (what == 1) {
    gch_handle_free(s->k.heap, *h); /* and the stale one stays */
    CHECK(gch_handle_get(s->k.m, *h, &out) == GCH_BAD_VALUE && out == NULL);
    CHECK_EQ(gch_handle_free(s->k.heap, *h), GCH_BAD_VALUE);
  } else if (what == 2) {
    gch_handle_get(s->k.m, draw(f), &out); /* anything at all */
    CHECK(out == NULL || heap_contains(s->k.heap, (uintptr_t)out));
  } else if (what == 3) {
    gch_handle_set(s->k.m, *h, *slot(f, s));
  } else if (gch_handle_get(s->k.m, *h, &out) == GCH_OK) {
    CHECK(out == NULL || heap_contains(s->k.heap, (uintptr_t)out));
    *slot(f, s) = out;
  }
  (void)other;
}

static void pin(struct fuzz *f, struct side *s, struct side *other) {
  gch_ref *p = &s->pinned[below(f, PINS)];
  gch_ref o = below(f, 16) ? *slot(f, s) : *slot(f, other);
  if (*p != NULL) {
    CHECK_EQ(gch_unpin(s->k.heap, *p), GCH_OK);
    *p = NULL;
  } else if (gch_pin(s->k.m, o, NULL) == GCH_OK) {
    *p = o;
  }
  if (below(f, 8) == 0) gch_unpin(s->k.heap, (gch_ref)(uintptr_t)draw(f)); /* a random word */
}

static void identity(struct fuzz *f, struct side *s, struct side *other) {
  gch_ref o = below(f, 16) ? *slot(f, s) : *slot(f, other);
  uint32_t hash = gch_identity_hash(s->k.m, o);
  bool mine = o != NULL && heap_contains(s->k.heap, (uintptr_t)o);
  CHECK_EQ(hash != 0, mine);
  if (mine) CHECK_EQ(gch_identity_hash(s->k.m, o), hash);
  if (!mine) CHECK(gch_last_error(s->k.m)->message[0] != 0);
}

/* Cells, real ones, null, and what is none; of this heap, and now and then of the other. */
static void weak(struct fuzz *f, struct side *s, struct side *other) {
  gch_ref o = *slot(f, below(f, 12) ? s : other), value = *slot(f, below(f, 12) ? s : other), *to = slot(f, s);
  gch_mutator *m = s->k.m;
  uint64_t token;
  bool found, foreign = o != NULL && !heap_contains(s->k.heap, (uintptr_t)o);
  switch (below(f, 8)) {
    case 0: *to = gch_weak_new(m, o); break;
    case 1: *to = gch_ephemeron_new(m, o, value); break;
    case 2: *to = gch_weak_get(m, o); break;
    case 3: *to = gch_ephemeron_value(m, o); break;
    case 4: *to = gch_ephemeron_key(m, o); break;
    case 5: gch_ephemeron_set(m, o, value); break;
    case 6:
      if (gch_finalize(m, o, draw(f)) == GCH_OK) CHECK(o != NULL && !foreign);
      if (below(f, 4) == 0) gch_weak_clear(m, o);
      break;
    default:
      found = gch_finalizer_next(m, to, &token);
      CHECK_EQ(found, *to != NULL);
      break;
  }
  CHECK(*to == NULL || heap_contains(s->k.heap, (uintptr_t)*to));
}

static void statics(struct fuzz *f, struct side *s) {
  uint32_t i = below(f, STATICS);
  if (!s->added[i]) {
    s->statics[i] = NULL; /* adding a root may collect */
    CHECK_EQ(gch_root_add(s->k.heap, &s->statics[i]), GCH_OK);
    s->statics[i] = *slot(f, s);
  } else {
    *slot(f, s) = s->statics[i];
    CHECK_EQ(gch_root_remove(s->k.heap, &s->statics[i]), GCH_OK);
  }
  s->added[i] = !s->added[i];
}

static bool count_object(gch_ref o, const gch_type *type, uint64_t bytes, void *data) {
  uint64_t *left = data;
  CHECK(o != NULL && bytes >= type->bytes);
  return --*left != 0;
}

/* Of a program that is older than the library, or newer: what that does not know is 0. */
static void look_at_stats(struct fuzz *f, struct side *s) {
  _Alignas(gch_stats) uint8_t room[sizeof(gch_stats) + 8];
  uint64_t bytes = below(f, sizeof room + 1);
  memset(room, 0xff, sizeof room);
  gch_stats_get(s->k.heap, (gch_stats *)(void *)room, bytes);
  for (uint64_t i = 0; i < sizeof room; i++)
    if (i >= bytes || i >= sizeof(gch_stats)) CHECK_EQ(room[i], i < bytes ? 0 : 0xff);
}

static void look(struct fuzz *f, struct side *s) {
  gch_event events[8];
  gch_block_info blocks[16];
  uint64_t sequence = below(f, 2) ? 0 : draw(f), lost = 0, left = 1 + below(f, 5000);
  gch_error error = {0};
  switch (below(f, 5)) {
    case 0: look_at_stats(f, s); break;
    case 1: gch_events_read(s->k.heap, &sequence, events, below(f, 9), &lost); break;
    case 2: gch_heap_map(s->k.m, blocks, below(f, 17)); break;
    case 3: CHECK_EQ(gch_walk(s->k.m, count_object, &left), GCH_OK); break;
    default:
      if (!CHECK_EQ(gch_verify(s->k.m, &error), GCH_OK)) fprintf(stderr, "verify: %s\n", error.message);
  }
}

static void collect(struct fuzz *f, struct side *s) {
  gch_collect_options o;
  gch_cycle r;
  gch_collect_options_init(&o);
  o.minor = below(f, 2), o.promote = below(f, 2), o.concurrent = below(f, 2), o.wait = below(f, 2);
  o.policy = (gch_policy)(o.minor && below(f, 4) ? 0 : below(f, below(f, 16) ? 3 : 200));
  if (below(f, 4)) o.concurrent = o.concurrent && !o.minor, o.promote = o.promote && o.minor;
  if (below(f, 32) == 0) o.struct_bytes = below(f, sizeof o + 1);
  bool flags = o.struct_bytes > 8, minor = flags && o.minor, concurrent = flags && o.concurrent;
  bool fits = minor ? o.policy == GCH_POLICY_NEEDED && !concurrent : !(flags && o.promote);
  bool legal = o.policy < GCH_POLICY_COUNT && o.struct_bytes >= 8 && o.struct_bytes % 4 == 0 && fits;
  CHECK_EQ(gch_collect(s->k.m, &o, below(f, 2) ? &r : NULL), legal ? GCH_OK : GCH_BAD_VALUE);
}

static void nested_frames(struct fuzz *f, struct side *s) {
  GCH_FRAME(s->k.m, own, 3);
  own[0] = *slot(f, s), own[1] = *slot(f, s);
  gch_ref first = own[0];
  (void)first;
  collect(f, s);
  own[2] = own[0];
  *slot(f, s) = own[2];
  *slot(f, s) = own[1];
  GCH_FRAME_END(s->k.m);
}

static void misuse(struct fuzz *f, struct side *s) {
  gch_error error = {0};
  gch_mutator *m;
  char spec[40];
  switch (below(f, 4)) {
    case 0: CHECK(gch_attach(s->k.heap, &m, &error) == GCH_BAD_STATE && m == NULL); break;
    case 1: CHECK_EQ(gch_heap_destroy(s->k.heap, &error), GCH_BAD_STATE); break;
    case 2:
      for (size_t i = 0; i < sizeof spec - 1; i++) spec[i] = "move:EBUSY@nth=1,p0;*"[below(f, 21)];
      spec[sizeof spec - 1] = 0;
      gch_inject(s->k.heap, spec, &error);
      gch_inject(s->k.heap, "", NULL);
      break;
    default:
      gch_native_enter(s->k.m);
      gch_handle_free(s->k.heap, s->handles[below(f, HANDLES)]);
      gch_native_leave(s->k.m);
  }
}

static void call(struct fuzz *f) {
  struct side *s = &f->sides[below(f, 2)], *other = &f->sides[s == f->sides];
  uint32_t op = below(f, 1000);
  if (op < 450)
    allocate(f, s);
  else if (op < 750)
    field(f, s, other);
  else if (op < 830)
    handle(f, s, other);
  else if (op < 860)
    pin(f, s, other);
  else if (op < 880)
    statics(f, s);
  else if (op < 900)
    make_type(f, s);
  else if (op < 906)
    look(f, s);
  else if (op < 915)
    collect(f, s);
  else if (op < 918)
    nested_frames(f, s);
  else if (op < 935)
    misuse(f, s);
  else if (op < 950)
    *slot(f, s) = NULL;
  else if (op < 960)
    identity(f, s, other);
  else if (op < 970)
    swap(f, s, other);
  else if (op < 980)
    resize(f, s, other);
  else if (op < 988)
    runs(f, s, other);
  else
    weak(f, s, other);
  gch_safepoint(s->k.m);
}

/* --- a stream ------------------------------------------------------------------------------------------------- */

static bool side_open(struct fuzz *f, struct side *s) {
  static const gch_mover movers[] = {GCH_MOVER_AUTO,      GCH_MOVER_AUTO,   GCH_MOVER_COPY,
                                     GCH_MOVER_SIMULATED, GCH_MOVER_MEMCPY, GCH_MOVER_SLIDE};
  gch_config c = kit_config(movers[below(f, 6)], 8 + below(f, 64), 256 << below(f, 3));
  c.fault_mode = (gch_fault_mode)below(f, 2);
  c.gc_threads = 1 + below(f, 3);
  c.promote_age = below(f, 4);
  c.stress_interval = below(f, 4) ? 0 : 20;
  *s = (struct side){0};
  gch_error error = {0};
  if (gch_heap_create(&c, &s->k.heap, &error) != GCH_OK) {
    c.mover = GCH_MOVER_MEMCPY, c.fault_mode = GCH_FAULT_THREAD;
    if (!CHECK_EQ(gch_heap_create(&c, &s->k.heap, &error), GCH_OK)) return false;
  }
  if (!kit_types(&s->k) || !CHECK_EQ(gch_attach(s->k.heap, &s->k.m, NULL), GCH_OK)) return false;
  s->types[0] = s->k.node, s->types[1] = s->k.refs, s->types[2] = s->k.bytes;
  s->type_count = 3;
  gch_frame_push(s->k.m, &s->frame, s->slots, SLOTS);
  return true;
}

static void side_close(struct side *s) {
  for (int i = 0; i < STATICS; i++)
    if (s->added[i]) CHECK_EQ(gch_root_remove(s->k.heap, &s->statics[i]), GCH_OK);
  for (int i = 0; i < PINS; i++)
    if (s->pinned[i] != NULL) CHECK_EQ(gch_unpin(s->k.heap, s->pinned[i]), GCH_OK);
  kit_verify(&s->k);
  gch_frame_pop(s->k.m);
  kit_close(&s->k);
}

static void play(uint64_t seed) {
  struct fuzz *f = calloc(1, sizeof *f);
  f->seed = seed;
  f->random = seed * 0x9e3779b97f4a7c15u + 88172645463325252u;
  if (side_open(f, &f->sides[0]) && side_open(f, &f->sides[1])) {
    for (int i = 0; i < STREAM && check_failures == 0; i++) call(f);
    side_close(&f->sides[0]);
    side_close(&f->sides[1]);
  }
  free(f);
}

int main(int argc, char **argv) {
  uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 0) : 5;
  uint64_t seed = argc > 2 && *argv[2] ? strtoull(argv[2], NULL, 0) : clock_ns() % 1000000000;
  uint64_t end = clock_ns() + seconds * 1000000000u, streams = 0;
  check_test = "fuzz_ops";
  do {
    char line[64];
    int n = snprintf(line, sizeof line, "seed %llu\n", (unsigned long long)seed);
    if (getenv("GCH_FUZZ_VERBOSE") != NULL) (void)!write(2, line, (size_t)n);
    play(seed);
    streams++;
    if (check_failures != 0) fprintf(stderr, "fuzz_ops 0 %llu fails\n", (unsigned long long)seed);
    seed++;
  } while (check_failures == 0 && clock_ns() < end);
  printf("fuzz_ops: %llu streams, last seed %llu, %d checks, %d failed\n", (unsigned long long)streams,
         (unsigned long long)seed - 1, check_count, check_failures);
  return check_failures != 0;
}
