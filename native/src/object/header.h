/* The object header: one 8-byte word, and nothing else of the collector's inside an object.
 *
 *   bits  0..15  type id (0: no object)
 *   bits 16..29  bytes of the tail, 0..8184 (small objects)
 *   bit  30      large: length and type are in the side table, so that no unit reads a header in another
 *   bits 31..33  reserved (age). The age is kept a block, not an object: pages of a dense leaf arena are promoted
 *                without being touched, which a header write an object would spoil.
 *   bit  34      pinned at least once (the pin table has the count)
 *   bit  35,36   reserved
 *   bits 40..63  identity hash, 0: none given yet
 *
 * No mark bit (bitmaps) and no forwarding word (plan tables). A header changes only in bits 34..63, by
 * compare-and-swap, so that a collector thread may read type and length at any time. */
#ifndef OBJECT_HEADER_H
#define OBJECT_HEADER_H

#include <stdbool.h>
#include <stdint.h>

enum {
  HEADER_TAIL_SHIFT = 16,
  HEADER_TAIL_MASK = 0x3fff,
  HEADER_HASH_SHIFT = 40,
};
#define HEADER_LARGE ((uint64_t)1 << 30)
#define HEADER_PINNED ((uint64_t)1 << 34)
#define HEADER_HASH_MASK ((uint64_t)0xffffff << HEADER_HASH_SHIFT)

static inline uint64_t header_load(uintptr_t object) {
  return __atomic_load_n((const uint64_t *)object, __ATOMIC_RELAXED);
}
static inline uint32_t header_type(uint64_t header) { return (uint32_t)(header & 0xffff); }
static inline uint32_t header_tail_bytes(uint64_t header) {
  return (uint32_t)(header >> HEADER_TAIL_SHIFT) & HEADER_TAIL_MASK;
}
static inline bool header_is_large(uint64_t header) { return (header & HEADER_LARGE) != 0; }

#endif
