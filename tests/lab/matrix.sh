#!/bin/bash
# Prints the boot matrix as a list of cases for "lab cases -".
# usage: matrix.sh smoke|rest|all
# smoke: 8 boots with every pair of values of any two columns but 6G; rest: all other combinations.
set -eu
shopt -s extglob

kernels_versions=(6.1 6.12)
flavours=(generic cloud)
cpus=(1 2 8 32)
rams=(256M 3G 6G)
backings=(memfd hugepages)

line() { # VERSION FLAVOUR CPUS RAM BACKING
	local options="timeout=180"
	case $4-$5 in
	6G-hugepages) options="timeout=420 mem=9G" ;; # reserved and zeroed by an emulated processor
	6G-*) options="timeout=300 mem=9G" ;;
	3G-hugepages) options="timeout=300" ;;
	esac
	# One emulated processor runs all of them in turn.
	if [ "$3" = 32 ]; then options="${options/timeout=*([0-9])/} timeout=600"; fi
	echo "boot-$1-$2-$3cpu-$4-$5 $options -- tests/lab/boot-case.sh $1-$2 $3 $4 $5"
}

# A mixed-level orthogonal array 4 x 2^4: with bits a, b, c of the run, the processors are 2a + b and the other columns
# c, a^c, b^c, a^b^c. The sum of any two of these four is a, b or a^b, never constant, and none depends on a and b alone.
smoke() {
	local a b c
	for a in 0 1; do
		for b in 0 1; do
			for c in 0 1; do
				line "${kernels_versions[c]}" "${flavours[a ^ c]}" "${cpus[2 * a + b]}" "${rams[b ^ c]}" "${backings[a ^ b ^ c]}"
			done
		done
	done
}

all() {
	local version flavour n ram backing
	for ram in "${rams[@]}"; do # outermost: the memory of the lab depends on it
		for backing in "${backings[@]}"; do
			for version in "${kernels_versions[@]}"; do
				for flavour in "${flavours[@]}"; do
					for n in "${cpus[@]}"; do
						line "$version" "$flavour" "$n" "$ram" "$backing"
					done
				done
			done
		done
	done
}

case ${1:-} in
smoke) smoke ;;
rest) all | grep -vxFf <(smoke) ;;
all) all ;;
*)
	echo "usage: matrix.sh smoke|rest|all" >&2
	exit 125
	;;
esac
