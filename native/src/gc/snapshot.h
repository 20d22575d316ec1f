/* The snapshot at the beginning: what mutators overwrite while a major marks beside them.
 *
 * Yuasa, "Real-time garbage collection on general-purpose machines", 1990: whatever could be reached when marking began is
 * marked, because a reference that is about to be overwritten is logged first. What is born later is born marked, so nothing
 * else has to be logged but what is read of weak cells (gc/weak.h): no roots, no loads, no stores into young objects (but nobody tells those apart in the barrier).
 *
 *   buffer:  FREE --a mutator's store--> ITS LOG --full; remark; detach--> FULL --a marker takes it, and has looked--> FREE
 *              a log that is full loses what is marked by then, and goes on if that was much
 *
 * A buffer is 4 KiB of words, as they were in their slots. Not every word is a reference: of a type with tags it may be a
 * number, of a young object it means nothing after the next minor. So a word is taken for a reference if an old object
 * starts there by the live map. If it was none, an object lives a cycle longer.
 *
 * Who overwrites the same slots over and over hands over each object once or twice, so markers come to an end. The lists are
 * stacks whose heads count pushes (Treiber, 1986), as takers are many. When there is no free buffer the mutator
 * marks what it overwrites itself (mark_overwritten), so a store never waits. `snapshot` of a mutator changes with the world
 * stopped only; one that attaches or detaches holds the lock of the list. */
#ifndef GC_SNAPSHOT_H
#define GC_SNAPSHOT_H

#include "heap/mutator.h"

gch_status snapshot_init(gch_heap *heap, gch_error *error);
void snapshot_destroy(gch_heap *heap);

enum { SNAPSHOT_WORDS = 512 }; /* of a buffer */

/* World stopped: stores log from now on; hand over what logs hold; no longer. */
void snapshot_begin(gch_heap *heap);
void snapshot_flush(gch_heap *heap);
void snapshot_end(gch_heap *heap);
/* In the child of fork(): the mark is given up, and all logs with it, those of threads that are not here, too. */
void snapshot_give_up(gch_heap *heap);

/* The list of mutators locked, the mutator's own thread. */
void snapshot_attach(gch_heap *heap, struct mutator *m);
void snapshot_detach(gch_heap *heap, struct mutator *m);

/* A full buffer (index + 1; 0: there is none), whose words are then the caller's until it gives the buffer back. */
uint32_t snapshot_take(gch_heap *heap, const uint64_t **words, uint32_t *count);
void snapshot_give(gch_heap *heap, uint32_t buffer);
static inline bool snapshot_pending(const gch_heap *h) { return (uint32_t)at_load(&h->snapshot.full) != 0; }

/* After the mark: the memory of the buffers goes, but for a few. */
void snapshot_trim(gch_heap *heap);

#endif
