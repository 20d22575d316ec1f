/* Is a process still there? By its id and the moment of its start, because ids are used again. */
#ifndef GCH_OS_PROCESS_H
#define GCH_OS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* When it was started, in ticks since the machine was; 0: there is none, or /proc does not say. */
uint64_t process_start(uint32_t pid);
/* `start`: what process_start said then, 0: not known. What has ended and was not yet waited for is not there. */
bool process_is_there(uint32_t pid, uint64_t start);

#endif
