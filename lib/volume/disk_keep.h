/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that its node keeps open as the record says, also when its write log is on another device and that is away. What decides is
 * here, for the node service (lib/cluster/node_disk.c) and for the simulator alike.
 *
 * Until the time set for it is over a disk without its log is offline and waits: a log that comes back goes on from there. After
 * that, or when what comes back is an old copy, what the disk holds is not the newest and counts for nothing. It is given up like a
 * disk that was pulled: the record says "removed", and a new one, of another UUID, takes its place in the directory. The new
 * UUID is what makes it safe: nobody can ever take the emptied disk, or what is left of it, for a member of an in-sync set. So
 * it is formatted until it was open once, and never again: when the record becomes "online" it no longer says whom the disk replaces.
 *
 * One that is still counted on is not given up, though: where a volume has it in its in-sync set it may be the last copy, and its
 * log may yet be found.
 */
#ifndef VOLUME_DISK_KEEP_H
#define VOLUME_DISK_KEEP_H

#include "base/since.h"
#include "replica/replica.h"
#include "store/records.h"

/* Of one disk, in one life of its node; all zeroes: nothing is known yet. */
struct disk_keep {
	bool opened;             /* in this life, so never to be formatted, whatever an old copy of the record says */
	bool log_away;           /* seen by this life to be offline for its log, */
	struct since away_for;   /* for so long */
	uint64_t look_at;        /* when to look again whether its lost content may be given up */
	struct hci_error needed; /* why not; code 0: it could */
	uint64_t logs_at;        /* when to look again for logs that nobody needs, where its own is to be made */
	struct disk_logs {
		unsigned n;       /* files that take room there, of no disk in use, and may be needed */
		char first[160];  /* one of them, and why it stays */
	} logs;
};

struct disk_keep_how {
	struct env *env;
	struct store *store;
	const struct rec_disk *rec;  /* lent for the call, and not changed meanwhile: a copy */
	struct repl_disk_opts base;  /* cluster, reserve, on_failed, arg; a log_size if the record has none. The rest is the record's */
	const bool *stopping;        /* the node's service ends */
	uint32_t mutate;             /* 0, or VOL_MUTATE_* */
};

/* From a fiber: 0: nobody. HCI_E_BUSY: that volume has it in its in-sync set; or nobody knows: an error of the store, HCI_E_CLOSED. */
int disk_keep_needed(const struct disk_keep_how *h, const struct uuid *disk, char volume[HCI_NAME_MAX], struct hci_error *err);
/*
 * From a fiber: removes from the directory that h->rec's log is to be in the logs of its node's removed disks that no volume
 * counts on (disk_logs.c), and tells what it leaves.
 */
void disk_logs_drop(const struct disk_keep_how *h, struct disk_logs *left);

/* Will opening it format it, if it is not yet? */
bool disk_keep_fresh(const struct rec_disk *r);
/*
 * From a fiber: formats if need be, opens. *then: the state that the record should have now; one that is being evacuated when it is
 * online stays so, and whether it still is the record says, not h->rec: that may have been called off meanwhile. With "online" the record's
 * `replaces` has to go. REC_DISK_REMOVED: the disk was given up,
 * its record says so already, and there is one of its successor. An error, too, so that nobody takes it for open.
 */
int disk_keep_open(struct disk_keep *k, const struct disk_keep_how *h, struct repl_disk **out, enum rec_disk_state *then,
		   struct hci_error *err);
/*
 * From a fiber: a disk that nobody reads or writes dies unnoticed, or loses its log, and with it a copy that is counted on. So each
 * is read from now and then, past the page cache. log: file or device, "" for one on the disk.
 */
int disk_keep_probe(struct env *e, const char *disk, const char *log, struct hci_error *err);

#endif
