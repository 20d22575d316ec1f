# The C tests, linked with the static library, so that they reach private functions.
#   tests/test_<module>.c           a ctest each; exit status 77 means skipped
#   tests/stress_*.c, fuzz_*.c      programs `NAME SECONDS [SEED]`; `make stress` starts the former, .ci/run both for a short time
#   tests/soak.c                    `make soak`; ctest has a few seconds of it
file(GLOB test_sources CONFIGURE_DEPENDS tests/test_*.c tests/stress_*.c tests/fuzz_*.c tests/soak.c)

set(test_timeout 120)
if(GCHEAP_SANITIZE)
  set(test_timeout 400) # of which a test's own watchdog knows, too
endif()

foreach(source IN LISTS test_sources)
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_include_directories(${name} PRIVATE include src tests)
  target_link_libraries(${name} PRIVATE gcheap_flags gcheap_static)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/tests)
  if(name MATCHES "^test_")
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${test_timeout} SKIP_RETURN_CODE 77)
  endif()
endforeach()

# A library that finds no `move` where the kernel offers it must fail its tests; where the kernel does not, they say so.
add_test(NAME a_missing_move_is_seen COMMAND test_misreported)
set_tests_properties(a_missing_move_is_seen PROPERTIES TIMEOUT 120 ENVIRONMENT GCH_TEST_UNAVAILABLE=uffd_open:EMFILE
                     PASS_REGULAR_EXPRESSION "this kernel offers UFFDIO_MOVE;SKIP .*: move: ")

# Two rounds of the soak; and a leak that is planted is seen. (The sanitizers hold memory and mappings of their own.)
if(NOT GCHEAP_SANITIZE)
  add_test(NAME soak_short COMMAND soak 4 - 64 1 2)
  set_tests_properties(soak_short PROPERTIES TIMEOUT ${test_timeout} PASS_REGULAR_EXPRESSION "soak done: 4 s"
                       FAIL_REGULAR_EXPRESSION "SOAK FAILED")
  foreach(leak IN ITEMS memory thread descriptor mapping)
    add_test(NAME soak_sees_a_${leak} COMMAND soak 1 - 64 1 1 ${leak})
    set_tests_properties(soak_sees_a_${leak} PROPERTIES TIMEOUT ${test_timeout}
                         PASS_REGULAR_EXPRESSION "SOAK FAILED: a leak of [a-z ]*${leak}")
  endforeach()
endif()
