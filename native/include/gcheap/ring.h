/* Looking at a heap from another process: its events, its figures and a map of its memory lie in a file that the heap's
 * process writes (gch_config.ring_path) and others map to read. Needs nothing of that process but the file. */
#ifndef GCHEAP_RING_H
#define GCHEAP_RING_H

#include "gcheap/events.h"
#include "gcheap/stats.h"
#include "gcheap/types.h"

/* Of the file: others are refused. */
#define GCH_RING_VERSION 1

/* A ring file opened for reading. For one thread at a time. */
typedef struct gch_ring gch_ring;

/* What does not change. Times in ns, all of one moment when the heap was made: with them what is CLOCK_MONOTONIC (events) can be
 * placed on the other clocks. */
typedef struct gch_ring_info {
  uint32_t version; /* GCH_RING_VERSION */
  uint32_t pid;
  uint64_t
      process_start; /* of that process, in ticks since the machine was started (/proc/PID/stat, field 22); 0: unknown */
  uint64_t monotonic_ns;
  uint64_t realtime_ns;
  uint64_t boottime_ns;
  uint64_t event_capacity;
  uint64_t base; /* the lowest address of the heap */
  uint64_t span; /* addresses it has reserved, in bytes */
  uint32_t page_bytes;
  uint32_t block_bytes;
  uint32_t arena_bytes;
  uint32_t map_capacity; /* arenas that the map can list */
  char library[16]; /* gch_version() there */
} gch_ring_info;

typedef enum gch_ring_state {
  GCH_RING_OPEN = 0, /* the heap is in use */
  GCH_RING_CLOSED, /* it was destroyed (its file is gone; what was read stays readable) */
  GCH_RING_DEAD, /* its process has ended without destroying it: what is there is the last that it did */
  GCH_RING_TRUNCATED, /* somebody has cut the file off: nothing can be read any more */
  GCH_RING_STATE_COUNT
} gch_ring_state;

/* A sample. It is taken about ten times a second, by a thread of the heap's process that does nothing else. */
typedef struct gch_ring_live {
  uint64_t time; /* CLOCK_MONOTONIC, when it was taken; 0: none yet */
  uint64_t phase; /* gch_phase of the running major */
  gch_stats stats; /* as gch_stats_get would have said then */
} gch_ring_live;

/* An arena (2 MiB) that has memory. */
typedef struct gch_arena_info {
  uint32_t arena; /* (its address - base) / arena_bytes */
  uint8_t space; /* 0 old, 1 large, 2 leaf, 3 large leaf, 4 young */
  uint8_t populated; /* blocks with memory, of 32; of large objects: what they take, rounded up */
  uint8_t
      live; /* blocks' worth of live objects by the last finished major, rounded up; 255: not known (young, or new) */
  uint8_t huge; /* 1: a huge page */
} gch_arena_info;

/* Opens a ring file. GCH_BAD_VALUE: it cannot be opened, is none, is of another version, of another user (unless ours is root),
 * or its header says what cannot be; the message names the path and says which. */
GCH_API gch_status gch_ring_open(const char *path, gch_ring **out, gch_error *error);
GCH_API void gch_ring_close(gch_ring *ring);

/* `bytes` is sizeof(gch_ring_info) of the caller. */
GCH_API void gch_ring_info_get(const gch_ring *ring, gch_ring_info *out, size_t bytes);
GCH_API gch_ring_state gch_ring_state_get(const gch_ring *ring);
/* As gch_events_read. Once the process is dead, events that it had not finished writing count as lost. */
GCH_API size_t gch_ring_events(gch_ring *ring, uint64_t *sequence, gch_event *out, size_t capacity, uint64_t *lost);
/* The latest sample; `bytes` is sizeof(gch_ring_live) of the caller. False: there is none that could be read whole. */
GCH_API bool gch_ring_live_get(gch_ring *ring, gch_ring_live *out, size_t bytes);
/* Copies at most `capacity` arenas to `out`, by address; returns how many the map lists. *unlisted (may be NULL): arenas that it had no
 * room for. */
GCH_API size_t gch_ring_map(gch_ring *ring, gch_arena_info *out, size_t capacity, uint64_t *unlisted);

#endif
