/* SPDX-License-Identifier: Apache-2.0 */
/* How far long work is: a bar on a terminal, a line every tenth or few seconds elsewhere, all on
 * stderr. */
#include "cli.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#define BAR 30

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void progress_start(struct progress *p, const struct cli *cli, const char *label, bool bytes,
		    uint64_t total)
{
	memset(p, 0, sizeof(*p));
	p->cli = cli;
	p->bytes = bytes;
	p->total = total;
	p->tty = isatty(STDERR_FILENO);
	p->start_ns = now_ns();
	snprintf(p->label, sizeof(p->label), "%s", label);
}

static void show(struct progress *p, const char *phase, uint64_t now)
{
	double part = p->total ? (double)p->done / (double)p->total : 0,
	       secs = (double)(now - p->start_ns) / 1e9;
	char bar[BAR + 1], rate[48] = "";

	if (part > 1)
		part = 1;
	for (int i = 0; i < BAR; i++)
		bar[i] = i < (int)(part * BAR) ? '#' : '.';
	bar[BAR] = '\0';
	if (p->bytes && secs > 0)
		snprintf(rate, sizeof(rate), "  %.0f MB/s", (double)p->done / secs / 1e6);
	if (p->tty)
		fprintf(stderr, "\r\033[K%s [%s] %3.0f%%%s  %s", p->label, bar, part * 100, rate,
			phase ? phase : "");
	else
		fprintf(stderr, "%s: %.0f%%%s%s%s\n", p->label, part * 100, rate,
			phase && *phase ? "  " : "", phase ? phase : "");
	fflush(stderr);
	p->shown_ns = now;
	p->shown_tenth = (uint64_t)(part * 10);
}

void progress_to(struct progress *p, uint64_t done, uint64_t total, const char *phase)
{
	uint64_t now = now_ns(), tenth;

	p->done = done;
	p->total = total;
	tenth = total ? done * 10 / total : 0;
	if (p->cli->json)
		return;
	if (p->tty ? now - p->shown_ns > 100000000u
		   : (tenth != p->shown_tenth && now - p->shown_ns > 500000000u) ||
			     now - p->shown_ns > 10000000000u)
		if (p->tty || p->shown_ns || now - p->start_ns > 1000000000u)
			show(p, phase, now);
}

double progress_end(struct progress *p)
{
	uint64_t now = now_ns();

	if (!p->cli->json && p->tty && p->shown_ns) {
		show(p, "", now);
		fputc('\n', stderr);
	}
	return (double)(now - p->start_ns) / 1e9;
}
