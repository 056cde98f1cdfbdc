#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the disk of the guest that bench_migration moves, or finds the one built before; prints its path. A Debian userland
# (minbase, Python, Perl, SQLite, gcc, nginx), most of which the guest reads into its page cache; a Perl heap of records and an SQLite
# database in memory, both being updated. It boots with the kernel and initrd of tests/testbed/image.sh.
#
# Cache: as image.sh. Needs a Debian mirror once (debootstrap, two minutes).
set -euo pipefail
cache=${HCI_CACHE_DIR:-${XDG_CACHE_HOME:-/var/cache}/hci}
me=$(readlink -f "${BASH_SOURCE[0]}")
dir=$cache/bench-guest-$(sha256sum "$me" | cut -c1-12)
img=$dir/disk.img
if [ ! -e "$img" ]; then
	tmp=$(mktemp -d "$cache/bench-guest.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	debootstrap --variant=minbase --include=python3-minimal,sqlite3,perl,gcc,nginx-light bookworm "$tmp/root" >"$tmp/log" 2>&1 ||
		{ tail -n 3 "$tmp/log" >&2; exit 1; }
	rm -f "$tmp/root/sbin/init"
	cat >"$tmp/root/sbin/init" <<'END'
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
find /usr /lib /etc /var -xdev -type f | xargs cat >/dev/null 2>&1
sqlite3 /tmp/db 'create table t(id integer primary key, a text, b integer);'
perl -e 'my %h; for my $i (1..100000) { $h{$i} = { name => "user$i", mail => "user$i\@example.org", n => $i, t => time }; }
	system("echo BENCH-READY >/dev/ttyS0");
	while (1) { for (1..400) { my $k = 1 + int(rand(100000)); $h{$k}{n}++; $h{$k}{t} = time; } select(undef, undef, undef, 0.01); }' &
i=0
while true; do
	sqlite3 /tmp/db "with recursive c(x) as (select 1 union all select x+1 from c where x<2000)
		insert into t(a,b) select 'row number '||(x+$i), random() from c; update t set b=b+1 where id % 97 = $i % 97;
		delete from t where id < (select max(id) from t) - 60000;"
	i=$((i + 1))
	sleep 0.2
done
END
	chmod +x "$tmp/root/sbin/init"
	mke2fs -q -t ext4 -d "$tmp/root" "$tmp/disk.img" 1200M
	mkdir -p "$dir"
	mv "$tmp/disk.img" "$img"
fi
echo "$img"
