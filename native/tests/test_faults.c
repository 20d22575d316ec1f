/* Signal mode beside handlers of the host: installed before us, after us, or both, and in which order they go. Every way
 * is tried with SIGSEGV (`simulated`) and, where there is userfaultfd, with SIGBUS. */
#include "gc/faults.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "hold.h"
#include "mover/mover.h"

/* Children start their heap's threads. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0"; }

static int signal_number;
static gch_config config;
static uint32_t *calls; /* of the host's handler, shared with children */
static char *closed; /* a page that the host's handler opens */
static struct sigaction host_below;

/* --- the host ------------------------------------------------------------------------------------------------- */

static void host(int signal, siginfo_t *info, void *context) {
  at_add(calls, 1);
  if (info->si_code > 0 && (char *)info->si_addr == closed) {
    mprotect(closed, 4096, PROT_READ | PROT_WRITE);
    return;
  }
  if (host_below.sa_flags & SA_SIGINFO) {
    host_below.sa_sigaction(signal, info, context);
  } else if (host_below.sa_handler != SIG_DFL) {
    host_below.sa_handler(signal);
  } else {
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signal, &action, NULL);
  }
}

static void install_host(void) {
  struct sigaction action = {.sa_sigaction = host, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaction(signal_number, &action, &host_below);
}

static void uninstall_host(void) { sigaction(signal_number, &host_below, NULL); }

static bool host_is_on_top(void) {
  struct sigaction now;
  sigaction(signal_number, NULL, &now);
  return now.sa_flags & SA_SIGINFO && now.sa_sigaction == host && now.sa_flags & SA_RESTART;
}

static void *handler_now(void) {
  struct sigaction now;
  sigaction(signal_number, NULL, &now);
  return now.sa_flags & SA_SIGINFO ? (void *)(uintptr_t)now.sa_sigaction : (void *)(uintptr_t)now.sa_handler;
}

static bool nothing_installed(void) { return handler_now() == (void *)(uintptr_t)SIG_DFL; }

/* --- faults --------------------------------------------------------------------------------------------------- */

/* Memory whose touch raises the signal: SIGBUS is had from beyond the end of a file. */
static char *bad_page(void) {
  if (signal_number == SIGSEGV) return mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int fd = memfd_create("short", 0);
  char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  return page;
}

/* In a child: an access that nobody answers. The child ends by the signal, after so many calls of the host's handler
 * (a circle would end with the stack, and the count be large). */
static void ends_by_fault(uint32_t host_calls) {
  int status = 0;
  char *page = bad_page();
  *calls = 0;
  pid_t child = fork();
  if (child == 0) {
    *(volatile char *)page = 1;
    _exit(3);
  }
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == signal_number);
  CHECK_EQ(*calls, host_calls);
  munmap(page, 4096);
}

/* In a child, which has a heap of its own: a touch of such an address is not answered, and not tried for ever. */
static void ends_by_touch(uintptr_t address, uint32_t host_calls) {
  int status = 0;
  *calls = 0;
  pid_t child = fork();
  if (child == 0) {
    alarm(20);
    *(volatile char *)address = 1;
    _exit(3);
  }
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == signal_number);
  CHECK_EQ(*calls, host_calls);
}

/* In this process: the host's handler opens the page, and the touch succeeds. */
static void touch_beside(uintptr_t address) {
  *calls = 0;
  at_store(&closed, (char *)address);
  at_fence_seq(); /* the touch is a call that the compiler does not see */
  *(volatile char *)address = 1;
  CHECK_EQ(*calls, 1);
  mprotect((void *)address, 4096, PROT_NONE);
  at_store(&closed, NULL);
}

/* In a child: the signal is sent, and nothing else is done. */
static int status_when_sent(void) {
  int status = 0;
  pid_t child = fork();
  if (child == 0) {
    raise(signal_number);
    _exit(3);
  }
  waitpid(child, &status, 0);
  return status;
}

/* The host's own fault, answered by its handler. SIGSEGV only: there is no simple SIGBUS that can be answered. */
static void host_answers(void) {
  if (signal_number != SIGSEGV) return;
  closed = bad_page();
  *calls = 0;
  *(volatile char *)closed = 1;
  CHECK_EQ(*calls, 1);
  munmap(closed, 4096);
  closed = NULL;
}

/* A major and touches beside it; whether it was concurrent. */
static bool moves_concurrently(struct kit *k) {
  GCH_FRAME(k->m, root, 1);
  root[0] = kit_refs(k, 3000);
  for (uint64_t i = 0; i < 3000; i++) kit_put_node(k, &root[0], i, i);
  gch_cycle r = kit_major(k, GCH_POLICY_ALL, true, false);
  for (uint64_t i = 0; i < 3000; i++)
    if (!CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) break;
  gch_collect_wait(k->m, NULL);
  GCH_FRAME_END(k->m);
  return r.concurrent != 0;
}

/* --- orders --------------------------------------------------------------------------------------------------- */

static void host_before(void) {
  struct kit k;
  install_host();
  if (!kit_open(&k, &config)) return;
  CHECK(moves_concurrently(&k));
  host_answers();
  ends_by_fault(1);
  kit_close(&k);
  CHECK(host_is_on_top());
  uninstall_host();
  CHECK(nothing_installed());
}

/* It stays on top, whatever heaps come and go. */
static void host_after(void) {
  struct kit first, second;
  if (!kit_open(&first, &config)) return;
  install_host();
  CHECK(!moves_concurrently(&first));
  host_answers();
  ends_by_fault(1);
  if (!kit_open(&second, &config)) return;
  CHECK(host_is_on_top());
  CHECK(!moves_concurrently(&second));
  ends_by_fault(1);
  kit_close(&first);
  kit_close(&second);
  CHECK(host_is_on_top());
  ends_by_fault(1); /* through our handler, which has no heap any more */
  if (!kit_open(&first, &config)) return;
  CHECK(host_is_on_top());
  host_answers();
  ends_by_fault(1);
  uninstall_host();
  CHECK(moves_concurrently(&first)); /* ours is on top again */
  ends_by_fault(0);
  kit_close(&first);
  CHECK(nothing_installed());
}

/* It comes while everything has been prepared: the flip's pause sees it. */
static void host_before_the_flip(void) {
  struct kit k;
  struct kit_request request;
  gch_cycle r = {0};
  if (!kit_open(&k, &config)) return;
  GCH_FRAME(k.m, root, 1);
  root[0] = kit_refs(&k, 3000);
  for (uint64_t i = 0; i < 3000; i++) kit_put_node(&k, &root[0], i, i);
  hold_before_flip(&k, &request, GCH_POLICY_ALL);
  install_host();
  hold_off(&k, &request);
  CHECK_EQ(gch_collect_wait(k.m, &r), GCH_OK);
  CHECK(r.degraded && !r.concurrent && strstr(r.reason, "handler") != NULL);
  kit_verify(&k);
  for (uint64_t i = 0; i < 3000; i++)
    if (!CHECK_EQ(*kit_number(kit_at(root[0], i)), i)) break;
  uninstall_host();
  CHECK(moves_concurrently(&k));
  GCH_FRAME_END(k.m);
  kit_close(&k);
}

/* It goes when there is no heap: what is left is our handler alone, until a heap has come and gone. */
static void host_goes_last(void) {
  struct kit k;
  if (!kit_open(&k, &config)) return;
  install_host();
  kit_close(&k);
  uninstall_host();
  CHECK(!nothing_installed());
  ends_by_fault(0);
  if (!kit_open(&k, &config)) return;
  CHECK(moves_concurrently(&k));
  kit_close(&k);
  CHECK(nothing_installed());
}

/* The same handler, with one place for what it found: a circle. */
static void host_before_and_after(void) {
  struct kit k;
  install_host();
  if (!kit_open(&k, &config)) return;
  install_host();
  host_answers();
  ends_by_fault(2);
  kit_close(&k);
  CHECK(host_is_on_top());
  ends_by_fault(2);
  signal(signal_number, SIG_DFL);
  if (!kit_open(&k, &config)) return; /* over the default action ours may be put anew */
  CHECK(moves_concurrently(&k));
  ends_by_fault(0);
  kit_close(&k);
  CHECK(nothing_installed());
}

static void signals_that_are_sent(void) {
  struct kit k;
  if (!kit_open(&k, &config)) return;
  int status = status_when_sent();
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == signal_number);
  kit_close(&k);
  signal(signal_number, SIG_IGN);
  if (!kit_open(&k, &config)) return;
  status = status_when_sent();
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
  ends_by_fault(0); /* a fault cannot be ignored */
  kit_close(&k);
  CHECK(handler_now() == (void *)(uintptr_t)SIG_IGN);
  signal(signal_number, SIG_DFL);
}

/* The program's own mistakes inside the span of a heap: nothing is moving, or something is, elsewhere. */
static void touches_of_a_gap(void) {
  struct kit k;
  struct kit_request request;
  install_host();
  if (!kit_open(&k, &config)) return;
  const struct region *r = &k.heap->layout.regions[0];
  ends_by_touch(r->start + r->bytes + 4096, 1);
  GCH_FRAME(k.m, root, 1);
  root[0] = kit_refs(&k, 3000);
  for (uint64_t i = 0; i < 3000; i++) kit_put_node(&k, &root[0], i, i);
  for (int i = 0; i < 3; i++)
    CHECK(kit_major(&k, GCH_POLICY_ALL, true, true).concurrent); /* and each region has been missing */
  ends_by_touch(r->start + r->bytes + 4096, 1);
  hold_on(true);
  kit_begin(&k, &request, GCH_POLICY_ALL);
  while (!at_load(&held)) gch_safepoint(k.m);
  touch_beside(r->start + r->bytes + 4096);
  hold_off(&k, &request);
  GCH_FRAME_END(k.m);
  kit_close(&k);
  uninstall_host();
}

/* Its memory is the parent's, and has been taken away. */
static void touches_in_a_broken_child(void) {
  struct kit k;
  install_host();
  if (!kit_open(&k, &config)) return;
  gch_ref object = kit_bytes(&k, 64);
  CHECK_EQ(gch_inject(k.heap, "memfd:EMFILE", NULL), GCH_OK);
  ends_by_touch((uintptr_t)object, 1);
  kit_close(&k);
  uninstall_host();
}

/* --- a heap that goes meanwhile ------------------------------------------------------------------------------- */

static uint32_t entered, left, destroyed; /* [atomic] */
static pthread_t toucher;

static void wait_in_heap(const char *name) {
  if (strcmp(name, "heap_entered") != 0 || !pthread_equal(pthread_self(), toucher)) return;
  if (at_add(&entered, 1) > 0) return;
  for (int i = 0; i < 300 && !at_load(&destroyed); i++) usleep(1000);
  at_store(&left, 1);
}

/* A fault of the host's own, which no heap has to do with: our handler looks through the heaps all the same. */
static void *touch_own_page(void *arg) {
  (void)arg;
  at_store(&toucher, pthread_self());
  at_store(&gch_hook_fn, wait_in_heap);
  touch_beside((uintptr_t)bad_page());
  at_store(&gch_hook_fn, NULL);
  return NULL;
}

static void handler_in_a_heap_that_is_destroyed(void) {
  struct kit k;
  pthread_t thread;
  install_host();
  if (!kit_open(&k, &config)) return;
  pthread_create(&thread, NULL, touch_own_page, NULL);
  while (!at_load(&entered)) usleep(100);
  kit_close(&k);
  CHECK(at_load(&left));
  at_store(&destroyed, 1);
  pthread_join(thread, NULL);
  uninstall_host();
}

static void every_order(gch_mover mover, int number) {
  signal_number = number;
  config = kit_config(mover, 64, 512);
  config.fault_mode = mover == GCH_MOVER_SIMULATED ? GCH_FAULT_THREAD : GCH_FAULT_SIGNAL;
  config.gc_threads = 1;
  host_before();
  host_after();
  host_before_the_flip();
  host_goes_last();
  host_before_and_after();
  signals_that_are_sent();
}

static void of_faults_of_protection(void) {
  if (!kit_available(GCH_MOVER_SIMULATED)) SKIP("of_faults_of_protection", "no simulated mover");
  every_order(GCH_MOVER_SIMULATED, SIGSEGV);
  touches_of_a_gap();
  touches_in_a_broken_child();
  handler_in_a_heap_that_is_destroyed();
}

static void of_faults_of_missing_pages(void) {
  if (!kit_available(GCH_MOVER_COPY)) SKIP("of_faults_of_missing_pages", "no userfaultfd");
  every_order(GCH_MOVER_COPY, SIGBUS);
}

int main(void) {
  kit_growth = GCH_GROWTH_NEVER;
  kit_watchdog(60);
  setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
  signal(SIGSEGV, SIG_DFL); /* not a sanitizer's */
  signal(SIGBUS, SIG_DFL);
  calls = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  RUN(of_faults_of_protection);
  RUN(of_faults_of_missing_pages);
  return CHECK_SUMMARY();
}
