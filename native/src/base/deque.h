/* The Chase-Lev work-stealing deque of 64-bit items, bounded.
 *
 * Chase and Lev, "Dynamic circular work-stealing deque", SPAA 2005, with the C11 memory orders of Le, Pop, Cohen
 * and Zappalli Nardelli, "Correct and efficient work-stealing for weak memory models", PPoPP 2013. Deviations:
 * the array never grows (push returns false: the owner keeps an overflow list of its own), and every
 * store to `bottom` is a release store instead of a relaxed one behind a release fence, which ThreadSanitizer
 * understands and which is no weaker for a thief that acquires `bottom`.
 *
 * The owner pushes and pops at the bottom, everybody else steals at the top. What an item refers to is published
 * by the push to the thief that takes it. */
#ifndef GCH_BASE_DEQUE_H
#define GCH_BASE_DEQUE_H

#include <stdbool.h>
#include <stdint.h>

struct deque {
  int64_t top; /* [atomic] next to steal; thieves and owner, by CAS */
  char top_pad[56];
  int64_t bottom; /* [atomic] next free; written by the owner only */
  char bottom_pad[56];
  uint64_t *items; /* [const] the array; elements [atomic] relaxed */
  int64_t mask;    /* [const] capacity - 1 */
};

enum deque_steal {
  DEQUE_ITEM,  /* *item is stolen */
  DEQUE_EMPTY, /* there was nothing */
  DEQUE_LOST,  /* another thread was quicker: try again, here or elsewhere */
};

/* `items`: `capacity` words of the caller's; capacity is a power of two. */
void deque_init(struct deque *d, uint64_t *items, uint64_t capacity);

bool deque_push(struct deque *d, uint64_t item); /* owner; false: full */
bool deque_pop(struct deque *d, uint64_t *item); /* owner; false: empty */
enum deque_steal deque_steal(struct deque *d, uint64_t *item);

/* How many items there are; exact for the owner if nobody steals, a hint otherwise. */
uint64_t deque_size(const struct deque *d);

#endif
