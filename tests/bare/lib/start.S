/* From the PVH entry (32-bit protected mode, paging off, ebx = start info) to main() in ring 3.
 *
 * Theory of operation: ring 0 is the expensive ring on a KVM that emulates it, so everything is mapped
 * for ring 3, main() runs there, and ring0() calls a function in ring 0.  Two things are done the long
 * way because such a KVM does not know the short one: its iretq loses the I/O privilege level, so ports
 * are opened by the bitmap in the TSS and the interrupt flag is set in ring 0; and its ring 3 has no
 * `int n`, so an undefined instruction is the way into ring 0. */
#include "lib/bare.h"

	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 8, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.quad _start

	.bss
	.balign 4096
pml4:	.skip 4096
pdpt:	.skip 4096
pds:	.skip 4096 * BARE_MAPPED_GIB
	.globl start_info
start_info: .skip 8
ring3_stack: .skip 16384
ring3_stack_end:
ring0_stacks: .skip BARE_MAX_CPUS * 4096
	.balign 16
	.globl idt, tss
idt:	.skip 256 * 16
tss:	.skip 104 + 8192 + 1

	.data
	.balign 16
	.globl gdt, gdt_tss
gdt:	.quad 0
	.quad 0x00cf9a000000ffff /* 0x08: 32-bit code */
	.quad 0x00af9a000000ffff /* 0x10: 64-bit code */
	.quad 0x00cf92000000ffff /* 0x18: data */
	.quad 0x00affa000000ffff /* 0x23: 64-bit code, ring 3 */
	.quad 0x00cff2000000ffff /* 0x2b: data, ring 3 */
gdt_tss: .quad 0x0000890000002068 /* 0x30; the bitmap of ports included */
	.quad 0
gdt_end:
	.globl gdt_pointer, idt_pointer
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt
idt_pointer:
	.word 256 * 16 - 1
	.quad idt

	.text
	.code32
	.globl _start
_start:
	cld
	movl %ebx, start_info
	movl $pdpt + 7, pml4
	movl $pds + 7, %eax
	movl $pdpt, %edi
	movl $BARE_MAPPED_GIB, %ecx
1:	movl %eax, (%edi)
	addl $4096, %eax
	addl $8, %edi
	decl %ecx
	jnz 1b

	/* 2 MiB pages: present, writable, for ring 3 */
	movl $0x87, %eax
	xorl %edx, %edx
	movl $pds, %edi
	movl $512 * BARE_MAPPED_GIB, %ecx
2:	movl %eax, (%edi)
	movl %edx, 4(%edi)
	addl $0x200000, %eax
	adcl $0, %edx
	addl $8, %edi
	decl %ecx
	jnz 2b

	movl $ring0_stacks + 4096, %esp
	call long_mode
	ljmp $0x10, $start64

	/* Paging on; also for the other CPUs.  The caller jumps to 64-bit code. */
	.globl long_mode
long_mode:
	movl $0x20, %eax
	movl %eax, %cr4
	movl $pml4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x100, %eax
	wrmsr
	movl %cr0, %eax
	orl $0x80000001, %eax
	andl $~0x60000000, %eax
	lgdt gdt_pointer
	movl %eax, %cr0
	ret

	.code64
start64:
	movl $0x18, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	leaq ring0_stacks + 4096, %rsp
	movq %rsp, tss + 4
	movw $104, tss + 102
	movb $0xff, tss + 104 + 8192
	leaq tss, %rax
	movw %ax, gdt_tss + 2
	shrl $16, %eax
	movb %al, gdt_tss + 4
	movb %ah, gdt_tss + 7
	lidt idt_pointer
	movl $0x30, %eax
	ltr %ax

	pushq $0x2b
	pushq $ring3_stack_end
	pushq $2
	pushq $0x23
	pushq $bare_start
	iretq

	/* Where the other CPUs come from real mode with esi = their number; they stay in ring 0. */
	.globl ap_start64
ap_start64:
	movl $0x18, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl %esi, %edi
	incl %esi
	shll $12, %esi
	leaq ring0_stacks(%rsi), %rsp
	lidt idt_pointer
	call ap_main
1:	cli
	hlt
	jmp 1b

	/* One stub a vector, 16 bytes apart; an error code of 0 where the CPU pushes none */
	.balign 16
	.globl stubs
stubs:
	.set vector, 0
	.rept 256
	.balign 16
	.if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
	pushq $0
	.endif
	pushq $vector
	jmp common
	.set vector, vector + 1
	.endr

common:
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	movq %rsp, %rdi
	cld
	call bare_interrupt
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	popq %rdx
	popq %rcx
	popq %rax
	addq $16, %rsp
	iretq

	/* uint64_t ring0(uint64_t (*fn)(uint64_t), uint64_t arg), see bare_interrupt() */
	.globl ring0, ring0_gate
ring0:
ring0_gate:
	ud2
	ret

	/* Real mode: copied to BARE_TRAMPOLINE, cs = BARE_TRAMPOLINE >> 4 */
	.code16
	.globl trampoline, trampoline_cpu, trampoline_end
trampoline:
	cli
	movw %cs, %ax
	movw %ax, %ds
	movl trampoline_cpu - trampoline, %esi
	lgdtl trampoline_gdt - trampoline
	movl $0x11, %eax
	movl %eax, %cr0
	ljmpl $0x08, $ap_start32
	.balign 4
trampoline_cpu: .long 0
trampoline_gdt:
	.word gdt_end - gdt - 1
	.long gdt
trampoline_end:

	.code32
ap_start32:
	movl $0x18, %eax
	movl %eax, %ds
	movl %eax, %ss
	movl %esi, %esp
	incl %esp
	shll $12, %esp
	addl $ring0_stacks, %esp
	call long_mode
	ljmp $0x10, $ap_start64

	.section .note.GNU-stack, "", @progbits
