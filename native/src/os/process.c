#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { STATE = 0, START = 19 }; /* fields of /proc/PID/stat behind the name */

/* What follows the name in parentheses, which may hold anything; false: no such process, or no /proc. */
static bool read_stat(uint32_t pid, char *out, size_t bytes) {
  char path[32], text[1024];
  snprintf(path, sizeof path, "/proc/%u/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return false;
  text[n] = 0;
  const char *end = strrchr(text, ')');
  if (end == NULL || end[1] != ' ') return false;
  snprintf(out, bytes, "%s", end + 2);
  return true;
}

static uint64_t start_in(const char *stat) {
  for (int i = 0; i < START; i++) {
    stat = strchr(stat, ' ');
    if (stat == NULL) return 0;
    stat++;
  }
  return strtoull(stat, NULL, 10);
}

uint64_t process_start(uint32_t pid) {
  char stat[1024];
  return read_stat(pid, stat, sizeof stat) ? start_in(stat) : 0;
}

bool process_is_there(uint32_t pid, uint64_t start) {
  char stat[1024];
  if (pid == 0 || pid > INT32_MAX || (kill((pid_t)pid, 0) < 0 && errno != EPERM)) return false;
  if (!read_stat(pid, stat, sizeof stat)) return true; /* it may be hidden from us */
  if (stat[STATE] == 'Z' || stat[STATE] == 'X') return false;
  uint64_t now = start_in(stat);
  return start == 0 || now == 0 || now == start;
}
