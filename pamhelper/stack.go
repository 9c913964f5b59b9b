package main

import "unsafe"

// argv is what the kernel puts on a new program's stack: the count, that many
// pointers to strings, a nil, and the environment's pointers up to a nil.
type argv struct {
	count int
	first unsafe.Pointer // of the pointers
}

func arguments(stack unsafe.Pointer) argv {
	return argv{count: *(*int)(stack), first: unsafe.Add(stack, unsafe.Sizeof(uintptr(0)))}
}

func (a argv) pointer(i int) *byte {
	return *(**byte)(unsafe.Add(a.first, uintptr(i)*unsafe.Sizeof(a.first)))
}

// at returns an argument, or "" where there is none.
func (a argv) at(i int) string {
	b := a.bytes(i)
	return unsafe.String(unsafe.SliceData(b), len(b))
}

func (a argv) bytes(i int) []byte {
	if i >= a.count {
		return nil
	}
	return text(a.pointer(i))
}

// environment returns what stands behind the last variable that begins with the
// prefix, a name and its equals sign, and how many do.
func (a argv) environment(prefix string) (value []byte, times int) {
	for i := a.count + 1; a.pointer(i) != nil; i++ {
		variable := text(a.pointer(i))
		if hasPrefix(variable, prefix) {
			value = variable[len(prefix):]
			times++
		}
	}
	return value, times
}

// text is a C string's bytes without its NUL.
func text(c *byte) []byte {
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(c), n)) != 0 {
		n++
	}
	return unsafe.Slice(c, n)
}

func hasPrefix(text []byte, prefix string) bool {
	return len(text) >= len(prefix) && string(text[:len(prefix)]) == prefix
}

// base returns what follows the last slash.
func base(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[i+1:]
		}
	}
	return path
}
