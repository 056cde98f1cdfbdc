/* SPDX-License-Identifier: Apache-2.0 */
/* disk add, list, remove */
#include "cli.h"

static const char *const classes[] = { "hdd", "ssd", "nvme", NULL };

static int add(struct cli *cli)
{
	struct hci_disk_opts o = HCI_DISK_OPTS_INIT;
	char uuid[HCI_UUID_STR];

	o.node = cli->args[0];
	o.path = cli->args[1];
	o.pool = opt_text(cli, "pool");
	o.role = opt_flag(cli, "spare") ? HCI_DISK_SPARE : HCI_DISK_DATA;
	o.disk_class = opt_word(cli, "class", classes, HCI_DISK_HDD);
	o.log = opt_text(cli, "log");
	o.log_size = opt_size(cli, "log-size", 0);
	o.log_wait_ms = opt_millis32(cli, "log-wait", 0);
	o.log_level = opt_number32(cli, "log-level", 0);
	o.timeout_ms = opt_millis32(cli, "timeout", 0);
	if (hci_disk_add(cli->cluster, &o, uuid, &cli->err))
		return failed(cli);
	if (cli->json) {
		printf("{\"uuid\": \"%s\"}\n", uuid);
		return EXIT_FINE;
	}
	return done(cli, "disk %s is online (%s:%s)", uuid, o.node, o.path);
}

static int list(struct cli *cli)
{
	static const char *const states[] = { "new",    "online",     "offline",
					      "failed", "evacuating", "removed" };
	struct hci_disk_info *d;
	struct table *t;
	uint64_t n;

	if (hci_disk_list(cli->cluster, &d, &n, sizeof(*d), &cli->err))
		return failed(cli);
	t = table_new(cli, false);
	for (uint64_t i = 0; i < n; i++) {
		table_row(t);
		cell_text(t, "UUID", cli->json ? "%s" : "%.8s", d[i].uuid);
		cell_text(t, "NODE", "%s", d[i].node);
		cell_text(t, "PATH", "%s", d[i].path);
		cell_text(t, "POOL", "%s", d[i].pool);
		cell_text(t, "ROLE", "%s", d[i].role == HCI_DISK_SPARE ? "spare" : "data");
		cell_text(t, "CLASS", "%s",
			  d[i].disk_class >= 0 && d[i].disk_class <= 2 ? classes[d[i].disk_class]
								       : "?");
		cell_text(t, "STATE", "%s",
			  d[i].state >= 0 && d[i].state <= 5 ? states[d[i].state] : "?");
		cell_size(t, "CAPACITY", d[i].capacity);
		cell_size(t, "FREE", d[i].free);
		cell_number(t, "SEGMENTS", d[i].segments);
		cell_text(t, "LOG", "%s", d[i].log);
		if (cli->json) {
			cell_number(t, "LOG WAIT MS", d[i].log_wait_ms);
			cell_number(t, "LOG LEVEL", d[i].log_level);
		}
		cell_text(t, "REASON", "%s", d[i].reason);
	}
	hci_list_free(d);
	return table_print(t);
}

static int evacuate(struct cli *cli)
{
	hci_job *job;

	return hci_disk_evacuate(cli->cluster, cli->args[0], &job, &cli->err) ? failed(cli) : follow_job(cli, job);
}

static int activate(struct cli *cli)
{
	if (hci_disk_activate(cli->cluster, cli->args[0], &cli->err))
		return failed(cli);
	return done(cli, "disk %s is for use", cli->args[0]);
}

static int set(struct cli *cli)
{
	struct hci_disk_set_opts o = HCI_DISK_SET_OPTS_INIT;
	const char *pool = opt_text(cli, "pool");
	bool none = opt_flag(cli, "no-pool");

	o.log_wait_ms = opt_millis32(cli, "log-wait", 0);
	o.log_level = opt_number32(cli, "log-level", 0);
	if ((pool && none) || (!pool && !none && !o.log_wait_ms && !o.log_level))
		usage_error("disk %s: give --pool NAME or --no-pool, --log-wait TIME, --log-level PERCENT", cli->args[0]);
	if ((o.log_wait_ms || o.log_level) && hci_disk_set(cli->cluster, cli->args[0], &o, &cli->err))
		return failed(cli);
	if (!pool && !none)
		return done(cli, "disk %s changed", cli->args[0]);
	if (hci_disk_set_pool(cli->cluster, cli->args[0], pool, &cli->err))
		return failed(cli);
	return done(cli, pool ? "disk %s serves pool %s" : "disk %s serves no pool", cli->args[0], pool);
}

static int remove_disk(struct cli *cli)
{
	if (hci_disk_remove(cli->cluster, cli->args[0], &cli->err))
		return failed(cli);
	return done(cli, "disk %s removed: if it held anything, that is rebuilt elsewhere", cli->args[0]);
}

static const struct verb verbs[] = {
	{ .name = "add",
	  .args = "NODE PATH",
	  .summary = "Give an empty directory of a node to the cluster as a disk",
	  .run = add,
	  .min = 2,
	  .max = 2,
	  .more = "One file system a disk, best XFS on the bare disk. Examples:\n"
		  "  hcictl disk add n1 /disks/d1 --pool main --class ssd\n"
		  "  hcictl disk add n1 /disks/s1 --pool main --spare\n"
		  "  hcictl disk add n1 /disks/h1 --pool main --log /ssd/logs\n"
		  "With --log writes go to the SSD first. If it is away, the disk is offline and waits for it.",
	  .opts = { { "pool", "NAME", "pool it serves" },
		    { "spare", NULL, "keep it for what failed disks held" },
		    { "class", "hdd|ssd|nvme", "what it is (default hdd)" },
		    { "log", "PATH", "directory or empty block device of a faster medium for its write log" },
		    { "log-size", "SIZE", "of the write log (default: at most 256M, with --log 4G)" },
		    { "log-wait", "TIME", "for a log that is away, then the disk is rebuilt (default 10m)" },
		    { "log-level", "PERCENT", "of the log from which on it is moved to the disk (default 50)" },
		    { "timeout", "TIME", "how long to wait for the node (default 30s)" } } },
	{ .name = "list", .args = "", .summary = "List the disks", .run = list },
	{ .name = "evacuate",
	  .args = "UUID",
	  .summary = "Move what a disk holds elsewhere, while volumes are in use",
	  .run = evacuate,
	  .min = 1,
	  .max = 1,
	  .more = "Then it can be removed (disk remove), leave its pool (disk set), or be used again (disk activate). Ctrl-C ends the\n"
		  "watching; hcictl job cancel ends the job: what has moved stays. Example:\n  hcictl disk evacuate 3fa0 && hcictl disk remove 3fa0",
	  .opts = { OPT_NO_WAIT } },
	{ .name = "activate",
	  .args = "UUID",
	  .summary = "Use an evacuated disk again",
	  .run = activate,
	  .min = 1,
	  .max = 1 },
	{ .name = "set",
	  .args = "UUID",
	  .summary = "Put a disk into a pool, take an evacuated one out, or change how its write log is used",
	  .run = set,
	  .min = 1,
	  .max = 1,
	  .opts = { { "pool", "NAME", "pool it is to serve" },
		    { "no-pool", NULL, "none" },
		    { "log-wait", "TIME", "for a log that is away, then the disk is rebuilt" },
		    { "log-level", "PERCENT", "of the log from which on it is moved to the disk" } } },
	{ .name = "remove",
	  .args = "UUID",
	  .summary = "Take a failed, offline or evacuated disk out for good",
	  .run = remove_disk,
	  .min = 1,
	  .max = 1,
	  .more = "A unique beginning of the UUID is enough. What a failed or offline one held is rebuilt at once." },
	{ 0 },
};

const struct noun noun_disk = { "disk", "what nodes store on", verbs };
