/* What an object loses by becoming shorter is logged while marking, each reference once, before anybody can miss it; at rest
 * nothing is. gc/resize.c is compiled into this file with a log of its own. */
#define gch_log_slow log_value
#include "gc/resize.c"

#include "kit.h"

enum { LOG_MAX = 100000 };
static gch_ref logged[LOG_MAX];
static uint64_t logged_count, length_seen;
static gch_ref looked_at;

/* What is really being marked is told, too. */
#undef gch_log_slow
void gch_log_slow(gch_mutator *m, gch_ref previous);

void log_value(gch_mutator *m, gch_ref previous) {
  if (at_load(&m->heap->phase) != GCH_PHASE_IDLE) gch_log_slow(m, previous);
  length_seen = gch_length(m->heap, looked_at);
  logged[logged_count++ % LOG_MAX] = previous;
}

static void cut_and_look(struct kit *k, uint64_t length, uint64_t to) {
  GCH_FRAME(k->m, r, 1);
  r[0] = looked_at = kit_refs(k, length);
  for (uint64_t i = 0; i < length; i++) kit_put_node(k, &r[0], i, i);
  looked_at = r[0];
  logged_count = 0;
  k->m->snapshot = 1;
  CHECK(gch_resize(k->m, r[0], to) == r[0]);
  k->m->snapshot = 0;
  CHECK_EQ(logged_count, length - to);
  for (uint64_t i = 0; i < length - to; i++)
    if (!CHECK_EQ(*kit_number(logged[i]), to + i)) break;
  CHECK_EQ(length_seen, length); /* a marker still sees all of it */
  CHECK_EQ(gch_length(k->heap, r[0]), to);
  kit_verify(k);
  logged_count = 0;
  CHECK(gch_resize(k->m, r[0], to - 1) == r[0] || to % 2 == 1);
  CHECK_EQ(logged_count, 0);
  GCH_FRAME_END(k->m);
}

static void what_is_cut_off_is_logged(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_AUTO, 64, 1024);
  if (!kit_open(&k, &c)) return;
  cut_and_look(&k, 50000, 1234);
  cut_and_look(&k, 20, 19); /* small: the same granules */
  kit_close(&k);
}

/* The old object of a copy is left empty: what it referred to is logged, although the new one has it, for that is not scanned. */
static void what_is_copied_is_logged(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_AUTO, 64, 1024);
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, r, 3);
  r[0] = kit_refs(&k, 9000); /* less than what is taken */
  r[1] = kit_refs(&k, 2000); /* in its way */
  for (uint64_t i = 0; i < 9000; i++) kit_put_node(&k, &r[0], i, i);
  looked_at = r[0];
  logged_count = 0;
  k.m->snapshot = 1;
  r[2] = gch_resize(k.m, r[0], 12000);
  k.m->snapshot = 0;
  CHECK(r[2] != NULL && r[2] != r[0] && gch_length(k.heap, r[0]) == 0);
  CHECK_EQ(logged_count, 9000); /* no nulls, to the end of its pages */
  for (uint64_t i = 0; i < logged_count; i++)
    if (!CHECK_EQ(*kit_number(logged[i]), i)) break;
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

int main(void) {
  kit_watchdog(60);
  RUN(what_is_cut_off_is_logged);
  RUN(what_is_copied_is_logged);
  return CHECK_SUMMARY();
}
