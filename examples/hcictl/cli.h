/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the nouns of hcictl share: the table of commands, options, connection, printing, progress.
 * A noun is a file; a verb is a function that returns an exit status (EXIT_*).
 */
#ifndef HCICTL_CLI_H
#define HCICTL_CLI_H

#include <hci/hci.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>

enum {
	EXIT_FINE = 0,
	EXIT_FAILED = 1, /* libhci said no; its message is on stderr */
	EXIT_USAGE = 2,
	EXIT_DIFFERS = 3,   /* volume compare found a difference */
	EXIT_STOPPED = 130, /* Ctrl-C */
};

struct opt {
	const char *name; /* without the dashes */
	const char *arg;  /* what its value is called, NULL: it has none */
	const char *help;
};

struct cli;

struct verb {
	const char *name;
	const char *args;    /* positional ones, such as "NAME [FILE]" */
	const char *summary; /* one line */
	const char *more;    /* NULL, or paragraphs and examples for --help */
	int (*run)(struct cli *cli);
	int min, max; /* of positional arguments */
	bool offline; /* needs no open cluster */
	struct opt opts[12];
};

struct noun {
	const char *name, *summary;
	const struct verb *verbs;
};

extern const struct noun noun_cluster, noun_pki, noun_node, noun_disk, noun_scrub, noun_pool, noun_volume,
	noun_vm, noun_job, noun_event, noun_policy, noun_store, noun_metrics, noun_cache;

#define OPTS_MAX 32

struct cli {
	hci_cluster *cluster; /* NULL for offline verbs */
	const char *store, *certs, *name;
	char config[3][1024]; /* what of these came from the configuration file */
	bool json, debug;
	struct hci_error err;
	char **args;
	int nargs;
	struct {
		const char *name, *value;
		bool global; /* for all verbs, main.c's */
	} opts[OPTS_MAX];
	int nopts;
};

/* ---- options (args.c) ---- */

/* Of the verb; NULL when it was not given. */
const char *opt_text(const struct cli *cli, const char *name);
bool opt_flag(const struct cli *cli, const char *name);
/* Exits with a message when the value is no number. Sizes take K, M, G, T (powers of 1024); times
 * ms, s, m, h. */
uint64_t opt_number(const struct cli *cli, const char *name, uint64_t otherwise);
uint64_t opt_size(const struct cli *cli, const char *name, uint64_t otherwise);
uint64_t opt_millis(const struct cli *cli, const char *name, uint64_t otherwise);
/* The same for what the library takes as 32 bits: more is too large, not something else. */
uint32_t opt_number32(const struct cli *cli, const char *name, uint32_t otherwise);
uint32_t opt_millis32(const struct cli *cli, const char *name, uint32_t otherwise);
/* One of the words in @words; its index. Exits otherwise. */
int opt_word(const struct cli *cli, const char *name, const char *const *words, int otherwise);
uint64_t parse_size(const char *what, const char *text);
void usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Prints cli->err. Returns EXIT_FAILED. */
int failed(struct cli *cli);
/* Anything else that went wrong. */
int complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "done" for people, {"ok": true} for programs. Returns EXIT_FINE. */
int done(struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Set by Ctrl-C after catch_interrupt(). */
extern volatile sig_atomic_t interrupted; /* how often: 0, 1, 2 (or more) */
void catch_interrupt(void);

/* ---- printing (out.c) ---- */

struct table;

/* single: one object, printed as lines "key value" or as one JSON object. */
struct table *table_new(const struct cli *cli, bool single);
void table_row(struct table *t);
void cell_text(struct table *t, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void cell_number(struct table *t, const char *key, uint64_t v);
void cell_real(struct table *t, const char *key, double v);
void cell_size(struct table *t, const char *key, uint64_t bytes); /* JSON: <key>_bytes */
void cell_bool(struct table *t, const char *key, bool v);
void cell_time(struct table *t, const char *key, uint64_t ns); /* JSON: seconds since 1970 */
/* Prints and frees; returns EXIT_FINE. */
int table_print(struct table *t);
void json_string(FILE *f, const char *s);
const char *size_text(uint64_t bytes, char buf[24]);

/* ---- progress (progress.c) ---- */

struct progress {
	const struct cli *cli;
	char label[80];
	bool bytes, tty;
	uint64_t start_ns, shown_ns, shown_tenth;
	uint64_t done, total;
};

void progress_start(struct progress *p, const struct cli *cli, const char *label, bool bytes,
		    uint64_t total);
void progress_to(struct progress *p, uint64_t done, uint64_t total, const char *phase);
/* Returns the seconds it took. */
double progress_end(struct progress *p);
uint64_t now_ns(void);

/* ---- jobs (job.c) ---- */

/* Follows a job to its end unless --no-wait; prints its result. Frees the handle. */
int follow_job(struct cli *cli, hci_job *job);
#define OPT_NO_WAIT                                                      \
	{                                                                \
		"no-wait", NULL, "print the job's id and return at once" \
	}

#endif
