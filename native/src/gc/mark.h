/* Marking: from the roots, in parallel, one bit an object.
 *
 * Each worker has a private stack of candidates, a prefetch queue of 16 in front of the work (Cher, Hosking, Vitek,
 * "Software prefetching for mark-sweep garbage collection", ASPLOS 2004) and a small deque that others steal from. A
 * candidate is an address, or a chunk of a large array of references. Setting the bit decides who scans an object.
 *
 * The stack is bounded (a sixteenth of the heap's limit, populated as it grows). When it is full the
 * candidate is dropped and the block of the object that held the reference is flagged; flagged blocks are scanned
 * again, until none is left. So marking needs no memory that it might not get, and no recursion.
 *
 * A minor marks young objects only, a major all others. Each has markers of its own, as minors run while a major marks:
 *
 *   mark_begin (a pause)  the referents of all roots are marked; from now on stores log what they overwrite (gc/snapshot.h),
 *                         and what is born is born marked
 *   mark_beside           mutators run; markers trace references between old objects, and what full logs hold, and stand
 *                         still in pauses. What a slot holds may be young: that is passed over, as it lives by decree, and
 *                         what it refers to was reachable at the beginning, or has been born since
 *   mark_remark (a pause) takes what logs hold. If that can be marked in the time given, the mark is complete; else beside
 *                         again. Each round marks something, of what there was at the beginning, so they end
 *
 *   mark_judge            mutators run; what is not marked is dead, but for what finalizers keep
 *
 * In a pause alone mark_major does all of it. */
#ifndef GC_MARK_H
#define GC_MARK_H

#include "gc/cards.h"

struct mark_result {
  uint64_t objects;
  uint64_t bytes; /* rounded to granules; large objects to granules too */
};

gch_status mark_init(gch_heap *heap, gch_error *error);
void mark_destroy(gch_heap *heap);

/* World stopped. */
void mark_minor(gch_heap *heap, struct mark_result *result);
void mark_major(gch_heap *heap, struct mark_result *result);
/* After mark_minor, any worker: the next slots (gc/cards.h) of those whose cards it has cleaned; returns how many, 0: no more. `next`
 * (atomic, 0 at first) is shared. */
uint32_t mark_young_slots(const gch_heap *heap, uint64_t *next, const struct card_slot **first);

/* World stopped, no young objects. */
void mark_begin(gch_heap *heap);
/* With at most `workers`, until there is nothing left to do. */
void mark_beside(gch_heap *heap, uint32_t workers);
/* World stopped; false: it has taken too long (CLOCK_MONOTONIC, ns), and there is more to do. */
bool mark_remark(gch_heap *heap, uint64_t deadline_ns);
/* Beside mutators, with at most `workers`, after that: weak cells that refer to what is not marked are cleared, what is to be
 * finalized is marked (gc/weak.h). */
void mark_judge(gch_heap *heap, uint32_t workers);
void mark_end(gch_heap *heap, struct mark_result *result);
/* In the child of fork(), between any two of these steps, or where markers stand still: they forget what they have found. If weak
 * cells were being cleared, they are. The bits that have been set are the caller's. */
void mark_give_up(gch_heap *heap);

/* True, or it aborts with a reference from what is marked to what is not. World stopped, the mark complete. */
bool mark_is_closed(gch_heap *heap);

/* May the word be a reference to an old object (by the live map) that is not marked? */
bool mark_wanted(const gch_heap *heap, uint64_t word);
/* A store found no room to log `word`, which it overwrites: marks its object here. Any thread, between mark_begin and the
 * remark that ends the mark. */
void mark_overwritten(gch_heap *heap, uint64_t word);

#endif
