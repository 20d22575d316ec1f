/* A cache server over a pipe, or its self-test. Build: cc *.c $(pkg-config --cflags --libs gcheap) */
#include <unistd.h>

#include "../host_options.h"
#include "server.h"

struct options {
  struct host_options host;
  uint64_t limit_bytes;
  unsigned threads, seconds;
  const char *after_save;
};

static void usage(FILE *to) {
  fputs(
      "usage: cache_server [--limit SIZE] [--after-save PROGRAM] [--selftest SECONDS [--threads N]]\n"
      "                    [heap options: host_options.h]\n"
      "Serves the protocol of server.h on its standard input and output.\n",
      to);
}

static void parse(struct options *o, char **argv) {
  host_options_init(&o->host);
  for (int i = 1; argv[i] != NULL; i++) {
    const char *option = argv[i];
    if (host_option(&o->host, argv, &i)) continue;
    if (strcmp(option, "--help") == 0) {
      usage(stdout);
      exit(EXIT_SUCCESS);
    } else if (strcmp(option, "--limit") == 0) {
      o->limit_bytes = option_size(option, argv[i + 1]);
    } else if (strcmp(option, "--after-save") == 0 && argv[i + 1] != NULL) {
      o->after_save = argv[i + 1];
    } else if (strcmp(option, "--selftest") == 0) {
      o->seconds = option_count(option, argv[i + 1], 1u << 20);
    } else if (strcmp(option, "--threads") == 0) {
      o->threads = option_count(option, argv[i + 1], 256);
    } else {
      fprintf(stderr, "unknown option '%s'\n", option);
      usage(stderr);
      exit(EXIT_USAGE);
    }
    i++;
  }
}

int main(int argc, char **argv) {
  (void)argc;
  struct options options = {.threads = 4};
  struct cache cache;
  gch_mutator *m = NULL;
  gch_error error = {0};
  parse(&options, argv);
  gch_heap *heap = host_heap(&options.host);
  gch_status status = gch_attach(heap, &m, &error);
  if (status == GCH_OK) status = cache_open(&cache, heap, m, options.limit_bytes, &error);
  if (status != GCH_OK) {
    fprintf(stderr, "no cache (%s): %s\n", gch_status_name(status), error.message);
    return EXIT_FAILURE;
  }
  const struct serving serving = {STDIN_FILENO, STDOUT_FILENO, options.host.concurrent, options.after_save};
  int result = options.seconds != 0 ? selftest(&cache, m, options.threads, options.seconds, options.host.concurrent)
                                    : serve(&cache, m, &serving);
  cache_close(&cache); /* its roots point into memory that is about to go */
  gch_detach(m);
  if (gch_heap_destroy(heap, &error) == GCH_OK) return result;
  fprintf(stderr, "%s\n", error.message);
  return EXIT_FAILURE;
}
