/* SPDX-License-Identifier: Apache-2.0 */
/* A record of each type to test with. */
#ifndef TESTS_STORE_RECORD_SAMPLES_H
#define TESTS_STORE_RECORD_SAMPLES_H

#include "store/records.h"

/* rec: rec_size(t) zeroed bytes. full: every field and list at its limit; else a small, usual one.
 */
void sample_fill(const struct rec_type *t, void *rec, int full);

#endif
