/* SPDX-License-Identifier: Apache-2.0 */
/* hcictl: finds the verb, takes its options, opens the cluster. What the verbs do is in a file a
 * noun. */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct noun *const nouns[] = { &noun_cluster, &noun_pki,    &noun_node,    &noun_disk, &noun_scrub,
					    &noun_pool,    &noun_volume, &noun_vm,      &noun_job,
					    &noun_event,   &noun_policy, &noun_store,   &noun_metrics,
					    &noun_cache,   NULL };

static const struct opt global_opts[] = {
	{ "store", "URL",
	  "metadata of the cluster, such as sqlite:/shared/cluster.db or etcd://n1,n2,n3 (HCI_STORE)" },
	{ "cert-dir", "DIR", "where ca.crt, node.crt and node.key are (HCI_CERT_DIR)" },
	{ "name", "NAME", "in whose name we act: that of the certificate (HCI_NAME)" },
	{ "config", "FILE",
	  "lines \"store = URL\" and so on (default /etc/hci/hcictl.conf); before NOUN where VERB has one too" },
	{ "json", NULL, "output for programs" },
	{ "debug", NULL, "libhci's log on stderr" },
	{ "version", NULL, "print the version and exit" },
	{ NULL, NULL, NULL },
};

/* ---- help ---- */

static void print_opts(const struct opt *o)
{
	for (; o->name; o++) {
		int n = printf("  --%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");

		/* One that is too long has its help on a line of its own. */
		if (n > 40)
			n = printf("\n") - 1;
		printf("%*s%s\n", n < 26 ? 27 - n : 1, "", o->help);
	}
}

static int help_all(void)
{
	puts("usage: hcictl [options] NOUN VERB [arguments]\n\n"
	     "Everything a cluster of libhci can be asked for, from the command line.\n");
	for (int i = 0; nouns[i]; i++)
		printf("  %-10s %s\n", nouns[i]->name, nouns[i]->summary);
	puts("\nOptions, for all verbs:");
	print_opts(global_opts);
	puts("\nA first cluster of two nodes on one machine:\n"
	     "  mkdir -p /srv/hci/d1 /srv/hci/d2 && export HCI_STORE=sqlite:/srv/hci/cluster.db\n"
	     "  hcictl cluster create lab\n"
	     "  (start hci-node --store $HCI_STORE --name n1 --listen tcp:127.0.0.1:7401; and n2 on 7402)\n"
	     "  hcictl pool create main\n"
	     "  hcictl disk add n1 /srv/hci/d1 --pool main && hcictl disk add n2 /srv/hci/d2 --pool main\n"
	     "  hcictl volume create v1 10G --pool main && hcictl volume import v1 image.raw\n"
	     "So there is no TLS; with it, hcictl pki ca and hcictl pki issue make the certificates, --cert-dir names them.\n\n"
	     "hcictl NOUN --help and hcictl NOUN VERB --help tell more.\n\n"
	     "Exit status: 0 fine, 1 failed (the message says what to do), 2 wrong usage, 3 "
	     "replicas differ,\n"
	     "130 interrupted.");
	return EXIT_FINE;
}

static int help_noun(const struct noun *n)
{
	printf("usage: hcictl %s VERB ...: %s\n\n", n->name, n->summary);
	for (const struct verb *v = n->verbs; v->name; v++) {
		char left[64];

		snprintf(left, sizeof(left), "%s %s", v->name, v->args);
		printf("  %-34s %s\n", left, v->summary);
	}
	printf("\nhcictl %s VERB --help tells more.\n", n->name);
	return EXIT_FINE;
}

static int help_verb(const struct noun *n, const struct verb *v)
{
	printf("usage: hcictl %s%s%s%s%s%s\n\n%s.\n", n->name, *v->name ? " " : "", v->name, *v->args ? " " : "", v->args,
	       v->opts[0].name ? " [options]" : "", v->summary);
	if (v->more)
		printf("\n%s\n", v->more);
	if (v->opts[0].name) {
		puts("\nOptions:");
		print_opts(v->opts);
	}
	puts("\nFor all verbs:");
	print_opts(global_opts);
	return EXIT_FINE;
}

/* ---- the configuration file ---- */

static char *trimmed(char *s)
{
	char *end;

	while (isspace((unsigned char)*s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return s;
}

/* Fills in what neither a flag nor the environment said. */
static void read_config(struct cli *cli, const char *path)
{
	FILE *f = fopen(path ? path : "/etc/hci/hcictl.conf", "re");
	char line[1024];
	int number = 0;

	if (!f) {
		if (path)
			usage_error("--config %s: %s", path, strerror(errno));
		return;
	}
	while (fgets(line, sizeof(line), f)) {
		char *key = trimmed(line), *eq = strchr(key, '='), *value, *keep;
		const char **where;

		number++;
		if (!*key || *key == '#')
			continue;
		if (!eq)
			usage_error("%s line %d: write key = value", path ? path : "hcictl.conf",
				    number);
		*eq = '\0';
		value = trimmed(eq + 1);
		key = trimmed(key);
		where = !strcmp(key, "store")      ? &cli->store
			: !strcmp(key, "cert-dir") ? &cli->certs
			: !strcmp(key, "name")     ? &cli->name
						   : NULL;
		if (!where)
			usage_error("%s line %d: '%s' is not known: store, cert-dir and name are",
				    path ? path : "hcictl.conf", number, key);
		keep = cli->config[where == &cli->store ? 0 : where == &cli->certs ? 1 : 2];
		if (!*where)
			*where = strcpy(keep, value); /* a line is no longer than that */
	}
	fclose(f);
}

/* ---- the command line ---- */

static const struct opt *find_opt(const struct opt *o, const char *name, size_t len)
{
	for (; o && o->name; o++)
		if (strlen(o->name) == len && !strncmp(o->name, name, len))
			return o;
	return NULL;
}

static void take_opt(struct cli *cli, const struct verb *v, int argc, char **argv, int *i)
{
	const char *name = argv[*i] + 2, *eq = strchr(name, '=');
	size_t len = eq ? (size_t)(eq - name) : strlen(name);
	const struct opt *o = find_opt(v ? v->opts : NULL, name, len);

	/* Behind a verb its own option wins, such as --config of `policy add`. */
	bool global = !o;

	if (!o)
		o = find_opt(global_opts, name, len);
	if (!o)
		usage_error("unknown option '%s': see --help", argv[*i]);
	if (o->arg && !eq && *i + 1 >= argc)
		usage_error("--%s needs a value: %s", o->name, o->arg);
	if (!o->arg && eq)
		usage_error("--%s takes no value", o->name);
	if (cli->nopts == OPTS_MAX)
		usage_error("too many options");
	cli->opts[cli->nopts].global = global;
	cli->opts[cli->nopts].name = o->name;
	cli->opts[cli->nopts++].value = !o->arg ? "" : eq ? eq + 1 : argv[++*i];
}

struct parsed {
	const struct noun *noun;
	const struct verb *verb;
	bool help;
};

static void pick(struct parsed *p, const char *word)
{
	if (!p->noun) {
		for (int i = 0; nouns[i] && !p->noun; i++)
			if (!strcmp(nouns[i]->name, word))
				p->noun = nouns[i];
		if (!p->noun)
			usage_error("unknown noun '%s': see hcictl --help", word);
		/* A noun with a single verb that has no name is its own verb. */
		if (!*p->noun->verbs[0].name)
			p->verb = &p->noun->verbs[0];
		return;
	}
	for (const struct verb *v = p->noun->verbs; v->name && !p->verb; v++)
		if (!strcmp(v->name, word))
			p->verb = v;
	if (!p->verb)
		usage_error("unknown verb '%s %s': see hcictl %s --help", p->noun->name, word,
			    p->noun->name);
}

static struct parsed parse(struct cli *cli, int argc, char **argv)
{
	struct parsed p = { 0 };
	bool only_args = false;

	cli->args = calloc((size_t)argc + 1, sizeof(char *));
	if (!cli->args)
		usage_error("out of memory");
	for (int i = 1; i < argc; i++) {
		if (!only_args && !strcmp(argv[i], "--"))
			only_args = true;
		else if (!only_args && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h") ||
					(!p.verb && !strcmp(argv[i], "help"))))
			p.help = true;
		else if (!only_args && !strncmp(argv[i], "--", 2))
			take_opt(cli, p.verb, argc, argv, &i);
		else if (!p.verb)
			pick(&p, argv[i]);
		else
			cli->args[cli->nargs++] = argv[i];
	}
	return p;
}

/* One of global_opts; NULL when it was not given. */
static const char *global_text(const struct cli *cli, const char *name)
{
	for (int i = cli->nopts; i-- > 0;)
		if (cli->opts[i].global && !strcmp(cli->opts[i].name, name))
			return cli->opts[i].value;
	return NULL;
}

/* An option or the environment; empty is as good as absent: HCI_CERT_DIR= hcictl ... goes without TLS. */
static const char *either(const struct cli *cli, const char *name, const char *env)
{
	const char *value = global_text(cli, name);

	if (!value)
		value = getenv(env);
	return value && *value ? value : NULL;
}

static void say(void *arg, int32_t level, const char *subsystem, const char *line)
{
	(void)arg;
	(void)level;
	fprintf(stderr, "%s: %s\n", subsystem, line);
}

static int open_cluster(struct cli *cli)
{
	struct hci_cluster_opts o = HCI_CLUSTER_OPTS_INIT;
	char ca[4096], cert[4096], key[4096];

	if (!cli->store)
		usage_error("which cluster? Give --store URL, set HCI_STORE, or write \"store = "
			    "URL\" to /etc/hci/hcictl.conf");
	o.store_url = cli->store;
	o.client_name = cli->name;
	if (cli->debug) {
		o.log = say;
		o.log_level = HCI_LOG_DEBUG;
	}
	if (cli->certs) {
		snprintf(ca, sizeof(ca), "%s/ca.crt", cli->certs);
		snprintf(cert, sizeof(cert), "%s/node.crt", cli->certs);
		snprintf(key, sizeof(key), "%s/node.key", cli->certs);
		o.ca_file = ca;
		o.cert_file = cert;
		o.key_file = key;
		if (!cli->name)
			usage_error("with --cert-dir, --name (or HCI_NAME) says whom the "
				    "certificate is for");
	}
	return hci_cluster_open(&cli->cluster, &o, &cli->err) ? failed(cli) : EXIT_FINE;
}

int main(int argc, char **argv)
{
	struct cli cli = { 0 };
	struct parsed p = parse(&cli, argc, argv);
	int rc;

	if (global_text(&cli, "version")) {
		printf("hcictl %s\n", hci_version_string());
		free(cli.args);
		return EXIT_FINE;
	}
	if (!p.noun || p.help || !p.verb) {
		rc = !p.noun ? help_all() : p.verb ? help_verb(p.noun, p.verb) : help_noun(p.noun);
		free(cli.args);
		return p.help ? rc : EXIT_USAGE;
	}
	if (cli.nargs < p.verb->min || cli.nargs > p.verb->max)
		usage_error("usage: hcictl %s%s%s%s%s (--help tells more)", p.noun->name, *p.verb->name ? " " : "",
			    p.verb->name, *p.verb->args ? " " : "", p.verb->args);
	cli.store = either(&cli, "store", "HCI_STORE");
	cli.certs = either(&cli, "cert-dir", "HCI_CERT_DIR");
	cli.name = either(&cli, "name", "HCI_NAME");
	cli.json = global_text(&cli, "json");
	cli.debug = global_text(&cli, "debug");
	read_config(&cli, global_text(&cli, "config"));
	rc = p.verb->offline ? EXIT_FINE : open_cluster(&cli);
	if (!rc)
		rc = p.verb->run(&cli);
	hci_cluster_unref(cli.cluster);
	free(cli.args);
	if (fflush(stdout) && !rc)
		rc = complain("output: %s", strerror(errno));
	return rc;
}
