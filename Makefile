# Ringlet: one non-recursive Makefile; everything made lies under build/.
#
#   make            the binary, build/ringlet
#   make run        boot a stock Debian kernel to a shell   (CMD='uname -r': run that and power off)
#   make test       all three floors of tests
#   make test-peers  remote datapaths against DPDK, Open vSwitch, storage daemons, virtiofsd, passt
#   make test-all   the same, with every combination of kernel, CPUs, RAM and page size (an hour or two)
#   make fuzz       libFuzzer on every fuzz door (FUZZ=NAME FUZZ_TIME=60)
#   make compare    each datapath beside the others (REPEAT=3 DURATION=2s); tables, and build/compare/*/report.html
#   make bench      side by side with QEMU
#   make guest-images   the four kernels and an initramfs for each
#   make clean
#
# WERROR=1 warnings are errors   SAN=1 address and undefined-behaviour sanitizers   TSAN=1 thread sanitizer

BUILD := build
ifdef SAN
BUILD := build-asan
endif
ifdef TSAN
BUILD := build-tsan
endif

CC      ?= cc
Q       := $(if $(V),,@)
say      = $(if $(V),,@printf '  %-5s %s\n' $(1) $(2))
MUSL_CC ?= musl-gcc

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wpointer-arith \
	-Wformat=2 -Wvla -Wimplicit-fallthrough -Wconversion
HARDEN   := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE -fcf-protection
OPT      := -O2 -g
LDHARDEN := -pie -Wl,-z,relro,-z,now,-z,noexecstack
ifdef WERROR
WARNINGS += -Werror
endif
ifdef SAN
OPT      := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
HARDEN   := -fPIE
endif
ifdef TSAN
OPT      := -O1 -g -fsanitize=thread
HARDEN   := -fPIE
endif

CPPFLAGS += -I. -D_GNU_SOURCE
CFLAGS   += -std=c17 $(OPT) $(WARNINGS) $(HARDEN) -pthread
LDFLAGS  += $(OPT) $(LDHARDEN) -pthread
LDLIBS   += -luring -lslirp -ljansson -lzstd -llzma -llz4 -lz

SRCS := $(wildcard lib/*.c vmm/*.c vmm/kvm/*.c devices/*/*.c backends/*.c servers/*.c compare/*.c matrix/*.c)
OBJS := $(SRCS:%.c=$(BUILD)/%.o) $(BUILD)/vmm/guest_init.o
LIB  := $(BUILD)/libringlet.a

.DEFAULT_GOAL := all
.PHONY: all help
help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile

all: $(BUILD)/ringlet

$(BUILD)/ringlet: $(BUILD)/vmm/main.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(LIB): $(filter-out $(BUILD)/vmm/main.o,$(OBJS))
	@rm -f $@
	$(call say,AR,$@)
	$(Q)$(AR) rcs $@ $^

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# The filters of lib/confine.c: what the comments say, made into programs for the kernel here and now.
GENERATED := $(BUILD)/generated
COMMENTED := $(sort $(SRCS) $(wildcard lib/*.h vmm/*.h vmm/kvm/*.h devices/*/*.h backends/*.h servers/*.h))

$(GENERATED)/syscalls.list: $(GENERATED)/syscalls.stamp ;
$(GENERATED)/syscalls.stamp: scripts/syscalls.awk $(COMMENTED)
	@mkdir -p $(@D)
	$(Q)awk -f scripts/syscalls.awk $(COMMENTED) >$(@D)/syscalls.new
	$(Q)cmp -s $(@D)/syscalls.new $(@D)/syscalls.list || cp $(@D)/syscalls.new $(@D)/syscalls.list
	@touch $@

$(GENERATED)/syscalls: scripts/syscalls.c $(GENERATED)/syscalls.list
	$(call say,CC,$@)
	$(Q)$(CC) -std=c17 -D_GNU_SOURCE -O1 $(WARNINGS) -I$(GENERATED) -o $@ $< -lseccomp

$(GENERATED)/confine_filters.h: $(GENERATED)/syscalls
	$(Q)$< >$@.new && mv $@.new $@

CONFINES := $(BUILD)/lib/confine.o build/replay/obj/lib/confine.o build/fuzz/obj/lib/confine.o
$(CONFINES): CPPFLAGS += -I$(GENERATED)
$(CONFINES): $(GENERATED)/confine_filters.h

$(BUILD)/vmm/guest_init.o: vmm/guest_init.S $(BUILD)/guest/init
	@mkdir -p $(@D)
	$(Q)$(CC) -DGUEST_INIT='"$(BUILD)/guest/init"' -c -o $@ $<

# Static, and by musl: it runs in guests that hold nothing else.
INIT_SRCS := $(wildcard guest-images/init/*.c)

$(BUILD)/guest/init: $(INIT_SRCS) $(wildcard guest-images/init/*.h)
	@mkdir -p $(@D)
	$(call say,MUSL,$@)
	$(Q)$(MUSL_CC) -std=c17 -D_GNU_SOURCE -static -Os -s $(WARNINGS) -idirafter /usr/include \
		-idirafter /usr/include/x86_64-linux-gnu -o $@ $(INIT_SRCS)

# --- unit tests: one program a file -------------------------------------------------------------
UNIT_SRCS := $(wildcard tests/unit/test_*.c)
UNIT_LIBS := -lcriterion
ifdef TSAN
# What has threads in it, by a stand-in for the library, which cannot run under this sanitizer.
UNIT_SRCS := $(foreach t,balloon blk blk_malformed blk_move blk_move_config blk_remote bus channel console control disk_lock errand evloop file_disk file_no_ring file_sync file_uring generic guest_mem guest_mem_backing inproc ledger log loop_thread msix net_ctrl net_move net_move_refused net_remote pci pci_bar serial serial_rx serial_shadow server_blk server_blk_faults server_faults server_memory server_messages server_net server_tap server_vduse socket_port terminal thread trace user_net user_net_port user_net_tcp vcpu vhost_kernel vhost_net vhost_net_tap vhost_scsi vhost_user vhost_user_msg vhost_user_faults vhost_user_leave vhost_user_return vhost_vdpa vhost_vdpa_drain vhost_vdpa_open vhost_vdpa_start vhost_vsock virtio virtio_config virtio_console virtio_console_ports virtio_linger virtio_mmio virtio_pci virtio_pci_config virtio_pci_irq virtio_queue virtio_reset vq_fetch vq_threads,tests/unit/test_$(t).c)
UNIT_LIBS :=
$(BUILD)/tests/unit/%.o: CPPFLAGS += -Itests/tsan
endif
UNIT      := $(UNIT_SRCS:%.c=$(BUILD)/%)

# What several tests share: drivers and peers that do as they are told.
FAKES := $(BUILD)/libfakes.a

$(FAKES): $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/fake/*.c))
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(FAKES) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(UNIT_LIBS)

.PHONY: unit
unit: $(UNIT)

include tests/bare/Makefile.inc tests/assumptions/Makefile.inc tests/fuzz/Makefile.inc bench/Makefile.inc tests/peers/Makefile.inc compare/Makefile.inc

.PHONY: bare assumptions
bare: $(BARE_GUESTS)
assumptions: $(ASSUMPTIONS)

# --- guests: stock Debian kernels, unpacked and not installed, and an initramfs for each ---------
KERNELS := 6.1-generic 6.1-cloud 6.12-generic 6.12-cloud
KERNEL  ?= 6.12-cloud

build/guest/%/vmlinuz:
	$(Q)guest-images/fetch-kernel.sh $*

build/guest/%/initramfs.cpio: build/guest/%/vmlinuz build/guest/init guest-images/mkinitramfs.sh
	$(Q)guest-images/mkinitramfs.sh $*

build/guest/tools.img: guest-images/mktools.sh
	$(Q)guest-images/mktools.sh

.PHONY: guest-images
guest-images: $(KERNELS:%=build/guest/%/initramfs.cpio) build/guest/tools.img

# --- run and test: each does its own set-up -------------------------------------------------------
# The set-up comes first and the rest in a make of its own, since what is installed may decide what
# can be built.
.PHONY: run test test-all bench setup-%
setup-%:
	@scripts/setup.sh $(subst +, ,$*)

run: setup-build+run
	@$(MAKE) --no-print-directory all build/guest/$(KERNEL)/initramfs.cpio
	@scripts/run.sh '$(KERNEL)' '$(subst ','\'',$(value CMD))'

TESTABLE := all unit bare assumptions replay
FLOORS   := static unit replay instructions assumptions bare host compare matrix

# Two floors under the sanitizers.  Without random addresses: the thread sanitizer's own are fixed.
ifneq ($(SAN)$(TSAN),)
test: setup-build+test
	@$(MAKE) --no-print-directory $(TESTABLE)
	@BUILD=$(BUILD) setarch -R tests/run.sh unit bare
else
test: setup-build+run+lab+tools+test
	@$(MAKE) --no-print-directory $(TESTABLE) guest-images
	@tests/lab/fetch.sh >/dev/null
	@tests/run.sh $(FLOORS) linux

test-all: setup-build+run+lab+tools+test+images+kernel
	@$(MAKE) --no-print-directory $(TESTABLE) guest-images
	@guest-images/build-kernel.sh small crash
	@tests/lab/fetch.sh >/dev/null
	@tests/run.sh $(FLOORS) linux-all
endif

# --- peers: real back ends, fetched once; natively with bare guests, and in the lab where the kernel is needed -----
PEER_CASES := vhost-user-* vdpa-* move-* resets guest-pmd

.PHONY: test-peers
test-peers: setup-build+run+lab+tools+test+peers
	@$(MAKE) --no-print-directory all peer-guests guest-images
	@tests/peers/fetch.sh >/dev/null
	@BUILD=$(BUILD) RINGLET=$(BUILD)/ringlet tests/peers/run.sh
	@LAB_CPUS=1 tests/lab/lab cases $(wildcard $(PEER_CASES:%=tests/lab/cases/%.sh))

# --- compare: small numbers, here or in the lab ---------------------------------------------------
.PHONY: compare
compare: setup-build+run+tools+compare
	@$(MAKE) --no-print-directory all build/guest/$(KERNEL)/initramfs.cpio build/guest/tools.img
	@scripts/compare.sh '$(KERNEL)'

# --- bench: side by side with QEMU in one run; figures are printed, not asserted ------------------
build/bench/first_run.so: bench/first_run.c
	@mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE -O2 $(WARNINGS) -shared -fPIC -o $@ $<

build/bench/initramfs.cpio: bench/init.c
	@mkdir -p $(@D)/root
	$(Q)$(MUSL_CC) -D_GNU_SOURCE -static -Os -s -o $(@D)/root/init $<
	$(Q)mkdir -p $(@D)/root/dev && cd $(@D)/root && printf '%s\n' . ./dev ./init | cpio -o -H newc --quiet >../initramfs.cpio

bench: setup-build+run+lab+bench+peers
	@$(MAKE) --no-print-directory all build/bench/first_run.so build/bench/initramfs.cpio build/bare/debug_exit.elf \
		build/guest/6.12-cloud/initramfs.cpio build/guest/6.1-generic/initramfs.cpio
	@tests/lab/fetch.sh >/dev/null
	@bench/run.sh

.PHONY: clean
clean:
	rm -rf build build-asan build-tsan

-include $(OBJS:.o=.d) $(UNIT:=.d) $(patsubst %.c,$(BUILD)/%.d,$(wildcard tests/fake/*.c))
.SECONDARY:
