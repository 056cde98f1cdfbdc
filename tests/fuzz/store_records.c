/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoding of store records. The first byte chooses the type, the rest is the value. What decodes
 * must encode again and decode to the same record.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "store/records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct rec_type *t = size ? rec_type_at(data[0] % REC_TYPES) : NULL;
	struct buf b = BUF_INIT;
	struct hci_error err;
	void *rec, *again;
	int rc;

	if (!t)
		return 0;
	rec = mem_zalloc(rec_size(t));
	again = mem_zalloc(rec_size(t));
	if (!rec || !again)
		abort();
	rc = rec_decode(t, data + 1, size - 1, rec, &err);
	if (rc == 0) {
		if (rec_encode(t, rec, &b, NULL) || rec_decode(t, b.data, b.len, again, NULL) ||
		    memcmp(rec, again, rec_size(t)) != 0)
			abort();
	} else if ((rc != HCI_E_CORRUPT && rc != HCI_E_VERSION) || err.code != rc ||
		   !err.message[0]) {
		abort();
	}
	buf_free(&b);
	mem_free(rec);
	mem_free(again);
	return 0;
}
