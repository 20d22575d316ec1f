# The C tests, linked with the static library, so that they reach private functions.
#   tests/test_<module>.c           a ctest each; exit status 77 means skipped
#   tests/stress_*.c, fuzz_*.c      programs `NAME SECONDS [SEED]`; `make stress` and .ci/run start them
file(GLOB test_sources CONFIGURE_DEPENDS tests/test_*.c tests/stress_*.c tests/fuzz_*.c)

foreach(source IN LISTS test_sources)
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source})
  target_include_directories(${name} PRIVATE include src tests)
  target_link_libraries(${name} PRIVATE gcheap_flags gcheap_static)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/tests)
  if(name MATCHES "^test_")
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT 120 SKIP_RETURN_CODE 77)
  endif()
endforeach()
