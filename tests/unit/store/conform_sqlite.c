/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance suite against the sqlite driver. */
#include "conformance.h"
#include "sqlite_world.h"
#include "unit/harness.h"

static void (*case_body)(struct conf *c);

static void in_world(struct world *w)
{
	struct conf c = { .env = w->env, .priv = w };

	case_body(&c);
}

static void run(const struct conf_driver *d, void (*body)(struct conf *c))
{
	struct world w;

	(void)d;
	world_make(&w);
	case_body = body;
	world_run(&w, in_world);
	world_remove(&w);
}

static int open_client(struct conf *c, struct store **out, struct hci_error *err)
{
	struct world *w = c->priv;

	return store_open(c->env, w->url, out, err);
}

static Suite *make_suite(void)
{
	static const struct conf_driver d = { .name = "sqlite", .run = run, .open = open_client, .lease = 2 * NS_PER_S };
	Suite *s = suite_create("store/sqlite conformance");

	conf_add(s, &d);
	return s;
}

HARNESS_MAIN(make_suite)
