/* SPDX-License-Identifier: Apache-2.0 */
/* hci/export.h */
#include "api/volume_impl.h"

#include "export/nbd.h"
#include "export/nbd_volume.h"

struct hci_export {
	hci_volume *vol;
	struct nbd_server *server;
	struct nbd_export *x;
	struct nbd_volume *backend;
	struct env_tls *tls;
	char uri[512];
};

struct start_args {
	hci_export *h;
	const struct hci_export_opts *o;
};

static void server_closed(void *arg)
{
	struct start_args *a = arg;

	a->h->server = NULL;
	fiber_cond_signal(a->h->vol->c->env, &a->h->vol->reloaded);
}

static int stop_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct start_args a = { .h = arg };

	(void)err;
	if (a.h->x)
		nbd_export_close_wait(a.h->x);
	if (a.h->server) {
		nbd_server_close(a.h->server, server_closed, &a);
		while (a.h->server)
			fiber_cond_wait(c->env, &a.h->vol->reloaded);
	}
	if (a.h->backend)
		nbd_volume_free(a.h->backend);
	env_tls_free(a.h->tls);
	return 0;
}

/* nbd+unix:///name?socket=PATH, nbd://HOST:PORT/name, nbds://... as in the NBD URI specification. */
static void make_uri(hci_export *h, const char *name)
{
	const char *addr = nbd_server_addr(h->server);

	if (!strncmp(addr, "unix:", 5))
		snprintf(h->uri, sizeof(h->uri), "nbd+unix:///%s?socket=%s", name, addr + 5);
	else
		snprintf(h->uri, sizeof(h->uri), "%s://%s/%s", h->tls ? "nbds" : "nbd",
			 strncmp(addr, "tcp:", 4) ? addr : addr + 4, name);
}

static int start_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct start_args *a = arg;
	hci_export *h = a->h;
	struct nbd_backend b;
	struct nbd_server_opts so = { .addr = a->o->address };
	struct nbd_export_opts xo = { .read_only = a->o->read_only, .backend = &b };

	xo.name = a->o->name ? a->o->name : vol_record(h->vol->v)->name;
	if (a->o->tls == HCI_EXPORT_TLS_REQUIRE) {
		h->tls = env_tls_new(c->env, c->ca_file, c->cert_file, c->key_file, true, err);
		if (!h->tls)
			return HCI_E_AUTH;
		so.tls = h->tls;
	}
	h->backend = nbd_volume_new(c->env, h->vol->v, &b);
	if (!h->backend)
		return err_set(err, HCI_E_NOMEM, "export %s: out of memory", xo.name);
	h->server = nbd_server_open(c->env, &so, err);
	if (!h->server)
		return err && err->code ? err->code : HCI_E_SYS;
	h->x = nbd_export_add(h->server, &xo, err);
	if (!h->x)
		return err && err->code ? err->code : HCI_E_NOMEM;
	make_uri(h, xo.name);
	return 0;
}

int hci_export_start(hci_export **out, hci_volume *vol, const struct hci_export_opts *opts, struct hci_error *err)
{
	static const struct hci_export_opts defaults = HCI_EXPORT_OPTS_INIT;
	struct hci_export_opts o;
	struct start_args a = { .o = &o };
	int rc;

	if (!out || !vol)
		return api_null(out ? "vol" : "out", err);
	*out = NULL;
	rc = opts_take(&o, &defaults, sizeof(o), opts, OPTS_UP_TO(struct hci_export_opts, reserved),
		       "hci_export_opts", err);
	if (!rc)
		rc = opts_reserved(o.reserved, "hci_export_opts", err);
	if (rc)
		return rc;
	if (!o.address)
		return err_set(err, HCI_E_INVAL, "export: address is missing: give unix:/path or tcp:HOST:PORT");
	if (o.tls > HCI_EXPORT_TLS_REQUIRE || o.read_only > 1)
		return err_set(err, HCI_E_INVAL, "export %s: tls %u or read_only %u is not known", o.address, o.tls, o.read_only);
	if (o.tls && !vol->c->ca_file[0])
		return err_set(err, HCI_E_INVAL, "export %s: the cluster was opened without certificates, so TLS is not possible",
			       o.address);
	a.h = MEM_NEW(hci_export);
	if (!a.h)
		return err_set(err, HCI_E_NOMEM, "export %s: out of memory", o.address);
	a.h->vol = hci_volume_ref(vol);
	rc = api_call(vol->c, start_on_loop, &a, err);
	if (rc) {
		hci_export_stop(a.h);
		return rc;
	}
	*out = a.h;
	return 0;
}

void hci_export_stop(hci_export *h)
{
	if (!h)
		return;
	(void)api_call(h->vol->c, stop_on_loop, h, NULL);
	hci_volume_unref(h->vol);
	mem_free(h);
}

const char *hci_export_uri(const hci_export *h)
{
	return h->uri;
}
