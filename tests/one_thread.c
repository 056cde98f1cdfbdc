/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In each test that is built as ONE_THREAD (cmake/HciHelpers.cmake), which TSan is therefore not run on: the first thread
 * it starts ends it. The linker sends pthread_create here.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	(void)thread;
	(void)attr;
	(void)start;
	(void)arg;
	fprintf(stderr, "This test starts a thread, but is declared ONE_THREAD in its CMakeLists.txt: TSan would never see it. "
			"Remove the word there.\n");
	abort();
}
