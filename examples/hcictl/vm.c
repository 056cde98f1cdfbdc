/* SPDX-License-Identifier: Apache-2.0 */
/* vm define, start, stop, list, migrate, undefine, console */
#include "vm.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int define(struct cli *cli)
{
	struct hci_vm_opts o = HCI_VM_OPTS_INIT;
	struct hci_vm_nic_opts nics[HCI_VM_NICS_MAX];
	struct hci_vm_usb_opts usb[HCI_VM_USB_MAX];

	o.name = cli->args[0];
	o.node = opt_text(cli, "node");
	o.vcpus = opt_number32(cli, "vcpus", 0);
	o.memory_bytes = opt_size(cli, "memory", 0);
	o.kernel = opt_text(cli, "kernel");
	o.initrd = opt_text(cli, "initrd");
	o.cmdline = opt_text(cli, "cmdline");
	for (int i = 0; i < cli->nopts; i++) {
		if (strcmp(cli->opts[i].name, "volume"))
			continue;
		if (o.nvolumes == HCI_VM_DISKS_MAX)
			usage_error("vm %s: at most %d volumes", o.name, HCI_VM_DISKS_MAX);
		o.volumes[o.nvolumes++] = cli->opts[i].value;
	}
	take_nics(cli, &o, nics);
	take_usb(cli, &o, usb);
	if (hci_vm_define(cli->cluster, &o, &cli->err))
		return failed(cli);
	return done(cli, "vm %s defined", o.name);
}

static int undefine(struct cli *cli)
{
	if (hci_vm_undefine(cli->cluster, cli->args[0], &cli->err))
		return failed(cli);
	return done(cli, "vm %s undefined", cli->args[0]);
}

static int start(struct cli *cli)
{
	struct hci_vm_start_opts o = HCI_VM_START_OPTS_INIT;
	hci_job *job;

	o.node = opt_text(cli, "node");
	return hci_vm_start_on(cli->cluster, cli->args[0], &o, &job, &cli->err) ? failed(cli) : follow_job(cli, job);
}

static int stop(struct cli *cli)
{
	uint32_t how = opt_flag(cli, "destroy") ? HCI_VM_STOP_DESTROY : HCI_VM_STOP_SHUTDOWN;
	hci_job *job;

	return hci_vm_stop(cli->cluster, cli->args[0], how, &job, &cli->err) ? failed(cli)
									     : follow_job(cli, job);
}

static int check(struct cli *cli, const struct hci_migrate_opts *o)
{
	struct hci_migrate_problem *p;
	struct table *t;
	uint64_t n;
	int rc;

	if (hci_vm_check_migrate(cli->cluster, cli->args[0], o, &p, &n, sizeof(*p), &cli->err))
		return failed(cli);
	if (!n && !cli->json) {
		hci_list_free(p);
		return done(cli, "nothing would stop a migration of vm %s to %s", cli->args[0], o->to);
	}
	t = table_new(cli, false);
	for (uint64_t i = 0; i < n; i++) {
		table_row(t);
		cell_text(t, "WHAT", "%s", p[i].what);
		cell_text(t, "WHY", "%s", p[i].why);
		cell_text(t, "CURE", "%s", p[i].cure);
	}
	hci_list_free(p);
	rc = table_print(t);
	return rc ? rc : n ? EXIT_FAILED : EXIT_FINE;
}

static int migrate(struct cli *cli)
{
	struct hci_migrate_opts o = HCI_MIGRATE_OPTS_INIT;
	hci_job *job;

	o.to = cli->args[1];
	o.bandwidth_bytes = opt_size(cli, "bandwidth", 0);
	o.max_downtime_ms = opt_millis32(cli, "max-downtime", 0);
	o.timeout_ms = opt_millis(cli, "timeout", 0);
	o.with_storage = opt_flag(cli, "with-storage");
	o.postcopy_ms = opt_millis32(cli, "postcopy", 0);
	o.postcopy_passes = opt_number32(cli, "postcopy-passes", 0);
	o.inflight_ms = opt_millis32(cli, "in-flight", 0);
	o.auto_converge = opt_flag(cli, "no-slow-down") ? HCI_AUTO_CONVERGE_NEVER : HCI_AUTO_CONVERGE_AS_NEEDED;
	if (opt_flag(cli, "check"))
		return check(cli, &o);
	return hci_vm_migrate(cli->cluster, cli->args[0], &o, &job, &cli->err)
		       ? failed(cli)
		       : follow_job(cli, job);
}

static const char *state_name(int32_t s)
{
	static const char *const names[] = { "stopped", "running", "paused", "crashed", "unknown" };

	return s >= 0 && s <= 4 ? names[s] : "?";
}

void vm_cells(struct table *t, const struct hci_vm_info *v)
{
	char volumes[HCI_VM_DISKS_MAX * (HCI_NAME_MAX + 1)] = "";

	for (uint32_t k = 0; k < v->nvolumes && k < HCI_VM_DISKS_MAX; k++)
		snprintf(volumes + strlen(volumes), sizeof(volumes) - strlen(volumes), "%s%s", k ? "," : "", v->volumes[k]);
	cell_text(t, "NAME", "%s", v->name);
	cell_text(t, "STATE", "%s", state_name(v->state));
	cell_text(t, "WANTED", "%s", state_name(v->wanted));
	cell_text(t, "NODE", "%s", v->node);
	cell_number(t, "VCPUS", v->vcpus);
	cell_size(t, "MEMORY", v->memory_bytes);
	cell_text(t, "VOLUMES", "%s", volumes);
	cell_number(t, "NICS", v->nnics);
	cell_number(t, "USB", v->nusb);
	cell_text(t, "CONSOLE LOG", "%s", v->console_log);
}

static int list(struct cli *cli)
{
	struct hci_vm_info *v;
	struct table *t;
	uint64_t n;

	if (hci_vm_list(cli->cluster, &v, &n, sizeof(*v), &cli->err))
		return failed(cli);
	t = table_new(cli, false);
	for (uint64_t i = 0; i < n; i++) {
		table_row(t);
		vm_cells(t, &v[i]);
	}
	hci_list_free(v);
	return table_print(t);
}

/* Prints what is new in a file until Ctrl-C. */
static int follow_file(const char *path, bool follow)
{
	FILE *f = fopen(path, "re");
	char buf[8192];
	size_t n;

	if (!f)
		return complain("console log %s: %s: run this on the VM's node", path,
				strerror(errno));
	catch_interrupt();
	do {
		while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
			fwrite(buf, 1, n, stdout);
		fflush(stdout);
		clearerr(f);
		if (follow)
			usleep(200000);
	} while (follow && !interrupted);
	fclose(f);
	return EXIT_FINE;
}

static int console(struct cli *cli)
{
	struct hci_vm_info *v;
	char path[256] = "";
	bool known = false;
	uint64_t n;

	if (hci_vm_list(cli->cluster, &v, &n, sizeof(*v), &cli->err))
		return failed(cli);
	for (uint64_t i = 0; i < n && !known; i++) {
		known = !strcmp(v[i].name, cli->args[0]);
		if (known)
			snprintf(path, sizeof(path), "%s", v[i].console_log);
	}
	hci_list_free(v);
	if (!known)
		return complain("vm %s: no such VM: see hcictl vm list", cli->args[0]);
	if (!*path)
		return complain("vm %s: it has no console log yet: start it", cli->args[0]);
	return follow_file(path, opt_flag(cli, "follow"));
}

static const struct verb verbs[] = {
	{ .name = "define",
	  .args = "NAME",
	  .summary = "Make a VM known; it is stopped",
	  .run = define,
	  .min = 1,
	  .max = 1,
	  .more = "Examples:\n"
		  "  hcictl vm define web1 --volume web1-root --memory 2G --vcpus 2\n"
		  "  hcictl vm define t1 --node n1 --volume v1 --kernel /boot/vmlinuz --cmdline "
		  "console=ttyS0\n"
		  "  hcictl vm define web1 --volume web1-root --nic bridge=br0 --nic bridge=br1,mtu=9000\n"
		  "  hcictl vm define web1 --volume web1-root --usb name=dongle,node=n3,server=tcp:127.0.0.1:4000",
	  .opts = { { "volume", "NAME", "a disk; may be given up to 8 times: vda, vdb, ..." },
		    { "nic", "bridge=NAME[,mac=..][,mtu=..][,model=virtio|e1000e][,link=up|down]",
		      "a network interface: a port of that bridge of its node; up to 8 times" },
		    { "usb", "name=NAME,node=NODE,server=ADDRESS",
		      "a USB device that usbredirect serves on that node at tcp:HOST:PORT or unix:/path; up to 8 times" },
		    { "node", "NAME", "where it is to run (default: the scheduler chooses)" },
		    { "vcpus", "N", "virtual CPUs (default 1)" },
		    { "memory", "SIZE", "default 256M" },
		    { "kernel", "PATH",
		      "boot this kernel directly; the path must be there on every node" },
		    { "initrd", "PATH", "with --kernel" },
		    { "cmdline", "TEXT", "with --kernel" } } },
	{ .name = "start",
	  .args = "NAME",
	  .summary = "Start a VM and wait until it runs",
	  .run = start,
	  .min = 1,
	  .max = 1,
	  .more = "A VM of a node that is down starts on another one with --node; make sure that the dead machine is off.",
	  .opts = { { "node", "NAME", "start it there, and leave it there (default: its own)" }, OPT_NO_WAIT } },
	{ .name = "stop",
	  .args = "NAME",
	  .summary = "Ask the guest to shut down, and wait for it",
	  .run = stop,
	  .min = 1,
	  .max = 1,
	  .opts = { { "destroy", NULL, "pull the plug instead" }, OPT_NO_WAIT } },
	{ .name = "list", .args = "", .summary = "List the VMs", .run = list },
	{ .name = "show", .args = "NAME", .summary = "Show a VM, its network interfaces and USB devices too", .run = vm_show, .min = 1, .max = 1 },
	{ .name = "nics", .args = "NAME", .summary = "List a VM's network interfaces", .run = vm_nics, .min = 1, .max = 1 },
	{ .name = "usb", .args = "NAME", .summary = "List a VM's USB devices", .run = vm_usb, .min = 1, .max = 1 },
	{ .name = "migrate",
	  .args = "NAME NODE",
	  .summary = "Move a running VM to another node without stopping it",
	  .run = migrate,
	  .min = 2,
	  .max = 2,
	  .more = "If it fails, the VM goes on where it was. Example:\n  hcictl vm migrate web1 n2 "
		  "--bandwidth 50M\n  hcictl vm migrate web1 n2 --check",
	  .opts = { { "check", NULL, "move nothing: list all that would stop it; exit status 1 if something would" },
		    { "bandwidth", "SIZE", "a second, at most" },
		    { "max-downtime", "TIME", "longest pause of the guest (default 300ms)" },
		    { "timeout", "TIME", "cancel after this" },
		    { "postcopy", "TIME", "not over after this: the guest goes on there, and its memory follows; no way back" },
		    { "postcopy-passes", "N", "the same, after N passes in a row that left as much to send as the one before" },
		    { "in-flight", "TIME", "at most what the link carries in this time is under way (default 100ms)" },
		    { "no-slow-down", NULL, "do not slow the guest down when it changes its memory too fast" },
		    { "with-storage", NULL, "then take a copy of each of its volumes there too" },
		    OPT_NO_WAIT } },
	{ .name = "undefine",
	  .args = "NAME",
	  .summary = "Forget a stopped VM; its volumes stay",
	  .run = undefine,
	  .min = 1,
	  .max = 1 },
	{ .name = "console",
	  .args = "NAME",
	  .summary = "Print what the guest wrote to its serial console",
	  .run = console,
	  .min = 1,
	  .max = 1,
	  .more = "The log is a file on the VM's node: run it there.",
	  .opts = { { "follow", NULL, "go on until Ctrl-C" } } },
	{ 0 },
};

const struct noun noun_vm = { "vm", "virtual machines on volumes", verbs };
