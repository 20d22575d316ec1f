#include "heap/pacing.h"

#include "base/atomic.h"

enum {
  COST_FIRST = 3000000, /* ns a MiB: before any cycle was seen, three seconds a GiB */
  SLACK = 32 << 20,     /* small heaps may grow by so much */
  ROOM_LEAST = 16,      /* a 16th of what lives */
};
#define MIB ((uint64_t)1 << 20)
#define SECOND ((uint64_t)1000000000)
#define STEADY_NS (4 * SECOND)

static uint64_t weigh(uint64_t before, uint64_t now) {
  return before == 0 ? now : before - before / 8 * 3 + now / 8 * 3;
}

static uint64_t scale(uint64_t value, uint64_t by, uint64_t over) {
  double scaled = (double)value * (double)by / (double)over; /* may be large */
  return scaled < 1e19 ? (uint64_t)scaled : UINT64_MAX;
}

void pacing_note_growth(struct pacing *p, uint64_t bytes, uint64_t ns) {
  if (ns == 0) return;
  uint64_t now = scale(bytes, SECOND, ns);
  double steady = ((double)p->steady * (double)STEADY_NS + (double)now * (double)ns) / ((double)STEADY_NS + (double)ns);
  at_store_relaxed(&p->steady, (uint64_t)steady); /* a figure */
  p->growth = weigh(p->growth, now);
  if (now > p->growth) p->growth = now;
}

void pacing_note_cycle(struct pacing *p, uint64_t live, uint64_t ns) {
  if (live < MIB) live = MIB;
  p->cost = weigh(p->cost, scale(ns, MIB, live));
}

void pacing_note_work(struct pacing *p, uint64_t live, uint64_t ns) {
  if (live < MIB) live = MIB;
  p->work = weigh(p->work, scale(ns, MIB, live));
}

uint64_t pacing_work(const struct pacing *p) { return p->work != 0 ? p->work : COST_FIRST; }

uint64_t pacing_goal(const struct pacing_limits *l, const struct pacing_left *left) {
  uint64_t extra = scale(left->live, l->percent, 100), cap = l->soft != 0 && l->soft < l->hard ? l->soft : l->hard;
  if (extra < SLACK) extra = SLACK;
  if (l->extra != 0) extra = l->extra;
  uint64_t goal = extra < UINT64_MAX - left->live ? left->live + extra : UINT64_MAX;
  if (goal > cap) goal = cap;
  /* A soft limit yields, or one cycle would follow the other. */
  uint64_t room = l->hard > left->used ? l->hard - left->used : 0, least = left->live / ROOM_LEAST;
  if (least > room) least = room;
  return goal > left->used + least ? goal : left->used + least;
}

uint64_t pacing_cycle_ns(const struct pacing *p, uint64_t live) {
  return scale(p->cost != 0 ? p->cost : COST_FIRST, live > MIB ? live : MIB, MIB);
}

uint64_t pacing_trigger(const struct pacing *p, const struct pacing_limits *l, const struct pacing_left *left) {
  uint64_t goal = pacing_goal(l, left), room = goal > left->used ? goal - left->used : 0, most = room - room / 4;
  uint64_t runway = scale(p->growth, pacing_cycle_ns(p, left->live), SECOND);
  runway = runway > UINT64_MAX - runway / 2 ? most : runway + runway / 2;
  return goal - (runway < most ? runway : most);
}

uint64_t pacing_delay(const struct pacing_room *r, uint64_t bytes, uint64_t most) {
  uint64_t left = r->expected_ns > r->gone_ns ? r->expected_ns - r->gone_ns : 0, least = r->expected_ns / 4;
  if (left < least) left = least;
  if (r->bytes == 0) return most;
  uint64_t ns = scale(scale(left, bytes, r->bytes), r->mutators != 0 ? r->mutators : 1, 1);
  return ns < most ? ns : most;
}
