/* SPDX-License-Identifier: Apache-2.0 */
/* What the main functions of these benchmarks have in common: nodes are the same program, interrupts end loads. */
#include "bench.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int bench_main(int argc, char **argv, const struct bench *b)
{
	char dir[256];
	int rc;

	setenv("HCI_PLUGIN_DIR", BENCH_PLUGINS, 0);
	signal(SIGPIPE, SIG_IGN);
	if (argc == 6 && !strcmp(argv[1], "--node"))
		return node_main(argv + 2);
	if (b->options(argc, argv)) {
		fputs(b->usage, stderr);
		return 2;
	}
	signal(SIGINT, load_stop);
	signal(SIGTERM, load_stop);
	if (scratch_make(*b->dir, dir, sizeof(dir)))
		return 1;
	load_init();
	rc = b->run(dir);
	scratch_remove(dir);
	return rc || load_stopped() ? 1 : 0;
}
