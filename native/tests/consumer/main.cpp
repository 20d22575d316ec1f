// A host in C++: roots, allocation and the barrier are inlined in it. Built against an installed gcheap by the packaging tests.
#include <gcheap/gcheap.h>

#include <cstdio>

namespace {

struct Node {
  uint64_t header;
  gch_ref next;
  uint64_t number;
};

constexpr int kLength = 1000;

int fail(const gch_error &error) {
  std::fprintf(stderr, "%s\n", error.message);
  return 1;
}

uint64_t sum_of_list(gch_mutator *m, const gch_type *node) {
  uint64_t sum = 0;
  GCH_FRAME(m, root, 1);
  for (int i = 0; i < kLength; i++) {
    gch_ref made = gch_alloc(m, node);
    reinterpret_cast<Node *>(made)->number = static_cast<uint64_t>(i);
    gch_store(m, &reinterpret_cast<Node *>(made)->next, root[0]);
    root[0] = made;
  }
  gch_collect(m, nullptr, nullptr);
  for (gch_ref at = root[0]; at != nullptr; at = reinterpret_cast<Node *>(at)->next)
    sum += reinterpret_cast<Node *>(at)->number;
  GCH_FRAME_END(m);
  return sum;
}

} // namespace

int main() {
  gch_error error{};
  gch_config config;
  gch_config_init(&config);
  config.max_bytes = 64u << 20;
  gch_heap *heap;
  if (gch_heap_create(&config, &heap, &error) != GCH_OK) return fail(error);
  const uint32_t references[] = {offsetof(Node, next)};
  gch_type_desc desc{};
  desc.struct_bytes = sizeof desc;
  desc.fixed_bytes = sizeof(Node) - GCH_HEADER_BYTES;
  desc.ref_offsets = references;
  desc.ref_count = 1;
  desc.name = "node";
  const gch_type *node;
  gch_mutator *m;
  if (gch_type_new(heap, &desc, &node, &error) != GCH_OK || gch_attach(heap, &m, &error) != GCH_OK) return fail(error);
  std::printf("gcheap %s sum %d\n", gch_version(), static_cast<int>(sum_of_list(m, node)));
  gch_detach(m);
  return gch_heap_destroy(heap, &error) == GCH_OK ? 0 : fail(error);
}
