#!/bin/bash
# A guest that resets finds the same disk and net again.
. "$(dirname "$0")/../lib.sh"
make_tap 1500
truncate -s 4M "$tmp/disk.img"
start_guest --timeout "${patience}s" --reboot again --disk "$tmp/disk.img" --net tap,ifname=tap0 --rng
wait_for_shell
say 'echo first >/dev/vda; sync; ip link set eth0 up; ip addr add 10.1.0.2/24 dev eth0; ping -c 1 10.1.0.1 && echo pinged-$((1))'
wait_for 'pinged-1'
say 'reboot -f'
wait_for_shell 3 # two were in the first life
say 'echo "read $(head -n 1 /dev/vda)"; ip link set eth0 up; ip addr add 10.1.0.2/24 dev eth0; ping -c 1 10.1.0.1 && echo pinged-$((2))'
wait_for 'pinged-2'
wait_for '^read first'
say 'poweroff'
finish 40
expect_status 0 "power-off in the second life"
