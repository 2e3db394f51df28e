# Sourced by the cases of --root and --share, after lib.sh.
# shellcheck shell=bash
# shellcheck disable=SC2154 # lib.sh's

trap 'if [ -n "$pid" ]; then kill -KILL "$pid" 2>/dev/null; fi; rm -rf "$tmp"' EXIT

# One run to its end: $status, $tmp/out, $tmp/err, $tmp/console.
root_run() { # KERNEL OPTIONS... -- COMMAND...
	local kernel=$1
	shift
	[ -e "build/guest/$kernel/vmlinuz" ] || fail "build/guest/$kernel is missing; run: make guest-images"
	status=0
	"$ringlet" run -v -k "build/guest/$kernel/vmlinuz" --log "$tmp/console" --timeout "${patience}s" "$@" \
		</dev/null >"$tmp/out" 2>"$tmp/err" || status=$?
	grep -v trace: "$tmp/err" >"$tmp/said"
	show "$tmp/console" "$tmp/out" "$tmp/said"
	echo "exit status $status"
}

use_virtiofsd() { # c|rust
	local root=${RINGLET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ringlet}/peers/trixie
	if [ "$1" = c ]; then
		export RINGLET_VIRTIOFSD=/usr/lib/qemu/virtiofsd
		[ -x "$RINGLET_VIRTIOFSD" ] || fail "$RINGLET_VIRTIOFSD is missing; run: scripts/setup.sh peers"
		return
	fi
	[ -x "$root/usr/libexec/virtiofsd" ] || fail "$root has no virtiofsd; run: tests/peers/fetch.sh"
	export RINGLET_VIRTIOFSD=$tmp/virtiofsd-rust
	# With its own release's libraries.
	printf '#!/bin/sh\nexec %s --argv0 virtiofsd --library-path %s %s "$@"\n' "$root/usr/lib64/ld-linux-x86-64.so.2" \
		"$root/usr/lib/x86_64-linux-gnu" "$root/usr/libexec/virtiofsd" >"$RINGLET_VIRTIOFSD"
	chmod 755 "$RINGLET_VIRTIOFSD"
}

nothing_left() {
	local i
	for ((i = 0; i < 20; i++)); do
		if ! pgrep -x virtiofsd >/dev/null && ! pgrep -f 'virtiofsd.*--fd=3' >/dev/null; then break; fi
		sleep 0.1
	done
	((i < 20)) || { ps ax | grep -v grep | grep virtiofsd; fail "a virtiofsd is left"; }
	for i in /tmp/ringlet-fs-*; do [ ! -e "$i" ] || fail "$i is left"; done
}
