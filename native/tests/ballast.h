/* Weight for a long run: objects of which only their place is known, and what they must look like by it.
 *
 * A table of `count` slots. The object of a slot has a number that says slot and generation, refers to itself and to the table,
 * and is filled by the number; so it is checked without a shadow, and a gigabyte of them costs 4 bytes each outside the heap. */
#ifndef TESTS_BALLAST_H
#define TESTS_BALLAST_H

#include "model.h"

enum { BALLAST_LARGE_ONE_IN = 300, BALLAST_LARGE_BYTES = 60000, BALLAST_SMALL_BYTES = 1600, BALLAST_MEAN_BYTES = 970 };

struct ballast {
  struct model *model; /* its mutator and types */
  gch_ref table[1];
  gch_frame frame;
  uint32_t *generations; /* by slot; 0: empty */
  uint64_t count, full;  /* slots; allocations that found no room */
};

static inline uint64_t ballast_number(const struct ballast *b, uint64_t slot) {
  return slot << 32 | b->generations[slot];
}

static inline uint64_t ballast_bytes(uint64_t number) {
  uint64_t x = number * 0x9e3779b97f4a7c15u >> 20;
  return x % BALLAST_LARGE_ONE_IN == 0 ? 9000 + x / 1000 % BALLAST_LARGE_BYTES : x / 1000 % BALLAST_SMALL_BYTES;
}

static inline uint8_t ballast_byte(uint64_t number, uint64_t i) { return (uint8_t)(number * 31 + (number >> 32) + i); }

static inline bool ballast_open(struct ballast *b, struct model *model, uint64_t bytes) {
  *b = (struct ballast){.model = model, .count = bytes / BALLAST_MEAN_BYTES + 1};
  b->generations = calloc(b->count, sizeof *b->generations);
  b->table[0] = gch_alloc_array(model->m, model->types[MODEL_ARRAY], b->count);
  gch_frame_push(model->m, &b->frame, b->table, 1);
  return b->generations != NULL && b->table[0] != NULL;
}

static inline void ballast_close(struct ballast *b) {
  free(b->generations);
  gch_frame_pop(b->model->m);
}

/* MODEL_MIXED: number at 8, references at 16 and 24, bytes from 32. The bytes at both ends and some between are written. */
static inline void ballast_put(struct ballast *b, uint64_t slot) {
  gch_mutator *m = b->model->m;
  b->generations[slot]++;
  uint64_t number = ballast_number(b, slot), bytes = ballast_bytes(number);
  gch_ref o = gch_alloc_array(m, b->model->types[MODEL_MIXED], bytes);
  if (o == NULL) {
    b->full++;
    b->generations[slot] = 0;
    gch_set(m, b->table[0], 16 + 8 * slot, NULL);
    return;
  }
  *model_id_slot(o) = number;
  gch_set(m, o, 16, o);
  gch_set(m, o, 24, b->table[0]);
  for (uint64_t i = 0; i < bytes; i += 1 + i / 8) ((uint8_t *)(void *)o)[32 + i] = ballast_byte(number, i);
  gch_set(m, b->table[0], 16 + 8 * slot, o);
}

static inline bool ballast_is_right(const struct ballast *b, uint64_t slot) {
  gch_ref o = gch_load(b->table[0], 16 + 8 * slot);
  uint64_t number = ballast_number(b, slot), bytes = ballast_bytes(number);
  if (b->generations[slot] == 0 || o == NULL) return b->generations[slot] == 0 && o == NULL;
  if (*model_id_slot(o) != number || gch_length(b->model->heap, o) != bytes) return false;
  if (gch_load(o, 16) != o || gch_load(o, 24) != b->table[0]) return false;
  for (uint64_t i = 0; i < bytes; i += 1 + i / 8)
    if (((const uint8_t *)(const void *)o)[32 + i] != ballast_byte(number, i)) return false;
  return true;
}

/* One object is looked at, and every other time replaced. False: it was not what it must be. */
static inline bool ballast_step(struct ballast *b) {
  uint64_t random = model_random(b->model), slot = random % b->count;
  bool right = ballast_is_right(b, slot);
  if (random >> 40 & 1) ballast_put(b, slot);
  gch_safepoint(b->model->m);
  return right;
}

/* The first slot whose object is wrong, or `count`. */
static inline uint64_t ballast_check(const struct ballast *b, uint64_t step) {
  for (uint64_t slot = 0; slot < b->count; slot += step)
    if (!ballast_is_right(b, slot)) return slot;
  return b->count;
}

#endif
