/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_TRY_H
#define TESTS_SIM_TRY_H

#include <stdlib.h>

/* One allocation may be made to fail (sweep.c): those of the harness itself are tried again. */
#define TRY_PTR(call)                                  \
	({                                             \
		__typeof__(call) p_ = (call);          \
		if (!p_ && !(p_ = (call)))             \
			abort();                       \
		p_;                                    \
	})
#define TRY(call)                                      \
	do {                                           \
		if ((call) && (call))                  \
			abort();                       \
	} while (0)

#endif
