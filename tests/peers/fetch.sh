#!/bin/bash
# Gets peers that this machine's distribution lacks, or that would start services if they were installed: Debian
# packages, unpacked into the cache with all their libraries. Prints where each is. Nothing is installed; root is not needed.
# usage: fetch.sh [bookworm | trixie]...       (default: both)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${RINGLET_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ringlet}/peers
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
tmp=

die() {
	echo "peers: $*" >&2
	exit 1
}

cleanup() {
	if [ -n "$tmp" ]; then rm -rf "$tmp"; fi
}
trap cleanup EXIT

# The mirror that apt is set up for has the other releases too.
mirror() {
	apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
		awk '$2 ~ /^(bookworm|trixie|sid)$/ && $3 == "main" { print $1; exit }'
}

# The loader of the unpacked release, since its programs want their own libc.
loader() { # ROOT
	echo "$1/$(cd "$1" && ls {usr/,}lib64/ld-linux-x86-64.so.2 2>/dev/null | head -n 1)"
}

check() { # ROOT
	local root=$1 program lib=usr/lib/x86_64-linux-gnu bad
	for program in "$root"/usr/bin/{dpdk-testpmd,passt,qemu-storage-daemon,qemu-img,ovs-vsctl,ovs-appctl,ovsdb-tool} \
		"$root"/usr/sbin/ovsdb-server "$root"/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk \
		"$root"/usr/libexec/virtiofsd "$root/$lib"/dpdk/pmds-*/librte_*.so.*; do
		[ -e "$program" ] || continue
		bad=$("$(loader "$root")" --library-path "$root/$lib:$root/lib/x86_64-linux-gnu" --list "$program" |
			grep -E "not found|=> /(usr/)?lib" || true)
		[ -z "$bad" ] || die "${program##*/} lacks libraries, whose packages belong in ${here##*/}/*.list:" $bad
	done
}

fetch() { # RELEASE
	local release=$1 url deb
	mapfile -t packages < <(grep -v '^#' "$here/$release.list" | grep .)
	url=$(mirror)
	[ -n "$url" ] || die "apt knows no Debian mirror to take $release from; add one to /etc/apt/sources.list"
	[ -e "$keyring" ] || die "$keyring is missing; run: sudo apt-get install debian-archive-keyring"
	tmp=$(mktemp -d "$cache/.tmp.XXXXXX")
	mkdir -p "$tmp"/{etc,lists/partial,cache/archives/partial,debs,root}
	: >"$tmp/status"
	echo "deb [signed-by=$keyring] $url $release main" >"$tmp/etc/$release.list"
	apt=(apt-get -qq -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$tmp/etc" -o "Dir::State::Lists=$tmp/lists"
		-o "Dir::State::status=$tmp/status" -o "Dir::Cache=$tmp/cache" -o APT::Sandbox::User=root)
	echo "peers: unpacking ${#packages[@]} packages of Debian's $release into $cache/$release" >&2
	"${apt[@]}" update >&2 || die "cannot read $release from $url"
	(cd "$tmp/debs" && "${apt[@]}" download "${packages[@]}" >&2) || die "cannot download the packages of $release"
	for deb in "$tmp"/debs/*.deb; do
		dpkg-deb -x "$deb" "$tmp/root"
		dpkg-deb -f "$deb" Package Version | awk '{ printf "%s%s", $2, NR == 1 ? " " : "\n" }' >>"$tmp/root/VERSIONS"
	done
	rm -rf "$tmp"/root/usr/share/{doc,man,locale,info}
	check "$tmp/root"
	sha256sum <"$here/$release.list" >"$tmp/root/STAMP"
	rm -rf "${cache:?}/$release"
	mv "$tmp/root" "$cache/$release"
	rm -rf "$tmp"
	tmp=
}

[ $# -gt 0 ] || set -- bookworm trixie
[ "$(uname -m)" = x86_64 ] || die "the lists of packages are for x86_64, and this is $(uname -m)"
mkdir -p "$cache"
exec {lock}>"$cache/.lock"
flock "$lock"
for release; do
	[ -e "$here/$release.list" ] || die "no such release: $release (known: bookworm trixie)"
	if [ "$(cat "$cache/$release/STAMP" 2>/dev/null)" != "$(sha256sum <"$here/$release.list")" ]; then fetch "$release"; fi
	echo "$cache/$release"
done
