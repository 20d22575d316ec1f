/* A seqlock around a few words: one writer, any number of readers, in other processes too.
 *
 * The stamp is odd while words are being written. As in ring.c the words are atomics: stored with release after the odd stamp,
 * loaded with acquire before the second look at it, so who sees any word of a later version also sees its stamp. */
#ifndef GCH_BASE_SEQLOCK_H
#define GCH_BASE_SEQLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `words` of the record, copied from `from`; 8-byte aligned both. */
void seqlock_write(uint64_t *stamp, uint64_t *record, const void *from, size_t words);
/* False: it was being written all along, or never has been. */
bool seqlock_read(const uint64_t *stamp, const uint64_t *record, void *to, size_t words);

#endif
