/* Weak references and ephemerons: cells, of which collectors look at what they refer to last.
 *
 * A cell is an object of 32 bytes: header, target (of an ephemeron: its key), value, link. Target and value are references to
 * whoever fixes, forwards or verifies; markers do not scan a cell. A marker that comes to one whose target is not marked
 * lists it, by the link, a raw word, so no memory is needed that might be refused. Links are 0 but from a mark to the end of
 * its judgement, in which no listed cell moves: those of a minor are taken apart in the same pause, those of a major before
 * it plans. A cell in a list has no young target (major), so minors, which list cells with young targets only, have no use
 * for its link; an ephemeron is to them an object with two references.
 *
 * A major, beside mutators:
 *
 *   mark      a cell with a young target, or none, is passed over (what is young lives by decree), and so is one that is born
 *             meanwhile: it is born marked, and what it refers to was in the program's hands. Values whose ephemerons' keys
 *             are marked are traced, whenever markers run dry, until no more are found. A read of a cell logs what it returns,
 *             as a store does what it overwrites (gc/snapshot.h): it is reachable now, and not by what has been marked
 *   remark    ephemerons are looked at again only if something has been marked since they last were. When the mark is complete,
 *             `judging` is set
 *   judged    what is old and not marked is dead. Listed cells that refer to it are cleared, beside mutators, of which those
 *             that read one of these cells before are told null. Then `judging` ends. (A read that began before looks at the cell
 *             once more if it finds a mark: what has died may have been marked since, by the next step)
 *   resurrected   objects with finalizers that are dead go to the queue (gc/finalize.h) and are marked, with all they refer to.
 *             Nobody can come to any of it: not by cells, which are cleared, and the queue hands it out only later. Cells in it
 *             that refer to what is still not marked are cleared; nobody has them
 *
 * Only then is the dead freed, and the cycle goes on to its plan. In a pause, minors too, the order is the same.
 *
 * Each look at all waiting ephemerons costs as much as there are of them, and an ephemeron that leads to the key of another
 * may take one more. The list is turned round each time, so a chain that is listed in its order, or in reverse, takes two. */
#ifndef GC_WEAK_H
#define GC_WEAK_H

#include "heap/heap.h"

gch_status weak_init(gch_heap *heap, gch_error *error);

/* What a marker has come to; heads of lists. */
struct cells {
  uintptr_t weak;    /* weak references; at the end of a mark ephemerons, too */
  uintptr_t waiting; /* ephemerons whose keys were not marked */
  uintptr_t looked, last; /* of those: looked at in this round, in vain; the first of them that was */
};

static inline uint64_t *cell_word(uintptr_t cell, uint32_t offset) { return (uint64_t *)(cell + offset); }

void cells_push(uintptr_t *list, uintptr_t cell);
/* 0: it is empty. */
uintptr_t cells_pop(uintptr_t *list);
/* The list `first`, whose last cell is `last`, and then the other. */
void cells_join(uintptr_t *list, uintptr_t first, uintptr_t last);
static inline bool cell_is_listed(uintptr_t cell) { return at_load_relaxed(cell_word(cell, CELL_LINK)) != 0; }

/* Is what the word refers to in the scope of the mark, and not marked so far? */
bool weak_is_unmarked(const gch_heap *heap, uint64_t word, bool minor);
/* A marker meets a weak reference. */
void weak_meet(gch_heap *heap, struct cells *cells, uintptr_t cell, bool minor);
/* A major's marker meets an ephemeron: the value, if it is to be traced now, or 0. */
uint64_t ephemeron_meet(gch_heap *heap, struct cells *cells, uintptr_t cell);

/* The mark is complete: clears the listed cells that refer to what is not marked, and takes the lists apart. `beside`: the caller
 * is a marker that stands still for pauses. */
void cells_clear(gch_heap *heap, struct cells *cells, bool minor, bool beside);
/* The mark is given up: takes the lists apart, and clears nothing. */
void cells_forget(struct cells *cells);

#endif
