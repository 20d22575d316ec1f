#include "python/doctor.h"

#include <gcheap/gcheap.h>
#include <string.h>

#include "os/probe.h"

_Static_assert(DOCTOR_OPENINGS == PROBE_OPENING_COUNT, "every way to open is reported");
_Static_assert(DOCTOR_MOVERS == PROBE_MOVER_COUNT, "every mover is reported");
_Static_assert(sizeof((doctor_item *)0)->text == PROBE_TEXT, "a probe's sentence fits");

static void item_fill(doctor_item *out, const char *name, const struct probe_item *from) {
  out->name = name;
  out->works = from->works;
  out->error = from->error;
  memcpy(out->text, from->text, sizeof out->text);
}

static void fill_calls(const struct probe *p, doctor_item out[DOCTOR_CALLS]) {
  const struct {
    const char *name;
    const struct probe_item *item;
  } calls[DOCTOR_CALLS] = {
      {"move", &p->move},     {"copy", &p->copy},           {"zeropage", &p->zeropage},  {"write-protect", &p->quiet},
      {"sigbus", &p->sigbus}, {"dontunmap", &p->dontunmap}, {"populate", &p->populate},  {"collapse", &p->collapse},
      {"memfd", &p->memfd},   {"pagemap", &p->pagemap},     {"membarrier", &p->barrier},
  };
  for (int i = 0; i < DOCTOR_CALLS; i++) item_fill(&out[i], calls[i].name, calls[i].item);
}

static void fill_probe(const struct probe *p, doctor_report *out) {
  out->page_bytes = p->page_bytes;
  out->huge_bytes = p->huge_bytes;
  out->cpus = p->cpus;
  out->thp = pages_thp_name(p->thp);
  memcpy(out->kernel_release, p->kernel_release, sizeof out->kernel_release);
  out->release_moves_by_auto = p->release_moves_by_auto;
  out->user_mode_only = p->user_mode_only;
  out->uffd_features = p->uffd_features;
  for (int i = 0; i < DOCTOR_OPENINGS; i++)
    item_fill(&out->openings[i], probe_opening_name((enum probe_opening)i), &p->openings[i]);
  fill_calls(p, out->calls);
  for (int i = 0; i < DOCTOR_MOVERS; i++)
    item_fill(&out->movers[i], probe_mover_name((enum probe_mover)i), &p->movers[i]);
  out->chosen = probe_mover_name(p->chosen);
  memcpy(out->chosen_text, p->chosen_text, sizeof out->chosen_text);
}

static void fill_costs(const struct probe_costs *c, doctor_report *out) {
  const doctor_cost costs[DOCTOR_COSTS] = {
      {"move_page_1", c->move_page_1},     {"move_page_16", c->move_page_16}, {"move_page_512", c->move_page_512},
      {"copy_page_1", c->copy_page_1},     {"copy_page_16", c->copy_page_16}, {"copy_page_512", c->copy_page_512},
      {"drop_page_512", c->drop_page_512}, {"move_huge", c->move_huge},       {"memcpy_page", c->memcpy_page},
      {"touch_page", c->touch_page},       {"syscall", c->syscall},           {"uffd_call", c->uffd_call},
      {"mprotect", c->mprotect},           {"fault_thread", c->fault_thread}, {"fault_signal", c->fault_signal},
  };
  memcpy(out->costs, costs, sizeof costs);
  out->calibration_ns = c->spent_ns;
}

int doctor_examine(bool calibrate, bool install_sigbus, doctor_report *out) {
  struct kernel kernel;
  struct probe probe;
  struct probe_costs costs;
  memset(out, 0, sizeof *out);
  memset(&costs, 0, sizeof costs);
  kernel_init(&kernel);
  probe_run(&kernel, &probe);
  fill_probe(&probe, out);
  int result = calibrate ? probe_calibrate(&kernel, &probe, install_sigbus, &costs) : 0;
  fill_costs(&costs, out);
  kernel_close(&kernel);
  return result == 0 ? GCH_OK : GCH_NO_MEMORY;
}
