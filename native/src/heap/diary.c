#include "heap/diary.h"

#include <string.h>

void diary_note(gch_heap *h, const gch_cycle *cycle, const gch_report *report, gch_cause cause) {
  struct diary *d = h->diary;
  if (d == NULL) return;
  if (d->count == DIARY_MAX) memmove(&d->noted[0], &d->noted[1], --d->count * sizeof d->noted[0]);
  d->noted[d->count++] = (struct diary_entry){*cycle, *report, cause, clock_ns()};
}

void diary_take(gch_heap *h, struct diary_page *page) {
  page->count = 0;
  if (gch_likely(h->diary == NULL)) return;
  page->count = h->diary->count;
  memcpy(page->entries, h->diary->noted, page->count * sizeof page->entries[0]);
  h->diary->count = 0;
}

void diary_tell(gch_heap *h, const struct diary_page *page) {
  for (uint32_t i = 0; i < page->count; i++) h->diary->tell(h, &page->entries[i]);
}
