/* SPDX-License-Identifier: Apache-2.0 */
/* hci/metrics.h: the registry, with gauges of the cluster as it is now. */
#include "api/api_impl.h"

static void gauge(hci_cluster *c, const char *name, const char *help, const char *labels, uint64_t v)
{
	metric_set(metrics_gauge(c->metrics, name, help, labels), (int64_t)v);
}

static bool disk_gauges(void *arg, const struct rec_disk *d)
{
	hci_cluster *c = arg;
	const struct rec_diskstat *st = core_diskstat(c->core, &d->uuid);
	char id[HCI_UUID_STR], labels[256];

	if (d->state == REC_DISK_REMOVED)
		return true;
	uuid_print(&d->uuid, id);
	snprintf(labels, sizeof(labels), "disk=\"%s\",node=\"%s\",pool=\"%s\"", id, d->node, d->pool);
	gauge(c, "hci_disk_online", "1 when the disk is online.", labels, d->state == REC_DISK_ONLINE);
	gauge(c, "hci_disk_capacity_bytes", "Size of the disk.", labels, d->capacity);
	if (st) {
		gauge(c, "hci_disk_free_bytes", "Free bytes of the disk.", labels, st->free);
		gauge(c, "hci_disk_segments", "Segments that hold data on the disk.", labels, st->segments);
	}
	return true;
}

static bool node_gauges(void *arg, const struct rec_node *n)
{
	hci_cluster *c = arg;
	char labels[HCI_NAME_MAX + 16];

	snprintf(labels, sizeof(labels), "node=\"%s\"", n->name);
	gauge(c, "hci_node_alive", "1 while the node has a heartbeat.", labels, core_alive(c->core, n->name) != NULL);
	return true;
}

static int text_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct buf *b = arg;

	core_each_node(c->core, node_gauges, c);
	core_each_disk(c->core, disk_gauges, c);
	metrics_print(c->metrics, b);
	buf_append(b, "", 1);
	return b->failed ? err_set(err, HCI_E_NOMEM, "metrics: out of memory") : 0;
}

int hci_metrics_text(char **out, uint64_t *len, hci_cluster *cluster, struct hci_error *err)
{
	struct buf b = BUF_INIT;
	int rc;

	if (!out || !cluster)
		return api_null(out ? "cluster" : "out", err);
	*out = NULL;
	rc = api_call(cluster, text_on_loop, &b, err);
	if (rc) {
		buf_free(&b);
		return rc;
	}
	*out = (char *)b.data;
	if (len)
		*len = b.len - 1;
	return 0;
}

void hci_metrics_free(char *text)
{
	mem_free(text);
}
