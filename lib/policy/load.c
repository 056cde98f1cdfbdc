/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading a plugin: who may have written the file, dlopen, the descriptor, its configuration. A
 * plugin is never unmapped again: threads may still be in it, and unloading has crashed better
 * programs.
 */
#include "policy/policy_impl.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

/* Whoever can write the file, or swap it in its folder, runs code as us. */
static int check_owner(const struct stat *st, const char *path, const char *what,
		       struct hci_error *err)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return err_set(err, HCI_E_PLUGIN,
			       "plugin: the %s %s belongs to uid %u: chown it to root", what, path,
			       (unsigned)st->st_uid);
	/* Not even with the sticky bit: a folder where others make files is no place for plugins.
	 */
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return err_set(err, HCI_E_PLUGIN,
			       "plugin: the %s %s can be written by others: chmod go-w it", what,
			       path);
	return 0;
}

static int check_folder(const char *path, struct hci_error *err)
{
	char folder[PATH_MAX];
	size_t n = (size_t)(strrchr(path, '/') - path);
	struct stat st;

	if (n >= sizeof(folder))
		return err_set(err, HCI_E_PLUGIN, "plugin %s: its path is too long", path);
	memcpy(folder, path, n);
	folder[n] = '\0';
	if (stat(n ? folder : "/", &st))
		return err_sys(err, HCI_E_PLUGIN, errno, "plugin %s: its folder cannot be read",
			       path);
	return check_owner(&st, n ? folder : "/", "folder", err);
}

static int check_file(const char *real, const char *path, struct hci_error *err)
{
	struct stat st;
	int fd = open(real, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), rc;

	if (fd < 0 || fstat(fd, &st)) {
		rc = err_sys(err, HCI_E_PLUGIN, errno, "plugin %s: cannot be read", path);
	} else {
		rc = check_owner(&st, real, "file", err);
		if (!rc)
			rc = plugin_check_elf(fd, (uint64_t)st.st_size, path, err);
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

/*
 * The file, the folder it lies in, and when the path goes through a link to the file the folder of
 * that link. The folders above are the administrator's business (docs/plugins.md).
 */
static int check_path(const char *path, char real[PATH_MAX], struct hci_error *err)
{
	struct stat st;
	int rc;

	if (!path || path[0] != '/')
		return err_set(err, HCI_E_PLUGIN, "plugin %s: its path must be absolute",
			       path ? path : "(none)");
	if (!realpath(path, real))
		return err_sys(err, HCI_E_PLUGIN, errno,
			       "plugin %s: cannot be found (if it is one of libhci's own: install libhci, or set HCI_PLUGIN_DIR)",
			       path);
	/* Before anything is opened: opening a device or a pipe does things. */
	if (stat(real, &st) || !S_ISREG(st.st_mode))
		return err_set(err, HCI_E_PLUGIN,
			       "plugin %s: not a regular file: name the plugin's .so file", path);
	rc = check_folder(real, err);
	if (!rc)
		rc = check_folder(path, err);
	return rc ? rc : check_file(real, path, err);
}

static void host_log(void *ctx, int32_t level, const char *line)
{
	struct policy *p = ctx;
	char text[400];

	if (level < LOG_ERROR || level > LOG_TRACE)
		level = LOG_INFO;
	snprintf(text, sizeof(text), "%s", line ? line : "");
	policy_clean_text(text, sizeof(text));
	log_at(&p->log, (enum log_level)level, "%s: %s", p->name, text);
}

static void host_fail(void *ctx, const char *message)
{
	struct policy *p = ctx;

	snprintf(p->failed, sizeof(p->failed), "%s", message ? message : "");
	policy_clean_text(p->failed, sizeof(p->failed));
}

static int open_instance(struct policy *p, const char *path, const char *config,
			 struct hci_error *err)
{
	int32_t (*open_fn)(const struct hci_plugin_host *, const char *, void **) =
		p->kind == HCI_PLUGIN_PLACEMENT ? p->ops.placement.open : p->ops.scheduler.open;

	if (!open_fn) {
		if (config && *config)
			return err_set(err, HCI_E_PLUGIN,
				       "plugin %s: it takes no configuration, remove \"%.100s\"",
				       path, config);
		return 0;
	}
	if (open_fn(&p->host, config ? config : "", &p->instance))
		return err_set(err, HCI_E_PLUGIN,
			       "plugin %s: refuses its configuration \"%.100s\": %s", path,
			       config ? config : "", *p->failed ? p->failed : "no reason given");
	return 0;
}

/* Finds the descriptor of the plugin at path, and checks it into p. */
static int load_descriptor(const char *path, struct policy *p, struct hci_error *err)
{
	hci_plugin_entry_fn entry;
	char real[PATH_MAX];
	void *handle;
	int rc = check_path(path, real, err);

	if (rc)
		return rc;
	handle = dlopen(real, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (!handle) {
		const char *why = dlerror(); /* of this thread */

		return err_set(err, HCI_E_PLUGIN, "plugin %s: cannot be loaded: %s", path,
			       why ? why : "no reason given");
	}
	*(void **)&entry = dlsym(handle, HCI_PLUGIN_ENTRY_NAME);
	if (!entry)
		return err_set(err, HCI_E_PLUGIN,
			       "plugin %s: not a plugin: it exports no " HCI_PLUGIN_ENTRY_NAME "()",
			       path);
	return plugin_validate(entry(), sizeof(struct hci_plugin), path, p, err);
}

int policy_load(const char *name, const char *path, const char *config, const struct log *log,
		struct policy **out, struct hci_error *err)
{
	struct policy *p = MEM_NEW(struct policy);
	int rc;

	*out = NULL;
	if (!p)
		return err_set(err, HCI_E_NOMEM, "plugin %s: out of memory", path ? path : "(none)");
	p->refs = 1;
	snprintf(p->name, sizeof(p->name), "%s", name);
	if (log)
		p->log = *log;
	p->host =
		(struct hci_plugin_host){ sizeof(p->host), HCI_PLUGIN_ABI, p, host_log, host_fail };
	rc = load_descriptor(path, p, err);
	if (!rc && p->kind == HCI_PLUGIN_STORE)
		rc = err_set(err, HCI_E_PLUGIN,
			     "plugin %s: a store driver, no policy: name it in the URL of a store", path);
	if (!rc)
		rc = open_instance(p, path, config, err);
	if (rc) {
		mem_free(p);
		return rc;
	}
	*out = p;
	return 0;
}

int plugin_load_store(const char *path, struct hci_store_ops *ops, struct hci_error *err)
{
	struct policy *p = MEM_NEW(struct policy);
	int rc;

	if (!p)
		return err_set(err, HCI_E_NOMEM, "plugin %s: out of memory", path);
	rc = load_descriptor(path, p, err);
	if (!rc && p->kind != HCI_PLUGIN_STORE)
		rc = err_set(err, HCI_E_PLUGIN, "plugin %s: a policy, no store driver", path);
	if (!rc)
		*ops = p->ops.store;
	mem_free(p);
	return rc;
}

void plugin_shipped_path(const char *plugin, char *out, size_t cap)
{
	const char *dir = secure_getenv("HCI_PLUGIN_DIR");
	Dl_info info;

	if (dir && dir[0] == '/') {
		snprintf(out, cap, "%s/%s.so", dir, plugin);
	} else if (dladdr((void *)plugin_shipped_path, &info) && info.dli_fname && info.dli_fname[0] == '/') {
		const char *slash = strrchr(info.dli_fname, '/');

		snprintf(out, cap, "%.*s/hci/plugins/%s.so", (int)(slash - info.dli_fname), info.dli_fname, plugin);
	} else {
		snprintf(out, cap, "/usr/lib/hci/plugins/%s.so", plugin);
	}
}

struct policy *policy_ref(struct policy *p)
{
	__atomic_add_fetch(&p->refs, 1, __ATOMIC_RELAXED);
	return p;
}

void policy_unref(struct policy *p)
{
	void (*close_fn)(void *);

	if (!p || __atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL))
		return;
	close_fn =
		p->kind == HCI_PLUGIN_PLACEMENT ? p->ops.placement.close : p->ops.scheduler.close;
	if (close_fn)
		close_fn(p->instance);
	mem_free(p);
}

int policy_kind(const struct policy *p)
{
	return (int)p->kind;
}

const char *policy_plugin_name(const struct policy *p)
{
	return p->plugin_name;
}

const char *policy_plugin_version(const struct policy *p)
{
	return p->plugin_version;
}
