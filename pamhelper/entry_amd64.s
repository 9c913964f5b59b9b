#include "textflag.h"

// entry is where the kernel starts the program: argc at 0(SP), argv behind it.
// It gives start what compiled Go code expects, a stack that is aligned and a g
// (at -8(FS)) that never asks for more of it: its zero stack guard lies below
// every address. What start returns is the exit status.
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	MOVQ SP, BX
	ANDQ $~15, SP
	SUBQ $32, SP
	LEAQ ·noRuntime(SB), AX
	MOVQ AX, ·threadLocal(SB)
	LEAQ ·threadLocal+8(SB), SI
	MOVQ $0x1002, DI          // ARCH_SET_FS
	MOVQ $158, AX             // arch_prctl
	SYSCALL
	MOVQ BX, 0(SP)
	CALL ·start(SB)
	MOVL 8(SP), DI
	MOVL $231, AX             // exit_group
	SYSCALL
	INT  $3

// refuse ends the program with 1: every signal's handler.
TEXT ·refuse(SB), NOSPLIT|NOFRAME, $0
	MOVL $1, DI
	MOVL $231, AX             // exit_group
	SYSCALL
	INT  $3

// func refuseAddress() uintptr
TEXT ·refuseAddress(SB), NOSPLIT, $0-8
	LEAQ ·refuse(SB), AX
	MOVQ AX, ret+0(FP)
	RET
