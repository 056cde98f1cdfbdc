/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nbd_pki DIR: makes what the TLS tests need. DIR/node: a server; DIR/client, DIR/expired,
 * DIR/stranger (of another CA): clients, laid out as libnbd and QEMU want them.
 */
#include <stdio.h>
#include <stdlib.h>

#include "env/pki.h"

static void must(int r, const struct hci_error *err)
{
	if (!r)
		return;
	fprintf(stderr, "nbd_pki: %s\n", err->message);
	exit(1);
}

static void issue(const char *dir, const char *ca, const char *who, int days)
{
	static const char *const addrs[] = { "localhost", "127.0.0.1", NULL };
	char from[300], raw[300], out[300];
	struct hci_error err;

	snprintf(from, sizeof(from), "%s/%s", dir, ca);
	snprintf(raw, sizeof(raw), "%s/%s.raw", dir, who);
	snprintf(out, sizeof(out), "%s/%s", dir, who);
	must(pki_issue(from, who, raw, days, addrs, &err), &err);
	must(pki_lay_out(raw, out, PKI_LAYOUT_QEMU, &err), &err);
}

int main(int argc, char **argv)
{
	struct hci_error err;
	char ca[300];

	if (argc != 2)
		return 1;
	snprintf(ca, sizeof(ca), "%s/ca", argv[1]);
	must(pki_create_ca(ca, "test", &err), &err);
	snprintf(ca, sizeof(ca), "%s/ca2", argv[1]);
	must(pki_create_ca(ca, "other", &err), &err);
	issue(argv[1], "ca", "node", 10);
	issue(argv[1], "ca", "client", 10);
	issue(argv[1], "ca", "expired", -1);
	issue(argv[1], "ca2", "stranger", 10);
	return 0;
}
