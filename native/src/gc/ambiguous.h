/* Ambiguous roots: words of the embedder's that may refer to objects, and are not rewritten.
 *
 * In each pause that needs to know, the words are asked for anew, and what they may refer to becomes a root and a pin until
 * the next time. The pin is one a block, whatever number of words lead there.
 *
 *   minor              young blocks, as young objects have no starts in the live map: each is kept where it stands, and all in it
 *                      lives, as long as it is young
 *   mark               old objects, found by the live map; so they are marked, and no plan moves them
 *   flip               those that are found now and were not when it was planned: un-planned, as what was pinned since. (What
 *                      was not marked cannot have been come by since.)
 *
 * After the flip nothing moves before the next cycle. Not in the table of pins: that needs memory which a pause may not get. */
#ifndef GC_AMBIGUOUS_H
#define GC_AMBIGUOUS_H

#include "gc/roots.h"

/* World stopped. `map`: where old objects start; NULL: young blocks only. Forgets what it found before. */
void ambiguous_gather(gch_heap *heap, const uint64_t *map);
/* Visits copies of the addresses that were found. */
void ambiguous_visit(gch_heap *heap, root_visit visit, void *context);
void ambiguous_destroy(gch_heap *heap);

#endif
