/* SPDX-License-Identifier: Apache-2.0 */
/* The handle of an attached volume, shared by volume_io.c and export.c. */
#ifndef API_VOLUME_IMPL_H
#define API_VOLUME_IMPL_H

#include <sched.h>
#include <stdatomic.h>

#include "api/queue.h"

struct core_report;

struct hci_volume {
	unsigned refs;         /* atomic */
	hci_cluster *c;
	struct vol *v;         /* of the loop; its record's name and size may be read, they do not move */
	_Atomic uint64_t open; /* queued requests */
	_Atomic uint64_t size;
	_Atomic bool fenced;
	struct core_report *report;
	struct core_watcher watcher;
	char key[REC_KEY];
	bool closing;          /* of the loop */
	unsigned reloads;
	bool reload_again;     /* the record changed while it was read */
	struct fiber_cond reloaded;
};

#endif
