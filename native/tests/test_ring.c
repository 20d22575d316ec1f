/* The event ring: order, overwriting, what readers lose, and no torn record under several writers. */
#include "base/ring.h"

#include <pthread.h>
#include <stdbool.h>

#include "base/atomic.h"
#include "check.h"

#define CAPACITY 64
#define WRITERS 3
#define EVENTS 30000

static struct ring_slot slots[CAPACITY];
static struct ring ring;

static void begin(void) {
  memset(slots, 0, sizeof slots);
  ring_init(&ring, slots, CAPACITY);
}

static void write_number(uint64_t number) {
  struct ring_event event = {.kind = 7, .a = number};
  ring_write(&ring, &event);
}

static void in_order(void) {
  struct ring_event out[CAPACITY];
  uint64_t sequence = 0, lost = 0;
  begin();
  CHECK_EQ(ring_read(&ring, &sequence, out, CAPACITY, &lost), 0);
  for (uint64_t i = 0; i < 10; i++) write_number(100 + i);
  CHECK_EQ(ring_next(&ring), 10);
  CHECK_EQ(ring_read(&ring, &sequence, out, 4, &lost), 4);
  CHECK_EQ(sequence, 4);
  CHECK_EQ(ring_read(&ring, &sequence, out, CAPACITY, NULL), 6);
  CHECK_EQ(out[0].a, 104);
  CHECK_EQ(out[5].seq, 9);
  CHECK_EQ(out[5].kind, 7);
  CHECK_EQ(lost, 0);
  CHECK_EQ(ring_read(&ring, &sequence, out, CAPACITY, &lost), 0);
}

static void overwritten(void) {
  struct ring_event out[CAPACITY];
  uint64_t sequence = 0, lost = 0;
  begin();
  for (uint64_t i = 0; i < 2 * CAPACITY + 5; i++) write_number(i);
  CHECK_EQ(ring_read(&ring, &sequence, out, CAPACITY, &lost), CAPACITY);
  CHECK_EQ(lost, CAPACITY + 5);
  CHECK_EQ(out[0].a, CAPACITY + 5);
  CHECK_EQ(sequence, 2 * CAPACITY + 5);
}

/* A slot held by a writer of the lap before: the later event is dropped, the reader goes on after a lap. */
static void stalled_writer(void) {
  struct ring_event out[CAPACITY];
  uint64_t sequence = 0, lost = 0;
  begin();
  for (uint64_t i = 0; i < CAPACITY; i++) write_number(i);
  slots[3].stamp = 2 * 3 + 1; /* as if the writer of event 3 had never finished */
  CHECK_EQ(ring_read(&ring, &sequence, out, CAPACITY, &lost), 3);
  for (uint64_t i = 0; i < CAPACITY; i++) write_number(CAPACITY + i); /* event CAPACITY + 3 finds it so */
  CHECK_EQ(slots[3].stamp, 2 * 3 + 1);
  CHECK_EQ(ring_read(&ring, &sequence, out, CAPACITY, &lost), 3);
  CHECK_EQ(lost, CAPACITY - 3);
  slots[3].stamp = 2 * 3 + 2;
  for (uint64_t i = 0; i < CAPACITY; i++) write_number(2 * CAPACITY + i);
  CHECK_EQ(ring_read(&ring, &sequence, out, CAPACITY, &lost), CAPACITY);
  CHECK_EQ(lost, 2 * CAPACITY - 6);
}

/* The number lies where others can read it; a second ring goes on where the first one was. */
static void shared_and_inherited(void) {
  static struct ring_slot others[CAPACITY];
  struct ring_event out[CAPACITY];
  uint64_t number = 0, sequence = 0, lost = 0;
  struct ring heir;
  memset(slots, 0, sizeof slots);
  ring_attach(&ring, slots, CAPACITY, &number);
  for (uint64_t i = 0; i < CAPACITY + 10; i++) write_number(i);
  CHECK_EQ(number, CAPACITY + 10);
  slots[20].stamp = 2 * 20 + 1; /* never finished: not inherited */
  ring_init(&heir, others, CAPACITY);
  ring_inherit(&heir, &ring);
  write_number(1000); /* into the first one only */
  CHECK_EQ(ring_next(&heir), CAPACITY + 10);
  CHECK_EQ(ring_read(&heir, &sequence, out, CAPACITY, &lost), 10);
  CHECK_EQ(out[0].seq, 10);
  CHECK_EQ(lost, 10);
  sequence = 21;
  CHECK_EQ(ring_read(&heir, &sequence, out, CAPACITY, &lost), CAPACITY - 11);
  CHECK_EQ(out[0].a, 21);
  struct ring_event event = {.kind = 7, .a = 77};
  CHECK_EQ(ring_write(&heir, &event), CAPACITY + 10);
  CHECK_EQ(ring_read(&heir, &sequence, out, CAPACITY, &lost), 1);
  CHECK_EQ(out[0].a, 77);
}

static uint64_t mix(uint64_t a, uint64_t b) { return (a * 1000003 + b) * 0x9E3779B97F4A7C15u; }

static void *writer(void *arg) {
  for (uint64_t i = 0; i < EVENTS; i++) {
    uint64_t me = (uint64_t)(uintptr_t)arg;
    struct ring_event event = {.t_ns = i, .thread = (uint32_t)me, .a = me, .b = i, .c = mix(me, i), .d = ~i};
    ring_write(&ring, &event);
  }
  return NULL;
}

struct tally {
  uint64_t sequence, lost, read, torn, disordered;
  uint64_t last[WRITERS];
};

static void tally_events(struct tally *t, const struct ring_event *events, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const struct ring_event *e = &events[i];
    bool whole = e->a < WRITERS && e->thread == e->a && e->c == mix(e->a, e->b) && e->d == ~e->b && e->t_ns == e->b;
    t->torn += !whole;
    if (!whole) continue;
    t->disordered += e->b + 1 <= t->last[e->a];
    t->last[e->a] = e->b + 1;
  }
  t->read += count;
}

static void many_writers(void) {
  pthread_t threads[WRITERS];
  struct ring_event out[CAPACITY];
  struct tally t = {0};
  begin();
  for (uintptr_t i = 0; i < WRITERS; i++) CHECK_EQ(pthread_create(&threads[i], NULL, writer, (void *)i), 0);
  while (ring_next(&ring) < WRITERS * EVENTS)
    tally_events(&t, out, ring_read(&ring, &t.sequence, out, CAPACITY, &t.lost));
  for (int i = 0; i < WRITERS; i++) pthread_join(threads[i], NULL);
  tally_events(&t, out, ring_read(&ring, &t.sequence, out, CAPACITY, &t.lost));
  CHECK_EQ(t.torn, 0);
  CHECK_EQ(t.disordered, 0);
  CHECK_EQ(t.read + t.lost, t.sequence);
  CHECK(t.read > 0);
}

int main(void) {
  RUN(in_order);
  RUN(overwritten);
  RUN(stalled_writer);
  RUN(shared_and_inherited);
  RUN(many_writers);
  return CHECK_SUMMARY();
}
