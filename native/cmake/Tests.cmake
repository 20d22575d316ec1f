# The C tests, linked with the static library, so that they reach private functions.
#   tests/test_<module>.c           a ctest each; exit status 77 means skipped
#   tests/stress_*.c, fuzz_*.c      programs `NAME SECONDS [SEED]`; `make stress` starts the former, .ci/run both for a short time
file(GLOB test_sources CONFIGURE_DEPENDS tests/test_*.c tests/stress_*.c tests/fuzz_*.c)

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
