/* What the machine leaves to the process, of files as kernels write them, and of this machine's. */
#include "os/machine.h"

#include <limits.h>
#include <sys/stat.h>

#include "base/units.h"
#include "kit.h"
#include "os/thread.h"

static char root[64];

/* A file with folders, in the tree that stands for a machine. */
static void put(const char *path, const char *text) {
  char name[PATH_MAX];
  snprintf(name, sizeof name, "%s/%s", root, path);
  for (char *at = name + strlen(root) + 1; (at = strchr(at, '/')) != NULL; *at++ = '/') {
    *at = 0;
    mkdir(name, 0755);
  }
  FILE *f = fopen(name, "w");
  if (!CHECK(f != NULL)) return;
  fputs(text, f);
  fclose(f);
}

static void begin(void) {
  strcpy(root, "/tmp/gcheap-machine-XXXXXX");
  CHECK(mkdtemp(root) != NULL);
  put("proc/meminfo", "MemTotal:        8388608 kB\nMemFree:           63748 kB\n");
}

static void end(void) {
  char command[96];
  snprintf(command, sizeof command, "rm -r %s", root);
  CHECK_EQ(system(command), 0);
}

static void expect(uint64_t bytes, const char *source) {
  struct machine_memory m;
  machine_memory_read(root, &m);
  CHECK_EQ(m.bytes, bytes);
  if (!CHECK(strcmp(m.source, source) == 0)) printf("    \"%s\"\n", m.source);
}

#define MOUNT_2 "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
#define MOUNT_1 "36 31 0:33 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
#define OTHERS \
  "23 1 8:1 / / rw - ext4 /dev/root rw\n32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"

static void without_groups(void) {
  begin();
  expect(8 * GIB, "the machine");
  put("proc/self/mountinfo", OTHERS);
  put("proc/self/cgroup", "1:cpu,cpuacct:/\n");
  expect(8 * GIB, "the machine");
  put("proc/meminfo", "no such line\n");
  expect(0, "");
  end();
}

static void version_2(void) {
  begin();
  put("proc/self/mountinfo", OTHERS MOUNT_2);
  put("proc/self/cgroup", "0::/user.slice/job\n");
  expect(8 * GIB, "the machine");
  put("sys/fs/cgroup/user.slice/job/memory.max", "max\n");
  expect(8 * GIB, "the machine");
  put("sys/fs/cgroup/user.slice/job/memory.max", "2147483648\n");
  expect(2 * GIB, "control group /user.slice/job (memory.max)");
  put("sys/fs/cgroup/user.slice/memory.max", "1073741824\n"); /* the one above allows less */
  expect(1 * GIB, "control group /user.slice (memory.max)");
  put("sys/fs/cgroup/user.slice/memory.max", "17179869184\n"); /* more than all there is */
  expect(2 * GIB, "control group /user.slice/job (memory.max)");
  put("sys/fs/cgroup/user.slice/job/memory.high", "536870912\n");
  expect(512 * MIB, "control group /user.slice/job (memory.high)");
  put("sys/fs/cgroup/memory.max", "4194304\n"); /* as in a namespace of groups */
  expect(4 * MIB, "control group / (memory.max)");
  end();
}

static void version_1(void) {
  begin();
  put("proc/self/mountinfo", OTHERS MOUNT_1 MOUNT_2);
  put("proc/self/cgroup", "5:devices:/x\n4:memory:/a/b\n1:name=systemd:/y\n0::/\n");
  put("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
  expect(8 * GIB, "the machine");
  put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "3221225472\n");
  expect(3 * GIB, "control group /a (memory.limit_in_bytes)");
  put("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "1048576\n");
  expect(1 * MIB, "control group /a/b (memory.limit_in_bytes)");
  end();
}

/* The mount shows a part of the hierarchy, under a path with a blank; or the process is outside of it. */
static void containers(void) {
  begin();
  put("proc/self/mountinfo", "40 30 0:33 /docker/cafe /my\\040groups ro - cgroup cgroup rw,xattr,memory\n");
  put("proc/self/cgroup", "4:memory:/docker/cafe/inner\n");
  put("my groups/memory.limit_in_bytes", "1073741824\n");
  put("my groups/inner/memory.limit_in_bytes", "536870912\n");
  expect(512 * MIB, "control group /inner (memory.limit_in_bytes)");
  put("proc/self/cgroup", "4:memory:/docker/cafe\n");
  expect(1 * GIB, "control group / (memory.limit_in_bytes)");
  put("proc/self/cgroup", "4:memory:/docker/cafeteria\n");
  expect(1 * GIB, "control group / (memory.limit_in_bytes)");
  put("proc/self/cgroup", "4:memory:/../../elsewhere\n");
  expect(1 * GIB, "control group / (memory.limit_in_bytes)");
  put("proc/self/cgroup", "4:memory:/docker/cafe/not/there/any/more\n");
  expect(1 * GIB, "control group / (memory.limit_in_bytes)");
  end();
}

/* Nothing of it is trusted. */
static void rubbish(void) {
  char text[3 * PATH_MAX];
  begin();
  put("proc/self/mountinfo", " - \n\n- - -\n" MOUNT_2);
  put("proc/self/cgroup", "::\n:\n\n0::/a\n");
  put("sys/fs/cgroup/a/memory.max", "-\n");
  expect(8 * GIB, "the machine");
  put("sys/fs/cgroup/a/memory.max", "");
  expect(8 * GIB, "the machine");
  put("sys/fs/cgroup/a/memory.max", "0\n"); /* nobody can live there: it says nothing */
  expect(8 * GIB, "the machine");
  memset(text, 'x', sizeof text);
  text[0] = text[5000] = '/', text[sizeof text - 1] = 0;
  put("proc/self/cgroup", text);
  expect(8 * GIB, "the machine");
  put("proc/self/mountinfo", text);
  expect(8 * GIB, "the machine");
  memcpy(text, "0::/", 4);
  text[200] = 0;
  put("proc/self/mountinfo", MOUNT_2);
  put("proc/self/cgroup", text);
  memmove(text + strlen("sys/fs/cgroup"), text + 3, 198);
  memcpy(text, "sys/fs/cgroup", strlen("sys/fs/cgroup"));
  strcat(text, "/memory.max");
  put(text, "1048576");
  expect(1 * MIB, "control group ...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx (memory.max)");
  end();
}

/* This machine says something that can be. */
static void here(void) {
  struct machine_memory m;
  machine_memory_read("", &m);
  uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
  printf("    %llu MiB: %s; share of the cache: %llu KiB\n", (unsigned long long)(m.bytes >> 20), m.source,
         (unsigned long long)(machine_cache_share("", thread_cpu_count()) >> 10));
  CHECK(m.bytes > 16 * MIB && m.bytes <= pages + pages / 8);
  CHECK(m.source[0] != 0);
}

static void cache(int index, const char *level, const char *type, const char *size, const char *shared) {
  const char *names[] = {"level", "type", "size", "shared_cpu_list"}, *texts[] = {level, type, size, shared};
  for (int i = 0; i < 4; i++) {
    char path[96];
    snprintf(path, sizeof path, "sys/devices/system/cpu/cpu0/cache/index%d/%s", index, names[i]);
    put(path, texts[i]);
  }
}

static void caches(void) {
  begin();
  CHECK_EQ(machine_cache_share(root, 2), 0);
  cache(0, "1\n", "Data\n", "32K\n", "0-1\n");
  CHECK_EQ(machine_cache_share(root, 2), 32 * KIB);
  cache(1, "1\n", "Instruction\n", "64K\n", "0-1\n");
  CHECK_EQ(machine_cache_share(root, 2), 32 * KIB);
  cache(2, "2\n", "Unified\n", "1024K\n", "0-1\n");
  cache(3, "3\n", "Unified\n", "32M\n", "0-3,8-10,15\n");
  CHECK_EQ(machine_cache_share(root, 2), 8 * MIB);
  CHECK_EQ(machine_cache_share(root, 8), 32 * MIB);
  CHECK_EQ(machine_cache_share(root, 64), 32 * MIB);
  cache(3, "3\n", "Unified\n", "what\n", "\n");
  CHECK_EQ(machine_cache_share(root, 1), 512 * KIB); /* the one before */
  end();
}

int main(void) {
  RUN(without_groups);
  RUN(version_2);
  RUN(version_1);
  RUN(containers);
  RUN(rubbish);
  RUN(here);
  RUN(caches);
  return CHECK_SUMMARY();
}
