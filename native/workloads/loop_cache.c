#include "workloads/loops_internal.h"

/* An entry: header | record | key | when it was used. A record: header | three texts | key | uses | 16 bytes.
 * A text: header | key | bytes. */
enum { RECORD = 8, KEY = 16, USED = 24, ENTRY_BYTES = 32 };
enum { TEXTS = 3, TEXT = 8, RECORD_KEY = 32, USES = 40, RECORD_BYTES = 64 };
enum { TEXT_KEY = 8, TEXT_FIXED = 8, TEXT_LEAST = 16, TEXT_MORE = 128 };
enum { TYPE_ENTRY, TYPE_RECORD, TYPE_TEXT, CANDIDATES = 5 };
enum { BY_KEY, BY_ENTRY, NEW_RECORD, NEW_ENTRY };

#define RANK_TO_KEY 2654435761u /* a prime above every number of keys: popular keys lie far from each other */

static uint64_t key_of(uint64_t rank, uint64_t keys) { return rank * RANK_TO_KEY % keys; }

static gch_status make_types(gch_heap *heap, const gch_type *types[3], gch_error *error) {
  static const uint32_t entry[] = {RECORD}, record[] = {TEXT, TEXT + 8, TEXT + 16};
  const gch_type_desc descs[3] = {
      {sizeof(gch_type_desc), ENTRY_BYTES - 8, entry, 1, GCH_TAIL_NONE, 0, 0, 0, "entry", 0},
      {sizeof(gch_type_desc), RECORD_BYTES - 8, record, TEXTS, GCH_TAIL_NONE, 0, 0, 0, "record", 0},
      {sizeof(gch_type_desc), TEXT_FIXED, NULL, 0, GCH_TAIL_BYTES, 1, 0, 0, "text", 0},
  };
  gch_status status = GCH_OK;
  for (int i = 0; i < 3 && status == GCH_OK; i++) status = gch_type_new(heap, &descs[i], &types[i], error);
  return status;
}

/* --- entries ------------------------------------------------------------------------------------------------------ */

static uint64_t text_bytes(uint64_t key, int i) {
  return TEXT_LEAST + (key * 0x9e3779b97f4a7c15u >> (40 + 7 * i)) % TEXT_MORE;
}

/* A record with its texts into root NEW_RECORD, its entry into NEW_ENTRY. May collect. */
static bool make_entry(gch_mutator *m, const gch_type *const types[3], gch_ref *frame, uint64_t key, uint64_t now) {
  frame[NEW_RECORD] = gch_alloc(m, types[TYPE_RECORD]);
  if (frame[NEW_RECORD] == NULL) return false;
  *word_at(frame[NEW_RECORD], RECORD_KEY) = key;
  for (int i = 0; i < TEXTS; i++) {
    gch_ref text = gch_alloc_array(m, types[TYPE_TEXT], text_bytes(key, i));
    if (text == NULL) return false;
    *word_at(text, TEXT_KEY) = key;
    gch_set(m, frame[NEW_RECORD], TEXT + 8 * (size_t)i, text);
  }
  frame[NEW_ENTRY] = gch_alloc(m, types[TYPE_ENTRY]);
  if (frame[NEW_ENTRY] == NULL) return false;
  gch_set(m, frame[NEW_ENTRY], RECORD, frame[NEW_RECORD]);
  *word_at(frame[NEW_ENTRY], KEY) = key;
  *word_at(frame[NEW_ENTRY], USED) = now;
  return true;
}

static void list_entry(gch_mutator *m, gch_ref *frame, uint64_t key, uint64_t place) {
  array_put(m, frame[BY_KEY], key, frame[NEW_ENTRY]);
  array_put(m, frame[BY_ENTRY], place, frame[NEW_ENTRY]);
}

static int fill(gch_mutator *m, gch_ref *frame, uint64_t entries, uint64_t keys) {
  const gch_type *types[3];
  int status = (int)make_types(m->heap, types, &mutator_of(m)->error);
  for (uint64_t i = 0; i < entries && status == GCH_OK; i++) {
    uint64_t key = key_of(i, keys);
    if (!make_entry(m, types, frame, key, 0)) status = GCH_NO_MEMORY;
    if (status == GCH_OK) list_entry(m, frame, key, i);
    gch_safepoint(m);
  }
  return status;
}

static int new_array(gch_mutator *m, const gch_type *refs, uint64_t count, gch_ref *out) {
  *out = gch_alloc_array(m, refs, count);
  return *out == NULL ? (int)gch_last_error(m)->status : GCH_OK;
}

static int new_handle(gch_mutator *m, gch_ref object, gch_handle *out) {
  *out = gch_handle_new(m, object);
  return *out == 0 ? (int)gch_last_error(m)->status : GCH_OK;
}

int cache_build(gch_mutator *m, uint64_t entries, uint64_t keys, const gch_type *refs, gch_handle *by_key,
                gch_handle *by_entry) {
  int status = GCH_OK;
  gch_native_leave(m);
  GCH_FRAME(m, frame, RUNNER_ROOTS);
  if (entries == 0 || keys < 2 * entries || keys >= RANK_TO_KEY)
    status = (int)error_set(&mutator_of(m)->error, GCH_BAD_VALUE,
                            "%llu entries for %llu keys, expected one or more, and twice as many keys, fewer than %u",
                            (unsigned long long)entries, (unsigned long long)keys, RANK_TO_KEY);
  if (status == GCH_OK) status = new_array(m, refs, keys, &frame[BY_KEY]);
  if (status == GCH_OK) status = new_array(m, refs, entries, &frame[BY_ENTRY]);
  if (status == GCH_OK) status = fill(m, frame, entries, keys);
  if (status == GCH_OK) status = new_handle(m, frame[BY_KEY], by_key);
  if (status == GCH_OK) status = new_handle(m, frame[BY_ENTRY], by_entry);
  GCH_FRAME_END(m);
  gch_native_enter(m);
  return status;
}

static bool entry_is_right(gch_ref entry, uint64_t key) {
  gch_ref record = gch_load(entry, RECORD);
  if (*word_at(entry, KEY) != key || *word_at(record, RECORD_KEY) != key) return false;
  for (int i = 0; i < TEXTS; i++)
    if (*word_at(gch_load(record, TEXT + 8 * (size_t)i), TEXT_KEY) != key) return false;
  return true;
}

int cache_check(gch_mutator *m, gch_handle by_key, gch_handle by_entry, uint64_t *entries) {
  struct bulk b;
  uint64_t keys = 0, listed = 0;
  bulk_enter(&b, m);
  int status = bulk_root_array(&b, 0, by_key, &keys);
  if (status == GCH_OK) status = bulk_root_array(&b, 1, by_entry, entries);
  for (uint64_t i = 0; i < *entries && status == GCH_OK; i++) {
    gch_ref entry = array_at(b.refs[1], i);
    uint64_t key = entry == NULL ? keys : *word_at(entry, KEY);
    if (key >= keys || array_at(b.refs[0], key) != entry || !entry_is_right(entry, key))
      status = bulk_fail(&b, GCH_CORRUPT, "entry %llu is not that of its key", (unsigned long long)i);
    if (i % BULK_CHUNK == 0) gch_safepoint(m);
  }
  for (uint64_t key = 0; key < keys && status == GCH_OK; key++) {
    listed += array_at(b.refs[0], key) != NULL;
    if (key % BULK_CHUNK == 0) gch_safepoint(m);
  }
  if (status == GCH_OK && listed != *entries)
    status = bulk_fail(&b, GCH_CORRUPT, "%llu of %llu entries are listed by their keys", (unsigned long long)listed,
                       (unsigned long long)*entries);
  return bulk_leave(&b, status);
}

/* --- the cache at work -------------------------------------------------------------------------------------------- */

static gch_status cache_begin(struct runner *runner) {
  struct loop *run = (struct loop *)runner;
  gch_status status = loop_begin(runner);
  if (status != GCH_OK) return status;
  if (run->lengths[BY_KEY] < run->config.keys || run->lengths[BY_ENTRY] == 0 || run->config.ranks == NULL)
    return error_set(&mutator_of(run->runner.m)->error, GCH_BAD_VALUE, "a cache without entries or keys");
  return make_types(run->runner.heap, run->types, &mutator_of(run->runner.m)->error);
}

static uint64_t draw_key(struct loop *run) {
  const uint64_t *ranks = run->config.ranks;
  uint64_t random = random_next(&run->random), i = random >> 48, within = random >> 16 & 0xffffffff;
  uint64_t rank = ranks[i] + ((ranks[i + 1] - ranks[i]) * within >> 32);
  return key_of(rank, run->config.keys);
}

/* The least recently used of a few. */
static uint64_t choose_victim(struct loop *run) {
  uint64_t oldest = UINT64_MAX, victim = 0;
  for (int i = 0; i < CANDIDATES; i++) {
    uint64_t place = random_below(&run->random, run->lengths[BY_ENTRY]);
    uint64_t used = *word_at(array_at(run->runner.frame[BY_ENTRY], place), USED);
    if (used < oldest) oldest = used, victim = place;
  }
  return victim;
}

static bool miss(struct loop *run, uint64_t key, uint64_t now) {
  gch_mutator *m = run->runner.m;
  gch_ref *frame = run->runner.frame;
  loop_result *r = &run->result;
  uint64_t place = choose_victim(run);
  r->misses++;
  r->allocs += TEXTS + 2;
  if (!make_entry(m, run->types, frame, key, now)) {
    r->failed_allocs++;
    return false;
  }
  array_put(m, frame[BY_KEY], *word_at(array_at(frame[BY_ENTRY], place), KEY), NULL);
  list_entry(m, frame, key, place);
  r->stores += TEXTS + 4;
  return true;
}

static void hit(struct loop *run, gch_ref entry, uint64_t now) {
  gch_ref record = gch_load(entry, RECORD), text = gch_load(record, TEXT + 8 * (size_t)(now % TEXTS));
  *word_at(entry, USED) = now;
  ++*word_at(record, USES);
  run->result.checksum += *word_at(text, TEXT_KEY);
}

static bool cache_operate(struct runner *runner, uint64_t op) {
  struct loop *run = (struct loop *)runner;
  for (uint32_t i = 0; i < run->config.steps; i++) {
    uint64_t key = draw_key(run), now = op * run->config.steps + i + 1;
    gch_ref entry = array_at(run->runner.frame[BY_KEY], key);
    if (entry != NULL)
      hit(run, entry, now);
    else if (!miss(run, key, now))
      return false;
  }
  gch_safepoint(run->runner.m);
  return true;
}

const struct workload cache_workload = {"gcheap-loop", cache_begin, cache_operate};

/* --- made older ----------------------------------------------------------------------------------------------------- */

static void replace_one(struct loop *run, bool *more) {
  uint64_t key = random_below(&run->random, run->config.keys);
  if (array_at(run->runner.frame[BY_KEY], key) == NULL) *more = miss(run, key, 1);
  gch_safepoint(run->runner.m);
}

int cache_churn(gch_mutator *m, gch_handle by_key, gch_handle by_entry, uint64_t keys, uint64_t misses, uint64_t seed) {
  struct loop run = {.runner = {.heap = m->heap, .m = m}, .random = random_seed(seed), .config.keys = keys};
  gch_frame frame;
  bool more = true;
  gch_native_leave(m);
  gch_frame_push(m, &frame, run.runner.frame, RUNNER_ROOTS);
  int status = (int)gch_handle_get(m, by_key, &run.runner.frame[BY_KEY]);
  if (status == GCH_OK) status = (int)gch_handle_get(m, by_entry, &run.runner.frame[BY_ENTRY]);
  if (status == GCH_OK) status = (int)make_types(m->heap, run.types, &mutator_of(m)->error);
  if (status == GCH_OK) run.lengths[BY_ENTRY] = gch_length(m->heap, run.runner.frame[BY_ENTRY]);
  while (status == GCH_OK && more && run.result.misses < misses) replace_one(&run, &more);
  if (!more) status = GCH_NO_MEMORY;
  gch_frame_pop(m);
  gch_native_enter(m);
  return status;
}
