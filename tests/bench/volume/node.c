/* SPDX-License-Identifier: Apache-2.0 */
/* A node of the benchmark's cluster: in a process of its own, or in ours. Public API only. */
#include "bench.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void say(void *arg, int32_t level, const char *subsystem, const char *line)
{
	(void)arg;
	(void)level;
	fprintf(stderr, "%d %s: %s\n", (int)getpid(), subsystem, line);
}

int failed(const char *what, const struct hci_error *err)
{
	fprintf(stderr, "%s: %s\n", what, err->message);
	return -1;
}

int cluster_open_as(hci_cluster **out, const char *store, const char *name, const char *pki)
{
	struct hci_cluster_opts o = HCI_CLUSTER_OPTS_INIT;
	char ca[256], cert[256], key[256];
	struct hci_error err;

	o.store_url = store;
	o.client_name = name;
	o.log = say;
	o.log_level = getenv("BENCH_LOG") ? HCI_LOG_INFO : HCI_LOG_WARN;
	if (strcmp(pki, "-")) {
		snprintf(ca, sizeof(ca), "%.200s/ca.crt", pki);
		snprintf(cert, sizeof(cert), "%.200s/node.crt", pki);
		snprintf(key, sizeof(key), "%.200s/node.key", pki);
		o.ca_file = ca;
		o.cert_file = cert;
		o.key_file = key;
	}
	return hci_cluster_open(out, &o, &err) ? failed("open", &err) : 0;
}

int node_start_here(hci_node **out, hci_cluster *c, const char *name, const char *run_dir)
{
	struct hci_node_opts o = HCI_NODE_OPTS_INIT;
	struct hci_error err;

	o.name = name;
	o.listen = "tcp:127.0.0.1:0";
	o.run_dir = run_dir;
	return hci_node_start(out, c, &o, &err) ? failed("node", &err) : 0;
}

uint64_t heap_used(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

int node_main(char **argv)
{
	const char *store = argv[0], *name = argv[1], *run_dir = argv[2], *pki = argv[3];
	hci_cluster *c;
	uint64_t heap;
	hci_node *n;
	char ask;

	if (cluster_open_as(&c, store, name, pki) || node_start_here(&n, c, name, run_dir))
		return 1;
	if (write(STDOUT_FILENO, "up\n", 3) != 3)
		return 1;
	while (read(STDIN_FILENO, &ask, 1) == 1) {
		heap = heap_used();
		if (write(STDOUT_FILENO, &heap, sizeof(heap)) != sizeof(heap))
			return 1;
	}
	hci_node_stop(n);
	hci_cluster_unref(c);
	return 0;
}

pid_t node_spawn(const char *store, const char *name, const char *run_dir, const char *pki, int *in)
{
	char up[3];
	int s[2];
	pid_t pid;
	ssize_t n;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s))
		return -1;
	pid = fork();
	if (pid == 0) {
		dup2(s[1], STDIN_FILENO);
		dup2(s[1], STDOUT_FILENO);
		/* An interrupt at the terminal is for the benchmark, which then ends its nodes. */
		signal(SIGINT, SIG_IGN);
		signal(SIGTERM, SIG_DFL);
		execl("/proc/self/exe", "bench-node", "--node", store, name, run_dir, pki, (char *)NULL);
		_exit(127);
	}
	close(s[1]);
	*in = s[0];
	n = pid > 0 ? recv(s[0], up, sizeof(up), MSG_WAITALL) : -1;
	return n == sizeof(up) ? pid : -1;
}
