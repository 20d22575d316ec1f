/* The order of locks: a thread takes them in ascending rank only (checked in GCH_VERIFY builds). */
#ifndef BASE_RANKS_H
#define BASE_RANKS_H

enum lock_rank {
  RANK_CONTROLLER = 5, /* requests for concurrent cycles */
  RANK_CYCLE = 10,    /* collections, one at a time; a mutator waits for it in native state */
  RANK_MUTATORS = 20, /* list of mutators; held for the length of every pause: attach and detach wait it out */
  RANK_WORLD = 30,    /* waking who waits for a stop or a resume */
  RANK_TEAM = 40,     /* collector threads, of pauses and (one more) beside mutators: giving and finishing a job */
  RANK_WATCHDOG = 50, /* its waking and its end; the sampler's likewise */
  RANK_TYPES = 55,
  RANK_SPACE = 60,    /* free blocks of a space */
  RANK_LARGE = 70,
  RANK_YOUNG = 75,
  RANK_FRAMES = 80,
  RANK_FINALIZERS = 85,
  RANK_PINS = 90,
  RANK_MEASURES = 95, /* reports of cycles; held to copy one */
};

#endif
