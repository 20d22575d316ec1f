/* The C tests' framework: CHECK, CHECK_EQ, RUN, SKIP, CHECK_SUMMARY.
 *
 * A test is a `static void name(void)` called by RUN(name) in main, which ends with `return CHECK_SUMMARY();`.
 * A failed check prints where and what and the test goes on; the process then exits with 1. SKIP ends the
 * test that calls it and says why; begin the reason with the capability ("move: the kernel is too old"), because
 * .ci/run fails on a skip that names `move` where the kernel offers it. If every test was skipped, the exit
 * status is 77, which ctest shows as skipped. CHECK_EQ is for integers, CHECK_STR for strings. */
#ifndef GCH_TESTS_CHECK_H
#define GCH_TESTS_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define CHECK_EXIT_SKIPPED 77

static const char *check_test = "(outside RUN)";
static int check_count, check_failures, check_tests, check_skips; /* checks may run in several threads */

static inline void check_report(const char *file, int line, const char *what) {
  __atomic_add_fetch(&check_failures, 1, __ATOMIC_RELAXED);
  fprintf(stderr, "%s:%d: %s: %s\n", file, line, check_test, what);
}

static inline int check_true(int ok, const char *file, int line, const char *what) {
  __atomic_add_fetch(&check_count, 1, __ATOMIC_RELAXED);
  if (!ok) check_report(file, line, what);
  return ok;
}

static inline int check_eq(long long a, long long b, const char *file, int line, const char *what) {
  char text[512];
  snprintf(text, sizeof text, "%s: %lld (0x%llx) != %lld (0x%llx)", what, a, (unsigned long long)a, b,
           (unsigned long long)b);
  return check_true(a == b, file, line, text);
}

static inline int check_str(const char *a, const char *b, const char *file, int line, const char *what) {
  char text[512];
  snprintf(text, sizeof text, "%s: \"%s\" != \"%s\"", what, a ? a : "(null)", b ? b : "(null)");
  return check_true(a && b ? strcmp(a, b) == 0 : a == b, file, line, text);
}

/* Each yields whether it held, so that a test can stop when going on makes no sense. */
#define CHECK(cond) check_true(!!(cond), __FILE__, __LINE__, #cond)
#define CHECK_EQ(a, b) check_eq((long long)(a), (long long)(b), __FILE__, __LINE__, #a " == " #b)
#define CHECK_STR(a, b) check_str((a), (b), __FILE__, __LINE__, #a " == " #b)

/* `what` is a capability: SKIP("move", probe.move.text). */
#define SKIP(what, reason)                                       \
  do {                                                           \
    check_skips++;                                               \
    printf("  SKIP %s: %s: %s\n", check_test, (what), (reason)); \
    return;                                                      \
  } while (0)

static inline void check_run(const char *name, void (*test)(void)) {
  int failures = check_failures, skips = check_skips;
  check_test = name;
  check_tests++;
  test();
  if (check_skips == skips || check_failures != failures)
    printf("  %s %s\n", check_failures == failures ? "ok  " : "FAIL", name);
  fflush(stdout);
}
#define RUN(test) check_run(#test, test)

static inline int check_summary(void) {
  printf("%d tests, %d checks, %d failed, %d skipped\n", check_tests, check_count, check_failures, check_skips);
  if (check_failures != 0) return 1;
  return check_tests > 0 && check_skips == check_tests ? CHECK_EXIT_SKIPPED : 0;
}
#define CHECK_SUMMARY() check_summary()

#endif
