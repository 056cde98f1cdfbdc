/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int tls_on;

static void say(void *arg, int32_t level, const char *subsystem, const char *line)
{
	(void)level;
	if (getenv("HCI_TEST_LOG"))
		fprintf(stderr, "%s %s: %s\n", (const char *)arg, subsystem, line);
}

static void must(struct world *w, int rc, const char *what)
{
	ck_assert_msg(rc >= 0, "%s: %s: %s", what, hci_strerror(rc), w->err.message);
}

static hci_cluster *open_as(struct world *w, const char *name, char who[16])
{
	struct hci_cluster_opts o = HCI_CLUSTER_OPTS_INIT;
	char dir[128], ca[192], cert[192], key[192];
	hci_cluster *c;

	snprintf(who, 16, "%s", name);
	o.store_url = w->store;
	o.client_name = name;
	o.log = say;
	o.log_arg = who;
	o.log_level = HCI_LOG_DEBUG;
	if (tls_on) {
		snprintf(dir, sizeof(dir), "%s/pki-%s", w->dir, name);
		mkdir(dir, 0700);
		must(w, hci_pki_issue(w->dir, name, "127.0.0.1", dir, 0, &w->err), "certificate");
		snprintf(ca, sizeof(ca), "%s/ca.crt", dir);
		snprintf(cert, sizeof(cert), "%s/node.crt", dir);
		snprintf(key, sizeof(key), "%s/node.key", dir);
		o.ca_file = ca;
		o.cert_file = cert;
		o.key_file = key;
	}
	must(w, hci_cluster_open(&c, &o, &w->err), "open");
	return c;
}

void world_up(struct world *w, int tls)
{
	uint32_t depth = w->copy_depth;

	memset(w, 0, sizeof(*w));
	w->copy_depth = depth;
	tls_on = tls;
	/* The root file system, not a tmpfs: O_DIRECT is to be real. */
	snprintf(w->dir, sizeof(w->dir), "/var/tmp/hci-api-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(w->dir));
	snprintf(w->store, sizeof(w->store), "sqlite:%s/cluster.db", w->dir);
	must(w, hci_cluster_create(w->store, "test", &w->err), "create");
	if (tls)
		must(w, hci_pki_create_ca(w->dir, "test", &w->err), "ca");
	for (int i = 0; i < WORLD_NODES; i++)
		snprintf(w->addr[i], sizeof(w->addr[i]), "tcp:127.0.0.1:0");
	for (int i = 0; i < WORLD_NODES; i++)
		world_node_start(w, i);
	w->client = open_as(w, "client", w->who[WORLD_NODES]);
}

void world_node_start(struct world *w, int i)
{
	struct hci_node_opts o = HCI_NODE_OPTS_INIT;
	char name[16];

	snprintf(name, sizeof(name), "n%d", i + 1);
	w->cluster[i] = open_as(w, name, w->who[i]);
	o.name = name;
	o.listen = w->addr[i];
	o.run_dir = w->dir;
	o.heartbeat_ms = 500;
	o.ram_disks = w->ram_disks;
	o.copy_depth = w->copy_depth;
	o.libvirt_uri = w->libvirt_uri;
	must(w, hci_node_start(&w->node[i], w->cluster[i], &o, &w->err), "node start");
	/* The same address in its next life. */
	snprintf(w->addr[i], sizeof(w->addr[i]), "%s", hci_node_address(w->node[i]));
}

void world_node_stop(struct world *w, int i)
{
	hci_node_stop(w->node[i]);
	hci_cluster_unref(w->cluster[i]);
	w->node[i] = NULL;
	w->cluster[i] = NULL;
}

void world_pool(struct world *w, uint32_t rebuild_delay_ms)
{
	struct hci_pool_opts p = HCI_POOL_OPTS_INIT;

	p.name = "p";
	p.rebuild_delay_ms = rebuild_delay_ms;
	must(w, hci_pool_create(w->client, &p, &w->err), "pool");
	for (int i = 0; i < WORLD_NODES; i++) {
		for (int d = 0; d < 3; d++) {
			struct hci_disk_opts o = HCI_DISK_OPTS_INIT;
			char node[16], path[128];

			snprintf(node, sizeof(node), "n%d", i + 1);
			snprintf(path, sizeof(path), "%s/%s-d%d", w->dir, node, d);
			mkdir(path, 0700);
			o.node = node;
			o.path = path;
			o.pool = "p";
			o.role = d == 2 ? HCI_DISK_SPARE : HCI_DISK_DATA;
			o.timeout_ms = 100000; /* also under a sanitizer, beside others that write */
			must(w, hci_disk_add(w->client, &o, NULL, &w->err), "disk");
		}
	}
}

void world_down(struct world *w)
{
	char cmd[128];

	hci_cluster_unref(w->client);
	for (int i = 0; i < WORLD_NODES; i++)
		if (w->node[i])
			world_node_stop(w, i);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", w->dir);
	ck_assert_int_eq(system(cmd), 0);
}
