/* What memory the process and the machine really have: samplers over /proc and cgroup files. See pages.h.
 *
 * These only read files, so they are not in the table of virtual-memory calls. None reads smaps. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/units.h"
#include "os/pages.h"

/* The whole of a small file as text; its length or a negative errno. */
static int read_text(const char *path, char *out, size_t bytes) {
  int saved = errno, result = 0;
  size_t used = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    result = -errno;
    errno = saved;
    return result;
  }
  while (used < bytes - 1) {
    ssize_t got = read(fd, out + used, bytes - 1 - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) result = -errno;
    if (got <= 0) break;
    used += (size_t)got;
  }
  (void)close(fd);
  out[used] = 0;
  errno = saved;
  return result < 0 ? result : (int)used;
}

/* The number after `key` at the beginning of a line, in KiB, as bytes; 0 if there is no such line. */
static uint64_t field_bytes(const char *text, const char *key) {
  size_t length = strlen(key);
  for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (strncmp(line, key, length) == 0) return strtoull(line + length, NULL, 10) * KIB;
  }
  return 0;
}

int pages_memory_read(struct pages_memory *out) {
  char text[8192];
  memset(out, 0, sizeof *out);
  int got = read_text("/proc/self/status", text, sizeof text);
  if (got < 0) return got;
  out->rss_anon_bytes = field_bytes(text, "RssAnon:");
  out->rss_shmem_bytes = field_bytes(text, "RssShmem:");
  out->rss_file_bytes = field_bytes(text, "RssFile:");
  out->pte_bytes = field_bytes(text, "VmPTE:");
  out->swap_bytes = field_bytes(text, "VmSwap:");
  out->peak_bytes = field_bytes(text, "VmHWM:");
  out->virtual_bytes = field_bytes(text, "VmSize:");
  return 0;
}

uint64_t pages_physical(const struct pages_memory *memory) {
  return memory->rss_anon_bytes + memory->rss_shmem_bytes + memory->pte_bytes;
}

int pages_peak_reset(void) {
  int saved = errno, result = 0;
  int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, "5", 1) != 1) result = -errno;
  if (fd >= 0) (void)close(fd);
  errno = saved;
  return result;
}

int pages_mem_free(uint64_t *bytes) {
  char text[8192];
  int got = read_text("/proc/meminfo", text, sizeof text);
  if (got < 0) return got;
  *bytes = field_bytes(text, "MemFree:");
  return 0;
}

/* --- cgroups ------------------------------------------------------------------------------------------- */
static int read_number_file(const char *path, uint64_t *out) {
  char text[64];
  int got = read_text(path, text, sizeof text);
  if (got < 0) return got;
  *out = strtoull(text, NULL, 10);
  return 0;
}

/* Whether the comma-separated list of controllers [list, end) holds `memory`. */
static bool has_memory_controller(const char *list, const char *end) {
  for (const char *at = list; at < end;) {
    size_t length = strcspn(at, ",:");
    if (length == 6 && strncmp(at, "memory", 6) == 0) return true;
    at += length + 1;
  }
  return false;
}

/* Reads the figure of the cgroup in one line of /proc/self/cgroup: "4:memory:/a/b" (v1) or "0::/a/b" (v2). Inside a
 * container the path may be relative to a mount that shows the cgroup as its root, so the root is tried as well. */
static int usage_of_line(char *line, uint64_t *bytes) {
  char path[4352];
  char *controllers = strchr(line, ':');
  char *folder = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
  if (folder == NULL) return -ENOENT;
  bool v2 = folder == controllers + 1;
  if (!v2 && !has_memory_controller(controllers + 1, folder)) return -ENOENT;
  const char *mount = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
  const char *file = v2 ? "memory.current" : "memory.usage_in_bytes";
  (void)snprintf(path, sizeof path, "%s%s/%s", mount, folder + 1, file);
  if (read_number_file(path, bytes) == 0) return 0;
  (void)snprintf(path, sizeof path, "%s/%s", mount, file);
  return read_number_file(path, bytes);
}

int pages_cgroup_usage(uint64_t *bytes) {
  char text[4096], *rest = text;
  int got = read_text("/proc/self/cgroup", text, sizeof text);
  if (got < 0) return got;
  while (rest != NULL) {
    char *line = strsep(&rest, "\n");
    if (usage_of_line(line, bytes) == 0) return 0;
  }
  return -ENOENT;
}

/* --- statm --------------------------------------------------------------------------------------------- */
int pages_statm_open(struct pages_statm *s) {
  int saved = errno;
  s->fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  int result = s->fd < 0 ? -errno : 0;
  errno = saved;
  return result;
}

int pages_statm_read(const struct pages_statm *s, struct pages_statm_sample *out) {
  char text[128], *at = text;
  int saved = errno;
  ssize_t got = pread(s->fd, text, sizeof text - 1, 0);
  int error = got < 0 ? -errno : -EIO;
  errno = saved;
  if (got <= 0) return error;
  text[got] = 0;
  uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
  out->virtual_bytes = strtoull(at, &at, 10) * page_bytes;
  out->resident_bytes = strtoull(at, &at, 10) * page_bytes;
  out->shared_bytes = strtoull(at, &at, 10) * page_bytes;
  return 0;
}

void pages_statm_close(struct pages_statm *s) {
  if (s->fd >= 0) (void)close(s->fd);
  s->fd = -1;
}
