#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hcictl and hci-node as people use them: a cluster of processes on 127.0.0.1 with TLS, every noun, output
# for programs, errors and exit statuses.
#
# usage: cli.sh BUILD
build=$(cd "${1:?BUILD is missing}" && pwd) top=$(cd "$(dirname "$(readlink -f "$0")")/../../.." && pwd)
export BIN_NODE=$build/examples/hci-node/hci-node BIN_CTL=$build/examples/hcictl/hcictl HCI_PLUGIN_DIR=$build/plugins-out
# shellcheck source=tests/integration/cli/local.sh
. "$(dirname "$(readlink -f "$0")")/local.sh"

checks=0
# check WHAT COMMAND...: must succeed
check() {
	checks=$((checks + 1))
	"${@:2}" >"$work/now" 2>&1 || { cat "$work/now" >&2; fail "$1"; }
	mv "$work/now" "$work/out" # for the next one to look at
}
# refused STATUS TEXT COMMAND...: must fail with this status and say this on stderr
refused() {
	local rc=0
	checks=$((checks + 1))
	"${@:3}" >"$work/out" 2>"$work/err" || rc=$?
	[ $rc = "$1" ] || { cat "$work/err" >&2; fail "status $rc instead of $1: ${*:4}"; }
	grep -q -- "$2" "$work/err" || { cat "$work/err" >&2; fail "'$2' is not said: ${*:4}"; }
}
# value FILTER COMMAND...: what jq finds in the output of hcictl --json
value() { ctl "${@:2}" --json | jq -r "$1"; }
all_alive() { [ "$(value 'map(.state) | unique[]' node list)" = alive ]; }
# page PORT PATH: by HTTP
page() {
	exec 8<>"/dev/tcp/127.0.0.1/$1"
	printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&8
	cat <&8
	exec 8>&-
}
is() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'"; return 1; }; }

# ---- help, and wrong usage ----
for words in "" cluster pki node disk pool volume vm job event policy store metrics "volume import" "vm migrate" "disk add"; do
	# shellcheck disable=SC2086
	check "help: $words" ctl $words --help
	check "help tells how: $words" grep -q usage: "$work/out"
done
check "a long option has its help too" ctl vm define --help
check "all of it is there" grep -q -- "--nic bridge=NAME\[,mac=..\]\[,mtu=..\]\[,model=virtio|e1000e\]\[,link=up|down\]$" "$work/out"
check "a verb without arguments" sh -c "'$BIN_CTL' event follow --help | grep -q '^usage: hcictl event follow \[options\]'"
refused 2 "unknown noun" ctl nonsense
refused 2 "unknown verb" ctl volume nonsense
refused 2 "unknown option" ctl volume list --nonsense
refused 2 "usage:" ctl volume delete
refused 2 "needs a value" ctl volume create v 1G --pool
refused 2 "powers of 1024" ctl volume create v 12X --pool p
refused 2 "too large" ctl volume create v 1G --pool p --replicas 4294967298
refused 2 "too large" ctl volume create v 1G --pool p --read-timeout 60d
refused 2 "unit" ctl pool create p --rebuild-delay 10
refused 2 "which cluster" env -u HCI_STORE "$BIN_CTL" node list --config /dev/null
refused 1 "HCI_E_NOTFOUND" ctl node list --store "sqlite:$work/none.db"
refused 1 "HCI_E_EXISTS" ctl cluster create again
refused 1 "HCI_E_EXISTS" ctl pki ca "$work/ca" lab
refused 1 "HCI_E_AUTH" ctl node list --cert-dir /nonexistent
cp -r "$HCI_CERT_DIR" "$work/loose"
chmod 644 "$work/loose/node.key"
refused 1 "loose/node.key is open to others (mode 644): chmod 600" ctl node list --cert-dir "$work/loose"
refused 1 "10.77.0.300" ctl pki issue "$work/ca" bob "$work/bob" --address 10.77.0.300
printf '# a comment\nstore = %s\ncert-dir=%s\nname = admin\n' "$HCI_STORE" "$HCI_CERT_DIR" >"$work/conf"
check "configuration file" env -u HCI_STORE -u HCI_CERT_DIR -u HCI_NAME "$BIN_CTL" cluster info --config "$work/conf"
cp "$work/conf" "$work/conf-fine"
echo "colour = blue" >>"$work/conf"
refused 2 "colour" ctl cluster info --config "$work/conf"

check "version" is "$(ctl --version)" "hcictl $(sed -n 's/^#define HCI_VERSION_STRING "\(.*\)"/\1/p' "$top/include/hci/version.h")"
check "the node's" is "$("$BIN_NODE" --version)" "hci-node $(ctl --version | cut -d' ' -f2)"
refused 2 "which cluster" env HCI_STORE= "$BIN_CTL" node list
check "an empty variable is none" env HCI_CERT_DIR= HCI_NAME= "$BIN_CTL" cluster info --config "$work/conf-fine"
refused 2 "unrecognized option" "$BIN_NODE" --bogus
check "and nothing that misleads" sh -c "! grep required '$work/err'"

refused 2 "1 to 3650" ctl pki issue "$work/ca" bob "$work/bob" --days 0
refused 2 "give one of: .*resync" ctl job list --type bogus
refused 2 "give one of: .*volume-healthy" ctl event follow --type bogus

# ---- nodes, disks, pools ----
node_up n1 "127.0.0.1:$((base_port + 9))"
node_up n2
node_up n3
# On a busy machine a heartbeat may come late.
until_true 60 all_alive || fail "three nodes are up and not alive"
refused 1 "alive" "$BIN_NODE" --store "$HCI_STORE" --name n1 --listen "tcp:127.0.0.1:$((base_port + 8))" \
	--ca "$work/n1/ca.crt" --cert "$work/n1/node.crt" --key "$work/n1/node.key" --run-dir "$work/n1/run"
check "metrics page" page $((base_port + 9)) /metrics
check "metrics are text for Prometheus" grep -q '^# TYPE hci_' "$work/out"
check "pool" ctl pool create main --rebuild-delay 2s
refused 1 "HCI_E_EXISTS" ctl pool create main
refused 1 "HCI_E_NOTFOUND" ctl pool create other --policy nonsense
for n in n1 n2 n3; do
	for d in d1 s1; do
		mkdir "$work/$n/$d"
		spare=()
		[ $d = d1 ] || spare=(--spare)
		check "disk $n $d" ctl disk add $n "$work/$n/$d" --pool main "${spare[@]}"
	done
done
refused 1 "HCI_E_EXISTS" ctl disk add n1 "$work/n1/d1" --pool main
refused 1 "HCI_E_NOTFOUND" ctl disk add n9 "$work/n1/d1" --pool main
refused 1 "mkdir" ctl disk add n1 "$work/n1/nothing" --pool main
refused 1 "hcictl disk list" ctl disk remove ffffffff
refused 1 "hcictl volume list" ctl volume delete nothing
refused 1 "hcictl volume list" ctl volume import nothing /dev/null
refused 1 "hcictl vm list" ctl vm undefine nothing
refused 1 "hcictl node list" ctl node evacuate n9
refused 1 "hcictl pool list" ctl pool delete nothing
refused 1 "kernel" ctl vm define w --cmdline quiet
refused 1 "kernel" ctl vm define w --initrd /boot/initrd
refused 1 "64 KiB" ctl scrub pace --rate 1
check "the slowest scrub" ctl scrub pace --rate 64K
check "as before" ctl scrub pace --rate 32M
refused 2 "give --migrations" ctl node limit n1
check "what a node may send" ctl node limit n1 --migrations 3 --migrate-bandwidth 50M
check "it says so" grep -q "node n1: 3 migrations at a time, 50 MiB a second" "$work/out"
check "the rest stays" ctl node limit n1 --migrations 2
check "the list shows it" is "$(value '.[0] | "\(.migrations) \(.migrate_bandwidth_bytes)"' node list)" "2 52428800"
check "back to the defaults" ctl node limit n1 --migrations 0 --migrate-bandwidth 0
check "that is told" grep -q "node n1: 4 migrations at a time, any bandwidth" "$work/out"
refused 1 "hcictl node list" ctl node limit n9 --migrations 1
refused 1 "how large.*--cache-size" "$BIN_NODE" --store "$HCI_STORE" --name n1 --listen "tcp:127.0.0.1:$((base_port + 8))" \
	--ca "$work/n1/ca.crt" --cert "$work/n1/node.crt" --key "$work/n1/node.key" --cache "$work/cache"
refused 1 "HCI_E_STATE" ctl disk remove "$(value '.[0].uuid' disk list)"
check "pool's disks" is "$(value '.[0] | "\(.disks) \(.spares)"' pool list)" "3 3"
check "policies that need no adding" is "$(value 'map(.name) | join(" ")' policy list)" "balance chained copyset pack spread"
check "a policy" ctl policy add tight "$HCI_PLUGIN_DIR/placement-pack.so"
check "all of them" is "$(value 'map(.name) | join(" ")' policy list)" "balance chained copyset pack spread tight"
refused 1 "HCI_E_PLUGIN" ctl policy add broken /etc/passwd
check "explained" is "$(value 'map(select(.rank > 0)) | length' policy explain tight --pool main --replicas 3)" 3
refused 1 "no place for 5 copies" ctl policy explain spread --pool main --replicas 5
check "the chosen come first" is "$(value 'map(.rank)[0:3] | join(" ")' policy explain spread --pool main --replicas 3)" "1 2 3"
check "policy removed" ctl policy remove tight
refused 1 "comes with libhci" ctl policy remove spread
refused 1 "hcictl policy list" ctl policy remove tight
refused 1 "HCI_E_PLUGIN.*\|takes.*" ctl policy add odd "$HCI_PLUGIN_DIR/placement-pack.so" --config colour=blue
check "the tool's own --config goes before the noun" ctl --config "$work/conf-fine" policy add plain "$HCI_PLUGIN_DIR/placement-pack.so"
check "it was not handed to the plugin" is "$(value '.[] | select(.name == "plain") | .config' policy list)" ""
check "policy removed" ctl policy remove plain

# ---- volumes ----
refused 1 "HCI_E_NOPLACE" ctl volume create v 64M --pool main --replicas 4
check "volume" ctl volume create v 64M --pool main --segment 8M --write-timeout 1s
refused 1 "HCI_E_EXISTS" ctl volume create v 64M --pool main
head -c 20000000 /dev/urandom >"$work/img"
truncate -s 48M "$work/img"
head -c 3000000 /dev/urandom >>"$work/img"
refused 1 "HCI_E_NOTFOUND" ctl volume import nosuch "$work/img"
check "import" ctl volume import v "$work/img"
truncate -s 64M "$work/img"
check "read" ctl volume read v "$work/copy"
check "what was written" cmp "$work/img" "$work/copy"
check "import from a pipe" sh -c "head -c 1000000 /dev/zero | tr '\\0' a | '$BIN_CTL' volume import v - --offset 1M"
check "import of an odd size" sh -c "printf odd | '$BIN_CTL' volume import v - --offset 2M"
check "says that it is filled up" grep -q "filled up with 4093 zeros" "$work/out"
check "read a part" is "$(ctl volume read v - --offset 1M --length 4K 2>/dev/null | head -c 3)" aaa
check "compare" ctl volume compare v
for i in 1 2; do check "copy $i" ctl volume read v "$work/copy$i" --replica $i; done
check "copies are equal" cmp "$work/copy1" "$work/copy2"
check "resize" ctl volume resize v 80M
check "whose policy" sh -c "'$BIN_CTL' volume list | grep -q 'spread (pool)'"
check "new size" is "$(value '.[0].size_bytes' volume list)" $((80 << 20))
truncate -s 81M "$work/big"
refused 1 "larger than volume" ctl volume import v "$work/big"

# ---- export ----
"$BIN_CTL" volume export v --listen "unix:$work/v.sock" --json >"$work/export.out" 2>"$work/export.log" &
export_pid=$!
until_true 60 test -s "$work/export.out" || fail "the export does not start"
uri=$(jq -r .uri "$work/export.out")
check "attached by us" is "$(value .attached_by volume show v)" admin
refused 1 "HCI_E_BUSY" ctl volume delete v
refused 1 "HCI_E_BUSY" ctl volume import v "$work/img"
check "NBD" qemu-io -f raw -c "write -P 7 72M 1M" -c "read -P 7 72M 1M" "$uri"
kill -INT $export_pid
wait $export_pid || fail "the export ended with status $?"

# With TLS, as docs/operations.md says
check "exporter's certificate" ctl pki issue "$work/ca" gate "$work/gate" --address 127.0.0.1
check "client's certificate" ctl pki issue "$work/ca" alice "$work/alice"
mkdir "$work/nbd"
for f in ca.crt:ca-cert node.crt:client-cert node.key:client-key; do cp "$work/alice/${f%:*}" "$work/nbd/${f#*:}.pem"; done
: >"$work/export.out"
"$BIN_CTL" volume export v --listen "tcp:127.0.0.1:$((base_port + 10))" --tls --cert-dir "$work/gate" --name gate --json \
	>"$work/export.out" 2>"$work/export.log" &
export_pid=$!
until_true 60 test -s "$work/export.out" || fail "the export with TLS does not start"
check "libnbd with TLS" nbdinfo --size "$(jq -r .uri "$work/export.out")?tls-certificates=$work/nbd"
check "QEMU with TLS" qemu-img info --object "tls-creds-x509,id=t,dir=$work/nbd,endpoint=client" \
	--image-opts "driver=nbd,host=127.0.0.1,port=$((base_port + 10)),export=v,tls-creds=t"
refused 1 "" nbdinfo --size "nbd://127.0.0.1:$((base_port + 10))/v"
kill -INT $export_pid
wait $export_pid || fail "the export with TLS ended with status $?"

# ---- a node that dies and returns; events and jobs tell ----
refused 1 "see hcictl volume list" ctl event follow --volume nope --for 1s
"$BIN_CTL" event follow --json --for 60s --count 1 --type volume-healthy --volume v >"$work/events" 2>&1 &
events_pid=$!
copies_at=$(value 'map(select(.segment == 0).node) | last' volume show v --replicas) # of what is imported below
node_kill "$copies_at"
head -c 30000000 /dev/urandom >"$work/img2"
check "import with a node away" ctl volume import v "$work/img2"
node_up "$copies_at"
wait $events_pid || fail "event follow"
check "an event says it is whole" jq -e '.type == "volume-healthy"' "$work/events"
until_true 30 value 'if .out + .rebuilding == 0 then 1 else error end' volume show v >/dev/null 2>&1 || fail "not whole after 30 s"
check "compare after that" ctl volume compare v
resync_job() { job=$(value '.[0].id // empty' job list --type resync) && [ -n "$job" ]; }
until_true 30 resync_job || fail "the resync has no job"
check "job" ctl job show "$job"
check "job's wait" ctl job wait "$job"
refused 1 "HCI_E_STATE" ctl job cancel "$job"
refused 1 "HCI_E_NOTFOUND" ctl job show nosuch

# ---- the end ----
refused 1 "HCI_E_BUSY" ctl pool delete main
refused 1 "HCI_E_STATE" ctl node remove n1
# While a node may still be letting go of it.
# What is served, and how, while it is.
check "a volume is tuned" ctl volume set v --read-timeout 70ms --on-full fail --rebuild-impact 150 --lease 9s
check "shown so" is "$(value '"\(.read_timeout_ms) \(.on_full) \(.rebuild_impact) \(.lease_ms) \(.of_the_pool)"' volume show v)" "70 fail 150 9000 delay"
check "and back" ctl volume set v --read-timeout default --on-full wait --rebuild-impact pool --lease default
check "a pool" ctl pool set main --rebuild-delay 3s --rebuild-impact 180
check "its volumes follow" is "$(value '"\(.read_timeout_ms) \(.on_full) \(.rebuild_impact) \(.rebuild_delay_ms)"' volume show v)" "500 wait 180 3000"
disk=$(value '.[0].uuid' disk list)
check "a disk" ctl disk set "$disk" --log-level 66 --log-wait 5m
check "shown so" is "$(value '.[0] | "\(.log_level) \(.log_wait_ms)"' disk list)" "66 300000"
refused 2 "give what is to change" ctl volume set v
refused 2 "give 1ms or more" ctl volume set v --read-timeout 0ms
refused 2 "give 1ms or more, or pool" ctl volume set v --rebuild-delay 0s
refused 1 "rebuild impact" ctl pool set main --rebuild-impact 50
ctl pool set main --rebuild-delay 2s >/dev/null
check "a third copy" ctl volume set v --replicas 3
check "volume deleted" ctl volume delete v
check "none left" is "$(value length volume list)" 0
for n in n1 n2 n3; do
	kill -TERM "${node_pid[$n]}"
	wait "${node_pid[$n]}" || fail "$n did not end cleanly"
	unset "node_pid[$n]"
done
check "all down" is "$(value 'map(.state) | unique[]' node list)" down

# ---- its metadata moves ----
check "store copy" ctl store copy "$HCI_STORE" "sqlite:$work/moved.db"
check "it says what it did" grep -q "keys with" "$work/out"
refused 1 "HCI_E_STATE" ctl node list
refused 1 "HCI_E_EXISTS" ctl cluster create again --store "sqlite:$work/moved.db"
check "the nodes are there" is "$(HCI_STORE=sqlite:$work/moved.db value length node list)" 3
refused 1 "HCI_E_NOTFOUND" ctl store copy "sqlite:$work/none.db" "sqlite:$work/more.db"
refused 1 "HCI_E_STATE" ctl store copy "$HCI_STORE" "sqlite:$work/more.db"
refused 2 "usage:" ctl store copy "$HCI_STORE"
echo "$checks checks, all passed"
