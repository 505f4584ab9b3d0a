// Package raw has system calls that the runtime doesn't know of.
package raw

import (
	"syscall"
	"unsafe"
)

// Raise sends a signal to the calling thread (lock the goroutine to it).
func Raise(signal syscall.Signal) {
	pid, _, _ := syscall.RawSyscall(syscall.SYS_GETPID, 0, 0, 0)
	tid, _, _ := syscall.RawSyscall(syscall.SYS_GETTID, 0, 0, 0)
	syscall.RawSyscall(syscall.SYS_TGKILL, pid, tid, uintptr(signal))
}

// SetDefault takes the runtime's handler away: the signal does what the kernel
// does by default.
func SetDefault(signal syscall.Signal) {
	var action struct{ handler, flags, restorer, mask uint64 }
	syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(signal),
		uintptr(unsafe.Pointer(&action)), 0, unsafe.Sizeof(action.mask), 0, 0)
}

// Write writes to a descriptor without giving up the P.
func Write(fd int, text []byte) {
	syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)))
}

// HungUp is true if the other end of a pipe is closed. It keeps the P.
//
//go:nosplit
func HungUp(fd int32) bool {
	const hangUp = 0x10
	poll := struct {
		fd              int32
		events, revents int16
	}{fd: fd}
	var atOnce [2]int64
	syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1,
		uintptr(unsafe.Pointer(&atOnce)), 0, 0, 0)
	return poll.revents&hangUp != 0
}

// Exit ends the process at once. It keeps the P.
//
//go:nosplit
func Exit() { syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0) }
