/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs of "volume" that move data; the table of all is in volume.c. */
#ifndef HCICTL_VOLUME_H
#define HCICTL_VOLUME_H

#include "cli.h"

#define CHUNK (1u << 20)
#define BLOCK 4096u

int volume_import(struct cli *cli);  /* volume_import.c */
int volume_read(struct cli *cli);    /* volume_read.c */
int volume_compare(struct cli *cli); /* volume_compare.c */
int volume_export(struct cli *cli);  /* volume_export.c */

#define OPT_WAIT                                                                              \
	{                                                                                     \
		"wait", "TIME",                                                               \
			"how long to wait for another writer to let go (default: not at all)" \
	}

/* Attaches cli->args[0] as the options say. NULL: said why. */
hci_volume *volume_attach(struct cli *cli);
bool all_zero(const void *p, size_t n);
/* The volume's record. False: said why. */
bool volume_find(struct cli *cli, const char *name, struct hci_volume_info *out);
/* Its replicas, by segment. hci_list_free(). NULL: said why. */
struct hci_replica_info *volume_replicas(struct cli *cli, const char *name, uint64_t *n);

#endif
