#define _POSIX_C_SOURCE 200809L
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 1024, INPUT_BYTES = 1 << 16, WORDS_MAX = 4 };

struct connection {
  struct cache *cache;
  gch_mutator *m;
  int in, out;
  bool concurrent;
  const char *after_save;
  bool ended;       /* nothing more to read, or nobody left to write to */
  int status;       /* the program's exit status */
  size_t start, end; /* of what was read and not yet used */
  char input[INPUT_BYTES];
};

static volatile sig_atomic_t stop_asked;

/* A signal handler touches no heap: it leaves a note, and the read it interrupts returns. */
static void on_stop(int signal_number) {
  (void)signal_number;
  stop_asked = 1;
}

static void install_signals(void) {
  struct sigaction stop = {.sa_handler = on_stop}, ignore = {.sa_handler = SIG_IGN};
  sigaction(SIGTERM, &stop, NULL);
  sigaction(SIGINT, &stop, NULL);
  sigaction(SIGPIPE, &ignore, NULL);
}

/* --- bytes in and out ----------------------------------------------------------------------------------------- */

/* Whatever may block is done in native state, so that a collection need not wait for it. `to` is not in the heap, or is
 * pinned leaf memory. */
static ssize_t read_some(struct connection *s, void *to, size_t bytes) {
  gch_native_enter(s->m);
  ssize_t got;
  do got = read(s->in, to, bytes);
  while (got < 0 && errno == EINTR && !stop_asked);
  gch_native_leave(s->m);
  if (got <= 0) s->ended = true;
  return got < 0 ? 0 : got;
}

static void write_all(struct connection *s, const void *from, size_t bytes) {
  const char *at = from;
  gch_native_enter(s->m);
  while (bytes > 0 && !s->ended) {
    ssize_t put = write(s->out, at, bytes);
    if (put < 0 && errno == EINTR) continue;
    s->ended = put < 0;
    at += put < 0 ? 0 : put;
    bytes -= put < 0 ? 0 : (size_t)put;
  }
  gch_native_leave(s->m);
}

__attribute__((format(printf, 2, 3))) static void reply(struct connection *s, const char *format, ...) {
  char line[LINE_MAX_BYTES];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line, sizeof line - 1, format, arguments);
  va_end(arguments);
  size_t bytes = length < 0 ? 0 : (size_t)length < sizeof line - 1 ? (size_t)length : sizeof line - 2;
  line[bytes++] = '\n';
  write_all(s, line, bytes);
}

static bool fill_input(struct connection *s) {
  s->start = s->end = 0;
  s->end = (size_t)read_some(s, s->input, sizeof s->input);
  return s->end > 0;
}

/* A line without its newline. Too long a line is read to its end and refused. */
static bool read_line(struct connection *s, char *line, bool *too_long) {
  size_t length = 0;
  *too_long = false;
  for (;;) {
    if (s->start == s->end && !fill_input(s)) return length > 0;
    char c = s->input[s->start++];
    if (c == '\n') break;
    if (length == LINE_MAX_BYTES - 1)
      *too_long = true;
    else
      line[length++] = c == 0 ? '?' : c;
  }
  if (length > 0 && line[length - 1] == '\r') length--;
  line[length] = 0;
  return true;
}

/* Exactly `bytes` bytes: what was read already, the rest straight to where it belongs. */
static bool read_bytes(struct connection *s, char *to, uint64_t bytes) {
  while (bytes > 0) {
    size_t have = s->end - s->start;
    if (have > bytes) have = (size_t)bytes;
    if (have > 0) {
      memcpy(to, s->input + s->start, have);
      s->start += have;
    } else if ((have = (size_t)read_some(s, to, (size_t)bytes)) == 0) {
      return false;
    }
    to += have;
    bytes -= have;
  }
  return true;
}

static void skip_bytes(struct connection *s, uint64_t bytes) {
  while (bytes > 0 && (s->start < s->end || fill_input(s))) {
    size_t have = s->end - s->start;
    if (have > bytes) have = (size_t)bytes;
    s->start += have;
    bytes -= have;
  }
}

/* --- arguments ------------------------------------------------------------------------------------------------ */

static bool number_of(const char *text, uint64_t *out) {
  char *end = NULL;
  errno = 0;
  if (text == NULL || text[0] < '0' || text[0] > '9') return false;
  *out = strtoull(text, &end, 10);
  return errno == 0 && *end == 0;
}

static bool good_key(struct connection *s, const char *key) {
  size_t length = key == NULL ? 0 : strlen(key);
  if (length >= 1 && length <= CACHE_KEY_MAX) return true;
  reply(s, "ERROR the key has %zu characters, expected 1 to %d", length, CACHE_KEY_MAX);
  return false;
}

/* --- commands ------------------------------------------------------------------------------------------------- */

/* Reads the value into the pinned object: read(2) writes straight into the heap, while others may collect. */
static bool read_value(struct connection *s, gch_ref object, uint64_t bytes) {
  void *payload = NULL;
  if (gch_pin(s->m, object, &payload) != GCH_OK) return false;
  bool all = read_bytes(s, payload, bytes);
  gch_unpin(s->cache->heap, object); /* pinned: its address is still the one we hold */
  return all;
}

static bool end_of_value(struct connection *s) {
  char c = 0;
  if (read_bytes(s, &c, 1) && c == '\n') return true;
  while (c != '\n' && read_bytes(s, &c, 1)) continue;
  reply(s, "ERROR the value is not followed by a newline: skipped to the next one");
  return false;
}

static void command_set(struct connection *s, char **words) {
  uint64_t bytes = 0;
  if (!number_of(words[2], &bytes)) {
    reply(s, "ERROR the size is '%s', expected a number of bytes", words[2] == NULL ? "" : words[2]);
    return;
  }
  GCH_FRAME(s->m, value, 1);
  bool key_is_good = good_key(s, words[1]);
  if (key_is_good) value[0] = cache_new_bytes(s->cache, s->m, bytes);
  if (value[0] == NULL) {
    skip_bytes(s, bytes + 1);
    if (key_is_good) reply(s, "ERROR no room for %" PRIu64 " bytes: %.200s", bytes, gch_last_error(s->m)->message);
  } else if (!read_value(s, value[0], bytes)) {
    reply(s, "ERROR the input ended inside a value of %" PRIu64 " bytes", bytes);
  } else if (end_of_value(s)) {
    bool stored = cache_set(s->cache, s->m, words[1], value);
    reply(s, stored ? "STORED" : "ERROR no room for the entry");
  }
  GCH_FRAME_END(s->m);
}

static void command_get(struct connection *s, char **words) {
  if (!good_key(s, words[1])) return;
  GCH_FRAME(s->m, value, 1);
  void *payload = NULL;
  if (!cache_get(s->cache, s->m, words[1], value)) {
    reply(s, "MISS");
  } else if (gch_pin(s->m, value[0], &payload) != GCH_OK) {
    reply(s, "ERROR %.200s", gch_last_error(s->m)->message);
  } else {
    uint64_t bytes = gch_length(s->cache->heap, value[0]);
    reply(s, "VALUE %" PRIu64, bytes);
    write_all(s, payload, bytes);
    gch_unpin(s->cache->heap, value[0]);
    write_all(s, "\n", 1);
  }
  GCH_FRAME_END(s->m);
}

static void command_delete(struct connection *s, char **words) {
  if (good_key(s, words[1])) reply(s, cache_delete(s->cache, s->m, words[1]) ? "DELETED" : "MISS");
}

static void command_limit(struct connection *s, char **words) {
  uint64_t bytes = 0;
  if (!number_of(words[1], &bytes) || bytes == 0) {
    reply(s, "ERROR the limit is '%s', expected a number of bytes above 0", words[1] == NULL ? "" : words[1]);
    return;
  }
  cache_limit(s->cache, s->m, bytes);
  reply(s, "OK");
}

static void command_collect(struct connection *s, char **words) {
  static const char *const policies[] = {
      [GCH_POLICY_NEEDED] = "needed", [GCH_POLICY_ALL] = "all", [GCH_POLICY_RELEASE] = "release"};
  const char *name = words[1] == NULL ? "needed" : words[1];
  gch_collect_options options;
  gch_collect_options_init(&options);
  options.minor = strcmp(name, "minor") == 0;
  options.concurrent = s->concurrent && !options.minor;
  unsigned policy = 0;
  while (!options.minor && policy < GCH_POLICY_COUNT && strcmp(name, policies[policy]) != 0) policy++;
  if (policy == GCH_POLICY_COUNT) {
    reply(s, "ERROR the policy is '%s', expected minor, needed, all or release", name);
    return;
  }
  options.policy = (gch_policy)policy;
  gch_status status =
      gch_collect(s->m, &options, NULL); /* what this function holds is in no register: all is in the cache */
  if (status == GCH_OK)
    reply(s, "COLLECTED %s", name);
  else
    reply(s, "ERROR %.200s", gch_last_error(s->m)->message);
}

static void command_stats(struct connection *s) {
  struct cache_counts counts = cache_count(s->cache, s->m);
  gch_stats stats;
  gch_stats_get(s->cache->heap, &stats, sizeof stats);
  const struct {
    const char *name;
    uint64_t value;
  } rows[] = {{"entries", counts.entries},
              {"entry_bytes", counts.bytes},
              {"hits", counts.hits},
              {"misses", counts.misses},
              {"evictions", counts.evictions},
              {"heap_max_bytes", stats.max_bytes},
              {"heap_bytes", stats.heap_bytes},
              {"live_bytes", stats.live_bytes},
              {"allocated_bytes", stats.allocated_bytes},
              {"minor_collections", stats.minor_count},
              {"major_collections", stats.major_count},
              {"pause_longest_us", stats.pause.max / 1000},
              {"pause_p99_us", stats.pause.p99 / 1000},
              {"pins", stats.pins}};
  reply(s, "STAT mover %s", gch_mover_name((gch_mover)stats.mover));
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) reply(s, "STAT %s %" PRIu64, rows[i].name, rows[i].value);
  reply(s, "END");
}

static void command_verify(struct connection *s) {
  gch_error error = {0};
  const char *wrong = gch_verify(s->m, &error) == GCH_OK ? cache_check(s->cache, s->m) : error.message;
  if (wrong == NULL) {
    reply(s, "VERIFIED");
    return;
  }
  reply(s, "ERROR %s", wrong);
  s->status = EXIT_FAILURE;
  s->ended = true;
}

/* --- saving --------------------------------------------------------------------------------------------------- */

enum { EXIT_NO_HEAP = 3 };

/* One entry as a SET command, written before the newer ones: replayed, it gives the same order. In the child nobody else uses
 * the heap, and we do not collect: nothing moves, and nobody waits for us while we write. */
static bool save_entry(gch_ref key, gch_ref value, void *data) {
  const struct connection *s = data;
  uint64_t key_bytes = gch_length(s->cache->heap, key), bytes = gch_length(s->cache->heap, value);
  char line[LINE_MAX_BYTES];
  int length =
      snprintf(line, sizeof line, "SET %.*s %" PRIu64 "\n", (int)key_bytes, (const char *)gch_payload(key), bytes);
  struct {
    const char *from;
    size_t bytes;
  } parts[] = {{line, (size_t)length}, {gch_payload(value), bytes}, {"\n", 1}};
  for (size_t i = 0; i < 3; i++)
    for (size_t done = 0; done < parts[i].bytes;) {
      ssize_t put = write(s->out, parts[i].from + done, parts[i].bytes - done);
      if (put < 0 && errno != EINTR) return false;
      done += put < 0 ? 0 : (size_t)put;
    }
  return true;
}

/* The child has a copy of the heap as it was at fork(). It reads, allocates nothing, and leaves by _exit. */
_Noreturn static void save_and_exit(struct connection *s, const char *path) {
  if (gch_collect_wait(s->m, NULL) != GCH_OK) { /* GCH_BAD_STATE: the heap could not be made anew here, touch nothing */
    fprintf(stderr, "%s\n", gch_last_error(s->m)->message);
    _exit(EXIT_NO_HEAP);
  }
  s->out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  bool saved = s->out >= 0 && cache_walk(s->cache, s->m, save_entry, s) && close(s->out) == 0;
  _exit(saved ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* The exit status of a child; -1: there is none, or it was killed. */
static int wait_for(struct connection *s, pid_t child) {
  int status = -1;
  gch_native_enter(s->m); /* the child may take its time */
  while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  gch_native_leave(s->m);
  return child > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Another program needs no copy of the heap: posix_spawn stops nobody, and waits for no collection. */
static int run_program(struct connection *s, const char *program, char *path) {
  extern char **environ;
  char *const arguments[] = {(char *)program, path, NULL};
  pid_t child = -1;
  gch_native_enter(s->m); /* it is to be found and opened, which may take its time */
  if (posix_spawnp(&child, program, NULL, NULL, arguments, environ) != 0) child = -1;
  gch_native_leave(s->m);
  return wait_for(s, child);
}

static void command_save(struct connection *s, char **words) {
  if (words[1] == NULL) {
    reply(s, "ERROR SAVE needs the path of a file");
    return;
  }
  uint64_t entries = cache_count(s->cache, s->m).entries;
  pid_t child = cache_fork(s->cache, s->m);
  if (child == 0) save_and_exit(s, words[1]);
  int status = wait_for(s, child);
  if (child < 0)
    reply(s, "ERROR there can be no child process now");
  else if (status == EXIT_NO_HEAP)
    reply(s, "ERROR the child process has no heap");
  else if (status != EXIT_SUCCESS)
    reply(s, "ERROR cannot write '%s'", words[1]);
  else if (s->after_save != NULL && run_program(s, s->after_save, words[1]) != EXIT_SUCCESS)
    reply(s, "ERROR '%s' failed with '%s'", s->after_save, words[1]);
  else
    reply(s, "SAVED %" PRIu64, entries);
}

/* --- the loop ------------------------------------------------------------------------------------------------- */

/* Words beyond the last are counted, not kept. */
static unsigned split(char *line, char **words) {
  unsigned count = 0;
  char *state = NULL;
  memset(words, 0, WORDS_MAX * sizeof *words);
  for (char *word = strtok_r(line, " \t", &state); word != NULL; word = strtok_r(NULL, " \t", &state), count++)
    if (count < WORDS_MAX) words[count] = word;
  return count;
}

static void dispatch(struct connection *s, char *line) {
  char *words[WORDS_MAX];
  unsigned count = split(line, words);
  static const struct {
    const char *name;
    unsigned most;
  } known[] = {{"SET", 3},   {"GET", 2},    {"DEL", 2},  {"LIMIT", 2}, {"COLLECT", 2},
               {"STATS", 1}, {"VERIFY", 1}, {"SAVE", 2}, {"QUIT", 1}};
  enum { SET, GET, DEL, LIMIT, COLLECT, STATS, VERIFY, SAVE, QUIT, COMMANDS } command = 0;
  if (count == 0) return;
  while (command < COMMANDS && strcmp(words[0], known[command].name) != 0) command++;
  if (command == COMMANDS) {
    reply(s, "ERROR unknown command '%.40s', expected SET, GET, DEL, LIMIT, COLLECT, STATS, VERIFY, SAVE or QUIT",
          words[0]);
    return;
  }
  if (count > known[command].most) {
    reply(s, "ERROR %s has %u words, expected at most %u", words[0], count, known[command].most);
    return;
  }
  switch (command) {
    case SET: command_set(s, words); break;
    case GET: command_get(s, words); break;
    case DEL: command_delete(s, words); break;
    case LIMIT: command_limit(s, words); break;
    case COLLECT: command_collect(s, words); break;
    case STATS: command_stats(s); break;
    case VERIFY: command_verify(s); break;
    case SAVE: command_save(s, words); break;
    default: reply(s, "BYE"); s->ended = true;
  }
}

int serve(struct cache *cache, gch_mutator *m, const struct serving *how) {
  struct connection *s = calloc(1, sizeof *s);
  char line[LINE_MAX_BYTES];
  bool too_long;
  if (s == NULL) return EXIT_FAILURE;
  s->cache = cache;
  s->m = m;
  s->in = how->in;
  s->out = how->out;
  s->concurrent = how->concurrent;
  s->after_save = how->after_save;
  install_signals();
  while (!s->ended && !stop_asked && read_line(s, line, &too_long))
    if (too_long)
      reply(s, "ERROR the line is longer than %d characters", LINE_MAX_BYTES - 1);
    else
      dispatch(s, line);
  int status = s->status;
  free(s);
  return status;
}
