#!/bin/bash
# Somebody truncates the file behind guest RAM: named, and 123.
. "$(dirname "$0")/../lib.sh"
mkdir "$tmp/ram"
mount -t tmpfs -o size=400M none "$tmp/ram" || fail "no tmpfs"
trap 'kill -KILL "$pid" 2>/dev/null; umount -l "$tmp/ram"; rm -rf "$tmp"' EXIT
start_guest --timeout "${patience}s" -m "256M,path=$tmp/ram"
wait_for_shell
[ -z "$(ls -A "$tmp/ram")" ] || fail "a file was left in path="
ram=$(find /proc/"$pid"/fd -lname "$tmp/ram/*" | head -n 1)
[ -n "$ram" ] || fail "no RAM file among the open files"
truncate -s 0 "$ram"
say ls
finish 30
expect_status 123 "truncating guest RAM"
expect_line "$tmp/err" 'guest RAM is lost'
