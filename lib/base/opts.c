/* SPDX-License-Identifier: Apache-2.0 */
/* The one way by which options structs of callers, older or newer than we are, come in. */
#include "base/opts.h"

#include "base/err.h"

/* No options struct will ever be this large: a size above is an uninitialised one. */
#define SIZE_LIMIT 65536u

int opts_take(void *out, const void *defaults, size_t ours, const void *user, size_t min,
	      const char *what, struct hci_error *err)
{
	const uint8_t *bytes = user;
	uint32_t size, own = (uint32_t)ours;

	memcpy(out, defaults, ours);
	memcpy(out, &own, sizeof(own));
	if (!user)
		return 0;
	memcpy(&size, user, sizeof(size));
	if (size < min || size > SIZE_LIMIT || size % sizeof(uint32_t))
		return err_set(err, HCI_E_INVAL,
			       "%s: size is %u, known are %zu to %zu: set it up with its "
			       "initializer macro",
			       what, size, min, ours);
	for (size_t i = ours; i < size; i++)
		if (bytes[i])
			return err_set(
				err, HCI_E_UNSUPPORTED,
				"%s: byte %zu is set, this libhci knows %zu bytes: leave newer "
				"options at 0 or load a newer libhci",
				what, i, ours);
	memcpy(out, user, MIN((size_t)size, ours));
	/* Whoever reads out sees a whole struct of ours. */
	memcpy(out, &own, sizeof(own));
	return 0;
}

int opts_take_nth(void *out, const void *defaults, size_t ours, const void *array, uint32_t i, size_t min, const char *what,
		  struct hci_error *err)
{
	const uint8_t *at = array;
	uint32_t first, size;

	memcpy(&first, at, sizeof(first));
	at += (size_t)i * first;
	memcpy(&size, at, sizeof(size));
	if (size != first)
		return err_set(err, HCI_E_INVAL, "%s: size of element %u is %u, of the first %u: set up all alike", what, i, size, first);
	return opts_take(out, defaults, ours, at, min, what, err);
}

int opts_reserved(int64_t value, const char *what, struct hci_error *err)
{
	return value ? err_set(err, HCI_E_INVAL, "%s: reserved is %lld, not 0: set it up with its initializer macro", what,
			       (long long)value)
		     : 0;
}
