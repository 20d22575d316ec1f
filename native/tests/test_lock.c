/* Locks and conditions; and, in GCH_VERIFY builds, that a wrong order of locks ends the process. */
#include "base/lock.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/units.h"
#include "check.h"

static struct lock low, high;
static struct cond cond;
static uint32_t count; /* [lock: low] */

static void *incrementer(void *arg) {
  (void)arg;
  for (int i = 0; i < 20000; i++) {
    lock_lock(&low);
    lock_assert_held(&low);
    count++;
    lock_unlock(&low);
  }
  lock_lock(&low);
  cond_signal(&cond);
  lock_unlock(&low);
  return NULL;
}

static void exclusion(void) {
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) CHECK_EQ(pthread_create(&threads[i], NULL, incrementer, NULL), 0);
  lock_lock(&low);
  while (count < 40000) cond_wait(&cond, &low);
  lock_unlock(&low);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  CHECK_EQ(count, 40000);
}

static void trying(void) {
  lock_lock(&high);
  CHECK(!lock_try(&high));
  CHECK(lock_try(&low)); /* out of order, but it cannot wait */
  lock_unlock(&high);
  lock_unlock(&low);
  lock_assert_none();
}

static void deadline(void) {
  uint64_t until = clock_ns() + 3 * NS_PER_MS;
  lock_lock(&low);
  while (cond_wait_until(&cond, &low, until)) {
  }
  lock_unlock(&low);
  CHECK(clock_ns() >= until);
}

/* Whether the function ends its process by abort(). */
static int dies(void (*function)(void)) {
  int status = 0;
  pid_t child = fork();
  if (child == 0) {
    (void)signal(SIGABRT, SIG_DFL);
    (void)close(STDERR_FILENO);
    function();
    _exit(0);
  }
  CHECK(waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void wrong_order(void) {
  lock_lock(&high);
  lock_lock(&low);
}

static void not_held(void) { lock_assert_held(&low); }
static void right_order(void) {
  lock_lock(&low);
  lock_lock(&high);
  lock_unlock(&low);
  lock_unlock(&high);
  lock_assert_none();
}
static void broken(void) { GCH_CHECK(count == 1, "the count is %u", count); }

static void deaths(void) {
  CHECK(dies(broken));
  CHECK(!dies(right_order));
#ifdef GCH_VERIFY
  CHECK(dies(wrong_order));
  CHECK(dies(not_held));
#else
  CHECK(!dies(wrong_order));
  CHECK(!dies(not_held));
#endif
}

static const char *last_point;
static void on_point(const char *name) { last_point = name; }

static void points(void) {
  gch_hook_fn = on_point;
  GCH_POINT(unit_claimed);
#ifdef GCH_HOOKS
  CHECK_STR(last_point, "unit_claimed");
#else
  CHECK(last_point == NULL);
#endif
  gch_hook_fn = NULL;
  gch_hook_run("nobody");
}

int main(void) {
  lock_init(&low, 1, "low");
  lock_init(&high, 2, "high");
  cond_init(&cond);
  RUN(exclusion);
  RUN(trying);
  RUN(deadline);
  RUN(deaths);
  RUN(points);
  cond_destroy(&cond);
  lock_destroy(&low);
  lock_destroy(&high);
  return CHECK_SUMMARY();
}
