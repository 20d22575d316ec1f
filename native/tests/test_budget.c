/* The staging budget in the pause (I4): however many threads move, and whatever each has in hand, memory never exceeds what
 * was there by more than the budget. */
#include "kit.h"
#include "mover/mover.h"
#include "os/pages.h"

enum {
  COUNT = 60000,
  BYTES = 400,
  LARGE = 16,
  LARGE_BYTES = 1400000,
  THREADS = 64,
  STAGING = 512 << 10,
  SLACK = 1 << 20
};

/* Every worker is held up now and then, with all that it has in hand. */
static void hold_up(const char *name) {
  if (strcmp(name, "dest_filled") == 0 || strcmp(name, "piece_copied") == 0) usleep(200);
}

/* Sparse blocks: two objects of three are dropped again when all have been promoted. */
static void fill(struct kit *k, gch_ref *table) {
  *table = kit_refs(k, COUNT);
  for (uint64_t i = 0; i < COUNT; i++) {
    gch_ref o = kit_bytes(k, BYTES);
    memset(gch_slot(o, KIT_BYTES), (int)(i % 251), BYTES);
    kit_put(k, *table, i, o);
  }
  kit_minor(k, true);
  for (uint64_t i = 0; i < COUNT; i++)
    if (i % 3 != 0) kit_put(k, *table, i, NULL);
}

static void check_contents(gch_ref table) {
  for (uint64_t i = 0; i < COUNT; i += 3)
    if (!CHECK_EQ(*((uint8_t *)gch_slot(kit_at(table, i), KIT_BYTES) + BYTES - 1), i % 251)) return;
}

static void fill_large(struct kit *k, gch_ref *table) {
  *table = kit_refs(k, LARGE);
  for (uint64_t i = 0; i < LARGE; i++) {
    gch_ref o = i % 2 ? kit_refs(k, LARGE_BYTES / 8) : kit_bytes(k, LARGE_BYTES);
    kit_put(k, *table, i, o);
    for (uint64_t n = i % 2; n < LARGE_BYTES / 8; n += 1000)
      if (i % 2)
        kit_put(k, o, n, n % 3 ? o : *table);
      else
        memset((char *)gch_slot(o, KIT_BYTES) + 8 * n, (int)(n / 1000 + i), 8);
  }
}

static void check_large(gch_ref table) {
  for (uint64_t i = 0; i < LARGE; i++) {
    gch_ref o = kit_at(table, i);
    for (uint64_t n = i % 2; n < LARGE_BYTES / 8; n += 1000)
      if (!CHECK(i % 2 ? kit_at(o, n) == (n % 3 ? o : table)
                       : *((uint8_t *)gch_slot(o, KIT_BYTES) + 8 * n) == (uint8_t)(n / 1000 + i)))
        return;
  }
}

static uint64_t resident(const struct pages_memory *m) {
  return m->rss_anon_bytes + m->rss_shmem_bytes + m->rss_file_bytes;
}

/* The kernel will not register the regions of large objects again: their pages cannot be moved. */
static void unregister_large(gch_heap *h) {
  for (uint32_t r = 0; r < h->layout.region_count; r++)
    if (space_is_large(h->layout.regions[r].space)) CHECK(h->mover->prepare(h, r));
  CHECK_EQ(gch_inject(h, "register:ENOMEM", NULL), GCH_OK);
}

static void many_threads_by(gch_mover mover, bool large, bool unregistered) {
  void (*make)(struct kit *, gch_ref *) = large ? fill_large : fill;
  struct kit k;
  struct pages_memory before, after;
  gch_config c = kit_config(mover, 64, 8192); /* few minors, in which so many threads wait for each other */
  c.huge = GCH_HUGE_OFF;
  c.gc_threads = (uint32_t)kit_scaled(THREADS, 8);
  c.staging_bytes = STAGING;
  if (!kit_open(&k, &c)) return;
  GCH_FRAME(k.m, root, 2);
  make(&k, &root[1]); /* threads have run, tables are there */
  kit_major(&k, GCH_POLICY_ALL, false, true);
  root[1] = NULL;
  kit_major(&k, GCH_POLICY_ALL, false, true);
  make(&k, &root[0]);
  if (unregistered) unregister_large(k.heap);
  CHECK_EQ(pages_peak_reset(), 0);
  CHECK_EQ(pages_memory_read(&before), 0);
  at_store(&gch_hook_fn, hold_up);
  gch_cycle r = kit_major(&k, GCH_POLICY_ALL, false, true);
  at_store(&gch_hook_fn, NULL);
  CHECK_EQ(pages_memory_read(&after), 0);
  CHECK(large || r.blocks_evacuated > 200);
  if (unregistered) CHECK(r.bytes_copied >= LARGE * (uint64_t)LARGE_BYTES);
  int64_t beyond = (int64_t)after.peak_bytes - (int64_t)resident(&before) - STAGING;
  if (getenv("V")) printf("    %s: %lld KiB beyond the budget\n", gch_mover_name(mover), (long long)beyond >> 10);
  if (!KIT_SANITIZED) CHECK(beyond <= SLACK); /* their own memory is resident too */
  (large ? check_large : check_contents)(root[0]);
  kit_verify(&k);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void small_objects(void) {
  for (size_t i = 0; i < KIT_MOVER_COUNT; i++)
    if (kit_available(KIT_MOVERS[i])) many_threads_by(KIT_MOVERS[i], false, false);
}

static void large_objects(void) {
  for (size_t i = 0; i < KIT_MOVER_COUNT; i++)
    if (kit_available(KIT_MOVERS[i])) many_threads_by(KIT_MOVERS[i], true, false);
}

static void large_objects_not_registered(void) {
  if (kit_available(GCH_MOVER_MOVE)) many_threads_by(GCH_MOVER_MOVE, true, true);
}

int main(void) {
  kit_watchdog(60);
  RUN(small_objects);
  RUN(large_objects);
  RUN(large_objects_not_registered);
  return CHECK_SUMMARY();
}
