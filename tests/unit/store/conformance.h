/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every store driver must do, written once. A driver's test program supplies a struct
 * conf_driver and adds the suite: each case runs in a fiber against a new, empty store.
 */
#ifndef TESTS_STORE_CONFORMANCE_H
#define TESTS_STORE_CONFORMANCE_H

#include <check.h>

#include "env/fiber.h"
#include "store/store.h"

struct conf {
	const struct conf_driver *driver;
	struct env *env;
	struct store *s, *s2; /* two clients of the same store, on the same loop */
	void *priv;           /* the driver's */
};

struct conf_driver {
	const char *name;
	/* Makes an env and an empty store, runs body(c) in a fiber of it with c->env set, returns
	 * when body has returned and all is freed. */
	void (*run)(const struct conf_driver *d, void (*body)(struct conf *c));
	/* One more client of the store of this run; from the fiber. */
	int (*open)(struct conf *c, struct store **out, struct hci_error *err);
	uint64_t lease_late;  /* a lease may live on for so long after its time */
	uint64_t news_within; /* a watch hears of a change in this time; 0: 50 ms */
	uint64_t lease;       /* the shortest of those that are waited for; 0: 500 ms */
};

void conf_add(Suite *suite, const struct conf_driver *d);

#endif
