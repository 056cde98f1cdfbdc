/* SPDX-License-Identifier: Apache-2.0 */
/* What the unit tests share: main() around one suite, and a walk through allocation failures. */
#ifndef TESTS_UNIT_HARNESS_H
#define TESTS_UNIT_HARNESS_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

#define HARNESS_MAIN(make_suite)                                 \
	int main(void)                                           \
	{                                                        \
		SRunner *runner_ = srunner_create(make_suite()); \
		int failed_;                                     \
                                                                 \
		srunner_run_all(runner_, CK_ENV);                \
		failed_ = srunner_ntests_failed(runner_);        \
		srunner_free(runner_);                           \
		return failed_ ? EXIT_FAILURE : EXIT_SUCCESS;    \
	}

/*
 * Runs the block that follows again and again, with the 1st, 2nd, ... allocation of this thread
 * failing, until it makes fewer than that. The block must not leave the loop.
 */
#define FOR_EACH_ALLOC_FAILURE(n)                                   \
	for (uint64_t n = (mem_fail_nth(1), 1), again_ = 1; again_; \
	     again_ = mem_fail_nth(n + 1) >= n, n++, again_ || mem_fail_nth(0))

#endif
