/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fio writes and verifies through an export whose process is killed again and again. Between the two
 * sits qemu-storage-daemon, an NBD client that connects again and repeats what had no answer: so fio
 * may neither see an error nor read anything but what it wrote.
 */
#include "crash.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct child exporter;
static pid_t qsd, fio;
static unsigned clean;
static char near[128], far[128]; /* sockets: of the export, and what fio talks to */

int exporter_main(const char *dir, const char *socket)
{
	struct hci_attach_opts a = HCI_ATTACH_OPTS_INIT;
	struct hci_export_opts o = HCI_EXPORT_OPTS_INIT;
	hci_cluster *c = crash_open(dir, "exporter");
	struct hci_error err;
	struct hci_volume_status s;
	char address[160];
	hci_volume *v;
	hci_export *x;

	a.lease_ms = LEASE_MS;
	a.wait_ms = 10000;
	snprintf(address, sizeof(address), "unix:%s", socket);
	o.address = address;
	if (hci_volume_attach(&v, c, VOLUME, &a, &err) || hci_export_start(&x, v, &o, &err))
		die("exporter: %s", err.message);
	if (write(STDOUT_FILENO, "up\n", 3) != 3)
		return 1;
	/* The client waits for seconds between its attempts to connect: only then is there something to kill. */
	do {
		usleep(2000);
		if (hci_volume_status(v, &s, sizeof(s), &err))
			die("exporter: %s", err.message);
	} while (!s.reads && !s.writes);
	if (write(STDOUT_FILENO, "io\n", 3) != 3)
		return 1;
	for (;;)
		pause();
}

static pid_t run(const char *const argv[])
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!freopen("/dev/null", "w", stdout))
			_exit(127);
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	return pid;
}

static void exporter_up(const char *dir)
{
	char line[8];

	exporter = crash_spawn("exporter", near, NULL);
	(void)dir;
	if (read(exporter.fd, line, 3) != 3)
		die("the exporter ended before it served");
}

static void fio_start(const char *dir)
{
	char uri[192], work[160], size[32];

	snprintf(uri, sizeof(uri), "--uri=nbd+unix:///?socket=%s", far);
	snprintf(work, sizeof(work), "--directory=%s", dir);
	snprintf(size, sizeof(size), "--size=%llu", (unsigned long long)BLOCKS * BLOCK);
	fio = run((const char *const[]){ "fio", "--name=v", "--ioengine=nbd", uri, "--rw=randwrite", "--bsrange=4k-256k",
				   "--iodepth=16", size, "--verify=crc32c", "--do_verify=1", "--verify_fatal=1",
				   "--fsync=64", "--randrepeat=0", "--verify_state_save=0", "--loops=4", NULL });
}

static void fio_check(void)
{
	int status;

	if (!fio || waitpid(fio, &status, WNOHANG) != fio)
		return;
	fio = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		die("FAILED: fio ended with status 0x%x", (unsigned)status);
	clean++;
}

void fio_begin(const char *dir)
{
	char server[256], nbd[192];

	if (system("command -v qemu-storage-daemon fio >/dev/null")) {
		printf("skipped: qemu-storage-daemon and fio are needed\n");
		exit(77);
	}
	snprintf(near, sizeof(near), "%s/near.sock", dir);
	snprintf(far, sizeof(far), "%s/far.sock", dir);
	exporter_up(dir);
	snprintf(server, sizeof(server), "driver=nbd,node-name=n,server.type=unix,server.path=%s,reconnect-delay=120", near);
	snprintf(nbd, sizeof(nbd), "addr.type=unix,addr.path=%s", far);
	qsd = run((const char *const[]){ "qemu-storage-daemon", "--blockdev", server, "--nbd-server", nbd, "--export",
				   "nbd,id=e,node-name=n,name=,writable=on", NULL });
	for (int i = 0; i < 200 && access(far, F_OK); i++)
		usleep(50000);
}

void fio_round(const char *dir)
{
	struct pollfd p = { .fd = exporter.fd, .events = POLLIN };
	char line[8];

	for (int i = 0;; i++) {
		fio_check();
		if (!fio)
			fio_start(dir);
		if (poll(&p, 1, 50) == 1)
			break;
		if (i > 1200)
			die("FAILED: no request came within a minute");
	}
	if (read(exporter.fd, line, 3) != 3)
		die("FAILED: the exporter ended by itself");
	usleep(crash_dice(200000));
	crash_kill(&exporter);
	close(exporter.fd);
	exporter_up(dir);
}

unsigned fio_end(void)
{
	for (int i = 0; fio && i < 2400; i++, usleep(50000))
		fio_check();
	if (fio)
		die("FAILED: fio hangs");
	return clean;
}

void fio_stop(void)
{
	crash_kill(&exporter);
	if (fio > 0)
		kill(fio, SIGKILL), waitpid(fio, NULL, 0);
	if (qsd > 0)
		kill(qsd, SIGKILL), waitpid(qsd, NULL, 0);
	fio = qsd = 0;
}
