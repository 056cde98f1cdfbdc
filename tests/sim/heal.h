/* SPDX-License-Identifier: Apache-2.0 */
/* A volume in the simulated world whose copies are lost and made again: for tests of one thing at a time. */
#ifndef TESTS_SIM_HEAL_H
#define TESTS_SIM_HEAL_H

#include <check.h>

#include "sim/engine.h"
#include "volume/volume_impl.h"

struct heal {
	struct cluster *c;
	struct vol_create create;
	struct uuid id;
	struct vol *v;  /* of the client that has it attached */
	uint64_t round; /* of heal_fill */
	void *arg;      /* the test's */
};

/* Cluster and volume; name, pool and place of the volume are filled in. Fails the test when that does not work. */
void heal_up(struct heal *h, const struct cluster_opts *o, const struct vol_create *volume);
void heal_down(struct heal *h);
/* fn as a fiber there until its end; fails the test when the node dies or it takes ten minutes. */
void heal_call(struct heal *h, struct cl_node *n, void (*fn)(struct life *l, void *arg), void *arg);

/* For heal_call, with the heal as arg. */
void heal_create(struct life *l, void *arg);
void heal_attach(struct life *l, void *arg);
void heal_detach(struct life *l, void *arg);
void heal_fill(struct life *l, void *arg);  /* writes all of it, other content each time */
void heal_check(struct life *l, void *arg); /* it reads as the last heal_fill left it */
void heal_whole(struct life *l, void *arg); /* waits until it is */
void heal_compare(struct life *l, void *arg);

bool heal_is_whole(struct heal *h);
/* Failed and taken out of the cluster at once. */
void heal_kill_disk(struct cl_disk *d);

#endif
