# SPDX-License-Identifier: Apache-2.0
# What libhci links (docs/dependencies.md says why, and under which licences).
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(OPENSSL REQUIRED IMPORTED_TARGET openssl>=3.0)
pkg_check_modules(SQLITE REQUIRED IMPORTED_TARGET sqlite3>=3.35)
# Headers only. Upstream renamed the C library's file to msgpack-c.pc; Debian 12 still ships msgpack.pc.
pkg_search_module(MSGPACK REQUIRED IMPORTED_TARGET msgpack-c msgpack)
pkg_check_modules(LIBVIRT REQUIRED IMPORTED_TARGET libvirt>=7.0 libvirt-qemu)
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
# Compressors of the migration stream that both sides may have; zlib is what they always have.
pkg_check_modules(ZSTD IMPORTED_TARGET libzstd>=1.4)
pkg_check_modules(LZ4 IMPORTED_TARGET liblz4>=1.9)

add_library(hci_deps INTERFACE)
target_link_libraries(hci_deps INTERFACE
	PkgConfig::OPENSSL PkgConfig::SQLITE PkgConfig::MSGPACK PkgConfig::LIBVIRT
	PkgConfig::ZLIB Threads::Threads ${CMAKE_DL_LIBS} m)
foreach(name ZSTD LZ4)
	if(${name}_FOUND)
		target_link_libraries(hci_deps INTERFACE PkgConfig::${name})
		target_compile_definitions(hci_deps INTERFACE HCI_HAVE_${name})
	endif()
endforeach()

if(HCI_TESTS)
	pkg_check_modules(CHECK REQUIRED IMPORTED_TARGET check>=0.15)
endif()
