/* Reports of collections on their way to the log (diag/log.c), which is above this layer.
 *
 *   driver, cycle lock held: noted --> whoever leaves the cycle lock takes them along --> told, when no lock is held
 *
 * So a log that is slow (a full pipe, a disk) holds up who waits for a collection to end, but no pause, no mutator that runs, and
 * nobody who wants the lock. Mutators are in native state when they tell. Without a log there is no diary, and nothing is done. */
#ifndef HEAP_DIARY_H
#define HEAP_DIARY_H

#include "heap/heap.h"

enum {
  DIARY_MAX = 4
}; /* a minor and a major on behalf of one allocation, and what was noted by others in a wait between them */

struct diary_entry {
  gch_cycle cycle;
  gch_report report; /* of a major */
  gch_cause cause;
  uint64_t end_ns; /* CLOCK_MONOTONIC */
};

struct diary {
  void (*tell)(gch_heap *heap, const struct diary_entry *entry); /* [const] */
  struct diary_entry noted[DIARY_MAX];                           /* [cycle] */
  uint32_t count;                                                /* [cycle] */
};

/* What a driver takes along. */
struct diary_page {
  struct diary_entry entries[DIARY_MAX];
  uint32_t count;
};

/* Cycle lock held: the collection has ended, the world runs. `report`: of a major. Beyond DIARY_MAX the oldest is dropped. */
void diary_note(gch_heap *heap, const gch_cycle *cycle, const gch_report *report, gch_cause cause);
/* Cycle lock held: there are none noted afterwards. */
void diary_take(gch_heap *heap, struct diary_page *page);
/* No lock held. */
void diary_tell(gch_heap *heap, const struct diary_page *page);

#endif
