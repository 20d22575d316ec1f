# gcheap_flags: what every C file of ours is compiled with, as an interface library.
add_library(gcheap_flags INTERFACE)
target_compile_features(gcheap_flags INTERFACE c_std_11)
target_compile_definitions(gcheap_flags INTERFACE _GNU_SOURCE)
target_compile_options(gcheap_flags INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wvla
  -Werror=incompatible-pointer-types -Werror=implicit-function-declaration
  $<$<BOOL:${GCHEAP_WERROR}>:-Werror>
  $<$<BOOL:${GCHEAP_ASSERTIONS}>:-UNDEBUG>)
target_compile_definitions(gcheap_flags INTERFACE
  $<$<BOOL:${GCHEAP_VERIFY}>:GCH_VERIFY=1>
  $<$<BOOL:${GCHEAP_HOOKS}>:GCH_HOOKS=1>)
target_link_libraries(gcheap_flags INTERFACE Threads::Threads)
# Forwarding counts bits; without the instruction that is a library call. Every x86-64 processor since 2008 has it
# (x86-64-v2); gch_heap_create says so on one that has not.
if(GCHEAP_POPCNT AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  target_compile_options(gcheap_flags INTERFACE -mpopcnt)
endif()

set(gcheap_sanitizers "")
if(GCHEAP_SANITIZE STREQUAL "address")
  set(gcheap_sanitizers -fsanitize=address,undefined -fno-sanitize-recover=undefined)
elseif(GCHEAP_SANITIZE STREQUAL "thread")
  set(gcheap_sanitizers -fsanitize=thread)
elseif(NOT GCHEAP_SANITIZE STREQUAL "")
  message(FATAL_ERROR "GCHEAP_SANITIZE is '${GCHEAP_SANITIZE}'; expected address, thread or nothing")
endif()
if(gcheap_sanitizers)
  target_compile_options(gcheap_flags INTERFACE ${gcheap_sanitizers} -fno-omit-frame-pointer)
  target_link_options(gcheap_flags INTERFACE ${gcheap_sanitizers})
endif()
