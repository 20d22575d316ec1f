/* Making and unmaking a heap's memory: configuration, address space, tables, spaces. No threads. */
#ifndef HEAP_CREATE_H
#define HEAP_CREATE_H

#include "heap/heap.h"

gch_status heap_new(const gch_config *config, gch_heap **out, gch_error *error);
void heap_delete(gch_heap *heap);

#endif
