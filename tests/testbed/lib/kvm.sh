# shellcheck shell=bash
# Owns: the answer to "can /dev/kvm start a guest here?". The device file proves nothing
# (nested or restricted KVM opens well and then fails at an instruction), so a real kernel is
# started with it. The answer is kept until the next boot or the next QEMU.

kvm_works() {
	local cache key answer
	[ -c /dev/kvm ] || return 1
	cache=${HCI_CACHE_DIR:-${XDG_CACHE_HOME:-/var/cache}/hci}/kvm-probe
	key="$(cat /proc/sys/kernel/random/boot_id) $(uname -r) $(qemu-system-x86_64 --version | head -n 1)"
	if [ -f "$cache" ] && [ "$(sed -n 1p "$cache")" = "$key" ]; then
		answer=$(sed -n 2p "$cache")
	else
		if kvm_probe; then answer=yes; else answer=no; fi
		mkdir -p "$(dirname "$cache")"
		printf '%s\n%s\n' "$key" "$answer" >"$cache.$$" && mv "$cache.$$" "$cache"
	fi
	[ "$answer" = yes ]
}

kvm_probe() {
	local img
	img=$("$TB_HOME/image.sh" --quiet) || die "the KVM probe needs the guest image, and image.sh failed: see above"
	# The shell tells of a child that a signal ended, as QEMU is with a KVM that cannot: here that is an answer, no failure.
	kvm_try "$img" 2>/dev/null
}

kvm_try() {
	local img=$1 log pid rc=1 tick=0
	log=$(mktemp)
	timeout -k 1 20 qemu-system-x86_64 -accel kvm -cpu host -m 256 -nodefaults -no-user-config \
		-display none -no-reboot -serial "file:$log" -kernel "$img/vmlinuz" -initrd "$img/initrd" \
		-append "console=ttyS0 earlyprintk=ttyS0 panic=-1 hci.probe" >"$log.err" 2>&1 9>&- &
	pid=$!
	# A KVM that cannot either stops the guest with a message and stays, or spins without a
	# word. One that can has the kernel talking well within a second: 5 s are enough to tell.
	while kill -0 $pid; do
		if grep -q 'HCI-PROBE ok' "$log"; then rc=0; break; fi
		! grep -qsiE 'internal error|emulation failure|failed' "$log.err" || break
		[ $((++tick)) -lt 50 ] || grep -q 'Linux version' "$log" || break
		sleep 0.1
	done
	! grep -q 'HCI-PROBE ok' "$log" || rc=0
	# QEMU first: it would outlive its parent. The timeout is for our own sudden end.
	pkill -KILL -P $pid || true
	kill -KILL $pid || true
	wait $pid || true
	rm -f "$log" "$log.err"
	return $rc
}
