/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/hci.h
 * Everything of libhci for programs that embed it. Plugins include hci/plugin.h instead.
 */
#ifndef HCI_HCI_H
#define HCI_HCI_H

#include <hci/buffer.h>
#include <hci/cache.h>
#include <hci/cluster.h>
#include <hci/disk.h>
#include <hci/error.h>
#include <hci/event.h>
#include <hci/export.h>
#include <hci/job.h>
#include <hci/log.h>
#include <hci/memstream.h>
#include <hci/metrics.h>
#include <hci/node.h>
#include <hci/pki.h>
#include <hci/policy.h>
#include <hci/pool.h>
#include <hci/queue.h>
#include <hci/store.h>
#include <hci/types.h>
#include <hci/version.h>
#include <hci/vm.h>
#include <hci/volume.h>

#endif
