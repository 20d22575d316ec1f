#include "cache.h"

#include <string.h>
#include <unistd.h>

enum { TABLE_MIN = 64, EVICT_SHARE = 8 };

/* An entry as it lies in the heap. References are read with gch_load and written with gch_set only. */
struct entry {
  uint64_t header;
  gch_ref chain, older, newer, key, value;
  uint64_t hash, cost;
};

enum {
  CHAIN = offsetof(struct entry, chain),
  OLDER = offsetof(struct entry, older),
  NEWER = offsetof(struct entry, newer),
  KEY = offsetof(struct entry, key),
  VALUE = offsetof(struct entry, value),
};

static struct entry *entry_of(gch_ref object) { return (struct entry *)(void *)object; }

static size_t slot_of(uint64_t index) { return GCH_HEADER_BYTES + 8 * (size_t)index; }

/* --- life ----------------------------------------------------------------------------------------------------- */

static gch_status open_types(struct cache *c, gch_error *error) {
  static const uint32_t entry_refs[] = {CHAIN, OLDER, NEWER, KEY, VALUE};
  const gch_type_desc table = {.struct_bytes = sizeof table, .tail = GCH_TAIL_REFS, .name = "table"};
  const gch_type_desc bytes = {.struct_bytes = sizeof bytes, .tail = GCH_TAIL_BYTES, .tail_bytes = 1, .name = "bytes"};
  const gch_type_desc entry = {.struct_bytes = sizeof entry,
                               .fixed_bytes = sizeof(struct entry) - GCH_HEADER_BYTES,
                               .ref_offsets = entry_refs,
                               .ref_count = sizeof entry_refs / sizeof entry_refs[0],
                               .name = "entry"};
  gch_status status = gch_type_new(c->heap, &table, &c->table_type, error);
  if (status == GCH_OK) status = gch_type_new(c->heap, &bytes, &c->bytes_type, error);
  if (status == GCH_OK) status = gch_type_new(c->heap, &entry, &c->entry_type, error);
  return status;
}

gch_status cache_open(struct cache *c, gch_heap *heap, gch_mutator *m, uint64_t limit_bytes, gch_error *error) {
  *c = (struct cache){.heap = heap, .limit_bytes = limit_bytes == 0 ? UINT64_MAX : limit_bytes};
  gch_status status = open_types(c, error);
  if (status != GCH_OK) return status;
  pthread_mutex_init(&c->lock, NULL);
  gch_stats stats;
  gch_stats_get(heap, &stats, sizeof stats);
  c->heap_bytes = stats.max_bytes;
  if (gch_root_add(heap, &c->table) != GCH_OK || gch_root_add(heap, &c->newest) != GCH_OK ||
      gch_root_add(heap, &c->oldest) != GCH_OK)
    *error = (gch_error){GCH_NO_MEMORY, "no memory for three roots"};
  else if ((c->table = gch_alloc_array(m, c->table_type, TABLE_MIN)) == NULL)
    *error = *gch_last_error(m);
  else
    return GCH_OK;
  cache_close(c);
  return error->status;
}

void cache_close(struct cache *c) {
  gch_root_remove(c->heap, &c->table);
  gch_root_remove(c->heap, &c->newest);
  gch_root_remove(c->heap, &c->oldest);
  pthread_mutex_destroy(&c->lock);
}

/* --- lock ----------------------------------------------------------------------------------------------------- */

static void lock(struct cache *c, gch_mutator *m) {
  if (pthread_mutex_trylock(&c->lock) == 0) return;
  gch_native_enter(m);
  pthread_mutex_lock(&c->lock);
  gch_native_leave(m); /* may wait for the end of a pause; no collector wants this lock */
}

static void unlock(struct cache *c) { pthread_mutex_unlock(&c->lock); }

/* --- table and list; the lock is held, nothing here allocates --------------------------------------------------- */

static uint64_t hash_key(const char *key) {
  uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
  for (; *key != 0; key++) hash = (hash ^ (unsigned char)*key) * 0x100000001b3u;
  return hash;
}

static bool key_equals(struct cache *c, gch_ref object, const char *key) {
  size_t length = strlen(key);
  return gch_length(c->heap, object) == length && memcmp(gch_payload(object), key, length) == 0;
}

static size_t bucket_of(struct cache *c, uint64_t hash) { return slot_of(hash % gch_length(c->heap, c->table)); }

static gch_ref find(struct cache *c, const char *key, uint64_t hash) {
  gch_ref entry = gch_load(c->table, bucket_of(c, hash));
  while (entry != NULL && !(entry_of(entry)->hash == hash && key_equals(c, gch_load(entry, KEY), key)))
    entry = gch_load(entry, CHAIN);
  return entry;
}

static void list_push(struct cache *c, gch_mutator *m, gch_ref entry) {
  gch_set(m, entry, NEWER, NULL);
  gch_set(m, entry, OLDER, c->newest);
  if (c->newest != NULL) gch_set(m, c->newest, NEWER, entry);
  c->newest = entry; /* a static root is written like any variable, in managed state */
  if (c->oldest == NULL) c->oldest = entry;
}

static void list_remove(struct cache *c, gch_mutator *m, gch_ref entry) {
  gch_ref older = gch_load(entry, OLDER), newer = gch_load(entry, NEWER);
  if (newer == NULL)
    c->newest = older;
  else
    gch_set(m, newer, OLDER, older);
  if (older == NULL)
    c->oldest = newer;
  else
    gch_set(m, older, NEWER, newer);
}

static void table_remove(struct cache *c, gch_mutator *m, gch_ref entry) {
  gch_ref holder = c->table;
  size_t offset = bucket_of(c, entry_of(entry)->hash);
  for (gch_ref at; (at = gch_load(holder, offset)) != entry; offset = CHAIN) holder = at;
  gch_set(m, holder, offset, gch_load(entry, CHAIN));
}

/* The entry is garbage from here on, unless somebody holds its value. */
static void drop_entry(struct cache *c, gch_mutator *m, gch_ref entry) {
  list_remove(c, m, entry);
  table_remove(c, m, entry);
  c->counts.entries--;
  c->counts.bytes -= entry_of(entry)->cost;
}

static void evict_to(struct cache *c, gch_mutator *m, uint64_t bytes) {
  while (c->counts.bytes > bytes && c->oldest != NULL) {
    drop_entry(c, m, c->oldest);
    c->counts.evictions++;
    gch_safepoint(m); /* a loop without a bound polls; nothing but roots is held here */
  }
}

/* --- allocation ----------------------------------------------------------------------------------------------- */

/* Makes room when the heap is full: evicts a share of the cache. False if there is nothing left to evict. */
static bool make_room(struct cache *c, gch_mutator *m) {
  lock(c, m);
  bool any = c->oldest != NULL;
  uint64_t bytes = c->counts.bytes;
  evict_to(c, m, bytes - bytes / EVICT_SHARE - 1);
  unlock(c);
  return any;
}

static gch_ref alloc(struct cache *c, gch_mutator *m, const gch_type *type, uint64_t count) {
  for (;;) {
    gch_ref object = gch_alloc_array(m, type, count);
    if (object != NULL) return object;
    if (gch_last_error(m)->status != GCH_NO_MEMORY) return NULL; /* it cannot be, however much is let go of */
    if (count >= c->heap_bytes || !make_room(c, m)) return NULL; /* (an element has a byte at least) */
  }
}

gch_ref cache_new_bytes(struct cache *c, gch_mutator *m, uint64_t count) { return alloc(c, m, c->bytes_type, count); }

static gch_ref new_key(struct cache *c, gch_mutator *m, const char *key) {
  size_t length = strlen(key);
  gch_ref object = cache_new_bytes(c, m, length);
  if (object != NULL) memcpy(gch_payload(object), key, length);
  return object;
}

/* Lock held. Twice the chains when there are two entries a chain. A full heap just leaves the chains longer. */
static void grow_table(struct cache *c, gch_mutator *m) {
  uint64_t buckets = gch_length(c->heap, c->table);
  if (c->counts.entries < 2 * buckets) return;
  gch_ref grown = gch_resize(m, c->table, 2 * buckets); /* the same object or another one: only this root names it */
  if (grown == NULL) return;
  c->table = grown;
  gch_fill_refs(m, c->table, 0, buckets, NULL); /* the chains are made anew */
  GCH_FRAME(m, roots, 1); /* the entry at hand: a safepoint in the loop may move it */
  for (roots[0] = c->oldest; roots[0] != NULL; roots[0] = gch_load(roots[0], NEWER)) {
    size_t bucket = bucket_of(c, entry_of(roots[0])->hash);
    gch_set(m, roots[0], CHAIN, gch_load(c->table, bucket));
    gch_set(m, c->table, bucket, roots[0]);
    gch_safepoint(m);
  }
  GCH_FRAME_END(m);
}

/* --- operations ----------------------------------------------------------------------------------------------- */

static void link_entry(struct cache *c, gch_mutator *m, gch_ref entry) {
  size_t bucket = bucket_of(c, entry_of(entry)->hash);
  gch_set(m, entry, CHAIN, gch_load(c->table, bucket));
  gch_set(m, c->table, bucket, entry);
  list_push(c, m, entry);
  c->counts.entries++;
  c->counts.bytes += entry_of(entry)->cost;
}

bool cache_set(struct cache *c, gch_mutator *m, const char *key, gch_ref *value) {
  enum { NEW_KEY, NEW_ENTRY, COUNT };
  GCH_FRAME(m, roots, COUNT);
  roots[NEW_KEY] = new_key(c, m, key);
  roots[NEW_ENTRY] = roots[NEW_KEY] == NULL ? NULL : alloc(c, m, c->entry_type, 0);
  bool room = roots[NEW_ENTRY] != NULL;
  if (room) {
    gch_ref entry = roots[NEW_ENTRY]; /* good until the next call that may collect: lock() may */
    gch_set(m, entry, KEY, roots[NEW_KEY]);
    gch_set(m, entry, VALUE, *value);
    entry_of(entry)->hash = hash_key(key);
    entry_of(entry)->cost = gch_object_bytes(c->heap, entry) + gch_object_bytes(c->heap, roots[NEW_KEY]) +
                            gch_object_bytes(c->heap, *value);
    lock(c, m);
    gch_ref before = find(c, key, hash_key(key));
    if (before != NULL) drop_entry(c, m, before);
    link_entry(c, m, roots[NEW_ENTRY]);
    evict_to(c, m, c->limit_bytes);
    grow_table(c, m);
    unlock(c);
  }
  GCH_FRAME_END(m);
  return room;
}

bool cache_get(struct cache *c, gch_mutator *m, const char *key, gch_ref *value) {
  lock(c, m);
  gch_ref entry = find(c, key, hash_key(key));
  if (entry != NULL) {
    list_remove(c, m, entry);
    list_push(c, m, entry);
    *value = gch_load(entry, VALUE);
    c->counts.hits++;
  } else {
    c->counts.misses++;
  }
  unlock(c);
  return entry != NULL;
}

bool cache_delete(struct cache *c, gch_mutator *m, const char *key) {
  lock(c, m);
  gch_ref entry = find(c, key, hash_key(key));
  if (entry != NULL) drop_entry(c, m, entry);
  unlock(c);
  return entry != NULL;
}

void cache_limit(struct cache *c, gch_mutator *m, uint64_t limit_bytes) {
  lock(c, m);
  c->limit_bytes = limit_bytes;
  evict_to(c, m, limit_bytes);
  unlock(c);
}

struct cache_counts cache_count(struct cache *c, gch_mutator *m) {
  lock(c, m);
  struct cache_counts counts = c->counts;
  unlock(c);
  return counts;
}

bool cache_walk(struct cache *c, gch_mutator *m, cache_visit visit, void *data) {
  bool more = true;
  lock(c, m);
  for (gch_ref entry = c->oldest; entry != NULL && more; entry = gch_load(entry, NEWER))
    more = visit(gch_load(entry, KEY), gch_load(entry, VALUE), data);
  unlock(c);
  return more;
}

pid_t cache_fork(struct cache *c, gch_mutator *m) {
  lock(c, m); /* whoever waits for it does so in native state, so fork() need not wait for them */
  pid_t child = fork();
  unlock(c); /* in both processes */
  return child;
}

/* Lock held. */
static const char *check_entry(struct cache *c, gch_ref entry) {
  char key[CACHE_KEY_MAX + 1];
  gch_ref key_object = gch_load(entry, KEY), newer = gch_load(entry, NEWER), older = gch_load(entry, OLDER);
  uint64_t length = gch_length(c->heap, key_object);
  if (length > CACHE_KEY_MAX) return "a key is too long";
  memcpy(key, gch_payload(key_object), length);
  key[length] = 0;
  if (hash_key(key) != entry_of(entry)->hash) return "a key has another hash than its entry says";
  if (find(c, key, entry_of(entry)->hash) != entry) return "an entry of the list is not in the table";
  if (newer == NULL ? c->newest != entry : gch_load(newer, OLDER) != entry) return "the list is broken towards new";
  if (older == NULL ? c->oldest != entry : gch_load(older, NEWER) != entry) return "the list is broken towards old";
  return NULL;
}

const char *cache_check(struct cache *c, gch_mutator *m) {
  const char *wrong = NULL;
  uint64_t entries = 0, bytes = 0;
  lock(c, m);
  for (gch_ref entry = c->newest; entry != NULL && wrong == NULL; entry = gch_load(entry, OLDER)) {
    wrong = check_entry(c, entry);
    entries++;
    bytes += entry_of(entry)->cost;
  }
  if (wrong == NULL && (entries != c->counts.entries || bytes != c->counts.bytes)) wrong = "the counters are wrong";
  unlock(c);
  return wrong;
}
