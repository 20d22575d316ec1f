/* The shadow of model.h: records of objects, and what is done to objects and records at once. */
#ifndef TESTS_MODEL_OBJECTS_H
#define TESTS_MODEL_OBJECTS_H

#include <gcheap/gcheap.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heap/heap.h"
#include "object/header.h"

enum { MODEL_ROOTS = 96, MODEL_KINDS = 5, MODEL_HANDLES = 24, MODEL_PINS = 6, MODEL_WORDS = 5, MODEL_CELLS = 32 };
enum model_kind { MODEL_NODE, MODEL_ARRAY, MODEL_BYTES, MODEL_MIXED, MODEL_TAGGED };

struct model_object {
  uint32_t kind, count; /* reference slots, or bytes */
  uint32_t visited;
  uint32_t hash;  /* identity hash, 0: never asked for */
  uint32_t finalizers; /* registered */
  bool back; /* a finalizer has given it back, or what refers to it: others may, though it is reachable by then */
  uint32_t *refs; /* ids, 0: null */
  uint64_t born; /* minors before it */
  uint64_t majors, promotions; /* before it */
};

/* What is checked of ages. */
enum model_ages {
  MODEL_AGES_NONE,
  MODEL_AGES_NEAR, /* what is young has survived what its block says, give or take one; who else collects is one thread */
  MODEL_AGES_YOUNG, /* exactly that, and not too much; collections are ours */
  MODEL_AGES_ALL, /* and what is old is old for a reason; survivors find room */
};

/* A weak reference or (with a value) an ephemeron; its object is in a frame. */
struct model_cell {
  uint32_t id, value; /* 0: cleared; 0: weak */
  bool ephemeron;
};

struct model {
  gch_heap *heap;
  gch_mutator *m;
  uint64_t token; /* of its finalizers; no other model has it */
  const gch_type *types[MODEL_KINDS];
  struct model_object *objects; /* by id, 1.. */
  uint32_t count, capacity, round;
  uint32_t roots[MODEL_ROOTS]; /* ids */
  gch_ref slots[MODEL_ROOTS];
  gch_frame frame;
  gch_handle handles[MODEL_HANDLES];
  uint32_t handle_ids[MODEL_HANDLES]; /* 0: no handle */
  gch_ref pins[MODEL_PINS];
  uint32_t pin_ids[MODEL_PINS]; /* 0: nothing pinned */
  struct model_cell cells[MODEL_CELLS];
  gch_ref cell_slots[MODEL_CELLS];
  gch_frame cell_frame;
  uint64_t cleared, finalized; /* cells that were found to be, objects that came back */
  const char *wrong; /* what was found wrong between two comparisons */
  bool pinning; /* the steps pin too */
  bool has_words; /* model_use_words was called for it */
  gch_ref held[MODEL_WORDS]; /* objects that words lead to: ambiguous roots */
  uint32_t offsets[MODEL_WORDS], word_ids[MODEL_WORDS]; /* 0: no word */
  uint64_t random;
  uint32_t largest; /* elements of the largest arrays */
  enum model_ages ages;
  uint64_t promotions; /* minors that were asked to promote all */
  uint64_t aged,
      kept; /* objects that were found with an age, and early in the place of the young, but old: kept there */
};

enum { MODEL_MOST = 1 << 20 };
static uint64_t model_tokens; /* [atomic] given */
static uint8_t
    model_gone[MODEL_MOST]; /* [atomic] by token: its model has left, and nobody waits for what it has finalized */

static inline uint64_t model_random(struct model *model) {
  uint64_t x = model->random;
  x ^= x << 13, x ^= x >> 7, x ^= x << 17;
  return model->random = x;
}
static inline uint32_t model_below(struct model *model, uint32_t n) { return (uint32_t)(model_random(model) % n); }

/* Offsets: id at 8; NODE: refs 16, 24, 32; ARRAY: refs from 16; BYTES: bytes from 16; MIXED: refs 16, 24, bytes from 32;
 * TAGGED: refs 16, 24 with tag 1 = immediate. */
static inline uint64_t *model_id_slot(gch_ref o) { return (uint64_t *)(void *)gch_slot(o, 8); }

static inline bool model_types(struct model *model, gch_error *error) {
  static const uint32_t node[] = {16, 24, 32}, pair[] = {16, 24};
  const gch_type_desc descs[MODEL_KINDS] = {
      [MODEL_NODE] = {sizeof(gch_type_desc), 32, node, 3, GCH_TAIL_NONE, 0, 0, 0, "node", 0},
      [MODEL_ARRAY] = {sizeof(gch_type_desc), 8, NULL, 0, GCH_TAIL_REFS, 0, 0, 0, "array", 1},
      [MODEL_BYTES] = {sizeof(gch_type_desc), 8, NULL, 0, GCH_TAIL_BYTES, 1, 0, 0, "bytes", 2},
      [MODEL_MIXED] = {sizeof(gch_type_desc), 24, pair, 2, GCH_TAIL_BYTES, 1, 0, 0, "mixed", 3},
      [MODEL_TAGGED] = {sizeof(gch_type_desc), 24, pair, 2, GCH_TAIL_NONE, 0, 1, 0, "tagged", 4},
  };
  for (int i = 0; i < MODEL_KINDS; i++)
    if (gch_type_new(model->heap, &descs[i], &model->types[i], error) != GCH_OK) return false;
  return true;
}

static inline void model_push_frames(struct model *model) {
  gch_frame_push(model->m, &model->frame, model->slots, MODEL_ROOTS);
  gch_frame_push(model->m, &model->cell_frame, model->cell_slots, MODEL_CELLS);
}
static inline void model_pop_frames(struct model *model) {
  gch_frame_pop(model->m);
  gch_frame_pop(model->m);
}

/* Attaches the calling thread to the heap of another model, with objects of its own. */
static inline bool model_join(struct model *model, const struct model *other, uint64_t seed, gch_error *error) {
  gch_heap *heap = other->heap;
  const gch_type *types[MODEL_KINDS];
  memcpy(types, other->types, sizeof types);
  memset(model, 0, sizeof *model);
  memcpy(model->types, types, sizeof types);
  model->heap = heap;
  model->token = at_add(&model_tokens, 1) % MODEL_MOST;
  at_store(&model_gone[model->token], 0);
  model->random = seed * 0x9e3779b97f4a7c15u + 88172645463325252u;
  model->largest = 3000;
  if (gch_attach(heap, &model->m, error) != GCH_OK) return false;
  model->capacity = 1 << 16;
  model->objects = calloc(model->capacity, sizeof *model->objects);
  model->count = 1;
  model_push_frames(model);
  return true;
}

static inline void model_leave(struct model *model) {
  at_store(&model_gone[model->token], 1);
  for (int i = 0; i < MODEL_PINS; i++)
    if (model->pin_ids[i] != 0) gch_unpin(model->heap, model->pins[i]);
  for (int i = 0; i < MODEL_HANDLES; i++)
    if (model->handle_ids[i] != 0) gch_handle_free(model->heap, model->handles[i]);
  for (uint32_t i = 1; i < model->count; i++) free(model->objects[i].refs);
  free(model->objects);
  model_pop_frames(model);
  gch_detach(model->m);
}

static inline bool model_open(struct model *model, const gch_config *config, uint64_t seed, gch_error *error) {
  struct model opened = {0};
  if (gch_heap_create(config, &opened.heap, error) != GCH_OK) return false;
  return model_types(&opened, error) && model_join(model, &opened, seed, error);
}

static inline bool model_close(struct model *model, gch_error *error) {
  gch_heap *heap = model->heap;
  model_leave(model);
  return gch_heap_destroy(heap, error) == GCH_OK;
}

static inline uint32_t model_ref_count(const struct model_object *o) {
  switch (o->kind) {
    case MODEL_NODE: return 3;
    case MODEL_ARRAY: return o->count;
    case MODEL_MIXED:
    case MODEL_TAGGED: return 2;
    default: return 0;
  }
}
static inline uint64_t model_minors(const struct model *model) {
  return at_load_relaxed(&model->heap->measures.minor_count);
}
static inline uint64_t model_majors(const struct model *model) {
  return at_load_relaxed(&model->heap->measures.major_count);
}

/* Young or old, as the rule of ageing says? Large objects are born old. What is old before its time was promoted by a
 * collection that promotes all, or is in a block that was kept where it stands, which only pins bring about. */
static inline bool model_age_is_right(struct model *model, const struct model_object *o, gch_ref p) {
  const gch_heap *h = model->heap;
  uint64_t survived = model_minors(model) - o->born, limit = h->config.promote_age;
  if (model->ages == MODEL_AGES_NONE || header_is_large(header_load((uintptr_t)p))) return true;
  if (heap_is_young(h, (uintptr_t)p)) {
    model->aged += survived > 0;
    uint64_t age = heap_block(h, (uintptr_t)p)->age, slack = model->ages == MODEL_AGES_NEAR;
    return age <= limit && age <= survived + slack && survived <= age + slack;
  }
  if (model->ages != MODEL_AGES_ALL || survived > limit) return true;
  if (o->majors != model_majors(model) || o->promotions != model->promotions) return true;
  bool kept = survived > 0 && model->pinning && heap_in_young(h, (uintptr_t)p);
  model->kept += kept;
  return kept;
}

static inline uint8_t model_byte(uint32_t id, uint32_t i) { return (uint8_t)(id * 31 + i * 7 + (i >> 8)); }
static inline uint32_t model_bytes_offset(uint32_t kind) { return kind == MODEL_BYTES ? 16 : 32; }

/* The id of an object that has just been made. */
static inline uint32_t model_new_id(struct model *model, uint32_t kind, uint32_t count) {
  if (model->count == model->capacity) {
    model->capacity *= 2;
    model->objects = realloc(model->objects, model->capacity * sizeof *model->objects);
  }
  uint32_t id = model->count++;
  model->objects[id] = (struct model_object){.kind = kind,
                                             .count = count,
                                             .born = model_minors(model),
                                             .majors = model_majors(model),
                                             .promotions = model->promotions};
  uint32_t refs = model_ref_count(&model->objects[id]);
  if (refs > 0) model->objects[id].refs = calloc(refs, sizeof(uint32_t));
  return id;
}

/* A new object in root slot `root`; false: the heap is full. */
static inline bool model_new_kind(struct model *model, uint32_t root, uint32_t kind, uint32_t count) {
  gch_ref o = gch_alloc_array(model->m, model->types[kind], count);
  if (o == NULL) return false;
  uint32_t id = model_new_id(model, kind, count);
  *model_id_slot(o) = id;
  if (kind == MODEL_BYTES || kind == MODEL_MIXED)
    for (uint32_t i = 0; i < count; i++) ((uint8_t *)(void *)o)[model_bytes_offset(kind) + i] = model_byte(id, i);
  model->slots[root] = o;
  model->roots[root] = id;
  return true;
}

static inline bool model_new(struct model *model, uint32_t root) {
  uint32_t kind = model_below(model, MODEL_KINDS), shape = model_below(model, 100), count = 0;
  if (kind == MODEL_ARRAY) count = shape < 97 ? model_below(model, 60) : model_below(model, model->largest);
  if (kind == MODEL_BYTES || kind == MODEL_MIXED)
    count = shape < 97 ? model_below(model, 300) : model_below(model, 8 * model->largest);
  return model_new_kind(model, root, kind, count);
}

/* Root 0 is the table: one large array that keeps many objects alive. */
static inline bool model_table(struct model *model, uint32_t elements) {
  return model_new_kind(model, 0, MODEL_ARRAY, elements);
}

/* Stores root `from` (or null) into a random reference slot of root `to`. */
static inline void model_link(struct model *model, uint32_t to, uint32_t from, bool null) {
  struct model_object *o = &model->objects[model->roots[to]];
  uint32_t refs = model->roots[to] == 0 ? 0 : model_ref_count(o);
  if (refs == 0) return;
  uint32_t slot = model_below(model, refs);
  gch_ref value = null ? NULL : model->slots[from];
  if (null && o->kind == MODEL_TAGGED) value = (gch_ref)(uintptr_t)(model_random(model) | 1); /* an immediate */
  gch_set(model->m, model->slots[to], 16 + 8 * slot, value);
  o->refs[slot] = null ? 0 : model->roots[from];
}

/* The same by a swap: what the slot holds is expected, or (rarely) something else; or it is exchanged. */
static inline void model_swap(struct model *model, uint32_t to, uint32_t from) {
  struct model_object *o = &model->objects[model->roots[to]];
  uint32_t refs = model->roots[to] == 0 ? 0 : model_ref_count(o);
  if (refs == 0) return;
  uint32_t i = model_below(model, refs), how = model_below(model, 4);
  gch_ref *slot = gch_slot(model->slots[to], 16 + 8 * i), held = *slot, expected = held;
  if (how == 0 && model->slots[from] != held) {
    expected = model->slots[from];
    if (gch_compare_and_swap(model->m, slot, &expected, NULL) || expected != held) abort();
    return;
  }
  bool swapped = how < 3 ? gch_compare_and_swap(model->m, slot, &expected, model->slots[from])
                         : gch_exchange(model->m, slot, model->slots[from]) == held;
  if (!swapped) abort();
  o->refs[i] = model->roots[from];
}

/* Copies a random run of references between two arrays, or within one, or fills one. Both are in roots: the calls may collect. */
static inline void model_run(struct model *model, uint32_t to, uint32_t from) {
  struct model_object *d = &model->objects[model->roots[to]], *s = &model->objects[model->roots[from]];
  if (model->roots[to] == 0 || d->kind != MODEL_ARRAY || d->count == 0) return;
  if (model->roots[from] == 0 || s->kind != MODEL_ARRAY) {
    uint32_t first = model_below(model, d->count), count = model_below(model, d->count - first + 1);
    if (gch_fill_refs(model->m, model->slots[to], first, count, model->slots[from]) != GCH_OK) abort();
    for (uint32_t i = first; i < first + count; i++) d->refs[i] = model->roots[from];
    return;
  }
  uint32_t most = d->count < s->count ? d->count : s->count, count = model_below(model, most + 1);
  uint32_t at = model_below(model, d->count - count + 1), first = model_below(model, s->count - count + 1);
  if (gch_copy_refs(model->m, model->slots[to], at, model->slots[from], first, count) != GCH_OK) abort();
  if (count > 0) memmove(d->refs + at, s->refs + first, count * sizeof *d->refs);
}

static inline void model_set_bytes(struct model *model, gch_ref o, uint32_t id) {
  uint32_t kind = model->objects[id].kind;
  if (kind != MODEL_BYTES && kind != MODEL_MIXED) return;
  for (uint32_t i = 0; i < model->objects[id].count; i++)
    ((uint8_t *)(void *)o)[model_bytes_offset(kind) + i] = model_byte(id, i);
}

/* The first `old` bytes are those of object `id`, the others 0? */
static inline bool model_bytes_came(const struct model *model, gch_ref o, uint32_t id, uint32_t old) {
  uint32_t kind = model->objects[id].kind;
  const uint8_t *bytes = (const uint8_t *)(const void *)o + model_bytes_offset(kind);
  for (uint32_t i = 0; i < gch_length(model->heap, o) && kind != MODEL_ARRAY; i++)
    if (bytes[i] != (i < old ? model_byte(id, i) : 0)) return false;
  return true;
}

static inline void model_set_count(struct model_object *o, uint32_t count) {
  if (o->kind == MODEL_ARRAY) {
    o->refs = realloc(o->refs, (count + 1) * sizeof *o->refs);
    for (uint32_t i = o->count; i < count; i++) o->refs[i] = 0;
  }
  o->count = count;
}

/* Another length for what a root holds: the root gets what comes of it. If that is another object, what else refers to the old
 * one goes on to do so; large ones are left empty, small ones as they were. What is pinned stays. */
static inline void model_resize(struct model *model, uint32_t root) {
  uint32_t id = model->roots[root], kind = model->objects[id].kind, old = model->objects[id].count;
  if (id == 0 || (kind != MODEL_ARRAY && kind != MODEL_BYTES && kind != MODEL_MIXED)) return;
  uint32_t shape = model_below(model, 4), most = (root == 0 ? 150 : kind == MODEL_ARRAY ? 1 : 8) * model->largest;
  uint32_t count = shape == 0 ? model_below(model, old + 1) : old + (shape == 1 ? model_below(model, 20) : old / 2 + 3);
  if (root == 0 && shape > 1) count = old + 30 * model->largest; /* enough for its pages to be taken */
  if (count > most) count = model_below(model, most);
  gch_ref o = gch_resize(model->m, model->slots[root], count), was = model->slots[root];
  if (o == NULL && gch_last_error(model->m)->status != GCH_OK) return;
  if (o == NULL || !model_bytes_came(model, o, id, old)) abort();
  bool large = header_is_large(header_load((uintptr_t)was));
  if (old >= 1 << 16) model->promotions++; /* its pages may have been taken, after a minor that promotes all */
  if (o != was) {
    uint32_t made = model_new_id(model, kind, old);
    struct model_object *from = &model->objects[id], *to = &model->objects[made];
    if (to->refs != NULL && from->refs != NULL) memcpy(to->refs, from->refs, model_ref_count(from) * sizeof *to->refs);
    if (gch_length(model->heap, was) != (large ? 0 : old)) abort();
    to->hash = from->hash; /* it goes along */
    if (large) model_set_count(from, 0);
    *model_id_slot(o) = id = model->roots[root] = made;
    model->slots[root] = o;
  }
  model_set_count(&model->objects[id], count);
  model_set_bytes(model, o, id);
}

/* Moves root `to` along a random reference of root `from`. */
static inline void model_follow(struct model *model, uint32_t to, uint32_t from) {
  struct model_object *o = &model->objects[model->roots[from]];
  uint32_t refs = model->roots[from] == 0 ? 0 : model_ref_count(o);
  if (refs == 0) return;
  uint32_t slot = model_below(model, refs);
  if (o->refs[slot] == 0) return;
  model->slots[to] = gch_load(model->slots[from], 16 + 8 * slot);
  model->roots[to] = o->refs[slot];
}

/* Makes, reads, writes or frees a handle. */
static inline void model_handle(struct model *model, uint32_t root) {
  uint32_t i = model_below(model, MODEL_HANDLES), what = model_below(model, 4);
  if (model->handle_ids[i] == 0) {
    if (model->roots[root] == 0) return;
    model->handles[i] = gch_handle_new(model->m, model->slots[root]);
    model->handle_ids[i] = model->roots[root];
  } else if (what == 0) {
    gch_handle_free(model->heap, model->handles[i]);
    model->handle_ids[i] = 0;
  } else if (what == 1 && model->roots[root] != 0) {
    gch_handle_set(model->m, model->handles[i], model->slots[root]);
    model->handle_ids[i] = model->roots[root];
  } else {
    gch_handle_get(model->m, model->handles[i], &model->slots[root]);
    model->roots[root] = model->handle_ids[i];
  }
}

/* Pins what a root holds, or unpins; what is pinned stays alive without a root. */
static inline void model_pin(struct model *model, uint32_t root) {
  uint32_t i = model_below(model, MODEL_PINS);
  if (model->pin_ids[i] != 0) {
    gch_unpin(model->heap, model->pins[i]);
    model->pin_ids[i] = 0;
  } else if (model->roots[root] != 0 && gch_pin(model->m, model->slots[root], NULL) == GCH_OK) {
    model->pins[i] = model->slots[root];
    model->pin_ids[i] = model->roots[root];
  }
}

/* Ambiguous roots, of one model a heap (model_use_words): what a word leads to stays alive, where it is. */
static inline void model_enumerate(gch_visit_ambiguous visit, void *closure, void *data) {
  const struct model *model = (const struct model *)data;
  for (int i = 0; i < MODEL_WORDS; i++) {
    visit(model->word_ids[i] == 0 ? 0x123456789abcu : (uintptr_t)model->held[i] + model->offsets[i], closure);
    visit((uintptr_t)model->slots[i] | 1 << i, closure); /* what has a root may have a word, too */
  }
}

static inline void model_use_words(struct model *model) {
  if (gch_ambiguous_fn_set(model->heap, model_enumerate, model) != GCH_OK) abort();
  model->pinning = model->has_words = true;
}

static inline void model_word(struct model *model, uint32_t root) {
  uint32_t i = model_below(model, MODEL_WORDS);
  if (model->word_ids[i] != 0) {
    model->word_ids[i] = 0;
  } else if (model->roots[root] != 0 && model->has_words) {
    model->held[i] = model->slots[root];
    model->offsets[i] = model_below(model, 16); /* an object may become shorter */
    model->word_ids[i] = model->roots[root];
  }
}

static inline void model_hash(struct model *model, uint32_t root) {
  if (model->roots[root] == 0) return;
  struct model_object *o = &model->objects[model->roots[root]];
  uint32_t hash = gch_identity_hash(model->m, model->slots[root]);
  if (o->hash != 0 && o->hash != hash) abort(); /* it stays with the object */
  o->hash = hash;
}

#endif
