#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# install-packages.sh LIST...: installs with apt what the lists (lines "package  # why") name and
# this machine lacks, after printing each with its reason. Does nothing, at once, when all is there.
set -euo pipefail

policy=/usr/sbin/policy-rc.d
mark="# written by libhci's tests/install-packages.sh; safe to remove"
missing=()

missing_of() {
	local package why
	while IFS='#' read -r package why; do
		package=${package//[[:space:]]/}
		[ -n "$package" ] || continue
		[[ " ${missing[*]-} " == *" $package "* ]] && continue
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] && continue
		[ ${#missing[@]} -gt 0 ] || echo "Packages to install:"
		printf '  %-28s %s\n' "$package" "${why# }"
		missing+=("$package")
	done <"$1"
}

# A run that was killed may have left this behind.
if [ -e $policy ] && grep -qF "$mark" $policy; then
	rm -f $policy
fi
for list; do
	[ ! -e "$list" ] || missing_of "$list"
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "Installing them needs root: run this again as root, or install them by hand." >&2
	exit 1
fi

# Some of these packages start a daemon when installed. The tests start their own and are to leave
# none behind.
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >$policy
	chmod 755 $policy
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install -y --no-install-recommends "${missing[@]}" >/tmp/libhci-apt.$$ 2>&1 || {
	cat /tmp/libhci-apt.$$ >&2
	rm -f /tmp/libhci-apt.$$
	exit 1
}
rm -f /tmp/libhci-apt.$$
