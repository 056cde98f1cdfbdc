/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file hci/hci.h
 * Everything of libhci for programs that embed it. Plugins include hci/plugin.h instead.
 */
#ifndef HCI_HCI_H
#define HCI_HCI_H

#include <hci/buffer.h>
#include <hci/error.h>
#include <hci/log.h>
#include <hci/metrics.h>
#include <hci/types.h>
#include <hci/version.h>

#endif
