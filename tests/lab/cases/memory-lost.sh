#!/bin/bash
# Somebody truncates the file behind guest RAM, in path= or in a tmpfs of our own: named, and 123. A sealed one is not to be cut.
. "$(dirname "$0")/../lib.sh"
mkdir "$tmp/ram"
mount -t tmpfs -o size=400M none "$tmp/ram" || fail "no tmpfs"
trap 'kill -KILL "$pid" 2>/dev/null; umount -l "$tmp/ram"; rm -rf "$tmp"' EXIT

file_of_ram() { # NAME: as /proc shows it
	ram=$(find /proc/"$pid"/fd -lname "$1" | head -n 1)
	[ -n "$ram" ] || fail "no RAM file among the open files"
}

for mem in "256M,path=$tmp/ram" 256M; do
	start_guest --timeout "${patience}s" -m "$mem"
	wait_for_shell
	[ -z "$(ls -A "$tmp/ram")" ] || fail "a file was left in path="
	case $mem in
	*path=*) file_of_ram "$tmp/ram/*" ;;
	*) file_of_ram '/ringlet-ram*' ;;
	esac
	truncate -s 0 "$ram"
	say ls
	finish 30
	expect_status 123 "truncating guest RAM, -m $mem"
	expect_line "$tmp/err" 'guest RAM is lost'
done

start_guest --timeout "${patience}s" -m 256M,thp=off
wait_for_shell
file_of_ram '/memfd:ringlet-ram*'
truncate -s 0 "$ram" 2>/dev/null && fail "a sealed file was cut"
say poweroff
finish 30
expect_status 0 "nothing"
