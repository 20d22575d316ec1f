/* A record under a seqlock: never torn, never seen before it was written. */
#include "base/seqlock.h"

#include <pthread.h>

#include "base/atomic.h"
#include "check.h"

enum { WORDS = 64, VERSIONS = 100000 };
static uint64_t stamp, record[WORDS];

static void *writer(void *arg) {
  uint64_t words[WORDS];
  (void)arg;
  for (uint64_t v = 2; v <= VERSIONS; v++) {
    for (int i = 0; i < WORDS; i++) words[i] = v * (uint64_t)(i + 1);
    seqlock_write(&stamp, record, words, WORDS);
  }
  return NULL;
}

static void whole_versions(void) {
  uint64_t words[WORDS], torn = 0, backwards = 0, last = 0, read = 0;
  pthread_t thread;
  CHECK(!seqlock_read(&stamp, record, words, WORDS)); /* never written */
  for (int i = 0; i < WORDS; i++) words[i] = (uint64_t)(i + 1);
  seqlock_write(&stamp, record, words, WORDS);
  CHECK_EQ(pthread_create(&thread, NULL, writer, NULL), 0);
  while (last < VERSIONS) {
    if (!seqlock_read(&stamp, record, words, WORDS)) continue;
    for (int i = 0; i < WORDS; i++) torn += words[i] != words[0] * (uint64_t)(i + 1);
    backwards += words[0] < last;
    last = words[0];
    read++;
  }
  pthread_join(thread, NULL);
  CHECK_EQ(torn, 0);
  CHECK_EQ(backwards, 0);
  CHECK(read > 0);
  CHECK_EQ(stamp, 2 * VERSIONS);
}

static void being_written_for_ever(void) {
  uint64_t words[WORDS];
  stamp = 7;
  CHECK(!seqlock_read(&stamp, record, words, WORDS));
}

int main(void) {
  RUN(whole_versions);
  RUN(being_written_for_ever);
  return CHECK_SUMMARY();
}
