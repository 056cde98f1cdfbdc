/* SPDX-License-Identifier: Apache-2.0 */
/* The list of what would stop a migration: made by whoever knows a part of it, told whole. */
#ifndef COMPUTE_PROBLEMS_H
#define COMPUTE_PROBLEMS_H

#include <hci/error.h>
#include <hci/vm.h>

#include "base/base.h"
#include "base/pack.h"

#define PROBLEMS_MAX 64u /* more are not told */

struct problems {
	struct hci_migrate_problem *v;
	uint32_t n, cap;
	int code;    /* of the first one; HCI_E_STATE when another has another; 0: none */
	bool failed; /* out of memory: the list is not whole */
};

void problems_add(struct problems *p, int code, const char *what, const char *cure, const char *why, ...) PRINTF(5, 6);
void problems_free(struct problems *p);
/* One pair of a map: "problems", an array of maps. */
void problems_pack(const struct problems *p, struct buf *out);
/* The array; adds to p. A list from another node is as hostile as all that comes from there: HCI_E_PROTO. */
int problems_read(struct problems *p, struct rd *r);
/*
 * 0 when there is none; else an error that has as many whole ones as fit, and how many are left out. vm, to: for the hint where
 * to find these.
 */
int problems_error(const struct problems *p, const char *vm, const char *to, struct hci_error *err);

#endif
