	.section .rodata
	.global guest_init, guest_init_len
	.balign 16
guest_init:
	.incbin GUEST_INIT
guest_init_end:
	.balign 4
guest_init_len:
	.long guest_init_end - guest_init
	.section .note.GNU-stack, "", @progbits
