/* The event ring in a file that other processes read: its layout, its making and its end.
 *
 *   none --asked for--> MAKING (no magic: readers refuse it) --complete--> OPEN --heap destroyed--> CLOSED, unlinked
 *                                                                            '--process ends otherwise--> stays: a flight recorder
 *
 * Who asks: gch_config.ring_path, else GCHEAP_RING. "" is off, "auto" the user's folder ($XDG_RUNTIME_DIR/gcheap, or
 * /tmp/gcheap-UID where there is none), an existing folder one file a heap in it (PID-N.ring), all else the path of a file that
 * must not exist. A file is made with O_EXCL and mode 0600, its memory allocated before it is mapped (a store into a hole of a
 * full filesystem would be a SIGBUS in the host), and populated (no pause waits for a page of it; on a filesystem that is no
 * tmpfs the kernel may write it out, and a store then waits for that). What stands in the way is an error that names the path:
 * no heap is made without the file that was asked for. In a folder the files of processes that are gone are thinned out: the last
 * sixteen stay.
 *
 * Layout, all of it in 8-byte words of the machine:
 *
 *   header | events (a ring, base/ring.h) | live: stamp, gch_ring_live (seqlock) | map: stamp, count, unlisted, arenas (seqlock)
 *
 * Who writes what: the header who makes it, but `next` (every writer of events) and `closed` (who destroys the heap); live and
 * map the sampler (gc/sampler.h), and nobody else: mutators' and collector's paths know nothing of the file but that the ring's
 * slots lie in it. Readers map it read-only and write nothing, so the process never waits for one.
 *
 * fork(): the file is the parent's. The child, before anything of it runs, maps a ring of its own: in a new file where the place
 * is a folder, else (or if that is refused) in private memory; events so far are copied. A bare clone shares it, but has no heap.
 * Failures in the parent: none after creation. If somebody truncates the file, the next event in the cut-off part is a SIGBUS;
 * only the same user and root can. */
#ifndef HEAP_RING_FILE_H
#define HEAP_RING_FILE_H

#include <gcheap/ring.h>
#include "base/ring.h"
#include "heap/heap.h"

#define RING_FILE_MAGIC "GCHRING\n"

struct ring_file_header {
  char magic[8]; /* the last to be written */
  uint32_t version, header_bytes;
  uint64_t file_bytes;
  uint64_t slots_offset, capacity; /* of events */
  uint64_t live_offset, live_bytes; /* of the record, without its stamp */
  uint64_t map_offset, map_capacity;
  gch_ring_info info;
  uint64_t pad[19];
  uint64_t next; /* [atomic] sequence number of the next event */
  uint64_t closed; /* [atomic] 1: the heap was destroyed */
  uint64_t more_pad[6];
};
_Static_assert(sizeof(gch_ring_info) == 96 && sizeof(struct ring_file_header) == 384,
               "the layout is that of version 1");
_Static_assert(offsetof(struct ring_file_header, next) % 64 == 0, "written often: a line of its own");
_Static_assert(sizeof(gch_arena_info) == 8 && sizeof(gch_ring_live) % 8 == 0, "copied by words");

enum { RING_MAP_MAX = 1 << 20, RING_EVENTS_MAX = 1 << 24, RING_LIVE_MAX = 1 << 16, RING_PATH_MAX = 256 };

/* Behind the stamp of the map. */
struct ring_file_map {
  uint64_t stamp;    /* [seqlock] */
  uint64_t count;    /* entries */
  uint64_t unlisted; /* arenas for which there was no room */
  gch_arena_info arenas[];
};

struct ring_file {
  struct ring_file_header *header; /* [const] the mapping */
  uint64_t device, inode;          /* [const] of the file: what lies at `path` later may be another */
  char folder[RING_PATH_MAX];      /* [const] "": the path was given */
  char path[RING_PATH_MAX + 32];   /* [const] */
};

/* Where the heap's events go: into memory of its own, or into a file if that is asked for. Sets up heap->ring. */
gch_status ring_file_init(gch_heap *heap, gch_error *error);
/* Removes the file. Nobody writes events any more. */
void ring_file_destroy(gch_heap *heap);
/* In the child of fork(), first of all. Not GCH_OK: there is no memory for events, and the heap is not to be used. */
gch_status ring_file_inherit(gch_heap *heap, gch_error *error);

static inline uint64_t *ring_file_live(const struct ring_file *f) {
  return (uint64_t *)(void *)((char *)f->header + f->header->live_offset);
}
static inline struct ring_file_map *ring_file_map(const struct ring_file *f) {
  return (struct ring_file_map *)(void *)((char *)f->header + f->header->map_offset);
}

#endif
