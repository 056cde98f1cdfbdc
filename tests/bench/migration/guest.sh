#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the disk of the guest that bench_migration moves, or finds the one built before; prints its path. A Debian userland
# (minbase, Python, Perl, SQLite, gcc, nginx; no package files), and what init and churn.c say. It boots with the kernel and
# initrd of tests/testbed/image.sh, its root is the disk.
#
# Cache: as image.sh. Needs a Debian mirror once (debootstrap, two minutes).
set -euo pipefail
cache=${HCI_CACHE_DIR:-${XDG_CACHE_HOME:-/var/cache}/hci}
here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
root=$cache/bench-root-$(sed -n '/^debootstrap_root/,/^}/p' "$here/guest.sh" | sha256sum | cut -c1-12).tar
img=$cache/bench-guest-$(cat "$here"/{guest.sh,init,churn.c} | sha256sum | cut -c1-12).img

# The slow part, of which the other is independent.
debootstrap_root() {
	debootstrap --variant=minbase --include=python3-minimal,sqlite3,perl,gcc,nginx-light bookworm "$1" >"$tmp/log" 2>&1 ||
		{ tail -n 3 "$tmp/log" >&2; exit 1; }
	rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/log/* "$1"/usr/share/{doc,man,locale}/*
	mkdir -p "$1/var/log/nginx"
	rm -f "$1/sbin/init"
}

mkdir -p "$cache"
exec 8>"$cache/bench-guest.lock"
flock 8
if [ ! -e "$img" ]; then
	tmp=$(mktemp -d "$cache/bench-guest.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	mkdir "$tmp/root"
	if [ ! -e "$root" ]; then
		debootstrap_root "$tmp/root"
		tar -C "$tmp/root" -cf "$tmp/root.tar" .
		mv "$tmp/root.tar" "$root"
	else
		tar -C "$tmp/root" -xf "$root"
	fi
	gcc -O2 -static -o "$tmp/root/usr/local/bin/churn" "$here/churn.c"
	install -m 0755 "$here/init" "$tmp/root/sbin/init"
	mke2fs -q -t ext4 -d "$tmp/root" "$tmp/disk.img" 1200M >/dev/null
	mv "$tmp/disk.img" "$img"
fi
echo "$img"
