/* SPDX-License-Identifier: Apache-2.0 */
/* See vol_metrics.h. */
#include "volume/vol_metrics.h"

#include <stdio.h>

#include "volume/volume_impl.h"

#define LABELS (HCI_NAME_MAX + 16)

static void labels_of(char out[LABELS], const char *name)
{
	snprintf(out, LABELS, "volume=\"%s\"", name);
}

void vol_metrics_begin(struct vol *v)
{
	struct metrics *m = env_metrics(v->e);
	char l[LABELS];

	labels_of(l, v->rec.name);
	v->m_read = metrics_histogram(m, "hci_volume_read_seconds", "Time of reads.", l);
	v->m_write = metrics_histogram(m, "hci_volume_write_seconds", "Time of writes.", l);
	v->m_resync = metrics_counter(m, "hci_volume_resync_bytes_total", "Bytes copied to replicas.", l);
	v->m_mended = metrics_counter(m, "hci_volume_mended_blocks_total", "Blocks that a replica had damaged, repaired in place.", l);
	v->m_lost = metrics_counter(m, "hci_volume_lost_blocks_total", "Blocks that were read and are damaged on every replica in sync.",
				    l);
	v->m_hedged = metrics_counter(m, "hci_volume_hedged_reads_total",
				      "Reads asked of a second replica, as the first had not answered in time.", l);
}

void vol_metrics_end(struct vol *v)
{
	struct metric *all[] = { v->m_read, v->m_write, v->m_resync, v->m_mended, v->m_lost, v->m_hedged };

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
		metrics_rest(env_metrics(v->e), all[i]);
}

void vol_metrics_forget(struct env *e, const char *name)
{
	char l[LABELS];

	labels_of(l, name ? name : "");
	metrics_forget(env_metrics(e), name ? l : NULL);
}
