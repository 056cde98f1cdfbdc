/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hci-node: the smallest program that makes a machine a node of a cluster. Owns the command line,
 * the log on stderr, the signals and (if asked) the page that Prometheus reads; all else is
 * libhci's.
 */
#include <errno.h>
#include <getopt.h>
#include <hci/hci.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char help[] =
	"usage: hci-node --store URL --name NAME --listen tcp:ADDRESS:PORT [options]\n"
	"Runs the node service of libhci until SIGTERM or SIGINT.\n\n"
	"  --store URL          metadata of the cluster, such as sqlite:/shared/cluster.db\n"
	"  --name NAME          of this node\n"
	"  --listen ADDRESS     tcp:ADDRESS:PORT that the other nodes reach\n"
	"  --ca, --cert, --key FILE   PEM files of `hcictl pki issue`; all three or none (tests "
	"only)\n"
	"  --run-dir DIR        export sockets and console logs (default /run/hci)\n"
	"  --libvirt URI        run VMs with this libvirt, such as qemu:///system\n"
	"  --heartbeat MS       dead after three without one (default 2000)\n"
	"  --cache PATH         read cache on an SSD: a file, made if need be, or a partition\n"
	"  --cache-size SIZE    of it, such as 64G (default: all of what is there)\n"
	"  --cache-ram SIZE     its blocks in memory (default 64M); without --cache memory alone is used\n"
	"  --cache-block SIZE   cached as one, 4K to 64K (default 16K)\n"
	"  --guest-index SIZE   memory to know what the pages of guests here contain, so that VMs that come need not bring\n"
	"                       them (default 64M, for 16 GiB of guests), or off\n"
	"  --copy-depth N       requests of rebuilds that a disk works on while users have some (default 2)\n"
	"  --ram-disks          take disks that are on a tmpfs, whose content ends with the power: for tests only\n"
	"  --metrics ADDR:PORT  serve http://ADDR:PORT/metrics for Prometheus\n"
	"  --debug              log more\n"
	"  --version            print the version and exit\n\n"
	"Example:\n"
	"  hci-node --store sqlite:/shared/cluster.db --name n1 --listen tcp:10.0.0.1:7400 \\\n"
	"           --ca /etc/hci/ca.crt --cert /etc/hci/node.crt --key /etc/hci/node.key\n";

static void say(void *arg, int32_t level, const char *subsystem, const char *line)
{
	static const char *const names[] = { "error", "warn", "info", "debug", "trace" };
	struct timespec ts;
	struct tm tm;
	char when[32];

	(void)arg;
	clock_gettime(CLOCK_REALTIME, &ts);
	strftime(when, sizeof(when), "%FT%T", gmtime_r(&ts.tv_sec, &tm));
	fprintf(stderr, "%s.%03ldZ %-5s %s: %s\n", when, ts.tv_nsec / 1000000, names[level >= 0 && level <= 4 ? level : 4],
		subsystem, line);
}

/* ---- metrics ---- */

static int metrics_listen(const char *where)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *ai = NULL;
	const char *colon = strrchr(where, ':');
	char host[256];
	int fd = -1, one = 1;

	if (colon && (size_t)(colon - where) < sizeof(host)) {
		snprintf(host, sizeof(host), "%.*s", (int)(colon - where), where);
		if (!getaddrinfo(*host ? host : NULL, colon + 1, &hints, &ai))
			fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	}
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, 16)) {
		fprintf(stderr, "hci-node: --metrics %s: cannot listen there: give ADDRESS:PORT\n",
			where);
		exit(1);
	}
	freeaddrinfo(ai);
	return fd;
}

/* One request a connection, one page whatever the path; a client that is slow waits for nobody but
 * itself. */
static void metrics_answer(int listener, hci_cluster *cluster)
{
	struct timeval patience = { .tv_sec = 1 };
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	char request[4096], head[160], *text = NULL;
	uint64_t len = 0;

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (recv(fd, request, sizeof(request), 0) > 0 &&
	    !hci_metrics_text(&text, &len, cluster, NULL)) {
		int n = snprintf(head, sizeof(head),
				 "HTTP/1.0 200 OK\r\nContent-Type: text/plain; "
				 "version=0.0.4\r\nContent-Length: %llu\r\n\r\n",
				 (unsigned long long)len);

		if (send(fd, head, (size_t)n, MSG_NOSIGNAL | MSG_MORE) == n)
			(void)!send(fd, text, len, MSG_NOSIGNAL);
		hci_metrics_free(text);
	}
	close(fd);
}

/* ---- main ---- */

/* A number with K, M, G or T (powers of 1024) behind it. */
static uint64_t size_of(const char *option, const char *text)
{
	static const char units[] = "KMGT";
	char *end;
	uint64_t v = strtoull(text, &end, 10);
	const char *u = *end ? strchr(units, *end) : NULL;
	unsigned shift = u ? 10 * (unsigned)(u - units + 1) : 0;

	if (end == text || *text == '-' || (*end && (!u || end[1])) || v > UINT64_MAX >> shift) {
		fprintf(stderr, "hci-node: %s %s: give a size such as 64G\n", option, text);
		exit(2);
	}
	return v << shift;
}

struct cache_args {
	const char *path, *size, *ram, *block;
};

/* Before the node starts: volumes use it that are attached later. */
static int cache_start(hci_cluster *cluster, const struct cache_args *a, struct hci_error *err)
{
	struct hci_cache_opts o = HCI_CACHE_OPTS_INIT;

	if (!a->path && !a->ram)
		return 0;
	o.path = a->path;
	o.bytes = a->size ? size_of("--cache-size", a->size) : 0;
	o.ram = a->ram ? size_of("--cache-ram", a->ram) : 0;
	o.block = a->block ? (uint32_t)size_of("--cache-block", a->block) : 0;
	return hci_cache_open(cluster, &o, err);
}

static uint32_t guest_index(const char *s)
{
	uint64_t mib;

	if (!strcmp(s, "off"))
		return HCI_GUEST_INDEX_OFF;
	/* Less than one is one, as 0 means the default; what is too much is refused by the library. */
	mib = size_of("--guest-index", s) >> 20;
	return mib ? mib < UINT32_MAX ? (uint32_t)mib : UINT32_MAX - 1 : 1;
}

static void parse(int argc, char **argv, struct hci_cluster_opts *co, struct hci_node_opts *no,
		  const char **metrics, struct cache_args *cache)
{
	const char *heartbeat = "0", *depth = "0", *guests = NULL, *help_wanted = NULL, *version = NULL, *debug = NULL,
		   *ram_disks = NULL;
	const struct {
		const char *name, **value;
	} opts[] = {
		{ "store", &co->store_url },   { "name", &no->name },
		{ "listen", &no->listen },     { "ca", &co->ca_file },
		{ "cert", &co->cert_file },    { "key", &co->key_file },
		{ "run-dir", &no->run_dir },   { "libvirt", &no->libvirt_uri },
		{ "metrics", metrics },        { "heartbeat", &heartbeat },
		{ "cache", &cache->path },     { "cache-size", &cache->size },
		{ "cache-ram", &cache->ram },  { "cache-block", &cache->block },
		{ "copy-depth", &depth },      { "guest-index", &guests },
		{ "ram-disks", &ram_disks },   { "debug", &debug },
		{ "version", &version },       { "help", &help_wanted },
	};
	const int n = sizeof(opts) / sizeof(*opts), flags = n - 4; /* the last four take no value */
	struct option longs[sizeof(opts) / sizeof(*opts) + 1] = { { NULL, 0, NULL, 0 } };
	int o, i = 0;

	for (o = 0; o < n; o++)
		longs[o] = (struct option){ opts[o].name, o < flags, NULL, 1 };
	while ((o = getopt_long(argc, argv, "", longs, &i)) == 1)
		*opts[i].value = i < flags ? optarg : "";
	if (help_wanted) {
		fputs(help, stdout);
		exit(0);
	}
	if (version) {
		printf("hci-node %s\n", hci_version_string());
		exit(0);
	}
	if (o != -1) { /* getopt_long() has said what is wrong */
		fprintf(stderr, "see hci-node --help\n");
		exit(2);
	}
	if (optind != argc) {
		fprintf(stderr, "hci-node: '%s': it takes options only: see hci-node --help\n", argv[optind]);
		exit(2);
	}
	if (!co->store_url || !no->name || !no->listen) {
		fprintf(stderr, "hci-node: --store, --name and --listen are required: see hci-node "
				"--help\n");
		exit(2);
	}
	co->client_name = no->name;
	co->log_level = debug ? HCI_LOG_DEBUG : HCI_LOG_INFO;
	no->heartbeat_ms = (uint32_t)strtoul(heartbeat, NULL, 10);
	no->ram_disks = ram_disks != NULL;
	no->copy_depth = (uint32_t)strtoul(depth, NULL, 10);
	if (guests)
		no->guest_index_mib = guest_index(guests);
}

int main(int argc, char **argv)
{
	struct hci_cluster_opts co = HCI_CLUSTER_OPTS_INIT;
	struct hci_node_opts no = HCI_NODE_OPTS_INIT;
	struct pollfd fds[2] = { { .events = POLLIN }, { .fd = -1, .events = POLLIN } };
	struct cache_args cache = { NULL, NULL, NULL, NULL };
	const char *metrics = NULL;
	struct hci_error err;
	hci_cluster *cluster;
	hci_node *node = NULL;
	sigset_t set;
	int rc;

	co.log = say;
	parse(argc, argv, &co, &no, &metrics, &cache);
	/* Before libhci starts its threads, so that they have the signals blocked as well. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	fds[0].fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (metrics)
		fds[1].fd = metrics_listen(metrics);
	rc = hci_cluster_open(&cluster, &co, &err);
	if (!rc)
		rc = cache_start(cluster, &cache, &err);
	if (!rc)
		rc = hci_node_start(&node, cluster, &no, &err);
	if (rc) {
		fprintf(stderr, "hci-node: %s\n", err.message);
		hci_cluster_unref(cluster);
		return 1;
	}
	fprintf(stderr, "hci-node %s: listening on %s\n", no.name, hci_node_address(node));
	while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
		if (fds[1].revents)
			metrics_answer(fds[1].fd, cluster);
		if (fds[0].revents)
			break;
	}
	fprintf(stderr, "hci-node %s: leaving\n", no.name);
	hci_node_stop(node);
	hci_cluster_unref(cluster);
	close(fds[0].fd);
	if (fds[1].fd >= 0)
		close(fds[1].fd);
	return 0;
}
