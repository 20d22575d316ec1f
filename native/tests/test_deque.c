/* The work-stealing deque: against a model, and every item taken exactly once while thieves race the owner. */
#include "base/deque.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "base/atomic.h"
#include "check.h"

#define CAPACITY 64
#define THIEVES 2
#define ITEMS 60000

static uint64_t memory[CAPACITY];
static struct deque deque;

static void ends(void) {
  uint64_t item = 0;
  deque_init(&deque, memory, 4);
  CHECK(!deque_pop(&deque, &item));
  CHECK_EQ(deque_steal(&deque, &item), DEQUE_EMPTY);
  for (uint64_t i = 1; i <= 4; i++) CHECK(deque_push(&deque, i));
  CHECK(!deque_push(&deque, 5));
  CHECK_EQ(deque_size(&deque), 4);
  CHECK_EQ(deque_steal(&deque, &item), DEQUE_ITEM);
  CHECK_EQ(item, 1);
  CHECK(deque_pop(&deque, &item));
  CHECK_EQ(item, 4);
  CHECK(deque_push(&deque, 6) && deque_push(&deque, 7) && !deque_push(&deque, 8));
  CHECK(deque_pop(&deque, &item) && item == 7);
}

/* One thread, random operations, against an array. */
static void model(void) {
  static uint64_t expected[200000];
  uint64_t top = 0, bottom = 0, state = 42, item, wrong = 0;
  deque_init(&deque, memory, CAPACITY);
  for (uint64_t i = 0; i < 100000; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    switch (state >> 62) {
      case 0:
      case 1:
        wrong += deque_push(&deque, i) != (bottom - top < CAPACITY);
        if (bottom - top < CAPACITY) expected[bottom++] = i;
        break;
      case 2:
        if (deque_pop(&deque, &item))
          wrong += bottom == top || item != expected[--bottom];
        else
          wrong += bottom != top;
        break;
      default:
        if (deque_steal(&deque, &item) == DEQUE_ITEM)
          wrong += bottom == top || item != expected[top++];
        else
          wrong += bottom != top;
    }
    wrong += deque_size(&deque) != bottom - top;
  }
  CHECK_EQ(wrong, 0);
}

/* What the items refer to: written plainly before the push, read plainly by whoever takes it. */
static struct {
  uint64_t payload;
  uint32_t taken; /* [atomic] */
} things[ITEMS];
static uint32_t done;
static uint32_t stop_at;
static uint64_t wrong_payloads;

static void take(uint64_t item) {
  if (item >= ITEMS || things[item].payload != item * 3 + 1) {
    at_add(&wrong_payloads, 1);
    return;
  }
  at_add_relaxed(&things[item].taken, 1);
  at_add(&done, 1);
}

static void *thief(void *arg) {
  uint64_t item;
  (void)arg;
  while (at_load(&done) < at_load(&stop_at)) {
    enum deque_steal result = deque_steal(&deque, &item);
    if (result == DEQUE_ITEM) take(item);
    if (result == DEQUE_EMPTY) sched_yield();
  }
  return NULL;
}

/* `burst` items are pushed, then `pops` are popped, over and over; the rest is for the thieves. */
static void race(uint64_t burst, uint64_t pops) {
  pthread_t threads[THIEVES];
  uint64_t pushed = 0, item;
  memset(things, 0, sizeof things);
  done = 0;
  stop_at = ITEMS;
  wrong_payloads = 0;
  deque_init(&deque, memory, CAPACITY);
  for (int i = 0; i < THIEVES; i++) CHECK_EQ(pthread_create(&threads[i], NULL, thief, NULL), 0);
  while (at_load(&done) < ITEMS && at_load(&wrong_payloads) == 0) {
    for (uint64_t i = 0; i < burst && pushed < ITEMS; i++) {
      things[pushed].payload = pushed * 3 + 1;
      if (!deque_push(&deque, pushed)) break;
      pushed++;
    }
    for (uint64_t i = 0; i < pops; i++)
      if (deque_pop(&deque, &item)) take(item);
    if (pushed == ITEMS && deque_size(&deque) == 0) sched_yield();
  }
  at_store(&stop_at, 0);
  for (int i = 0; i < THIEVES; i++) pthread_join(threads[i], NULL);
  uint64_t not_once = 0;
  for (uint64_t i = 0; i < ITEMS; i++) not_once += things[i].taken != 1;
  CHECK_EQ(not_once, 0);
  CHECK_EQ(wrong_payloads, 0);
}

static void last_item(void) { race(1, 1); }
static void two_items(void) { race(2, 2); }
static void mostly_stolen(void) { race(CAPACITY, 3); }
static void full(void) { race(CAPACITY * 2, CAPACITY / 2); }

int main(void) {
  RUN(ends);
  RUN(model);
  RUN(last_item);
  RUN(two_items);
  RUN(mostly_stolen);
  RUN(full);
  return CHECK_SUMMARY();
}
