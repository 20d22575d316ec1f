/* gcheap: an embeddable, generational garbage-collected heap that compacts by moving pages.
 *
 * This header includes the whole public interface. Every header below is self-contained.
 * docs/embedding.md is the guide; docs/architecture.md explains what happens underneath.
 *
 * Words: a *heap* owns objects and collector threads; a *mutator* is a thread attached to a heap; a
 * *reference* (gch_ref) is the address of an object, good until the holder's next safepoint unless it
 * is kept in a root; a *safepoint* is any call that this interface marks "may collect". */
#ifndef GCHEAP_GCHEAP_H
#define GCHEAP_GCHEAP_H

#include "gcheap/alloc_inline.h"
#include "gcheap/barrier_inline.h"
#include "gcheap/events.h"
#include "gcheap/heap.h"
#include "gcheap/inspect.h"
#include "gcheap/mutator.h"
#include "gcheap/options.h"
#include "gcheap/report.h"
#include "gcheap/ring.h"
#include "gcheap/roots.h"
#include "gcheap/stats.h"
#include "gcheap/type.h"
#include "gcheap/types.h"
#include "gcheap/weak.h"

#endif
