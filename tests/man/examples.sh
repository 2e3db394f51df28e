#!/bin/bash
# Runs the examples of ringlet.1 and prints TAP.
# usage: tests/man/examples.sh [--host|--guest]      without an option: both
# environment: RINGLET   the program (default: build/ringlet, or ringlet in the repository)
#              KERNEL, INITRD   what the examples read or boot (default: what build/guest holds);
#              without them such examples are skipped, and so are guests where KVM is not at speed
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
want=${1:-}
n=0
failed=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

case $want in
'' | --host | --guest) ;;
*)
	echo "usage: $0 [--host|--guest]" >&2
	exit 2
	;;
esac

program=${RINGLET:-}
if [ -z "$program" ]; then
	for program in "$top/build/ringlet" "$top/ringlet"; do
		[ -x "$program" ] && break
	done
fi
program=$(realpath -m "$program")
if [ ! -x "$program" ]; then
	echo "Bail out! $program is not there; run make"
	exit 1
fi
mkdir "$tmp/bin"
ln -s "$program" "$tmp/bin/ringlet"
PATH=$tmp/bin:$PATH

# One line an example: WHERE STATUS NAME, a tab, and the script with its line ends as \001.
extract() {
	awk '
	/^\.\\" example: / { head = $3 " " $4 " " $5; next }
	head != "" && /^\.Bd / { inside = 1; text = ""; next }
	inside && /^\.Ed/ { print head "\t" text; head = ""; inside = 0; next }
	inside { gsub(/\\-/, "-"); gsub(/\\e/, "\\"); text = text $0 "\001" }
	' "$top/ringlet.1"
}

run_example() { # STATUSES NAME SCRIPT
	local status
	n=$((n + 1))
	mkdir "$tmp/$n"
	printf '%s' "$3" | tr '\001' '\n' >"$tmp/$n/script"
	# Where files may be left behind, with no terminal and an end in case one hangs.
	(cd "$tmp/$n" && exec timeout 300 bash ./script) </dev/null >"$tmp/$n.out" 2>"$tmp/$n.err"
	status=$?
	case ,$1, in
	*,$status,*) echo "ok - man/$2" ;;
	*)
		echo "not ok - man/$2"
		echo "# status $status, expected $1"
		sed 's/^/# /' "$tmp/$n/script" "$tmp/$n.err" | tail -n 30
		failed=1
		;;
	esac
}

find_files() {
	local dir
	for dir in "$top"/build/guest/*/; do
		if [ -z "${KERNEL:-}" ] && [ -r "$dir/vmlinuz" ] && [ -r "$dir/initramfs.cpio" ]; then
			KERNEL=$dir/vmlinuz
			INITRD=$dir/initramfs.cpio
		fi
	done
	if [ -r "${KERNEL:-}" ] && [ -r "${INITRD:-}" ]; then
		KERNEL=$(realpath "$KERNEL")
		INITRD=$(realpath "$INITRD")
		export KERNEL INITRD
		ready="$ready files"
	fi
}

ready=host
find_files
if [ "$want" != --host ] && [ "$ready" = "host files" ]; then
	if why=$(ringlet doctor --check kvm); then
		ready="$ready guest"
	else
		echo "# $why"
	fi
fi

while IFS=$'\t' read -r head script; do
	read -r where statuses name <<<"$head"
	case $want,$where in
	--host,guest | --guest,host | --guest,files) continue ;;
	esac
	case " $ready " in
	*" $where "*)
		run_example "$statuses" "$name" "$script"
		;;
	*)
		n=$((n + 1))
		if [ "$where" = files ]; then
			echo "ok - man/$name # SKIP needs KERNEL and INITRD"
		else
			echo "ok - man/$name # SKIP needs KERNEL, INITRD and KVM at speed"
		fi
		;;
	esac
done < <(extract)

if [ $n -eq 0 ]; then
	echo "not ok - man/extract"
	echo "# ringlet.1 has no example"
	failed=1
	n=1
fi
echo "1..$n"
exit $failed
