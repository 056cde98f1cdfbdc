# SPDX-License-Identifier: Apache-2.0
# find_package(libhci): another name of find_package(hci), which defines hci::hci.
include("${CMAKE_CURRENT_LIST_DIR}/../hci/hci-config.cmake")
