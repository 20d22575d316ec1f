/* What memory is really there, by the kernel's word: pages of a range (pagemap), flags of its mappings (smaps). */
#ifndef TESTS_PRESENCE_H
#define TESTS_PRESENCE_H

#include <fcntl.h>

#include "heap/small.h"
#include "kit.h"

/* Pages present, or swapped out, in [start, start + bytes). */
static inline uint64_t present_pages(uintptr_t start, uint64_t bytes) {
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), entries[512], found = 0;
  int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  for (uintptr_t at = start; fd >= 0 && at < start + bytes;) {
    uint64_t count = (start + bytes - at) / page < 512 ? (start + bytes - at) / page : 512;
    if (pread(fd, entries, count * 8, (off_t)(at / page * 8)) != (ssize_t)(count * 8)) break;
    for (uint64_t i = 0; i < count; i++) found += entries[i] >> 62 != 0;
    at += count * page;
  }
  if (fd >= 0) close(fd);
  return found;
}

/* Pages that are present in blocks of small objects of which the tables say that they are empty. */
static inline uint64_t hidden_pages(gch_heap *h) {
  uint64_t hidden = 0;
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    enum space_id space = h->layout.regions[r].space;
    if (space != SPACE_OLD && space != SPACE_LEAF) continue;
    uint32_t first = region_first_arena(h, r), count = (uint32_t)(h->config.max_bytes >> ARENA_SHIFT);
    for (size_t b = (size_t)first * ARENA_BLOCKS; b < (size_t)(first + count) * ARENA_BLOCKS; b++)
      if (!(h->tables.arenas[b / ARENA_BLOCKS].populated >> b % ARENA_BLOCKS & 1))
        hidden += present_pages(block_address(&h->layout, b), BLOCK_BYTES);
  }
  return hidden;
}

/* Pages that are missing in blocks, of small or large objects, of which the tables say that they are populated. */
static inline uint64_t absent_pages(gch_heap *h) {
  uint64_t absent = 0, each = BLOCK_BYTES / (uint64_t)sysconf(_SC_PAGESIZE);
  for (uint32_t r = 0; r < h->layout.region_count; r++) {
    enum space_id space = h->layout.regions[r].space;
    uint32_t first, count = space <= SPACE_LARGE_LEAF ? region_arenas(h, r, &first) : 0;
    for (size_t b = 0; b < (size_t)count * ARENA_BLOCKS; b++)
      if (at_load(&h->tables.arenas[first + b / ARENA_BLOCKS].populated) >> b % ARENA_BLOCKS & 1)
        absent += each - present_pages(block_address(&h->layout, (size_t)first * ARENA_BLOCKS + b), BLOCK_BYTES);
  }
  return absent;
}

/* Do all mappings in the range have the flag (two letters, see proc_pid_smaps(5))? False if there is none. */
static inline bool mapped_with(uintptr_t start, uint64_t bytes, const char *flag) {
  char line[512];
  unsigned long from = 0, to = 0;
  bool all = true, some = false;
  FILE *maps = fopen("/proc/self/smaps", "re");
  while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
    unsigned long a, b;
    if (sscanf(line, "%lx-%lx ", &a, &b) == 2) from = a, to = b;
    if (strncmp(line, "VmFlags:", 8) != 0 || to <= start || from >= start + bytes) continue;
    some = true;
    all = all && strstr(line + 8, flag) != NULL;
  }
  if (maps != NULL) fclose(maps);
  return some && all;
}

#endif
