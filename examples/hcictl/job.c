/* SPDX-License-Identifier: Apache-2.0 */
/* job list, show, wait, cancel; and following a job that another verb started */
#include "cli.h"

#include <string.h>

static const char *state_name(int32_t s)
{
	static const char *const names[] = { "pending", "running", "done", "failed", "cancelled" };

	return s >= 0 && s <= 4 ? names[s] : "?";
}

static void cells(struct table *t, const struct hci_job_info *j, bool all)
{
	cell_text(t, "ID", "%s", j->id);
	cell_text(t, "TYPE", "%s", j->type);
	cell_text(t, "TARGET", "%s", j->target);
	cell_text(t, "NODE", "%s", j->node);
	cell_text(t, "STATE", "%s", state_name(j->state));
	cell_number(t, "DONE", j->done);
	cell_number(t, "TOTAL", j->total);
	cell_text(t, "UNIT", "%s", j->unit);
	cell_time(t, "CREATED", j->created);
	if (all) {
		cell_time(t, "UPDATED", j->updated);
		cell_text(t, "PHASE", "%s", j->phase);
		cell_text(t, "ERROR", "%s", j->error ? hci_strerror(j->error) : "");
	}
	cell_text(t, "MESSAGE", "%s", j->message);
}

/* All that lib/ makes. */
static const char *const types[] = { "resync",	      "vm-start",	 "vm-stop",	  "vm-migrate", "volume-set", "volume-move",
				     "disk-evacuate", "node-evacuate", "pool-balance", NULL };

static int list(struct cli *cli)
{
	const char *type = opt_text(cli, "type");
	struct hci_job_info *j;
	struct table *t;
	uint64_t n;

	(void)opt_word(cli, "type", types, 0);
	if (hci_job_list(cli->cluster, &j, &n, sizeof(*j), &cli->err))
		return failed(cli);
	t = table_new(cli, false);
	for (uint64_t i = 0; i < n; i++) {
		if (type && strcmp(type, j[i].type))
			continue;
		table_row(t);
		cells(t, &j[i], false);
	}
	hci_list_free(j);
	return table_print(t);
}

static int show(struct cli *cli)
{
	struct hci_job_info info;
	struct table *t;
	hci_job *job;
	int rc;

	if (hci_job_open(&job, cli->cluster, cli->args[0], &cli->err))
		return failed(cli);
	rc = hci_job_info(job, &info, sizeof(info), &cli->err);
	hci_job_unref(job);
	if (rc)
		return failed(cli);
	t = table_new(cli, true);
	cells(t, &info, true);
	return table_print(t);
}

/* The result is JSON made by libhci: handed on as it is. */
static void print_result(const struct cli *cli, const struct hci_job_info *info, double seconds)
{
	const char *result = *info->message == '{' ? info->message : "null";

	if (cli->json) {
		printf("{\"job\": \"%s\", \"type\": \"%s\", \"state\": \"%s\", \"seconds\": %.3f, "
		       "\"result\": %s}\n",
		       info->id, info->type, state_name(info->state), seconds, result);
		return;
	}
	printf("%s %s: %s in %.1f s%s%s\n", info->type, info->target, state_name(info->state),
	       seconds, *info->message ? "  " : "", info->message);
}

int follow_job(struct cli *cli, hci_job *job)
{
	struct hci_job_info info;
	struct progress p;
	char label[80];
	double seconds;
	int rc = hci_job_info(job, &info, sizeof(info), &cli->err);

	if (rc) {
		hci_job_unref(job);
		return failed(cli);
	}
	if (opt_flag(cli, "no-wait")) {
		hci_job_unref(job);
		if (cli->json)
			printf("{\"job\": \"%s\"}\n", info.id);
		else
			puts(info.id);
		return EXIT_FINE;
	}
	catch_interrupt();
	snprintf(label, sizeof(label), "%.30s %.40s", info.type, info.target);
	progress_start(&p, cli, label, !strcmp(info.unit, "bytes"), info.total);
	do {
		rc = hci_job_wait(job, 200, &cli->err);
		if (hci_job_info(job, &info, sizeof(info), NULL))
			break;
		p.bytes = !strcmp(info.unit, "bytes");
		progress_to(&p, info.done, info.total, info.phase);
	} while (!interrupted && info.state <= HCI_JOB_RUNNING && rc == HCI_E_TIMEOUT);
	/* It may have ended between the two calls. */
	if (rc == HCI_E_TIMEOUT && info.state > HCI_JOB_RUNNING)
		rc = hci_job_wait(job, 0, &cli->err);
	seconds = progress_end(&p);
	hci_job_unref(job);
	if (info.state <= HCI_JOB_RUNNING && interrupted) {
		fprintf(stderr, "hcictl: job %s goes on: hcictl job wait or cancel it\n", info.id);
		return EXIT_STOPPED;
	}
	if (rc)
		return failed(cli);
	print_result(cli, &info, seconds);
	return EXIT_FINE;
}

static int wait_job(struct cli *cli)
{
	hci_job *job;

	if (hci_job_open(&job, cli->cluster, cli->args[0], &cli->err))
		return failed(cli);
	return follow_job(cli, job);
}

static int cancel(struct cli *cli)
{
	hci_job *job;
	int rc;

	if (hci_job_open(&job, cli->cluster, cli->args[0], &cli->err))
		return failed(cli);
	rc = hci_job_cancel(job, &cli->err);
	hci_job_unref(job);
	return rc ? failed(cli) : done(cli, "job %s is asked to stop", cli->args[0]);
}

static const struct verb verbs[] = {
	{ .name = "list",
	  .args = "",
	  .summary = "List the jobs of the last day, newest first",
	  .run = list,
	  .more = "Example:\n  hcictl job list --type resync",
	  .opts = { { "type", "TYPE", "only those of this type: resync, vm-migrate, volume-set, ..." } } },
	{ .name = "show",
	  .args = "ID",
	  .summary = "Show one job",
	  .run = show,
	  .min = 1,
	  .max = 1 },
	{ .name = "wait",
	  .args = "ID",
	  .summary = "Follow a job to its end",
	  .run = wait_job,
	  .min = 1,
	  .max = 1,
	  .more = "The exit status is that of the job. Ctrl-C ends the watching, not the job." },
	{ .name = "cancel",
	  .args = "ID",
	  .summary = "Ask a job to stop",
	  .run = cancel,
	  .min = 1,
	  .max = 1 },
	{ 0 },
};

const struct noun noun_job = { "job", "long operations", verbs };
