/* What the machine leaves to the process: memory, and the cache that its CPUs share. Asked when a heap is made; memory is
 * allocated for it, files are read.
 *
 * `root` is "" for this machine; tests have a folder with a tree of files like it. */
#ifndef GCH_OS_MACHINE_H
#define GCH_OS_MACHINE_H

#include <stdint.h>

struct machine_memory {
  uint64_t bytes; /* 0: nothing says */
  char source[96]; /* whose: "the machine", "control group /a/b (memory.max)" */
};

/* The least of the machine's memory and of what each control group around the process allows, of version 1 or 2, its own and all
 * those above it that can be seen. */
void machine_memory_read(const char *root, struct machine_memory *out);

/* The process's share of the last-level cache: all of it, or the part of its CPUs if others have the rest; 0: nothing says. */
uint64_t machine_cache_share(const char *root, uint32_t cpus);

#endif
