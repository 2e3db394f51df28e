#!/bin/bash
# Prints the cases of net and disk as a list for "lab cases -".
# usage: virtio-matrix.sh smoke|all
# smoke: every pair of values of any two columns is somewhere; all: every combination that differs in the datapath.
set -eu

net() { # KERNEL TRANSPORT QUEUES MTU KEYS
	echo "net-$1-$2-$3-$4-${5//[=,]/_} timeout=240 -- tests/lab/net-case.sh $1 $2 $3 $4 $5"
}

blk() { # KERNEL TRANSPORT QUEUES KEYS
	echo "blk-$1-$2-$3-${4//[=,]/_} timeout=240 -- tests/lab/blk-case.sh $1 $2 $3 $4"
}

user_net() { # KERNEL TRANSPORT MIB
	echo "user-net-$1-$2-$3 timeout=300 -- tests/lab/user-net-case.sh $1 $2 $3"
}

case ${1:-} in
smoke)
	net 6.12-cloud pci 1 1500 packed=off
	net 6.1-cloud mmio 4 9000 packed=on
	net 6.12-cloud mmio 1 9000 csum=off,tso=off,uso=off,notify=exit
	net 6.1-cloud pci 4 1500 packed=on,mrg_rxbuf=off,irq=ioctl
	blk 6.12-cloud pci 1 aio=uring
	blk 6.1-cloud mmio 4 aio=sync
	blk 6.12-cloud mmio 1 aio=uring,direct,packed=on,irq=ioctl
	blk 6.1-cloud pci 4 aio=sync,direct,packed=on,event_idx=off,notify=exit
	user_net 6.12-cloud pci 4
	echo "rebind-pci timeout=300 -- tests/lab/rebind-case.sh pci 5"
	echo "rebind-mmio timeout=300 -- tests/lab/rebind-case.sh mmio 5"
	;;
all)
	for kernel in 6.1-cloud 6.12-cloud; do
		for transport in pci mmio; do
			for queues in 1 4; do
				for ring in packed=off packed=on packed=off,event_idx=off,indirect=off; do
					for mtu in 1500 9000; do
						net $kernel $transport $queues $mtu $ring
						net $kernel $transport $queues $mtu "$ring,csum=off,tso=off,uso=off"
					done
					for aio in aio=uring aio=sync aio=uring,direct aio=sync,direct; do
						blk $kernel $transport $queues "$aio,$ring"
					done
				done
			done
		done
	done
	for kernel in 6.1-generic 6.12-generic; do
		net $kernel pci 1 1500 packed=off
		net $kernel mmio 4 9000 packed=on
		blk $kernel mmio 1 aio=uring
		blk $kernel pci 4 aio=uring,packed=on
	done
	user_net 6.12-cloud pci 100
	user_net 6.1-cloud mmio 100
	net 6.12-cloud pci 1 1500 notify=exit
	net 6.12-cloud pci 1 1500 bits=all
	net 6.12-cloud mmio 4 9000 bits=all,packed=off
	blk 6.12-cloud pci 2 bits=all
	net 6.12-cloud mmio 1 1500 notify=exit
	net 6.12-cloud pci 4 1500 irq=ioctl
	net 6.12-cloud mmio 4 1500 irq=ioctl
	net 6.12-cloud pci 2 1500 doorbell=pio
	blk 6.12-cloud pci 2 doorbell=pio
	blk 6.12-cloud pci 1 cache=writethrough
	echo "rebind-pci timeout=1800 -- tests/lab/rebind-case.sh pci 100"
	echo "rebind-mmio timeout=1800 -- tests/lab/rebind-case.sh mmio 100"
	;;
*)
	echo "usage: virtio-matrix.sh smoke|all" >&2
	exit 125
	;;
esac
