/* SPDX-License-Identifier: Apache-2.0 */
#include "sqlite_world.h"

#include <dirent.h>
#include <unistd.h>

void world_make(struct world *w)
{
	memset(w, 0, sizeof(*w));
	snprintf(w->dir, sizeof(w->dir), "/tmp/hci-store-XXXXXX");
	REQUIRE(mkdtemp(w->dir), "no folder below /tmp");
	snprintf(w->file, sizeof(w->file), "%s/cluster.db", w->dir);
	snprintf(w->url, sizeof(w->url), "sqlite:%s", w->file);
}

void world_remove(struct world *w)
{
	DIR *d = opendir(w->dir);
	struct dirent *e;
	char path[400];

	while (d && (e = readdir(d))) {
		snprintf(path, sizeof(path), "%s/%s", w->dir, e->d_name);
		if (e->d_name[0] != '.')
			unlink(path);
	}
	if (d)
		closedir(d);
	rmdir(w->dir);
}

static void fiber_main(void *arg)
{
	struct world *w = arg;

	w->body(w);
	env_stop(w->env);
}

void world_run(struct world *w, void (*body)(struct world *w))
{
	struct env_real_opts o = { .name = "test" };
	struct hci_error err;

	w->body = body;
	w->env = env_real_new(&o, &err);
	REQUIRE(w->env, "%s", err.message);
	REQUIRE(fiber_spawn(w->env, fiber_main, w, "test") == 0, "no fiber");
	env_run(w->env);
	env_free(w->env);
	w->env = NULL;
}

struct store *world_open(struct world *w)
{
	struct hci_error err;
	struct store *s = NULL;
	int rc = store_open(w->env, w->url, &s, &err);

	REQUIRE(rc == 0, "%s", err.message);
	store_set_timeout(s, 30 * NS_PER_S); /* patience on a busy machine: what is tested is not speed */
	return s;
}

void world_put(struct store *s, const char *key, const char *value)
{
	struct store_op op = { STORE_PUT, key, value, (uint32_t)strlen(value), 0 };
	struct hci_error err;
	int rc = store_txn(s, NULL, 0, &op, 1, NULL, &err);

	REQUIRE(rc == 0, "%s: %s", key, err.message);
}

char *world_get(struct store *s, const char *key, char *out, size_t cap)
{
	struct store_result r;
	struct hci_error err;
	int rc = store_get(s, key, &r, &err);
	char *got = NULL;

	REQUIRE(rc == 0, "%s: %s", key, err.message);
	if (r.n) {
		snprintf(out, cap, "%.*s", (int)r.kvs[0].value_len, (char *)r.kvs[0].value);
		got = out;
	}
	store_result_free(&r);
	return got;
}
