#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "diag/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "heap/diary.h"

enum { TARGETS = 2, LINE_MAX_BYTES = 4096 };
_Static_assert(LINE_MAX_BYTES <= PIPE_BUF, "a line is written in one piece");

struct log_target {
  int fd;
  bool own;  /* closed with the heap */
  bool json;
};

struct log {
  struct diary diary; /* first: a heap's diary is the address of its log */
  struct log_target targets[TARGETS];
  uint32_t count;
  uint32_t heap; /* of this process, from 0 */
};

static uint32_t heaps; /* [atomic] with a log, so far */

/* --- targets -------------------------------------------------------------------------------------------------- */

static gch_status refuse(const char *said_by, const char *target, const char *why, gch_error *error) {
  return error_set(error, GCH_BAD_VALUE,
                   "%s is '%.80s', expected stderr, stdout or a path with a slash, text: or json: before it: %s",
                   said_by, target, why);
}

static int open_where(const char *where, struct log_target *out) {
  out->own = false;
  out->fd = strcmp(where, "stderr") == 0 ? STDERR_FILENO : strcmp(where, "stdout") == 0 ? STDOUT_FILENO : -1;
  if (out->fd >= 0) return fcntl(out->fd, F_GETFD) < 0 ? errno : 0;
  if (strchr(where, '/') == NULL) return EINVAL;
  out->own = true;
  out->fd = open(where, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
  return out->fd < 0 ? errno : 0;
}

static gch_status add_target(struct log *log, const char *said_by, const char *target, gch_error *error) {
  if (log->count == TARGETS) return refuse(said_by, target, "there are two already, the most there can be", error);
  struct log_target *t = &log->targets[log->count];
  t->json = strncmp(target, "json:", 5) == 0;
  const char *where = t->json || strncmp(target, "text:", 5) == 0 ? target + 5 : target;
  if (where[0] == 0) return refuse(said_by, target, "nothing is named", error);
  int rc = open_where(where, t);
  if (rc != 0) return refuse(said_by, target, rc == EINVAL ? "it is none of these" : strerror(rc), error);
  log->count++;
  return GCH_OK;
}

static gch_status add_targets(struct log *log, const char *said_by, const char *spec, gch_error *error) {
  char *copy = strdup(spec), *rest = copy;
  gch_status status = copy == NULL ? error_set(error, GCH_NO_MEMORY, "%s", "no memory for the log") : GCH_OK;
  while (status == GCH_OK && rest != NULL) status = add_target(log, said_by, strsep(&rest, ","), error);
  free(copy);
  return status;
}

/* --- lines ---------------------------------------------------------------------------------------------------- */

struct line {
  char text[LINE_MAX_BYTES];
  size_t length;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *l, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int n = vsnprintf(l->text + l->length, sizeof l->text - l->length, format, args);
  va_end(args);
  if (n > 0) l->length += (size_t)n;
  if (l->length > sizeof l->text - 2) l->length = sizeof l->text - 2; /* room for the end of the line */
}

struct figure {
  const char *name;
  size_t offset;
};
#define FIGURE(name) {#name, offsetof(gch_cycle, name)}

/* As in gch_cycle, in its units. */
static const struct figure FIGURES[] = {
    FIGURE(live_bytes),        FIGURE(live_objects),
    FIGURE(heap_bytes_before), FIGURE(heap_bytes_after),
    FIGURE(mark_pause_ns),     FIGURE(mark_minor_ns),
    FIGURE(mark_ns),           FIGURE(remark_ns),
    FIGURE(overwritten),       FIGURE(plan_ns),
    FIGURE(prepare_ns),        FIGURE(flip_ns),
    FIGURE(flip_minor_ns),     FIGURE(move_ns),
    FIGURE(cycle_ns),          FIGURE(pause_ns),
    FIGURE(pause_longest_ns),  FIGURE(safepoint_longest_ns),
    FIGURE(collector_cpu_ns),  FIGURE(units),
    FIGURE(pages_moved),       FIGURE(arenas_moved),
    FIGURE(blocks_evacuated),  FIGURE(bytes_copied),
    FIGURE(bytes_released),    FIGURE(faults_served),
    FIGURE(physical_at_flip),  FIGURE(physical_after),
    FIGURE(units_unread),      FIGURE(move_cpu_ns),
    FIGURE(weak_cleared),      FIGURE(finalizers_queued),
    FIGURE(arenas_home),
};

static const char *const REFUSALS[GCH_REFUSAL_COUNT] = {[GCH_REFUSAL_EXIST_MOVED] = "exist_moved",
                                                        [GCH_REFUSAL_EXIST] = "exist",
                                                        [GCH_REFUSAL_BUSY] = "busy",
                                                        [GCH_REFUSAL_COPIED] = "copied",
                                                        [GCH_REFUSAL_AGAIN] = "again",
                                                        [GCH_REFUSAL_NO_MEMORY] = "no_memory",
                                                        [GCH_REFUSAL_OTHER] = "other"};
static const char *const POLICIES[GCH_POLICY_COUNT] = {
    [GCH_POLICY_NEEDED] = "needed", [GCH_POLICY_ALL] = "all", [GCH_POLICY_RELEASE] = "release"};

static uint64_t figure(const gch_cycle *c, size_t offset) {
  uint64_t value;
  memcpy(&value, (const char *)c + offset, sizeof value);
  return value;
}

static const char *truth(bool value) { return value ? "true" : "false"; }

/* Shares, whatever the host's locale. */
static void add_shares(struct line *l, const char *name, const gch_utilisation *all, bool known) {
  add(l, known ? ",\"%s\":[" : ",\"%s\":null", name);
  for (int i = 0; i < 3 && known; i++) {
    unsigned millionths = (unsigned)(all[i].least * 1000000);
    add(l, "%s%u.%06u", i > 0 ? "," : "", millionths / 1000000, millionths % 1000000);
  }
  if (known) add(l, "]");
}

static void add_stalls(struct line *l, const gch_report *r) {
  add(l, ",\"stalls\":{\"threads\":%u,\"touches\":{\"count\":%llu,\"p50_ns\":%llu,\"p90_ns\":%llu", r->threads,
      (unsigned long long)r->touches.count, (unsigned long long)r->touches.p50, (unsigned long long)r->touches.p90);
  add(l, ",\"p99_ns\":%llu,\"max_ns\":%llu}", (unsigned long long)r->touches.p99, (unsigned long long)r->touches.max);
  add_shares(l, "utilisation", r->cycle, true);
  add_shares(l, "utilisation_moving", r->move, r->move_end_ns != 0);
  add(l, "}");
}

/* Reasons are sentences of ours, without quotes or control characters. */
static void add_json(struct line *l, uint32_t heap, const struct diary_entry *e) {
  const gch_cycle *c = &e->cycle;
  uint64_t now = clock_read_ns(CLOCK_REALTIME);
  add(l, "{\"schema\":1,\"pid\":%ld,\"heap\":%u,\"time\":%llu.%06u,\"end_ns\":%llu,\"number\":%llu,\"kind\":\"%s\"",
      (long)getpid(), heap, (unsigned long long)(now / 1000000000u), (unsigned)(now % 1000000000u / 1000),
      (unsigned long long)e->end_ns, (unsigned long long)c->number, c->minor ? "minor" : "major");
  add(l,
      ",\"cause\":\"%s\",\"concurrent\":%s,\"mover\":\"%s\",\"policy\":\"%s\",\"degraded\":%s,\"reason\":\"%s\","
      "\"pauses\":%u",
      gch_cause_name(e->cause), truth(c->concurrent), gch_mover_name((gch_mover)c->mover), POLICIES[c->policy],
      truth(c->degraded), c->reason, c->pauses);
  for (size_t i = 0; i < sizeof FIGURES / sizeof FIGURES[0]; i++)
    add(l, ",\"%s\":%llu", FIGURES[i].name, (unsigned long long)figure(c, FIGURES[i].offset));
  if (c->minor)
    add(l, ",\"stalls\":null");
  else
    add_stalls(l, &e->report);
  add(l, ",\"refusals\":{");
  for (int i = 0; i < GCH_REFUSAL_COUNT; i++)
    add(l, "%s\"%s\":%llu", i > 0 ? "," : "", REFUSALS[i], (unsigned long long)c->refusals[i]);
  add(l, "}}");
}

static void add_ms(struct line *l, const char *name, uint64_t ns) {
  add(l, " %s=%llu.%03ums", name, (unsigned long long)(ns / 1000000), (unsigned)(ns % 1000000 / 1000));
}

/* "12.3M" */
static void add_mib(struct line *l, uint64_t bytes) {
  uint64_t tenths = (bytes * 10 + (1 << 19)) >> 20;
  add(l, "%llu.%lluM", (unsigned long long)(tenths / 10), (unsigned long long)(tenths % 10));
}

static uint64_t refusals(const gch_cycle *c) {
  uint64_t sum = 0;
  for (int i = 0; i < GCH_REFUSAL_COUNT; i++) sum += c->refusals[i];
  return sum;
}

static void add_text(struct line *l, uint32_t heap, const struct diary_entry *e) {
  const gch_cycle *c = &e->cycle;
  add(l, "gcheap: %ld.%u #%llu %s %s %s", (long)getpid(), heap, (unsigned long long)c->number,
      c->minor ? "minor" : "major", gch_cause_name(e->cause), gch_mover_name((gch_mover)c->mover));
  if (!c->minor) add(l, " %s %s", POLICIES[c->policy], c->concurrent ? "beside" : "paused");
  add(l, " pauses=%u", c->pauses);
  add_ms(l, "pause", c->pause_ns);
  add_ms(l, "longest", c->pause_longest_ns);
  add_ms(l, "reach", c->safepoint_longest_ns);
  add_ms(l, "mark", c->mark_ns);
  if (c->concurrent) add_ms(l, "remark", c->remark_ns);
  add_ms(l, "plan", c->plan_ns);
  if (c->concurrent) add_ms(l, "prepare", c->prepare_ns);
  if (c->concurrent) add_ms(l, "flip", c->flip_ns);
  add_ms(l, "move", c->move_ns);
  add_ms(l, "cycle", c->cycle_ns);
  add_ms(l, "cpu", c->collector_cpu_ns);
  add(l, " heap=");
  add_mib(l, c->heap_bytes_before);
  add(l, ">");
  add_mib(l, c->heap_bytes_after);
  add(l, " live=");
  add_mib(l, c->live_bytes);
  add(l, " moved=%llu copied=", (unsigned long long)c->pages_moved);
  add_mib(l, c->bytes_copied);
  add(l, " released=");
  add_mib(l, c->bytes_released);
  add(l, " faults=%llu refusals=%llu", (unsigned long long)c->faults_served, (unsigned long long)refusals(c));
  if (!c->minor) add(l, " utilisation=%.0f%%", e->report.cycle[1].least * 100);
  if (c->degraded) add(l, " degraded=\"%s\"", c->reason);
}

/* --- writing -------------------------------------------------------------------------------------------------- */

/* Takes back the signal that the kernel has sent to this thread with its answer. */
static void take_signal(int number) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  while (sigtimedwait(&set, NULL, &(struct timespec){0}) < 0 && errno == EINTR) {
  }
}

/* A pipe that nobody reads, or a file that may not grow, is no reason to end the host's process. */
static void write_line(int fd, struct line *l) {
  sigset_t both, before, pending;
  l->text[l->length++] = '\n';
  sigemptyset(&both);
  sigaddset(&both, SIGPIPE);
  sigaddset(&both, SIGXFSZ);
  sigpending(&pending);
  pthread_sigmask(SIG_BLOCK, &both, &before);
  ssize_t n;
  do n = write(fd, l->text, l->length);
  while (n < 0 && errno == EINTR);
  int sent = n >= 0 ? 0 : errno == EPIPE ? SIGPIPE : errno == EFBIG ? SIGXFSZ : 0;
  if (sent != 0 && sigismember(&pending, sent) == 0) take_signal(sent);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void tell(gch_heap *h, const struct diary_entry *e) {
  const struct log *log = (const struct log *)(const void *)h->diary;
  int error_number = errno;
  for (uint32_t i = 0; i < log->count; i++) {
    struct line l = {.length = 0};
    if (log->targets[i].json)
      add_json(&l, log->heap, e);
    else
      add_text(&l, log->heap, e);
    write_line(log->targets[i].fd, &l);
  }
  errno = error_number;
}

/* --- life ----------------------------------------------------------------------------------------------------- */

gch_status log_open(gch_heap *h, gch_error *error) {
  const char *spec = h->config.log, *said_by = "log";
  h->config.log = NULL; /* the caller's, until the heap is made */
  if (spec == NULL) spec = secure_getenv("GCHEAP_LOG"), said_by = "GCHEAP_LOG";
  if (spec == NULL || spec[0] == 0) return GCH_OK;
  struct log *log = calloc(1, sizeof *log);
  if (log == NULL) return error_set(error, GCH_NO_MEMORY, "%s", "no memory for the log");
  h->diary = &log->diary;
  log->diary.tell = tell;
  log->heap = at_add_relaxed(&heaps, 1); /* a number */
  return add_targets(log, said_by, spec, error);
}

void log_close(gch_heap *h) {
  struct log *log = (struct log *)(void *)h->diary;
  if (log == NULL) return;
  h->diary = NULL;
  for (uint32_t i = 0; i < log->count; i++)
    if (log->targets[i].own) close(log->targets[i].fd);
  free(log);
}
