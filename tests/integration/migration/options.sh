#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a migration's options promise, with guests that have no disks:
#   turns      a destination takes so many at a time, the others wait and then come, too
#   passing    one that waits for its destination does not keep another from a free one
#   passes     post-copy after so many vain passes over the memory, and only then
#   converge   a guest that is too fast is slowed down, unless that was forbidden
#   inflight   on a slow link so much is under way as was set
#
# usage: options.sh VMCTL HCI-NODE PLUGIN-DIR HCICTL ["PART ..."]
# shellcheck source=../vm/lib.sh
. "$(dirname "$0")/../vm/lib.sh"

hcictl=$4
dir=$(cd "$(dirname "$0")" && pwd)
result=$bed/shared/result

hci() { tb exec n1 timeout 150 env HCI_PLUGIN_DIR="$plugins" "$hcictl" --store "$store" "$@"; }
make_initrd() {
	local work=$bed/shared/initrd.d
	mkdir -p "$work"
	install -m 0755 "$dir/options_init" "$work/init"
	{
		cat "$image/initrd"
		(cd "$work" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1)
	} >"$bed/shared/initrd"
}
guest() { # NAME [MORE OF THE COMMAND LINE]
	hci vm define "$1" --node n1 --memory 96M --kernel "$image/vmlinuz" --initrd "$bed/shared/initrd" \
		--cmdline "console=ttyS0 quiet panic=-1 no_timer_check ${2:-}" >/dev/null && hci vm start "$1" >/dev/null 2>&1
}
ticks() { cat "$(run_dir n1)/$1.console" "$(run_dir n2)/$1.console" 2>/dev/null | grep -ac '^HCI-TICK'; }
ticked() { [ "$(ticks "$1")" -gt "$2" ]; }
lives() { wait_for 60 ticked "$1" "$(($(ticks "$1") + 1))"; }
is_on() { ctl vms | grep -q "^$1 node=$2 wanted=1 state=1"; }
asks() { tb exec n1 timeout 10 virsh -q qemu-monitor-command "$1" "{\"execute\":\"$2\"}" 2>/dev/null; }
says() { grep -qE "$1" "$result"; }
arriving() { compgen -G "$(inside_run_dir n2)/mig-*" | wc -l; }

# ---- the parts ----

turns() {
	local vms="t1 t2 t3 t4 t5" vm jobs=() rc=0 most=0 now waited=0 grew=0 before
	echo "# five VMs leave n1 at once, n2 takes two at a time"
	hci node limit n1 --migrations 5 --migrate-bandwidth 3M >/dev/null
	hci node limit n2 --migrations 2 >/dev/null
	for vm in $vms; do guest $vm & jobs+=($!); done
	for job in "${jobs[@]}"; do wait "$job" || rc=1; done
	check "all start" [ $rc = 0 ]
	for vm in $vms; do check "$vm lives" lives $vm; done
	before=$(ticks t5)
	jobs=()
	for vm in $vms; do
		ctl migrate $vm n2 0 0 >"$result.$vm" 2>&1 &
		jobs+=($!)
	done
	while [ -n "$(jobs -pr)" ] && [ "$SECONDS" -lt 500 ]; do
		now=$(arriving)
		[ "$now" -le "$most" ] || most=$now
		[ $waited = 1 ] || ctl jobs | grep -q 'phase=waiting for its turn at the destination' && waited=1
		[ "$(ticks t5)" -gt "$((before + 1))" ] && [ ! -e "$(run_dir n2)/t5.console" ] && grew=1
		sleep 0.3
	done
	for job in "${jobs[@]}"; do wait "$job" || rc=1; done
	check "all end well" [ $rc = 0 ] || cat "$result".t?
	check "two at a time, not more" [ "$most" = 2 ]
	check "others said that they wait" [ $waited = 1 ]
	check "the last one ran meanwhile" [ $grew = 1 ]
	for vm in $vms; do check "$vm is on n2" is_on $vm n2; done
	for vm in $vms; do check "$vm lives" lives $vm; done
	check "nothing of the path is left" no_path
	for vm in $vms; do ctl stop $vm destroy >/dev/null; done
	hci node limit n1 --migrations 0 --migrate-bandwidth 0 >/dev/null
	hci node limit n2 --migrations 0 >/dev/null
}

passing() {
	echo "# n2 takes one at a time, and one is slow; one goes to n3"
	node_start n3
	wait_for 60 service_up n3 || exit 1
	hci node limit n1 --migrations 2 >/dev/null
	hci node limit n2 --migrations 1 >/dev/null
	for vm in q1 q2 q3; do check "$vm lives" eval "guest $vm && lives $vm"; done
	ctl migrate q1 n2 20000 60000 >/dev/null 2>&1 &
	slow_one=$!
	wait_for 20 eval '[ "$(arriving)" = 1 ]'
	ctl migrate q2 n2 0 0 >"$result" 2>&1 &
	waits=$!
	told_wait() { ctl jobs | grep ' vm-migrate q2 ' | grep -q 'phase=waiting for its turn at the destination'; }
	check "the second says that it waits for n2" wait_for 20 told_wait
	check "the third moves to n3" eval "ctl migrate q3 n3 0 0 >/dev/null"
	check "while the first is under way" kill -0 $slow_one
	check "and the second waits" told_wait
	check "is on n3" is_on q3 n3
	wait $slow_one
	check "the first is cancelled" [ $? = 3 ]
	wait $waits
	check "the second moves then" [ $? = 0 ] || cat "$result"
	check "is on n2" is_on q2 n2
	for vm in q1 q2; do check "$vm lives" lives $vm; done
	for vm in q1 q2 q3; do ctl stop $vm destroy >/dev/null; done
	hci node limit n1 --migrations 0 >/dev/null
	hci node limit n2 --migrations 0 >/dev/null
}

# A guest that changes 2 MiB again and again, over a link that takes three seconds for them, and may be stopped for next to nothing:
# hotter than that even where many share the machine.
hot_guest() { guest "$1" "hot=2048" && lives "$1"; }
slow="--bandwidth 700000 --max-downtime 50ms"

passes() {
	echo "# post-copy after two vain passes"
	check "a hot guest lives" hot_guest p1
	check "a quiet guest lives" eval 'guest p2 && lives p2'
	check "the quiet one moves" eval "hci vm migrate p2 n2 --postcopy-passes 2 --no-slow-down >/dev/null 2>&1"
	check "without post-copy" eval "ctl jobs | grep ' vm-migrate p2 ' | grep -v '\"postcopy\"' | grep -q total_ms"
	hci vm migrate p1 n2 --postcopy-passes 2 --no-slow-down $slow --timeout 100s >"$result" 2>&1 &
	local job=$! pass=0 now message
	while kill -0 $job 2>/dev/null; do
		message=$(ctl jobs | grep ' vm-migrate p1 ')
		[[ $message == *'"postcopy":1'* ]] || { now=$(sed -n 's/.*"pass":\([0-9]*\).*/\1/p' <<<"$message"); pass=${now:-$pass}; }
		sleep 0.1
	done
	wait $job
	check "the hot one moves" [ $? = 0 ] || cut -c1-300 "$result"
	message=$(ctl jobs | grep ' vm-migrate p1 ')
	check "with post-copy" eval '[[ $message == *"\"postcopy\":1"* ]]' || echo "$message"
	# What the first pass leaves is the measure for the third, which begins with as much, and that for the fourth.
	check "in the fourth pass (the last seen before: $pass)" [ "$pass" -ge 3 ]
	check "is on n2" is_on p1 n2
	check "lives" lives p1
	check "and nothing of the path is left" wait_for 30 no_path
	for vm in p1 p2; do ctl stop $vm destroy >/dev/null; done
}

# How much QEMU slows the guest down at most while it migrates, in percent; whether it may at all.
throttled() { # VM OPTIONS...
	local now
	most=0 may=
	hci vm migrate "$1" n2 $slow --timeout 30s "${@:2}" >"$result" 2>&1 &
	job=$!
	while kill -0 $job 2>/dev/null; do
		now=$(asks "$1" query-migrate | sed -n 's/.*"cpu-throttle-percentage":\([0-9]*\).*/\1/p')
		[ "${now:-0}" -le "$most" ] || most=$now
		[ -n "$may" ] || may=$(asks "$1" query-migrate-capabilities | grep -o '"state":[a-z]*,"capability":"auto-converge"')
		[ "$most" = 0 ] || return 0
		sleep 0.3
	done
}
converge() {
	echo "# auto-convergence"
	check "a hot guest lives" hot_guest c1
	throttled c1 --no-slow-down
	wait $job
	check "never: ends by its time limit" [ $? = 1 ]
	check "never: and says so" says 'within'
	check "never: was not slowed down ($most %)" [ "$most" = 0 ]
	check "never: QEMU may not: $may" eval '[[ $may == *false* ]]'
	check "never: lives" lives c1
	throttled c1
	check "as needed: was slowed down ($most %)" [ "$most" -gt 0 ]
	wait $job
	rc=$?
	check "as needed: it may have arrived, or not" eval 'is_on c1 n2 && [ $rc = 0 ] || { is_on c1 n1 && [ $rc = 1 ]; }'
	check "as needed: lives" lives c1
	ctl stop c1 destroy >/dev/null
}

# What stands in n1's socket to n2 and was not acknowledged, in ms of the link: the middle one of the looks.
under_way() { # OPTIONS...
	local looks=()
	hci vm migrate i1 n2 --no-slow-down --timeout 12s "$@" >"$result" 2>&1 &
	job=$!
	sleep 4 # the first pass's zero pages cost nothing
	while kill -0 $job 2>/dev/null && [ ${#looks[@]} -lt 60 ]; do
		looks+=("$(tb exec n1 ss -tnH state established | awk '$2 > n { n = $2 } END { print n + 0 }')")
		sleep 0.1
	done
	wait $job
	check "ends by its time limit" says 'within'
	middle=$(printf '%s\n' "${looks[@]}" | sort -n | sed -n "$((${#looks[@]} / 2 + 1))p")
	middle=$((middle / 2000))
	echo "# $*: $middle ms"
}
inflight() {
	echo "# bytes under way, link of 16 Mbit/s"
	check "a hot guest lives" hot_guest i1
	tb rate n1 16mbit
	under_way
	check "by default something ($middle)" [ "$middle" -gt 0 ]
	check "and at most 300 ms" [ "$middle" -le 300 ]
	short=$middle
	under_way --in-flight 1500ms
	check "1500 ms: much of it is in the socket, the rest before it ($middle)" [ "$middle" -ge 300 ]
	check "and not more" [ "$middle" -le 2000 ]
	check "more than twice the default" [ "$middle" -gt $((short * 2)) ]
	tb rate n1 off
	check "is on n1" is_on i1 n1
	check "lives" lives i1
	ctl stop i1 destroy >/dev/null
}

parts=${5:-turns passing passes converge inflight}
[[ " $parts " != *" passing "* ]] || nodes=3
bed_up
make_initrd
for part in $parts; do "$part"; done
finish
