# SPDX-License-Identifier: Apache-2.0
# Compiler flags, as the interface targets hci_warnings (all of our code) and hci_flags (C17 + GNU,
# sanitizers): linked PRIVATE, so that none of it reaches an installed file.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

add_library(hci_warnings INTERFACE)
target_compile_options(hci_warnings INTERFACE
	-Wall -Wextra -Wshadow -Wpointer-arith -Wwrite-strings -Wvla
	$<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes -Wmissing-prototypes>)

add_library(hci_flags INTERFACE)
target_link_libraries(hci_flags INTERFACE hci_warnings)
target_compile_definitions(hci_flags INTERFACE _GNU_SOURCE)
target_compile_options(hci_flags INTERFACE -fno-omit-frame-pointer -fstack-protector-strong)
target_link_options(hci_flags INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
if(NOT HCI_SANITIZE AND NOT HCI_FUZZ AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
	target_compile_options(hci_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
endif()

set(HCI_SANITIZE_FLAGS "")
if(HCI_FUZZ)
	if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
		message(FATAL_ERROR "HCI_FUZZ needs clang: configure with -DCMAKE_C_COMPILER=clang (preset fuzz)")
	endif()
	set(HCI_SANITIZE_FLAGS -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all)
elseif(HCI_SANITIZE STREQUAL "address")
	set(HCI_SANITIZE_FLAGS -fsanitize=address,undefined -fno-sanitize-recover=all)
elseif(HCI_SANITIZE STREQUAL "thread")
	set(HCI_SANITIZE_FLAGS -fsanitize=thread)
elseif(HCI_SANITIZE)
	message(FATAL_ERROR "HCI_SANITIZE is '${HCI_SANITIZE}': use address, thread or nothing")
endif()
target_compile_options(hci_flags INTERFACE ${HCI_SANITIZE_FLAGS})
target_link_options(hci_flags INTERFACE ${HCI_SANITIZE_FLAGS})

if(HCI_COVERAGE)
	target_compile_options(hci_flags INTERFACE --coverage -fprofile-update=atomic)
	target_link_options(hci_flags INTERFACE --coverage)
endif()
