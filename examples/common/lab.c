/* SPDX-License-Identifier: Apache-2.0 */
#include "lab.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct lab *running; /* for the end of the program, however it comes */

static void remove_dir(const struct lab *lab)
{
	char cmd[96];

	/* A volume that an ending program still has attached writes to the store now and then: try again. */
	snprintf(cmd, sizeof(cmd), "rm -rf '%s' 2>/dev/null", lab->dir);
	for (int i = 0; i < 10; i++) {
		if (!system(cmd))
			return;
		usleep(100000);
	}
	fprintf(stderr, "left behind: %s\n", lab->dir);
}

/* At the end of a program that must() ended: the nodes write until they are stopped. */
static void at_end(void)
{
	if (running)
		lab_down(running);
}

/* HCI_EXAMPLE_LOG=1 in the environment shows what the library says. */
static void say(void *arg, int32_t level, const char *subsystem, const char *line)
{
	(void)arg;
	(void)level;
	fprintf(stderr, "%s: %s\n", subsystem, line);
}

static hci_cluster *open_as(struct lab *lab, const char *name)
{
	struct hci_cluster_opts o = HCI_CLUSTER_OPTS_INIT;
	struct hci_error err;
	hci_cluster *c;

	o.store_url = lab->store;
	o.client_name = name;
	if (getenv("HCI_EXAMPLE_LOG")) {
		o.log = say;
		o.log_level = HCI_LOG_DEBUG;
	}
	must(hci_cluster_open(&c, &o, &err));
	return c;
}

void lab_start_node(struct lab *lab, int i)
{
	struct hci_node_opts o = HCI_NODE_OPTS_INIT;
	struct hci_error err;
	char name[16];

	snprintf(name, sizeof(name), "n%d", i + 1);
	lab->cluster[i] = open_as(lab, name);
	o.name = name;
	o.listen = lab->address[i][0] ? lab->address[i] : "tcp:127.0.0.1:0";
	o.run_dir = lab->dir;
	must(hci_node_start(&lab->node[i], lab->cluster[i], &o, &err));
	snprintf(lab->address[i], sizeof(lab->address[i]), "%s", hci_node_address(lab->node[i]));
}

void lab_stop_node(struct lab *lab, int i)
{
	hci_node_stop(lab->node[i]);
	hci_cluster_unref(lab->cluster[i]);
	lab->node[i] = NULL;
	lab->cluster[i] = NULL;
}

void lab_up(struct lab *lab)
{
	struct hci_pool_opts pool = HCI_POOL_OPTS_INIT;
	struct hci_error err;

	memset(lab, 0, sizeof(*lab));
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* Not /tmp, which may be in memory: the disks want O_DIRECT. */
	snprintf(lab->dir, sizeof(lab->dir), "/var/tmp/hci-example-XXXXXX");
	if (!mkdtemp(lab->dir)) {
		perror(lab->dir);
		exit(1);
	}
	running = lab;
	atexit(at_end);
	snprintf(lab->store, sizeof(lab->store), "sqlite:%s/cluster.db", lab->dir);
	must(hci_cluster_create(lab->store, "lab", &err));
	for (int i = 0; i < LAB_NODES; i++)
		lab_start_node(lab, i);
	lab->client = open_as(lab, "example");
	pool.name = "p";
	must(hci_pool_create(lab->client, &pool, &err));
	for (int i = 0; i < LAB_NODES; i++) {
		struct hci_disk_opts disk = HCI_DISK_OPTS_INIT;
		char path[96], node[16];

		snprintf(node, sizeof(node), "n%d", i + 1);
		snprintf(path, sizeof(path), "%s/%s", lab->dir, node);
		mkdir(path, 0700);
		disk.node = node;
		disk.path = path;
		disk.pool = "p";
		must(hci_disk_add(lab->client, &disk, NULL, &err));
	}
}

void lab_volume(struct lab *lab, const char *name, uint64_t bytes)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;
	struct hci_error err;

	o.name = name;
	o.pool = "p";
	o.bytes = bytes;
	/* On all nodes, so that each of them matters to the examples. */
	o.replicas = LAB_NODES;
	o.segment_bytes = 4 << 20;
	o.write_timeout_ms = 1000;
	must(hci_volume_create(lab->client, &o, &err));
}

void lab_down(struct lab *lab)
{
	running = NULL;
	hci_cluster_unref(lab->client);
	for (int i = 0; i < LAB_NODES; i++)
		if (lab->node[i])
			lab_stop_node(lab, i);
	remove_dir(lab);
}
