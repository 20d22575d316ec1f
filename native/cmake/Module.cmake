# The Python module gcheap._native (cffi, API mode, limited API): its own copy of the library, compiled with the
# export macro empty, so that PyInit__native is the only symbol that leaves it.
#
# One generated file includes the public headers and those of python/ and workloads/. With -DGCHEAP_CDEF and `-E -P`
# it becomes the cdef, without them the prelude of the C file; so the two cannot differ. Headers named *_internal.h
# or *_inline.h in python/ and workloads/ take no part.
find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module)

file(GLOB module_sources CONFIGURE_DEPENDS python/*.c workloads/*.c)
file(GLOB module_headers RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} CONFIGURE_DEPENDS python/*.h workloads/*.h)
list(FILTER module_headers EXCLUDE REGEX "_(internal|inline)\\.h$")

set(prelude ${CMAKE_CURRENT_BINARY_DIR}/_native_prelude.h)
set(cdef ${CMAKE_CURRENT_BINARY_DIR}/_native_cdef.h)
set(generated ${CMAKE_CURRENT_BINARY_DIR}/_native.c)
set(includes "#include \"gcheap/gcheap.h\"\n")
foreach(header IN LISTS module_headers)
  string(APPEND includes "#include \"${header}\"\n")
endforeach()
file(CONFIGURE OUTPUT ${prelude} CONTENT "${includes}")

add_custom_command(OUTPUT ${generated} BYPRODUCTS ${cdef}
  COMMAND ${CMAKE_C_COMPILER} -E -P -DGCHEAP_CDEF -I${CMAKE_CURRENT_SOURCE_DIR}/include
    -I${CMAKE_CURRENT_SOURCE_DIR} -o ${cdef} ${prelude}
  COMMAND Python::Interpreter -m cffi.gen_src read-sources gcheap._native ${cdef} ${prelude} ${generated}
  DEPENDS ${prelude} ${public_headers} ${module_headers}
  VERBATIM)

add_library(gcheap_module_objects OBJECT ${core_sources} ${module_sources})
target_include_directories(gcheap_module_objects PRIVATE include src .)
target_compile_definitions(gcheap_module_objects PRIVATE GCHEAP_STATIC GCHEAP_VERSION="${PROJECT_VERSION}")
target_link_libraries(gcheap_module_objects PRIVATE gcheap_flags)
set_target_properties(gcheap_module_objects PROPERTIES
  C_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON EXCLUDE_FROM_ALL ON)

python_add_library(_native MODULE ${generated})
target_include_directories(_native PRIVATE include .)
target_compile_definitions(_native PRIVATE GCHEAP_STATIC Py_LIMITED_API=0x030b0000)
target_compile_options(_native PRIVATE -Werror=incompatible-pointer-types ${gcheap_sanitizers})
target_link_libraries(_native PRIVATE gcheap_module_objects Threads::Threads)
set_target_properties(_native PROPERTIES C_VISIBILITY_PRESET hidden SUFFIX .abi3.so)
install(TARGETS _native LIBRARY DESTINATION gcheap COMPONENT python)
