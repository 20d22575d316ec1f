/* The ring file: what another process sees of a heap, who may write it, and what is refused. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "heap/ring_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "hold.h"
#include "kit.h"
#include "os/process.h"

/* Children start their heap's threads. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0"; }

enum { EVENTS = 4096, ARENAS = 4096 };
static char folder[64];
static gch_event events[EVENTS];
static gch_arena_info arenas[ARENAS];

static const char *at(const char *name) {
  static char paths[16][128]; /* a test names fewer */
  static int turn;
  char *path = paths[turn++ % 16];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

static bool is_there(const char *path) { return access(path, F_OK) == 0; }

static gch_config config_with(const char *path) {
  gch_config c = kit_config(GCH_MOVER_MEMCPY, 64, 512);
  c.ring_path = path;
  c.event_capacity = 256;
  c.gc_threads = 1;
  return c;
}

static bool open_with(struct kit *k, const char *path) {
  gch_config c = config_with(path);
  return kit_open(k, &c);
}

static gch_ring *reader(const char *path) {
  gch_ring *ring = NULL;
  gch_error error = {0};
  if (!CHECK_EQ(gch_ring_open(path, &ring, &error), GCH_OK)) fprintf(stderr, "%s\n", error.message);
  return ring;
}

/* A sample that the heap's own figures agree with comes within seconds. */
static gch_ring_live live_after(gch_ring *ring, uint64_t majors) {
  gch_ring_live live = {0};
  for (int i = 0; i < 1000; i++) {
    if (gch_ring_live_get(ring, &live, sizeof live) && live.stats.major_count >= majors) break;
    usleep(10000);
  }
  return live;
}

static void figures_and_map(struct kit *k, gch_ring *ring) {
  gch_ring_live live = live_after(ring, 1);
  gch_stats stats;
  gch_stats_get(k->heap, &stats, sizeof stats);
  CHECK_EQ(live.stats.major_count, 1);
  CHECK_EQ(live.stats.heap_bytes, stats.heap_bytes);
  CHECK_EQ(live.stats.last_major.number, stats.last_major.number);
  CHECK(live.time != 0 && live.phase == GCH_PHASE_IDLE);
  uint64_t unlisted = 7, small = 0, large = 0, lives = 0;
  usleep(300000); /* the map that belongs to it, or a later one */
  size_t count = gch_ring_map(ring, arenas, ARENAS, &unlisted);
  CHECK(count > 1 && count < ARENAS);
  CHECK_EQ(unlisted, 0);
  for (size_t i = 0; i < count && i < ARENAS; i++) {
    CHECK(arenas[i].space <= SPACE_YOUNG && arenas[i].populated > 0 && arenas[i].populated <= ARENA_BLOCKS);
    small += arenas[i].space == SPACE_OLD ? arenas[i].populated : 0;
    large += arenas[i].space == SPACE_LARGE_LEAF ? arenas[i].populated : 0;
    lives += arenas[i].space == SPACE_OLD && arenas[i].live != 255 ? arenas[i].live : 0;
  }
  CHECK(small * BLOCK_BYTES >= 20000 * 32);
  CHECK(lives * BLOCK_BYTES >= 20000 * 32 && lives <= small);
  CHECK_EQ(large, (3 << 20) / BLOCK_BYTES + 1);
}

static void same_events(struct kit *k, gch_ring *ring) {
  static gch_event own[EVENTS];
  uint64_t from = 0, from_own = 0, lost = 0, lost_own = 0;
  size_t count = gch_ring_events(ring, &from, events, EVENTS, &lost);
  CHECK_EQ(count, gch_events_read(k->heap, &from_own, own, EVENTS, &lost_own));
  CHECK(count > 0 && from == from_own && lost == lost_own);
  CHECK_EQ(memcmp(events, own, count * sizeof own[0]), 0);
}

static void what_is_seen(void) {
  struct kit k;
  struct stat s;
  gch_ring_info info;
  const char *path = at("heap.ring");
  if (!open_with(&k, path)) return; /* the first leaves malloc's arenas and stacks of threads behind */
  kit_close(&k);
  struct kit_holdings before = kit_holdings();
  if (!open_with(&k, path)) return;
  CHECK(stat(path, &s) == 0 && (s.st_mode & 07777) == 0600 && s.st_blocks * 512 >= s.st_size);
  gch_ring *ring = reader(path);
  if (ring == NULL) return;
  gch_ring_info_get(ring, &info, sizeof info);
  CHECK(info.pid == (uint32_t)getpid() && info.base == k.heap->layout.base && info.event_capacity == 256);
  CHECK_EQ(info.process_start, process_start((uint32_t)getpid()));
  CHECK_STR(info.library, gch_version());
  GCH_FRAME(k.m, root, 2);
  root[0] = kit_refs(&k, 20000);
  root[1] = kit_bytes(&k, 3 << 20);
  for (uint64_t i = 0; i < 20000; i++) kit_put_node(&k, &root[0], i, i);
  kit_major(&k, GCH_POLICY_ALL, false, true);
  same_events(&k, ring);
  figures_and_map(&k, ring);
  CHECK_EQ(gch_ring_state_get(ring), GCH_RING_OPEN);
  GCH_FRAME_END(k.m);
  kit_close(&k);
  CHECK(!is_there(path));
  CHECK_EQ(gch_ring_state_get(ring), GCH_RING_CLOSED);
  uint64_t sequence = 0;
  CHECK(gch_ring_events(ring, &sequence, events, EVENTS, NULL) > 0); /* what was mapped stays */
  gch_ring_close(ring);
  struct kit_holdings after = kit_settled(before);
  CHECK(after.tasks == before.tasks && after.fds == before.fds);
}

/* While memory moves beside a program that touches it: samples go on, and faults are told of with the thread that waited. */
static void beside_a_move(void) {
  struct kit k;
  struct kit_request request;
  uint64_t sequence = 0, faults = 0, others = 0, lost = 0, sum = 0, first = 0;
  gch_ring_live live = {0};
  if (!kit_available(GCH_MOVER_COPY)) SKIP("beside_a_move", "no userfaultfd");
  gch_config c = config_with(at("moving.ring"));
  c.mover = GCH_MOVER_COPY;
  c.event_capacity = 1 << 16;
  if (!kit_open(&k, &c)) return;
  gch_ring *ring = reader(at("moving.ring"));
  GCH_FRAME(k.m, root, 2);
  root[0] = kit_refs(&k, 100000);
  for (uint64_t i = 0; i < 100000; i++) kit_put_node(&k, &root[0], i, i);
  for (int round = 0; ring != NULL && (round < 3 || live.time < first + 300000000) && round < 500; round++) {
    root[1] = kit_bytes(&k, 1 << 20);
    hold_before(&k, &request, GCH_POLICY_ALL, "move_begins"); /* whatever we touch is missing */
    for (uint64_t i = 0; i < 100000; i++) {
      sum += *kit_number(kit_at(root[0], i * 7919 % 100000));
      gch_safepoint(k.m);
    }
    hold_off(&k, &request);
    if (gch_ring_live_get(ring, &live, sizeof live) && first == 0) first = live.time;
    CHECK(gch_ring_map(ring, arenas, ARENAS, NULL) < ARENAS);
    for (size_t n; (n = gch_ring_events(ring, &sequence, events, EVENTS, &lost)) > 0;)
      for (size_t i = 0; i < n; i++)
        if (events[i].kind == GCH_EVENT_FAULT) faults++, others += events[i].thread != thread_id();
  }
  CHECK(live.time > first && first != 0);
  CHECK(faults > 0 && sum > 0);
  CHECK_EQ(others, 0);
  GCH_FRAME_END(k.m);
  kit_close(&k);
  gch_ring_close(ring);
}

/* --- where ---------------------------------------------------------------------------------------------------- */

static void refused(const char *path, const char *words) {
  gch_config c = config_with(path);
  gch_heap *heap = NULL;
  gch_error error = {0};
  struct kit_holdings before = kit_holdings();
  CHECK_EQ(gch_heap_create(&c, &heap, &error), GCH_BAD_VALUE);
  if (!CHECK(heap == NULL && strstr(error.message, words) != NULL)) fprintf(stderr, "%s\n", error.message);
  struct kit_holdings after = kit_settled(before);
  CHECK(after.tasks == before.tasks && after.fds == before.fds);
}

static void bad_places(void) {
  const char *taken = at("taken"), *link = at("link");
  close(open(taken, O_CREAT | O_WRONLY, 0600));
  refused(taken, "File exists");
  refused(taken, taken);
  CHECK_EQ(symlink(at("nowhere"), link), 0);
  refused(link, "File exists");
  CHECK(!is_there(at("nowhere")));
  refused(at("none/heap.ring"), "No such file or directory");
  char longest[600];
  memset(longest, 'x', sizeof longest);
  longest[sizeof longest - 1] = 0;
  refused(longest, "name too long");
  refused(at("taken/heap.ring"), "Not a directory");
  CHECK(is_there(taken));
  setenv("GCHEAP_RING", at("none/heap.ring"), 1);
  refused(NULL, "GCHEAP_RING is '");
  unsetenv("GCHEAP_RING");
  gch_config c = config_with(at("left.ring"));
  gch_heap *heap;
  c.log = "nonsense"; /* what is refused later leaves no file */
  CHECK_EQ(gch_heap_create(&c, &heap, NULL), GCH_BAD_VALUE);
  CHECK(!is_there(at("left.ring")));
}

static void folders(void) {
  struct kit a, b;
  char name[64];
  if (!open_with(&a, folder) || !open_with(&b, folder)) return;
  snprintf(name, sizeof name, "%d-0.ring", (int)getpid());
  CHECK(is_there(at(name)));
  kit_close(&a);
  CHECK(!is_there(at(name)));
  snprintf(name, sizeof name, "%d-1.ring", (int)getpid());
  CHECK(is_there(at(name)));
  kit_close(&b);
  CHECK(!is_there(at(name)));
}

static void from_the_environment(void) {
  struct kit k;
  char name[64];
  setenv("XDG_RUNTIME_DIR", folder, 1);
  setenv("GCHEAP_RING", "auto", 1);
  snprintf(name, sizeof name, "gcheap/%d-0.ring", (int)getpid());
  if (open_with(&k, NULL)) {
    CHECK(is_there(at(name)));
    kit_close(&k);
  }
  if (open_with(&k, "")) { /* off, whatever the environment says */
    CHECK(!is_there(at(name)) && k.heap->ring_file == NULL && k.heap->sampler == NULL);
    kit_close(&k);
  }
  CHECK_EQ(chmod(at("gcheap"), 0777), 0);
  refused(NULL, "Operation not permitted"); /* others could put files there */
  CHECK_EQ(rmdir(at("gcheap")), 0);
  unsetenv("GCHEAP_RING");
  unsetenv("XDG_RUNTIME_DIR");
}

/* Somebody has put another file at the path: it is not ours to remove. */
static void replaced(void) {
  struct kit k;
  const char *path = at("replaced.ring");
  if (!open_with(&k, path)) return;
  CHECK_EQ(unlink(path), 0);
  close(open(path, O_CREAT | O_WRONLY, 0600));
  kit_close(&k);
  CHECK(is_there(path));
}

/* Of what processes that are gone have left, the last stay. */
static void thinned_out(void) {
  struct kit k;
  char name[64];
  char place[128];
  int status;
  snprintf(place, sizeof place, "%s", at("left"));
  fflush(NULL);
  pid_t gone = fork();
  if (gone == 0) _exit(0);
  CHECK_EQ(waitpid(gone, &status, 0), gone);
  CHECK_EQ(mkdir(place, 0700), 0);
  for (int i = 0; i < 40; i++) {
    snprintf(name, sizeof name, "left/%d-%d.ring", (int)gone, i);
    close(open(at(name), O_CREAT | O_WRONLY, 0600));
    usleep(11000); /* the times of files are coarse */
  }
  close(open(at("left/1-0.ring"), O_CREAT | O_WRONLY, 0600)); /* that process lives */
  close(open(at("left/notes.ring"), O_CREAT | O_WRONLY, 0600));
  if (!open_with(&k, place)) return;
  for (int i = 0; i < 40; i++) {
    snprintf(name, sizeof name, "left/%d-%d.ring", (int)gone, i);
    CHECK_EQ(is_there(at(name)), i >= 24);
  }
  CHECK(is_there(at("left/1-0.ring")) && is_there(at("left/notes.ring")));
  kit_close(&k);
}

/* A relative path is where it was when the heap was made. */
static void relative_path(void) {
  struct kit k;
  char before[256];
  CHECK(getcwd(before, sizeof before) != NULL && chdir(folder) == 0);
  if (!open_with(&k, "relative.ring")) return;
  CHECK(chdir(before) == 0 && is_there(at("relative.ring")));
  kit_close(&k);
  CHECK(!is_there(at("relative.ring")));
}

/* --- other processes ------------------------------------------------------------------------------------------ */

/* Reads what the parent's heap does until it is destroyed; the exit status says whether all added up. */
static void read_along(const char *path) {
  gch_ring *ring = NULL;
  uint64_t sequence = 0, lost = 0, read = 0, wrong = 0;
  bool more = true;
  for (int i = 0; i < 1000 && gch_ring_open(path, &ring, NULL) != GCH_OK; i++) usleep(10000);
  while (ring != NULL && more) {
    more = gch_ring_state_get(ring) == GCH_RING_OPEN; /* before the last look */
    for (size_t n; (n = gch_ring_events(ring, &sequence, events, EVENTS, &lost)) > 0; read += n)
      for (size_t i = 0; i < n; i++)
        wrong += events[i].kind == 0 || events[i].kind >= GCH_EVENT_KIND_COUNT || events[i].sequence >= sequence;
  }
  bool closed = ring != NULL && gch_ring_state_get(ring) == GCH_RING_CLOSED;
  _exit(closed && read > 100 && wrong == 0 && read + lost == sequence ? 0 : 1);
}

static void read_by_another(void) {
  struct kit k;
  int status = -1;
  const char *path = at("other.ring");
  fflush(NULL);
  pid_t child = fork(); /* there is no heap yet */
  if (child == 0) read_along(path);
  if (open_with(&k, path)) {
    for (int i = 0; i < 500; i++) {
      kit_minor(&k, false);
      if (i % 50 == 0) usleep(20000);
    }
    kit_close(&k);
  }
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
}

/* The child of fork() has a file of its own beside the parent's, or none; the parent's is as it was. */
static void forked(const char *path, bool own) {
  struct kit k;
  int status = -1;
  char name[64];
  if (!open_with(&k, path)) return;
  GCH_FRAME(k.m, root, 1);
  for (int i = 0; i < 20; i++) kit_minor(&k, false);
  fflush(NULL);
  uint64_t before = at_load(&k.heap->ring_file->header->next);
  pid_t child = fork();
  if (child == 0) {
    uint64_t sequence = 0;
    int failures = check_failures;
    for (int i = 0; i < 20; i++) kit_minor(&k, false);
    CHECK(gch_events_read(k.heap, &sequence, events, EVENTS, NULL) > 100 && sequence > before);
    CHECK_EQ(k.heap->ring_file != NULL, own);
    CHECK_EQ(k.heap->sampler != NULL, own);
    snprintf(name, sizeof name, "%d-0.ring", (int)getpid());
    CHECK_EQ(is_there(at(name)), own);
    kit_major(&k, GCH_POLICY_ALL, false, true);
    gch_ring *ring = own ? reader(at(name)) : NULL;
    if (own && CHECK(ring != NULL)) {
      same_events(&k, ring);
      CHECK(live_after(ring, 1).stats.major_count >= 1);
      gch_ring_close(ring);
    }
    GCH_FRAME_END(k.m);
    kit_close(&k);
    CHECK(!is_there(at(name)));
    fflush(NULL);
    _exit(check_failures == failures ? 0 : 1);
  }
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  uint64_t written = at_load(&k.heap->ring_file->header->next) - before;
  CHECK(written <= 2); /* the pause of fork() itself */
  CHECK(is_there(k.heap->ring_file->path));
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void in_the_child_of_fork(void) {
  forked(folder, true);
  forked(at("forked.ring"), false);
}

/* A process that is killed leaves its file: what it did last can be read. */
static void flight_recorder(void) {
  const char *path = at("killed.ring");
  int status;
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    struct kit k;
    if (!open_with(&k, path)) _exit(1);
    kit_minor(&k, false);
    uint64_t last = at_load(k.heap->ring.next);
    k.heap->ring.slots[last % 256].stamp = 2 * last + 1; /* it dies while it writes one */
    at_store(k.heap->ring.next, last + 1);
    kit_minor(&k, false);
    kill(getpid(), SIGKILL);
  }
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFSIGNALED(status));
  gch_ring *ring = reader(path);
  if (ring == NULL) return;
  uint64_t sequence = 0, lost = 0, read = 0, ends = 0;
  CHECK_EQ(gch_ring_state_get(ring), GCH_RING_DEAD);
  for (size_t n; (n = gch_ring_events(ring, &sequence, events, EVENTS, &lost)) > 0; read += n)
    for (size_t i = 0; i < n; i++) ends += events[i].kind == GCH_EVENT_END;
  CHECK_EQ(ends, 2);
  CHECK_EQ(lost, 1);
  CHECK_EQ(read + lost, sequence);
  gch_ring_close(ring);
  CHECK_EQ(unlink(path), 0);
}

/* --- what is in a file ---------------------------------------------------------------------------------------- */

static void not_a_ring(const char *path, const char *words) {
  gch_ring *ring = NULL;
  gch_error error = {0};
  CHECK_EQ(gch_ring_open(path, &ring, &error), GCH_BAD_VALUE);
  CHECK(ring == NULL && strstr(error.message, path) != NULL);
  if (!CHECK(strstr(error.message, words) != NULL)) fprintf(stderr, "%s\n", error.message);
  gch_ring_close(ring);
}

static char *copy_of(const char *path, size_t *bytes) {
  struct stat s;
  int fd = open(path, O_RDONLY);
  if (!CHECK(fd >= 0 && fstat(fd, &s) == 0)) return NULL;
  char *copy = malloc((size_t)s.st_size);
  *bytes = (size_t)s.st_size;
  CHECK_EQ(read(fd, copy, *bytes), s.st_size);
  close(fd);
  return copy;
}

static void put(const char *path, const char *bytes, size_t count) {
  int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
  CHECK_EQ(write(fd, bytes, count), (ssize_t)count);
  close(fd);
}

/* A field of the header says something else. */
static void changed(const char *bytes, size_t count, size_t offset, uint64_t value, size_t width, const char *words) {
  const char *path = at("changed.ring");
  char *other = malloc(count);
  memcpy(other, bytes, count);
  memcpy(other + offset, &value, width);
  put(path, other, count);
  free(other);
  not_a_ring(path, words);
}
#define CHANGED(field, value, words)                                                                                 \
  changed(bytes, count, offsetof(struct ring_file_header, field), value, sizeof((struct ring_file_header){0}.field), \
          words)

static void hostile_headers(const char *bytes, size_t count) {
  CHANGED(magic, 0, "does not begin");
  CHANGED(version, 2, "another version");
  CHANGED(header_bytes, 8, "another size");
  CHANGED(file_bytes, count + 1, "cut off");
  CHANGED(capacity, 0, "capacity");
  CHANGED(capacity, 255, "capacity");
  CHANGED(capacity, (uint64_t)1 << 60, "capacity");
  CHANGED(capacity, 1 << 24, "beyond its end");
  CHANGED(slots_offset, 8, "beyond its end");
  CHANGED(slots_offset, UINT64_MAX - 7, "beyond its end");
  CHANGED(slots_offset, sizeof(struct ring_file_header) + 4, "beyond its end");
  CHANGED(live_offset, count - 64, "beyond its end");
  CHANGED(live_bytes, 12, "size");
  CHANGED(live_bytes, UINT64_MAX, "size");
  CHANGED(map_capacity, UINT64_MAX / 8, "size");
  CHANGED(map_capacity, RING_MAP_MAX, "beyond its end");
}

static void hostile_contents(char *bytes, size_t count) {
  struct ring_file_header *h = (struct ring_file_header *)(void *)bytes;
  struct ring_slot *slots = (struct ring_slot *)(void *)(bytes + h->slots_offset);
  const char *path = at("changed.ring");
  uint64_t sequence = 0, lost = 0;
  gch_ring_live live;
  h->next = UINT64_MAX - 5;
  for (uint64_t i = 0; i < h->capacity; i++) slots[i].stamp = i % 3 == 0 ? UINT64_MAX : i;
  *(uint64_t *)(void *)(bytes + h->live_offset) = 3; /* never finished */
  struct ring_file_map *map = (struct ring_file_map *)(void *)(bytes + h->map_offset);
  map->stamp = 2;
  map->count = UINT64_MAX;
  put(path, bytes, count);
  gch_ring *ring = reader(path);
  if (ring == NULL) return;
  for (int i = 0; i < 1000; i++) gch_ring_events(ring, &sequence, events, EVENTS, &lost);
  CHECK(lost <= sequence);
  CHECK(!gch_ring_live_get(ring, &live, sizeof live));
  CHECK_EQ(gch_ring_map(ring, arenas, 3, NULL), h->map_capacity);
  CHECK_EQ(truncate(path, 100), 0);
  CHECK_EQ(gch_ring_state_get(ring), GCH_RING_TRUNCATED);
  CHECK_EQ(gch_ring_events(ring, &sequence, events, EVENTS, &lost), 0);
  CHECK(!gch_ring_live_get(ring, &live, sizeof live));
  CHECK_EQ(gch_ring_map(ring, arenas, ARENAS, NULL), 0);
  gch_ring_close(ring);
}

static void hostile_files(void) {
  struct kit k;
  size_t count = 0;
  const char *path = at("good.ring"), *bad = at("bad.ring");
  if (!open_with(&k, path)) return;
  kit_minor(&k, false);
  char *bytes = copy_of(path, &count);
  kit_close(&k);
  if (bytes == NULL) return;
  not_a_ring(path, "No such file");
  not_a_ring(folder, "no regular file");
  CHECK_EQ(mkfifo(at("fifo"), 0600), 0);
  not_a_ring(at("fifo"), "no regular file");
  put(bad, bytes, 0);
  not_a_ring(bad, "too short");
  put(bad, bytes, count - 1);
  not_a_ring(bad, "cut off");
  memset(bytes, 0, 8);
  put(bad, bytes, count);
  not_a_ring(bad, "does not begin"); /* as one that is still being made */
  memcpy(bytes, RING_FILE_MAGIC, 8);
  hostile_headers(bytes, count);
  hostile_contents(bytes, count);
  free(bytes);
}

/* A process of the same number, started at another time, is another one. */
static void recycled_number(void) {
  struct kit k;
  const char *path = at("recycled.ring");
  if (!open_with(&k, path)) return;
  gch_ring *ring = reader(path);
  CHECK_EQ(gch_ring_state_get(ring), GCH_RING_OPEN);
  gch_ring_close(ring);
  if (k.heap->ring_file->header->info.process_start != 0) {
    k.heap->ring_file->header->info.process_start--;
    ring = reader(path);
    CHECK_EQ(gch_ring_state_get(ring), GCH_RING_DEAD);
    gch_ring_close(ring);
  }
  kit_close(&k);
}

static int remove_all(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -r %s", folder);
  return system(command);
}

int main(void) {
  kit_watchdog(100);
  pthread_atfork(NULL, NULL, kit_larger_stacks);
  snprintf(folder, sizeof folder, "/tmp/gcheap-test-XXXXXX");
  if (mkdtemp(folder) == NULL) return 1;
  RUN(what_is_seen);
  RUN(beside_a_move);
  RUN(bad_places);
  RUN(folders);
  RUN(from_the_environment);
  RUN(replaced);
  RUN(thinned_out);
  RUN(relative_path);
  RUN(read_by_another);
  RUN(in_the_child_of_fork);
  RUN(flight_recorder);
  RUN(hostile_files);
  RUN(recycled_number);
  CHECK_EQ(remove_all(), 0);
  return CHECK_SUMMARY();
}
