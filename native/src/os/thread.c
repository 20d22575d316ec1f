/* Collector threads. See thread.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/thread.h"

#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

/* Initial-exec: reached without a call, so that signal handlers may read it. */
static _Thread_local uint32_t cached_id __attribute__((tls_model("initial-exec")));

#define THREAD_NAME 16 /* the kernel's limit, end included */

/* On the starter's stack, which waits until it has been read: a collector thread never calls malloc, so that a fork() never
 * finds one inside it (allocators of sanitizers do not survive that). */
struct start {
  thread_main *main;
  void *arg;
  char name[THREAD_NAME];
  sem_t taken;
};

static void copy_name(char *to, const char *name) {
  size_t n = strnlen(name, THREAD_NAME - 1);
  memcpy(to, name, n);
  to[n] = 0;
}

static void *start_routine(void *arg) {
  struct start *start = arg;
  thread_main *run = start->main;
  void *run_arg = start->arg;
  thread_set_name(start->name);
  sem_post(&start->taken);
  run(run_arg);
  return NULL;
}

int thread_start(struct thread *thread, const char *name, thread_main *main, void *arg) {
  struct start start = {.main = main, .arg = arg};
  sem_init(&start.taken, 0, 0);
  copy_name(start.name, name);
  sigset_t all, before; /* the new thread inherits the mask, so it never runs with anything unblocked */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&thread->id, NULL, start_routine, &start);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  while (error == 0 && sem_wait(&start.taken) != 0) {
  }
  sem_destroy(&start.taken);
  return -error;
}

void thread_join(struct thread *thread) {
  int error = pthread_join(thread->id, NULL);
  GCH_CHECK(error == 0, "pthread_join answered %d", error);
}

void thread_set_name(const char *name) {
  char cut[THREAD_NAME];
  copy_name(cut, name);
  (void)pthread_setname_np(pthread_self(), cut);
}

uint32_t thread_cpu_count(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return (uint32_t)CPU_COUNT(&set);
  long online = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than cpu_set_t holds, or no such call */
  return online > 0 ? (uint32_t)online : 1;
}

uint32_t thread_id(void) {
  if (gch_unlikely(cached_id == 0)) cached_id = (uint32_t)syscall(SYS_gettid);
  return cached_id;
}

void thread_id_forget(void) { cached_id = 0; }

void thread_yield(void) { (void)sched_yield(); }

void thread_sleep_ns(uint64_t ns) {
  struct timespec left = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}
