/* Producing units, whatever the size of pages: a block by itself, or the huge arena that it lies in. */
#ifndef GC_PRODUCE_ARENA_H
#define GC_PRODUCE_ARENA_H

#include "gc/produce.h"

/* Makes an ARMED unit, or has it made; false: somebody else is at it. It is MAPPED when the batch is published. `fault`: a
 * thread waits for it. */
bool produce_unit(struct batch *batch, size_t block, bool fault);
/* Makes a huge arena whole, or opens it, if nobody has done either. */
void produce_arena(struct batch *batch, size_t arena);
/* Makes a batch of what is left of each arena that was opened: they hold memory twice. True if there was something. */
bool produce_opened(struct batch *batch);
/* Makes the next few evacuated destinations that nobody has taken yet; false: there are none. */
bool produce_next(struct batch *batch);
/* Makes the unit of an address MAPPED, waiting for another owner if there is one. The batch is published first. */
enum ensured {
  ENSURED_NOT,    /* no unit of this cycle */
  ENSURED_MADE,   /* here */
  ENSURED_WAITED, /* by another, or it was MAPPED */
};
enum ensured produce_ensure(struct batch *batch, uintptr_t address, bool fault);

#endif
