/* Ring files of other processes, read. The layout and who writes it: heap/ring_file.h.
 *
 * The file is mapped read-only. Nothing in it is believed: the header is copied and checked once, so what is read later lies inside
 * the mapping whatever the header says by then; numbers and stamps only decide which events are taken. A file that was cut off
 * since is noticed before each look (a touch beyond its end would be a SIGBUS); who can cut it off between the two is its user. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/seqlock.h"
#include "heap/ring_file.h"
#include "os/process.h"

struct gch_ring {
  int fd;
  void *map;                      /* [const] */
  struct ring_file_header header; /* [const] a copy that was checked */
  struct ring ring;
  uint64_t *live;                       /* [const] stamp and record */
  uint64_t *arenas;                     /* [const] stamp and record of the map */
  uint64_t record[RING_LIVE_MAX / 8];   /* a live record */
  struct ring_file_map *listed;         /* a map */
};

/* --- the header ----------------------------------------------------------------------------------------------- */

static bool fits(uint64_t offset, uint64_t bytes, uint64_t file) {
  return offset % 8 == 0 && offset >= sizeof(struct ring_file_header) && offset <= file && bytes <= file - offset;
}

/* NULL, or what is wrong with it. */
static const char *wrong_with(const struct ring_file_header *h, uint64_t file) {
  uint64_t map_bytes = sizeof(struct ring_file_map) + h->map_capacity * sizeof(gch_arena_info);
  if (memcmp(h->magic, RING_FILE_MAGIC, sizeof h->magic) != 0) return "it does not begin as one does";
  if (h->version != GCH_RING_VERSION) return "it is of another version";
  if (h->header_bytes != sizeof *h) return "its header has another size";
  if (h->file_bytes > file) return "it has been cut off";
  if (h->capacity == 0 || !is_pow2(h->capacity) || h->capacity > RING_EVENTS_MAX) return "its capacity is none";
  if (h->map_capacity > RING_MAP_MAX || h->live_bytes > RING_LIVE_MAX || h->live_bytes % 8 != 0)
    return "a size in its header is none";
  if (h->live_bytes < offsetof(gch_ring_live, stats)) return "a size in its header is none";
  if (!fits(h->slots_offset, h->capacity * sizeof(struct ring_slot), h->file_bytes) ||
      !fits(h->live_offset, 8 + h->live_bytes, h->file_bytes) || !fits(h->map_offset, map_bytes, h->file_bytes))
    return "its header names places beyond its end";
  return NULL;
}

static gch_status refuse(const char *path, const char *why, gch_error *error) {
  return error_set(error, GCH_BAD_VALUE, "%.150s cannot be read as a ring file: %s", path, why);
}

/* Checks what is there before it is mapped. */
static gch_status look_at(gch_ring *r, const char *path, uint64_t *bytes, gch_error *error) {
  struct stat s;
  r->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (r->fd < 0 || fstat(r->fd, &s) < 0) return refuse(path, strerror(errno), error);
  if (!S_ISREG(s.st_mode)) return refuse(path, "it is no regular file", error);
  if (s.st_uid != geteuid() && geteuid() != 0) return refuse(path, "it belongs to another user", error);
  *bytes = (uint64_t)s.st_size;
  ssize_t n = pread(r->fd, &r->header, sizeof r->header, 0);
  if (n < 0) return refuse(path, strerror(errno), error);
  if ((size_t)n < sizeof r->header) return refuse(path, "it is too short", error);
  const char *wrong = wrong_with(&r->header, *bytes);
  return wrong == NULL ? GCH_OK : refuse(path, wrong, error);
}

static gch_status map(gch_ring *r, const char *path, gch_error *error) {
  uint64_t list_bytes = sizeof(struct ring_file_map) + r->header.map_capacity * sizeof(gch_arena_info);
  r->listed = malloc(list_bytes);
  if (r->listed == NULL) return error_set(error, GCH_NO_MEMORY, "no memory to read %.150s", path);
  r->map = mmap(NULL, r->header.file_bytes, PROT_READ, MAP_SHARED, r->fd, 0);
  if (r->map == MAP_FAILED) {
    r->map = NULL;
    return error_set(error, GCH_NO_MEMORY, "cannot map %.150s: %s", path, strerror(errno));
  }
  char *at = r->map;
  struct ring_file_header *header = r->map;
  r->live = (uint64_t *)(void *)(at + r->header.live_offset);
  r->arenas = (uint64_t *)(void *)(at + r->header.map_offset);
  ring_attach(&r->ring, (struct ring_slot *)(void *)(at + r->header.slots_offset), r->header.capacity, &header->next);
  return GCH_OK;
}

gch_status gch_ring_open(const char *path, gch_ring **out, gch_error *error) {
  uint64_t bytes;
  *out = NULL;
  gch_ring *r = calloc(1, sizeof *r);
  if (r == NULL) return error_set(error, GCH_NO_MEMORY, "no memory to read %.150s", path);
  r->fd = -1;
  gch_status status = look_at(r, path, &bytes, error);
  if (status == GCH_OK) status = map(r, path, error);
  if (status == GCH_OK)
    *out = r;
  else
    gch_ring_close(r);
  return status;
}

void gch_ring_close(gch_ring *r) {
  if (r == NULL) return;
  if (r->map != NULL) munmap(r->map, r->header.file_bytes);
  if (r->fd >= 0) close(r->fd);
  free(r->listed);
  free(r);
}

/* --- reading -------------------------------------------------------------------------------------------------- */

static bool is_whole(const gch_ring *r) {
  struct stat s;
  return fstat(r->fd, &s) == 0 && (uint64_t)s.st_size >= r->header.file_bytes;
}

void gch_ring_info_get(const gch_ring *r, gch_ring_info *out, size_t bytes) {
  gch_ring_info info = r->header.info;
  info.library[sizeof info.library - 1] = 0;
  memset(out, 0, bytes);
  memcpy(out, &info, bytes < sizeof info ? bytes : sizeof info);
}

gch_ring_state gch_ring_state_get(const gch_ring *r) {
  const struct ring_file_header *header = r->map;
  if (!is_whole(r)) return GCH_RING_TRUNCATED;
  if (at_load(&header->closed) != 0) return GCH_RING_CLOSED;
  return process_is_there(r->header.info.pid, r->header.info.process_start) ? GCH_RING_OPEN : GCH_RING_DEAD;
}

size_t gch_ring_events(gch_ring *r, uint64_t *sequence, gch_event *out, size_t capacity, uint64_t *lost) {
  if (!is_whole(r)) return 0;
  for (;;) {
    size_t count = ring_read(&r->ring, sequence, (struct ring_event *)out, capacity, lost);
    if (count > 0 || capacity == 0 || *sequence >= ring_next(&r->ring)) return count;
    gch_ring_state state = gch_ring_state_get(r);
    if (state == GCH_RING_OPEN || state == GCH_RING_TRUNCATED) return 0;
    ++*sequence; /* nobody will finish it */
    if (lost != NULL) ++*lost;
  }
}

bool gch_ring_live_get(gch_ring *r, gch_ring_live *out, size_t bytes) {
  uint64_t known = r->header.live_bytes < bytes ? r->header.live_bytes : bytes;
  memset(out, 0, bytes);
  if (!is_whole(r) || !seqlock_read(r->live, r->live + 1, r->record, r->header.live_bytes / 8)) return false;
  memcpy(out, r->record, known);
  return true;
}

size_t gch_ring_map(gch_ring *r, gch_arena_info *out, size_t capacity, uint64_t *unlisted) {
  uint64_t count = 0, words = 2 + r->header.map_capacity;
  if (unlisted != NULL) *unlisted = 0;
  if (!is_whole(r) || !seqlock_read(r->arenas, r->arenas + 1, &r->listed->count, words)) return 0;
  count = r->listed->count < r->header.map_capacity ? r->listed->count : r->header.map_capacity;
  memcpy(out, r->listed->arenas, (count < capacity ? count : capacity) * sizeof *out);
  if (unlisted != NULL) *unlisted = r->listed->unlisted;
  return count;
}
