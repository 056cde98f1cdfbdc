#!/bin/bash
# The first process of a node: runs as pid 1 of its new namespaces, gives the node its
# own view of the machine, then becomes tini, which reaps what the node's daemons orphan
# (the machine's own pid 1 may be slow at that, and libvirt waits for it).
# Arguments: BED NODE HIDE_KVM(0|1) LIBVIRT(0|1)
set -euo pipefail

bed=$1 node=$2 hide_kvm=$3 libvirt=$4
dir=$bed/nodes/$node

# /proc is still the host's here, so this is our pid as the host sees it. It is written
# before anything else: whoever sweeps finds us however early our creator dies.
read -r -a stat </proc/self/stat
echo "${stat[0]} ${stat[21]} $(cat /proc/sys/kernel/random/boot_id)" >"$dir/init"

hostname "$node"
mount -t proc proc /proc
# A new sysfs shows this network namespace's interfaces; the cgroup trees stay.
mount --rbind /sys/fs/cgroup "$dir/mnt"
mount -t sysfs sysfs /sys
mount --rbind "$dir/mnt" /sys/fs/cgroup
umount -l "$dir/mnt"
mount --bind "$bed/hosts" /etc/hosts

# A node sees its own disks only. We are a slave: the host's mounts stay.
for other in "$bed"/nodes/*/; do
	other=${other%/}
	[ "$other" = "$dir" ] || ! mountpoint -q "$other/disks" || umount -R -l "$other/disks"
done

if [ "$libvirt" = 1 ]; then
	# A reboot empties /run.
	rm -rf "$dir/libvirt/run"
	mkdir -p "$dir/libvirt/run"
	mkdir -p /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt
	mount --bind "$dir/libvirt/etc" /etc/libvirt
	mount --bind "$dir/libvirt/lib" /var/lib/libvirt
	mount --bind "$dir/libvirt/cache" /var/cache/libvirt
	mount --bind "$dir/libvirt/log" /var/log/libvirt
	mount --bind "$dir/libvirt/run" /run/libvirt
	mkdir -p /etc/pki
	mount --bind "$dir/libvirt/pki" /etc/pki
	# libvirtd looks for the user and group it was built for, though its QEMU runs as root; on Debian
	# libvirt-daemon-system makes them, which the bed does without.
	for f in passwd group; do
		! getent "$f" libvirt-qemu >/dev/null || continue
		cp "/etc/$f" "$dir/libvirt/$f"
		if [ "$f" = passwd ]; then
			echo 'libvirt-qemu:x:64055:64055:QEMU of the test bed:/nonexistent:/usr/sbin/nologin'
		else
			echo 'libvirt-qemu:x:64055:'
		fi >>"$dir/libvirt/$f"
		mount --bind "$dir/libvirt/$f" "/etc/$f"
	done
fi

if [ "$hide_kvm" = 1 ] && [ -e /dev/kvm ]; then
	# libvirt asks whether /dev/kvm exists; only a /dev without it says no.
	mount -t tmpfs -o mode=755,size=1m dev "$dir/mnt"
	for f in /dev/*; do
		case $f in
		/dev/kvm) ;;
		/dev/pts | /dev/shm) mkdir "$dir/mnt/${f##*/}" && mount --rbind "$f" "$dir/mnt/${f##*/}" ;;
		*) cp -a "$f" "$dir/mnt/" ;;
		esac
	done
	mount --rbind "$dir/mnt" /dev
	umount -l "$dir/mnt"
fi

: >"$dir/ready"
exec tini -- sleep infinity
