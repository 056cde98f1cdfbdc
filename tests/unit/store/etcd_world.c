/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd_world.h"
#include "clock_step.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void pause_ms(unsigned ms)
{
	struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

static bool in_path(const char *name)
{
	char cmd[100];

	snprintf(cmd, sizeof(cmd), "command -v %s >/dev/null", name);
	return system(cmd) == 0;
}

bool etcd_installed(void)
{
	return in_path("etcd") && in_path("etcdctl");
}

/* A port that is free now, and hardly anybody takes until etcd does. */
static int free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port;

	REQUIRE(fd >= 0 && !bind(fd, (void *)&a, sizeof(a)) && !getsockname(fd, (void *)&a, &len), "no port");
	port = ntohs(a.sin_port);
	close(fd);
	return port;
}

static void must_run(const char *fmt, ...) PRINTF(1, 2);
static void must_run(const char *fmt, ...)
{
	char cmd[2000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	REQUIRE(system(cmd) == 0, "%s", cmd);
}

static void make_certificate(const char *dir, const char *name, const char *usage)
{
	must_run("cd %s && openssl req -newkey rsa:2048 -nodes -keyout %s.key -subj /CN=%s -out %s.csr 2>/dev/null && "
		 "printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\\nextendedKeyUsage=%s' >%s.ext && "
		 "openssl x509 -req -in %s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile %s.ext -out %s.pem "
		 "2>/dev/null",
		 dir, name, name, name, usage, name, name, name, name);
}

static void make_certificates(const char *dir)
{
	must_run("cd %s && openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -subj /CN=testca -days 2 -out ca.pem "
		 "2>/dev/null",
		 dir);
	/* etcd speaks to itself with its server's certificate. */
	make_certificate(dir, "server", "serverAuth,clientAuth");
	make_certificate(dir, "client", "clientAuth");
}

static void exec_member(struct etcd_world *w, unsigned i)
{
	const char *s = w->tls ? "https" : "http";
	char name[8], data[100], log[100], peer[64], client[64], cluster[400] = "", cert[100], key[100], ca[100];
	size_t at = 0;
	int fd;

	snprintf(name, sizeof(name), "m%u", i);
	snprintf(data, sizeof(data), "%s/m%u", w->dir, i);
	snprintf(log, sizeof(log), "%s/m%u.log", w->dir, i);
	snprintf(peer, sizeof(peer), "http://127.0.0.1:%d", w->m[i].peer);
	snprintf(client, sizeof(client), "%s://127.0.0.1:%d", s, w->m[i].client);
	snprintf(cert, sizeof(cert), "%s/server.pem", w->dir);
	snprintf(key, sizeof(key), "%s/server.key", w->dir);
	snprintf(ca, sizeof(ca), "%s/ca.pem", w->dir);
	for (unsigned k = 0; k < w->n; k++)
		at += (size_t)snprintf(cluster + at, sizeof(cluster) - at, "%sm%u=http://127.0.0.1:%d", k ? "," : "", k,
				       w->m[k].peer);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(fd, 1);
	dup2(fd, 2);
	if (w->clocks)
		clock_step_trace();
	execlp("etcd", "etcd", "--name", name, "--data-dir", data, "--listen-peer-urls", peer,
	       "--initial-advertise-peer-urls", peer, "--listen-client-urls", client, "--advertise-client-urls", client,
	       "--initial-cluster", cluster, "--initial-cluster-token", w->dir, "--logger", "zap", "--log-level", "warn",
	       w->tls ? "--client-cert-auth" : NULL, "--trusted-ca-file", ca, "--cert-file", cert, "--key-file", key, NULL);
	_exit(127);
}

void etcd_member_start(struct etcd_world *w, unsigned i)
{
	REQUIRE(!w->m[i].pid, "member %u runs", i);
	w->m[i].pid = fork();
	REQUIRE(w->m[i].pid >= 0, "fork");
	if (w->m[i].pid == 0)
		exec_member(w, i);
	if (w->clocks)
		clock_step_exec(w->m[i].pid, w->monotonic);
}

void etcd_member_kill(struct etcd_world *w, unsigned i)
{
	if (!w->m[i].pid)
		return;
	kill(w->m[i].pid, SIGKILL);
	waitpid(w->m[i].pid, NULL, 0); /* not our child in a forked case: init's then */
	w->m[i].pid = 0;
}

void etcd_member_freeze(struct etcd_world *w, unsigned i, bool frozen)
{
	kill(w->m[i].pid, frozen ? SIGSTOP : SIGCONT);
}

int etcdctl(struct etcd_world *w, char *out, size_t cap, const char *fmt, ...)
{
	char cmd[2500], args[1200], certs[300] = "", unused[256];
	size_t n = 0, k;
	va_list ap;
	FILE *f;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	if (w->tls)
		snprintf(certs, sizeof(certs), "--cacert %s/ca.pem --cert %s/client.pem --key %s/client.key", w->dir, w->dir,
			 w->dir);
	n = (size_t)snprintf(cmd, sizeof(cmd), "ETCDCTL_API=3 etcdctl --command-timeout=20s %s --endpoints ", certs);
	for (unsigned i = 0; i < w->n; i++)
		n += (size_t)snprintf(cmd + n, sizeof(cmd) - n, "%s%s://127.0.0.1:%d", i ? "," : "",
				      w->tls ? "https" : "http", w->m[i].client);
	snprintf(cmd + n, sizeof(cmd) - n, " %s 2>&1", args);
	f = popen(cmd, "r");
	REQUIRE(f, "%s", cmd);
	n = 0;
	while (out && n + 1 < cap && (k = fread(out + n, 1, cap - 1 - n, f)) > 0)
		n += k;
	if (out)
		out[n] = '\0';
	while (fread(unused, 1, sizeof(unused), f) > 0)
		;
	return WEXITSTATUS(pclose(f));
}

/* Of "endpoint status -w fields" the lines "MemberID" and "Leader" of each member. */
int etcd_leader(struct etcd_world *w)
{
	static char text[8192];

	for (unsigned i = 0; i < w->n; i++) {
		unsigned long long member = 0, leader = 0;
		struct etcd_world one = *w;
		const char *p;

		if (!w->m[i].pid)
			continue;
		one.n = 1;
		one.m[0] = w->m[i];
		if (etcdctl(&one, text, sizeof(text), "--dial-timeout=1s --command-timeout=2s endpoint status -w fields"))
			continue;
		if ((p = strstr(text, "\"MemberID\" : ")))
			member = strtoull(p + 13, NULL, 10);
		if ((p = strstr(text, "\"Leader\" : ")))
			leader = strtoull(p + 11, NULL, 10);
		if (member && member == leader)
			return (int)i;
	}
	return -1;
}

void etcd_world_settle(struct etcd_world *w)
{
	for (int i = 0; i < 300; i++) {
		if (etcdctl(w, NULL, 0, "--command-timeout=2s endpoint health") == 0 && etcd_leader(w) >= 0)
			return;
		pause_ms(100);
	}
	REQUIRE(false, "etcd in %s does not come up", w->dir);
}

static void make_world(struct etcd_world *w, unsigned members, bool tls, bool clocks)
{
	const char *base = getenv("HCI_TEST_ETCD");

	memset(w, 0, sizeof(*w));
	w->n = members;
	w->tls = tls;
	w->clocks = clocks;
	snprintf(w->dir, sizeof(w->dir), "%s/etcd-XXXXXX",
		 base ? base : access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	REQUIRE(mkdtemp(w->dir), "no folder for etcd");
	if (tls)
		make_certificates(w->dir);
	for (unsigned i = 0; i < members; i++) {
		w->m[i].client = free_port();
		w->m[i].peer = free_port();
	}
	for (unsigned i = 0; i < members; i++)
		etcd_member_start(w, i);
	etcd_world_settle(w);
}

void etcd_world_make(struct etcd_world *w, unsigned members, bool tls)
{
	make_world(w, members, tls, false);
}

void etcd_world_make_clocks(struct etcd_world *w, unsigned members)
{
	make_world(w, members, false, true);
}

void etcd_world_remove(struct etcd_world *w)
{
	for (unsigned i = 0; i < w->n; i++)
		etcd_member_kill(w, i);
	must_run("rm -rf '%s'", w->dir);
}

void etcd_world_url(struct etcd_world *w, char *out, size_t cap, const char *more)
{
	size_t at = (size_t)snprintf(out, cap, "etcd://");

	for (unsigned i = 0; i < w->n; i++)
		at += (size_t)snprintf(out + at, cap - at, "%s127.0.0.1:%d", i ? "," : "", w->m[i].client);
	snprintf(out + at, cap - at, "/t%d-%u%s", (int)getpid(), w->prefixes++, more ? more : "");
}

int etcd_suite_main(struct Suite *(*make)(void))
{
	char base[40];
	SRunner *runner;
	int failed;

	if (!etcd_installed()) {
		fprintf(stderr, "etcd and etcdctl are not installed: skipped\n");
		return EXIT_SKIP;
	}
	snprintf(base, sizeof(base), "%s/hci-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	REQUIRE(mkdtemp(base) && !setenv("HCI_TEST_ETCD", base, 1), "no folder for etcd");
	runner = srunner_create(make());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	must_run("rm -rf '%s'", base);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
