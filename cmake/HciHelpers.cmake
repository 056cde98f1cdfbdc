# SPDX-License-Identifier: Apache-2.0
# Helpers for the CMakeLists.txt of the folders.

# hci_add_folder(DIR...): the folders below this one that have a CMakeLists.txt and are not in
# HCI_SKIP.
function(hci_add_folder)
	foreach(dir ${ARGN})
		cmake_path(RELATIVE_PATH CMAKE_CURRENT_SOURCE_DIR BASE_DIRECTORY ${PROJECT_SOURCE_DIR}
			OUTPUT_VARIABLE here)
		cmake_path(APPEND here ${dir} OUTPUT_VARIABLE full)
		cmake_path(NORMAL_PATH full)
		if(full IN_LIST HCI_SKIP)
			continue()
		endif()
		# A glob rather than EXISTS, so that a folder that appears is seen by the next build.
		file(GLOB found CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${dir}/CMakeLists.txt)
		if(found)
			add_subdirectory(${dir})
		endif()
	endforeach()
endfunction()

# hci_add_folders(): every folder directly below that has a CMakeLists.txt.
function(hci_add_folders)
	file(GLOB found CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} */CMakeLists.txt)
	foreach(file ${found})
		cmake_path(GET file PARENT_PATH dir)
		hci_add_folder(${dir})
	endforeach()
endfunction()

# What every test gets: one failing sanitizer report fails the test. Fibers switch stacks, which
# the fake stacks of detect_stack_use_after_return do not survive. Check's limits (4 s where a suite says nothing) are
# for hangs; on a busy machine all takes longer.
set(HCI_TEST_ENV
	"CK_DEFAULT_TIMEOUT=60"
	"CK_TIMEOUT_MULTIPLIER=3"
	"ASAN_OPTIONS=detect_stack_use_after_return=0:strict_string_checks=1:abort_on_error=0"
	"UBSAN_OPTIONS=print_stacktrace=1"
	"LSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/cmake/lsan.supp:print_suppressions=0"
	"TSAN_OPTIONS=halt_on_error=0:second_deadlock_stack=1:suppressions=${PROJECT_SOURCE_DIR}/cmake/tsan.supp")
if(HCI_SANITIZE STREQUAL "thread")
	# TSan cannot follow Check's fork of a process with threads.
	list(APPEND HCI_TEST_ENV "CK_FORK=no")
endif()

# hci_test_properties(TEST LABEL...): environment, labels and a time limit for a test.
function(hci_test_properties test)
	set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT ${HCI_TEST_ENV})
	set_property(TEST ${test} APPEND PROPERTY LABELS ${ARGN})
	set_property(TEST ${test} PROPERTY TIMEOUT 600)
endfunction()

# Tests that watch the clock share the machine with those that only compute, so these give way a little: a simulated second
# lasts as long as it takes.
set(HCI_GIVE_WAY nice -n 5)

# hci_test_computes(TEST...): takes two of the places that tests run in (three for each processor), while one that mostly waits
# takes one: so processors are neither idle nor fought over.
function(hci_test_computes)
	set_tests_properties(${ARGN} PROPERTIES PROCESSORS 2)
endfunction()

# hci_testbed_properties(TEST LANE [SECONDS]): one that makes beds, as root. LANE: faults, vm or both; two lanes run side
# by side, their beds have different names. SECONDS: about how long it takes.
function(hci_testbed_properties test lane)
	if(lane STREQUAL "both")
		set(locks testbed-faults testbed-vm)
	else()
		set(locks testbed-${lane})
	endif()
	# Lanes are what the whole run waits for: they begin first.
	set_tests_properties(${test} PROPERTIES RESOURCE_LOCK "${locks}" COST 1000 SKIP_RETURN_CODE 77)
	if(ARGN)
		math(EXPR cost "1000 + ${ARGN}")
		set_tests_properties(${test} PROPERTIES COST ${cost})
	endif()
endfunction()

# hci_test_seconds(SECONDS TEST...): about how long these take on a quiet machine. The longest begin first, so that no
# single one is waited for at the end; those of less than ten seconds need not say.
function(hci_test_seconds seconds)
	foreach(test ${ARGN})
		if(TEST ${test})
			set_tests_properties(${test} PROPERTIES COST ${seconds})
		endif()
	endforeach()
endfunction()

# hci_add_check_test(NAME SOURCES... [LABELS l...] [LIBS lib...] [ARGS a...] [TIMEOUT s] [SERIAL] [ONE_THREAD])
# A program with its own main() on libcheck. The label defaults to the folder's name below tests/.
# SERIAL: nothing else runs beside it. ONE_THREAD: simulated, or computing only. Not for TSan, which would see nothing; that
# it stays so is checked in the other builds: it ends when it starts a thread.
function(hci_add_check_test name)
	cmake_parse_arguments(A "SERIAL;ONE_THREAD" "TIMEOUT" "LABELS;LIBS;ARGS" ${ARGN})
	if(A_ONE_THREAD AND HCI_SANITIZE STREQUAL "thread")
		return()
	endif()
	if(NOT A_LABELS)
		cmake_path(RELATIVE_PATH CMAKE_CURRENT_SOURCE_DIR BASE_DIRECTORY
			${PROJECT_SOURCE_DIR}/tests OUTPUT_VARIABLE rel)
		string(REGEX REPLACE "/.*" "" A_LABELS "${rel}")
	endif()
	add_executable(test_${name} ${A_UNPARSED_ARGUMENTS})
	target_link_libraries(test_${name} PRIVATE hci_flags hci_static PkgConfig::CHECK ${A_LIBS})
	target_include_directories(test_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
	set(first)
	if(A_ONE_THREAD)
		set(first ${HCI_GIVE_WAY})
		target_sources(test_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/one_thread.c)
		target_link_options(test_${name} PRIVATE -Wl,--wrap=pthread_create)
	endif()
	add_test(NAME ${name} COMMAND ${first} $<TARGET_FILE:test_${name}> ${A_ARGS})
	hci_test_properties(${name} ${A_LABELS})
	if(A_ONE_THREAD)
		hci_test_computes(${name})
	endif()
	if(A_TIMEOUT)
		set_property(TEST ${name} PROPERTY TIMEOUT ${A_TIMEOUT})
	endif()
	if(A_SERIAL)
		set_property(TEST ${name} PROPERTY RUN_SERIAL ON)
	endif()
endfunction()

# hci_add_fuzzer(NAME SOURCES...)
# SOURCES hold one LLVMFuzzerTestOneInput. With HCI_FUZZ the program is a libFuzzer; otherwise it
# replays files. Either way ctest fuzz_NAME runs it over tests/fuzz/corpus/NAME.
function(hci_add_fuzzer name)
	set(target fuzz_${name})
	set(corpus ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
	add_executable(${target} ${ARGN})
	target_link_libraries(${target} PRIVATE hci_flags hci_static)
	target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
	# The entry point's name is libFuzzer's; no header declares it.
	set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS -Wno-missing-prototypes)
	if(HCI_FUZZ)
		target_link_options(${target} PRIVATE -fsanitize=fuzzer)
		if(IS_DIRECTORY ${corpus})
			add_test(NAME ${target} COMMAND ${target} -runs=0 ${corpus})
		else()
			add_test(NAME ${target} COMMAND ${target} -runs=1)
		endif()
	else()
		target_sources(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests/fuzz/replay.c)
		add_test(NAME ${target} COMMAND ${target} ${corpus})
	endif()
	hci_test_properties(${target} fuzz)
	set_property(GLOBAL APPEND PROPERTY HCI_FUZZERS ${name})
endfunction()

# Programs of the build tree find the plugins as those of an installed library do: beside libhci.so.
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/lib/hci)
file(CREATE_LINK ../../plugins-out ${PROJECT_BINARY_DIR}/lib/hci/plugins SYMBOLIC)

# hci_add_plugin(NAME SOURCES...): NAME.so, on the public headers only, linked against nothing.
function(hci_add_plugin name)
	add_library(plugin_${name} MODULE ${ARGN})
	set_target_properties(plugin_${name} PROPERTIES PREFIX "" OUTPUT_NAME ${name}
		LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/plugins-out)
	target_include_directories(plugin_${name} PRIVATE ${PROJECT_SOURCE_DIR}/include)
	target_link_libraries(plugin_${name} PRIVATE hci_flags)
	install(TARGETS plugin_${name} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/hci/plugins)
endfunction()

# hci_add_example(NAME SOURCES...): a program on the public API only.
function(hci_add_example name)
	add_executable(${name} ${ARGN})
	target_link_libraries(${name} PRIVATE hci_flags hci)
endfunction()
