/* Options that both examples share: how the heap is configured.
 *
 *   --max SIZE  --nursery SIZE  --mover NAME  --faults thread|signal  --huge on|off  --gc-threads N
 *   --promote-age N  --stress N (collect at every n-th slow-path allocation)  --inject RULE (a call that fails; for tests)
 *   --concurrent (collections that the program asks for move while mutators run)
 *
 * SIZE is a number of bytes, with K, M or G for powers of 1024. A mover that is not available on this machine ends the
 * program with status 77, which test harnesses read as "skipped". */
#ifndef EXAMPLES_HOST_OPTIONS_H
#define EXAMPLES_HOST_OPTIONS_H

#include <errno.h>
#include <gcheap/gcheap.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_SKIPPED = 77, EXIT_USAGE = 2 };

struct host_options {
  gch_config config;
  bool concurrent;
};

static inline void host_options_init(struct host_options *o) {
  gch_config_init(&o->config);
  o->concurrent = false;
}

static inline bool parse_number(const char *text, uint64_t *out) {
  char *end = NULL;
  errno = 0;
  if (text == NULL || text[0] < '0' || text[0] > '9') return false;
  *out = strtoull(text, &end, 10);
  return errno == 0 && *end == 0;
}

static inline bool parse_size(const char *text, uint64_t *out) {
  static const char units[] = "KMG";
  char digits[32];
  size_t length = text == NULL ? 0 : strlen(text);
  if (length == 0 || length >= sizeof digits) return false;
  const char *unit = strchr(units, text[length - 1]);
  memcpy(digits, text, length + 1);
  if (unit != NULL) digits[length - 1] = 0;
  unsigned shift = unit == NULL ? 0 : 10 * (unsigned)(unit - units + 1);
  if (!parse_number(digits, out) || *out > UINT64_MAX >> shift) return false;
  *out <<= shift;
  return true;
}

_Noreturn static inline void option_error(const char *option, const char *value, const char *expected) {
  fprintf(stderr, "%s is '%s', expected %s\n", option, value == NULL ? "" : value, expected);
  exit(EXIT_USAGE);
}

static inline uint32_t option_count(const char *option, const char *value, uint32_t most) {
  uint64_t number = 0;
  if (parse_number(value, &number) && number <= most) return (uint32_t)number;
  char expected[48];
  snprintf(expected, sizeof expected, "a number up to %u", most);
  option_error(option, value, expected);
}

static inline uint64_t option_size(const char *option, const char *value) {
  uint64_t bytes = 0;
  if (!parse_size(value, &bytes)) option_error(option, value, "a size, such as 64M");
  return bytes;
}

/* One of two words; true: the second. */
static inline bool option_choice(const char *option, const char *value, const char *first, const char *second) {
  char expected[48];
  if (value != NULL && strcmp(value, first) == 0) return false;
  if (value != NULL && strcmp(value, second) == 0) return true;
  snprintf(expected, sizeof expected, "%s or %s", first, second);
  option_error(option, value, expected);
}

/* Takes argv[*i] (and its value) if it is one of the shared options. */
static inline bool host_option(struct host_options *o, char **argv, int *i) {
  const char *option = argv[*i], *value = argv[*i + 1];
  gch_config *c = &o->config;
  if (strcmp(option, "--concurrent") == 0) {
    o->concurrent = true;
    return true;
  }
  if (strcmp(option, "--max") == 0)
    c->max_bytes = option_size(option, value);
  else if (strcmp(option, "--nursery") == 0)
    c->nursery_bytes = option_size(option, value);
  else if (strcmp(option, "--faults") == 0)
    c->fault_mode = option_choice(option, value, "thread", "signal") ? GCH_FAULT_SIGNAL : GCH_FAULT_THREAD;
  else if (strcmp(option, "--huge") == 0)
    c->huge = option_choice(option, value, "on", "off") ? GCH_HUGE_OFF : GCH_HUGE_ON;
  else if (strcmp(option, "--gc-threads") == 0)
    c->gc_threads = option_count(option, value, 64);
  else if (strcmp(option, "--promote-age") == 0)
    c->promote_age = option_count(option, value, 7);
  else if (strcmp(option, "--stress") == 0)
    c->stress_interval = option_count(option, value, UINT32_MAX);
  else if (strcmp(option, "--inject") == 0)
    c->inject = value;
  else if (strcmp(option, "--mover") == 0) {
    if (!gch_mover_parse(value, &c->mover)) option_error(option, value, "auto, move, copy, simulated, memcpy or slide");
  } else
    return false;
  ++*i;
  return true;
}

/* --- last words ------------------------------------------------------------------------------------------------ */

static struct sigaction crash_before; /* what was there before us */

/* A touch of memory that is in no heap, or a signal that somebody has sent. Whoever was there before gets the same three
 * arguments. */
static void crash_said(int signal, siginfo_t *info, void *context) {
  static const char touched[] = "bus error\n", sent_by_somebody[] = "bus error, sent\n";
  bool sent = info->si_code <= 0; /* by kill or raise: no touch, so no address */
  if (sent)
    (void)!write(STDERR_FILENO, sent_by_somebody, sizeof sent_by_somebody - 1);
  else
    (void)!write(STDERR_FILENO, touched, sizeof touched - 1);
  if (crash_before.sa_flags & SA_SIGINFO) {
    crash_before.sa_sigaction(signal, info, context);
    return;
  }
  sigaction(signal, &crash_before, NULL); /* tried again, the touch ends the program as it would have without us */
  if (sent) raise(signal); /* this one would not come again by itself */
}

static inline void crash_report(void) {
  struct sigaction ours = {.sa_flags = SA_SIGINFO};
  ours.sa_sigaction = crash_said;
  sigaction(SIGBUS, &ours, &crash_before);
}

/* --- the heap --------------------------------------------------------------------------------------------------- */

/* The fast paths inlined here must be those of the library. */
static inline void check_version(void) {
  if (strtol(gch_version(), NULL, 10) == GCH_VERSION_MAJOR) return;
  fprintf(stderr, "compiled for gcheap %d.%d, but this is %s: compile anew\n", GCH_VERSION_MAJOR, GCH_VERSION_MINOR,
          gch_version());
  exit(EXIT_FAILURE);
}

/* Creates the heap, or ends the program with a message. */
static inline gch_heap *host_heap(const struct host_options *o) {
  gch_error error = {0};
  gch_heap *heap = NULL;
  check_version();
  crash_report(); /* before the first heap, which then hands on to us what lies in no heap */
  gch_status status = gch_heap_create(&o->config, &heap, &error);
  if (status == GCH_OK) return heap;
  fprintf(stderr, "no heap (%s): %s\n", gch_status_name(status), error.message);
  exit(status == GCH_UNSUPPORTED ? EXIT_SKIPPED : EXIT_FAILURE);
}

#endif
