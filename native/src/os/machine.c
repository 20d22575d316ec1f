#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/machine.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/units.h"

enum { LINE = 4096, CACHES = 16, SHOWN = 48 };

/* --- files ------------------------------------------------------------------------------------------------------ */

static FILE *open_in(const char *root, const char *folder, const char *name) {
  char path[2 * PATH_MAX];
  if ((size_t)snprintf(path, sizeof path, "%s%s/%s", root, folder, name) >= sizeof path) return NULL;
  return fopen(path, "re");
}

/* The first line of a file, without its end; false: there is none. */
static bool read_line(const char *root, const char *folder, const char *name, char *line, size_t bytes) {
  FILE *f = open_in(root, folder, name);
  if (f == NULL) return false;
  bool read = fgets(line, (int)bytes, f) != NULL;
  fclose(f);
  if (read) line[strcspn(line, "\n")] = 0;
  return read;
}

/* --- memory ----------------------------------------------------------------------------------------------------- */

static void note(struct machine_memory *m, uint64_t bytes, const char *source) {
  if (bytes == 0 || (m->bytes != 0 && bytes >= m->bytes)) return;
  m->bytes = bytes;
  snprintf(m->source, sizeof m->source, "%s", source);
}

static void note_machine(const char *root, struct machine_memory *m) {
  char line[LINE];
  unsigned long long kib = 0;
  FILE *f = open_in(root, "/proc", "meminfo");
  while (f != NULL && kib == 0 && fgets(line, sizeof line, f) != NULL) (void)sscanf(line, "MemTotal: %llu kB", &kib);
  if (f != NULL) fclose(f);
  note(m, kib * KIB, "the machine");
}

/* A hierarchy of control groups that counts memory: where it is mounted, what of it is, and where in it the process is. */
struct hierarchy {
  int version;
  char mount[PATH_MAX], root[PATH_MAX], own[PATH_MAX];
};

/* Is `word` one of the list with commas? */
static bool lists(const char *list, const char *word) {
  size_t n = strlen(word);
  for (const char *at = list; (at = strstr(at, word)) != NULL; at += n)
    if ((at == list || at[-1] == ',') && (at[n] == 0 || at[n] == ',' || at[n] == '\n')) return true;
  return false;
}

/* Blanks and backslashes in paths are written as \ooo. */
static void unescape(char *path) {
  char *to = path;
  for (const char *from = path; *from != 0; to++) {
    unsigned byte = 0;
    if (from[0] == '\\' && sscanf(from, "\\%3o", &byte) == 1 && byte != 0) {
      *to = (char)byte;
      from += 4;
    } else {
      *to = *from++;
    }
  }
  *to = 0;
}

static bool is_mount(const struct hierarchy *h, const char *type, const char *options) {
  return h->version == 2 ? strcmp(type, "cgroup2") == 0 : strcmp(type, "cgroup") == 0 && lists(options, "memory");
}

static bool find_mount(const char *root, struct hierarchy *h) {
  char line[3 * LINE], type[32], options[LINE];
  bool found = false;
  FILE *f = open_in(root, "/proc/self", "mountinfo");
  while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
    const char *rest = strstr(line, " - ");
    if (rest == NULL || sscanf(line, "%*s %*s %*s %4095s %4095s", h->root, h->mount) != 2) continue;
    found = sscanf(rest, " - %31s %*s %4095s", type, options) == 2 && is_mount(h, type, options);
  }
  if (f != NULL) fclose(f);
  unescape(h->root);
  unescape(h->mount);
  return found;
}

static bool find_own(const char *root, struct hierarchy *h) {
  char line[LINE + PATH_MAX];
  bool found = false;
  FILE *f = open_in(root, "/proc/self", "cgroup");
  while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
    char *controllers = strchr(line, ':'), *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (path == NULL) continue;
    *path++ = 0;
    controllers++;
    if (h->version == 2 ? *controllers != 0 : !lists(controllers, "memory")) continue;
    path[strcspn(path, "\n")] = 0;
    found = snprintf(h->own, sizeof h->own, "%s", path) < (int)sizeof h->own;
  }
  if (f != NULL) fclose(f);
  return found;
}

/* What of the process's own path is below the mount. In a container the mount may show the container's group as its root, or the
 * process may be outside of what is mounted: then there is only the mount itself. */
static const char *below_mount(const struct hierarchy *h) {
  size_t n = strcmp(h->root, "/") == 0 ? 0 : strlen(h->root);
  if (strncmp(h->own, h->root, n) != 0 || (h->own[n] != 0 && h->own[n] != '/') || strstr(h->own, "..") != NULL)
    return "";
  return strcmp(h->own + n, "/") == 0 ? "" : h->own + n;
}

static void note_limit(const char *root, const struct hierarchy *h, const char *group, const char *file,
                       struct machine_memory *m) {
  char folder[2 * PATH_MAX], line[64], source[sizeof m->source], *end;
  snprintf(folder, sizeof folder, "%s%s", h->mount, group);
  if (!read_line(root, folder, file, line, sizeof line)) return;
  uint64_t bytes = strtoull(line, &end, 10); /* "max" is no number: no limit */
  if (end == line) return;
  size_t length = strlen(group), cut = length > SHOWN ? length - SHOWN : 0;
  snprintf(source, sizeof source, "control group %s%.*s (%s)", cut != 0 ? "..." : "", SHOWN,
           length != 0 ? group + cut : "/", file);
  note(m, bytes, source);
}

/* The process's group and those above it. */
static void note_groups(const char *root, int version, struct machine_memory *m) {
  struct hierarchy h = {.version = version};
  char group[PATH_MAX];
  if (!find_mount(root, &h) || !find_own(root, &h)) return;
  snprintf(group, sizeof group, "%s", below_mount(&h));
  for (;;) {
    if (version == 2) {
      note_limit(root, &h, group, "memory.max", m);
      note_limit(root, &h, group, "memory.high", m); /* beyond, the kernel holds the process up */
    } else {
      note_limit(root, &h, group, "memory.limit_in_bytes", m);
    }
    char *last = strrchr(group, '/');
    if (last == NULL) break;
    *last = 0;
  }
}

void machine_memory_read(const char *root, struct machine_memory *out) {
  *out = (struct machine_memory){0};
  note_machine(root, out);
  note_groups(root, 1, out);
  note_groups(root, 2, out);
}

/* --- caches ----------------------------------------------------------------------------------------------------- */

/* Of a list such as 0-3,8: how many. */
static uint32_t count_listed(const char *list) {
  uint32_t count = 0;
  for (const char *at = list; *at >= '0' && *at <= '9';) {
    char *end;
    unsigned long first = strtoul(at, &end, 10), last = first;
    if (*end == '-') last = strtoul(end + 1, &end, 10);
    if (last >= first) count += (uint32_t)(last - first + 1);
    at = *end == ',' ? end + 1 : end;
  }
  return count;
}

/* A cache of the first CPU; its level, 0: there is none of the number, or it holds no data. */
static unsigned long read_cache(const char *root, int number, uint64_t *bytes, uint32_t *shared) {
  char folder[64], text[LINE], unit = 0;
  unsigned long long size = 0;
  snprintf(folder, sizeof folder, "/sys/devices/system/cpu/cpu0/cache/index%d", number);
  if (read_line(root, folder, "type", text, sizeof text) && strcmp(text, "Instruction") == 0) return 0;
  if (!read_line(root, folder, "size", text, sizeof text) || sscanf(text, "%llu%c", &size, &unit) < 1) return 0;
  *bytes = size * (unit == 'M' ? MIB : unit == 'K' ? KIB : 1);
  *shared = read_line(root, folder, "shared_cpu_list", text, sizeof text) ? count_listed(text) : 0;
  return read_line(root, folder, "level", text, sizeof text) ? strtoul(text, NULL, 10) : 0;
}

uint64_t machine_cache_share(const char *root, uint32_t cpus) {
  unsigned long last = 0;
  uint64_t bytes = 0;
  uint32_t shared = 0;
  for (int i = 0; i < CACHES; i++) {
    uint64_t size = 0;
    uint32_t by = 0;
    unsigned long level = read_cache(root, i, &size, &by);
    if (level <= last) continue;
    last = level;
    bytes = size;
    shared = by;
  }
  return shared > cpus ? bytes / shared * cpus : bytes;
}
