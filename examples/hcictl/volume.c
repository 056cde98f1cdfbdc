/* SPDX-License-Identifier: Apache-2.0 */
/* volume create, list, show, set, resize, delete; and the table of the verbs that move data */
#include "volume.h"

#include <string.h>

static const char *const full_words[] = { "wait", "fail", NULL };

static int create(struct cli *cli)
{
	struct hci_volume_opts o = HCI_VOLUME_OPTS_INIT;

	o.name = cli->args[0];
	o.bytes = parse_size("size", cli->args[1]);
	o.pool = opt_text(cli, "pool");
	o.policy = opt_text(cli, "policy");
	o.replicas = opt_number32(cli, "replicas", 0);
	o.segment_bytes = opt_size(cli, "segment", 0);
	o.on_full = (uint32_t)opt_word(cli, "on-full", full_words, 0);
	o.write_timeout_ms = opt_millis32(cli, "write-timeout", 0);
	o.rebuild_delay_ms = opt_millis(cli, "rebuild-delay", 0);
	o.read_timeout_ms = opt_millis32(cli, "read-timeout", 0);
	o.rebuild_impact = opt_number32(cli, "rebuild-impact", 0);
	o.lease_ms = opt_millis32(cli, "lease", 0);
	if (!o.pool)
		usage_error("volume %s: in which pool? Give --pool NAME", o.name);
	if (hci_volume_create(cli->cluster, &o, &cli->err))
		return failed(cli);
	return done(cli, "volume %s created", o.name);
}

/* The policy that places a volume: its own, or the pool's, which is told as such. For programs it is the volume's own only. */
static void cell_policy(struct cli *cli, struct table *t, const struct hci_volume_info *v)
{
	struct hci_pool_info *p = NULL;
	uint64_t n = 0, i = 0;

	if (!*v->policy && !cli->json)
		(void)hci_pool_list(cli->cluster, &p, &n, sizeof(*p), NULL);
	while (i < n && strcmp(p[i].name, v->pool))
		i++;
	if (i < n)
		cell_text(t, "POLICY", "%s (pool)", p[i].policy);
	else
		cell_text(t, "POLICY", "%s", v->policy);
	hci_list_free(p);
}

static void cells(struct cli *cli, struct table *t, const struct hci_volume_info *v)
{
	static const char *const states[] = { "creating", "ready", "deleting" };

	cell_text(t, "NAME", "%s", v->name);
	cell_size(t, "SIZE", v->bytes);
	cell_text(t, "POOL", "%s", v->pool);
	cell_policy(cli, t, v);
	cell_number(t, "REPLICAS", v->replicas);
	cell_number(t, "OUT", v->replicas_out);
	cell_number(t, "REBUILDING", v->rebuilding);
	cell_text(t, "STATE", "%s", v->state <= 2 ? states[v->state] : "?");
	cell_text(t, "ATTACHED BY", "%s", v->attached_by);
	cell_size(t, "SEGMENT", v->segment_bytes);
	cell_number(t, "GENERATION", v->generation);
	cell_text(t, "REASON", "%s", v->reason);
}

static int list(struct cli *cli)
{
	struct hci_volume_info *v;
	struct table *t;
	uint64_t n;

	if (hci_volume_list(cli->cluster, &v, &n, sizeof(*v), &cli->err))
		return failed(cli);
	t = table_new(cli, false);
	for (uint64_t i = 0; i < n; i++) {
		table_row(t);
		cells(cli, t, &v[i]);
	}
	hci_list_free(v);
	return table_print(t);
}

bool volume_find(struct cli *cli, const char *name, struct hci_volume_info *out)
{
	struct hci_volume_info *v;
	bool found = false;
	uint64_t n;

	if (hci_volume_list(cli->cluster, &v, &n, sizeof(*v), &cli->err)) {
		failed(cli);
		return false;
	}
	for (uint64_t i = 0; i < n && !found; i++) {
		found = !strcmp(v[i].name, name);
		if (found)
			*out = v[i];
	}
	hci_list_free(v);
	if (!found)
		complain("volume %s: no such volume: see hcictl volume list", name);
	return found;
}

struct hci_replica_info *volume_replicas(struct cli *cli, const char *name, uint64_t *n)
{
	struct hci_replica_info *r;

	if (hci_volume_replicas(cli->cluster, name, &r, n, sizeof(*r), &cli->err)) {
		failed(cli);
		return NULL;
	}
	return r;
}

static int show_replicas(struct cli *cli)
{
	static const char *const states[] = { "in sync", "out", "joining" };
	struct hci_replica_info *r;
	struct table *t;
	uint64_t n;

	r = volume_replicas(cli, cli->args[0], &n);
	if (!r)
		return EXIT_FAILED;
	t = table_new(cli, false);
	for (uint64_t i = 0; i < n; i++) {
		table_row(t);
		cell_number(t, "SEGMENT", r[i].segment);
		cell_text(t, "NODE", "%s", r[i].node);
		cell_text(t, "DISK", cli->json ? "%s" : "%.8s", r[i].disk);
		cell_text(t, "PATH", "%s", r[i].path);
		cell_text(t, "STATE", "%s", r[i].state <= 2 ? states[r[i].state] : "?");
	}
	hci_list_free(r);
	return table_print(t);
}

static int show(struct cli *cli)
{
	struct hci_volume_info v;
	struct table *t;

	if (opt_flag(cli, "replicas"))
		return show_replicas(cli);
	if (!volume_find(cli, cli->args[0], &v))
		return EXIT_FAILED;
	t = table_new(cli, true);
	cells(cli, t, &v);
	cell_text(t, "UUID", "%s", v.uuid);
	cell_text(t, "ON FULL", "%s", full_words[v.on_full == HCI_VOLUME_FULL_FAIL]);
	cell_number(t, "READ TIMEOUT MS", v.read_timeout_ms);
	cell_number(t, "WRITE TIMEOUT MS", v.write_timeout_ms);
	cell_number(t, "LEASE MS", v.lease_ms);
	cell_number(t, "REBUILD DELAY MS", v.rebuild_delay_ms);
	cell_number(t, "REBUILD IMPACT", v.rebuild_impact);
	cell_text(t, "OF THE POOL", "%s", (v.of_pool & 3) == 3 ? "delay, impact" : v.of_pool & 1 ? "delay" : v.of_pool & 2 ? "impact" : "");
	return table_print(t);
}

static int resize(struct cli *cli)
{
	if (hci_volume_resize(cli->cluster, cli->args[0], parse_size("size", cli->args[1]),
			      &cli->err))
		return failed(cli);
	return done(cli, "volume %s resized", cli->args[0]);
}

/* Times: "default" is what there is without. */
static uint32_t tune_ms(struct cli *cli, const char *name)
{
	const char *s = opt_text(cli, name);
	uint64_t ms;

	if (s && !strcmp(s, "default"))
		return UINT32_MAX;
	ms = opt_millis(cli, name, 0);
	/* To the library 0 means: as it is. */
	if (s && (!ms || ms >= UINT32_MAX))
		usage_error("--%s %s: give 1ms or more, or default", name, s);
	return (uint32_t)ms;
}

/* 1: something is to be tuned. */
static int tune_opts(struct cli *cli, struct hci_volume_tune_opts *o)
{
	const char *impact = opt_text(cli, "rebuild-impact"), *delay = opt_text(cli, "rebuild-delay");

	o->on_full = opt_word(cli, "on-full", full_words, -1);
	o->rebuild_delay_ms = delay && !strcmp(delay, "pool") ? UINT64_MAX : opt_millis(cli, "rebuild-delay", 0);
	o->rebuild_impact = impact && !strcmp(impact, "pool") ? UINT32_MAX : opt_number32(cli, "rebuild-impact", 0);
	if (delay && !o->rebuild_delay_ms)
		usage_error("--rebuild-delay %s: give 1ms or more, or pool", delay);
	if (impact && !o->rebuild_impact)
		usage_error("--rebuild-impact %s: give 100 or more, or pool", impact);
	o->read_timeout_ms = tune_ms(cli, "read-timeout");
	o->write_timeout_ms = tune_ms(cli, "write-timeout");
	o->lease_ms = tune_ms(cli, "lease");
	return o->on_full >= 0 || o->rebuild_delay_ms || o->rebuild_impact || o->read_timeout_ms || o->write_timeout_ms ||
	       o->lease_ms;
}

static int set(struct cli *cli)
{
	struct hci_volume_set_opts o = HCI_VOLUME_SET_OPTS_INIT;
	struct hci_volume_tune_opts t = HCI_VOLUME_TUNE_OPTS_INIT;
	int tuned = tune_opts(cli, &t);
	hci_job *job;

	o.replicas = opt_number32(cli, "replicas", 0);
	o.policy = opt_text(cli, "policy");
	if (opt_flag(cli, "replicas") && !o.replicas)
		usage_error("volume %s: 1 to 5 replicas", cli->args[0]);
	if (!o.replicas && !o.policy && !tuned)
		usage_error("volume %s: give what is to change: hcictl volume set --help", cli->args[0]);
	if (tuned && hci_volume_tune(cli->cluster, cli->args[0], &t, &cli->err))
		return failed(cli);
	if (!o.replicas && !o.policy)
		return done(cli, "volume %s changed", cli->args[0]);
	return hci_volume_set(cli->cluster, cli->args[0], &o, &job, &cli->err) ? failed(cli) : follow_job(cli, job);
}

static int move(struct cli *cli)
{
	struct hci_volume_move_opts o = HCI_VOLUME_MOVE_OPTS_INIT;
	hci_job *job;

	o.to = opt_text(cli, "to");
	o.from = opt_text(cli, "from");
	if (!o.to)
		usage_error("volume %s: say where to with --to NODE", cli->args[0]);
	return hci_volume_move(cli->cluster, cli->args[0], &o, &job, &cli->err) ? failed(cli) : follow_job(cli, job);
}

static int delete_volume(struct cli *cli)
{
	if (hci_volume_delete(cli->cluster, cli->args[0], &cli->err))
		return failed(cli);
	return done(cli, "volume %s deleted", cli->args[0]);
}

hci_volume *volume_attach(struct cli *cli)
{
	struct hci_attach_opts o = HCI_ATTACH_OPTS_INIT;
	hci_volume *vol;

	o.wait_ms = opt_millis32(cli, "wait", 0);
	if (hci_volume_attach(&vol, cli->cluster, cli->args[0], &o, &cli->err)) {
		failed(cli);
		return NULL;
	}
	return vol;
}

bool all_zero(const void *p, size_t n)
{
	const unsigned char *b = p;

	/* Each byte equals the one before it, and the first is 0. */
	return !n || (!b[0] && !memcmp(b, b + 1, n - 1));
}

static const struct verb verbs[] = {
	{ .name = "create",
	  .args = "NAME SIZE",
	  .summary = "Make a volume: thin, reads as zeros",
	  .run = create,
	  .min = 2,
	  .max = 2,
	  .more = "Example:\n  hcictl volume create v1 10G --pool main --replicas 2",
	  .opts = { { "pool", "NAME", "required" },
		    { "replicas", "N", "copies on distinct nodes, 1 to 5 (default 2)" },
		    { "policy", "NAME", "placement (default: the pool's)" },
		    { "segment", "SIZE", "unit of placement and rebuild, 1M to 1G (default 256M)" },
		    { "on-full", "wait|fail", "what writes to a full disk do (default wait)" },
		    { "write-timeout", "TIME",
		      "a copy that is silent for so long is left out (default 5s)" },
		    { "read-timeout", "TIME",
		      "a copy that has not answered a read for so long: another one is asked too (default 500ms)" },
		    { "rebuild-delay", "TIME", "default: the pool's" },
		    { "rebuild-impact", "PERCENT",
		      "of its undisturbed latency that a request may take while copies are made (default: the pool's)" },
		    { "lease", "TIME",
		      "after which another may take over from a writer that died; reads outlive the store for nine tenths of it (default 6s)" } } },
	{ .name = "list", .args = "", .summary = "List the volumes", .run = list },
	{ .name = "show",
	  .args = "NAME",
	  .summary = "Show a volume, or where its copies are",
	  .run = show,
	  .min = 1,
	  .max = 1,
	  .opts = { { "replicas", NULL, "each segment's copies and their states" } } },
	{ .name = "set",
	  .args = "NAME",
	  .summary = "Change copies, placement, timeouts, the pace of rebuilds, also while it is in use",
	  .run = set,
	  .min = 1,
	  .max = 1,
	  .more = "New copies are made before others go. hcictl job cancel brings back what was. Examples:\n"
		  "  hcictl volume set v1 --replicas 3\n"
		  "  hcictl volume set v1 --policy chained\n"
		  "  hcictl volume set v1 --read-timeout 100ms --rebuild-impact 150\n"
		  "  hcictl volume set v1 --read-timeout default --rebuild-impact pool",
	  .opts = { { "replicas", "N", "copies on distinct nodes, 1 to 5" },
		    { "policy", "NAME", "placement; the copies move to where it wants them (\"\": the pool's)" },
		    { "on-full", "wait|fail", "what writes to a full disk do" },
		    { "write-timeout", "TIME", "a copy that is silent for so long is left out" },
		    { "read-timeout", "TIME", "a copy that has not answered a read for so long: another one is asked too" },
		    { "rebuild-delay", "TIME", "from a copy's loss to its rebuild elsewhere; \"pool\": the pool's" },
		    { "rebuild-impact", "PERCENT", "of its undisturbed latency that a request may take; \"pool\": the pool's" },
		    { "lease", "TIME", "of attachments from now on" },
		    OPT_NO_WAIT } },
	{ .name = "move",
	  .args = "NAME",
	  .summary = "Take one copy of each segment to a node, also while it is in use",
	  .run = move,
	  .min = 1,
	  .max = 1,
	  .more = "A VM that is to run there then reads from that node's own disks. New copies are made before others go.\n"
		  "Example: hcictl volume move v1 --to n3",
	  .opts = { { "to", "NODE", "where to" }, { "from", "NODE", "only copies that are there go" }, OPT_NO_WAIT } },
	{ .name = "resize",
	  .args = "NAME SIZE",
	  .summary = "Grow a volume, also while it is in use",
	  .run = resize,
	  .min = 2,
	  .max = 2 },
	{ .name = "delete",
	  .args = "NAME",
	  .summary = "Delete a volume that nobody has attached",
	  .run = delete_volume,
	  .min = 1,
	  .max = 1 },
	{ .name = "import",
	  .args = "NAME FILE",
	  .summary = "Fill a volume from a raw image",
	  .run = volume_import,
	  .min = 2,
	  .max = 2,
	  .more = "What is zero in the image takes no space in the volume. FILE - is the standard "
		  "input. What the volume has there is overwritten; the last block of an odd image is filled up with zeros. "
		  "Examples:\n"
		  "  hcictl volume import v1 debian.raw\n"
		  "  qemu-img convert -O raw debian.qcow2 /dev/stdout | hcictl volume import v1 -",
	  .opts = { { "offset", "SIZE", "where in the volume it begins (default 0)" },
		    { "depth", "N", "requests in flight (default 16)" },
		    OPT_WAIT } },
	{ .name = "read",
	  .args = "NAME FILE",
	  .summary = "Write a volume's contents to a file",
	  .run = volume_read,
	  .min = 2,
	  .max = 2,
	  .more = "The file is sparse; FILE - is the standard output. --replica reads one copy "
		  "only, without attaching the\n"
		  "volume. Examples:\n"
		  "  hcictl volume read v1 v1.raw\n"
		  "  hcictl volume read v1 - --offset 0 --length 4K | hexdump -C\n"
		  "  hcictl volume read v1 copy2.raw --replica 2",
	  .opts = { { "offset", "SIZE", "where to begin (default 0)" },
		    { "length", "SIZE", "how much (default: to the end)" },
		    { "replica", "N", "only from the first, second, ... copy of each segment" },
		    OPT_WAIT } },
	{ .name = "compare",
	  .args = "NAME",
	  .summary = "Compare a volume's copies block by block",
	  .run = volume_compare,
	  .min = 1,
	  .max = 1,
	  .more = "Exit status 3 when they differ or a copy is not in sync. Blocks that are being "
		  "written meanwhile may\n"
		  "differ: compare a volume at rest.",
	  .opts = { { "limit", "N", "print at most so many differing blocks (default 20)" } } },
	{ .name = "export",
	  .args = "NAME",
	  .summary = "Serve a volume over NBD until Ctrl-C",
	  .run = volume_export,
	  .min = 1,
	  .max = 1,
	  .more = "Prints the URI for qemu-img, nbdcopy, fio and others. Ctrl-C finishes the "
		  "requests that are open; a second\n"
		  "one abandons them, for when replicas cannot be reached. Examples:\n"
		  "  hcictl volume export v1 --listen unix:/run/v1.sock\n"
		  "  hcictl volume export v1 --listen tcp:10.0.0.1:10809 --tls\n"
		  "With --tls our certificate must name the address (hcictl pki issue ... --address 10.0.0.1), and clients need one of\n"
		  "the same CA: libnbd and QEMU look for ca-cert.pem, client-cert.pem and client-key.pem (ca.crt, node.crt and\n"
		  "node.key of pki issue) in one directory:\n"
		  "  nbdinfo 'nbds://10.0.0.1:10809/v1?tls-certificates=/DIR'\n"
		  "  qemu-img info --object tls-creds-x509,id=t,dir=/DIR,endpoint=client \\\n"
		  "    --image-opts driver=nbd,host=10.0.0.1,port=10809,export=v1,tls-creds=t",
	  .opts = { { "listen", "ADDRESS",
		      "unix:/PATH or tcp:ADDRESS:PORT (default unix:/tmp/hci-NAME.sock)" },
		    { "tls", NULL, "clients need a certificate of the cluster's CA" },
		    { "read-only", NULL, "clients may not write" },
		    { "status", "TIME", "print the writer's view so often" },
		    { "cache", "PATH", "read cache on an SSD: a file, made if need be, or a partition" },
		    { "cache-size", "SIZE", "of it (default: all of what is there)" },
		    { "cache-ram", "SIZE", "its blocks in memory (default 64M)" },
		    OPT_WAIT } },
	{ 0 },
};

const struct noun noun_volume = { "volume", "replicated virtual disks", verbs };
