/* What a mark is made of: its markers, and the steps that the end of a mark (gc/mark_cells.c) takes. */
#ifndef GC_MARK_INTERNAL_H
#define GC_MARK_INTERNAL_H

#include "base/deque.h"
#include "gc/cards.h"
#include "gc/mark.h"
#include "gc/team.h"
#include "gc/weak.h"

enum {
  FOUND = 64, /* prefetch distances, powers of two: of mark words, */
  QUEUE = 32, /* and of headers */
  STACK_MIN = 1 << 16,
  LISTED = 1 << 12, /* slots under cards that a marker keeps for the move */
};

struct marker {
  gch_heap *heap;
  struct marking *all;
  bool alone;           /* there is nobody to share with */
  bool beside;          /* mutators run: it stands still while the world is stopped */
  uint64_t deadline;    /* gives up beyond, CLOCK_MONOTONIC; 0: never */
  uint64_t found[FOUND];
  uint32_t found_head, found_count;
  uint64_t *stack;      /* [const] reserved; FOUND entries are kept free for what is in `found` */
  uint64_t capacity;    /* [const] */
  uint64_t top, peak;
  uint64_t queue[QUEUE];
  uint32_t queue_head, queue_count;
  size_t block;         /* whose live count is being added up */
  uint64_t block_live;
  bool dropped;         /* a referent of the object being scanned found the stack full */
  struct cells cells;   /* met, and left for the end of the mark */
  struct card_slot *young; /* [const] of a minor: LISTED, of which it has found the first `young_count` */
  uint32_t young_count;
  struct mark_result result;
  struct deque deque;
  uint64_t *deque_items;
};

struct marking {
  gch_heap *heap;
  bool minor;          /* [const] */
  uint32_t present;    /* [atomic] workers that have come to this job */
  uint32_t idle;       /* [atomic] of those: without work */
  struct card_walk cards; /* of a minor */
  uint32_t overflowed; /* [atomic] some block is flagged */
  uint64_t objects_overwritten, bytes_overwritten; /* [atomic] marked by who stores */
  uint64_t waited_at; /* [driver] objects marked when waiting ephemerons were last looked at, and none led anywhere */
  bool waited;        /* [driver] they have been looked at in this mark */
  uint64_t *overflow;  /* [atomic] bit a block */
  size_t overflow_bytes;
  uint32_t count;      /* [const] of markers */
  struct marker markers[TEAM_MAX + 1];
};

/* One marker's steps (gc/marker.c). Beside mutators whoever takes them has entered as one (gc/safepoint.h).
 *
 * A worker comes to a job. `beside`: mutators run, and it lets pauses pass. */
struct marker *marker_come(struct marking *s, uint32_t worker, uint32_t workers, bool beside);
/* Marks what the word refers to, if it is in scope; some of what that leads to, if there is need of room. */
void marker_find(struct marker *m, uint64_t word);
/* World stopped: so with all roots; with what dirty cards hold. */
void marker_visit_roots(struct marker *m);
void marker_visit_cards(struct marker *m, struct card_walk *walk);
/* World stopped: what roots refer to is marked, and nothing else. */
void marker_mark_roots(struct marker *m);
/* What is on the marker's stack, and what that leads to, until it is late. */
void marker_drain(struct marker *m);
/* So, and what others have, until nobody has anything. */
void marker_run(struct marker *m);
/* Finds the objects of a full log; false: there is none, or no room. */
bool marker_take_log(struct marker *m);
/* Scans what is marked in a block of whose objects some did not find room. */
void marker_rescan(struct marker *m, size_t block);
/* Its sums of live granules are added to those of blocks. */
void marker_flush(struct marker *m);
bool marker_is_late(const struct marker *m);
bool marker_is_empty(const struct marker *m);
/* Whoever is about to stop the world waits for this. */
void marker_let_pass(struct marker *m);

/* All that markers have found is marked, with what it leads to; by the team of pauses (`workers` 0), or by so many beside
 * mutators. */
void marking_run(struct marking *s, uint32_t workers);

/* Values of ephemerons whose keys have been marked meanwhile are found; false: none is left. True also if it was late. */
bool mark_waiting(struct marking *s);
/* The mark is complete: weak cells, then finalizers (gc/weak.h, gc/finalize.h). Beside mutators: with at most `workers`. */
void mark_settle(struct marking *s, uint32_t workers);

#endif
