/* The sampler: a thread that writes figures of the heap and a map of its memory into the ring file, for other processes. It
 * exists only where there is a file.
 *
 *   WAITING --PERIOD_NS, or longer if the last sample took long--> SAMPLING --> WAITING           any --quit--> gone
 *
 * It is a thread of its own so that nobody else pays: neither mutators nor pauses nor the collector know of it, and the figures
 * move while nothing is collected. It takes locks of statistics only (gch_stats_get: that of the large spaces for a walk over
 * their entries, that of measures for a copy), never the cycle's, and waits for no pause. At most one part in SHARE of its time
 * goes into samples, whatever they cost. It never calls malloc (fork: os/thread.h).
 *
 * The map is a sample: `populated` and `huge` of an arena are read as statistics read them; what lives in it was told by the
 * driver of the last major (sampler_note), an atomic byte an arena. */
#ifndef GC_SAMPLER_H
#define GC_SAMPLER_H

#include "heap/heap.h"

/* Nothing happens without a ring file. */
gch_status sampler_start(gch_heap *heap, gch_error *error);
void sampler_stop(gch_heap *heap);
/* The driver of a major that ends: the tables say now what lives in the arena. The lock of its space held, or the world stopped. */
void sampler_note(gch_heap *heap, uint32_t arena);
/* fork(): the lock (NULL without a sampler); in the child, the thread does not exist: its record goes. */
struct lock *sampler_lock(gch_heap *heap);
void sampler_forget(gch_heap *heap);

#endif
