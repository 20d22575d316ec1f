/* Faults on missing memory: the handler thread, the signal handler, and workers that serve between batches.
 *
 *   thread mode   a touch of a missing page sleeps in the kernel; its message is read by a worker between batches, or by the
 *                 handler thread waiting in poll(), whoever is first; making the unit wakes the sleeper
 *   signal mode   the touch raises SIGBUS (SIGSEGV with `simulated`) in the thread itself, whose handler makes the unit (or waits for who is at it) and
 *                 returns; nothing is read. The handler runs with all signals blocked, takes BUS_ADRERR in ranges of our heaps
 *                 only, and chains everything else to what was installed before; also a touch of a gap, and one that nothing
 *                 of ours is in the way of: between moves, in a region where nothing is missing, for the second time
 *
 * Handlers of one signal are a chain, in the order in which they were installed, and each hands on to what it found. Ours
 * hands on whatever lies in no heap, and keeps to its place:
 *   the first heap that needs it puts it on top of what is there (`below`)
 *   a handler installed later is on top of ours, and it alone decides whether ours is reached: while it is there, majors
 *   work in the pause (faults_ready). Later heaps do not climb over it, since it may hand on to us, and a circle would have
 *   no end; over SIG_DFL and SIG_IGN, which hand on to nobody, they do
 *   the last heap puts `below` back if ours is on top; else ours stays, and hands everything on, until it is on top again
 *   and a heap is made and destroyed
 * Should the same handler be below and on top of ours all the same, the circle ends with the default action.
 *
 * Answers to a fault during a move, by the state of its block: ARMED: make it; BUSY: its owner is told to hurry, and its
 * publishing wakes who sleeps;
 * MAPPED: wake (a late message); NONE: a broken invariant. Between moves every message is late: wake. A signal is late, too,
 * if the touch succeeds when it is tried again. */
#ifndef GC_FAULTS_H
#define GC_FAULTS_H

#include "gc/batch.h"

/* Answering counts as being inside; a cycle reuses its tables, and the memory it has given back, only when everybody has
 * left (faults_drain, after the phase has become END). */
void faults_drain(gch_heap *heap);

gch_status faults_start(gch_heap *heap, gch_error *error);
void faults_stop(gch_heap *heap);
/* fork(): the lock of the signal handlers, of all heaps; in the child, the handler thread does not exist: its record goes. What
 * faults_start does next is to start it again. */
struct lock *faults_install_lock(void);
void faults_forget(gch_heap *heap);
/* A worker's, during a move: reads and answers what is there, the worker's batch published first; never blocks. */
void faults_serve(struct batch *batch);
/* Makes every unit of [from, to) MAPPED, if a move is going on. A mutator's; never sleeps in the kernel. */
void faults_ensure(gch_heap *heap, uintptr_t from, uintptr_t to);
/* Signals: false if somebody has replaced our handler; a cycle then falls back to the pause. Asked before the plan, and again in
 * the flip's pause. Thread mode: true. */
bool faults_ready(gch_heap *heap);
/* The calling thread may take SIGBUS (attach does this). */
void faults_unblock(gch_heap *heap);

#endif
