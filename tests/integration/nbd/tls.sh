#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# TLS with clients we did not write: good certificates, none, expired ones, another CA's, no TLS at all.
#	tls.sh FOLDER_OF_NBD_RAMSERVER
here=$(dirname "$(readlink -f "$0")")
. "$here/lib.sh"

"$bin/nbd_pki" "$dir" || exit 1
start "tcp:127.0.0.1:0" 64 --tls "$dir/node.raw"
port=${addr##*:}
uri() {
	echo "nbds://localhost:$port/ram?tls-certificates=$dir/$1"
}
qemu() {
	local who=$1
	shift
	"$@" --object "tls-creds-x509,id=t,dir=$dir/$who,endpoint=client" --image-opts \
		"driver=nbd,host=localhost,port=$port,export=ram,tls-creds=t"
}
qio() {
	local who=$1
	shift
	qemu "$who" qemu-io "$@" >"$dir/qio" 2>&1 && ! grep -qiE 'fail|error|mismatch' "$dir/qio" || { cat "$dir/qio"; false; }
}
qemu_compare() {
	qemu-img compare --object "tls-creds-x509,id=t,dir=$dir/client,endpoint=client" --image-opts \
		"driver=raw,file.driver=file,file.filename=$dir/b.raw" \
		"driver=nbd,host=localhost,port=$port,export=ram,tls-creds=t"
}
check "nbdinfo with a certificate" nbdinfo --size "$(uri client)"
check "nbdinfo sees TLS" sh -c "nbdinfo --json '$(uri client)' | grep -q '\"TLS\": true'"
check "qemu-io with a certificate" qio client -c 'write -P 7 1000 5M' -c 'read -P 7 1000 5M'
head -c 40M /dev/urandom >"$dir/a.raw"
check "nbdcopy up" nbdcopy "$dir/a.raw" "$(uri client)"
check "nbdcopy down" nbdcopy "$(uri client)" "$dir/b.raw"
check "the same bytes" cmp -n 41943040 "$dir/a.raw" "$dir/b.raw"
check "qemu-img compare" qemu_compare
refuse "an expired certificate" nbdinfo --size "$(uri expired)"
refuse "another CA's certificate" nbdinfo --size "$(uri stranger)"
refuse "no TLS" nbdinfo --size "nbd://localhost:$port/ram"
refuse "no TLS, listing" nbdinfo --list "nbd://localhost:$port"
# The server's CA, but no certificate of its own.
mkdir "$dir/bare"
cp "$dir/client/ca-cert.pem" "$dir/bare/"
refuse "no client certificate" nbdinfo --size "$(uri bare)"
check "the server lives" nbdinfo --size "$(uri client)"
stop

start "tcp:127.0.0.1:0" 16 --tls "$dir/node.raw" --any-client
port=${addr##*:}
check "no client certificate where none is asked for" nbdinfo --size "$(uri bare)"
refuse "still no plain connection" nbdinfo --size "nbd://localhost:$port/ram"
stop

start "tcp:127.0.0.1:0" 16
port=${addr##*:}
refuse "TLS where there is none" nbdinfo --size "$(uri client)"
stop
finish
