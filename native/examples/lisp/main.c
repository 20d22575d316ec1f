/* A tiny Lisp. Build: cc *.c $(pkg-config --cflags --libs gcheap) */
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "../host_options.h"
#include "lisp.h"

enum { STACK_DEFAULT = 8 << 20, STACK_RESERVE = 256 << 10 };

struct options {
  struct host_options host;
  uint64_t stack_bytes;
  const char *script; /* NULL: standard input */
  gch_heap *heap;
};

static void usage(FILE *to) {
  fputs(
      "usage: lisp [--stack SIZE] [heap options: host_options.h] [SCRIPT]\n"
      "Evaluates the forms of SCRIPT, or of standard input. An error ends its form; the next one goes on.\n",
      to);
}

static void parse(struct options *o, char **argv) {
  host_options_init(&o->host);
  for (int i = 1; argv[i] != NULL; i++) {
    if (host_option(&o->host, argv, &i)) continue;
    if (strcmp(argv[i], "--help") == 0) {
      usage(stdout);
      exit(EXIT_SUCCESS);
    } else if (strcmp(argv[i], "--stack") == 0) {
      o->stack_bytes = option_size("--stack", argv[i + 1]);
      i++;
    } else if (argv[i][0] == '-' || o->script != NULL) {
      fprintf(stderr, "unknown option '%s'\n", argv[i]);
      usage(stderr);
      exit(EXIT_USAGE);
    } else {
      o->script = argv[i];
    }
  }
}

/* One form; false: it was the last. An error comes back to this function: nothing above it has a frame then. */
static bool run_form(struct lisp *l, struct reader *reader) {
  l->catch_frames = l->m->frames;
  if (setjmp(l->catch) != 0) {
    l->errors++;
    put_text(l, "error: ");
    put_text(l, l->error);
    put_char(l, '\n');
    return true;
  }
  value datum = read_datum(l, reader);
  if (is_constant(datum, END_OF_INPUT)) return false;
  value result = eval(l, datum, NULL);
  if (reader->prompt && !is_constant(result, UNSPECIFIED)) {
    print(l, result, true);
    put_char(l, '\n');
  }
  return true;
}

/* In a thread of its own, because its stack can be chosen. */
static void *run(void *data) {
  const struct options *o = data;
  static struct lisp lisp;
  static struct reader reader;
  gch_error error = {0};
  lisp.out = STDOUT_FILENO;
  lisp.concurrent = o->host.concurrent;
  lisp.stack_end = (char *)__builtin_frame_address(0) - (o->stack_bytes - STACK_RESERVE);
  reader = (struct reader){.in = o->script == NULL ? STDIN_FILENO : open(o->script, O_RDONLY), .line = 1};
  if (reader.in < 0) {
    fprintf(stderr, "cannot read '%s': %s\n", o->script, strerror(errno));
    return "failed";
  }
  if (!lisp_open(&lisp, o->heap, &error)) {
    fprintf(stderr, "no interpreter: %s\n", error.message);
    return "failed";
  }
  reader.prompt = isatty(reader.in);
  while (run_form(&lisp, &reader)) continue;
  flush_output(&lisp);
  lisp_close(&lisp); /* detaches: a mutator belongs to the thread that attached it */
  return NULL;
}

int main(int argc, char **argv) {
  (void)argc;
  struct options options = {.stack_bytes = STACK_DEFAULT};
  gch_error error = {0};
  pthread_t thread;
  pthread_attr_t attributes;
  void *failed = NULL;
  parse(&options, argv);
  if (options.stack_bytes < 2 * STACK_RESERVE) option_error("--stack", "less", "at least 512K");
  options.heap = host_heap(&options.host);
  pthread_attr_init(&attributes);
  int rc = pthread_attr_setstacksize(&attributes, (size_t)options.stack_bytes);
  if (rc == 0) rc = pthread_create(&thread, &attributes, run, &options);
  if (rc != 0) {
    fprintf(stderr, "no thread with a stack of %llu bytes: %s\n", (unsigned long long)options.stack_bytes,
            strerror(rc));
    return EXIT_FAILURE;
  }
  pthread_join(thread, &failed);
  pthread_attr_destroy(&attributes);
  if (failed == NULL && gch_heap_destroy(options.heap, &error) == GCH_OK) return EXIT_SUCCESS;
  if (failed == NULL) fprintf(stderr, "%s\n", error.message);
  return EXIT_FAILURE;
}
