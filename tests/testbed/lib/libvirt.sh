# shellcheck shell=bash
# Owns: one libvirtd a node: its configuration, start and the way peers reach it.
# Each has its own /etc, /var/lib, /var/cache, /var/log and /run/libvirt (node-init.sh
# binds them), its own host name and host_uuid: libvirt refuses to migrate between equals.
#
# Peers: plain TCP without a password, which is fine inside the bed's isolated network;
# TLS as soon as certificates are given (`up --pki DIR`, or `libvirt NODE tls DIR`), with
#   DIR/NODE/{cacert,servercert,serverkey,clientcert,clientkey}.pem   or the same in DIR.

libvirt_prepare() {
	local node=$1 dir
	dir=$BED/nodes/$node/libvirt
	mkdir -p "$dir"/{etc/qemu,lib,cache,log/qemu,run,pki/CA,pki/libvirt/private,pki/qemu}
	cat /proc/sys/kernel/random/uuid >"$dir/host_uuid"
	# What the distribution's qemu.conf protects does not exist here: QEMU runs as root in
	# a throw-away node. stdio_handler=file needs no virtlogd.
	cat >"$dir/etc/qemu.conf" <<-END
		stdio_handler = "file"
		cgroup_controllers = []
		namespaces = []
		security_driver = "none"
		user = "root"
		group = "root"
		dynamic_ownership = 0
		remember_owner = 0
		migration_address = "0.0.0.0"
		migrate_tls_x509_cert_dir = "/etc/pki/qemu"
	END
	libvirt_configure "$node" "${PKI:-}"
}

libvirt_configure() {
	local node=$1 pki=$2 dir tls=0
	dir=$BED/nodes/$node/libvirt
	if [ -n "$pki" ]; then
		tls=1
		[ ! -d "$pki/$node" ] || pki=$pki/$node
		libvirt_install_pki "$dir/pki" "$pki"
	fi
	cat >"$dir/etc/libvirtd.conf" <<-END
		listen_tls = $tls
		listen_tcp = 1
		listen_addr = "0.0.0.0"
		auth_tcp = "none"
		auth_tls = "none"
		auth_unix_ro = "none"
		auth_unix_rw = "none"
		unix_sock_rw_perms = "0700"
		host_uuid = "$(cat "$dir/host_uuid")"
		keepalive_interval = 2
		keepalive_count = 5
		log_outputs = "3:stderr"
	END
}

libvirt_install_pki() {
	local to=$1 from=$2 f
	for f in cacert servercert serverkey clientcert clientkey; do
		[ -r "$from/$f.pem" ] || die "libvirt TLS: $from/$f.pem is missing or unreadable"
	done
	cp "$from/cacert.pem" "$to/CA/cacert.pem"
	for f in server client; do
		cp "$from/${f}cert.pem" "$to/libvirt/${f}cert.pem"
		install -m 600 "$from/${f}key.pem" "$to/libvirt/private/${f}key.pem"
		cp "$from/${f}cert.pem" "$to/qemu/${f}-cert.pem"
		install -m 600 "$from/${f}key.pem" "$to/qemu/${f}-key.pem"
	done
	cp "$from/cacert.pem" "$to/qemu/ca-cert.pem"
}

libvirt_start() {
	local node=$1
	daemon_start "$node" libvirtd libvirtd --listen --pid-file /run/libvirt/libvirtd.pid ||
		die "node $node: libvirtd cannot be started: is libvirt-daemon installed?"
	wait_for 30 libvirt_answers "$node" ||
		die "node $node: libvirtd does not answer after 30 s: $(tail -n 3 "$(daemon_log "$node" libvirtd)")"
}

libvirt_answers() {
	(node_enter "$1" virsh -q -c qemu:///system version) >/dev/null 2>&1
}

cmd_libvirt() {
	local node=${1:-} what=${2:-} arg=${3:-}
	bed_need
	node_need_alive "$node"
	[ "$LIBVIRT" = 1 ] || die "node $node has no libvirtd: bring the bed up with --libvirt"
	case $what in
	tls) [ -d "$arg" ] || die "libvirt $node tls: no directory '$arg'" ;;
	tcp) arg= ;;
	restart) ;;
	*) die "libvirt $node: say restart, tcp, or tls DIR" ;;
	esac
	[ "$what" = restart ] || libvirt_configure "$node" "$arg"
	# Guests run on without their libvirtd, as they should.
	daemon_gone "$node" libvirtd || (cmd_stop "$node" libvirtd)
	libvirt_start "$node"
}
