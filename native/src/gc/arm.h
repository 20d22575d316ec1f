/* Arming: what is to be made in the coming move becomes units, beside mutators, before the flip; and which arenas need not be.
 *
 * A flip takes a whole region away, and each of its units is missing until it has been made. Where arenas are huge, summaries
 * (heap/summary.h) know most of them to refer to nothing that moves, and few are left, the flip is *selective*: the pause
 * moves just these to the shadow, and the rest stays at home, mapped all the time.
 *
 *             quiet, nothing moves out of it or into it
 *   UNMADE ------------------------------------------------> HOME      no unit of it is armed
 *     ^                                                        |
 *     '---- recalled: given a reference since, or a birth -----'       its units are armed; in the pause
 *
 * From the choice to the flip whoever sets an arena's `anywhere` notes the arena (struct selection); the pause looks at
 * what has been noted, after its minor, and at nothing else. Were that too much for one pause, or did the kernel not
 * guard the shadow, the region is flipped whole: one kind of flip a region and cycle, as a region that is registered cannot be mapped
 * elsewhere in time (mover/region.c). (Then the pause arms what was at home, which grows with the region; more than 64 arenas
 * have to be given references between the choice and the flip, some milliseconds.)
 *
 * After a fork() pages are shared until they have been written, or the child is gone: moving one tears its huge page and copies, and
 * that in a pause. So regions are flipped whole until a move beside mutators has met none. */
#ifndef GC_ARM_H
#define GC_ARM_H

#include "heap/heap.h"

/* Beside mutators, after the plan: which regions will be flipped (`to_flip`) and which leaf regions have destinations (`armed`);
 * units are armed, arenas left at home. */
void arm_units(gch_heap *heap);
/* In the pause, after its minor: what was noted since goes, too. */
void arm_recalled(gch_heap *heap);
/* In the pause: there will be no flip. Nothing is at home: all that stays is a unit, which may have to be fixed. */
void arm_all(gch_heap *heap);

static inline bool arm_selects(const gch_heap *h, uint32_t region) { return h->selection.regions >> region & 1; }

#endif
