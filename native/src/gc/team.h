/* Teams: collector threads that wait for a job and do it together with whoever gives it. A heap has two, so that a minor
 * collection has its helpers while a major marks or moves beside mutators: one for pauses, one for jobs beside mutators.
 *
 *   IDLE --team_run (caller becomes worker 0)--> OPEN --caller has returned from it--> CLOSED --last helper too--> IDLE
 *
 * A job is one function, called once in each worker; it returns when there is nothing left to take. Helpers join while it
 * is open: one that the kernel puts on a CPU too late finds it closed, and nobody has waited for it. (A pause would last
 * until the next tick of the scheduler, 4 ms, else.) So a job may count on nobody but the caller, worker 0, and what
 * workers wait for among themselves they count by who came.
 *
 * Only one job at a time: a caller that finds its team busy works alone. A pause leaves a CPU to each worker that goes on
 * beside it (those that move; those that mark stand still).
 * Helpers block all signals and never touch heap memory outside a job. */
#ifndef GC_TEAM_H
#define GC_TEAM_H

#include "heap/heap.h"

enum { TEAM_MAX = 64 };
enum team_kind { TEAM_PAUSE, TEAM_BESIDE, TEAM_KINDS };

typedef void (*team_fn)(void *context, uint32_t worker, uint32_t workers);

gch_status team_start(gch_heap *heap, gch_error *error);
void team_stop(gch_heap *heap);
/* Runs fn(context, worker, workers) in the caller (worker 0) and in helpers that come in time; returns when all of them have
 * returned. */
void team_run(gch_heap *heap, team_fn fn, void *context);
/* The same beside mutators, with at most `workers`, the caller included. */
void team_run_beside(gch_heap *heap, team_fn fn, void *context, uint32_t workers);
/* fork(): the locks (NULL without a team); in the child, the teams' threads do not exist: their records go. */
struct lock *team_lock(gch_heap *heap, enum team_kind kind);
void team_forget(gch_heap *heap);
/* CPU time that helpers have used so far, ns: of both teams; of that of pauses. */
uint64_t team_cpu_ns(const gch_heap *heap);
uint64_t team_pause_cpu_ns(const gch_heap *heap);

#endif
