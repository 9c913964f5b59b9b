#include "textflag.h"

// entry is where the kernel starts the program: argc at 0(RSP), argv behind it.
// It gives start what compiled Go code expects, a stack that is aligned and a g
// (in its register) that never asks for more of it: its zero stack guard lies
// below every address. What start returns is the exit status.
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	MOVD RSP, R19
	SUB  $48, RSP
	MOVD $·noRuntime(SB), g
	MOVD R19, 8(RSP)
	CALL ·start(SB)
	MOVW 16(RSP), R0
	MOVD $94, R8              // exit_group
	SVC
	BRK

// refuse ends the program with 1: every signal's handler.
TEXT ·refuse(SB), NOSPLIT|NOFRAME, $0
	MOVD $1, R0
	MOVD $94, R8              // exit_group
	SVC
	BRK

// func refuseAddress() uintptr
TEXT ·refuseAddress(SB), NOSPLIT, $0-8
	MOVD $·refuse(SB), R0
	MOVD R0, ret+0(FP)
	RET
