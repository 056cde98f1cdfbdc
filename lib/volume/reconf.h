/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of reconf.c's subject share: what is wanted, the next step of a segment, drops. */
#ifndef VOLUME_RECONF_H
#define VOLUME_RECONF_H

#include "volume/volume_impl.h"

struct reconf {
	struct vol *v;
	struct store_watch *watch;
	bool look;              /* the records may have changed */
	bool have;              /* volmove is there */
	uint64_t rev;           /* its revision */
	struct rec_volmove rec; /* sorted by segment */
	struct list drops;
	uint64_t retry_at;      /* there was no place */
	char why[200];          /* said in the log */
};

enum step { STEP_NONE, STEP_WAIT, STEP_ADD, STEP_REMOVE };

struct todo {
	uint32_t segment;
	enum step step;
	int pos;          /* REMOVE: of which; ADD: instead of which, -1: one more */
	struct uuid disk; /* REMOVE: its disk; ADD: the new one */
	bool done;        /* in the map that was written */
};

/* reconf_step.c */
/* The copy of the segment on this disk was asked to move; NULL: it was not. */
const struct rec_move *reconf_move(const struct vol *v, uint32_t segment, const struct uuid *from);
bool reconf_evacuating(const struct leg *l);
/* The segment's next step as things are now. Must not park. */
void reconf_judge(struct vol *v, uint32_t segment, struct todo *t);
/* Where the copy of a STEP_ADD goes. May park. HCI_E_NOPLACE, or HCI_E_STATE: it was asked to go where it cannot. */
int reconf_home(struct vol *v, struct todo *t, struct hci_error *err);
/* Neither under way nor possible: the copy is not there any more, or the new place is no good. */
bool reconf_move_is_over(struct vol *v, const struct rec_move *m);

/* reconf_drop.c */
void reconf_drop_later(struct reconf *r, uint32_t segment, struct leg *l);
void reconf_drops_run(struct reconf *r);
void reconf_drops_end(struct reconf *r);

#endif
