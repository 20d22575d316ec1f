/* Fault injection: rules that make virtual-memory calls fail, fail half-way, or wait.
 *
 *   spec      := rule { ";" rule }
 *   rule      := call ":" action [ "@" condition { "," condition } ]
 *   call      := a name of KERNEL_CALLS, "remap" (move's other name, here and below), or "*" for every call
 *   action    := ERRNO            answer -ERRNO without making the call
 *              | ERRNO "-after"   make the call, then answer -ERRNO (transfers report 0 bytes): bug B1 of Linux 6.18
 *              | "delay=" TIME    wait, then make the call; TIME is a number and ns, us, ms or s
 *              | "without=move"   register and uffd_open only: make the call, and leave UFFDIO_MOVE out of what it says
 *                                 is offered, as Linux before 6.8 does (there, move answers EINVAL)
 *   condition := "nth=" N         only the N-th call that the rule sees, from 1
 *              | "every=" N       every N-th call
 *              | "from=" N        the N-th call and all later ones
 *              | "p=" F           with probability F, 0 to 1, by a generator of the rule's own
 *              | "seed=" N        its seed (0 if not given)
 *              | "times=" N       at most N times
 *              | "partial=" BYTES move, copy and zeropage only: really do the first BYTES (rounded up to pages) and
 *                                 answer -EAGAIN with that count, as the kernel does; then, if ERRNO is not EAGAIN,
 *                                 the next call at the resume address answers -ERRNO. A call no longer than BYTES
 *                                 is done in full and succeeds.
 *
 *   move:EBUSY@nth=3    move:EEXIST-after@every=7    move:EAGAIN@partial=4096,p=0.2,seed=9    mmap:ENOMEM@nth=2
 *   *:ENOMEM@p=0.01,seed=1    move:delay=200us@every=5
 *
 * Several conditions must all hold. A rule without one always fires. Every rule counts every call that it sees,
 * whatever other rules do, so what happens depends on the seeds and the order of calls only. Of several rules that
 * fire, the first error wins and delays add up. `-after` is refused where the result would leak (mmap, memfd,
 * uffd_open, read) and for `*`.
 *
 * Threads: a spin lock over the table, held for the look at a call; no allocation, safe in signal handlers. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/lock.h"
#include "os/kernel_internal.h"
#include "os/pages.h"
#include "os/thread.h"

#define SPIN_NS 100000u       /* shorter delays are spun */
#define NO_PROBABILITY UINT64_MAX
#define PROBABILITY_ONE ((uint64_t)1 << 53)

/* --- looking at a call --------------------------------------------------------------------------------- */
static void rules_lock(struct kernel *k) {
  uint32_t spins = 0;
  while (at_xchg(&k->rule_lock, 1) != 0) {
    if (++spins % 64 == 0) thread_yield();
    spin_pause();
  }
}

static void rules_unlock(struct kernel *k) { at_store(&k->rule_lock, 0); }

/* splitmix64 (Steele, Lea, Flood, OOPSLA 2014). */
static uint64_t next_random(uint64_t *state) {
  uint64_t z = (*state += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/* Counts the call and draws the random number even if another condition fails: the sequence must not depend on it. */
static bool rule_fires(struct kernel_rule *rule) {
  rule->seen++;
  bool fires = rule->threshold == NO_PROBABILITY || next_random(&rule->random) >> 11 < rule->threshold;
  if (rule->nth != 0 && rule->seen != rule->nth) fires = false;
  if (rule->every != 0 && rule->seen % rule->every != 0) fires = false;
  if (rule->seen < rule->from) fires = false;
  if (rule->times != 0 && rule->fired >= rule->times) fires = false;
  return fires;
}

/* Adds what a rule that fires does to the verdict. */
static void rule_apply(struct kernel_rule *rule, uintptr_t address, struct kernel_verdict *out) {
  rule->fired++;
  out->delay_ns += rule->delay_ns;
  out->without_move = out->without_move || rule->without_move;
  if (rule->error == 0 || out->error != 0) return;
  out->error = rule->error;
  out->after = rule->after;
  out->partial_bytes = rule->partial_bytes;
  if (rule->partial_bytes != 0 && rule->error != EAGAIN)
    rule->resume = address + align_up(rule->partial_bytes, pages_size());
}

bool kernel_rules_look(struct kernel *k, enum kernel_call call, uintptr_t address, uint64_t bytes,
                       struct kernel_verdict *out) {
  bool any = false;
  *out = (struct kernel_verdict){0};
  rules_lock(k);
  uint32_t count = at_load_relaxed(&k->rule_count); /* relaxed: the lock orders it */
  for (uint32_t i = 0; i < count; i++) {
    struct kernel_rule *rule = &k->rules[i];
    uint64_t part = align_up(rule->partial_bytes, pages_size());
    if (rule->call != KERNEL_CALL_COUNT && rule->call != (uint32_t)call) continue;
    bool fires = rule_fires(rule);
    if (rule->resume != 0 && rule->resume == address) {
      rule->resume = 0;
      if (out->error == 0)
        *out =
            (struct kernel_verdict){.error = rule->error, .delay_ns = out->delay_ns, .without_move = out->without_move};
      any = true;
      continue;
    }
    if (!fires || (part != 0 && part >= bytes)) continue;
    rule_apply(rule, address, out);
    any = true;
  }
  rules_unlock(k);
  return any;
}

void kernel_delay(uint64_t ns) {
  if (ns >= SPIN_NS) {
    thread_sleep_ns(ns);
    return;
  }
  for (uint64_t until = clock_ns() + ns; clock_ns() < until;) spin_pause();
}

/* --- reading a spec ------------------------------------------------------------------------------------ */
static const struct {
  const char *name;
  int value;
} errnos[] = {
    {"EPERM", EPERM},   {"ENOENT", ENOENT}, {"ESRCH", ESRCH},   {"EINTR", EINTR},   {"EIO", EIO},
    {"EBADF", EBADF},   {"EAGAIN", EAGAIN}, {"ENOMEM", ENOMEM}, {"EACCES", EACCES}, {"EFAULT", EFAULT},
    {"EBUSY", EBUSY},   {"EEXIST", EEXIST}, {"ENODEV", ENODEV}, {"EINVAL", EINVAL}, {"ENFILE", ENFILE},
    {"EMFILE", EMFILE}, {"ENOTTY", ENOTTY}, {"ENOSPC", ENOSPC}, {"ENOSYS", ENOSYS}, {"EOPNOTSUPP", EOPNOTSUPP},
};

struct reader {
  char *error;
  size_t error_bytes;
};

__attribute__((format(printf, 2, 3))) static int complain(struct reader *r, const char *format, ...) {
  if (r->error != NULL && r->error_bytes > 0) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(r->error, r->error_bytes, format, args);
    va_end(args);
  }
  return -EINVAL;
}

/* As it was first proposed, UFFDIO_MOVE was UFFDIO_REMAP. */
static const char *call_name_of(const char *name) { return strcmp(name, "remap") == 0 ? "move" : name; }

static int read_call(struct reader *r, const char *name, struct kernel_rule *rule) {
  rule->call = KERNEL_CALL_COUNT;
  if (strcmp(name, "*") == 0) return 0;
  for (uint32_t i = 0; i < KERNEL_CALL_COUNT; i++)
    if (strcmp(call_name_of(name), kernel_call_name(i)) == 0) {
      rule->call = i;
      return 0;
    }
  return complain(r, "'%s' is not a call that can be made to fail.", name);
}

static int read_number(struct reader *r, const char *text, uint64_t *out) {
  char *end;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 0);
  if (text[0] < '0' || text[0] > '9' || *end != 0 || errno != 0)
    return complain(r, "'%s' is not a whole number.", text);
  *out = value;
  return 0;
}

static int read_count(struct reader *r, const char *text, uint64_t *out) {
  int result = read_number(r, text, out);
  if (result == 0 && *out == 0) return complain(r, "A count of 0 would never fire; it starts at 1.");
  return result;
}

static int read_time(struct reader *r, const char *text, uint64_t *ns) {
  static const struct {
    const char *name;
    double ns;
  } units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
  char *end;
  double value = strtod(text, &end);
  for (size_t i = 0; i < sizeof units / sizeof *units; i++)
    if (end != text && strcmp(end, units[i].name) == 0 && value >= 0 && value * units[i].ns < 1e12) {
      *ns = (uint64_t)(value * units[i].ns);
      return 0;
    }
  return complain(r, "'%s' is not a time below 1000 s, such as 200us.", text);
}

static bool after_would_leak(uint32_t call) {
  return call == KERNEL_CALL_COUNT || call == KERNEL_MMAP || call == KERNEL_MEMFD || call == KERNEL_UFFD_OPEN ||
         call == KERNEL_READ;
}

static int read_without(struct reader *r, const char *what, struct kernel_rule *rule) {
  if (strcmp(call_name_of(what), "move") != 0)
    return complain(r, "Only 'move' can be left out of what is offered, not '%s'.", what);
  if (rule->call != KERNEL_REGISTER && rule->call != KERNEL_UFFD_OPEN)
    return complain(r, "without= is for register and uffd_open.");
  rule->without_move = true;
  return 0;
}

static int read_action(struct reader *r, char *text, struct kernel_rule *rule) {
  if (strncmp(text, "delay=", 6) == 0) return read_time(r, text + 6, &rule->delay_ns);
  if (strncmp(text, "without=", 8) == 0) return read_without(r, text + 8, rule);
  char *dash = strchr(text, '-');
  if (dash != NULL) {
    if (strcmp(dash, "-after") != 0) return complain(r, "After '%.16s' only '-after' is understood.", text);
    if (after_would_leak(rule->call))
      return complain(r, "'-after' is not possible for '%s'.",
                      rule->call == KERNEL_CALL_COUNT ? "*" : kernel_call_name(rule->call));
    rule->after = true;
    *dash = 0;
  }
  for (size_t i = 0; i < sizeof errnos / sizeof *errnos; i++)
    if (strcmp(text, errnos[i].name) == 0) {
      rule->error = errnos[i].value;
      return 0;
    }
  return complain(r, "'%s' is neither an errno name that is known here nor delay=TIME nor without=move.", text);
}

static int read_partial(struct reader *r, const char *text, struct kernel_rule *rule) {
  if (rule->call != KERNEL_MOVE && rule->call != KERNEL_COPY && rule->call != KERNEL_ZEROPAGE)
    return complain(r, "partial= is for move, copy and zeropage.");
  if (rule->error == 0 || rule->after) return complain(r, "partial= needs an errno without '-after'.");
  return read_count(r, text, &rule->partial_bytes);
}

static int read_probability(struct reader *r, const char *text, struct kernel_rule *rule) {
  char *end;
  double p = strtod(text, &end);
  if (end == text || *end != 0 || !(p >= 0 && p <= 1)) return complain(r, "'%s' is not a probability.", text);
  rule->threshold = (uint64_t)(p * (double)PROBABILITY_ONE);
  return 0;
}

static int read_condition(struct reader *r, char *text, struct kernel_rule *rule) {
  char *value = strchr(text, '=');
  if (value == NULL) return complain(r, "The condition '%s' has no value.", text);
  *value++ = 0;
  if (strcmp(text, "nth") == 0) return read_count(r, value, &rule->nth);
  if (strcmp(text, "every") == 0) return read_count(r, value, &rule->every);
  if (strcmp(text, "from") == 0) return read_count(r, value, &rule->from);
  if (strcmp(text, "times") == 0) return read_count(r, value, &rule->times);
  if (strcmp(text, "seed") == 0) return read_number(r, value, &rule->random);
  if (strcmp(text, "p") == 0) return read_probability(r, value, rule);
  if (strcmp(text, "partial") == 0) return read_partial(r, value, rule);
  return complain(r, "'%s' is not a condition (nth, every, from, p, seed, times, partial).", text);
}

static int read_rule(struct reader *r, char *text, struct kernel_rule *rule) {
  *rule = (struct kernel_rule){.threshold = NO_PROBABILITY};
  char *action = strchr(text, ':');
  if (action == NULL) return complain(r, "The rule '%s' has no ':' between call and action.", text);
  *action++ = 0;
  char *conditions = strchr(action, '@');
  if (conditions != NULL) *conditions++ = 0;
  int result = read_call(r, text, rule);
  if (result == 0) result = read_action(r, action, rule);
  while (result == 0 && conditions != NULL) {
    char *one = strsep(&conditions, ",");
    result = read_condition(r, one, rule);
  }
  return result;
}

/* Without blanks at both ends. */
static char *trim(char *text) {
  while (*text == ' ') text++;
  size_t n = strlen(text);
  while (n > 0 && text[n - 1] == ' ') text[--n] = 0;
  return text;
}

static int read_spec(struct reader *r, char *spec, struct kernel_rule *rules, uint32_t *count) {
  while (spec != NULL) {
    char *text = trim(strsep(&spec, ";"));
    if (*text == 0) continue;
    if (*count == KERNEL_RULES) {
      (void)complain(r, "There is room for %d rules.", KERNEL_RULES);
      return -ENOSPC;
    }
    int result = read_rule(r, text, &rules[*count]);
    if (result != 0) return result;
    ++*count;
  }
  return 0;
}

int kernel_inject(struct kernel *k, const char *spec, char *error, size_t error_bytes) {
  struct reader r = {error, error_bytes};
  struct kernel_rule rules[KERNEL_RULES];
  uint32_t count = 0;
  int saved = errno;
  char copy[1024];
  if (error_bytes > 0) error[0] = 0;
  if (strlen(spec) >= sizeof copy) return complain(&r, "A spec has at most %zu characters.", sizeof copy - 1);
  strcpy(copy, spec);
  int result = read_spec(&r, copy, rules, &count);
  if (result == 0) {
    rules_lock(k);
    uint32_t before = at_load_relaxed(&k->rule_count); /* relaxed: the lock orders it */
    if (before + count > KERNEL_RULES) {
      (void)complain(&r, "There is room for %d rules, and %u are set already.", KERNEL_RULES, before);
      result = -ENOSPC;
    } else {
      memcpy(&k->rules[before], rules, count * sizeof *rules);
      at_store(&k->rule_count, before + count);
    }
    rules_unlock(k);
  }
  errno = saved;
  return result;
}

void kernel_inject_clear(struct kernel *k) {
  rules_lock(k);
  at_store(&k->rule_count, 0);
  rules_unlock(k);
}

uint64_t kernel_inject_fired(struct kernel *k, uint32_t rule) {
  rules_lock(k);
  uint64_t fired = rule < at_load_relaxed(&k->rule_count) ? k->rules[rule].fired : 0; /* relaxed: the lock */
  rules_unlock(k);
  return fired;
}
