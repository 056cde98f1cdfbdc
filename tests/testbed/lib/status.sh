# shellcheck shell=bash
# Owns: `status`, for people and (--json) for programs. All names and paths are of plain
# characters (see bed_set and daemon_name_ok), so JSON strings need no escapes.

status_disks() {
	local node=$1 disk dir state slow size avail sep=''
	for disk in $(disk_names); do
		dir=$(disk_path "$node" "$disk") state=$(disk_state "$node" "$disk")
		slow=$(cat "$BED/nodes/$node/dstate/$disk.slow" 2>/dev/null || echo off)
		read -r size avail < <(stat -f -c '%b %a %S' "$dir" 2>/dev/null |
			awk '{ print $1 * $3, $2 * $3 }') || true
		disk_mounted "$dir" || size=0 avail=0
		printf '%s{"name":"%s","path":"%s","state":"%s","slow":"%s","size":%s,"available":%s,"device":"%s"}' \
			"$sep" "$disk" "$dir" "$state" "$slow" "${size:-0}" "${avail:-0}" "$(disk_dev "$node" "$disk")"
		sep=,
	done
}

status_daemons() {
	local node=$1 f name pid running sep=''
	for f in "$BED/nodes/$node"/run/*.pid; do
		[ -f "$f" ] || continue
		name=$(basename "$f" .pid)
		if pid=$(daemon_pid "$node" "$name"); then running=true; else running=false pid=0; fi
		printf '%s{"name":"%s","running":%s,"host_pid":%s,"log":"%s"}' \
			"$sep" "$name" $running "$pid" "$(daemon_log "$node" "$name")"
		sep=,
	done
}

status_json() {
	local node sep='' alive pid cuts
	cuts=$(net_cuts | sed 's/\(.*\) \(.*\)/["\1","\2"]/' | paste -sd,)
	printf '{"name":"%s","directory":"%s","owner":"%s","libvirt":%s,"kvm":%s,"cut":[%s],"nodes":[' \
		"$TB_NAME" "$BED" "$(bed_owner)" \
		"$([ "$LIBVIRT" = 1 ] && echo true || echo false)" \
		"$([ "$HIDE_KVM" = 0 ] && echo true || echo false)" "$cuts"
	for node in $(node_list); do
		if node_alive "$node"; then alive=true pid=$(node_pid "$node"); else alive=false pid=0; fi
		printf '%s{"name":"%s","alive":%s,"init_pid":%s,"address":"%s","directory":"%s","link":"%s","rate":"%s","disks":[%s],"daemons":[%s]}' \
			"$sep" "$node" $alive "$pid" "$(node_addr "$node")" "$BED/nodes/$node" \
			"$(cat "$BED/nodes/$node/net/link" 2>/dev/null || echo up)" \
			"$(cat "$BED/nodes/$node/net/rate" 2>/dev/null || echo off)" \
			"$(status_disks "$node")" "$(status_daemons "$node")"
		sep=,
	done
	printf ']}\n'
}

cmd_status() {
	bed_need
	if [ "${1:-}" = --json ]; then
		status_json | jq .
		return
	fi
	status_json | jq -r '
		"bed \(.name) in \(.directory)" + (if .libvirt then ", libvirt" else "" end)
			+ (if .libvirt and (.kvm | not) then " (guests run under TCG)" else "" end),
		(.nodes[] |
			"\(.name)  \(if .alive then "up" else "DOWN" end)  \(.address)  link \(.link)  rate \(.rate)",
			(.disks[] | "    disk \(.name)  \(.state)"
				+ (if .slow != "off" then "  slow \(.slow)" else "" end)
				+ "  \(.available / 1048576 | floor) of \(.size / 1048576 | floor) MiB free  \(.path)"),
			(.daemons[] | "    \(if .running then "runs " else "ENDED" end)  \(.name)  pid \(.host_pid)  \(.log)")),
		(.cut[] | "cut: \(.[0]) does not reach \(.[1])")'
}
