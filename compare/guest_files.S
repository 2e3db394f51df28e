	.section .rodata
	.global guest_bare_elf, guest_bare_elf_end
	.balign 16
guest_bare_elf:
	.incbin GUEST_BARE
guest_bare_elf_end:

	.global guest_script
guest_script:
	.incbin GUEST_SCRIPT
	.byte 0
	.section .note.GNU-stack, "", @progbits
