/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One live migration in the simulated world, and something that happens to it at a step: three nodes with the real node service, rpc,
 * replicas and volumes, a libvirtd and a QEMU each (vmm.h), a VM that moves from the first to the second. Steps are counted from
 * the job on: each thing that arrives, each connection that comes or ends, each request to the store, each call of the hypervisor.
 */
#ifndef TESTS_SIM_MOVE_H
#define TESTS_SIM_MOVE_H

#include "base/base.h"
#include "base/log.h"

enum move_fault {
	MOVE_CUT,          /* the link between both, both ways */
	MOVE_CUT_THERE,    /* from source to destination */
	MOVE_CUT_BACK,
	MOVE_RESET,        /* their connections end, new ones can be made */
	MOVE_KILL_SRC,     /* node services, killed; they come back */
	MOVE_KILL_DST,
	MOVE_HOST_SRC,     /* machines lose power */
	MOVE_HOST_DST,
	MOVE_LIBVIRTD_SRC, /* killed, and started anew */
	MOVE_LIBVIRTD_DST,
	MOVE_QEMU_SRC,     /* killed */
	MOVE_QEMU_DST,
	MOVE_STORE_SRC,    /* not reached from there for a while */
	MOVE_STORE_DST,
	MOVE_STORE_ALL,
	MOVE_SLOW_SRC,     /* the service does nothing for a while, then goes on as if nothing had been */
	MOVE_SLOW_DST,
	MOVE_CANCEL,       /* somebody asks for it */
	MOVE_GONE_SRC,     /* service and QEMU killed together, as of a container that is stopped whole: the machine runs on */
	MOVE_STOP,         /* somebody asks for the VM to be stopped, of the node where it is then */
	MOVE_FAULTS,
};
const char *move_fault_name(enum move_fault f);

#define MOVE_AT_MAX 4
struct move_opts {
	uint64_t seed;
	struct {
		uint64_t step; /* 0: none */
		enum move_fault fault;
	} at[MOVE_AT_MAX];
	uint64_t timeout_ms; /* of the job, 0: none */
	bool ran_on; /* once, when the guest that has gone on at the source after its memory had left is told of a write: MOVE_GONE_SRC */
	uint32_t mutate;     /* HO_MUTATE_* */
	bool verbose;
};

struct move_result {
	uint64_t steps, events, digest, virtual_ns;
	uint64_t job_ms; /* how long it took */
	int job;         /* 0, or why it failed */
	int at;          /* the machine where the guest runs in the end; -1: it was stopped */
	char why[600];   /* what must not be; "": nothing */
};
void move_play(const struct move_opts *o, struct move_result *r);

#endif
