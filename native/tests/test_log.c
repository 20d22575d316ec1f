/* The log: a line a collection, whole, to where it was asked for, from whichever process; and what is refused. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "diag/log.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "heap/diary.h"
#include "kit.h"

/* Children start their heap's threads. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0"; }

enum { TEXT = 4 << 20 };
static char folder[64], json[128], lines[128], text[TEXT];

static const char *in_folder(char out[128], const char *name) {
  snprintf(out, 128, "%s/%s", folder, name);
  return out;
}

static size_t read_file(const char *path) {
  int fd = open(path, O_RDONLY);
  size_t length = 0;
  text[0] = 0;
  if (!CHECK(fd >= 0)) return 0;
  for (ssize_t n; (n = read(fd, text + length, TEXT - 1 - length)) > 0;) length += (size_t)n;
  close(fd);
  text[length] = 0;
  return length;
}

static uint64_t count_of(const char *what) {
  uint64_t count = 0;
  for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what)) count++;
  return count;
}

/* Every line begins and ends as one does. */
static uint64_t whole_lines(const char *begin, const char *end) {
  uint64_t count = 0;
  for (char *line = text, *next; *line != 0; line = next + 1, count++) {
    next = strchr(line, '\n');
    if (!CHECK(next != NULL)) return count;
    *next = 0;
    size_t length = strlen(line);
    bool good = strncmp(line, begin, strlen(begin)) == 0 && length >= strlen(end) &&
                strcmp(line + length - strlen(end), end) == 0;
    if (!CHECK(good)) fprintf(stderr, "%s\n", line);
    *next = '\n';
  }
  return count;
}

static gch_config config_with(gch_mover mover, const char *log) {
  gch_config c = kit_config(mover, 64, 512);
  c.log = log;
  return c;
}

static bool open_with(struct kit *k, gch_mover mover, const char *log) {
  gch_config c = config_with(mover, log);
  return kit_open(k, &c);
}

static void fill(struct kit *k, gch_ref *root) {
  root[0] = kit_refs(k, 20000);
  for (uint64_t i = 0; i < 20000; i++) kit_put_node(k, &root[0], i, i);
}

/* --- lines ---------------------------------------------------------------------------------------------------- */

static void expect(const char *format, uint64_t number) {
  char words[128];
  snprintf(words, sizeof words, format, (unsigned long long)number);
  if (!CHECK(strstr(text, words) != NULL)) fprintf(stderr, "no %s in %s\n", words, text);
}

static void a_line_a_collection(void) {
  struct kit k;
  char both[300];
  unlink(json), unlink(lines);
  snprintf(both, sizeof both, "json:%s,%s", json, lines);
  if (!open_with(&k, GCH_MOVER_MEMCPY, both)) return;
  GCH_FRAME(k.m, root, 1);
  fill(&k, root);
  kit_minor(&k, true);
  gch_cycle major = kit_major(&k, GCH_POLICY_ALL, true, true); /* in the pause: this mover cannot otherwise */
  gch_stats stats;
  gch_stats_get(k.heap, &stats, sizeof stats);
  GCH_FRAME_END(k.m);
  kit_close(&k);
  read_file(json);
  CHECK_EQ(whole_lines("{\"schema\":1,\"pid\":", "}}"), major.number);
  CHECK_EQ(count_of("\"kind\":\"major\""), 1);
  CHECK_EQ(count_of("\"cause\":\"asked\""), 2);
  CHECK_EQ(count_of("\"cause\":\"nursery\""), major.number - 2); /* of filling it */
  CHECK(major.number >= 3);
  memmove(text, strstr(text, "\"kind\":\"major\"") - 200, 4000);
  expect("\"live_bytes\":%llu,", major.live_bytes);
  expect("\"cycle_ns\":%llu,", major.cycle_ns);
  expect("\"bytes_copied\":%llu,", major.bytes_copied);
  expect("\"policy\":\"all\",\"degraded\":true,\"reason\":\"this mover works in the pause only\",\"pauses\":%llu,", 1);
  read_file(lines);
  CHECK_EQ(whole_lines("gcheap: ", ""), major.number);
  CHECK_EQ(count_of(" major asked memcpy all paused "), 1);
  CHECK_EQ(count_of(" degraded=\"this mover works in the pause only\"\n"), 1);
}

static void beside_the_program(void) {
  struct kit k;
  char target[200];
  if (!kit_available(GCH_MOVER_COPY)) SKIP("beside_the_program", "no userfaultfd");
  unlink(json);
  snprintf(target, sizeof target, "json:%s", json);
  if (!open_with(&k, GCH_MOVER_COPY, target)) return;
  GCH_FRAME(k.m, root, 1);
  fill(&k, root);
  gch_cycle major = kit_major(&k, GCH_POLICY_ALL, true, true);
  read_file(json); /* the line was written before the request was answered */
  CHECK_EQ(count_of("\"kind\":\"major\",\"cause\":\"asked\",\"concurrent\":true"), 1);
  CHECK_EQ(count_of("\"cause\":\"major\""), 1); /* the minor before the flip */
  expect("\"number\":%llu,\"kind\":\"major\"", major.number);
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

static void from_the_environment(void) {
  struct kit k;
  unlink(lines);
  setenv("GCHEAP_LOG", lines, 1);
  if (open_with(&k, GCH_MOVER_MEMCPY, NULL)) {
    kit_minor(&k, false);
    kit_close(&k);
    read_file(lines);
    CHECK_EQ(whole_lines("gcheap: ", ""), 1);
  }
  if (open_with(&k, GCH_MOVER_MEMCPY, "")) { /* nowhere, whatever the environment says */
    CHECK(k.heap->diary == NULL);
    kit_close(&k);
  }
  unsetenv("GCHEAP_LOG");
}

/* --- what is refused ------------------------------------------------------------------------------------------ */

static void refused(const char *log, const char *words) {
  gch_config c = config_with(GCH_MOVER_MEMCPY, log);
  gch_heap *heap = NULL;
  gch_error error = {0};
  struct kit_holdings before = kit_holdings();
  CHECK_EQ(gch_heap_create(&c, &heap, &error), GCH_BAD_VALUE);
  if (!CHECK(heap == NULL && strstr(error.message, words) != NULL)) fprintf(stderr, "%s\n", error.message);
  struct kit_holdings after = kit_settled(before);
  CHECK(after.tasks == before.tasks && after.fds == before.fds);
}

static void bad_values(void) {
  char path[128];
  refused("stder", "log is 'stder', expected stderr, stdout or a path with a slash");
  refused("1", "it is none of these");
  refused("json:", "nothing is named");
  refused("stderr,", "nothing is named");
  refused("xml:stderr", "it is none of these");
  refused("stderr,json:stdout,stdout", "two already");
  refused(folder, "Is a directory");
  refused(in_folder(path, "none/log"), "No such file or directory");
  setenv("GCHEAP_LOG", "json:yes", 1);
  refused(NULL, "GCHEAP_LOG is 'json:yes'");
  unsetenv("GCHEAP_LOG");
}

/* --- others --------------------------------------------------------------------------------------------------- */

static void *collect_in_own_heap(void *arg) {
  struct kit k;
  (void)arg;
  if (!open_with(&k, GCH_MOVER_MEMCPY, json)) return NULL;
  for (int i = 0; i < 300; i++) kit_minor(&k, false);
  kit_close(&k);
  return NULL;
}

/* Heaps of several threads, and of a child, into one file. */
static void lines_do_not_mix(void) {
  pthread_t threads[3];
  struct kit k;
  unlink(json);
  if (!open_with(&k, GCH_MOVER_MEMCPY, json)) return;
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < 300; i++) kit_minor(&k, false);
    kit_close(&k);
    _exit(0);
  }
  for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, collect_in_own_heap, NULL);
  for (int i = 0; i < 300; i++) kit_minor(&k, false);
  for (int i = 0; i < 3; i++) kit_join(&k, threads[i]);
  CHECK_EQ(kit_wait_child(&k, child), 0);
  kit_close(&k);
  read_file(json);
  CHECK_EQ(whole_lines("gcheap: ", ""), 1500);
  char words[64];
  snprintf(words, sizeof words, "gcheap: %ld.", (long)child);
  CHECK_EQ(count_of(words), 300);
}

/* Nobody reads the pipe any more: the host, which does not ignore the signal, lives. */
static void closed_pipe(void) {
  struct kit k;
  char fifo[128];
  unlink(in_folder(fifo, "fifo"));
  CHECK_EQ(mkfifo(fifo, 0600), 0);
  int reader = open(fifo, O_RDONLY | O_NONBLOCK);
  if (!CHECK(reader >= 0) || !open_with(&k, GCH_MOVER_MEMCPY, fifo)) return;
  kit_minor(&k, false);
  CHECK(read(reader, text, TEXT) > 0);
  close(reader);
  sigset_t pending;
  kit_minor(&k, false);
  sigpending(&pending);
  CHECK_EQ(sigismember(&pending, SIGPIPE), 0);
  kit_close(&k);
}

static struct kit slow;
static uint32_t began; /* [atomic] */

static void *collect_slowly(void *arg) {
  struct kit mine = {.heap = slow.heap};
  (void)arg;
  if (gch_attach(mine.heap, &mine.m, NULL) != GCH_OK) return NULL;
  at_store(&began, 1);
  for (int i = 0; i < 1000; i++) kit_minor(&mine, false); /* more than the pipe holds */
  gch_detach(mine.m);
  return NULL;
}

/* A log that is full holds up who tells it, and nobody else: no pause is on, and the cycle's lock is free. */
static void full_pipe(void) {
  pthread_t thread;
  char fifo[128];
  unlink(in_folder(fifo, "full"));
  CHECK_EQ(mkfifo(fifo, 0600), 0);
  int reader = open(fifo, O_RDONLY | O_NONBLOCK);
  if (!CHECK(reader >= 0) || !open_with(&slow, GCH_MOVER_MEMCPY, fifo)) return;
  pthread_create(&thread, NULL, collect_slowly, NULL);
  while (at_load(&began) == 0) gch_safepoint(slow.m);
  uint64_t minors, seen = 0;
  for (int same = 0; same < 20;) { /* until nothing happens any more */
    usleep(10000);
    gch_safepoint(slow.m);
    minors = at_load_relaxed(&slow.heap->measures.minor_count);
    same = minors == seen ? same + 1 : 0;
    seen = minors;
  }
  CHECK(seen > 10 && seen < 1000);
  CHECK_EQ(at_load(&slow.heap->world.stop), 0);
  if (CHECK(lock_try(&slow.heap->cycle_lock))) lock_unlock(&slow.heap->cycle_lock);
  CHECK(kit_node(&slow, 1) != NULL && kit_verify(&slow));
  fcntl(reader, F_SETFL, 0);
  gch_native_enter(slow.m);
  for (uint64_t lines_read = 0; lines_read < 1000;) {
    ssize_t n = read(reader, text, TEXT - 1);
    for (ssize_t i = 0; i < n; i++) lines_read += text[i] == '\n';
    if (n <= 0) break;
  }
  pthread_join(thread, NULL);
  gch_native_leave(slow.m);
  CHECK_EQ(at_load_relaxed(&slow.heap->measures.minor_count), 1000);
  kit_close(&slow);
  close(reader);
}

/* More than a diary holds: the oldest goes. */
static void diary_overflows(void) {
  struct kit k;
  struct diary_page page;
  if (!open_with(&k, GCH_MOVER_MEMCPY, lines)) return;
  lock_lock(&k.heap->cycle_lock);
  for (uint64_t i = 1; i <= DIARY_MAX + 2; i++)
    diary_note(k.heap, &(gch_cycle){.number = i}, &(gch_report){0}, GCH_CAUSE_LIMIT);
  diary_take(k.heap, &page);
  lock_unlock(&k.heap->cycle_lock);
  CHECK_EQ(page.count, DIARY_MAX);
  CHECK_EQ(page.entries[0].cycle.number, 3);
  CHECK_EQ(page.entries[DIARY_MAX - 1].cycle.number, DIARY_MAX + 2);
  kit_close(&k);
}

int main(void) {
  char command[128];
  kit_watchdog(100);
  pthread_atfork(NULL, NULL, kit_larger_stacks);
  snprintf(folder, sizeof folder, "/tmp/gcheap-test-XXXXXX");
  if (mkdtemp(folder) == NULL) return 1;
  in_folder(json, "log.json");
  in_folder(lines, "log.text");
  RUN(a_line_a_collection);
  RUN(beside_the_program);
  RUN(from_the_environment);
  RUN(bad_values);
  RUN(lines_do_not_mix);
  RUN(closed_pipe);
  RUN(full_pipe);
  RUN(diary_overflows);
  snprintf(command, sizeof command, "rm -r %s", folder);
  CHECK_EQ(system(command), 0);
  return CHECK_SUMMARY();
}
