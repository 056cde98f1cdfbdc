/* SPDX-License-Identifier: Apache-2.0 */
/* What move.c (the scene), move_faults.c and move_judge.c share. */
#ifndef TESTS_SIM_MOVE_IMPL_H
#define TESTS_SIM_MOVE_IMPL_H

#include "cluster/node_vm_impl.h"
#include "sim/move.h"
#include "sim/vmm.h"
#include "store/store_sim.h"

#define MOVE_VM "vm1"
#define MOVE_VOLUME "vol"
#define MOVE_USB "key"
#define MOVE_JOB "m1"
#define MOVE_STOP_JOB "s1"
#define MOVE_FROM 0u
#define MOVE_TO 1u

struct move {
	struct move_opts o;
	struct move_result *r;
	struct sim *sim;
	struct simstore *store;
	struct vmm v;
	struct sim_disk *disk[VMM_HOSTS];
	struct core *core[VMM_HOSTS]; /* NULL: its service is down, or not ready */
	struct node *node[VMM_HOSTS];
	struct uuid cluster, vm, volume;
	bool created;
	bool counting;
	bool stop_asked, only_stop; /* of all faults */
	unsigned open;   /* faults that are not over */
	uint64_t longest;
	bool host_lost;  /* a machine or QEMU was: the guest may have been started anew, or be stopped */
	bool boot_again[VMM_HOSTS];
	uint64_t born;   /* of the guest that moves */
};

/* Decodes what the store has now: rec_X_decode. False: absent. */
#define MOVE_PEEK(m, kind, key, out)                                                             \
	({                                                                                       \
		uint32_t len_ = 0;                                                               \
		const void *at_ = simstore_peek((m)->store, key, &len_);                         \
		at_ && !rec_##kind##_decode(at_, len_, out, NULL);                               \
	})
#define MOVE_PUT(m, kind, key, rec)                                                              \
	do {                                                                                     \
		struct buf b_ = BUF_INIT;                                                        \
		if (rec_##kind##_encode(rec, &b_))                                               \
			abort();                                                                 \
		simstore_put((m)->store, key, b_.data, (uint32_t)b_.len);                        \
		buf_free(&b_);                                                                   \
	} while (0)

void move_boot(struct move *m, unsigned i); /* the service there */
void move_fail(void *arg, const char *why);
/* move_faults.c */
void move_strike(struct move *m, enum move_fault f);
/* move_judge.c: "" when all is as it should be after the end. */
void move_whole(struct move *m, char *why, size_t cap);
/* Where the guest runs; -1: nowhere. */
int move_where(struct move *m);
bool move_job_ended(struct move *m, const char *id, struct rec_job *r);
bool move_was_stopped(struct move *m); /* the job that was to stop it says so */

#endif
