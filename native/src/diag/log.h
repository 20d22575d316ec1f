/* The log: a line a collection, for people (text) or for programs (JSON). Fields and grammar: docs/traces.md.
 *
 *   log   ::= target | target "," target        GCHEAP_LOG, or gch_config.log
 *   target ::= ["text:" | "json:"] where        text without a prefix
 *   where ::= "stderr" | "stdout" | a path with a slash in it (appended to, made with mode 0600)
 *
 * All else is refused when the heap is made, in words that name it; a word without a slash is more likely a slip than a file.
 * Lines of JSON are of gcheap/schema/log-1.json: fields may be added, none changes its meaning without another number. Lines of
 * text may change.
 *
 * A line is one write(2) of less than PIPE_BUF bytes to a descriptor that appends, so lines of heaps and processes do not mix. It
 * is written by who drove the collection, after the pause, without locks (heap/diary.h). What cannot be written is lost, and nothing
 * is said about it: SIGPIPE is kept from the host, a full disk or a pipe that nobody reads costs lines. (One that is full and
 * blocks holds the driver up until it is read.) The child of fork() goes on with the same descriptors, as its own pid. */
#ifndef DIAG_LOG_H
#define DIAG_LOG_H

#include "heap/heap.h"

/* Opens what is asked for; nothing without. GCH_BAD_VALUE: names the value. */
gch_status log_open(gch_heap *heap, gch_error *error);
void log_close(gch_heap *heap);

#endif
