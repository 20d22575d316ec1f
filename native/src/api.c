/* Public entry points: check arguments, call down; no algorithm. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/sized.h"
#include "diag/log.h"
#include "diag/verify.h"
#include "gc/controller.h"
#include "gc/cycle.h"
#include "gc/evacuate.h"
#include "gc/faults.h"
#include "gc/finalize.h"
#include "gc/fork.h"
#include "gc/mark.h"
#include "gc/phase.h"
#include "gc/roots.h"
#include "gc/safepoint.h"
#include "gc/sampler.h"
#include "gc/snapshot.h"
#include "gc/team.h"
#include "gc/watchdog.h"
#include "gc/weak.h"
#include "heap/create.h"
#include "heap/mutator.h"
#include "heap/small.h"
#include "mover/mover.h"

#ifndef GCHEAP_VERSION
#define GCHEAP_VERSION "0.1.0" /* compiled by hand */
#endif
const char *gch_version(void) { return GCHEAP_VERSION; }

const char *gch_status_name(gch_status status) {
  static const char *const names[] = {"ok", "no memory", "bad value", "bad state", "unsupported", "corrupt"};
  return (unsigned)status < GCH_STATUS_COUNT ? names[status] : "?";
}

const char *gch_event_kind_name(uint32_t kind) {
  static const char *const names[] = {"?",        "phase", "pause",    "fault", "moved", "refusal",
                                      "degraded", "minor", "watchdog", "begin", "end",   "utilisation"};
  return kind < GCH_EVENT_KIND_COUNT ? names[kind] : "?";
}

const char *gch_kernel_call_name(uint32_t call) { return kernel_call_name(call); }

static const gch_collect_options COLLECT_DEFAULTS = {.struct_bytes = sizeof(gch_collect_options), .wait = true};

void gch_collect_options_init_sized(gch_collect_options *options, size_t bytes) {
  sized_give(options, bytes, &COLLECT_DEFAULTS, sizeof COLLECT_DEFAULTS);
}

/* --- heap ----------------------------------------------------------------------------------------------------- */

static gch_status start_engine(gch_heap *h, gch_error *error) {
  gch_status status = log_open(h, error);
  if (status == GCH_OK) status = roots_init(h, error);
  if (status == GCH_OK) status = weak_init(h, error);
  if (status == GCH_OK) status = finalizers_init(h, error);
  if (status == GCH_OK) status = mark_init(h, error);
  if (status == GCH_OK) status = snapshot_init(h, error);
  if (status == GCH_OK) status = stall_log_init(h, error);
  if (status == GCH_OK) status = plan_init(h, &h->minor_plan, error);
  if (status == GCH_OK) status = plan_init(h, &h->plan, error);
  if (status == GCH_OK) status = mover_choose(h, error);
  if (status == GCH_OK) status = team_start(h, error);
  if (status == GCH_OK) status = faults_start(h, error);
  if (status == GCH_OK) status = watchdog_start(h, error);
  if (status == GCH_OK) status = sampler_start(h, error);
  if (status == GCH_OK) status = controller_start(h, error);
  if (status == GCH_OK) status = fork_watch(h, error);
  return status;
}

static void stop_engine(gch_heap *h) {
  controller_stop(h);
  sampler_stop(h);
  watchdog_stop(h);
  faults_stop(h);
  team_stop(h);
  mover_close(h);
  plan_destroy(h, h->plan);
  plan_destroy(h, h->minor_plan);
  stall_log_destroy(h);
  snapshot_destroy(h);
  mark_destroy(h);
  finalizers_destroy(h);
  roots_destroy(h);
  log_close(h);
}

static gch_status create(const gch_config *config, bool tight, gch_heap **out, gch_error *error) {
  gch_heap *h = NULL;
  gch_status status = heap_new(config, tight, &h, error);
  if (status != GCH_OK) return status;
  world_init(h);
  status = start_engine(h, error);
  if (status != GCH_OK) {
    stop_engine(h);
    world_destroy(h);
    heap_delete(h);
    return status;
  }
  *out = h;
  return GCH_OK;
}

/* Whatever there was no room for, the span itself, a table, the shadow: with fewer addresses there may be. */
gch_status gch_heap_create(const gch_config *config, gch_heap **out, gch_error *error) {
  *out = NULL;
  gch_error first = {0};
  gch_status status = create(config, false, out, &first);
  if (status == GCH_NO_MEMORY) return create(config, true, out, error);
  return status == GCH_OK ? GCH_OK : error_set(error, status, "%s", first.message);
}

gch_status gch_heap_destroy(gch_heap *h, gch_error *error) {
  if (!fork_is_home(h)) return fork_check(h, error);
  uint32_t attached = at_load(&h->world.mutator_count);
  uint64_t pins = at_load(&h->pins.count);
  if (attached != 0) return error_set(error, GCH_BAD_STATE, "%u mutators are attached; detach them first", attached);
  if (pins != 0) return error_set(error, GCH_BAD_STATE, "%llu pins are held; unpin first", (unsigned long long)pins);
  mutators_enter_native(); /* of other heaps */
  fork_unwatch(h);
  stop_engine(h);
  world_destroy(h);
  heap_delete(h);
  mutators_leave_native();
  return GCH_OK;
}

/* What a collection of this kind would not look at is not asked for. */
static gch_status check_collection(const gch_collect_options *o, gch_error *error) {
  if ((unsigned)o->policy >= GCH_POLICY_COUNT)
    return error_set(error, GCH_BAD_VALUE, "policy is %u, expected 0 to %d", (unsigned)o->policy, GCH_POLICY_COUNT - 1);
  if (o->minor && o->concurrent)
    return error_set(error, GCH_BAD_VALUE, "%s", "concurrent is set with minor, expected one of them");
  if (o->minor && o->policy != GCH_POLICY_NEEDED)
    return error_set(error, GCH_BAD_VALUE, "policy is %u with minor, expected 0: major collections have one",
                     (unsigned)o->policy);
  if (o->background && !o->concurrent)
    return error_set(error, GCH_BAD_VALUE, "%s", "background is set without concurrent, expected both or neither");
  if (o->promote && !o->minor)
    return error_set(error, GCH_BAD_VALUE, "%s", "promote is set without minor, expected both or neither");
  return GCH_OK;
}

gch_status gch_collect(gch_mutator *mutator, const gch_collect_options *options, gch_cycle *report) {
  struct mutator *m = mutator_of(mutator);
  gch_heap *h = mutator->heap;
  gch_cycle local;
  static const struct sized sized = {"gch_collect_options", sizeof(gch_collect_options),
                                     offsetof(gch_collect_options, minor), _Alignof(gch_collect_options)};
  gch_collect_options o = COLLECT_DEFAULTS;
  if (options != NULL && sized_take(&sized, &o, options, &m->error) != GCH_OK) return GCH_BAD_VALUE;
  if (check_collection(&o, &m->error) != GCH_OK) return GCH_BAD_VALUE;
  if (fork_check(h, &m->error) != GCH_OK) return GCH_BAD_STATE;
  if (report == NULL) report = &local;
  if (o.concurrent && h->mover->concurrent && o.policy != GCH_POLICY_RELEASE) {
    mutators_enter_native();
    controller_request(h, o.policy, o.background ? CYCLE_BEGUN : o.wait ? CYCLE_ENDED : CYCLE_FLIPPED, report);
    mutators_leave_native();
    return GCH_OK;
  }
  cycle_enter(h);
  if (o.minor)
    cycle_minor(h, o.promote, GCH_CAUSE_ASKED, report);
  else
    cycle_major(h, &o, GCH_CAUSE_ASKED, report);
  cycle_leave(h);
  cycle_fill_reserve(h);
  return GCH_OK;
}

gch_status gch_collect_wait(gch_mutator *mutator, gch_cycle *report) {
  gch_heap *h = mutator->heap;
  if (fork_check(h, &mutator_of(mutator)->error) != GCH_OK) return GCH_BAD_STATE;
  mutators_enter_native();
  controller_wait(h);
  lock_lock(&h->measures.lock);
  if (report != NULL) *report = h->measures.last_major;
  lock_unlock(&h->measures.lock);
  mutators_leave_native();
  return GCH_OK;
}

gch_status gch_inject(gch_heap *h, const char *spec, gch_error *error) {
  char text[160];
  if (spec == NULL || *spec == 0) {
    kernel_inject_clear(&h->kernel);
    return GCH_OK;
  }
  if (kernel_inject(&h->kernel, spec, text, sizeof text) < 0) return error_set(error, GCH_BAD_VALUE, "%s", text);
  return GCH_OK;
}

gch_status gch_type_new(gch_heap *h, const gch_type_desc *desc, const gch_type **out, gch_error *error) {
  return typetab_add(&h->types, &h->kernel, desc, out, error);
}

const char *gch_type_name(const gch_heap *h, const gch_type *type) {
  (void)h;
  return ((const struct type_info *)type)->name;
}

uint64_t gch_type_user(const gch_heap *h, const gch_type *type) {
  (void)h;
  return ((const struct type_info *)type)->user;
}

static const struct large *large_of(const gch_heap *h, gch_ref object) {
  return &h->large.entries[h->tables.large_ids[((uintptr_t)object - h->layout.base) >> h->layout.page_shift]];
}

const gch_type *gch_type_of(const gch_heap *h, gch_ref object) {
  return &typetab_get(&h->types, header_load((uintptr_t)object))->pub;
}

uint64_t gch_length(const gch_heap *h, gch_ref object) {
  uint64_t header = header_load((uintptr_t)object);
  if (header_is_large(header)) return at_load(&large_of(h, object)->length);
  const struct type_info *type = typetab_get(&h->types, header);
  return type->pub.tail_bytes == 0 ? 0 : header_tail_bytes(header) / type->pub.tail_bytes;
}

uint64_t gch_object_bytes(const gch_heap *h, gch_ref object) {
  uint64_t header = header_load((uintptr_t)object);
  if (header_is_large(header)) {
    const struct large *e = large_of(h, object);
    return large_bytes_of(h, e, at_load(&e->length)); /* it may have more for a while */
  }
  return object_small_bytes(typetab_get(&h->types, header), header);
}

/* --- mutators ------------------------------------------------------------------------------------------------- */

gch_status gch_attach(gch_heap *h, gch_mutator **out, gch_error *error) {
  *out = NULL;
  if (fork_check(h, error) != GCH_OK) return GCH_BAD_STATE;
  if (mutator_here(h) != NULL)
    return error_set(error, GCH_BAD_STATE, "thread %u is attached to this heap already", thread_id());
  struct mutator *m = mutator_take(h, thread_id());
  if (m == NULL) return error_set(error, GCH_NO_MEMORY, "no memory for a mutator");
  m->pub.heap = h;
  m->pub.card_bias = (uint64_t)(uintptr_t)h->tables.cards - (h->layout.base >> CARD_SHIFT);
  m->pub.dirty_bias = (uint64_t)(uintptr_t)h->tables.dirty - (h->layout.base >> ARENA_SHIFT);
  m->hash_seed = (uint64_t)thread_id() * 0x9e3779b97f4a7c15u + clock_ns();
  if (!mutator_adopt(m)) {
    mutator_give(m);
    return error_set(error, GCH_NO_MEMORY, "%s", "no memory to watch for the end of the thread");
  }
  world_lock(h); /* waits out a pause */
  m->waits = true; /* with the others, if there are */
  m->next = h->world.mutators;
  h->world.mutators = m;
  at_store(&h->world.mutator_count, h->world.mutator_count + 1);
  snapshot_attach(h, m);
  faults_unblock(h);
  world_unlock(h);
  *out = &m->pub;
  return GCH_OK;
}

void gch_detach(gch_mutator *mutator) {
  struct mutator *m = mutator_of(mutator);
  gch_heap *h = mutator->heap;
  GCH_CHECK(mutator->frames == NULL, "%s", "a mutator detaches with frames on its shadow stack");
  world_lock(h);
  struct mutator **link = &h->world.mutators;
  while (*link != NULL && *link != m) link = &(*link)->next;
  if (*link == m) { /* fork() has dropped those of other threads from the child's list */
    *link = m->next;
    at_store(&h->world.mutator_count, h->world.mutator_count - 1);
    mutator_sync_one(h, m);
    snapshot_detach(h, m);
  }
  mutator_disown(m);
  world_unlock(h);
  mutator_give(m);
}

void gch_safepoint_slow(gch_mutator *m) {
  (void)m; /* a safepoint of one heap is one of all in which the thread is managed */
  mutators_let_pass();
}

void gch_native_enter(gch_mutator *m) { mutator_enter_native(mutator_of(m)); }
void gch_native_leave(gch_mutator *m) { mutator_leave_native(mutator_of(m)); }

const gch_error *gch_last_error(const gch_mutator *m) { return &((const struct mutator *)m)->error; }

/* --- roots ---------------------------------------------------------------------------------------------------- */

gch_status gch_root_add(gch_heap *h, gch_ref *slot) { return roots_add_static(h, slot); }
gch_status gch_root_remove(gch_heap *h, gch_ref *slot) { return roots_remove_static(h, slot); }

gch_status gch_roots_fn_set(gch_heap *h, gch_roots_fn fn, void *data) {
  world_lock(h);
  h->roots.fn = fn;
  h->roots.fn_data = data;
  world_unlock(h);
  return GCH_OK;
}

/* --- pins and hashes ------------------------------------------------------------------------------------------ */

gch_status gch_pin(gch_mutator *m, gch_ref object, void **payload) {
  gch_error *error = &mutator_of(m)->error;
  if (object == NULL || !heap_contains(m->heap, (uintptr_t)object))
    return error_set(error, GCH_BAD_VALUE, "%p is not a reference of this heap: nothing to pin", (void *)object);
  faults_ensure(m->heap, (uintptr_t)object, (uintptr_t)object + gch_object_bytes(m->heap, object));
  if (pins_add(m->heap, (uintptr_t)object) != GCH_OK)
    return error_set(error, GCH_NO_MEMORY, "no memory for the pin table");
  if (payload != NULL) *payload = gch_payload(object);
  return GCH_OK;
}

gch_status gch_unpin(gch_heap *h, gch_ref object) { return pins_remove(h, (uintptr_t)object) ? GCH_OK : GCH_BAD_VALUE; }

uint32_t gch_identity_hash(gch_mutator *m, gch_ref object) {
  if (object == NULL || !heap_contains(m->heap, (uintptr_t)object)) {
    error_set(&mutator_of(m)->error, GCH_BAD_VALUE, "%p is not a reference of this heap: it has no identity hash",
              (void *)object);
    return 0;
  }
  uint64_t *header = (uint64_t *)(void *)object, old = at_load(header);
  while ((old & HEADER_HASH_MASK) == 0) {
    uint64_t *seed = &mutator_of(m)->hash_seed;
    *seed ^= *seed << 13, *seed ^= *seed >> 7, *seed ^= *seed << 17; /* xorshift64, Marsaglia 2003 */
    uint64_t hash = (*seed >> 20 & 0xffffff) != 0 ? *seed >> 20 & 0xffffff : 1;
    if (at_cas(header, &old, old | hash << HEADER_HASH_SHIFT)) return (uint32_t)hash;
  }
  return (uint32_t)(old >> HEADER_HASH_SHIFT);
}

/* --- inspection ----------------------------------------------------------------------------------------------- */

gch_status gch_verify(gch_mutator *mutator, gch_error *error) {
  gch_heap *h = mutator->heap;
  struct pause pause;
  if (fork_check(h, error) != GCH_OK) return GCH_BAD_STATE;
  cycle_inspect(h, &pause);
  gch_status status = verify_heap(h, error);
  cycle_inspect_end(h, &pause);
  return status;
}

struct public_walk {
  gch_walk_fn fn;
  void *data;
};

static bool walk_public(uintptr_t object, const struct type_info *type, uint64_t bytes, void *context) {
  struct public_walk *w = context;
  return w->fn((gch_ref)object, &type->pub, bytes, w->data);
}

gch_status gch_walk(gch_mutator *mutator, gch_walk_fn fn, void *data) {
  struct mutator *m = mutator_of(mutator);
  gch_heap *h = mutator->heap;
  struct pause pause;
  if (fork_check(h, &m->error) != GCH_OK) return GCH_BAD_STATE;
  cycle_inspect(h, &pause);
  walk_heap(h, walk_public, &(struct public_walk){fn, data});
  cycle_inspect_end(h, &pause);
  return GCH_OK;
}
