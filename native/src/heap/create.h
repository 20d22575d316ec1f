/* Making and unmaking a heap's memory: configuration, address space, tables, spaces. No threads. */
#ifndef HEAP_CREATE_H
#define HEAP_CREATE_H

#include "heap/heap.h"

/* `tight`: with as few addresses as it can do with, see heap/layout.h. */
gch_status heap_new(const gch_config *config, bool tight, gch_heap **out, gch_error *error);
void heap_delete(gch_heap *heap);
/* Fresh private memory in place of whatever a mover that could not be opened has mapped over the regions. Nothing lives there. */
gch_status heap_renew_regions(gch_heap *heap, gch_error *error);

#endif
