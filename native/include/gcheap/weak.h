/* Weak references, ephemerons, finalizers: what a program wants to know of an object's end without delaying it.
 *
 * A weak reference is an object of a type of its own. It refers to another, its referent, and does not keep that alive: when
 * a collection finds the referent reachable by no other way, the weak reference is cleared, and reads as null from then on.
 * An ephemeron refers to a key and to a value, and keeps the value alive only while the key is, by other ways than the
 * ephemeron itself (tables keyed by objects, whose values may refer to the keys). It is cleared as a whole.
 *
 *   minor collections clear weak references to young objects; to them an ephemeron is an object with two references
 *   major collections clear both
 *
 * Weak references and ephemerons are kept, moved and collected as other objects are: in fields, handles, frames. Their words
 * are read and written by these calls only, not by gch_load and gch_store. What a read returns is reachable from then on, and
 * what is dead is never returned, at no time of a collection.
 *
 * A finalizer is a number (token) registered for an object. When the object is not reachable, it is put into a queue, and all
 * that it refers to is kept; the host takes objects out of the queue when it likes, and whatever it does with them is legal:
 * an object that has been taken out is an ordinary one again. The order of one collection's end:
 *
 *   1 what is reachable is found; that includes what waits in the queue since earlier collections
 *   2 weak references to what is not reachable are cleared, ephemerons with such keys too
 *   3 registered objects that are not reachable go to the queue, in the order of registration; a registration ends with that.
 *     What they refer to is reachable by them
 *   4 weak references and ephemerons that were reached in step 3 alone are judged as in step 2, by what is reachable now */
#ifndef GCHEAP_WEAK_H
#define GCHEAP_WEAK_H

#include "gcheap/types.h"

/* A weak reference to `referent` (NULL: one that is cleared). Managed state; may collect. NULL: see gch_last_error. */
GCH_API gch_ref gch_weak_new(gch_mutator *mutator, gch_ref referent);
/* Its referent, NULL once it is cleared (or if `weak` is no weak reference: see gch_last_error). Managed state; never
 * collects. */
GCH_API gch_ref gch_weak_get(gch_mutator *mutator, gch_ref weak);
/* Clears it now. GCH_BAD_VALUE if it is no weak reference. Managed state; never collects. */
GCH_API gch_status gch_weak_clear(gch_mutator *mutator, gch_ref weak);

/* An ephemeron; its key is not NULL, its value may be. Managed state; may collect. NULL: see gch_last_error. */
GCH_API gch_ref gch_ephemeron_new(gch_mutator *mutator, gch_ref key, gch_ref value);
/* Key and value; NULL once it is cleared (or if it is no ephemeron: see gch_last_error). Managed state; never collects. */
GCH_API gch_ref gch_ephemeron_key(gch_mutator *mutator, gch_ref ephemeron);
GCH_API gch_ref gch_ephemeron_value(gch_mutator *mutator, gch_ref ephemeron);
/* Another value for the same key. Nothing happens to one that is cleared; GCH_BAD_VALUE if it is no ephemeron. */
GCH_API gch_status gch_ephemeron_set(gch_mutator *mutator, gch_ref ephemeron, gch_ref value);

/* Registers a token for an object, which is thereby no more alive than before. An object may have any number of them, and each
 * is handed out once. GCH_NO_MEMORY: nothing has changed. Managed state; never collects. */
GCH_API gch_status gch_finalize(gch_mutator *mutator, gch_ref object, uint64_t token);
/* Takes the next object and its token out of the queue; false: it is empty. The object lives as long as it is reachable. Managed
 * state; never collects. */
GCH_API bool gch_finalizer_next(gch_mutator *mutator, gch_ref *object, uint64_t *token);
/* How many wait in the queue. Any state, any thread. */
GCH_API uint64_t gch_finalizers_pending(const gch_heap *heap);

#endif
