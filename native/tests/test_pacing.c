/* When majors begin (heap/pacing.h), simulated: heaps that grow at various rates, with collectors of various speeds. What is
 * simulated is a program that allocates old memory steadily or in bursts, of which a part stays; a cycle takes a time that
 * grows with what lives, and gives the rest back at its end. */
#include "heap/pacing.h"

#include <stdbool.h>

#include "check.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

struct program {
  struct pacing_limits limits;
  uint64_t live; /* bytes that stay */
  uint64_t rate; /* bytes a second that are allocated, and die */
  uint64_t burst; /* the same in every eighth second */
  uint64_t cost; /* ns of a cycle for a MiB that lives */
};

struct outcome {
  uint64_t cycles, stalled_ms, most; /* in a hundred seconds; most bytes in use */
  double busy; /* of the time a cycle ran */
};

/* A step is a millisecond; growth is looked at every 20 of them, as after a minor. */
static struct outcome simulate(const struct program *p) {
  struct pacing pacing = {0};
  struct outcome o = {0};
  uint64_t used = p->live, last = used, end = 0, begun_used = 0, busy = 0;
  struct pacing_left left = {p->live, used};
  for (uint64_t ms = 0; ms < 100000; ms++) {
    uint64_t rate = p->burst != 0 && ms / 1000 % 8 == 7 ? p->burst : p->rate;
    uint64_t trigger = pacing_trigger(&pacing, &p->limits, &left);
    CHECK(trigger <= pacing_goal(&p->limits, &left));
    if (used + rate / 1000 <= p->limits.hard)
      used += rate / 1000;
    else
      o.stalled_ms++;
    if (used > o.most) o.most = used;
    if (ms % 20 == 19) {
      pacing_note_growth(&pacing, used > last ? used - last : 0, 20000000);
      last = used;
    }
    busy += end != 0;
    if (end == 0 && used >= trigger) {
      end = ms + p->cost * (p->live / MIB) / 1000000 + 1;
      begun_used = used;
      o.cycles++;
    }
    if (end == ms && end != 0) { /* what has died before it began goes */
      used -= begun_used - p->live;
      pacing_note_cycle(&pacing, p->live, p->cost * (p->live / MIB) + 1000000);
      left.used = last = used;
      end = 0;
    }
  }
  o.busy = (double)busy / 100000;
  return o;
}

static struct pacing_limits limits(uint64_t hard) { return (struct pacing_limits){hard, 0, 100, 0}; }

/* Nobody waits where the collector can keep up at all, and it does not run all the time where there is room. */
static void steady(void) {
  for (uint64_t rate = 16 * MIB; rate <= 1024 * MIB; rate *= 4)
    for (uint64_t cost = 100000; cost <= 2000000; cost *= 4) {
      struct program p = {limits(4 * GIB), 1 * GIB, rate, 0, cost};
      struct outcome o = simulate(&p);
      double during = (double)rate * (double)cost / 1e9 * 1024; /* allocated in a cycle */
      bool easy = during < 0.8 * (double)GIB;
      if (easy) CHECK_EQ(o.stalled_ms, 0);
      if (easy && during < 0.2 * (double)GIB) CHECK(o.most <= 2 * GIB + 64 * MIB); /* it ends at the goal */
      if (during < 0.05 * (double)GIB) CHECK(o.busy < 0.15);
      CHECK(o.cycles > 0 || rate < 32 * MIB);
    }
}

/* Twenty times the rate, for a second in eight: at worst the first burst is waited for. */
static void bursts(void) {
  struct program p = {limits(4 * GIB), 1 * GIB, 20 * MIB, 400 * MIB, 500000};
  struct outcome o = simulate(&p);
  CHECK(o.stalled_ms < 500);
  CHECK(o.busy < 0.5);
}

/* Three times what lives, the limit closer than the goal: memory is what it has, and nobody waits. */
static void near_the_limit(void) {
  struct program p = {{1536 * MIB, 0, 100, 0}, 1 * GIB, 100 * MIB, 0, 500000};
  struct outcome o = simulate(&p);
  CHECK_EQ(o.stalled_ms, 0);
  CHECK(o.most <= 1536 * MIB);
}

/* The soft limit is kept where it can be, and yields where what lives does not leave room. */
static void soft_limit(void) {
  struct program p = {{4 * GIB, 1280 * MIB, 100, 0}, 1 * GIB, 50 * MIB, 0, 300000};
  CHECK(simulate(&p).most <= 1300 * MIB);
  p.limits.soft = 512 * MIB;
  struct outcome o = simulate(&p);
  CHECK_EQ(o.stalled_ms, 0);
  CHECK(o.busy < 0.9);
}

/* Growth is in the caller's hands. */
static void growth(void) {
  struct program p = {{8 * GIB, 0, 50, 0}, 1 * GIB, 100 * MIB, 0, 200000};
  struct outcome half = simulate(&p);
  p.limits.percent = 200;
  struct outcome twice = simulate(&p);
  CHECK(half.most < 1600 * MIB);
  CHECK(twice.most > 2500 * MIB);
  CHECK(half.cycles > 3 * twice.cycles);
}

/* Nothing overflows, whatever is said. */
static void extremes(void) {
  struct pacing p = {0};
  struct pacing_limits l = {UINT64_MAX / 2, 0, 10000, 0};
  pacing_note_growth(&p, UINT64_MAX, 1);
  pacing_note_growth(&p, 0, 0);
  pacing_note_cycle(&p, 0, UINT64_MAX);
  for (uint64_t live = 0; live < UINT64_MAX / 4; live = 2 * live + 1) {
    struct pacing_left left = {live - live / 3, live};
    uint64_t goal = pacing_goal(&l, &left), trigger = pacing_trigger(&p, &l, &left);
    CHECK(goal >= live && goal <= l.hard);
    CHECK(trigger >= live && trigger <= goal);
  }
  l = (struct pacing_limits){64 * MIB, 0, 100, 0};
  struct pacing_left full = {100 * MIB, 100 * MIB};
  CHECK_EQ(pacing_goal(&l, &full), 100 * MIB); /* more lives than is allowed: now */
}

int main(void) {
  RUN(steady);
  RUN(bursts);
  RUN(near_the_limit);
  RUN(soft_limit);
  RUN(growth);
  RUN(extremes);
  return CHECK_SUMMARY();
}
