/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long operations are jobs in the store: any program sees them, follows them, waits for them. Here
 * the copying of what a node missed while it was away.
 */
#include "../common/lab.h"

#include <string.h>
#include <unistd.h>

/* The newest job of a type; NULL: there is none yet. */
static hci_job *find(hci_cluster *c, const char *type)
{
	struct hci_job_info *list;
	struct hci_error err;
	hci_job *job = NULL;
	uint64_t n;

	must(hci_job_list(c, &list, &n, sizeof(*list), &err));
	for (uint64_t i = 0; i < n && !job; i++)
		if (!strcmp(list[i].type, type))
			must(hci_job_open(&job, c, list[i].id, &err));
	hci_list_free(list);
	return job;
}

int main(void)
{
	static char data[8 << 20];
	struct hci_job_info info;
	struct hci_error err;
	hci_volume *vol;
	hci_job *job = NULL;
	struct lab lab;

	lab_up(&lab);
	lab_volume(&lab, "v", 32 << 20);
	must(hci_volume_attach(&vol, lab.client, "v", NULL, &err));
	lab_stop_node(&lab, 2);
	memset(data, 'm', sizeof(data));
	for (uint64_t at = 0; at < hci_volume_size(vol); at += sizeof(data))
		must(hci_volume_pwrite(vol, data, sizeof(data), at, &err));
	lab_start_node(&lab, 2);

	for (int i = 0; i < 200 && !(job = find(lab.client, "resync")); i++)
		usleep(100000);
	if (!job) {
		fprintf(stderr, "no job within 20 s\n");
		return 1;
	}
	/* The job's own error would come back here. With 0 as the time it only looks. */
	must(hci_job_wait(job, 20000, &err));
	must(hci_job_info(job, &info, sizeof(info), &err));
	printf("%s of %s by %s: %llu of %llu %s  %s\n", info.type, info.target, info.node,
	       (unsigned long long)info.done, (unsigned long long)info.total, info.unit,
	       info.message);

	hci_job_unref(job);
	hci_volume_unref(vol);
	lab_down(&lab);
	return 0;
}
