/* What this machine allows, in plain structs: os/probe.h for `gcheap doctor` and for the machine part of results. */
#ifndef PYTHON_DOCTOR_H
#define PYTHON_DOCTOR_H

#ifndef GCHEAP_CDEF
#include <stdbool.h>
#include <stdint.h>
#endif

#define DOCTOR_OPENINGS 4
#define DOCTOR_CALLS 11
#define DOCTOR_MOVERS 4
#define DOCTOR_COSTS 15

/* One capability: its name, whether it works, the errno if not (0: not tried), a sentence. */
typedef struct doctor_item {
  const char *name;
  bool works;
  int error;
  char text[160];
} doctor_item;

/* Median cost of one operation; 0: could not be measured here. */
typedef struct doctor_cost {
  const char *name;
  double ns;
} doctor_cost;

typedef struct doctor_report {
  uint64_t page_bytes;
  uint64_t huge_bytes;
  uint32_t cpus;
  const char *thp;          /* huge-page policy: never, madvise, always, unknown */
  char kernel_release[65];
  bool release_moves_by_auto; /* UFFDIO_MOVE's early bugs are fixed in this kernel */
  bool user_mode_only;
  uint64_t uffd_features;   /* UFFD_FEATURE_* bits; 0: no way to open works */
  doctor_item openings[DOCTOR_OPENINGS];
  doctor_item calls[DOCTOR_CALLS];
  doctor_item movers[DOCTOR_MOVERS];
  const char *chosen;
  char chosen_text[160];
  doctor_cost costs[DOCTOR_COSTS];
  uint64_t calibration_ns;  /* 0: costs were not measured */
} doctor_report;

/* Tries every call, a few ms; with `calibrate` measures costs too, about 25 ms. `install_sigbus`: may replace the
 * process's SIGBUS action meanwhile, to measure faults answered there. GCH_OK or GCH_NO_MEMORY. */
int doctor_examine(bool calibrate, bool install_sigbus, doctor_report *out);

#endif
