# shellcheck shell=bash
# Owns: etcd in a bed: one member in each of n1 n2 n3 (in n1 alone when there are fewer nodes), plain HTTP
# inside the bed's isolated network, its data in the node's directory: a member dies and returns with its node.

etcd_nodes() { node_list | head -n "$([ "$NODES" -ge 3 ] && echo 3 || echo 1)"; }

etcd_here() { [ "${ETCD:-0}" = 1 ] && etcd_nodes | grep -qx "$1"; }

etcd_start() {
	local node=$1 addr n peers=''
	addr=$(node_addr "$node")
	for n in $(etcd_nodes); do peers+=${peers:+,}$n=http://$(node_addr "$n"):2380; done
	# A tenth of the usual limits of compaction: a bed lives for minutes and is to see some.
	daemon_start "$node" etcd etcd --name "$node" --data-dir "$BED/nodes/$node/etcd" \
		--listen-peer-urls "http://$addr:2380" --initial-advertise-peer-urls "http://$addr:2380" \
		--listen-client-urls "http://$addr:2379" --advertise-client-urls "http://$addr:2379" \
		--initial-cluster "$peers" --initial-cluster-token "$TAG" --logger zap --log-level warn \
		--auto-compaction-mode revision --auto-compaction-retention 1000 ||
		die "node $node: etcd cannot be started: is etcd-server installed?"
}

etcd_url() {
	local n url=''
	for n in $(etcd_nodes); do url+=${url:+,}$(node_addr "$n"):2379; done
	echo "etcd://$url/hci"
}

# As a client in the node: a read that needs a leader.
etcd_answers() {
	(ETCDCTL_API=3 node_enter "$1" etcdctl --command-timeout=1s --endpoints "http://$(node_addr "$1"):2379" get x) >/dev/null 2>&1
}

etcd_wait() {
	local n
	for n in $(etcd_nodes); do
		wait_for 60 etcd_answers "$n" || die "node $n: etcd does not answer after 60 s: $(tail -n 3 "$(daemon_log "$n" etcd)")"
	done
}

cmd_etcd() {
	bed_need
	[ "${ETCD:-0}" = 1 ] || die "bed '$TB_NAME' has no etcd: bring it up with --etcd"
	case ${1:-} in
	url) etcd_url ;;
	wait) etcd_wait ;;
	*) die "etcd: say url or wait" ;;
	esac
}
