/* The line protocol of the cache server, and a self-test of the cache with many threads. */
#ifndef EXAMPLES_CACHE_SERVER_H
#define EXAMPLES_CACHE_SERVER_H

#include "cache.h"

struct serving {
  int in, out;
  bool concurrent;        /* COLLECT moves while mutators run */
  const char *after_save; /* a program to run with the path of each file saved, or NULL */
};

/* Commands, a line each; a reply is a line, unless said otherwise.
 *
 *   SET key n        then n bytes and a newline: STORED
 *   GET key          VALUE n, then n bytes and a newline; or MISS
 *   DEL key          DELETED or MISS
 *   LIMIT bytes      evicts down to it: OK
 *   COLLECT [minor|needed|all|release]   COLLECTED ...
 *   STATS            STAT name value ..., END
 *   VERIFY           VERIFIED, or ERROR ... and the server ends with status 1
 *   SAVE path        a child process writes the cache as SET lines, oldest first; then `after_save` runs: SAVED entries
 *   QUIT             BYE
 *
 * ERROR ... answers whatever is wrong; the connection stays usable. Returns the program's exit status. */
int serve(struct cache *cache, gch_mutator *m, const struct serving *how);

/* `threads` clients for `seconds`; every byte of every value is checked. Returns the program's exit status. */
int selftest(struct cache *cache, gch_mutator *m, unsigned threads, unsigned seconds, bool concurrent);

#endif
