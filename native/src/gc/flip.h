/* The flip: the pause in which old addresses end, and what is prepared before it and undone after it. */
#ifndef GC_FLIP_H
#define GC_FLIP_H

#include "heap/heap.h"

/* In the first pause, after its minor: how much that has promoted. */
void flip_note_promoted(gch_heap *heap);
/* In the remark that completes the mark: an empty region of each space is chosen. Leaf allocation moves there at once; what is flipped goes on
 * allocating where it was until the flip, because what is born before it holds references to be fixed. False: some space
 * has none. */
bool flip_hold_out(gch_heap *heap);
/* In the flip's pause, before its minor: blocks pinned since the plan are un-planned; allocation and promotion of objects
 * with references move to the held-out regions. */
void flip_switch(gch_heap *heap);
/* Beside mutators, after the plan: units armed, regions and leaf destinations registered, memory for promotion populated,
 * mmap_lock found free. False: the kernel refused something; no region is missing or in between, and there is no flip. */
bool flip_prepare(gch_heap *heap);
/* The same for a plan that is carried out in a pause: only what is born until then is kept track of. */
void flip_prepare_pause(gch_heap *heap);
/* In the pause, after its minor and the swap of maps: regions go to their shadow, roots are forwarded. False: the kernel
 * refused, and every page is where it was. */
bool flip_now(gch_heap *heap);
/* After either refusal, in the pause, after its minor and the swap of maps: nothing is armed any more, and the plan, which
 * that minor has forwarded references by, says what its move in the pause has to do (gc/compact.h). */
void flip_to_pause(gch_heap *heap);
/* There will be no flip, and no plan has been made: what was born since the mark is old like the rest (all of it lives), and nothing is armed. World
 * stopped. */
void flip_cancel(gch_heap *heap);
/* After the last unit: nothing is registered for missing pages any more, shadows are empty, units are reset. */
void flip_end(gch_heap *heap);

#endif
