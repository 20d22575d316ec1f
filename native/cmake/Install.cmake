# Install rules of the C library: libraries, headers, a relocatable pkg-config file, a CMake package.
include(CMakePackageConfigHelpers)

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/gcheap)
set(pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(TARGETS gcheap gcheap_static EXPORT gcheapTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library NAMELINK_COMPONENT development
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY include/gcheap DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development
  FILES_MATCHING PATTERN "*.h")
install(EXPORT gcheapTargets NAMESPACE gcheap:: DESTINATION ${config_dir} COMPONENT development)

# From the folder of the .pc file up to the prefix, so that a moved tree stays right.
file(RELATIVE_PATH GCHEAP_PC_PREFIX /prefix/${pc_dir} /prefix)
string(REGEX REPLACE "/$" "" GCHEAP_PC_PREFIX "${GCHEAP_PC_PREFIX}")
configure_file(cmake/gcheap.pc.in gcheap.pc @ONLY)
configure_package_config_file(cmake/gcheapConfig.cmake.in gcheapConfig.cmake INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(gcheapConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gcheap.pc DESTINATION ${pc_dir} COMPONENT development)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gcheapConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/gcheapConfigVersion.cmake
  DESTINATION ${config_dir} COMPONENT development)
