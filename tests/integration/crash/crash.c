/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash MODE ROUNDS [SEED]: processes killed with SIGKILL under a load whose every block can be checked.
 *
 *   writer  the process that has the volume attached; how long until another has it
 *   nodes   a node at a time, restarted later, under a writer that must not notice
 *   all     writer and all nodes in one moment
 *   stale   the writer stopped for longer than its lease, and let go on when another has the volume
 *   fio     the process that exports the volume to fio, which verifies what it wrote (fio.c)
 *
 * After each round every block holds the last write that was acknowledged, or one that was in flight at
 * the kill; the same from both replicas; and what it was found to hold it keeps.
 */
#include "crash.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MiB (1u << 20)

static char dir[64];
static hci_cluster *checker;
static struct child node[NODES], writer;
static struct hci_error err;
static uint64_t rnd;

/* What the writer told: the last acknowledged version of each block, and the one in flight. */
static uint64_t acked[BLOCKS], flying[BLOCKS], next_version = 1;
static int stale, stale_status; /* failures are meant to be; the last one */
static unsigned stops_in_store;
static uint64_t late;           /* acknowledged after another had attached */
static uint64_t sent, done, failed, lost, torn, differ, old_seen, new_seen;

static double since_kill[10000], since_lease[10000];
static unsigned attaches;

static void must(int rc, const char *what)
{
	if (rc < 0)
		die("%s: %s: %s", what, hci_strerror(rc), err.message);
}

uint32_t crash_dice(uint32_t n)
{
	rnd = rnd * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(rnd >> 33) % n;
}

/* ---- processes ---- */

struct child crash_spawn(const char *role, const char *a, const char *b)
{
	struct child c;
	int p[2];

	if (pipe2(p, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	c.fd = p[0];
	c.pid = fork();
	if (c.pid < 0)
		die("fork: %s", strerror(errno));
	if (!c.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(p[1], STDOUT_FILENO);
		execl("/proc/self/exe", "crash", role, dir, a, b, (char *)NULL);
		_exit(127);
	}
	close(p[1]);
	return c;
}

void crash_kill(struct child *c)
{
	if (c->pid <= 0)
		return;
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, 0);
	c->pid = 0;
}

static void node_up(int i)
{
	struct pollfd p;
	char number[8], line[8];

	snprintf(number, sizeof(number), "%d", i);
	node[i] = crash_spawn("node", number, NULL);
	p = (struct pollfd){ .fd = node[i].fd, .events = POLLIN };
	if (poll(&p, 1, 20000) != 1 || read(node[i].fd, line, 3) != 3)
		die("node n%d does not start", i + 1);
}

static void node_kill(int i)
{
	crash_kill(&node[i]);
	close(node[i].fd);
}

/* Removes the folder when this process has ended, however it ends: its own threads use files in it. */
static void janitor(void)
{
	char cmd[96], c;
	int p[2];

	if (getenv("KEEP") || pipe2(p, O_CLOEXEC))
		return;
	if (fork()) {
		close(p[0]);
		return;
	}
	setsid();
	close(p[1]);
	while (read(p[0], &c, 1) < 0 && errno == EINTR)
		;
	usleep(300000); /* the others get their signal at the same time */
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	_exit(system(cmd) != 0);
}

static void on_exit_kill(void)
{
	fio_stop();
	crash_kill(&writer);
	for (int i = 0; i < NODES; i++)
		crash_kill(&node[i]);
}

/* ---- what the writer tells ---- */

static void take(const struct event *e)
{
	for (uint32_t i = e->block; i < e->block + e->n && e->kind != EV_READY; i++) {
		if (e->kind == EV_SENT) {
			flying[i] = e->version;
		} else if (e->kind == EV_DONE) {
			acked[i] = e->version;
			flying[i] = 0;
		}
	}
	if (e->kind == EV_FAILED) {
		failed++;
		stale_status = e->status;
		if (!stale)
			fprintf(stderr, "write %llu failed: %s\n", (unsigned long long)e->version, hci_strerror(e->status));
	}
	sent += e->kind == EV_SENT;
	done += e->kind == EV_DONE;
	if (e->version >= next_version)
		next_version = e->version + 1;
}

/* Listens until a moment, or the first event of a kind, or the writer's end; false at its end. */
static int listen_until(double until, uint32_t kind)
{
	static struct event e[1024];
	static size_t have;
	struct pollfd p = { .fd = writer.fd, .events = POLLIN };
	ssize_t n;

	for (;;) {
		double left = until - crash_now();
		int found = 0;

		if (left <= 0 || poll(&p, 1, (int)(left * 1000) + 1) == 0)
			return 1;
		n = read(writer.fd, (char *)e + have, sizeof(e) - have);
		if (n <= 0) {
			have = 0;
			return 0;
		}
		have += (size_t)n;
		for (size_t i = 0; i < have / sizeof(*e); i++) {
			take(&e[i]);
			found |= e[i].kind == kind;
		}
		memmove(e, &e[have / sizeof(*e)], have % sizeof(*e));
		have %= sizeof(*e);
		if (found)
			return 1;
	}
}

static void writer_up(void)
{
	char version[24], seed[24];

	snprintf(version, sizeof(version), "%llu", (unsigned long long)next_version);
	snprintf(seed, sizeof(seed), "%u", crash_dice(1u << 30));
	writer = crash_spawn("writer", version, seed);
	if (!listen_until(crash_now() + 20, EV_READY))
		die("the writer ended before it was attached");
}

static double writer_kill(void)
{
	double t;

	kill(writer.pid, SIGKILL);
	t = crash_now();
	crash_kill(&writer);
	while (listen_until(crash_now() + 5, 0))
		;
	close(writer.fd);
	return t;
}

/* ---- checking ---- */

static hci_volume *attach(double killed)
{
	struct hci_attach_opts o = HCI_ATTACH_OPTS_INIT;
	hci_volume *v;
	double t;

	o.wait_ms = stale ? 5000 : 30000;
	o.lease_ms = 5000; /* it is given back in the end; repairs take over what stalls */
	if (hci_volume_attach(&v, checker, VOLUME, &o, &err)) {
		if (stale && (err.code == HCI_E_BUSY || strstr(err.message, "store (sqlite): no answer")))
			return NULL;
		die("attach: %s", err.message);
	}
	t = crash_now() - killed;
	since_kill[attaches] = t * 1000;
	/* The last renewal was at most a quarter of the lease before the kill: counted against us. */
	since_lease[attaches++] = t * 1000 - LEASE_MS * 0.75;
	return v;
}

static void wait_healthy(hci_volume *v)
{
	struct hci_volume_status s;

	for (int i = 0; i < 1200; i++) {
		must(hci_volume_status(v, &s, sizeof(s), &err), "status");
		if (!s.replicas_out && !s.segments_degraded)
			return;
		usleep(50000);
	}
	die("the volume does not heal: %u replicas out, %u segments degraded", s.replicas_out, s.segments_degraded);
}

static void check_block(const uint8_t *p, uint32_t b)
{
	uint64_t v = block_version(p, b);

	if (v == UINT64_MAX) {
		torn++;
		fprintf(stderr, "block %u holds what nobody wrote\n", b);
	} else if (v != acked[b] && (!flying[b] || v != flying[b])) {
		lost++;
		fprintf(stderr, "block %u holds write %llu: %llu was acknowledged, %llu in flight\n", b, (unsigned long long)v,
			(unsigned long long)acked[b], (unsigned long long)flying[b]);
	} else if (flying[b]) {
		*(v == flying[b] ? &new_seen : &old_seen) += 1;
	}
	acked[b] = v;
	flying[b] = 0;
}

static void check_volume(hci_volume *v)
{
	static uint8_t buf[MiB];

	for (uint32_t b = 0; b < BLOCKS; b += MiB / BLOCK) {
		must(hci_volume_pread(v, buf, MiB, (uint64_t)b * BLOCK, &err), "read");
		for (uint32_t i = 0; i < MiB / BLOCK; i++)
			check_block(buf + i * BLOCK, b + i);
	}
}

static void check_replicas(void)
{
	static uint8_t buf[MiB];
	struct hci_replica_info *r;
	uint64_t n;

	must(hci_volume_replicas(checker, VOLUME, &r, &n, sizeof(*r), &err), "replicas");
	for (uint64_t i = 0; i < n; i++) {
		if (r[i].state != HCI_REPLICA_IN_SYNC)
			die("replica of segment %u on node %s is not in sync", r[i].segment, r[i].node);
		for (uint32_t off = 0; off < SEGMENT; off += MiB) {
			uint32_t first = (uint32_t)(((uint64_t)r[i].segment * SEGMENT + off) / BLOCK);

			must(hci_volume_read_replica(checker, VOLUME, r[i].disk, r[i].segment, buf, MiB, off, &err),
			     "read of a replica");
			for (uint32_t k = 0; k < MiB / BLOCK; k++) {
				uint64_t v = block_version(buf + k * BLOCK, first + k);

				if (v == acked[first + k])
					continue;
				differ++;
				fprintf(stderr, "block %u: replica on node %s holds write %llu, the volume %llu\n", first + k,
					r[i].node, (unsigned long long)v, (unsigned long long)acked[first + k]);
			}
		}
	}
	hci_list_free(r);
}

static void verdict(void)
{
	if (failed || lost || torn || differ)
		die("FAILED: %llu writes failed, %llu blocks lost or reverted, %llu torn, %llu differ between replicas",
		    (unsigned long long)failed, (unsigned long long)lost, (unsigned long long)torn,
		    (unsigned long long)differ);
}

static void check_all(double killed)
{
	hci_volume *v = attach(killed);

	check_volume(v);
	wait_healthy(v);
	check_replicas();
	hci_volume_unref(v);
	verdict();
}

/* ---- the modes ---- */

static void round_writer(void)
{
	writer_up();
	listen_until(crash_now() + 0.02 + crash_dice(300) / 1000.0, 0);
	check_all(writer_kill());
}

static void round_all(void)
{
	double killed;

	writer_up();
	listen_until(crash_now() + 0.02 + crash_dice(300) / 1000.0, 0);
	for (int i = 0; i < NODES; i++)
		kill(node[i].pid, SIGKILL);
	killed = writer_kill();
	for (int i = 0; i < NODES; i++)
		node_kill(i);
	for (int i = 0; i < NODES; i++)
		node_up(i);
	check_all(killed);
}

static void round_fio(void)
{
	fio_round(dir);
}

static void round_nodes(void)
{
	uint64_t before;
	int i = (int)crash_dice(NODES), j = (i + 1) % NODES, both = crash_dice(4) == 0;

	listen_until(crash_now() + crash_dice(500) / 1000.0, 0);
	node_kill(i);
	if (both) {
		listen_until(crash_now() + crash_dice(100) / 1000.0, 0);
		node_kill(j);
	}
	listen_until(crash_now() + crash_dice(2000) / 1000.0, 0);
	node_up(i);
	if (both)
		node_up(j);
	before = done;
	for (double end = crash_now() + 30; done == before;) {
		if (!listen_until(crash_now() + 0.05, 0))
			die("the writer ended");
		if (crash_now() > end)
			die("no write was finished within 30 s of the nodes' return");
	}
	if (failed)
		die("the writer noticed");
}

/* Its requests were made before another attached, and reach the replicas after: they must not count. */
static void round_stale(void)
{
	uint64_t finished, was_failed;
	hci_volume *v;
	double stopped;

	writer_up();
	listen_until(crash_now() + 0.02 + crash_dice(200) / 1000.0, 0);
	kill(writer.pid, SIGSTOP);
	stopped = crash_now();
	listen_until(stopped + 0.05, 0);
	v = attach(stopped);
	if (!v) {
		/* It was stopped while it had the store's file locked: nobody's lease ends until it goes on. */
		stops_in_store++;
		kill(writer.pid, SIGCONT);
		writer_kill();
		check_all(crash_now());
		return;
	}
	check_volume(v);
	finished = done;
	was_failed = failed;
	kill(writer.pid, SIGCONT);
	/* What the replicas answered before is still on its way to it: such a write was acknowledged. */
	for (double end = crash_now() + 10; failed == was_failed;)
		if (!listen_until(crash_now() + 0.05, EV_FAILED) || crash_now() > end)
			die("the stopped writer was not told that it is over");
	late += done - finished;
	writer_kill();
	if (stale_status != HCI_E_FENCED && stale_status != HCI_E_CLOSED)
		die("the stopped writer's write failed with %s", hci_strerror(stale_status));
	for (uint32_t b = 0; b < BLOCKS; b++)
		flying[b] = 0;
	check_volume(v);
	wait_healthy(v);
	check_replicas();
	hci_volume_unref(v);
	failed = 0;
	verdict();
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void figures(const char *mode, unsigned rounds, double seconds)
{
	printf("{\"mode\": \"%s\", \"rounds\": %u, \"seconds\": %.1f, \"writes_acknowledged\": %llu, \"in_flight_at_kill\": %llu,\n"
	       " \"blocks_in_flight_found_old\": %llu, \"blocks_in_flight_found_new\": %llu,\n"
	       " \"failed\": %llu, \"lost\": %llu, \"torn\": %llu, \"replicas_differ\": %llu",
	       mode, rounds, seconds, (unsigned long long)done, (unsigned long long)(sent - done), (unsigned long long)old_seen,
	       (unsigned long long)new_seen, (unsigned long long)failed, (unsigned long long)lost, (unsigned long long)torn,
	       (unsigned long long)differ);
	qsort(since_kill, attaches, sizeof(double), by_size);
	qsort(since_lease, attaches, sizeof(double), by_size);
	if (stale)
		printf(",\n \"answered_before_the_stop_heard_after\": %llu, \"stopped_inside_the_store\": %u",
		       (unsigned long long)late, stops_in_store);
	if (attaches)
		printf(",\n \"lease_ms\": %u, \"attached_ms_after_kill\": {\"median\": %.0f, \"max\": %.0f}, "
		       "\"attached_ms_after_lease_end\": {\"median\": %.0f, \"max\": %.0f}",
		       LEASE_MS, since_kill[attaches / 2], since_kill[attaches - 1], since_lease[attaches / 2],
		       since_lease[attaches - 1]);
	printf("}\n");
}

static void cluster_up(void)
{
	static const char *const names[] = { "n1", "n2", "n3", "writer", "checker", "exporter" };
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;
	struct hci_pool_opts p = HCI_POOL_OPTS_INIT;
	char store[160];

	/* The root file system, not a tmpfs: O_DIRECT is to be real. */
	snprintf(dir, sizeof(dir), "/var/tmp/hci-crash-XXXXXX");
	if (!mkdtemp(dir))
		die("%s: %s", dir, strerror(errno));
	janitor();
	atexit(on_exit_kill);
	crash_store(dir, store, sizeof(store));
	must(hci_cluster_create(store, "crash", &err), "create");
	must(hci_pki_create_ca(dir, "crash", &err), "ca");
	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char pki[128];

		snprintf(pki, sizeof(pki), "%s/pki-%s", dir, names[i]);
		mkdir(pki, 0700);
		must(hci_pki_issue(dir, names[i], "127.0.0.1", pki, 0, &err), "certificate");
	}
	for (int i = 0; i < NODES; i++)
		node_up(i);
	checker = crash_open(dir, "checker");
	p.name = "p";
	must(hci_pool_create(checker, &p, &err), "pool");
	for (int i = 0; i < NODES; i++) {
		struct hci_disk_opts d = HCI_DISK_OPTS_INIT;
		char path[128];

		snprintf(path, sizeof(path), "%s/disk%d", dir, i + 1);
		mkdir(path, 0700);
		d.node = names[i];
		d.path = path;
		d.pool = "p";
		must(hci_disk_add(checker, &d, NULL, &err), "disk");
	}
	o.name = VOLUME;
	o.pool = "p";
	o.bytes = (uint64_t)BLOCKS * BLOCK;
	o.segment_bytes = SEGMENT;
	o.replicas = 2;
	o.write_timeout_ms = 1000;
	must(hci_volume_create(checker, &o, &err), "volume");
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
	void (*fn)(void) = NULL;
	double began;

	if (argc == 4 && !strcmp(argv[1], "node"))
		return node_main(argv[2], atoi(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "exporter"))
		return exporter_main(argv[2], argv[3]);
	if (argc == 5 && !strcmp(argv[1], "writer"))
		return writer_main(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10),
				   getenv("LONG_LEASE") ? 10000 : LEASE_MS);
	if (argc >= 3)
		fn = !strcmp(argv[1], "writer")  ? round_writer
		     : !strcmp(argv[1], "nodes") ? round_nodes
		     : !strcmp(argv[1], "all")   ? round_all
		     : !strcmp(argv[1], "fio")   ? round_fio
		     : !strcmp(argv[1], "stale") ? round_stale
						 : NULL;
	if (!fn || !rounds || rounds > 10000)
		die("usage: %s writer|nodes|all|stale|fio ROUNDS [SEED]", argv[0]);
	rnd = argc > 3 ? strtoull(argv[3], NULL, 10) : (uint64_t)getpid() * 2654435761u;
	setvbuf(stdout, NULL, _IOLBF, 0);
	fprintf(stderr, "seed %llu\n", (unsigned long long)rnd);
	stale = fn == round_stale;
	cluster_up();
	began = crash_now();
	if (fn == round_nodes) {
		/* It is to live: a machine too busy to renew 500 ms in time is not what is tested. */
		setenv("LONG_LEASE", "1", 1);
		writer_up();
	}
	if (fn == round_fio)
		fio_begin(dir);
	for (unsigned i = 0; i < rounds; i++) {
		fn();
		if (isatty(STDOUT_FILENO))
			printf("\r%u/%u", i + 1, rounds), fflush(stdout);
	}
	if (fn == round_nodes)
		check_all(writer_kill());
	if (fn == round_fio)
		printf("{\"fio_jobs_verified\": %u}\n", fio_end());
	hci_cluster_unref(checker);
	figures(argv[1], rounds, crash_now() - began);
	return 0;
}
