#!/bin/bash
# The same kernel as an ELF vmlinux: by its PVH note, and without the note by its 64-bit entry point.
# timeout: 240
. "$(dirname "$0")/../lib.sh"

number() { # TYPE OFFSET LENGTH
	od -An -t"$1" -j"$2" -N"$3" "$image" | tr -d ' '
}

image=build/guest/$kernel/vmlinuz
offset=$((($(number u1 497 1) + 1) * 512 + $(number u4 584 4))) # boot.rst: setup_sects, payload_offset
tail -c +$((offset + 1)) "$image" | head -c $(($(number u4 588 4) - 4)) | zstd -dc >"$tmp/vmlinux" ||
	fail "the kernel's payload did not unpack"
note='\x04\0\0\0\x08\0\0\0\x12\0\0\0Xe'
perl -0777 -pe "s/${note}n\\0/${note}m\\0/ or die 'no PVH note'" "$tmp/vmlinux" >"$tmp/vmlinux64" || fail "no PVH note"

for file in vmlinux vmlinux64; do
	status=0
	"$ringlet" run -k "$tmp/$file" -i "build/guest/$kernel/initramfs.cpio" --log "$tmp/console" --timeout 110s \
		-- uname -r >"$tmp/out" 2>"$tmp/err" || status=$?
	show "$tmp/console" "$tmp/out" "$tmp/err"
	expect_status 0 "booting $file"
	[ "$(cat "$tmp/out")" = "$(cat "build/guest/$kernel/version")" ] || fail "$file: it printed $(cat "$tmp/out")"
done
