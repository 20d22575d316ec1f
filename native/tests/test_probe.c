/* The probe: the release rule, what it concludes when calls are made to fail, and a calibration that ends in time
 * and survives failures. Prints what this machine allows and costs. */
#include "os/probe.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/units.h"
#include "check.h"

static struct kernel k;

static void inject(const char *spec) {
  char error[160];
  kernel_inject_clear(&k);
  CHECK_EQ(kernel_inject(&k, spec, error, sizeof error), 0);
}

static void release_rule(void) {
  CHECK(!probe_release_moves_by_auto(5, 15, 0));
  CHECK(!probe_release_moves_by_auto(6, 8, 0));
  CHECK(!probe_release_moves_by_auto(6, 11, 99));
  CHECK(!probe_release_moves_by_auto(6, 12, 19));
  CHECK(probe_release_moves_by_auto(6, 12, 20));
  CHECK(!probe_release_moves_by_auto(6, 13, 7));
  CHECK(probe_release_moves_by_auto(6, 13, 8));
  CHECK(probe_release_moves_by_auto(6, 14, 0));
  CHECK(probe_release_moves_by_auto(7, 0, 0));
}

static void print_item(const char *name, const struct probe_item *item) {
  printf("  %-10s %s errno %d  %s\n", name, item->works ? "yes" : "no ", item->error, item->text);
}

static void print_probe(const struct probe *p) {
  printf("  Linux %s (%u.%u.%u, move by auto: %d), page %llu, huge %llu, thp %s, %u CPUs\n", p->kernel_release,
         p->release[0], p->release[1], p->release[2], p->release_moves_by_auto, (unsigned long long)p->page_bytes,
         (unsigned long long)p->huge_bytes, pages_thp_name(p->thp), p->cpus);
  for (int i = 0; i < PROBE_OPENING_COUNT; i++) print_item("open", &p->openings[i]);
  printf("  features %#llx, user mode only: %d\n", (unsigned long long)p->uffd_features, p->user_mode_only);
  print_item("move", &p->move);
  print_item("copy", &p->copy);
  print_item("zeropage", &p->zeropage);
  print_item("quiet", &p->quiet);
  print_item("sigbus", &p->sigbus);
  print_item("dontunmap", &p->dontunmap);
  print_item("populate", &p->populate);
  print_item("collapse", &p->collapse);
  print_item("memfd", &p->memfd);
  print_item("pagemap", &p->pagemap);
  print_item("barrier", &p->barrier);
  for (int i = 0; i < PROBE_MOVER_COUNT; i++) print_item(probe_mover_name((enum probe_mover)i), &p->movers[i]);
  printf("  chosen: %s. %s\n", probe_mover_name(p->chosen), p->chosen_text);
}

static void this_machine(void) {
  struct probe p;
  inject("");
  probe_run(&k, &p);
  print_probe(&p);
  CHECK(p.page_bytes > 0 && p.huge_bytes > p.page_bytes && p.cpus > 0 && p.release[0] > 0);
  CHECK(p.movers[PROBE_MEMCPY].works && p.movers[PROBE_SIMULATED].works);
  CHECK(p.movers[p.chosen].works && p.chosen_text[0] != 0);
  for (int i = 0; i < PROBE_MOVER_COUNT; i++) CHECK(p.movers[i].text[0] != 0);
  for (int i = 0; i < PROBE_OPENING_COUNT; i++) {
    CHECK(p.openings[i].text[0] != 0);
    CHECK((p.openings[i].error == 0) == p.openings[i].works);
  }
  /* On a kernel that has UFFDIO_MOVE, and a descriptor to be had, it must have been found to work. */
  if (p.uffd_features & UABI_FEATURE_MOVE) CHECK(p.move.works && p.movers[PROBE_MOVE].works);
}

/* The kernel and permissions of others, by injection. */
static void other_machines(void) {
  struct probe p;
  probe_run(&k, &p);
  bool user_mode = p.openings[PROBE_OPEN_SYSCALL_USER_MODE].works, copies = p.movers[PROBE_COPY].works;
  inject("move:EINVAL");
  probe_run(&k, &p);
  CHECK(!p.move.works && p.move.error != 0 && strstr(p.movers[PROBE_MOVE].text, "UFFDIO_MOVE") != NULL);
  if (copies) CHECK(p.chosen == PROBE_COPY && p.quiet.works);
  inject("move:EINVAL;register:without=move;uffd_open:without=move"); /* Linux 5.7 to 6.7 */
  probe_run(&k, &p);
  CHECK(!p.movers[PROBE_MOVE].works && !(p.uffd_features & UABI_FEATURE_MOVE));
  if (copies) CHECK(p.movers[PROBE_COPY].works && p.chosen == PROBE_COPY && p.quiet.works);
  if (copies) {
    inject("register:EINVAL@nth=4"); /* the first one for write protection only, then UFFDIO_MOVE's */
    probe_run(&k, &p);
    CHECK(!p.movers[PROBE_COPY].works && strstr(p.movers[PROBE_COPY].text, "write protection") != NULL);
    inject("register:EINVAL@nth=5");
    probe_run(&k, &p);
    CHECK(p.movers[PROBE_COPY].works && !p.movers[PROBE_MOVE].works && p.chosen == PROBE_COPY);
    inject("register:EINVAL@nth=4;register:EINVAL@nth=5"); /* not to be had on this architecture */
    probe_run(&k, &p);
    CHECK_EQ(p.chosen, PROBE_SIMULATED);
  }
  inject("uffd_open:EACCES@nth=1;uffd_open:EPERM@nth=2");
  probe_run(&k, &p);
  CHECK(strstr(p.openings[PROBE_OPEN_DEVICE].text, "0600") != NULL);
  if (p.openings[PROBE_OPEN_DEVICE].error == EACCES && p.openings[PROBE_OPEN_SYSCALL].error == EPERM && user_mode)
    CHECK(p.user_mode_only);
  inject("uffd_open:ENOSYS");
  probe_run(&k, &p);
  CHECK(p.chosen == PROBE_SIMULATED && p.uffd_features == 0 && !p.movers[PROBE_COPY].works);
  CHECK(strstr(p.chosen_text, "simulated") != NULL);
  inject("uffd_open:ENOSYS;memfd:ENOSYS");
  probe_run(&k, &p);
  CHECK_EQ(p.chosen, PROBE_MEMCPY);
  inject("mremap:EINVAL");
  probe_run(&k, &p);
  CHECK(!p.movers[PROBE_MOVE].works && !p.movers[PROBE_COPY].works && p.chosen == PROBE_SIMULATED);
  inject("*:ENOMEM");
  probe_run(&k, &p);
  CHECK_EQ(p.chosen, PROBE_MEMCPY);
  inject("");
}

static void calibration(void) {
  struct probe p;
  struct probe_costs c;
  struct sigaction before, after;
  probe_run(&k, &p);
  CHECK_EQ(sigaction(SIGBUS, NULL, &before), 0);
  CHECK_EQ(probe_calibrate(&k, &p, true, &c), 0);
  CHECK_EQ(sigaction(SIGBUS, NULL, &after), 0);
  CHECK(before.sa_handler == after.sa_handler);
  printf("  ns a page: move %.0f %.0f %.0f, copy %.0f %.0f %.0f (runs of 1, 16, 512), drop %.0f\n", c.move_page_1,
         c.move_page_16, c.move_page_512, c.copy_page_1, c.copy_page_16, c.copy_page_512, c.drop_page_512);
  printf("  memcpy warm %.0f, first touch %.0f; huge move %.0f; syscall %.0f, uffd call %.0f, mprotect %.0f\n",
         c.memcpy_page, c.touch_page, c.move_huge, c.syscall, c.uffd_call, c.mprotect);
  printf("  fault by thread %.0f, by signal %.0f; took %.1f ms\n", c.fault_thread, c.fault_signal,
         (double)c.spent_ns / (double)NS_PER_MS);
  CHECK(c.syscall > 0 && c.memcpy_page > 0 && c.touch_page > 0 && c.mprotect > 0);
  if (p.move.works) CHECK(c.move_page_1 > 0 && c.move_page_16 > 0 && c.move_page_512 > 0 && c.uffd_call > 0);
  if (p.copy.works) CHECK(c.copy_page_1 > 0 && c.copy_page_512 > 0 && c.fault_thread > 0);
}

/* Nobody may be left waiting for a page, whatever fails. */
static void calibration_under_failures(void) {
  static const char *const specs[] = {"move:EBUSY@every=3",
                                      "move:EEXIST-after@every=5",
                                      "copy:ENOMEM@every=4",
                                      "copy:EEXIST-after@every=3",
                                      "copy:ENOMEM;unregister:ENOMEM;wake:EINVAL",
                                      "register:ENOMEM",
                                      "uffd_open:EPERM",
                                      "read:EIO",
                                      "mmap:ENOMEM",
                                      "*:ENOMEM@p=0.1,seed=1",
                                      "*:ENOMEM@p=0.3,seed=2",
                                      "*:EAGAIN@p=0.05,seed=3"};
  struct probe p;
  struct probe_costs c;
  inject("");
  probe_run(&k, &p);
  for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
    inject(specs[i]);
    (void)probe_calibrate(&k, &p, true, &c);
    CHECK(c.fault_thread >= 0);
  }
  inject("");
}

int main(void) {
  kernel_init(&k);
  RUN(release_rule);
  RUN(this_machine);
  RUN(other_machines);
  RUN(calibration);
  RUN(calibration_under_failures);
  kernel_close(&k);
  return CHECK_SUMMARY();
}
