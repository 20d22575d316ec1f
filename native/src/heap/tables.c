#include "heap/tables.h"

#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "base/error.h"
#include "os/pages.h"

/* What one table needs: its pointer, and bytes for `span` bytes of heap. */
struct table_spec {
  void **pointer;
  size_t bytes;
};

static void describe(struct tables *t, const struct layout *l, struct table_spec out[TABLE_COUNT]) {
  size_t blocks = layout_block_count(l);
  size_t large_pages = l->span >> l->page_shift;
  struct table_spec all[TABLE_COUNT] = {
      {(void **)&t->live, l->span / GRANULE_BYTES / 8},
      {(void **)&t->mark, l->span / GRANULE_BYTES / 8},
      {(void **)&t->cards, l->span / CARD_BYTES},
      {(void **)&t->dirty, layout_arena_count(l)},
      {(void **)&t->blocks, blocks * sizeof(struct block)},
      {(void **)&t->arenas, layout_arena_count(l) * sizeof(struct arena)},
      {(void **)&t->forward, blocks * sizeof(int64_t)},
      {(void **)&t->lines, (l->span >> LINE_SHIFT) * sizeof(struct line_forward)},
      {(void **)&t->dest, blocks * sizeof(uint32_t)},
      {(void **)&t->needed, blocks * sizeof(uint16_t)},
      {(void **)&t->units, blocks},
      {(void **)&t->large_ids, large_pages * sizeof(uint32_t)},
      {(void **)&t->summaries, layout_arena_count(l) * SUMMARY_BITS / 8},
      {(void **)&t->anywhere, layout_arena_count(l)},
  };
  memcpy(out, all, sizeof all);
}

gch_status tables_init(struct tables *t, const struct layout *l, struct kernel *kernel, gch_error *error) {
  struct table_spec specs[TABLE_COUNT];
  *t = (struct tables){0};
  describe(t, l, specs);
  for (int i = 0; i < TABLE_COUNT; i++) {
    int rc = kernel_mmap(kernel, NULL, specs[i].bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, specs[i].pointer);
    if (rc < 0) {
      *specs[i].pointer = NULL;
      tables_destroy(t, l, kernel);
      return error_set(error, GCH_NO_MEMORY, "cannot reserve %zu MiB of addresses for side tables: %s",
                       specs[i].bytes >> 20, strerror(-rc));
    }
    t->bytes += specs[i].bytes;
  }
  return GCH_OK;
}

void tables_drop(struct tables *t, const struct layout *l, struct kernel *kernel, const struct arena_range *range) {
  struct table_spec specs[TABLE_COUNT];
  describe(t, l, specs);
  for (int i = 0; i < TABLE_COUNT; i++) {
    size_t arena_bytes = specs[i].bytes / layout_arena_count(l);
    size_t from = align_up(range->first * arena_bytes, l->page_bytes);
    size_t to = align_up(range->end * arena_bytes, l->page_bytes);
    if (to > range->limit * arena_bytes) to = align_down(range->limit * arena_bytes, l->page_bytes);
    if (from < to) pages_drop(kernel, (char *)*specs[i].pointer + from, to - from);
  }
}

void tables_destroy(struct tables *t, const struct layout *l, struct kernel *kernel) {
  struct table_spec specs[TABLE_COUNT];
  describe(t, l, specs);
  for (int i = 0; i < TABLE_COUNT; i++)
    if (*specs[i].pointer != NULL) kernel_munmap(kernel, *specs[i].pointer, specs[i].bytes);
  *t = (struct tables){0};
}
