/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hci/metrics.h: the registry, and gauges of the cluster. Those are printed from the records as they are at this moment and kept
 * nowhere: what was removed is not there any more.
 */
#include "api/api_impl.h"

struct view {
	hci_cluster *c;
	struct buf *out;
	const struct disk_gauge *g;
};

struct disk_gauge {
	const char *name, *help;
	/* False: it is not known. */
	bool (*value)(hci_cluster *c, const struct rec_disk *d, uint64_t *v);
};

static bool disk_online(hci_cluster *c, const struct rec_disk *d, uint64_t *v)
{
	*v = d->state == REC_DISK_ONLINE && core_alive(c->core, d->node);
	return true;
}

static bool disk_capacity(hci_cluster *c, const struct rec_disk *d, uint64_t *v)
{
	(void)c;
	*v = d->capacity;
	return true;
}

static bool disk_free(hci_cluster *c, const struct rec_disk *d, uint64_t *v)
{
	const struct rec_diskstat *st = core_diskstat(c->core, &d->uuid);

	if (st)
		*v = st->free;
	return st;
}

static bool disk_segments(hci_cluster *c, const struct rec_disk *d, uint64_t *v)
{
	const struct rec_diskstat *st = core_diskstat(c->core, &d->uuid);

	if (st)
		*v = st->segments;
	return st;
}

static const struct disk_gauge disk_gauges[] = {
	{ "hci_disk_online", "1 when the disk is online, and its node has a heartbeat.", disk_online },
	{ "hci_disk_capacity_bytes", "Size of the disk.", disk_capacity },
	{ "hci_disk_free_bytes", "Free bytes of the disk.", disk_free },
	{ "hci_disk_segments", "Segments that hold data on the disk.", disk_segments },
};

static bool disk_line(void *arg, const struct rec_disk *d)
{
	struct view *x = arg;
	char id[HCI_UUID_STR], labels[256];
	uint64_t v;

	if (d->state == REC_DISK_REMOVED || !x->g->value(x->c, d, &v))
		return true;
	uuid_print(&d->uuid, id);
	snprintf(labels, sizeof(labels), "disk=\"%s\",node=\"%s\",pool=\"%s\"", id, d->node, d->pool);
	metrics_print_gauge(x->out, x->g->name, labels, (int64_t)v);
	return true;
}

static bool node_line(void *arg, const struct rec_node *n)
{
	struct view *x = arg;
	char labels[HCI_NAME_MAX + 16];

	snprintf(labels, sizeof(labels), "node=\"%s\"", n->name);
	metrics_print_gauge(x->out, "hci_node_alive", labels, core_alive(x->c->core, n->name) != NULL);
	return true;
}

static int text_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct buf *b = arg;
	struct view x = { .c = c, .out = b };

	metrics_print(c->metrics, b);
	metrics_print_head(b, "hci_node_alive", "1 while the node has a heartbeat.");
	core_each_node(c->core, node_line, &x);
	for (size_t i = 0; i < ARRAY_SIZE(disk_gauges); i++) {
		x.g = &disk_gauges[i];
		metrics_print_head(b, x.g->name, x.g->help);
		core_each_disk(c->core, disk_line, &x);
	}
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
