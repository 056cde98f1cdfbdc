#!/bin/bash
# Every verb of the test bed, for real. Prints ok / not ok lines and a count; exit status 0
# if all held. Needs root and the packages of packages.txt. Little more than a minute.
# usage: selftest.sh [PATTERN]    only the parts whose name matches
# HCI_TESTBED_SELFTEST_DIR: where the beds' disks lie
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
only=${1:-.}
# In memory where that takes O_DIRECT: it is the verbs that are tested, not the disk, and some
# disks need long to free what was written at random (README.md, "Where the disks lie").
base=${HCI_TESTBED_SELFTEST_DIR:-/var/tmp}
if [ -z "${HCI_TESTBED_SELFTEST_DIR:-}" ] && [ "$(($(stat -f -c '%a * %S' /dev/shm)))" -gt 6000000000 ]; then
	probe=$(mktemp /dev/shm/hci-testbed-probe.XXXXXX)
	! dd if=/dev/zero of="$probe" bs=4k count=1 oflag=direct status=none 2>/dev/null || base=/dev/shm
	rm -f "$probe"
fi
scratch=$(mktemp -d "$base/hci-testbed-selftest.XXXXXX")
export HCI_TESTBED_DIR=$scratch/beds HCI_TESTBED_NAME=selftest
tb=$here/testbed
bed=$HCI_TESTBED_DIR/selftest
passed=0 failed=0
if [ "$base" = /dev/shm ]; then down_limit=3; else down_limit=60; fi

finish() {
	local rc=$?
	"$tb" --quiet down >/dev/null 2>&1
	"$tb" --quiet --name second down >/dev/null 2>&1
	HCI_TESTBED_DIR=$scratch/other "$tb" --quiet down >/dev/null 2>&1
	rm -rf --one-file-system "$scratch"
	exit $rc
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# Processes come and go while it looks, so grep's status says nothing.
nothing_has() { [ -z "$(grep -lszxF "$1" /proc/[0-9]*/environ)" ]; }

# check NAME CMD...: passes if the command succeeds; what it printed is shown if not.
check() {
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then
		echo "ok - $name"
		passed=$((passed + 1))
	else
		echo "not ok - $name: $* (status $?)"
		printf '%s\n' "$out" | tail -n 15 | sed 's/^/    # /'
		failed=$((failed + 1))
	fi
}

fails() { ! "$@"; }
# Errors must name the object: fails_with TEXT CMD...
fails_with() {
	local text=$1 out
	shift
	if out=$("$@" 2>&1); then return 1; fi
	grep -qF -- "$text" <<<"$out" || { echo "said: $out"; return 1; }
}
under() { # under SECONDS CMD...
	local limit=$1 t0=${EPOCHREALTIME/./}
	shift
	"$@" || return
	echo "took $(((${EPOCHREALTIME/./} - t0) / 1000)) ms, limit $limit s"
	(((${EPOCHREALTIME/./} - t0) < limit * 1000000))
}
pings() { "$tb" exec "$1" busybox ping -c 1 -W 1 "$2" >/dev/null; }
field() { [ "$("$tb" status --json | jq -r "$1")" = "$2" ]; }
dir_of() { echo "$bed/nodes/$1/disks/$2"; }
wait_until() {
	local i
	for ((i = 0; i < $1 * 20; i++)); do
		"${@:2}" >/dev/null 2>&1 && return
		sleep 0.05
	done
	return 1
}

# What this machine has of the kinds a bed makes, but for other beds: they may come and go
# meanwhile. The same before and after.
inventory() {
	losetup --list --noheadings --output BACK-FILE | grep -v "/nodes/n[0-9]*/media/"
	cut -d' ' -f2 /proc/self/mounts | grep -v "/nodes/n[0-9]*/disks\|/switch$" | sort
	ip -br link | cut -d' ' -f1 | cut -d@ -f1
	ls /run/netns 2>/dev/null
	grep -lszF "HCI_TESTBED_INSIDE=$scratch" /proc/[0-9]*/environ
	losetup --list --noheadings --output BACK-FILE | grep "$scratch"
	grep "$scratch" /proc/self/mounts
	compgen -G "/run/hci-testbed/s*-*"
	compgen -G "/sys/fs/cgroup/*/hci-testbed/s*-*"
}

part_up() {
	check "up with 3 nodes in 5 s" under 5 "$tb" up --nodes 3 --disks 2 --spares 1 --disk-size 1G --owner $$
	check "up a second time is refused" fails_with "is up already" "$tb" up --nodes 2
	check "bad options are refused by name" fails_with "--disk-size" "$tb" up --nodes 2 --disk-size 5k
	check "an unknown node is named" fails_with "'n9'" "$tb" kill n9
	check "an unknown disk is named" fails_with "'d7'" "$tb" disk n1 d7 fail
	check "a bad rate is named" fails_with "'fast'" "$tb" rate n1 fast
	check "status as JSON" field '[.nodes[].disks[]] | length' 9
	check "own host name" [ "$("$tb" exec n2 hostname)" = n2 ]
	check "own processes" [ "$("$tb" exec n2 ps -e --no-headers | wc -l)" -le 4 ]
	check "own network" [ "$("$tb" exec n2 cat /proc/net/dev | grep -c :)" = 2 ]
	check "own disks only" fails "$tb" exec n2 mountpoint -q "$(dir_of n1 d1)"
	check "own disks, seen inside" "$tb" exec n2 mountpoint -q "$(dir_of n2 d1)"
	check "exec hands on the exit status" [ "$("$tb" exec n1 sh -c 'exit 37'; echo $?)" = 37 ]
	check "two beds at a time" "$tb" --name second up --nodes 2 --disks 1 --disk-size 300M --owner $$
	check "the second bed has its own network" wait_until 10 "$tb" --name second exec n1 busybox ping -c 1 -W 1 n2
	check "the second bed goes" "$tb" --name second down
	check "the first bed stays" wait_until 10 pings n1 n3
}

part_daemon() {
	check "start" "$tb" start n1 napper sh -c 'echo awake; echo fds: $(ls /proc/self/fd); trap "echo bye; exit" TERM; while :; do sleep 0.1; done'
	check "start twice is refused" fails_with "runs already" "$tb" start n1 napper true
	check "start tells at once what cannot run" fails_with "ended at once" "$tb" start n1 dud sh -c 'echo sorry; exit 1'
	check "start names a missing command" fails_with "nonesuch" "$tb" start n1 dud nonesuch
	check "status shows it" field '.nodes[0].daemons[] | select(.name == "napper").running' true
	check "no inherited descriptors" grep -q '^fds: 0 1 2 3$' "$bed/nodes/n1/log/napper.log"
	check "the bed is not locked by it" flock -n /run/hci-testbed/selftest-*.lock true
	check "stop" "$tb" stop n1 napper
	check "it could say goodbye" grep -q bye <("$tb" logs n1 napper)
	check "stop of what does not run is refused" fails_with "not running" "$tb" stop n1 napper
}

part_network() {
	check "cable out" "$tb" link n2 down
	check "nothing reaches it" fails pings n1 n2
	check "cable in" "$tb" link n2 up
	check "it is reached again" wait_until 10 pings n1 n2
	check "partition n1,n2 | n3" "$tb" partition n1,n2 '|' n3
	check "across the cut" fails pings n1 n3
	check "across the cut, from the other side" fails pings n3 n2
	check "within the part" wait_until 10 pings n1 n2
	check "heal" "$tb" heal
	check "whole again" wait_until 10 pings n1 n3
	check "one-way cut" "$tb" partition --one-way n1 n2
	check "status shows the cut" field '.cut | map(join(">")) | join(" ")' "n1>n2"
	check "what n1 sends does not reach n2, what n2 sends reaches n1" one_way
	check "heal again" "$tb" heal
	check "rate 60mbit" "$tb" rate n1 60mbit
	check "30 MB take four seconds" transfer_takes 3.5 15
	check "rate off" "$tb" rate n1 off
	check "30 MB take less than the limit allowed" transfer_takes 0 3.5 # 0.1 on a machine that has time
}

# net.pl send|sink tcp|udp [ADDR]: as much network as the checks need.
cat >"$scratch/net.pl" <<'END'
use strict; use IO::Socket::INET;
my ($what, $proto, $addr) = @ARGV;
my $s = IO::Socket::INET->new(Proto => $proto, ReuseAddr => 1,
	$what eq 'sink' ? (LocalPort => 7000, $proto eq 'tcp' ? (Listen => 1) : ())
			: (PeerAddr => $addr, PeerPort => 7000)) or die "net.pl: $@\n";
if ($what eq 'send' && $proto eq 'udp') { for (1 .. 5) { $s->send("x"); select(undef, undef, undef, 0.02) } }
elsif ($what eq 'send') { print $s "x" x 1000000 for 1 .. 30; $s->shutdown(1); my $n = <$s>; die unless $n == 30000000 }
elsif ($proto eq 'udp') { $| = 1; my $b; print "got $b\n" while defined $s->recv($b, 100) }
else { my $c = $s->accept; my ($n, $b) = (0); $n += length $b while sysread $c, $b, 1 << 20; print $c "$n\n" }
END
# sink NODE tcp|udp: returns when it listens.
sink() {
	"$tb" start "$1" "$2" perl "$scratch/net.pl" sink "$2" || return 1
	for _ in {1..100}; do
		[ -z "$("$tb" exec "$1" ss -Hln "--$2" 'sport = :7000')" ] || return 0
		sleep 0.05
	done
	return 1
}
one_way() {
	local n
	for n in n1 n2; do sink $n udp; done
	"$tb" exec n1 perl "$scratch/net.pl" send udp n2
	"$tb" exec n2 perl "$scratch/net.pl" send udp n1
	sleep 0.1
	for n in n1 n2; do "$tb" stop $n udp; done
	[ ! -s "$bed/nodes/n2/log/udp.log" ] && grep -q got "$bed/nodes/n1/log/udp.log"
}
transfer_takes() {
	local t0 t
	sink n2 tcp || return 1
	t0=${EPOCHREALTIME/./}
	"$tb" exec n1 perl "$scratch/net.pl" send tcp n2 || return 1
	t=$((${EPOCHREALTIME/./} - t0))
	echo "took $t us"
	awk -v t=$t -v a="$1" -v b="$2" 'BEGIN { exit !(t >= a * 1e6 && t <= b * 1e6) }'
}

fio_on() {
	"$tb" exec "$1" fio --name=x --filename="$(dir_of "$1" "$2")/fio" --size=64m --rw=randwrite --bs=4k \
		--ioengine=libaio --iodepth=8 --direct=1 --fdatasync=16 --time_based --runtime="$3"
}

part_disk() {
	local d rc
	d=$(dir_of n1 d1)
	fio_on n1 d1 20 >"$scratch/fio.log" 2>&1 &
	local fio=$!
	"$tb" start n1 syncer perl -e '
		use IO::Handle; $| = 1;
		open(my $f, ">", shift) or die; print "open\n";
		while (1) { syswrite($f, "x" x 4096) or last; $f->sync or last; select(undef, undef, undef, 0.01) }
		print "errno ", $! + 0, "\n"; sleep 100' "$d/plain"
	wait_until 5 test -s "$d/fio"
	sleep 1
	echo kept >"$d/kept"; sync "$d/kept"
	check "fail, under load" under 2 "$tb" disk n1 d1 fail
	check "status shows it" field '.nodes[0].disks[0].state' failed
	wait $fio; rc=$?
	check "O_DIRECT libaio got EIO" [ $rc != 0 ]
	check "it says so" grep -q 'Input/output error' "$scratch/fio.log"
	check "write + fsync got EIO" wait_until 3 grep -qx 'errno 5' "$bed/nodes/n1/log/syncer.log"
	check "the other disks go on" fio_on n1 d2 1
	check "return, while dead files are open" "$tb" disk n1 d1 return
	check "contents are back, inside the node" "$tb" exec n1 grep -qx kept "$d/kept"
	check "and it takes load" fio_on n1 d1 1
	"$tb" stop n1 syncer KILL
	check "return of a disk in order is refused" fails_with "neither failed" "$tb" disk n1 d1 return
	check "remove" "$tb" disk n1 d1 remove
	check "nothing can be written in its place" fails "$tb" exec n1 touch "$d/x"
	check "return after remove" "$tb" disk n1 d1 return
	check "contents are back" "$tb" exec n1 grep -qx kept "$d/kept"
	check "slow to 300 operations a second" "$tb" disk n1 d1 slow 0/300
	check "measured" iops_between 200 400
	check "slow off" "$tb" disk n1 d1 slow off
	check "measured, off" iops_between 1500 1000000
	check "fill" "$tb" disk n1 d2 fill
	check "ENOSPC" fails_with "No space left" "$tb" exec n1 dd if=/dev/zero of="$(dir_of n1 d2)/x" bs=1M count=1
	check "unfill" "$tb" disk n1 d2 unfill
	check "space again" "$tb" exec n1 dd if=/dev/zero of="$(dir_of n1 d2)/x" bs=1M count=1
}
iops_between() {
	local n
	n=$(fio_on n1 d1 2 | sed -n 's/.*write: IOPS=\([0-9.k]*\),.*/\1/p')
	n=$(numfmt --from=si "${n^^}")
	echo "$n IOPS"
	[ "$n" -ge "$1" ] && [ "$n" -le "$2" ]
}

part_kill() {
	local d
	d=$(dir_of n2 d1)
	"$tb" exec n2 sh -c "echo synced >$d/synced; sync $d/synced; echo lazy >$d/lazy"
	"$tb" start n2 worker sleep 1000
	check "the node's processes are known" fails nothing_has "HCI_NODE_DIR=$bed/nodes/n2"
	check "kill" under 2 "$tb" kill n2
	check "status shows it" field '.nodes[1].alive' false
	check "nothing of it runs" nothing_has "HCI_NODE_DIR=$bed/nodes/n2"
	check "it is not reached" fails pings n1 n2
	check "exec names the cure" fails_with "restart n2" "$tb" exec n2 true
	check "restart" under 3 "$tb" restart n2
	check "it is reached again" wait_until 10 pings n1 n2
	check "its disks hold what they held" "$tb" exec n2 grep -qx lazy "$d/lazy"
	"$tb" exec n2 sh -c "echo lazier >$d/lazier"
	"$tb" disk n2 d2 fail
	check "power cycle" under 3 "$tb" power-cycle n2
	check "what was synced is there" "$tb" exec n2 grep -qx synced "$d/synced"
	check "what was not synced is gone" fails "$tb" exec n2 grep -qx lazier "$d/lazier"
	check "a failed disk stays failed" fails "$tb" exec n2 touch "$(dir_of n2 d2)/x"
	check "until it returns" "$tb" disk n2 d2 return
	check "all nodes lose power at once" "$tb" kill --power n1 n2 n3
	check "all come back" under 5 "$tb" restart n1 n2 n3
	check "and see each other" wait_until 10 pings n3 n1
}

part_down() {
	check "down" under "$down_limit" "$tb" down
	check "nothing is left of it" "$tb" leftovers
	check "down again is fine" "$tb" down
}

domain() {
	cat <<-END
		<domain type='$1'><name>guest</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='pc'>hvm</type><kernel>$image/vmlinuz</kernel>
		<initrd>$image/initrd</initrd><cmdline>console=ttyS0 quiet panic=-1 hci.rate=200</cmdline></os>
		<features><acpi/></features><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
		<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' io='native'/>
		<source file='$bed/shared/guest.img'/><target dev='vda' bus='virtio'/></disk>
		<serial type='file'><source path='$bed/shared/console.log' append='on'/></serial>
		<memballoon model='none'/></devices></domain>
	END
}
acks() { grep -c HCI-ACK "$bed/shared/console.log"; }
acks_over() { [ "$(acks)" -gt "$1" ]; }
virsh_on() { "$tb" exec "$1" virsh -q "${@:2}"; }
shut_off() { [ -z "$(virsh_on "$1" list --name)" ]; }

part_etcd() {
	local url
	check "up with three members of etcd" under 60 "$tb" up --nodes 4 --disks 0 --etcd --owner $$
	url=$("$tb" etcd url)
	check "its URL has three" [ "$url" = etcd://10.77.0.1:2379,10.77.0.2:2379,10.77.0.3:2379/hci ]
	check "a member answers a node that has none" "$tb" exec n4 env ETCDCTL_API=3 etcdctl --endpoints http://n2:2379 put a b
	check "kill of its node" "$tb" kill n1
	check "two are enough" wait_until 10 "$tb" exec n4 env ETCDCTL_API=3 etcdctl --endpoints http://n2:2379,http://n3:2379 put a c
	check "the third returns with its node" "$tb" restart n1
	check "and catches up" "$tb" etcd wait
	check "down with etcd" "$tb" down
}

part_libvirt() {
	local n type=qemu
	image=$("$here/image.sh" --quiet) || { check "guest image" false; return; }
	check "up with 2 libvirtds in 15 s" under 15 "$tb" up --nodes 2 --disks 1 --libvirt --owner $$
	check "distinct hosts" [ "$(virsh_on n1 capabilities | grep -m1 uuid)" != "$(virsh_on n2 capabilities | grep -m1 uuid)" ]
	check "they reach each other" virsh_on n1 -c qemu+tcp://n2/system list
	! field .kvm true || type=kvm
	check "/dev/kvm is there only if it works ($type)" [ "$("$tb" exec n1 test -e /dev/kvm && echo kvm || echo qemu)" = $type ]
	cp --sparse=always "$image/disk.img" "$bed/shared/guest.img"
	domain $type >"$scratch/guest.xml"
	check "a guest boots on n1" virsh_on n1 create "$scratch/guest.xml"
	check "and records" wait_until 20 acks_over 50
	# libvirt cannot know that both nodes see one file.
	check "live, peer to peer, to n2" virsh_on n1 migrate --live --p2p --unsafe guest qemu+tcp://n2/system --migrateuri tcp://n2
	n=$(acks)
	check "it goes on recording there" wait_until 5 acks_over $((n + 100))
	check "n1 has it no more" shut_off n1
	check "libvirtd restarts under its guest" "$tb" libvirt n2 restart
	check "which runs on" [ "$(virsh_on n2 list --name | head -n 1)" = guest ]
	check "libvirt with TLS needs certificates" fails_with "no directory" "$tb" libvirt n1 tls /nonesuch
	check "kill of its node ends it" "$tb" kill n2
	check "every record it reported is there" "$image/verify" "$bed/shared/guest.img" "$bed/shared/console.log"
	check "libvirtd comes back with its node" "$tb" restart n2
	n=$(acks)
	check "the guest boots there" virsh_on n2 create "$scratch/guest.xml"
	check "and records again" wait_until 20 acks_over $((n + 50))
	check "and obeys the power button" virsh_on n2 shutdown guest
	check "until it is off" wait_until 10 shut_off n2
	check "every record of both runs is there" "$image/verify" --strict "$bed/shared/guest.img" "$bed/shared/console.log"
	check "down with libvirtds" under "$down_limit" "$tb" down
	check "nothing is left" "$tb" leftovers
}

part_pki() {
	local p=$scratch/pki n
	image=$("$here/image.sh" --quiet) || { check "guest image" false; return; }
	mkdir -p "$p"
	(
		cd "$p" || exit 1
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out cacert.pem -days 2 -subj /CN=bed-ca
		for n in n1 n2; do
			mkdir $n && cp cacert.pem $n/
			openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $n/serverkey.pem -out $n.csr -subj /CN=$n
			openssl x509 -req -in $n.csr -CA cacert.pem -CAkey ca.key -CAcreateserial -days 2 -out $n/servercert.pem \
				-extfile <(echo "subjectAltName=DNS:$n,IP:10.77.0.${n#n}")
			cp $n/servercert.pem $n/clientcert.pem
			cp $n/serverkey.pem $n/clientkey.pem
		done
	) >"$scratch/pki.log" 2>&1
	check "up with certificates" "$tb" up --nodes 2 --disks 0 --libvirt --pki "$p" --owner $$
	check "libvirt peers over TLS" virsh_on n1 -c qemu+tls://n2/system list
	cp --sparse=always "$image/disk.img" "$bed/shared/guest.img"
	domain "$(field .kvm true && echo kvm || echo qemu)" >"$scratch/guest.xml"
	virsh_on n1 create "$scratch/guest.xml" >/dev/null
	check "a guest boots" wait_until 20 acks_over 50
	check "it migrates with TLS all the way" virsh_on n1 migrate --live --p2p --tls --unsafe guest qemu+tls://n2/system --migrateuri tcp://n2
	check "and is there" [ "$(virsh_on n2 list --name | head -n 1)" = guest ]
	check "down" "$tb" down
}

# The bed of a script that dies at any moment must not outlive the next sweep.
part_leftovers() {
	local pid i
	check "Ctrl-C during up leaves nothing" interrupted INT
	check "SIGTERM during up leaves nothing" interrupted TERM
	for i in 0.05 0.15 0.25 0.4; do
		check "kill -9 of up after $i s, then sweep" killed_up $i
	done
	"$tb" up --nodes 2 --disks 1 --owner $$ >/dev/null
	check "sweep leaves a bed whose owner lives" "$tb" sweep
	check "it is still there" wait_until 10 pings n1 n2
	"$tb" down
	bash -c "'$tb' up --nodes 2 --disks 1 && '$tb' start n1 busy sleep 1000 && echo \$\$ >'$scratch/pid' && sleep 1000" >/dev/null 2>&1 &
	pid=$!
	wait_until 10 test -s "$scratch/pid"
	kill -KILL $pid; wait $pid 2>/dev/null
	pkill -KILL -P $pid 2>/dev/null
	check "the owner dies by kill -9: up of another bed sweeps" "$tb" --name second up --nodes 1 --disks 1 --disk-size 300M --owner $$
	check "nothing is left of the dead one" "$tb" leftovers
	"$tb" --name second down
	"$tb" up --nodes 1 --disks 1 --keep >/dev/null
	check "a kept bed is not swept" "$tb" sweep
	HCI_TESTBED_DIR=$scratch/other "$tb" up --nodes 1 --disks 1 --disk-size 300M --owner $$ >/dev/null
	check "but by sweep --all" "$tb" --quiet sweep --all
	check "which leaves beds of another folder" env HCI_TESTBED_DIR="$scratch/other" "$tb" exec n1 true
	check "and these go" env HCI_TESTBED_DIR="$scratch/other" "$tb" down
	check "nothing is left of any" "$tb" leftovers --all
}
interrupted() {
	local pid
	# Job control gives it a process group to signal, as a terminal would.
	set -m
	"$tb" up --nodes 3 --disks 2 --owner $$ >/dev/null 2>&1 &
	pid=$!
	set +m
	sleep 0.25
	kill -"$1" -- -$pid
	wait $pid && return 1
	"$tb" leftovers
}
killed_up() {
	local pid
	"$tb" up --nodes 3 --disks 2 --owner $$ >/dev/null 2>&1 &
	pid=$!
	sleep "$1"
	kill -KILL $pid 2>/dev/null
	wait $pid 2>/dev/null
	"$tb" --quiet sweep || return 1
	"$tb" leftovers >/dev/null && return
	# On a quick machine it was up before the kill: then the bed is whole and ours, and not to be swept.
	"$tb" exec n3 true && "$tb" --quiet down
	"$tb" leftovers
}

before=$(inventory)
for part in up daemon network disk kill down libvirt pki etcd leftovers; do
	[[ $part =~ $only ]] || continue
	case $part in
	daemon | network | disk | kill) # a part alone needs its bed
		[ -d "$bed" ] || "$tb" --quiet up --nodes 3 --disks 2 --spares 1 --disk-size 1G --owner $$
		;;
	esac
	echo "# $part"
	part_$part
done
"$tb" --quiet down >/dev/null 2>&1
check "the machine is as it was" diff <(echo "$before") <(inventory)
echo "$passed passed, $failed failed"
[ $failed = 0 ]
