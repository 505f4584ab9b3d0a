// Cgo parks goroutines in C code, in Go code called from C, and on threads that
// C code made. Build it with a cgo kind.
package main

/*
#cgo CFLAGS: -O1 -g -fno-omit-frame-pointer
#cgo LDFLAGS: -lpthread
#include <stdint.h>

void c_outer(int fd);
void c_calls_go(uintptr_t depth);
int c_thread_blocked(int fd);
int c_thread_calls_go(void);
*/
import "C"

import (
	_ "embed"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"example.com/testprogs/internal/ready"
)

//go:embed expect.toml
var expect string

var never = make(chan int)

func main() {
	runtime.GOMAXPROCS(4)
	go blockedInC(pipe())
	go lockedInC(pipe())
	go callsBack(0)
	go callsBack(2)
	if C.c_thread_blocked(C.int(pipe())) != 0 || C.c_thread_calls_go() != 0 {
		fmt.Fprintln(os.Stderr, "cgo: cannot start a thread")
		os.Exit(3)
	}
	p := ready.Program{Expect: []string{expect}}
	p.Park()
	p.Serve()
}

// pipe is the reading end of a pipe that stays silent.
func pipe() int {
	fds := make([]int, 2)
	if err := syscall.Pipe(fds); err != nil {
		fmt.Fprintln(os.Stderr, "cgo:", err)
		os.Exit(3)
	}
	return fds[0]
}

//go:noinline
func blockedInC(fd int) { C.c_outer(C.int(fd)) }

//go:noinline
func lockedInC(fd int) {
	runtime.LockOSThread()
	C.c_outer(C.int(fd))
}

// callsBack goes Go -> C -> Go, depth times more, and parks in Go.
//
//go:noinline
func callsBack(depth int) { C.c_calls_go(C.uintptr_t(depth)) }

//export goCallback
func goCallback(depth C.uintptr_t) {
	if depth > 0 {
		callsBack(int(depth) - 1)
		return
	}
	parkInCallback(int(depth))
}

//go:noinline
func parkInCallback(depth int) {
	<-never
	println(depth)
}

//export goThreadEntry
func goThreadEntry(argument C.int) C.int {
	parkOnForeignThread(int(argument))
	return argument
}

//go:noinline
func parkOnForeignThread(argument int) {
	<-never
	println(argument)
}
