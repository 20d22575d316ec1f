/* Structs that carry their size, between a host and a library of different ages: fewer fields are as if they had their
 * defaults, more are accepted as long as they ask for nothing, and nothing is written beyond what the host has. */
#include "base/sized.h"

#include "kit.h"

enum { SLACK = 64, CANARY = 0x5a };

/* A struct of the host's, with what is behind it. */
union host_config {
  gch_config c;
  unsigned char bytes[sizeof(gch_config) + SLACK];
};
union host_options {
  gch_collect_options o;
  unsigned char bytes[sizeof(gch_collect_options) + SLACK];
};
union host_desc {
  gch_type_desc d;
  unsigned char bytes[sizeof(gch_type_desc) + SLACK];
};

static void check_canary(const unsigned char *bytes, size_t from, size_t total) {
  for (size_t i = from; i < total; i++)
    if (!CHECK_EQ(bytes[i], CANARY)) break;
}

static gch_status create(const gch_config *c, gch_heap **heap, const char *words) {
  gch_error error = {0};
  gch_status status = gch_heap_create(c, heap, &error);
  if (words != NULL && !CHECK(strstr(error.message, words) != NULL)) printf("    %s\n", error.message);
  return status;
}

static void configurations(void) {
  union host_config host;
  gch_heap *heap;
  gch_stats stats;
  size_t old = offsetof(gch_config, promote_age); /* what follows came later */
  memset(host.bytes, CANARY, sizeof host);
  gch_config_init_sized(&host.c, old);
  CHECK_EQ(host.c.struct_bytes, old);
  check_canary(host.bytes, old, sizeof host);
  host.c.mover = GCH_MOVER_MEMCPY;
  host.c.max_bytes = 16 << 20;
  host.c.nursery_bytes = 512 << 10;
  if (CHECK_EQ(create(&host.c, &heap, NULL), GCH_OK)) {
    gch_stats_get(heap, &stats, sizeof stats);
    CHECK_EQ(stats.nursery_bytes, 512 << 10);
    CHECK(heap->config.promote_age == 1 && heap->config.event_capacity == 16384 && heap->config.inject == NULL);
    gch_heap_destroy(heap, NULL);
  }
  host.c.struct_bytes = offsetof(gch_config, nursery_bytes);
  if (CHECK_EQ(create(&host.c, &heap, NULL), GCH_OK)) {
    CHECK(heap->config.nursery_bytes >= 512 << 10 && heap->config.nursery_bytes <= 4 << 20);
    gch_heap_destroy(heap, NULL);
  }
  host.c.struct_bytes -= 8;
  CHECK_EQ(create(&host.c, &heap, "gch_config.struct_bytes is"), GCH_BAD_VALUE);
  host.c.struct_bytes = (uint32_t)old - 4;
  CHECK_EQ(create(&host.c, &heap, "gch_config.struct_bytes is"), GCH_BAD_VALUE);
}

static void configurations_of_tomorrow(void) {
  union host_config host;
  gch_heap *heap;
  gch_config_init_sized(&host.c, sizeof host);
  CHECK_EQ(host.c.struct_bytes, sizeof host);
  host.c.mover = GCH_MOVER_MEMCPY;
  if (CHECK_EQ(create(&host.c, &heap, NULL), GCH_OK)) {
    CHECK_EQ(heap->config.struct_bytes, sizeof(gch_config));
    gch_heap_destroy(heap, NULL);
  }
  host.bytes[sizeof host - 1] = 1;
  CHECK_EQ(create(&host.c, &heap, "does not know"), GCH_BAD_VALUE);
  host.c.struct_bytes = UINT32_MAX;
  CHECK_EQ(create(&host.c, &heap, "struct_bytes is 4294967295"), GCH_BAD_VALUE);
}

static void collections(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 16, 512);
  union host_options host;
  gch_cycle r = {0};
  if (!kit_open(&k, &c)) return;
  memset(host.bytes, CANARY, sizeof host);
  size_t old = offsetof(gch_collect_options, minor);
  gch_collect_options_init_sized(&host.o, old);
  check_canary(host.bytes, old, sizeof host);
  host.o.policy = GCH_POLICY_ALL;
  CHECK_EQ(gch_collect(k.m, &host.o, &r), GCH_OK); /* and `wait` is true, the others false */
  CHECK(!r.minor && r.policy == GCH_POLICY_ALL);
  gch_collect_options_init_sized(&host.o, sizeof host);
  CHECK(host.o.wait && !host.o.minor);
  host.o.minor = true;
  CHECK_EQ(gch_collect(k.m, &host.o, &r), GCH_OK);
  CHECK(r.minor);
  host.bytes[sizeof(gch_collect_options)] = 1;
  CHECK_EQ(gch_collect(k.m, &host.o, &r), GCH_BAD_VALUE);
  CHECK(strstr(gch_last_error(k.m)->message, "gch_collect_options has a field") != NULL);
  gch_collect_options_init(&host.o);
  CHECK_EQ(host.o.struct_bytes, sizeof(gch_collect_options));
  kit_close(&k);
}

static void types_and_figures(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 16, 512);
  union host_desc host;
  const gch_type *type = NULL;
  unsigned char figures[sizeof(gch_stats) + SLACK];
  if (!kit_open(&k, &c)) return;
  memset(host.bytes, CANARY, sizeof host);
  host.d = (gch_type_desc){.struct_bytes = offsetof(gch_type_desc, tag_mask), .fixed_bytes = 8};
  host.d.tag_mask = 1000; /* not there */
  CHECK_EQ(gch_type_new(k.heap, &host.d, &type, NULL), GCH_OK);
  CHECK_STR(gch_type_name(k.heap, type), "object");
  host.d = (gch_type_desc){.struct_bytes = sizeof host, .fixed_bytes = 8, .name = "later"};
  CHECK_EQ(gch_type_new(k.heap, &host.d, &type, NULL), GCH_BAD_VALUE); /* the canary */
  memset(host.bytes + sizeof host.d, 0, SLACK);
  CHECK_EQ(gch_type_new(k.heap, &host.d, &type, NULL), GCH_OK);
  CHECK_STR(gch_type_name(k.heap, type), "later");
  memset(figures, CANARY, sizeof figures);
  gch_stats_get(k.heap, (gch_stats *)(void *)figures, offsetof(gch_stats, max_bytes));
  check_canary(figures, offsetof(gch_stats, max_bytes), sizeof figures);
  gch_stats_get(k.heap, (gch_stats *)(void *)figures, sizeof figures);
  for (size_t i = sizeof(gch_stats); i < sizeof figures; i++) CHECK_EQ(figures[i], 0);
  kit_close(&k);
}

int main(void) {
  kit_watchdog(60);
  RUN(configurations);
  RUN(configurations_of_tomorrow);
  RUN(collections);
  RUN(types_and_figures);
  return CHECK_SUMMARY();
}
