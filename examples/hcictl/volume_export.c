/* SPDX-License-Identifier: Apache-2.0 */
/* volume export: this process attaches the volume and serves it until it is told to stop */
#include "volume.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static void print_status(struct cli *cli, hci_volume *vol)
{
	struct hci_volume_status s;
	char done[24], total[24];

	if (hci_volume_status(vol, &s, sizeof(s), &cli->err)) {
		failed(cli);
		return;
	}
	if (cli->json)
		printf("{\"generation\": %llu, \"read_bytes\": %llu, \"write_bytes\": %llu, "
		       "\"segments\": %u, "
		       "\"segments_degraded\": %u, \"replicas_out\": %u, \"resync_done\": %llu, "
		       "\"resync_total\": %llu, "
		       "\"resync_copied\": %llu}\n",
		       (unsigned long long)s.generation, (unsigned long long)s.read_bytes,
		       (unsigned long long)s.write_bytes, s.segments, s.segments_degraded,
		       s.replicas_out, (unsigned long long)s.resync_done,
		       (unsigned long long)s.resync_total, (unsigned long long)s.resync_copied);
	else
		printf("%llu reads, %llu writes, %u of %u segments degraded, %u disks out, copied "
		       "%s of %s\n",
		       (unsigned long long)s.reads, (unsigned long long)s.writes,
		       s.segments_degraded, s.segments, s.replicas_out,
		       size_text(s.resync_done, done), size_text(s.resync_total, total));
	fflush(stdout);
}

/* ---- the end, with a second Ctrl-C for when the replicas cannot be reached ---- */

struct stopping {
	hci_volume *vol;
	atomic_bool over;
};

static void *abandon_when_told(void *arg)
{
	struct stopping *s = arg;

	while (!atomic_load(&s->over) && interrupted < 2)
		usleep(20000);
	if (!atomic_load(&s->over)) {
		fputs("hcictl: abandoned: what clients wrote and was not acknowledged may be lost\n", stderr);
		(void)hci_volume_abandon(s->vol, NULL);
	}
	return NULL;
}

/* Its requests are finished first, and that can take for ever. */
static void stop(hci_export *x, hci_volume *vol)
{
	struct stopping s = { .vol = vol };
	pthread_t t;
	int rc = pthread_create(&t, NULL, abandon_when_told, &s);

	hci_export_stop(x);
	atomic_store(&s.over, true);
	if (!rc)
		pthread_join(t, NULL);
}

static int serve(struct cli *cli, hci_volume *vol)
{
	struct hci_export_opts o = HCI_EXPORT_OPTS_INIT;
	uint64_t every = opt_millis(cli, "status", 0), next;
	hci_export *x;
	char path[128];

	snprintf(path, sizeof(path), "unix:/tmp/hci-%s.sock", cli->args[0]);
	o.address = opt_text(cli, "listen") ? opt_text(cli, "listen") : path;
	o.tls = opt_flag(cli, "tls") ? HCI_EXPORT_TLS_REQUIRE : HCI_EXPORT_TLS_OFF;
	o.read_only = opt_flag(cli, "read-only");
	catch_interrupt();
	if (hci_export_start(&x, vol, &o, &cli->err))
		return failed(cli);
	if (cli->json)
		printf("{\"uri\": \"%s\"}\n", hci_export_uri(x));
	else
		puts(hci_export_uri(x));
	fflush(stdout);
	for (next = now_ns(); !interrupted; usleep(100000)) {
		if (!every || now_ns() < next)
			continue;
		print_status(cli, vol);
		next = now_ns() + every * 1000000u;
	}
	stop(x, vol);
	return EXIT_FINE;
}

/* Of this process: before the volume is attached, so that it uses it. */
static int cache_open(struct cli *cli)
{
	struct hci_cache_opts o = HCI_CACHE_OPTS_INIT;

	o.path = opt_text(cli, "cache");
	o.bytes = opt_size(cli, "cache-size", 0);
	o.ram = opt_size(cli, "cache-ram", 0);
	if (!o.path && !o.ram)
		return 0;
	return hci_cache_open(cli->cluster, &o, &cli->err);
}

int volume_export(struct cli *cli)
{
	hci_volume *vol;
	int rc;

	if (cache_open(cli))
		return failed(cli);
	vol = volume_attach(cli);
	if (!vol)
		return EXIT_FAILED;
	rc = serve(cli, vol);
	hci_volume_unref(vol);
	return rc;
}
