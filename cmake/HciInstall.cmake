# SPDX-License-Identifier: Apache-2.0
# Headers, library, libhci.pc and the CMake package hci::hci.
include(CMakePackageConfigHelpers)

install(TARGETS hci EXPORT hci-targets
	LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
	INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY include/hci DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

install(EXPORT hci-targets NAMESPACE hci:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/hci)
configure_package_config_file(cmake/hci-config.cmake.in ${PROJECT_BINARY_DIR}/hci-config.cmake
	INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/hci
	PATH_VARS CMAKE_INSTALL_LIBDIR)
# Before 1.0 a minor release may break the ABI, after it only a major one (docs/conventions.md).
write_basic_package_version_file(${PROJECT_BINARY_DIR}/hci-config-version.cmake
	COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/hci-config.cmake ${PROJECT_BINARY_DIR}/hci-config-version.cmake
	DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/hci)
# The same package under pkg-config's name.
install(FILES cmake/libhci-config.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/libhci)
install(FILES ${PROJECT_BINARY_DIR}/hci-config-version.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/libhci
	RENAME libhci-config-version.cmake)

# Relative to the .pc file, so that an install tree works wherever it is put.
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX
	BASE_DIRECTORY ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig OUTPUT_VARIABLE HCI_PC_PREFIX)
cmake_path(NORMAL_PATH HCI_PC_PREFIX)
string(REGEX REPLACE "/$" "" HCI_PC_PREFIX "${HCI_PC_PREFIX}")
configure_file(pkgconfig/libhci.pc.in ${PROJECT_BINARY_DIR}/libhci.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/libhci.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
