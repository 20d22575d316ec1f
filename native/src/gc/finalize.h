/* Finalizers: a table of registrations (object, token) outside the heap, and the queue of those whose objects have died.
 *
 *                gch_finalize           judged: not marked                    published
 *   (nothing) ----------------> TABLE ----------------------> QUEUE, at its end ----------> QUEUE, handed out by gch_finalizer_next
 *                                                             strong root from here on
 *
 * The table is no root, but it is forwarded: by minors and in the pause as roots are, after a flip beside mutators. What is in front of `old` has been looked at by a minor
 * and found old; minors look at the rest only, and judge and close up what has become of it. A major judges what is in front of
 * `old` when its mark is complete: what has been registered since it began was in the program's hands. It leaves entries
 * without objects, and closes up when they are half of the table, in steps, each of which leaves a table that can be visited.
 *
 * The queue has room for all that is registered, and as much again (so what waits is moved to its front seldom): judging needs
 * no memory. Between its judging and its publishing a major marks what the dead refer to, beside the program, so what it has put
 * into the queue is not handed out before, nor what a minor has put behind it meanwhile. */
#ifndef GC_FINALIZE_H
#define GC_FINALIZE_H

#include "gc/roots.h"

gch_status finalizers_init(gch_heap *heap, gch_error *error);
void finalizers_destroy(gch_heap *heap);

/* Visits what is registered; what waits in the queue (which roots_visit does, too). World stopped. */
void finalizers_visit(gch_heap *heap, root_visit visit, void *context);
void finalizers_visit_queue(gch_heap *heap, root_visit visit, void *context);

/* The mark is complete, weak cells are cleared: what is registered and dead goes to the queue. False: there was nothing. `beside`:
 * the caller is no marker. */
bool finalizers_judge(gch_heap *heap, bool minor, bool beside);
/* Entry `i` of those not handed out yet, 0 when there are no more. World stopped, or a marker. */
uint64_t finalizers_judged(const gch_heap *heap, uint64_t i);
/* All that they refer to is marked: they are handed out. */
void finalizers_publish(gch_heap *heap, bool minor, bool beside);

/* The flip leaves the table as it is: nobody but collectors reads it, and what is behind it is born at new addresses. Beside
 * mutators it is forwarded while the tables that say where to still stand, in phase MOVE. */
void finalizers_flip(gch_heap *heap);
void finalizers_forward(gch_heap *heap);

/* A minor forwards what is registered of the young. World stopped. */
void finalizers_fix_young(gch_heap *heap);

#endif
