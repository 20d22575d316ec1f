/* The team (gc/team.h): a job is done whether helpers come or not, nobody joins one that has ended, and who joined is
 * waited for. */
#include "gc/team.h"

#include "kit.h"
#include "os/thread.h"

enum { ITEMS = 1000, JOBS = 2000 };

struct job {
  uint64_t next, sum; /* [atomic] */
  uint32_t entered, left, workers, together; /* [atomic]; together: wait for so many */
  uint32_t twice; /* [atomic] some worker was called twice */
  uint32_t came[TEAM_MAX + 1]; /* [atomic] */
  bool ended;
};

static void work(void *context, uint32_t worker, uint32_t workers) {
  struct job *job = context;
  CHECK(!at_load(&job->ended));
  CHECK(worker < workers);
  if (at_add(&job->came[worker], 1) != 0) at_store(&job->twice, 1);
  at_add(&job->entered, 1);
  for (uint32_t spins = 0; at_load(&job->entered) < job->together && spins < 1000000; spins++) thread_yield();
  for (uint64_t i; (i = at_add(&job->next, 1)) < ITEMS;) at_add(&job->sum, i);
  at_add(&job->left, 1);
}

static bool run(gch_heap *h, struct job *job, uint32_t workers) {
  team_run_beside(h, work, job, workers);
  job->ended = true;
  return CHECK_EQ(at_load(&job->entered), at_load(&job->left)) && CHECK_EQ(job->sum, ITEMS * (ITEMS - 1) / 2) &&
         CHECK(!job->twice) && CHECK_EQ(job->came[0], 1);
}

/* One job after the other: most helpers come to some of them only. */
static void short_jobs(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_SIMULATED, 16, 256);
  c.gc_threads = 6;
  if (!kit_open(&k, &c)) return;
  static struct job jobs[JOBS]; /* apart: a late one would be seen */
  memset(jobs, 0, sizeof jobs);
  for (int i = 0; i < JOBS; i++)
    if (!run(k.heap, &jobs[i], (uint32_t)i % 7 + 1)) break;
  for (int i = 0; i < JOBS; i++)
    for (uint32_t w = (uint32_t)i % 7 + 1; w <= TEAM_MAX; w++)
      if (!CHECK_EQ(jobs[i].came[w], 0)) return;
  kit_close(&k);
}

/* All come, if they are given the time; and no more than were asked for. */
static void all_come(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_SIMULATED, 16, 256);
  c.gc_threads = 4;
  if (!kit_open(&k, &c)) return;
  for (uint32_t workers = 1; workers <= 5; workers++) {
    struct job job = {.together = workers < 4 ? workers : 4};
    if (!run(k.heap, &job, workers)) break;
    CHECK_EQ(job.entered, job.together);
  }
  kit_close(&k);
}

static uint32_t inner_workers;

static void alone(void *context, uint32_t worker, uint32_t workers) {
  (void)context, (void)worker;
  at_add(&inner_workers, workers);
}

static void nested(void *context, uint32_t worker, uint32_t workers) {
  (void)workers;
  if (worker == 0) team_run(context, alone, NULL);
}

/* Who finds the team busy works alone. */
static void busy(void) {
  struct kit k;
  gch_config c = kit_config(GCH_MOVER_SIMULATED, 16, 256);
  c.gc_threads = 4;
  if (!kit_open(&k, &c)) return;
  team_run(k.heap, nested, k.heap);
  CHECK_EQ(inner_workers, 1);
  kit_close(&k);
}

int main(void) {
  RUN(short_jobs);
  RUN(all_come);
  RUN(busy);
  return CHECK_SUMMARY();
}
