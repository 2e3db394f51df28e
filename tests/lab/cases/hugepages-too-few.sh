#!/bin/bash
# Too few huge pages, or a cgroup that allows fewer: said before the guest starts, with numbers and the mend.
. "$(dirname "$0")/../lib.sh"
pool=/sys/kernel/mm/hugepages/hugepages-2048kB

echo 10 >$pool/nr_hugepages
run_guest -m 256M,hugepages=2M -- true
expect_status 125 "asking for 128 huge pages of 10"
expect_line "$tmp/err" 'need 128 huge pages of 2MB; the host has 10 free'
expect_line "$tmp/err" "echo 128 > $pool/nr_hugepages"
[ ! -s "$tmp/console" ] || fail "the guest ran"

echo 140 >$pool/nr_hugepages
[ "$(cat $pool/nr_hugepages)" = 140 ] || fail "140 huge pages could not be had"
echo +hugetlb >/sys/fs/cgroup/cgroup.subtree_control || fail "no hugetlb controller"
group=/sys/fs/cgroup/few
mkdir $group
echo $((20 << 21)) >$group/hugetlb.2MB.max
(
	echo "$BASHPID" >$group/cgroup.procs
	run_guest -m 256M,hugepages=2M -- true
	expect_status 125 "a cgroup that allows 20 huge pages"
	expect_line "$tmp/err" "cgroup allows 20"
	expect_line "$tmp/err" "echo $((128 << 21)) > $group/hugetlb.2MB.max"
	[ ! -s "$tmp/console" ] || fail "the guest ran"
) || exit 1
[ "$(cat $pool/free_hugepages)" = 140 ] || fail "huge pages were not given back"

mkdir "$tmp/mnt"
run_guest -m "256M,hugepages=2M,path=$tmp/mnt" -- true
expect_status 125 "huge pages in an ordinary directory"
expect_line "$tmp/err" 'not a hugetlbfs mount'
