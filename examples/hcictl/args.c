/* SPDX-License-Identifier: Apache-2.0 */
/* Values of options, and the messages when they are wrong. */
#include "cli.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
	(void)sig;
	if (interrupted < 2)
		interrupted++;
}

void catch_interrupt(void)
{
	struct sigaction a = { .sa_handler = on_interrupt };

	sigaction(SIGINT, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
}

void usage_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("hcictl: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(EXIT_USAGE);
}

int complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("hcictl: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	return EXIT_FAILED;
}

int failed(struct cli *cli)
{
	fprintf(stderr, "hcictl: %s (%s)\n", cli->err.message, hci_strerror(cli->err.code));
	return EXIT_FAILED;
}

int done(struct cli *cli, const char *fmt, ...)
{
	va_list ap;

	if (cli->json) {
		puts("{\"ok\": true}");
		return EXIT_FINE;
	}
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	return EXIT_FINE;
}

const char *opt_text(const struct cli *cli, const char *name)
{
	for (int i = cli->nopts; i-- > 0;)
		if (!cli->opts[i].global && !strcmp(cli->opts[i].name, name))
			return cli->opts[i].value;
	return NULL;
}

bool opt_flag(const struct cli *cli, const char *name)
{
	return opt_text(cli, name) != NULL;
}

/* A whole number, and what follows it. */
static uint64_t leading(const char *what, const char *text, const char **rest)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(text, &end, 0);
	if (errno || end == text || *text == '-' || *text == '+' || *text == ' ')
		usage_error("%s '%s' is no number", what, text);
	*rest = end;
	return v;
}

static uint64_t times(const char *what, const char *text, uint64_t v, uint64_t factor)
{
	uint64_t out;

	if (__builtin_mul_overflow(v, factor, &out))
		usage_error("%s '%s' is too large", what, text);
	return out;
}

uint64_t parse_size(const char *what, const char *text)
{
	static const char units[] = "KMGTP";
	const char *rest, *unit;
	uint64_t v = leading(what, text, &rest);

	if (!*rest || !strcmp(rest, "B"))
		return v;
	unit = strchr(units, *rest >= 'a' ? *rest - 32 : *rest);
	if (!unit || (rest[1] && strcmp(rest + 1, "iB") && strcmp(rest + 1, "B")))
		usage_error("%s '%s': give bytes, or a number with K, M, G or T (powers of 1024)",
			    what, text);
	return times(what, text, v, 1ull << (10 * (unit - units + 1)));
}

uint64_t opt_number(const struct cli *cli, const char *name, uint64_t otherwise)
{
	const char *text = opt_text(cli, name), *rest;
	uint64_t v;

	if (!text)
		return otherwise;
	v = leading(name, text, &rest);
	if (*rest)
		usage_error("--%s '%s' is no number", name, text);
	return v;
}

uint64_t opt_size(const struct cli *cli, const char *name, uint64_t otherwise)
{
	const char *text = opt_text(cli, name);

	return text ? parse_size(name, text) : otherwise;
}

uint64_t opt_millis(const struct cli *cli, const char *name, uint64_t otherwise)
{
	static const struct {
		const char *unit;
		uint64_t ms;
	} units[] = {
		{ "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 }
	};
	const char *text = opt_text(cli, name), *rest;
	uint64_t v;

	if (!text)
		return otherwise;
	v = leading(name, text, &rest);
	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (!strcmp(rest, units[i].unit))
			return times(name, text, v, units[i].ms);
	usage_error("--%s '%s': give a time with its unit, such as 500ms, 30s, 10m, 1h", name,
		    text);
}

static uint32_t narrow(const struct cli *cli, const char *name, uint64_t v)
{
	if (v > UINT32_MAX)
		usage_error("--%s '%s' is too large", name, opt_text(cli, name));
	return (uint32_t)v;
}

uint32_t opt_number32(const struct cli *cli, const char *name, uint32_t otherwise)
{
	return narrow(cli, name, opt_number(cli, name, otherwise));
}

uint32_t opt_millis32(const struct cli *cli, const char *name, uint32_t otherwise)
{
	return narrow(cli, name, opt_millis(cli, name, otherwise));
}

int opt_word(const struct cli *cli, const char *name, const char *const *words, int otherwise)
{
	const char *text = opt_text(cli, name);

	if (!text)
		return otherwise;
	for (int i = 0; words[i]; i++)
		if (!strcmp(words[i], text))
			return i;
	fprintf(stderr, "hcictl: --%s '%s': give one of:", name, text);
	for (int i = 0; words[i]; i++)
		fprintf(stderr, " %s", words[i]);
	fputc('\n', stderr);
	exit(EXIT_USAGE);
}
