/* SPDX-License-Identifier: Apache-2.0 */
/* The processes that get killed: a writer with many requests in flight, and a node. */
#include "crash.h"

#include <time.h>
#include <unistd.h>

#define DEPTH 32
#define RUN_MAX 16 /* blocks of one request */

double crash_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

void block_fill(uint8_t *p, uint32_t block, uint64_t version)
{
	uint64_t *w = (uint64_t *)(void *)p, x = mix(version * BLOCKS + block);

	w[0] = version;
	w[1] = block;
	for (unsigned i = 2; i < BLOCK / 8; i++)
		w[i] = x = x * 6364136223846793005u + 1442695040888963407u;
}

uint64_t block_version(const uint8_t *p, uint32_t block)
{
	static const uint8_t zero[BLOCK];
	_Alignas(8) uint8_t want[BLOCK];
	uint64_t version;

	if (!memcmp(p, zero, BLOCK))
		return 0;
	memcpy(&version, p, 8);
	block_fill(want, block, version);
	return memcmp(p, want, BLOCK) ? UINT64_MAX : version;
}

static void say(void *arg, int32_t level, const char *subsystem, const char *line)
{
	(void)level;
	fprintf(stderr, "%.3f %s %s: %s\n", crash_now(), (const char *)arg, subsystem, line);
}

void crash_store(const char *dir, char *out, size_t size)
{
	snprintf(out, size, "sqlite:%s/cluster.db", dir);
}

hci_cluster *crash_open(const char *dir, const char *name)
{
	struct hci_cluster_opts o = HCI_CLUSTER_OPTS_INIT;
	char store[160], ca[160], cert[192], key[192];
	struct hci_error err;
	hci_cluster *c;

	crash_store(dir, store, sizeof(store));
	o.store_url = store;
	o.client_name = name;
	snprintf(ca, sizeof(ca), "%s/ca.crt", dir);
	if (!access(ca, R_OK)) {
		snprintf(cert, sizeof(cert), "%s/pki-%s/node.crt", dir, name);
		snprintf(key, sizeof(key), "%s/pki-%s/node.key", dir, name);
		o.ca_file = ca;
		o.cert_file = cert;
		o.key_file = key;
	}
	if (getenv("HCI_TEST_LOG")) {
		o.log = say;
		o.log_arg = strdup(name);
		o.log_level = HCI_LOG_DEBUG;
	}
	if (hci_cluster_open(&c, &o, &err))
		die("%s: open: %s", name, err.message);
	return c;
}

/* ---- the writer ---- */

struct request {
	uint32_t block, n;
	uint64_t version;
	uint8_t *buf;
	int busy;
};

static void tell(uint32_t kind, const struct request *r, int32_t status)
{
	struct event e = { kind, r->block, r->n, status, r->version };

	if (write(STDOUT_FILENO, &e, sizeof(e)) != (ssize_t)sizeof(e))
		_exit(0); /* the test is over */
}

static int overlaps(const struct request *all, const struct request *r)
{
	for (unsigned i = 0; i < DEPTH; i++)
		if (all[i].busy && all[i].block < r->block + r->n && r->block < all[i].block + all[i].n)
			return 1;
	return 0;
}

static void submit(hci_volume *v, hci_queue *q, struct request *all, unsigned i, uint64_t *rnd)
{
	struct request *r = &all[i];
	struct hci_error err;
	int rc;

	do {
		*rnd = mix(*rnd);
		r->n = *rnd & 3 ? 1 : 1 + (uint32_t)(*rnd >> 8) % RUN_MAX;
		r->block = (uint32_t)(*rnd >> 32) % (BLOCKS - r->n + 1);
	} while (overlaps(all, r));
	for (uint32_t k = 0; k < r->n; k++)
		block_fill(r->buf + k * BLOCK, r->block + k, r->version);
	tell(EV_SENT, r, 0);
	r->busy = 1;
	rc = hci_volume_submit_write(v, q, r->buf, r->n * BLOCK, (uint64_t)r->block * BLOCK, i, NULL, &err);
	if (rc)
		die("writer: submit: %s", err.message);
}

int writer_main(const char *dir, uint64_t first_version, uint64_t seed, uint32_t lease_ms)
{
	struct hci_attach_opts o = HCI_ATTACH_OPTS_INIT;
	struct request all[DEPTH] = { 0 };
	struct hci_completion done[DEPTH];
	uint64_t version = first_version, rnd = seed;
	hci_cluster *c = crash_open(dir, "writer");
	struct hci_error err;
	hci_volume *v;
	hci_queue *q;
	int over = 0;

	o.lease_ms = lease_ms;
	o.wait_ms = 10000;
	if (hci_volume_attach(&v, c, VOLUME, &o, &err) || hci_queue_create(&q, c, DEPTH, &err))
		die("writer: %s", err.message);
	for (unsigned i = 0; i < DEPTH; i++)
		if (hci_buffer_alloc((void **)&all[i].buf, RUN_MAX * BLOCK, &err))
			die("writer: %s", err.message);
	tell(EV_READY, &all[0], 0);
	for (unsigned i = 0; i < DEPTH; i++) {
		all[i].version = version++;
		submit(v, q, all, i, &rnd);
	}
	for (;;) {
		int n = hci_queue_reap(q, done, DEPTH, 1000);

		for (int k = 0; k < n; k++) {
			struct request *r = &all[done[k].tag];

			tell(done[k].status ? EV_FAILED : EV_DONE, r, done[k].status);
			over |= done[k].status != 0;
			r->busy = 0;
			if (over)
				continue; /* it has another writer now */
			r->version = version++;
			submit(v, q, all, (unsigned)done[k].tag, &rnd);
		}
	}
}

/* ---- a node ---- */

int node_main(const char *dir, int i)
{
	struct hci_node_opts o = HCI_NODE_OPTS_INIT;
	char name[16], addr_file[160], addr[64] = "tcp:127.0.0.1:0";
	struct hci_error err;
	hci_cluster *c;
	hci_node *n;
	FILE *f;
	int rc;

	snprintf(name, sizeof(name), "n%d", i + 1);
	snprintf(addr_file, sizeof(addr_file), "%s/%s.addr", dir, name);
	f = fopen(addr_file, "r");
	if (f) {
		if (!fgets(addr, sizeof(addr), f))
			die("%s: cannot be read", addr_file);
		fclose(f);
	}
	c = crash_open(dir, name);
	o.name = name;
	o.listen = addr;
	o.run_dir = dir;
	o.heartbeat_ms = HEARTBEAT_MS;
	/* Its last life counts as alive until its heartbeat's lease ends. */
	for (unsigned k = 0; (rc = hci_node_start(&n, c, &o, &err)) == HCI_E_BUSY && k < 100; k++)
		usleep(50000);
	if (rc)
		die("%s: %s", name, err.message);
	f = fopen(addr_file, "w");
	if (!f || fputs(hci_node_address(n), f) < 0 || fclose(f))
		die("%s: cannot be written", addr_file);
	if (write(STDOUT_FILENO, "up\n", 3) != 3)
		return 1;
	for (;;)
		pause();
}
