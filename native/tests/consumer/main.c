/* The smallest host: creates a heap, asks what it is, destroys it. Built against an installed gcheap by the packaging tests. */
#include <gcheap/gcheap.h>
#include <stdio.h>

static int fail(const char *what, const gch_error *error) {
  fprintf(stderr, "%s: %s\n", what, error->message);
  return 1;
}

int main(void) {
  gch_error error = {0};
  gch_config config;
  gch_config_init(&config);
  config.max_bytes = 64u << 20;
  gch_heap *heap;
  if (gch_heap_create(&config, &heap, &error) != GCH_OK) return fail("create", &error);
  gch_stats stats;
  gch_stats_get(heap, &stats, sizeof stats);
  printf("gcheap %s mover %s\n", gch_version(), gch_mover_name((gch_mover)stats.mover));
  if (gch_heap_destroy(heap, &error) != GCH_OK) return fail("destroy", &error);
  return 0;
}
