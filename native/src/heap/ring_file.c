#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "heap/ring_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "os/pages.h"
#include "os/process.h"

enum {
  NAMES = 4096, /* heaps of a process that have a file in one folder */
  KEPT_FILES = 16,
  LEFT_MAX = 256, /* looked at, at a time */
};

/* --- where ---------------------------------------------------------------------------------------------------- */

struct place {
  const char *said_by; /* "ring_path" or "GCHEAP_RING" */
  const char *path;    /* NULL: no file */
};

static struct place place_of(const gch_config *c) {
  struct place p = {"ring_path", c->ring_path};
  if (p.path == NULL) p = (struct place){"GCHEAP_RING", secure_getenv("GCHEAP_RING")};
  if (p.path != NULL && p.path[0] == 0) p.path = NULL;
  return p;
}

/* `path` is where it was tried. */
static gch_status refuse(const struct place *p, const char *path, int error_number, gch_error *error) {
  gch_status status = error_number == ENOSPC || error_number == ENOMEM ? GCH_NO_MEMORY : GCH_BAD_VALUE;
  if (strcmp(path, p->path) == 0)
    return error_set(error, status,
                     "%s is '%.130s', expected auto, a folder, or a path at which a file can be made: %s", p->said_by,
                     path, strerror(error_number));
  return error_set(error, status, "%s is '%.40s', but %.130s cannot be made: %s", p->said_by, p->path, path,
                   strerror(error_number));
}

/* The user's own folder, which nobody else can write. 0 or an errno. */
static int own_folder(char out[RING_PATH_MAX]) {
  const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
  struct stat s;
  int length = runtime != NULL && runtime[0] == '/'
                   ? snprintf(out, RING_PATH_MAX, "%s/gcheap", runtime)
                   : snprintf(out, RING_PATH_MAX, "/tmp/gcheap-%u", (unsigned)geteuid());
  if (length >= RING_PATH_MAX) return ENAMETOOLONG;
  if (mkdir(out, 0700) < 0 && errno != EEXIST) return errno;
  if (lstat(out, &s) < 0) return errno;
  if (!S_ISDIR(s.st_mode)) return ENOTDIR;
  return s.st_uid == geteuid() && (s.st_mode & 022) == 0 ? 0 : EPERM;
}

/* The process may change its folder before the file is removed. */
static int make_absolute(const char *path, char out[RING_PATH_MAX]) {
  char here[RING_PATH_MAX] = "";
  if (path[0] != '/' && getcwd(here, sizeof here) == NULL) return errno == ERANGE ? ENAMETOOLONG : errno;
  int length = snprintf(out, RING_PATH_MAX, "%s%s%s", here, here[0] != 0 ? "/" : "", path);
  return length < RING_PATH_MAX ? 0 : ENAMETOOLONG;
}

/* Where the file goes: the folder, or (that is "" then) the path. */
static int find_place(const struct place *p, struct ring_file *f) {
  struct stat s;
  if (strcmp(p->path, "auto") == 0) return own_folder(f->folder);
  int rc = make_absolute(p->path, f->path);
  if (rc != 0 || stat(f->path, &s) < 0 || !S_ISDIR(s.st_mode)) return rc;
  memcpy(f->folder, f->path, sizeof f->folder);
  return 0;
}

struct left {
  char name[48];
  int64_t modified;
};

static bool was_left(int folder, const struct dirent *e, struct left *out) {
  struct stat s;
  char *end;
  unsigned long pid = strtoul(e->d_name, &end, 10);
  size_t length = strlen(e->d_name);
  if (end == e->d_name || *end != '-' || length < 6 || length >= sizeof out->name) return false;
  if (strcmp(e->d_name + length - 5, ".ring") != 0 || process_is_there((uint32_t)pid, 0)) return false;
  if (fstatat(folder, e->d_name, &s, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(s.st_mode)) return false;
  memcpy(out->name, e->d_name, length + 1);
  out->modified = (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec;
  return true;
}

static int later_first(const void *a, const void *b) {
  int64_t x = ((const struct left *)a)->modified, y = ((const struct left *)b)->modified;
  return x > y ? -1 : x < y;
}

/* What processes that are gone have left in the folder: the last KEPT_FILES stay, for whoever wants to know what they did. (Children
 * of fork() often end without destroying the heaps that they have.) */
static void thin_out(const char *folder) {
  struct left all[LEFT_MAX];
  uint32_t count = 0;
  DIR *dir = opendir(folder);
  if (dir == NULL) return;
  for (struct dirent *e; count < LEFT_MAX && (e = readdir(dir)) != NULL;) count += was_left(dirfd(dir), e, &all[count]);
  qsort(all, count, sizeof all[0], later_first);
  for (uint32_t i = KEPT_FILES; i < count; i++) unlinkat(dirfd(dir), all[i].name, 0);
  closedir(dir);
}

static int make_file(struct ring_file *f, int *fd) {
  *fd = open(f->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  return *fd < 0 ? errno : 0;
}

/* The first free name of the folder, or the path as it is. */
static int make_named(struct ring_file *f, int *fd) {
  int rc = EEXIST;
  if (f->folder[0] == 0) return make_file(f, fd);
  thin_out(f->folder);
  for (int n = 0; n < NAMES && rc == EEXIST; n++) {
    snprintf(f->path, sizeof f->path, "%s/%ld-%d.ring", f->folder, (long)getpid(), n);
    rc = make_file(f, fd);
  }
  return rc;
}

/* --- what ----------------------------------------------------------------------------------------------------- */

/* Arenas that may have memory at a time: where blocks lie scattered, more than the limit makes of full ones. */
static uint64_t map_capacity(const gch_heap *h) {
  const struct layout *l = &h->layout;
  uint64_t young = l->regions[layout_first_region(l, SPACE_YOUNG)].bytes >> ARENA_SHIFT;
  uint64_t capacity = 4 * (h->config.max_bytes >> ARENA_SHIFT) + young + 256;
  return capacity < RING_MAP_MAX ? capacity : RING_MAP_MAX;
}

static struct ring_file_header plan_header(const gch_heap *h) {
  struct ring_file_header r = {.version = GCH_RING_VERSION,
                               .header_bytes = sizeof r,
                               .slots_offset = sizeof r,
                               .capacity = h->config.event_capacity,
                               .live_bytes = sizeof(gch_ring_live),
                               .map_capacity = map_capacity(h)};
  r.live_offset = r.slots_offset + r.capacity * sizeof(struct ring_slot);
  r.map_offset = align_up(r.live_offset + 8 + r.live_bytes, 64);
  r.file_bytes =
      align_up(r.map_offset + sizeof(struct ring_file_map) + r.map_capacity * sizeof(gch_arena_info), pages_size());
  r.info = (gch_ring_info){.version = GCH_RING_VERSION,
                           .pid = (uint32_t)getpid(),
                           .process_start = process_start((uint32_t)getpid()),
                           .monotonic_ns = clock_ns(),
                           .realtime_ns = clock_read_ns(CLOCK_REALTIME),
                           .boottime_ns = clock_read_ns(CLOCK_BOOTTIME),
                           .event_capacity = r.capacity,
                           .base = h->layout.base,
                           .span = h->layout.span,
                           .page_bytes = (uint32_t)h->layout.page_bytes,
                           .block_bytes = BLOCK_BYTES,
                           .arena_bytes = ARENA_BYTES,
                           .map_capacity = (uint32_t)r.map_capacity};
  snprintf(r.info.library, sizeof r.info.library, "%.15s", gch_version());
  return r;
}

static int map_file(gch_heap *h, struct ring_file *f, int fd, uint64_t bytes) {
  struct stat s;
  void *at = NULL;
  if (fstat(fd, &s) < 0) return errno;
  f->device = (uint64_t)s.st_dev;
  f->inode = (uint64_t)s.st_ino;
  int rc = posix_fallocate(fd, 0, (off_t)bytes);
  if (rc == 0) rc = -kernel_mmap(&h->kernel, NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0, &at);
  if (rc != 0) return rc;
  (void)pages_populate(&h->kernel, at, bytes); /* a kernel without it: page by page, later */
  f->header = at;
  return 0;
}

/* Complete but for the ring's number and the magic. 0 or an errno; nothing is left behind. */
static int open_file(gch_heap *h, struct ring_file *f) {
  struct ring_file_header planned = plan_header(h);
  int fd, rc = make_named(f, &fd);
  if (rc != 0) return rc;
  rc = map_file(h, f, fd, planned.file_bytes);
  close(fd);
  if (rc != 0) {
    unlink(f->path);
    return rc;
  }
  *f->header = planned;
  return 0;
}

/* From now on readers take it. */
static void release_file(struct ring_file *f) {
  uint64_t magic;
  memcpy(&magic, RING_FILE_MAGIC, sizeof magic);
  at_store((uint64_t *)(void *)f->header->magic, magic);
}

static struct ring_slot *slots_of(const struct ring_file *f) {
  return (struct ring_slot *)(void *)((char *)f->header + f->header->slots_offset);
}

/* --- life ----------------------------------------------------------------------------------------------------- */

static gch_status init_private(gch_heap *h, gch_error *error) {
  h->ring_slots = calloc(h->config.event_capacity, sizeof *h->ring_slots);
  if (h->ring_slots == NULL)
    return error_set(error, GCH_NO_MEMORY, "no memory for %u events", h->config.event_capacity);
  ring_init(&h->ring, h->ring_slots, h->config.event_capacity);
  return GCH_OK;
}

gch_status ring_file_init(gch_heap *h, gch_error *error) {
  struct place p = place_of(&h->config);
  h->config.ring_path = NULL; /* the caller's, until the heap is made */
  if (p.path == NULL) return init_private(h, error);
  struct ring_file *f = calloc(1, sizeof *f);
  if (f == NULL) return error_set(error, GCH_NO_MEMORY, "%s", "no memory for the record of a ring file");
  int rc = find_place(&p, f);
  if (rc == 0) rc = open_file(h, f);
  if (rc != 0) {
    gch_status status = refuse(&p, f->path[0] != 0 ? f->path : f->folder, rc, error);
    free(f);
    return status;
  }
  h->ring_file = f;
  ring_attach(&h->ring, slots_of(f), f->header->capacity, &f->header->next);
  release_file(f);
  return GCH_OK;
}

void ring_file_destroy(gch_heap *h) {
  struct ring_file *f = h->ring_file;
  struct stat s;
  free(h->ring_slots);
  if (f == NULL) return;
  at_store(&f->header->closed, 1);
  if (lstat(f->path, &s) == 0 && (uint64_t)s.st_dev == f->device && (uint64_t)s.st_ino == f->inode) unlink(f->path);
  kernel_munmap(&h->kernel, f->header, f->header->file_bytes);
  free(f);
}

/* The child's own: in a file, if there is a folder to put it. False: there is none, or it was refused. */
static bool inherit_file(gch_heap *h, const struct ring_file *parent) {
  struct ring_file *f = calloc(1, sizeof *f);
  if (f == NULL) return false;
  memcpy(f->folder, parent->folder, sizeof f->folder);
  if (f->folder[0] == 0 || open_file(h, f) != 0) {
    free(f);
    return false;
  }
  h->ring_file = f;
  ring_attach(&h->ring, slots_of(f), f->header->capacity, &f->header->next);
  return true;
}

/* What a heap that cannot be used any more would write. */
static struct ring_slot nowhere;

gch_status ring_file_inherit(gch_heap *h, gch_error *error) {
  struct ring_file *parent = h->ring_file;
  struct ring shared = h->ring;
  if (parent == NULL) return GCH_OK;
  h->ring_file = NULL;
  gch_status status = inherit_file(h, parent) ? GCH_OK : init_private(h, error);
  if (status == GCH_OK)
    ring_inherit(&h->ring, &shared);
  else
    ring_init(&h->ring, &nowhere, 1);
  if (h->ring_file != NULL) release_file(h->ring_file);
  kernel_munmap(&h->kernel, parent->header, parent->header->file_bytes);
  free(parent);
  return status;
}
