/* A cache in a gcheap heap: a hash map, a list from newest to oldest, values as leaf objects.
 *
 *   table ----> array of chains
 *                 |
 *                 v      chain
 *               entry ----------> entry ...          entry.key, entry.value: byte objects (leaf)
 *   newest ---> entry <--older/newer--> entry <--- oldest
 *
 * What the collector must know of is in three words of this struct (static roots: table, newest, oldest); all else is
 * reached from there. Any number of mutators may use a cache: its lock guards table, list and counters. Who waits for the lock
 * waits in native state, so that a collection never waits for a thread that waits for a lock. Who holds it may allocate
 * and collect. */
#ifndef EXAMPLES_CACHE_H
#define EXAMPLES_CACHE_H

#include <gcheap/gcheap.h>
#include <pthread.h>
#include <sys/types.h>

enum { CACHE_KEY_MAX = 250 };

struct cache_counts {
  uint64_t entries, bytes; /* bytes: entries with their keys and values, as the heap rounds them */
  uint64_t hits, misses, evictions;
};

struct cache {
  gch_heap *heap;                                        /* [const] */
  const gch_type *table_type, *entry_type, *bytes_type;  /* [const] */
  uint64_t heap_bytes;                                   /* [const] the heap's limit */
  pthread_mutex_t lock;
  gch_ref table, newest, oldest;                         /* [lock] static roots; written in managed state */
  uint64_t limit_bytes;                                  /* [lock] */
  struct cache_counts counts;                            /* [lock] */
};

/* `limit_bytes` 0: the heap alone is the limit. */
gch_status cache_open(struct cache *cache, gch_heap *heap, gch_mutator *m, uint64_t limit_bytes, gch_error *error);
void cache_close(struct cache *cache);

/* May collect, may evict. A byte object of `count` bytes, NULL if there is no room for it even in an empty cache. */
gch_ref cache_new_bytes(struct cache *cache, gch_mutator *m, uint64_t count);

/* `value` points at a word that is a root (a slot of a frame): these calls may collect, and the word follows the object.
 * set: false if there is no room. get: false if the key is not there. */
bool cache_set(struct cache *cache, gch_mutator *m, const char *key, gch_ref *value);
bool cache_get(struct cache *cache, gch_mutator *m, const char *key, gch_ref *value);
bool cache_delete(struct cache *cache, gch_mutator *m, const char *key);

/* Sets the limit and evicts down to it. */
void cache_limit(struct cache *cache, gch_mutator *m, uint64_t limit_bytes);
struct cache_counts cache_count(struct cache *cache, gch_mutator *m);

/* Walks the list from oldest to newest; `visit` must not allocate nor reach a safepoint. */
typedef bool (*cache_visit)(gch_ref key, gch_ref value, void *data);
bool cache_walk(struct cache *cache, gch_mutator *m, cache_visit visit, void *data);

/* fork() while nobody is half-way through a change, or holds the lock: the child may use the cache. A safepoint. */
pid_t cache_fork(struct cache *cache, gch_mutator *m);

/* Are list, table and counters consistent? NULL, or what is wrong. */
const char *cache_check(struct cache *cache, gch_mutator *m);

#endif
