/* Roots: handles, static slots, enumeration by the embedder; pins. */
#ifndef GCHEAP_ROOTS_H
#define GCHEAP_ROOTS_H

#include "gcheap/types.h"

/* A handle: a stable name of a reference, valid in any state and thread. 0 is never a handle; a freed
 * handle is recognised by its generation. */
typedef uint64_t gch_handle;

/* Makes a handle; managed state. 0 if memory is short, or the object is not of this heap (see gch_last_error). Never
 * collects. */
GCH_API gch_handle gch_handle_new(gch_mutator *mutator, gch_ref object);
/* Reads / writes it; managed state. A freed or foreign handle gives GCH_BAD_VALUE, *out is NULL; so does an object of another
 * heap. */
GCH_API gch_status gch_handle_get(gch_mutator *mutator, gch_handle handle, gch_ref *out);
GCH_API gch_status gch_handle_set(gch_mutator *mutator, gch_handle handle, gch_ref object);
/* Frees it; any state, any thread, attached or not; never waits. */
GCH_API gch_status gch_handle_free(gch_heap *heap, gch_handle handle);

/* Registers a word in the embedder's memory as a root; any thread. Waits out a pause, so may collect: what the word holds
 * before must not be a reference that no other root keeps (null is best). The word is read and written by the collector in
 * pauses; write it in managed state only. GCH_NO_MEMORY if there is none for the list; removing what was not added is
 * GCH_BAD_VALUE. */
GCH_API gch_status gch_root_add(gch_heap *heap, gch_ref *slot);
GCH_API gch_status gch_root_remove(gch_heap *heap, gch_ref *slot);

/* Enumeration by the embedder: called in pauses, on a collector thread; it calls visit(slot, closure) for
 * each word that holds a reference; visit may replace the word. It must not block, allocate from the heap,
 * or take a lock that a managed thread may hold. One function a heap: the next replaces it, NULL removes it. Waits out a
 * pause, so may collect. */
typedef void (*gch_root_visit)(gch_ref *slot, void *closure);
typedef void (*gch_roots_fn)(gch_root_visit visit, void *closure, void *data);
GCH_API gch_status gch_roots_fn_set(gch_heap *heap, gch_roots_fn fn, void *data);

/* Ambiguous roots: words that may be references, or addresses inside objects (of any byte, to the last), or numbers; a
 * stack that is scanned as it is, say. The function is called in pauses, under the rules of gch_roots_fn, once or more a pause, and calls
 * visit(word, closure) for each; words are not rewritten. What a word may refer to lives, and its address stays, as long as
 * the word is there at every pause. Coarser than other roots: objects stay that are garbage, a block with such a root is no source of a
 * move, and a young one becomes old where it stands, with all that is in it. One function a heap; NULL removes it. Waits out a pause,
 * so may collect. GCH_NO_MEMORY: no addresses for a table of them. (A pause finds at most 2^24 objects and young blocks so, 2^20
 * where addresses are few.) */
typedef void (*gch_visit_ambiguous)(uintptr_t word, void *closure);
typedef void (*gch_ambiguous_fn)(gch_visit_ambiguous visit, void *closure, void *data);
GCH_API gch_status gch_ambiguous_fn_set(gch_heap *heap, gch_ambiguous_fn fn, void *data);

/* Pins an object: its address stays. Leaf objects' memory may then be used by native code and foreign
 * threads until unpinned: it is always present, never moved. A pin on an object with references fixes its
 * address and nothing else. Managed state; pins nest. *payload (may be NULL) is the byte after the header. */
GCH_API gch_status gch_pin(gch_mutator *mutator, gch_ref object, void **payload);
/* Undoes one gch_pin; any state, any thread, never waits. GCH_BAD_VALUE if it is not pinned. */
GCH_API gch_status gch_unpin(gch_heap *heap, gch_ref object);

/* A number that stays with the object, 24 bits, never 0; given on first request. Managed state. 0 if `object` is
 * NULL or not of this heap: see gch_last_error. */
GCH_API uint32_t gch_identity_hash(gch_mutator *mutator, gch_ref object);

#endif
